"""`tcpdoctor rules`: the knowledge, and what checks it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcpdoctor.cli.output import COLOR, FORMAT, LINT_FORMAT, OUTPUT, Output, emit, style_of
from tcpdoctor.report.rule_json import Json
from tcpdoctor.report.style import Style

if TYPE_CHECKING:
    from tcpdoctor.diagnosis.lint import Complaint

COMPLAINTS = 1
"""Exit code of `lint` and `test` where there is something to correct."""

RULES = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="DIR", help="Load the rules in DIR as well; repeat for more."),
]
CONFIG = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Instead of /etc/tcpdoctor/config.toml.")
]
PATH = Annotated[
    Path | None,
    typer.Argument(metavar="[PATH]", help="A rule file, or a folder; without it, every rule that is loaded."),
]

app = typer.Typer(
    no_args_is_help=False,
    help="List, show, check and test the rules.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_rules(
    *,
    rules: RULES = None,
    config: CONFIG = None,
    output_format: FORMAT = "text",
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """List every rule: its scope, its severities, and whether it is on."""
    from tcpdoctor.cli.rule_files import load_rules
    from tcpdoctor.report import rule_json, rule_text

    library = load_rules(rules or [], config)
    everything = library.everything
    _answer(
        Output(output_format, output, color),
        lambda: rule_json.rule_list_json(everything),
        lambda style: rule_text.rule_list_text(everything, style),
    )


@app.command("show")
def show_rule(
    rule: Annotated[str, typer.Argument(metavar="ID", help="As `rules list` has it; FAMILY/ID as well.")],
    *,
    rules: RULES = None,
    config: CONFIG = None,
    output_format: FORMAT = "text",
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Show a rule as a page: what it looks for, its limits, facts, prose and tests.

    `tcpdoctor explain --rule ID` is the same with what it finds here.
    """
    from tcpdoctor.cli.rule_files import load_rules
    from tcpdoctor.diagnosis.rule import read_body
    from tcpdoctor.report import rule_json, rule_text

    found, off = load_rules(rules or [], config).find(rule)
    body = read_body(found)
    _answer(
        Output(output_format, output, color),
        lambda: rule_json.rule_json(found, off, body),
        lambda style: rule_text.rule_page(found, off, body, style),
    )


@app.command("lint")
def lint_rules(
    path: PATH = None,
    *,
    rules: RULES = None,
    output_format: LINT_FORMAT = "text",
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Check that rules are complete, consistent and tested.

    Exits 0 without complaints, 1 with some, and 3 if the files could not be read.
    """
    from tcpdoctor.cli.rule_checks import lint_files, rule_files
    from tcpdoctor.report import rule_text

    files = rule_files(path, rules or [])
    complaints = lint_files(files)
    _answer(
        Output(output_format, output, color),
        lambda: _lint_json(output_format, len(files), complaints),
        lambda style: rule_text.lint_text(len(files), complaints, style),
    )
    if complaints:
        raise typer.Exit(COMPLAINTS)


@app.command("test")
def run_rule_tests(
    path: PATH = None,
    *,
    rules: RULES = None,
    output_format: FORMAT = "text",
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Run the tests that rules carry.

    Exits 0 if every answer is as expected, 1 if one is not, and 3 if a rule could not be read.
    """
    from tcpdoctor.cli.rule_checks import rule_files, run_tests
    from tcpdoctor.report import rule_json, rule_text

    files = rule_files(path, rules or [])
    tests, failed = run_tests(files)
    _answer(
        Output(output_format, output, color),
        lambda: rule_json.rule_tests_json(tests, failed),
        lambda style: rule_text.rule_tests_text(len(files), tests, failed, style),
    )
    if failed:
        raise typer.Exit(COMPLAINTS)


@app.command("new")
def new_rule(
    name: Annotated[
        str,
        typer.Argument(metavar="FAMILY/ID", help="For example close/my-symptom; the id names the symptom."),
    ],
    *,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of families; ./rules where there is one, else here."),
    ] = None,
) -> None:
    """Write a rule file with every part explained, to be filled in. Nothing is overwritten."""
    from tcpdoctor.cli.new_rule import write_template

    path = write_template(name, into)
    emit(f'{path}\nFill in every "", then: tcpdoctor rules lint {path}', Output())


def _lint_json(output_format: str, files: int, complaints: "list[Complaint]") -> Json:
    if output_format == "sarif":
        from tcpdoctor.report.rule_sarif import rule_sarif

        return rule_sarif(complaints)
    from tcpdoctor.report.rule_json import lint_json

    return lint_json(files, complaints)


def _answer(target: Output, as_json: Callable[[], Json], as_text: Callable[[Style], str]) -> None:
    if target.format in ("json", "sarif"):
        import json

        emit(json.dumps(as_json(), indent=1, allow_nan=False), target)
    else:
        emit(as_text(style_of(target)), target)

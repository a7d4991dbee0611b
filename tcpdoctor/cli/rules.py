"""`tcpdoctor rules`: the knowledge, and what checks it."""

from pathlib import Path
from typing import Annotated

import typer

from tcpdoctor.answers.rule import list_all_rules, show_one_rule
from tcpdoctor.answers.rule_checks import lint_rules_of, run_tests_of, write_template
from tcpdoctor.cli.options import CONFIG, RULES
from tcpdoctor.cli.output import (
    COLOR,
    FORMAT,
    JSON,
    LINT_FORMAT,
    NO_PAGER,
    OUTPUT,
    Output,
    emit,
    emit_json,
    format_of,
    say,
)
from tcpdoctor.report.rules_text import rule_lint_page, rule_list_page, rule_page, rule_sarif, rule_tests_page

COMPLAINTS = 1
"""Exit code of `lint` and `test` where there is something to correct."""

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
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
    no_pager: NO_PAGER = False,
) -> None:
    """List every rule: its scope, its severities, and whether it is on."""
    answer = list_all_rules(rules or [], config)
    say(answer, rule_list_page, Output(format_of(output_format, as_json), output, color, pager=not no_pager))


@app.command("show")
def show_rule(
    rule: Annotated[str, typer.Argument(metavar="ID", help="As `rules list` has it; FAMILY/ID as well.")],
    *,
    rules: RULES = None,
    config: CONFIG = None,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
    no_pager: NO_PAGER = False,
) -> None:
    """Show a rule as a page: what it looks for, its limits, facts, prose and tests.

    `tcpdoctor explain --rule ID` is the same with what it finds here.
    """
    answer = show_one_rule(rule, rules or [], config)
    say(answer, rule_page, Output(format_of(output_format, as_json), output, color, pager=not no_pager))


@app.command("lint")
def lint_rules(
    path: PATH = None,
    *,
    rules: RULES = None,
    output_format: LINT_FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Check that rules are complete, consistent and tested.

    Exits 0 without complaints, 1 with some, and 3 if the files could not be read.
    """
    answer = lint_rules_of(path, rules or [])
    target = Output(format_of(output_format, as_json), output, color)
    if target.format == "sarif":
        emit_json(rule_sarif(answer.complaints), target)
    else:
        say(answer, rule_lint_page, target)
    if answer.complaints:
        raise typer.Exit(COMPLAINTS)


@app.command("test")
def run_rule_tests(
    path: PATH = None,
    *,
    rules: RULES = None,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Run the tests that rules carry.

    Exits 0 if every answer is as expected, 1 if one is not, and 3 if a rule could not be read.
    """
    answer = run_tests_of(path, rules or [])
    say(answer, rule_tests_page, Output(format_of(output_format, as_json), output, color))
    if answer.failures:
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
    path = write_template(name, into)
    emit(f'{path}\nFill in every "", then: tcpdoctor rules lint {path}', Output())

"""`tcpdoctor check`: look, judge, print, and say it with the exit code."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tcpdoctor import __version__
from tcpdoctor.cli.complaint import complain
from tcpdoctor.cli.exit_codes import UNKNOWN
from tcpdoctor.cli.output import COLOR, FORMAT, OUTPUT, Output, emit, refuse_hopeless_file, style_of
from tcpdoctor.cli.progress import said_to_take
from tcpdoctor.cli.window import refuse_bad_window
from tcpdoctor.diagnosis.finding import Diagnosis, Severity
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.report.check import Check, exit_code, is_blind, loud_findings, unchecked_rules
from tcpdoctor.report.host import plural

_FAIL_ON = {
    "info": Severity.INFO,
    "warning": Severity.WARNING,
    "critical": Severity.CRITICAL,
    "never": None,
}


def check(
    *,
    fail_on: Annotated[
        Literal["info", "warning", "critical", "never"],
        typer.Option("--fail-on", help="The least severity that changes the exit code (info never does)."),
    ] = "warning",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 3 if a rule that applies here could not be answered.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ID", help="Check these rules only; repeat, or separate by commas."),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="ID", help="Leave these rules out; repeat, or separate by commas."),
    ] = None,
    window: Annotated[
        float,
        typer.Option(
            "--window", metavar="SECONDS", help="Time between the two samples; 0: one sample, no rates."
        ),
    ] = 1.0,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print findings at or above --fail-on only, else nothing.")
    ] = False,
    rules: Annotated[
        list[Path] | None,
        typer.Option("--rules", metavar="DIR", help="Load the rules in DIR as well; repeat for more."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Instead of /etc/tcpdoctor/config.toml."),
    ] = None,
    output_format: FORMAT = "text",
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Say what is wrong with TCP here, why, and what to do.

    Exits 0 if nothing at or above --fail-on was found, 1 for a warning, 2 if it is critical, and 3 if it
    could not look: wrong usage, a bad rule or configuration, no rule that could be answered.
    """
    refuse_bad_window(window)
    target = Output(output_format, output, color)
    refuse_hopeless_file(target)
    answer = Check(
        *_look(rules or [], config, _ids(only), _ids(skip), window),
        window=window,
        fail_on=_FAIL_ON[fail_on],
        strict=strict,
        version=__version__,
    )
    emit(_render(answer, target, quiet=quiet), target)
    if quiet:
        _admit_blindness(answer)
    raise typer.Exit(exit_code(answer))


def _ids(options: list[str] | None) -> frozenset[str] | None:
    """Return the ids of a repeatable, comma-separated option; None where it was not given."""
    if not options:
        return None
    return frozenset(name.strip() for text in options for name in text.split(",") if name.strip())


def _look(
    folders: list[Path],
    config: Path | None,
    only: frozenset[str] | None,
    skip: frozenset[str] | None,
    window: float,
) -> tuple[Diagnosis, Samples]:
    """Load the rules first, so that a mistake in them is told before the window has passed."""
    from tcpdoctor.cli.rule_files import load_rules
    from tcpdoctor.diagnosis.evaluate import diagnose
    from tcpdoctor.kernel.live import take_samples

    library = load_rules(folders, config, only, skip)
    with said_to_take(window):
        samples = take_samples(window)
    return diagnose(library.rules, samples), samples


def _render(answer: Check, target: Output, *, quiet: bool) -> str:
    loud = loud_findings(answer)
    if quiet and not loud:
        return ""
    if target.format == "json":
        import json

        from tcpdoctor.report.check_json import check_json

        shown = loud if quiet else answer.diagnosis.findings
        return json.dumps(check_json(answer, shown), indent=1, allow_nan=False)
    from tcpdoctor.report.check_text import check_text, finding_texts

    style = style_of(target)
    return "\n\n".join(finding_texts(loud, style)) if quiet else check_text(answer, style)


def _admit_blindness(answer: Check) -> None:
    """Say on stderr why the exit code is 3 where `--quiet` has printed nothing that tells."""
    if exit_code(answer) == UNKNOWN and is_blind(answer):
        rules = plural(len(unchecked_rules(answer.diagnosis)), "rule")
        complain(f"tcpdoctor check: {rules} could not be answered; without --quiet it says why")

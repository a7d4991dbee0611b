"""`tcpdoctor check`: look, judge, print, and say it with the exit code."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tcpdoctor import __version__
from tcpdoctor.cli.complaint import complain
from tcpdoctor.cli.exit_codes import UNKNOWN
from tcpdoctor.cli.netns import NETNS, look_from
from tcpdoctor.cli.output import COLOR, FORMAT, OUTPUT, Output, emit, refuse_hopeless_file, style_of
from tcpdoctor.cli.progress import said_to_take
from tcpdoctor.cli.window import refuse_bad_window
from tcpdoctor.diagnosis.finding import Diagnosis, Severity
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.report.check import Check, exit_code, is_blind, loud_findings, unchecked_rules
from tcpdoctor.report.host import plural

WRITING = "writing the answer"
"""The stage from which on a part of the answer may be out."""

_FAIL_ON = {
    "info": Severity.INFO,
    "warning": Severity.WARNING,
    "critical": Severity.CRITICAL,
    "never": None,
}


class _Request(NamedTuple):
    """What the user asks for."""

    fail_on: Severity | None
    strict: bool
    only: frozenset[str] | None
    skip: frozenset[str] | None
    window: float
    quiet: bool
    folders: list[Path]
    config: Path | None
    timeout: float | None


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
    netns: NETNS = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="Exit 3 if there is no answer after so long."),
    ] = None,
    output_format: Annotated[
        CheckFormat, typer.Option("--format", help="For people, or for machines.")
    ] = "text",
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Say what is wrong with TCP here, why, and what to do.

    Exits 0 if nothing at or above --fail-on was found, 1 for a warning, 2 if it is critical, and 3 if it
    could not look: wrong usage, a bad rule or configuration, no rule that could be answered.
    """
    request = _Request(
        _FAIL_ON[fail_on], strict, _ids(only), _ids(skip), window, quiet, rules or [], config, timeout
    )
    target = Output(output_format, output, color)
    try:
        code = _answer(request, output_format, target)
    except TcpdoctorError as error:
        if output_format != "nagios":
            raise
        # a monitoring system shows what is on stdout
        from tcpdoctor.report.check_nagios import unknown_nagios

        emit(unknown_nagios(str(error)), Output(output_format))
        code = UNKNOWN
    raise typer.Exit(code)


def _answer(request: _Request, kind: CheckFormat, target: Output) -> int:
    """Look, judge and print; return the exit code."""
    started = time.monotonic()
    _refuse_contradictions(request, kind)
    refuse_hopeless_file(target)
    if request.timeout is None:
        tell_stage = _ignore_stage
    else:
        from tcpdoctor.cli.deadline import end_within

        tell_stage = end_within(request.timeout)
    answer = _look(request, tell_stage)
    answer = answer._replace(duration=time.monotonic() - started)
    tell_stage(WRITING)
    emit(render(answer, kind, style_of(target), quiet=request.quiet), target)
    if request.quiet:
        _admit_blindness(answer)
    return exit_code(answer)


def _refuse_contradictions(request: _Request, kind: CheckFormat) -> None:
    """Refuse what cannot be meant.

    Raises:
        typer.BadParameter: With what may be given instead.
    """
    refuse_bad_window(request.window)
    if request.quiet and kind not in QUIET_FORMATS:
        raise typer.BadParameter(
            f"leaves out what readers of {kind} need; it goes with {', '.join(QUIET_FORMATS)}",
            param_hint="--quiet",
        )
    if request.timeout is not None:
        from tcpdoctor.cli.deadline import refuse_bad_timeout

        refuse_bad_timeout(request.timeout, request.window)


def _ignore_stage(_stage: str) -> None:
    """Nobody waits for us."""


def _ids(options: list[str] | None) -> frozenset[str] | None:
    """Return the ids of a repeatable, comma-separated option; None where it was not given."""
    if not options:
        return None
    return frozenset(name.strip() for text in options for name in text.split(",") if name.strip())


def _look(request: _Request, tell_stage: Callable[[str], None]) -> Check:
    """Load the rules first, so that a mistake in them is told before the window has passed."""
    from tcpdoctor.cli.rule_files import load_rules
    from tcpdoctor.diagnosis.evaluate import diagnose
    from tcpdoctor.kernel.live import take_samples

    tell_stage("reading the rules and the configuration")
    library = load_rules(request.folders, request.config, request.only, request.skip)
    tell_stage("asking the kernel for sockets, counters and settings")
    with said_to_take(request.window):
        samples = take_samples(request.window)
    tell_stage("comparing what it saw with the rules")
    return Check(
        diagnose(library.rules, samples),
        samples,
        window=request.window,
        fail_on=request.fail_on,
        strict=request.strict,
        version=__version__,
        rules=library.rules,
    )


def _admit_blindness(answer: Check) -> None:
    """Say on stderr why the exit code is 3 where `--quiet` has printed nothing that tells."""
    if exit_code(answer) == UNKNOWN and is_blind(answer):
        rules = plural(len(unchecked_rules(answer.diagnosis)), "rule")
        complain(f"tcpdoctor check: {rules} could not be answered; without --quiet it says why")

"""`tcpdoctor sysctl`: the kernel's settings of TCP, and the files that set them."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tcpdoctor.answers.everywhere import look_everywhere, worst_exit_code
from tcpdoctor.answers.settings_files import lint_these
from tcpdoctor.cli.everywhere import complain_of, print_everywhere
from tcpdoctor.cli.output import UNKNOWN, Output, emit, say
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.kernel.workers import at_once
from tcpdoctor.report.lint_text import joined_sarif, loud_lint_page, settings_lint_page, sysctl_lint_sarif
from tcpdoctor.report.style import PLAIN

if TYPE_CHECKING:
    from tcpdoctor.answers.settings_files import SettingsLint
    from tcpdoctor.diagnosis.sysctl_checks import Check
from typing import Annotated, Literal

import typer

from tcpdoctor.answers.settings import look_at_settings
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.options import FROM, NETNS, source_from
from tcpdoctor.cli.output import (
    COLOR,
    FORMAT,
    JSON,
    LINT_FORMAT,
    NO_PAGER,
    OUTPUT,
    QUIET,
    format_of,
    refuse_quiet,
)

app = typer.Typer(
    no_args_is_help=False,
    help="Show the kernel's settings; check the files that set them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("show")
def show_settings(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Full or last name, prefix, or pattern: 'tcp_keepalive*'; else all of TCP.",
        ),
    ] = None,
    *,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what is not the kernel's default.")
    ] = False,
    netns: NETNS = None,
    from_: FROM = None,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
    no_pager: NO_PAGER = False,
) -> None:
    """Show settings: value, default, meaning, and what sets them.

    Each with its unit and scope. A default that depends on memory is compared only where it can be computed
    again. Exits 0 whenever there is an answer, and 3 if a name is not known.
    """
    source = source_from(from_, netns)
    target = Output(
        format_of(output_format, as_json), output, color, netns=netns, source=source, pager=not no_pager
    )
    from tcpdoctor.report.sysctl_text import settings_page

    ask(partial(look_at_settings, names or [], only_changed=changed), settings_page, target)


@app.command("lint")
def lint_settings(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Only these, in this order; of a folder its .conf files; - is standard input. Else all that "
            "are read at boot.",
        ),
    ] = None,
    *,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The files of the system below DIR; no running values.")
    ] = None,
    fail_on: Annotated[
        Literal["info", "warning", "critical", "never"],
        typer.Option(help="The least severity that changes the exit code (info never does)."),
    ] = "warning",
    quiet: QUIET = False,
    netns: NETNS = None,
    from_: FROM = None,
    output_format: LINT_FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
    no_pager: NO_PAGER = False,
) -> None:
    """Check the files of settings against their readers and this kernel.

    They are read as systemd-sysctl and as procps `sysctl --system` read them: which file wins, what differs
    from the running kernel, what it does not have, what has no effect, what does harm.

    Exits 0 if nothing at or above --fail-on was found, 1 for a warning, 2 if it is critical, and 3 if the
    files could not be read.
    """
    source = source_from(from_, netns)
    target = Output(
        format_of(output_format, as_json), output, color, netns=netns, source=source, pager=not no_pager
    )
    refuse_quiet(quiet, target.format)

    code = answer_lint(files or [], root, fail_on, target, quiet=quiet)
    if code:
        raise typer.Exit(code)


_FAIL_ON: Mapping[str, Severity] = {severity.key: severity for severity in Severity}


def answer_lint(
    files: Sequence[Path], root: Path | None, fail_on: str, output: Output, *, quiet: bool = False
) -> int:
    """Judge these files, or those of a system, and return the exit code.

    Quiet, text has only what is at or above `fail_on`, and is empty where nothing is.

    Raises:
        QuestionError: A file or the root cannot be read, or both were given.
    """
    below = None if root is None else os.fspath(root)
    look = partial(lint_these, [os.fspath(file) for file in files], below, _FAIL_ON.get(fail_on))
    if output.everywhere:
        return _lint_everywhere(look, output, _FAIL_ON.get(fail_on), quiet=quiet)
    answer, checks = look()
    if quiet:
        say(answer, partial(loud_lint_page, fail_on=_FAIL_ON.get(fail_on)), output)
    elif output.format == "sarif":
        text = json.dumps(sysctl_lint_sarif(answer, checks), indent=1, allow_nan=False)
        emit(text, output)
    else:
        say(answer, settings_lint_page, output)
    return answer.exit_code


def _lint_everywhere(
    look: "Callable[[], tuple[SettingsLint, Sequence[Check]]]",
    output: Output,
    fail_on: Severity | None,
    *,
    quiet: bool,
) -> int:
    """The same files against the running values of every network namespace; the worst exit code of all."""
    found = look_everywhere(at_once(look))
    if output.format == "sarif":
        runs = [sysctl_lint_sarif(answer, checks, place.label) for place, (answer, checks) in found.told]
        emit(json.dumps(joined_sarif(runs), indent=1, allow_nan=False), output)
    else:
        told = tuple((place, answer) for place, (answer, _) in found.told)
        if quiet:
            told = tuple(one for one in told if loud_lint_page(one[1], PLAIN, fail_on=fail_on))
        page = partial(loud_lint_page, fail_on=fail_on) if quiet else settings_lint_page
        print_everywhere(found._replace(told=told), page, output)
    complain_of(found.unseen, 0 if quiet else found.hidden)
    codes = [answer.exit_code for _, (answer, _) in found.told] + [UNKNOWN] * bool(found.unseen)
    return worst_exit_code(codes)

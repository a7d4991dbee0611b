"""`tcpdoctor sysctl`: the kernel's settings of TCP, and the files that set them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tcpdoctor.cli.options import FROM, NETNS, look_from, source_from
from tcpdoctor.cli.output import (
    COLOR,
    FORMAT,
    JSON,
    LINT_FORMAT,
    OUTPUT,
    QUIET,
    Output,
    format_of,
    refuse_quiet,
)
from tcpdoctor.cli.sysctl_lint import answer_lint
from tcpdoctor.cli.sysctl_show import answer_show

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
) -> None:
    """Show settings: value, default, meaning, and what sets them.

    Each with its unit and scope. A default that depends on memory is compared only where it can be computed
    again. Exits 0 whenever there is an answer, and 3 if a name is not known.
    """
    source = source_from(from_, netns)
    target = Output(format_of(output_format, as_json), output, color, netns=netns, source=source)
    answer_show(names or [], target, only_changed=changed)


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
    output_format: LINT_FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Check the files of settings against their readers and this kernel.

    They are read as systemd-sysctl and as procps `sysctl --system` read them: which file wins, what differs
    from the running kernel, what it does not have, what has no effect, what does harm.

    Exits 0 if nothing at or above --fail-on was found, 1 for a warning, 2 if it is critical, and 3 if the
    files could not be read.
    """
    target = Output(format_of(output_format, as_json), output, color, netns=netns)
    refuse_quiet(quiet, target.format)
    look_from(netns)

    code = answer_lint(files or [], root, fail_on, target, quiet=quiet)
    if code:
        raise typer.Exit(code)

"""`tcpdoctor snapshot` and `diff`: record what is here, to be judged elsewhere; compare two recordings."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.options import EVERY, NETNS, WINDOW, Path, duration, look_from, refuse_bad_window, takes
from tcpdoctor.cli.output import (
    COLOR,
    JSON,
    NO_PAGER,
    OUTPUT,
    PAGE_FORMAT,
    Output,
    emit,
    format_of,
    refuse_hopeless_file,
    style_of,
)
from tcpdoctor.cli.waiting import said_to_take
from tcpdoctor.errors import OutputError, QuestionError
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:
    from tcpdoctor.recordings.recording import Recording


class Request(NamedTuple):
    """What the user asks for: each field is an option."""

    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write to FILE, which only you may read; .gz packs it."
        ),
    ] = None
    window: WINDOW = 1.0
    raw: Annotated[
        bool, typer.Option("--raw", help="Keep addresses and the names of host, files and namespaces.")
    ] = False
    anonymise_names: Annotated[
        bool,
        typer.Option(
            "--anonymise-names", help="Replace the names of processes, units and containers as well."
        ),
    ] = False
    netns: NETNS = None


@takes(Request)
def snapshot(asked: Request) -> None:
    """Record this host in a file, to be judged elsewhere.

    The file holds what rules and questions look at; check --from FILE judges it on any machine.

    Addresses and the names of host, files and network namespaces are replaced, the same by the same in all
    recordings of one boot; names of processes, units and containers, ports, pids and uids stay.
    """
    refuse_bad_window(asked.window)
    if asked.raw and asked.anonymise_names:
        text = "replaces what --raw keeps; give one of them"
        raise typer.BadParameter(text, param_hint="--anonymise-names")
    from tcpdoctor.answers.snapshot import refuse_all
    from tcpdoctor.recordings.recording import pack_snapshot

    output = asked.output
    refuse_all(asked.netns, EVERY)
    to_stdout = output is None or str(output) == "-"
    if to_stdout and sys.stdout is not None and sys.stdout.isatty():
        raise OutputError("standard output is a terminal, and a snapshot is for programs: give --output FILE")
    refuse_hopeless_file(Output(file=output))
    recording = _recording(asked)
    if output is None or to_stdout:
        emit(pack_snapshot(recording, gzipped=False).decode("ascii"), Output("json"))
    else:
        data = pack_snapshot(recording, gzipped=str(output).endswith(".gz"))
        _write(output, data, "nothing is" if asked.raw else _REPLACED)


_REPLACED = "addresses, and names of host, files and namespaces, are"


def _recording(asked: Request) -> "Recording":
    """Look, and replace what is not to be told."""
    from tcpdoctor.answers.snapshot import take_recording

    look_from(asked.netns)
    with said_to_take(asked.window):
        recording = take_recording(asked.window)
    if asked.raw:
        return recording
    from tcpdoctor.recordings.anonymise import anonymised, key_of_this_boot

    return anonymised(recording, key_of_this_boot(), names=asked.anonymise_names)


def _write(output: Path, data: bytes, kept: str) -> None:
    """Write the file, and say how it is judged."""
    from tcpdoctor.kernel.files import write_private

    write_private(output, data, OutputError)
    said = f"Recorded {clean(str(output))}: {len(data) / 1024:,.0f} KiB; {kept} replaced."
    style = style_of(Output())
    judged = style.command(f"tcpdoctor check --from {quoted(str(output))}", "  ")
    emit(f"{style.wrap(said)}\n{judged}", Output())


def quoted(path: str) -> str:
    """Return a path as a shell takes it."""
    import shlex  # only who writes a file is told how to read it

    return shlex.quote(path)


_HELP = "A recording: snapshot, sosreport, pasted output of ss, netstat ...; - is standard input."


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help=_HELP)],
    after: Annotated[str, typer.Argument(metavar="B", help="Another one, mostly of the same host.")],
    *,
    window: Annotated[
        float | None,
        typer.Option(
            "-w",
            "--window",
            metavar="TIME",
            parser=duration,
            help="Time between them, where they do not tell: 10, 10s, 5m.",
        ),
    ] = None,
    output_format: PAGE_FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
    no_pager: NO_PAGER = False,
) -> None:
    """Compare two recordings: what appeared, grew and went.

    The earlier one is told first, whatever the order. Exits 0 whatever is different, and 3 where one of them
    could not be read.
    """
    if before == after == "-":
        raise QuestionError("standard input is one recording; give a file for the other one")
    if window is not None and window <= 0:
        raise typer.BadParameter("is the time between the recordings: above 0", param_hint="--window")
    from tcpdoctor.answers.diff import compare_recordings
    from tcpdoctor.recordings.opened import open_recording
    from tcpdoctor.report.diff_text import diff_page

    target = Output(format_of(output_format, as_json), output, color, pager=not no_pager)
    one, other = open_recording(before), open_recording(after)
    ask(lambda: compare_recordings(one, other, window), diff_page, target)

"""`tcpdoctor snapshot`: record what is here, to be judged elsewhere."""

import sys
from typing import Annotated

import typer

from tcpdoctor.cli.options import EVERY, NETNS, WINDOW, Path, look_from, refuse_bad_window
from tcpdoctor.cli.output import Output, emit, refuse_hopeless_file, style_of
from tcpdoctor.cli.waiting import said_to_take
from tcpdoctor.errors import OutputError
from tcpdoctor.kernel.text import clean


def snapshot(
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write to FILE, which only you may read; .gz packs it."
        ),
    ] = None,
    window: WINDOW = 1.0,
    raw: Annotated[
        bool, typer.Option("--raw", help="Keep addresses and the names of host, files and namespaces.")
    ] = False,
    anonymise_names: Annotated[
        bool,
        typer.Option(
            "--anonymise-names", help="Replace the names of processes, units and containers as well."
        ),
    ] = False,
    netns: NETNS = None,
) -> None:
    """Record this host in a file, to be judged elsewhere.

    The file holds what rules and questions look at; check --from FILE judges it on any machine.

    Addresses and the names of host, files and network namespaces are replaced, the same by the same in all
    recordings of one boot; names of processes, units and containers, ports, pids and uids stay.
    """
    refuse_bad_window(window)
    if raw and anonymise_names:
        text = "replaces what --raw keeps; give one of them"
        raise typer.BadParameter(text, param_hint="--anonymise-names")
    from tcpdoctor.answers.snapshot import refuse_all, take_recording
    from tcpdoctor.recordings.snapshot_file import pack_snapshot

    refuse_all(netns, EVERY)
    to_stdout = output is None or str(output) == "-"
    target = Output(file=output)
    if to_stdout and sys.stdout is not None and sys.stdout.isatty():
        raise OutputError("standard output is a terminal, and a snapshot is for programs: give --output FILE")
    refuse_hopeless_file(target)
    look_from(netns)
    with said_to_take(window):
        recording = take_recording(window)
    if not raw:
        from tcpdoctor.recordings.anonymise import anonymised, key_of_this_boot

        recording = anonymised(recording, key_of_this_boot(), names=anonymise_names)
    gzipped = not to_stdout and str(output).endswith(".gz")
    data = pack_snapshot(recording, gzipped=gzipped)
    if to_stdout:
        emit(data.decode("ascii"), Output("json"))
        return
    from tcpdoctor.kernel.files import write_private

    assert output is not None  # noqa: S101 - else it goes to standard output
    write_private(output, data, OutputError)
    kept = "nothing is" if raw else "addresses, and names of host, files and namespaces, are"
    said = f"Recorded {clean(str(output))}: {len(data) / 1024:,.0f} KiB; {kept} replaced."
    style = style_of(Output())
    judged = style.command(f"tcpdoctor check --from {quoted(str(output))}", "  ")
    emit(f"{style.wrap(said)}\n{judged}", Output())


def quoted(path: str) -> str:
    """Return a path as a shell takes it."""
    import shlex  # only who writes a file is told how to read it

    return shlex.quote(path)

"""`tcpdoctor sockets`: the sockets one by one."""

from typing import TYPE_CHECKING, Annotated

import typer

from tcpdoctor.cli.options import NETNS, look_from
from tcpdoctor.cli.output import COLOR, FORMAT, JSON, OUTPUT, Output, emit, emit_json, format_of, style_of

if TYPE_CHECKING:
    pass
from tcpdoctor.answers.sockets import _look

_SHOWN = 200
"""More sockets are not read by people; json lists all."""


def sockets(
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Only in this state; repeat, or separate by commas."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=65535, help="Only with this local port.")
    ] = None,
    peer_port: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=65535, help="Only connected to this port.")
    ] = None,
    peer: Annotated[
        str | None, typer.Option(metavar="ADDR[:PORT]", help="Only connected to this address, or end.")
    ] = None,
    pid: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only those a process holds.")] = None,
    older: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Only those known to be in their state so long, or longer."),
    ] = None,
    options: Annotated[
        bool, typer.Option("--options", help="Also the socket options that their processes set.")
    ] = False,
    netns: NETNS = None,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """List sockets with owner, age, timer and queues.

    With --options each socket is asked through a duplicate of its process's descriptor, which is only
    read and closed at once; that needs root for other users' processes.
    """
    target = Output(format_of(output_format, as_json), output, color)
    names = [name for text in state or () for name in text.split(",")]
    look_from(netns)
    answer = _look(names, port, peer_port, pid, peer, older, options=options)
    if target.format == "json":
        from tcpdoctor.report.sockets_json import sockets_json

        emit_json(sockets_json(answer), target)
    else:
        from tcpdoctor.report.sockets_text import sockets_text

        emit(sockets_text(answer._replace(entries=answer.entries[:_SHOWN]), style_of(target)), target)

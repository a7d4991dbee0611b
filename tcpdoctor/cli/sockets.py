"""`tcpdoctor sockets`: the sockets one by one."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tcpdoctor.cli.netns import NETNS, look_from
from tcpdoctor.cli.output import COLOR, FORMAT, OUTPUT, Output, emit, style_of

if TYPE_CHECKING:
    from tcpdoctor.kernel.states import TcpState
    from tcpdoctor.report.sockets import Sockets

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
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """List sockets with owner, age, timer and queues.

    With --options each socket is asked through a duplicate of its process's descriptor, which is only
    read and closed at once; that needs root for other users' processes.
    """
    target = Output(output_format, output, color)
    names = [name for text in state or () for name in text.split(",")]
    look_from(netns)
    answer = _look(names, port, peer_port, pid, peer, older, options=options)
    if output_format == "json":
        import json

        from tcpdoctor.report.sockets_json import sockets_json

        emit(json.dumps(sockets_json(answer), indent=1, allow_nan=False), target)
    else:
        from tcpdoctor.report.sockets_text import sockets_text

        emit(sockets_text(answer._replace(entries=answer.entries[:_SHOWN]), style_of(target)), target)


def _look(
    names: list[str],
    port: int | None,
    peer_port: int | None,
    pid: int | None,
    peer: str | None,
    older: float | None,
    *,
    options: bool,
) -> "Sockets":
    from tcpdoctor.cli.socket_filters import only_older, parse_peer, refuse_bad_age
    from tcpdoctor.errors import QuestionError
    from tcpdoctor.kernel.identity import read_identity
    from tcpdoctor.kernel.reading import Missing
    from tcpdoctor.kernel.survey import take_survey
    from tcpdoctor.report.sockets import Sockets, entries_of

    wanted = _find_states(names)
    other = None if peer is None else parse_peer(peer)
    if other is not None and peer_port is None:
        peer_port = other.port
    if older is not None:
        refuse_bad_age(older)
    taken_at = time.time()
    survey = take_survey(
        wanted,
        local_port=port,
        remote_port=peer_port,
        pid=pid,
        keep=None if other is None else other.is_of,
        options=options,
    )
    if isinstance(survey, Missing):
        raise QuestionError(f"the sockets could not be listed: {survey.reason}")
    answer = Sockets(read_identity(), taken_at, entries_of(survey), survey, options)
    return answer if older is None else only_older(answer, older)


def _find_states(names: list[str]) -> "tuple[TcpState, ...]":
    from tcpdoctor.errors import QuestionError
    from tcpdoctor.kernel.states import COUNTED_STATES
    from tcpdoctor.knowledge.state_pages import find_state

    keys = {find_state(name).key for name in names}
    wanted = tuple(state for state in COUNTED_STATES if not names or state.key in keys)
    if not wanted:
        raise QuestionError("sockets in CLOSED are in no list of the kernel; ask for another state")
    return wanted

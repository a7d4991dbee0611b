"""`tcpdoctor sockets`: the sockets one by one."""

import sys
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from tcpdoctor.answers.record import host_of, utc
from tcpdoctor.answers.socket import COLUMNS, SocketsDocument, sort_value, told_socket
from tcpdoctor.answers.sockets import Order, call_sockets, look_for_sockets
from tcpdoctor.cli.everywhere import ask, ask_everywhere
from tcpdoctor.cli.options import FROM, NETNS, source_from, takes
from tcpdoctor.cli.output import (
    COLOR,
    FORMAT,
    JSON,
    NO_PAGER,
    OUTPUT,
    UNKNOWN,
    Output,
    emit_parts,
    format_of,
)
from tcpdoctor.cli.waiting import ends_with_what_is_known, said_to_take, was_cut_short
from tcpdoctor.kernel.text import is_whole
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.document import Late, Written, as_json, document_lines, json_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tcpdoctor.answers.ends import Peer
    from tcpdoctor.answers.socket import UdpSockets
    from tcpdoctor.answers.sockets import Entry, SocketRoll, Sockets
    from tcpdoctor.kernel.reading import JsonValue
    from tcpdoctor.recordings.source import Source
    from tcpdoctor.report.page import Block
    from tcpdoctor.report.style import Style

_SHOWN = 200
"""More sockets are not read by people; json lists all."""


def _port(text: str | int) -> int:
    """Read a port as `explain --port` does.

    Raises:
        typer.BadParameter: It is none.
    """
    from tcpdoctor.answers.words import NoPortError, port_of

    try:
        return port_of(str(text))[1]
    except NoPortError as error:
        raise typer.BadParameter(error.why) from None


def _process(pid: str | None, name: str | None) -> tuple[int | None, str | None]:
    """Return the number that ``--pid`` gives, or the name that it or ``--name`` gives.

    Raises:
        typer.BadParameter: It is neither, or both are given.
    """
    if pid is None:
        return None, name
    if is_whole(pid) and int(pid) > 0:
        return int(pid), name
    if name is not None or pid.lstrip("-").isdecimal():
        raise typer.BadParameter(f"{pid[:60]!r} is no process's number", param_hint="--pid")
    return None, pid


class Request(NamedTuple):
    """What the user asks for: each field is an option."""

    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Only in this state; repeat, or separate by commas."),
    ] = None
    port: Annotated[
        int | None,
        typer.Option(
            "-p", "--port", metavar="N", parser=_port, help="Only with this local port: 8080, :8080, http."
        ),
    ] = None
    peer_port: Annotated[
        int | None, typer.Option(metavar="N", parser=_port, help="Only connected to this port.")
    ] = None
    peer: Annotated[
        str | None, typer.Option(metavar="ADDR[:PORT]", help="Only connected to this address, or end.")
    ] = None
    pid: Annotated[
        str | None, typer.Option(metavar="N|NAME", help="Only those a process holds, or those called so.")
    ] = None
    older: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Only those known to be in their state so long, or longer."),
    ] = None
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only those that processes of this name hold.")
    ] = None
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="A key of the JSON: age (the default), send_queue, rtt_s, local_port ..."
        ),
    ] = None
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="So many at most; text has 200 without it.")
    ] = None
    columns: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Keys of the JSON, separated by commas, instead of the usual."),
    ] = None
    udp: Annotated[bool, typer.Option("--udp", help="Those of UDP, the fullest queue first.")] = False
    options: Annotated[
        bool, typer.Option("--options", help="Also the socket options that their processes set.")
    ] = False
    netns: NETNS = None
    from_: FROM = None
    output_format: FORMAT = "text"
    as_json: JSON = False
    output: OUTPUT = None
    color: COLOR = "auto"
    no_pager: NO_PAGER = False


@takes(Request)
def sockets(asked: Request) -> None:
    """List sockets with owner, age, timer and queues.

    One row each under a header where the terminal is wide enough, the oldest first.

    With --options each socket is asked through a duplicate of its process's descriptor, which is only
    read and closed at once; that needs root for other users' processes.
    """
    target = Output(
        format_of(asked.output_format, asked.as_json),
        asked.output,
        asked.color,
        netns=asked.netns,
        pager=not asked.no_pager,
    )
    _process(asked.pid, asked.name)
    target = target._replace(source=source_from(asked.from_, asked.netns))
    if asked.udp:
        _print_udp(asked, target)
        return
    sort = asked.sort or "age"
    shown = _known_columns([sort, *(asked.columns or "").split(",")], COLUMNS)

    def page(answer: "Sockets", style: "Style") -> "list[Block]":
        from tcpdoctor.report.sockets_text import sockets_page

        return sockets_page(answer, style, shown[1:])

    if target.format == "json":
        _print_json(asked, sort, page, target)
    else:
        ask(partial(_look, asked, sort, asked.limit or _SHOWN), page, target)


def _states(asked: Request) -> list[str]:
    return [one for text in asked.state or () for one in text.split(",")]


def _peer(asked: Request) -> "Peer | None":
    if asked.peer is None:
        return None
    from tcpdoctor.answers.ends import parse_peer

    return parse_peer(asked.peer)


def _look(asked: Request, sort: str, most: int | None) -> "Sockets":
    number, name = _process(asked.pid, asked.name)
    return look_for_sockets(
        _states(asked),
        asked.port,
        asked.peer_port,
        number,
        _peer(asked),
        asked.older,
        options=asked.options,
        name=name,
        order=_order(sort, most),
    )


def _print_json(
    asked: Request, sort: str, page: "Callable[[Sockets, Style], list[Block]]", target: Output
) -> None:
    """Print all that was asked for: as they come, where nothing has to be known of the others."""
    number, name = _process(asked.pid, asked.name)
    chosen = asked.limit is not None or name is not None or asked.older is not None or asked.options
    look = partial(_look, asked, sort, asked.limit)
    if target.everywhere:
        ask_everywhere(look, page, target, encoded=lambda answer: "".join(sockets_parts(answer)))
    elif sort == "age" and not chosen and target.source is None:
        _tell_each(
            lambda: call_sockets(_states(asked), asked.port, asked.peer_port, number, _peer(asked)), target
        )
    else:
        emit_parts(sockets_parts(look(), target.source), target)


def sockets_parts(answer: "Sockets", source: "Source | None" = None) -> "Iterator[str]":
    """Yield the JSON of sockets piece by piece, each socket on a line of its own.

    A hundred thousand are never held at once. `source` names the recordings that were read.
    """
    known = SocketsDocument(
        "tcpdoctor.sockets/1",
        host_of(answer.host),
        utc(answer.taken_at),
        answer.survey.total,
        answer.survey.missing,
        (),
    )
    document: dict[str, JsonValue | Written | Late] = {**as_json(known)}
    del document["sockets"]
    if source is not None:
        document["recording"] = as_json(source)
    document["sockets"] = _written(answer.entries, options=answer.options)
    return chain(document_lines(document), "\n")


def roll_parts(answer: "SocketRoll") -> "Iterator[str]":
    """Yield the same of sockets that are told as they come: how many they were stands behind them."""
    known = SocketsDocument("tcpdoctor.sockets/1", host_of(answer.host), utc(answer.taken_at), 0, {}, ())
    document: dict[str, JsonValue | Written | Late] = {**as_json(known)}
    del document["total"], document["missing"]
    document["sockets"] = _written(answer.entries(), options=False)
    document["total"] = Late(lambda: answer.roll.total)
    document["missing"] = Late(lambda: dict(answer.roll.missing))
    return chain(document_lines(document), "\n")


def _written(entries: "Iterable[Entry]", *, options: bool) -> Written:
    return Written(lambda: json_rows(told_socket(entry, options=options) for entry in entries))


def _tell_each(call: "Callable[[], SocketRoll]", target: Output) -> None:
    """Tell the sockets as they come; who interrupts has those that were told by then, and why not all.

    Raises:
        typer.Exit: With 3, where somebody interrupted it.
    """
    in_part = target.file is None  # a file is whole, or not there
    with ends_with_what_is_known(wanted=in_part):
        with said_to_take(0.0):  # the search for owners takes longer than the rest
            roll = call()
        # on one terminal how far it is would stand among the sockets
        with nullcontext() if in_part and sys.stdout.isatty() else said_to_take(0.0):
            emit_parts(roll_parts(roll), target)
    if in_part and was_cut_short():
        raise typer.Exit(UNKNOWN)


def _order(column: str, most: int | None) -> "Order | None":
    """By a column; None where all are wanted as the kernel lists them."""
    if column == "age":
        return None if most is None else Order(most=most)

    return Order(lambda entry: sort_value(entry, column), most, by_owner=column == "owner")


def _refuse_what_tcp_has(asked: Request) -> None:
    for given, option in ((asked.state, "--state"), (asked.older, "--older"), (asked.options, "--options")):
        if given not in (None, False, []):
            raise typer.BadParameter(
                f"{option} is of TCP: sockets of UDP have no such thing", param_hint="--udp"
            )


def _print_udp(asked: Request, target: Output) -> None:
    from tcpdoctor.answers.socket import UDP_COLUMNS, UdpQuestion, look_for_udp_sockets, sorted_by
    from tcpdoctor.report.sockets_text import udp_sockets_page

    _refuse_what_tcp_has(asked)
    question = UdpQuestion(asked.port, asked.peer_port, _peer(asked), *_process(asked.pid, asked.name))
    shown = _known_columns((asked.columns or "").split(","), UDP_COLUMNS)
    order = _known_columns([asked.sort or ""], UDP_COLUMNS)

    def look() -> "UdpSockets":
        answer = look_for_udp_sockets(question)
        rows = sorted_by(answer.sockets, order[0]) if order else answer.sockets
        return answer._replace(sockets=rows[: asked.limit or (_SHOWN if target.format == "text" else None)])

    ask(look, lambda answer, style: udp_sockets_page(answer, style, shown), target)


def _known_columns(names: list[str], known: tuple[str, ...]) -> list[str]:
    """Return the names without empty ones, or say which there are."""
    wanted = [name.strip().lower().replace("-", "_") for name in names if name.strip()]
    for name in wanted:
        if name not in known:
            raise typer.BadParameter(f"no column {name!r}; there are {', '.join(known)}")
    return wanted

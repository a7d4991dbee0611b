"""`sockets` as one JSON object, schema tcpdoctor.sockets/1."""

import json
from collections.abc import Iterable, Iterator

from tcpdoctor.answers.record import utc
from tcpdoctor.answers.socket import ToldSocket, told_socket
from tcpdoctor.answers.sockets import Entry, SocketRoll, Sockets
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.recordings.source import Source
from tcpdoctor.report.document import as_json, json_line
from tcpdoctor.report.host import host_json

SCHEMA = "tcpdoctor.sockets/1"
COLUMNS = tuple(key for key in ToldSocket._fields if key not in ("options", "missing"))
"""Keys of a socket that a table may show and be sorted by."""


def sockets_json_parts(answer: Sockets, source: Source | None = None) -> Iterator[str]:
    """Yield the text of an object with one object per socket, each on a line of its own.

    What is not known is null, with the reason in its ``missing``. A hundred thousand are never held at once.
    `source` names the recordings that were read.
    """
    head = _head(answer.host, answer.taken_at)
    head |= {"total": answer.survey.total, "missing": dict(answer.survey.missing)}
    if source is not None:
        head["recording"] = as_json(source)
    yield _opened(head)
    yield from _lines(answer.entries, options=answer.options)
    yield "]\n}\n"


def sockets_roll_parts(answer: SocketRoll) -> Iterator[str]:
    """Yield the same of sockets that are told as they come: how many they were stands behind them."""
    yield _opened(_head(answer.host, answer.taken_at))
    yield from _lines(answer.entries(), options=False)
    tail = json.dumps({"total": answer.roll.total, "missing": answer.roll.missing}, indent=1)
    yield "],\n" + tail.removeprefix("{\n") + "\n"


def _opened(head: dict[str, JsonValue]) -> str:
    return json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}") + ',\n "sockets": ['


def _lines(entries: Iterable[Entry], *, options: bool) -> Iterator[str]:
    before = "\n  "
    for entry in entries:
        yield before + json_line(told_socket(entry, options=options))
        before = ",\n  "
    if before.startswith(","):
        yield "\n "


def _head(host: Identity, taken_at: float) -> dict[str, JsonValue]:
    return {
        "schema": SCHEMA,
        "host": host_json(host.host, host.kernel, host.namespace, host.namespace_name),
        "taken_at": utc(taken_at),
    }

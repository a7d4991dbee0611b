"""`sockets` as one JSON object, schema tcpdoctor.sockets/1."""

from collections.abc import Iterator

from tcpdoctor.answers.socket import ToldSocket, told_socket
from tcpdoctor.answers.sockets import Entry, Sockets
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.report.document import as_json
from tcpdoctor.report.host import host_json, utc

SCHEMA = "tcpdoctor.sockets/1"
COLUMNS = tuple(key for key in ToldSocket._fields if key not in ("options", "missing"))
"""Keys of a socket that a table may show and be sorted by."""


def sockets_json_parts(answer: Sockets) -> Iterator[str]:
    """Yield the text of an object with one object per socket, each on a line of its own.

    What is not known is null, with the reason in its ``missing``. A hundred thousand are never held at once.
    """
    import json

    encode = json.JSONEncoder(allow_nan=False).encode
    head = json.dumps(_head(answer), indent=1, allow_nan=False)
    yield head.removesuffix("\n}") + ',\n "sockets": ['
    before = "\n  "
    for entry in answer.entries:
        yield before + encode(socket_json(entry, options=answer.options))
        before = ",\n  "
    yield "\n ]\n}\n" if answer.entries else "]\n}\n"


def _head(answer: Sockets) -> dict[str, JsonValue]:
    host = answer.host
    return {
        "schema": SCHEMA,
        "host": host_json(host.host, host.kernel, host.namespace, host.namespace_name),
        "taken_at": utc(answer.taken_at),
        "total": answer.survey.total,
        "missing": dict(answer.survey.missing),
    }


def socket_json(entry: Entry, *, options: bool) -> dict[str, JsonValue]:
    """Return one socket; with its options where `options` says so."""
    return as_json(told_socket(entry, options=options))

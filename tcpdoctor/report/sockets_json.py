"""`sockets` as one JSON object, schema tcpdoctor.sockets/1."""

import math
from collections.abc import Iterator

from tcpdoctor.answers.sockets import Entry, Sockets, idle_seconds
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Held, Listener
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.report.host import host_json, utc

SCHEMA = "tcpdoctor.sockets/1"
COLUMNS = (
    *("state", "family", "local", "remote", "local_port", "remote_port", "uid", "inode", "cookie", "owner"),
    *("accept_queue", "accept_limit", "drops", "age", "timer", "expires_s", "retransmits", "receive_queue"),
    *("send_queue", "rtt_s", "idle_s"),
)
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


def option_json(value: OptionValue) -> JsonValue:
    """Return an option's value; SO_LINGER and IP_LOCAL_PORT_RANGE are objects."""
    return {**value._asdict()} if isinstance(value, tuple) else value


def socket_json(entry: Entry, *, options: bool) -> dict[str, JsonValue]:
    """Return one socket; with its options where `options` says so."""
    row = entry.seen.row
    missing: dict[str, JsonValue] = {}
    answer: dict[str, JsonValue] = {
        "state": "listen" if isinstance(row, Listener) else row.state.key,
        "family": "ipv4" if row.family == 4 else "ipv6",
        "local": str(row.local),
        "remote": str(row.remote) if isinstance(row, Connection) and row.remote.port else None,
        "local_port": row.local.port,
        "remote_port": (row.remote.port or None) if isinstance(row, Connection) else None,
        "uid": row.uid,
        "inode": row.inode,
        "cookie": row.cookie,
        "owner": _owner_json(row, missing),
    }
    if isinstance(row, Listener):
        answer["accept_queue"] = row.accept_queue
        answer["accept_limit"] = _known(row.accept_limit, "accept_limit", missing)
        answer["drops"] = _known(row.drops, "drops", missing)
    else:
        answer |= _connection_json(row, entry, missing)
    if options:
        answer["options"] = _options_json(entry, missing)
    answer["missing"] = missing
    return answer


def _owner_json(row: Listener | Connection, missing: dict[str, JsonValue]) -> JsonValue:
    match row.owner:
        case Held(holders):
            return {**holders[0]._asdict()}
        case Missing(reason):
            missing["owner"] = reason
    return None


def _connection_json(row: Connection, entry: Entry, missing: dict[str, JsonValue]) -> dict[str, JsonValue]:
    age: JsonValue = None
    if entry.age is not None:
        low, high = entry.age.low, entry.age.high
        age = {"at_least_s": round(low, 3), "at_most_s": None if math.isinf(high) else round(high, 3)}
    return {
        "age": age,
        "timer": row.timer.name.lower() if row.timer else None,
        "expires_s": row.expires if row.timer else None,
        "retransmits": row.retransmits,
        "receive_queue": row.receive_queue,
        "send_queue": row.send_queue,
        "rtt_s": _known(_round_trip(row), "rtt_s", missing),
        "idle_s": None if (idle := idle_seconds(row)) is None else _known(idle, "idle_s", missing),
    }


def _round_trip(row: Connection) -> Reading[float]:
    """In seconds; the kernel's 0 stands for none measured."""
    if isinstance(row.info, Missing):
        return row.info
    return row.info.rtt or Missing("no round trip has been measured yet")


def _options_json(entry: Entry, missing: dict[str, JsonValue]) -> JsonValue:
    options = entry.seen.options
    if isinstance(options, Missing):
        missing["options"] = options.reason
        return None
    known: dict[str, JsonValue] = {}
    for name, value in options.items():
        if isinstance(value, Missing):
            missing[f"options.{name}"] = value.reason
        known[name] = None if isinstance(value, Missing) else option_json(value)
    return known


def _known(reading: Reading[int] | Reading[float], name: str, missing: dict[str, JsonValue]) -> JsonValue:
    if isinstance(reading, Missing):
        missing[name] = reading.reason
        return None
    return reading

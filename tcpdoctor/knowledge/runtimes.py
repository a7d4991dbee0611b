"""Which programs and libraries set socket options by themselves, as seen: from runtimes.toml."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tcpdoctor.knowledge.resource import parse_toml, read_text

Value = bool | int | str


class Runtime(NamedTuple):
    """One program or library in its default configuration, and the options that were seen on its sockets.

    An option that is not told was as on a plain socket. IPV6_V6ONLY is told of listeners on IPv6 only.
    """

    name: str
    software: str
    version: str
    listener: Mapping[str, Value] | None
    """None for a client."""
    accepted: Mapping[str, Value] | None
    client: Mapping[str, Value] | None
    backlog: int | None
    """Limit of the accept queue that was seen where net.core.somaxconn is 4096."""
    note: str | None


def read_runtimes() -> tuple[Runtime, ...]:
    """Return all that were looked at, servers first."""
    tables = parse_toml(read_text("runtimes.toml"))
    return tuple(_runtime(table) for kind in ("server", "client") for table in tables[kind])


def _runtime(table: Mapping[str, Any]) -> Runtime:
    return Runtime(
        name=table["name"],
        software=table["software"],
        version=table["version"],
        listener=table.get("listener"),
        accepted=table.get("accepted"),
        client=table.get("socket"),
        backlog=table.get("backlog"),
        note=table.get("note"),
    )

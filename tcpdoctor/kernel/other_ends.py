"""The other ends of some connections, where they are sockets of the same network namespace too.

A busy port on loopback has as many of them as connections, and only few are ever told. So all are found by
their addresses as the kernel wrote them, and one is decoded when somebody asks for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from tcpdoctor.kernel.kept_rows import KeptRows
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Detail, Owner
from tcpdoctor.kernel.sock_diag_rows import decode_row, inode_and_uid, name_from, name_of
from tcpdoctor.kernel.states import TcpState

Ends: TypeAlias = bytes
"""Both ports and both addresses; an IPv4-mapped one as IPv4, so that both ends of a connection compare."""

_IPV4, _MAPPED = 2, bytes(10) + b"\xff\xff"


class OtherEnds:
    """Some other ends by their own addresses."""

    def __init__(
        self,
        rows: Mapping[Ends, bytes | Connection],
        owners: Mapping[int, Owner] = MappingProxyType({}),
    ) -> None:
        self._rows = rows
        self._owners = owners

    def inodes(self) -> dict[int, int]:
        """The uid by inode of those to which a file refers."""
        found = (
            inode_and_uid(row) if isinstance(row, bytes) else (row.inode, row.uid)
            for row in self._rows.values()
        )
        return {inode: uid for inode, uid in found if inode}

    def owned_by(self, owners: Mapping[int, Owner]) -> "OtherEnds":
        """The same with their owners."""
        return OtherEnds(self._rows, owners)

    def of(self, connection: Connection) -> Connection | None:
        """Return the other end of one of the connections; None where it is no socket here."""
        row = self._rows.get(_flipped(*name_from(connection)))
        if row is None:
            return None
        decoded = decode_row(row) if isinstance(row, bytes) else row
        if not isinstance(decoded, Connection):
            return None
        owner = self._owners.get(decoded.inode) if decoded.inode else None
        return decoded if owner is None else decoded._replace(owner=owner)


def other_ends_of(
    ours: Reading[Mapping[TcpState, Detail]], others: Reading[Mapping[TcpState, Detail]]
) -> OtherEnds:
    """Find the other ends of our connections among others."""
    wanted = {_flipped(*name) for name, _ in _each(ours)}
    found: dict[Ends, bytes | Connection] = {}
    for name, row in _each(others) if wanted else ():
        ends = _ends(*name)
        if ends in wanted:
            found.setdefault(ends, row)
    return OtherEnds(found)


def _each(
    details: Reading[Mapping[TcpState, Detail]],
) -> Iterator[tuple[tuple[int, bytes], bytes | Connection]]:
    for detail in () if isinstance(details, Missing) else details.values():
        rows: Iterable[bytes | Connection] = detail.connections
        if isinstance(detail.connections, KeptRows):
            rows = detail.connections.as_told() or rows
        for row in rows:
            yield name_of(row) if isinstance(row, bytes) else name_from(row), row


def _ends(family: int, name: bytes) -> Ends:
    source, target = _addresses(family, name)
    return name[:4] + source + target


def _flipped(family: int, name: bytes) -> Ends:
    source, target = _addresses(family, name)
    return name[2:4] + name[:2] + target + source


def _addresses(family: int, name: bytes) -> tuple[bytes, bytes]:
    """Our own and the other, out of struct inet_diag_sockid."""
    if family == _IPV4:
        return name[4:8], name[20:24]
    source, target = name[4:20], name[20:36]
    if source.startswith(_MAPPED) and target.startswith(_MAPPED):
        return source[12:], target[12:]
    return source, target

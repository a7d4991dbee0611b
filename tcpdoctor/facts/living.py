"""The established connections of one look, and which of those without answer this host made."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tcpdoctor.facts.portrange import Roles
from tcpdoctor.facts.socketset import SocketSet, plain_address
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Destination, Detail, Established, Snapshot


class Living(NamedTuple):
    """The established connections of one look."""

    established: Reading[Established]
    snapshot: Snapshot
    roles: Roles

    @classmethod
    def of(cls, snapshot: Snapshot, roles: Roles) -> "Living":
        """Those of a snapshot; Missing where the census was not taken."""
        census = snapshot.census
        return cls(census if isinstance(census, Missing) else census.established, snapshot, roles)

    def some(self, part: Callable[[Established], Detail]) -> Reading[SocketSet]:
        """The sockets of one kind, with what was not looked at."""
        if isinstance(self.established, Missing):
            return self.established
        return as_set(part(self.established))

    def unanswered(self) -> Reading[SocketSet]:
        """Those that get no answer."""
        return self.some(lambda established: established.unanswered)

    def incoming(self) -> Reading[SocketSet]:
        """The accepted ones of those that get no answer."""
        sockets = self.unanswered()
        if isinstance(sockets, Missing):
            return sockets
        ours = {id(row) for row in self._from_fixed_ports(sockets)}
        return sockets.where(lambda row: not self.roles.is_client(row) and id(row) not in ours)

    def fixed_port_destinations(self) -> list[Destination]:
        """Where those lead that get no answer and were made from ports outside the ephemeral range."""
        sockets = self.unanswered()
        return [] if isinstance(sockets, Missing) else [*map(_destination, self._from_fixed_ports(sockets))]

    def _from_fixed_ports(self, sockets: SocketSet) -> list[Connection]:
        """Outgoing ones whose program chose the local port (haproxy `source` with ports, NFS, BGP).

        Nobody listens on that port, and only one of these is on it: what is left of a server that listens
        no more shares the server's port.
        """
        on_port = Counter(row.local.port for row in sockets.sure)
        return [
            row
            for row in sockets.sure
            if not self.roles.is_client(row)
            and not self.roles.has_listener(row)
            and on_port[row.local.port] == 1
        ]

    def towards(self, destination: Destination) -> Reading[SocketSet]:
        """The outgoing ones to one destination of those that get no answer."""
        sockets = self.unanswered()
        if isinstance(sockets, Missing):
            return sockets
        return sockets.where(lambda row: _destination(row) == destination)


def as_set(detail: Detail) -> SocketSet:
    """The sockets that are known one by one, and how many more there are."""
    unseen = detail.total - len(detail.connections)
    reason = f"only {len(detail.connections):,} of {detail.total:,} such sockets were looked at"
    if not unseen:
        return SocketSet(detail.connections)
    return SocketSet(detail.connections, unseen=unseen, reason=reason, looked_at=len(detail.connections))


def _destination(row: Connection) -> Destination:
    return Destination(plain_address(row.local.address), plain_address(row.remote.address), row.remote.port)

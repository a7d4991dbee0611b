"""Whether a socket was there in the first of two samples."""

from tcpdoctor.facts.rates import elapsed
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Detail, Endpoint, Samples
from tcpdoctor.kernel.states import TcpState

_Key = int | tuple[Endpoint, Endpoint]


class Earlier:
    """The first of two samples, as far as single sockets can be found in it."""

    def __init__(self, samples: Samples) -> None:
        self.elapsed: Reading[float] = elapsed(samples)
        """Seconds between the samples; Missing if there is no first one."""
        self._detail = Missing("needs two samples") if samples.before is None else samples.before.detail
        self._by_state: dict[TcpState, dict[_Key, Connection]] = {}

    def find(self, connection: Connection) -> Connection | Missing | None:
        """The same socket in the same state, as it was in the first sample.

        Sockets are the same where their cookies are; where the kernel gave none (/proc/net/tcp), where
        both ends are. None: it was not there, or in another state. Missing: that cannot be told,
        because there is no first sample or it held only a part of the sockets.
        """
        if isinstance(self.elapsed, Missing):
            return self.elapsed
        detail = self._of(connection.state)
        if isinstance(detail, Missing):
            return detail
        index = self._by_state.get(connection.state)
        if index is None:
            index = self._by_state[connection.state] = {_key(c): c for c in detail.connections}
        found = index.get(_key(connection))
        if found is None and detail.total > len(detail.connections):
            return Missing(partly(detail, connection.state))
        return found

    def _of(self, state: TcpState) -> Reading[Detail]:
        if isinstance(self._detail, Missing):
            return self._detail
        return self._detail.get(state, Missing(f"sockets in {state.name} were not read one by one"))


def partly(detail: Detail, state: TcpState) -> str:
    """The reason why sockets of this state are not all known."""
    return f"only {len(detail.connections):,} of {detail.total:,} sockets in {state.name} were looked at"


def _key(connection: Connection) -> _Key:
    return connection.cookie or (connection.local, connection.remote)

"""Whether connect() may take over the ports of connections that are in TIME_WAIT."""

from typing import NamedTuple

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Snapshot

_REUSE, _TIMESTAMPS = "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_timestamps"
_DELAY = "net.ipv4.tcp_tw_reuse_delay"
_DEFAULT_DELAY_MS = 1000


class PortReuse(NamedTuple):
    """What the kernel allows between one source and one peer address."""

    allowed: bool
    """connect() may use the local port of a TIME_WAIT again, once that is `after` seconds old."""
    after: float
    """Seconds: net.ipv4.tcp_tw_reuse_delay where the kernel has it, else its fixed second."""
    why: str
    """The setting that decides, as in "tcp_tw_reuse is 2, for loopback only"."""

    def __str__(self) -> str:
        if not self.allowed:
            return f"they block their ports for 60 s ({self.why})"
        return f"connect() may take them over once {self.after:g} s old ({self.why})"


def port_reuse(snapshot: Snapshot, source: str, peer: str) -> Reading[PortReuse]:
    """What tcp_twsk_unique() (net/ipv4/tcp_ipv4.c) says for connections from `source` to `peer`.

    It supposes that the peer uses TCP timestamps too, as everybody does by default.
    Missing where tcp_tw_reuse or tcp_timestamps could not be read.
    """
    reuse, timestamps = (_number(snapshot, name) for name in (_REUSE, _TIMESTAMPS))
    if isinstance(reuse, Missing):
        return reuse
    if isinstance(timestamps, Missing):
        return timestamps
    delay = _number(snapshot, _DELAY)
    after = (_DEFAULT_DELAY_MS if isinstance(delay, Missing) else delay) / 1000
    if timestamps == 0:
        return PortReuse(allowed=False, after=after, why="tcp_timestamps is 0")
    if reuse == 2:
        loopback = is_loopback(source) or is_loopback(peer)
        what = "and this is loopback" if loopback else "for loopback only"
        return PortReuse(allowed=loopback, after=after, why=f"tcp_tw_reuse is 2, {what}")
    also = ", if the peer uses timestamps too" if reuse == 1 else ""
    return PortReuse(allowed=reuse == 1, after=after, why=f"tcp_tw_reuse is {reuse}{also}")


def is_loopback(address: str) -> bool:
    """Whether the kernel takes a numeric address for loopback: 127.0.0.0/8, mapped or not, or ::1."""
    return address.startswith(("127.", "::ffff:127.")) or address == "::1"


def _number(snapshot: Snapshot, name: str) -> Reading[int]:
    value = snapshot.sysctls.get(name, Missing(f"{name} was not read"))
    if isinstance(value, int | Missing):
        return value
    return Missing(f"{name} is no number")

"""The kernel's numbers for TCP states and timers."""

from enum import IntEnum
from typing import Literal, TypeAlias

StateKey: TypeAlias = Literal[
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait_1",
    "fin_wait_2",
    "time_wait",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "bound",
    "close",
    "closed",
]
"""The names of states in JSON and in rules; ``closed`` is none of a socket's."""


class TcpState(IntEnum):
    """A TCP state by its number in include/net/tcp_states.h."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT_1 = 4
    FIN_WAIT_2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12
    """A request socket; inet_diag prints it as SYN_RECV."""
    BOUND = 13
    """TCP_BOUND_INACTIVE, Linux 6.8 and later (commit 91051f003948): bound to a port, neither
    listening nor connected. A dump has to ask for bit 13, and the row then says CLOSE."""

    @property
    def key(self) -> StateKey:
        """The state's name in JSON and in rules: ``fin_wait_2``."""
        return self.name.lower()  # type: ignore[return-value]  # these are they, but for NEW_SYN_RECV


COUNTED_STATES = (
    TcpState.ESTABLISHED,
    TcpState.SYN_SENT,
    TcpState.SYN_RECV,
    TcpState.FIN_WAIT_1,
    TcpState.FIN_WAIT_2,
    TcpState.TIME_WAIT,
    TcpState.CLOSE_WAIT,
    TcpState.LAST_ACK,
    TcpState.LISTEN,
    TcpState.CLOSING,
    TcpState.BOUND,
)
"""The states that every report counts, in the order of the JSON contract."""


HELD_STATES = (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2)
"""States that a process can leave its sockets in for ever."""


class Timer(IntEnum):
    """What idiag_timer says is pending (net/ipv4/inet_diag.c)."""

    NONE = 0
    RETRANSMIT = 1
    KEEPALIVE = 2
    """Also an orphan's FIN_WAIT_2 that is no minisocket: at first where tcp_fin_timeout is above 60 s, all
    the time where the ACK of its FIN came while close() still owned the socket (tcp_rcv_state_process(), "bad
    case"); when that time is up the peer is reset (tcp_keepalive_timer())."""
    TIME_WAIT = 3
    """A minisocket: TIME_WAIT, or an orphan's FIN_WAIT_2. It has no inode and no attributes."""
    PROBE = 4
    """Zero-window probes: the peer's window is closed."""

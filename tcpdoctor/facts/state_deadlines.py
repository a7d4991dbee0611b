"""What ends a socket in each state, and when, with the sysctls of this host.

The cases of a state are told apart as a person sees them: held by a process or not, with SO_KEEPALIVE
or not. Times are for a peer that is silent and a round trip that takes no time to speak of.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.facts.deadlines import (
    AT_ONCE,
    NEVER,
    RTO_MAX_SECONDS,
    TICK_SECONDS,
    Life,
    effective_orphan_retries,
    fin_wait_2_orphan_life,
    keepalive_life,
    lan_rto,
    orphan_retry_life,
    owned_retry_life,
    syn_recv_life,
    syn_sent_life,
    time_wait_life,
    zero_window_orphan_life,
)
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue

Sysctls = Mapping[str, Reading[SysctlValue]]

DEADLINE_STATES = (
    "syn_sent",
    "syn_recv",
    "established",
    "fin_wait_1",
    "fin_wait_2",
    "close_wait",
    "closing",
    "last_ack",
    "time_wait",
)
"""The states in which some timer may run."""

DEADLINE_SYSCTLS = (
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_orphan_retries",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_rto_max_ms",
    "net.ipv4.tcp_rto_min_us",
    "net.ipv4.tcp_syn_linear_timeouts",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_synack_retries",
)
"""What they are computed from."""


class Deadline(NamedTuple):
    """When the kernel ends a socket in one case."""

    case: str
    """``orphan``, ``held, no SO_KEEPALIVE`` and so on."""
    life: Reading[Life]
    """Seconds from its begin; `Missing` where a sysctl could not be read."""
    sysctls: tuple[str, ...]
    """Full names of those it was computed from; empty where none has a part."""
    remark: str = ""
    """What a sysctl's value means, where it does not mean what it says."""


def state_deadlines(key: str, sysctls: Sysctls, tick: float = TICK_SECONDS) -> tuple[Deadline, ...]:
    """Return the cases of a state, those held by a process first.

    Args:
        key: ``fin_wait_2`` and so on, ``closed`` and ``bound`` included.
        sysctls: By full name; those that this kernel lacks are Missing or absent.
        tick: Length of a jiffy here, in seconds.
    """
    here = _Here(sysctls, tick)
    match key:
        case "syn_sent":
            return (here.syn_sent(), Deadline("closed by its process", AT_ONCE, ()))
        case "syn_recv":
            return (here.syn_recv(),)
        case "established":
            return (_NO_KEEPALIVE, here.keepalive(), here.owned("data not acknowledged"))
        case "fin_wait_1":
            return (here.owned("held by a process"), here.orphan(), here.shut_window())
        case "fin_wait_2":
            return (_NO_KEEPALIVE, here.keepalive(), here.fin_wait_2())
        case "close_wait":
            return (_NO_KEEPALIVE, here.keepalive(), Deadline("waiting for accept()", NEVER, ()))
        case "closing" | "last_ack":
            return (here.owned("held by a process"), here.orphan())
        case "time_wait":
            return (Deadline("always", time_wait_life(tick), ()),)
    return (Deadline("held by a process", NEVER, ()),)


def deadlines_of_sysctl(
    name: str, sysctls: Sysctls, tick: float = TICK_SECONDS
) -> Sequence[tuple[tuple[str, ...], Deadline]]:
    """Return every deadline that a sysctl has a part in, with the keys of the states it holds for."""
    found: list[tuple[tuple[str, ...], Deadline]] = []
    for key in DEADLINE_STATES:
        for deadline in state_deadlines(key, sysctls, tick):
            if name not in deadline.sysctls:
                continue
            same = next((place for place, entry in enumerate(found) if entry[1] == deadline), None)
            if same is None:
                found.append(((key,), deadline))
            else:
                found[same] = (*found[same][0], key), deadline
    return found


_NO_KEEPALIVE = Deadline("held, no SO_KEEPALIVE", NEVER, ())


class _Here(NamedTuple):
    """The sysctls and the clock of one host."""

    sysctls: Sysctls
    tick: float

    def syn_sent(self) -> Deadline:
        names = _full("tcp_syn_retries", *self.present("tcp_syn_linear_timeouts"))
        return self.deadline(
            "no answer",
            names,
            lambda retries, linear=0: syn_sent_life(retries, linear, self.rto_max(), tick=self.tick),
        )

    def syn_recv(self) -> Deadline:
        return self.deadline(
            "no answer", _full("tcp_synack_retries"), lambda retries: syn_recv_life(retries, self.tick)
        )

    def keepalive(self) -> Deadline:
        names = _full("tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes")
        return self.deadline(
            "held, SO_KEEPALIVE, peer gone",
            names,
            lambda time, interval, probes: keepalive_life(time, interval, probes, tick=self.tick),
        )

    def owned(self, case: str) -> Deadline:
        names = _full("tcp_retries2", *self.present("tcp_rto_max_ms"))
        return self.deadline(
            case,
            names,
            lambda retries, *_: owned_retry_life(retries, self.rto(), self.rto_max(), tick=self.tick),
        )

    def orphan(self) -> Deadline:
        names = _full("tcp_orphan_retries", *self.present("tcp_rto_max_ms"))
        found = self.deadline(
            "orphan",
            names,
            lambda retries, *_: orphan_retry_life(retries, self.rto(), self.rto_max(), tick=self.tick),
        )
        retries = self.sysctls.get(names[0])
        if retries == 0:
            return found._replace(remark=f"0 means {effective_orphan_retries(0)}")
        return found

    def shut_window(self) -> Deadline:
        names = _full("tcp_orphan_retries", "tcp_retries2", *self.present("tcp_rto_max_ms"))
        return self.deadline(
            "orphan, peer's window shut",
            names,
            lambda retries, most, *_: zero_window_orphan_life(
                retries, most, self.rto(), self.rto_max(), tick=self.tick
            ),
        )

    def fin_wait_2(self) -> Deadline:
        names = _full("tcp_fin_timeout")
        found = self.deadline(
            "orphan",
            names,
            lambda seconds: fin_wait_2_orphan_life(seconds, rto=self.rto(), tick=self.tick),
        )
        seconds = self.sysctls.get(names[0])
        if isinstance(seconds, int) and seconds > 60:
            return found._replace(remark=f"above 60: 2 x ({seconds} - 60) s")
        if isinstance(found.life, Life) and isinstance(seconds, int) and seconds < found.life.low:
            return found._replace(remark="at least 3.5 retransmission timeouts")
        return found

    def deadline(self, case: str, names: tuple[str, ...], life: Callable[..., Life]) -> Deadline:
        values: list[int] = []
        for name in names:
            value = self.sysctls.get(name, Missing(f"{name} was not read"))
            if isinstance(value, Missing):
                return Deadline(case, value, names)
            if not isinstance(value, int):
                return Deadline(case, Missing(f"{name} is no number"), names)
            values.append(value)
        return Deadline(case, life(*values), names)

    def present(self, *names: str) -> tuple[str, ...]:
        """Those that this kernel has: older ones lack some and behave as if they had the default."""
        return tuple(name for name in names if isinstance(self.sysctls.get(f"net.ipv4.{name}"), int))

    def rto_max(self) -> float:
        value = self.sysctls.get("net.ipv4.tcp_rto_max_ms")
        return value / 1000 if isinstance(value, int) else RTO_MAX_SECONDS

    def rto(self) -> float:
        return assumed_rto(self.sysctls, self.tick)


def assumed_rto(sysctls: Sysctls, tick: float = TICK_SECONDS) -> float:
    """Return the retransmission timeout, in seconds, of a connection to a near peer on this host."""
    value = sysctls.get("net.ipv4.tcp_rto_min_us")
    return lan_rto(value / 1e6, tick) if isinstance(value, int) else lan_rto(tick=tick)


def _full(*names: str) -> tuple[str, ...]:
    return tuple(f"net.ipv4.{name}" for name in names)

"""Every fact that a rule may use: name, dimension, scope, one sentence, where to see it.

Names are the kernel's own where it has one, so that one grep finds rule, report and kernel:
``TcpExt.ListenOverflows``, ``sysctl.net.ipv4.tcp_fin_timeout``, ``sockstat.TCP.orphan``. The words
themselves are plain data in `own_facts`, `subject_facts`, `established_facts`, `counter_facts` and
`sysctl_facts`; the last two are long and imported only when a name of theirs is asked for.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tcpdoctor.facts.dimension import BYTE, COUNT, PAGE, PER_SECOND, RATIO, SECOND, Dimension
from tcpdoctor.facts.established_facts import ESTABLISHED_FACTS
from tcpdoctor.facts.own_facts import OWN_FACTS, SOCKSTAT_FACTS
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.subject_facts import SUBJECT_FACTS
from tcpdoctor.facts.sysctl_value import LOWERED
from tcpdoctor.kernel.states import COUNTED_STATES

GAUGE, COUNTER, AGES, TEXT = "gauge", "counter", "ages", "text"


class Fact(NamedTuple):
    """What a fact is, without its value."""

    name: str
    dimension: Dimension | None
    """None for a text."""
    scope: Scope
    """The scope it belongs to; facts of the host can be used in every scope."""
    kind: str
    """``gauge``: a number now. ``counter``: grows since boot, only its growth means anything.
    ``ages``: a set of sockets, by how long each has been in its state. ``text``: words."""
    meaning: str
    """One plain sentence."""
    source: str
    """Where one can see it without this program: a file, a command or a netlink field."""


COUNTER_GROUPS = ("Tcp", "TcpExt", "MPTcpExt", "Ip", "IpExt", "Ip6", "Icmp", "Icmp6", "nf_conntrack")
"""The first words of counter names that can be facts."""

_WORDS = OWN_FACTS | SUBJECT_FACTS | ESTABLISHED_FACTS

_DIMENSIONS: dict[str, Dimension | None] = {
    "count": COUNT,
    "second": SECOND,
    "byte": BYTE,
    "page": PAGE,
    "ratio": RATIO,
    "per_second": PER_SECOND,
    "text": None,
}

_UNIT_OF_SYSCTL = {
    "millisecond": SECOND,
    "microsecond": SECOND,
    "nanosecond": SECOND,
    "percent": RATIO,
    "switch": RATIO,
    "ports": None,
} | _DIMENSIONS


def find_fact(name: str) -> Fact | None:
    """What is known of the fact with this name; None if there is none.

    The name has to be exact, upper and lower case included: a rule that misspells it
    must not load.
    """
    group, _, rest = name.partition(".")
    if group == "sysctl":
        return _sysctl_fact(rest)
    if group == "default":
        return _default_fact(rest)
    if group == "sockstat":
        return _sockstat_fact(rest)
    if group == "sockets":
        return _state_count(rest)
    if group == "port" and rest in _STATE_KEYS:
        return _port_state_count(rest)
    if group in COUNTER_GROUPS:
        return _counter_fact(group, rest)
    return _own_fact(name)


def fact_names(scope: Scope) -> Sequence[str]:
    """Names of all facts that a rule of this scope may use: the scope's own, then the host's."""
    own = [name for name, words in _WORDS.items() if words[0] == scope.value]
    if scope is Scope.PORT:
        own += [f"port.{key}" for key in _STATE_KEYS]
    if scope is not Scope.HOST:
        return own + list(fact_names(Scope.HOST))
    return (
        own
        + [f"sockets.{key}" for key in _STATE_KEYS]
        + [f"sockstat.{name}" for name in SOCKSTAT_FACTS]
        + list(_counter_names())
        + list(_sysctl_names())
        + list(_default_names())
    )


def own_facts(scope: Scope) -> Sequence[Fact]:
    """The facts that belong to this scope, those of the host only for the host itself."""
    facts = map(find_fact, fact_names(scope))
    return [fact for fact in facts if fact is not None and fact.scope is scope]


_STATE_KEYS = tuple(state.key for state in COUNTED_STATES)


def _own_fact(name: str) -> Fact | None:
    words = _WORDS.get(name)
    if words is None:
        return None
    scope, kind, unit, meaning, source = words
    return Fact(name, _DIMENSIONS[unit], Scope(scope), kind, meaning, source)


def _state_count(key: str) -> Fact | None:
    if key not in _STATE_KEYS:
        return None
    if key == "bound":
        meaning = "Sockets bound to a port that neither listen nor are connected."
        source = "ss -tanB (sock_diag state bit 13, Linux 6.8 and later)"
    else:
        meaning = f"TCP sockets in {key.upper()} in this network namespace{_REMARKS.get(key, '')}."
        source = f"ss -Htan state {_SS_NAMES.get(key, key.replace('_', '-'))} | wc -l"
    return Fact(f"sockets.{key}", COUNT, Scope.HOST, GAUGE, meaning, source)


_REMARKS = {"fin_wait_2": ", owned ones and orphans together", "syn_recv": ", half-open connections"}
_SS_NAMES = {"listen": "listening"}


def _port_state_count(key: str) -> Fact:
    meaning = (
        "Sockets bound to this port that neither listen nor are connected."
        if key == "bound"
        else f"Sockets in {key.upper()} whose local port is this one."
    )
    host_fact = _state_count(key)
    source = "ss -tan 'sport = :PORT'" if host_fact is None or key != "bound" else host_fact.source
    return Fact(f"port.{key}", COUNT, Scope.PORT, GAUGE, meaning, source)


def _sockstat_fact(name: str) -> Fact | None:
    words = SOCKSTAT_FACTS.get(name)
    if words is None:
        return None
    unit, meaning = words
    file = "/proc/net/sockstat6" if name.startswith("TCP6") else "/proc/net/sockstat"
    return Fact(f"sockstat.{name}", _DIMENSIONS[unit], Scope.HOST, GAUGE, meaning, file)


def _counter_fact(group: str, name: str) -> Fact | None:
    from tcpdoctor.facts.counter_facts import COUNTER_FACTS, GAUGES, UNITS

    meaning = COUNTER_FACTS.get(f"{group}.{name}")
    if meaning is None:
        return None
    kind = GAUGE if f"{group}.{name}" in GAUGES else COUNTER
    unit = UNITS.get(f"{group}.{name}", "count")
    file = _COUNTER_FILES[group]
    dimension = _DIMENSIONS["second" if unit == "millisecond" else unit]
    command = f"conntrack -S, {name}=" if group == "nf_conntrack" else f"nstat -az {group}{name}"
    return Fact(f"{group}.{name}", dimension, Scope.HOST, kind, meaning, f"{file} ({command})")


_COUNTER_FILES = {
    "Tcp": "/proc/net/snmp",
    "Ip": "/proc/net/snmp",
    "Icmp": "/proc/net/snmp",
    "Ip6": "/proc/net/snmp6",
    "Icmp6": "/proc/net/snmp6",
    "TcpExt": "/proc/net/netstat",
    "IpExt": "/proc/net/netstat",
    "MPTcpExt": "/proc/net/netstat",
    "nf_conntrack": "/proc/net/stat/nf_conntrack",
}


def _counter_names() -> Iterator[str]:
    from tcpdoctor.facts.counter_facts import COUNTER_FACTS

    return iter(COUNTER_FACTS)


def _sysctl_fact(name: str) -> Fact | None:
    from tcpdoctor.facts.sysctl_facts import PARTS, SYSCTL_FACTS

    whole, _, part = name.rpartition(".")
    sysctl = whole if part in PARTS.get(whole, ()) else name
    words = SYSCTL_FACTS.get(sysctl)
    if words is None or (sysctl == name and name in PARTS):
        return None
    unit, meaning = words
    if sysctl != name:
        meaning = f"{meaning}: {PARTS[sysctl][part]}."
    dimension = _UNIT_OF_SYSCTL[unit]
    kind = TEXT if dimension is None else GAUGE
    file = "/proc/sys/" + sysctl.replace(".", "/")
    return Fact(f"sysctl.{name}", dimension, Scope.HOST, kind, meaning, file)


def _default_fact(name: str) -> Fact | None:
    setting = _sysctl_fact(name)
    if setting is None or not name.startswith(LOWERED):
        return None
    meaning = "The least that a kernel takes for it by itself, 5.10 to 6.18, with this machine's memory: "
    source = "Linux Documentation/networking/ip-sysctl.rst, Documentation/admin-guide/sysctl; MemTotal"
    name_of_it = name.rpartition(".")[2] if "." in name else name
    return setting._replace(name=f"default.{name}", meaning=f"{meaning}{name_of_it}.", source=source)


def _default_names() -> Iterator[str]:
    from tcpdoctor.facts.sysctl_facts import PARTS

    for sysctl in LOWERED:
        for part in PARTS.get(sysctl, ("",)):
            yield f"default.{sysctl}.{part}" if part else f"default.{sysctl}"


def _sysctl_names() -> Iterator[str]:
    from tcpdoctor.facts.sysctl_facts import PARTS, SYSCTL_FACTS

    for sysctl in SYSCTL_FACTS:
        for part in PARTS.get(sysctl, ("",)):
            yield f"sysctl.{sysctl}.{part}" if part else f"sysctl.{sysctl}"

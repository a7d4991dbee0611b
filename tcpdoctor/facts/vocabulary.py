"""Every fact that a rule may use: name, dimension, scope, one sentence, where to see it.

Names are the kernel's own where it has one, so that one grep finds rule, report and kernel:
``TcpExt.ListenOverflows``, ``sysctl.net.ipv4.tcp_fin_timeout``, ``sockstat.TCP.orphan``. What is computed
here is told beside its function (`namespace`, `processes`, `listeners`, `ports`, `destinations`,
`established`); counters and settings have one function for all, and a line each in `counter_facts` and
`sysctl_facts`, which are long and imported only when a name of theirs is asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from tcpdoctor.facts.subject import COUNTER, GAUGE, TEXT, Fact, Scope
from tcpdoctor.facts.sysctl_value import LOWERED
from tcpdoctor.facts.value import BYTE, COUNT, PAGE, PER_SECOND, RATIO, SECOND, Dimension

COUNTER_GROUPS = ("Tcp", "TcpExt", "MPTcpExt", "Ip", "IpExt", "Ip6", "Icmp", "Icmp6", "nf_conntrack")
"""The first words of counter names that can be facts."""

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
    if group in COUNTER_GROUPS:
        return _counter_fact(group, rest)
    return _computed_here().get(name)


def fact_names(scope: Scope) -> Sequence[str]:
    """Names of all facts that a rule of this scope may use: the scope's own, then the host's."""
    own = [name for name, fact in _computed_here().items() if fact.scope is scope]
    if scope is not Scope.HOST:
        return own + list(fact_names(Scope.HOST))
    return [*own, *_counter_names(), *_sysctl_names(), *_default_names()]


def own_facts(scope: Scope) -> Sequence[Fact]:
    """The facts that belong to this scope, those of the host only for the host itself."""
    facts = map(find_fact, fact_names(scope))
    return [fact for fact in facts if fact is not None and fact.scope is scope]


@cache
def _computed_here() -> Mapping[str, Fact]:
    """The facts that have a function of their own."""
    # a fifth of the time of `check` with what they import: a command that asks for no fact is spared it
    from tcpdoctor.facts import destinations, established, lifetime, listeners, namespace, ports, processes

    told: tuple[Fact, ...] = (
        *(fact for fact, _ in namespace.FACTS),
        *(fact for fact, _ in lifetime.FACTS),
        *(fact for fact, _ in processes.FACTS),
        *(fact for fact, _ in listeners.FACTS),
        *(fact for fact, _ in ports.FACTS),
        *(fact for fact, _ in destinations.FACTS),
        *(fact for fact, _ in established.FACTS),
    )
    return {fact.name: fact for fact in told}


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


MACHINE_WIDE = frozenset(
    {
        *("files.open", "files.limit", "sockstat.TCP.orphan", "sockstat.TCP.alloc", "sockstat.TCP.mem"),
        *(f"{of}.net.core.{name}" for of in ("sysctl", "default") for name in ("rmem_max", "wmem_max")),
    }
)
"""Facts of the whole machine that every network namespace shows as well."""

"""What counters tell of all the time since a network namespace began, as bounds that hold whenever it was.

A counter's size says nothing of today, and rules may use its growth only. But what is over before the
first look leaves no other trace. These facts are told for rules that compare like with like (so many of
all connections), never with a constant alone, and that are of severity info.
"""

from collections import Counter

from tcpdoctor.facts.namespace import Looks
from tcpdoctor.facts.rates import NEEDS_TWO_SAMPLES, counter
from tcpdoctor.facts.socketset import NONE, most_common
from tcpdoctor.facts.subject import Scope, Teller, Told, functions_of
from tcpdoctor.facts.value import COUNT, Value
from tcpdoctor.kernel.counters import OWN_RESETS
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import DestinationUse, Endpoint


def _sum_of(host: Looks, *names: str) -> Reading[int]:
    """The counters' sum; Missing where one of them is."""
    total = 0
    for name in names:
        value = counter(name, host.samples.after)
        if isinstance(value, Missing):
            return value
        total += value
    return total


def _forwarded(host: Looks) -> Reading[int]:
    """Packets forwarded; where IPv6 is off there are none of it."""
    newer = counter("Ip6.OutForwDatagrams", host.samples.after)
    older = counter("Ip.ForwDatagrams", host.samples.after)
    return older if isinstance(older, Missing) else older + (0 if isinstance(newer, Missing) else newer)


def _fewer_towards(host: Looks) -> Value:
    """Destinations with fewer connections than at the look before; those that kept all are not named."""
    now = host.samples.after.census
    if isinstance(now, Missing):
        return now
    if host.samples.before is None:
        return Missing(NEEDS_TWO_SAMPLES)
    then = host.samples.before.census
    if isinstance(then, Missing):
        return Missing("that was not counted at the earlier look; runs with --since-last keep it")
    gone: Counter[str] = Counter()
    for destination, use in then.by_destination.items():
        left = now.by_destination.get(destination, DestinationUse(0, 0, now.unlisted))
        fewer = use.total - use.time_wait - (left.total - left.time_wait + left.uncounted)
        if fewer > 0:
            gone[str(Endpoint(destination.address, destination.port))] += fewer
    return most_common(gone) or NONE


def _less(host: Looks, name: str, others: tuple[str, ...]) -> Reading[int]:
    whole, taken = _sum_of(host, name), _sum_of(host, *others)
    if isinstance(whole, Missing):
        return whole
    return taken if isinstance(taken, Missing) else max(0, whole - taken)


_of_host: Teller[Looks] = Teller(Scope.HOST)

FACTS: tuple[Told[Looks], ...] = (
    _of_host.gauge(
        "lifetime.connects",
        COUNT,
        "Connections that programs here began by connect(), since the network namespace began.",
        "nstat -az TcpActiveOpens",
        lambda host: _sum_of(host, "Tcp.ActiveOpens"),
    ),
    _of_host.gauge(
        "lifetime.connects_reset",
        COUNT,
        "Of these, so many at least were established and then ended by a reset of their peer: all such "
        "ends, less every connection that was accepted, and those that were reset from here.",
        "nstat -az TcpEstabResets TcpPassiveOpens TcpExtTCPAbortOnData TcpExtTCPAbortOnClose "
        "TcpExtTCPAbortOnTimeout",
        lambda host: _less(host, "Tcp.EstabResets", ("Tcp.PassiveOpens", *OWN_RESETS)),
    ),
    _of_host.gauge(
        "lifetime.resets_unasked",
        COUNT,
        "Resets that left this host and that no program or timer of it asked for, since the network "
        "namespace began: answers to segments for which there was no socket.",
        "nstat -az TcpOutRsts TcpExtTCPAbortOnData TcpExtTCPAbortOnClose TcpExtTCPAbortOnTimeout",
        lambda host: _less(host, "Tcp.OutRsts", OWN_RESETS),
    ),
    _of_host.gauge(
        "lifetime.invalid_packets",
        COUNT,
        "Packets that connection tracking called invalid, since the network namespace began.",
        "/proc/net/stat/nf_conntrack (conntrack -S, invalid=)",
        lambda host: _sum_of(host, "nf_conntrack.invalid"),
    ),
    _of_host.gauge(
        "lifetime.packets_forwarded",
        COUNT,
        "Packets that this host forwarded, since the network namespace began.",
        "nstat -az IpForwDatagrams Ip6OutForwDatagrams",
        _forwarded,
    ),
    _of_host.text(
        "lifetime.fewer_towards",
        "Destinations with fewer connections from ephemeral ports of this host than at the look before, "
        "those that lost most first; a run with --since-last knows them.",
        "ss -tn (at two times)",
        _fewer_towards,
    ),
)
FUNCTIONS = functions_of(FACTS)

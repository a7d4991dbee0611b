"""The verdict on connect() in a sentence, what to do, and what not to do."""

from collections.abc import Iterator

from tcpdoctor.diagnosis.bind import OK
from tcpdoctor.diagnosis.connect import (
    ConnectPrediction,
    Journey,
    Scene,
    goes_to_itself,
    goes_to_many,
    next_hop_of,
    unanswered,
)
from tcpdoctor.facts.value import SECOND, show
from tcpdoctor.kernel.connect_evidence import NoRoute, Route
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.text import clean

_ROUTE_ERRORS = {
    "ENETUNREACH": "no route leads there",
    "EHOSTUNREACH": "a route of type unreachable, or the missing gateway, stops it",
    "EACCES": "a route of type prohibit forbids it",
    "EINVAL": "a route of type blackhole, or a source address that cannot go there, stops it",
    "EADDRNOTAVAIL": "the kernel finds no source address for it",
}


_MOSTLY_LOST = 0.5
"""From this share of ports that somebody is bound to on, these are what matters."""


_MOSTLY_TIME_WAIT = 0.5
"""From this share of TIME_WAIT on, who closes first is what matters."""


def connect_verdict(journey: Journey, scene: Scene, answer: ConnectPrediction) -> str:
    """Say in a sentence what connect() answers, why, and until when; that another host was not asked."""
    who = f"connect() from {_from(journey)} to {journey.where}"
    if journey.source is None:
        who = f"connect() to {journey.where}"
    if isinstance(journey.route, NoRoute):
        return f"{who} fails with {answer.verdict}: {_refusal(journey.route)}."
    if goes_to_many(journey):
        return f"{who} fails with {answer.verdict}: TCP connects to no broadcast or multicast address."
    if answer.stage == "port":
        return f"{who} {_no_port(journey, scene, answer)}"
    if answer.stage == "next-hop":
        sure = "" if answer.certain else "probably "
        return f"{who} {sure}fails with {answer.verdict}: {_at_the_hop(journey)}."
    return f"{who} {_how_far(journey, scene, answer)}"


def _how_far(journey: Journey, scene: Scene, answer: ConnectPrediction) -> str:
    sure = "" if answer.certain else "probably "
    if scene.filters.named and answer.stage in ("peer", "accepted") and not scene.redirects.found:
        return f"{_lets_out(journey, scene, answer)} unless {_rules(scene)} stops it: see the rule."
    if scene.signed and answer.stage == "accepted":
        return (
            f"{_lets_out(journey, scene, answer)}; a listener of this host takes it if the client signs with "
            "its TCP-MD5 key, and without one it gets no answer (ETIMEDOUT)."
        )
    if scene.filters.others and answer.stage in ("peer", "accepted") and not scene.redirects.found:
        reached = "" if answer.stage == "peer" else ", and a listener of this host would take it"
        others = " and of ".join(scene.filters.others[:2])
        return (
            f"{_lets_out(journey, scene, answer)}{reached}; whether rules of {others} that drop or reject "
            "packets stop it was not compared."
        )
    match answer.stage:
        case "peer" if scene.redirects.found:
            one = scene.redirects.found[0]
            return (
                f"{sure}{_lets_out(journey, scene, answer)}, and {one.where} sends it to {one.to}; whether "
                "that answers was not asked."
            )
        case "peer":
            return f"{sure}{_lets_out(journey, scene, answer)}; {_of_the_peer(scene)}."
        case "accepted" if not scene.listeners and goes_to_itself(journey):
            return f"{sure}connects the socket to itself: both ends are the same, and nothing listens there."
        case "accepted":
            return f"{sure}{_lets_out(journey, scene, answer)}, and a listener of this host takes it."
        case "bind":
            return f"{sure}fails at bind(): {answer.verdict}. {_why_no_bind(journey, answer)}"
    if answer.verdict == "ECONNREFUSED":
        return f"is {sure}refused (ECONNREFUSED): the address is this host's, and nothing listens there."
    return f"{sure}gets no answer (ETIMEDOUT): {_silence(scene)}"


def _of_the_peer(scene: Scene) -> str:
    waiting = unanswered(scene)
    if not waiting:
        return "whether the peer answers was not asked"
    return f"{waiting:,} that {'waits' if waiting == 1 else 'wait'} there got no answer so far"


def _rules(scene: Scene) -> str:
    return f"a rule of {' and of '.join(scene.filters.named[:2])} that drops or rejects packets for this port"


def _no_port(journey: Journey, scene: Scene, answer: ConnectPrediction) -> str:
    if journey.source_port:
        sure = "" if answer.certain else "probably "
        return f"{sure}fails with {answer.verdict}: a socket of this host already has these two ends."
    if not answer.usable:
        return "fails with EADDRNOTAVAIL: the port range holds no port that is not reserved."
    taken = f"none of the {answer.usable:,} ports {scene.ports.low}-{scene.ports.high} is left"
    held = ", ".join(f"{number:,} {state.name}" for state, number in answer.used_by_state.items())
    because = [f"connections there hold {held}"] if held else []
    because += [f"listeners and sockets placed by bind() have {answer.lost:,}"] if answer.lost else []
    sure = "probably " if scene.ports.unknown else ""
    return f"{sure}fails with EADDRNOTAVAIL: {taken}: {', '.join(because)}. {_until(answer)}"


def _from(journey: Journey) -> str:
    if not journey.source_port or journey.source is None:
        return journey.source or ""
    return str(Endpoint(journey.source, journey.source_port))


def _lets_out(journey: Journey, scene: Scene, answer: ConnectPrediction) -> str:
    if journey.source_port:
        return "gets that local port: this host lets it out"
    if scene.ports.unknown:
        return "gets a local port: this host lets it out"
    return f"gets a local port ({answer.free:,} of {answer.usable:,} are free for it): this host lets it out"


def _interface(journey: Journey) -> str:
    return (journey.route.interface or "") if isinstance(journey.route, Route) else ""


def _asking(journey: Journey) -> str:
    hop = next_hop_of(journey)
    return "neighbour discovery" if hop is not None and ":" in hop.address else "ARP"


def _at_the_hop(journey: Journey) -> str:
    """Why nothing leaves this host."""
    hop, through = next_hop_of(journey), clean(_interface(journey))
    if hop is None or not hop.carrier:
        return f"{through} has no carrier, so what is to leave by it is dropped"
    when = "has not answered so far" if hop.neighbour == "incomplete" else "did not answer when asked last"
    return f"the next hop, {hop.address} on {through}, {when} ({_asking(journey)})"


def _mend_the_hop(journey: Journey) -> str:
    hop, through = next_hop_of(journey), clean(_interface(journey))
    if hop is None or not hop.carrier:
        return (
            f"See `ip link show {through}`: nothing is at the other end (a cable, a switch, the peer of a "
            "veth, the ports of a bridge). Ports, firewalls and the other host do not matter until it is up."
        )
    return (
        f"See `ip neigh show {hop.address} dev {through}`: that host is down, or not in this network "
        f"(netmask, VLAN, a gateway that is gone), or it does not answer {_asking(journey)}. Nothing else "
        "matters until it does."
    )


def _silence(scene: Scene) -> str:
    """Why a local port answers neither way: its accept queue is full, or the packets are dropped."""
    listeners = scene.listeners if isinstance(scene.listeners, tuple) else ()
    if not listeners:
        return (
            "the address is this host's, and nothing listens there, but the reset that says so does not "
            f"come: {unanswered(scene):,} SYN_SENT there had to be sent again."
        )
    queues = [f"{row.accept_queue} of {row.accept_limit}" for row in listeners]
    whose = "the listener there" if len(queues) == 1 else f"each of the {len(queues)} listeners there"
    return (
        f"the accept queue of {whose} is full ({', '.join(queues[:3])}), so SYNs are dropped until its "
        "process accepts."
    )


def _why_no_bind(journey: Journey, answer: ConnectPrediction) -> str:
    better = [attempt for attempt in answer.from_port if attempt.connect == OK]
    port = f"{journey.asks(f'explain --port {journey.source_port}')} says who has the port"
    if not better:
        return f"No combination of SO_REUSEADDR and SO_REUSEPORT helps; {port}."
    return f"With {' and '.join(better[0].options)} set before bind() it works; {port}."


def _refusal(route: NoRoute) -> str:
    if route.at_bind:
        return f"bind() to that source does, before any port is sought: {route.why}"
    return route.why or _ROUTE_ERRORS.get(route.errno, "the routing tables answer so")


def connect_advice(journey: Journey, scene: Scene, answer: ConnectPrediction) -> tuple[str, ...]:
    """Return what to do, the most useful first; empty where nothing needs doing."""
    if isinstance(journey.route, NoRoute):
        return (_find_a_way(journey, journey.route),)
    if goes_to_many(journey):
        return ("Give the address of one host.",)
    advice = list(_arrival_advice(journey, scene, answer))
    if journey.source_port:
        return tuple(advice + _own_port_advice(answer))
    if not answer.usable:
        advice.append(
            "Widen net.ipv4.ip_local_port_range, or take ports out of net.ipv4.ip_local_reserved_ports: "
            "it covers the whole range."
        )
    elif not answer.free or (answer.free * 5 < answer.usable and not scene.ports.unknown):
        advice += _make_room(journey, scene, answer)
    if answer.free and answer.bind_first.errno != OK:
        sure = "" if answer.bind_first.certain else "probably "
        advice.append(
            f"A client that calls bind(address, 0) before connect() {sure}fails with EADDRINUSE all the "
            "same: leave bind() out, or set IP_BIND_ADDRESS_NO_PORT before it, so that connect() chooses the "
            "port."
        )
    return tuple(advice)


def _arrival_advice(journey: Journey, scene: Scene, answer: ConnectPrediction) -> Iterator[str]:
    if answer.stage in ("peer", "accepted") and scene.filters.named:
        yield (
            f"Look at {' and '.join(scene.filters.named[:2])} (nft list ruleset, iptables-save): what it "
            "drops ends in ETIMEDOUT, what it rejects in ECONNREFUSED or EHOSTUNREACH at once."
        )
    elif answer.stage == "peer" and not scene.redirects.found and unanswered(scene):
        yield (
            "Find where the packets end: the host may be down, the accept queue of its server full, or a "
            "filter drops them, here, on the way or there. `tcpdoctor check` on that host tells the second."
        )
    if answer.stage == "next-hop":
        yield _mend_the_hop(journey)
    if answer.stage != "listener":
        return
    if not scene.listeners:
        if answer.verdict == "ETIMEDOUT":
            yield (
                "Find what drops the packets (nft list ruleset, iptables-save; rp_filter): with a server "
                "there, too, they would not arrive."
            )
        yield (
            f"Start the server, or let it listen on {journey.destination} as well: "
            f"`{journey.asks(f'explain --port {journey.port}')}` says what is at that port, and whether it "
            "can be bound."
        )
        yield (
            "A server in a container or another network namespace has addresses of its own: look from there "
            "with --netns."
        )
    else:
        yield (
            "See what the server's threads wait for: it does not accept. "
            f"`{journey.asks(f'explain --port {journey.port}')}` names it."
        )


def _own_port_advice(answer: ConnectPrediction) -> list[str]:
    if answer.stage == "port" and answer.verdict != OK:
        return ["Close the connection that has these ends, or give the client another port, or none at all."]
    if answer.stage == "bind":
        return ["Let the kernel choose the port: no bind(), or IP_BIND_ADDRESS_NO_PORT and port 0."]
    return []


def _find_a_way(journey: Journey, route: NoRoute) -> str:
    if route.at_bind and route.errno == "EADDRNOTAVAIL":
        family = "ipv6" if journey.family == 6 else "ipv4"
        return (
            "Give a source address of this host (`ip address` lists them). For one that comes later or "
            f"moves between hosts: IP_FREEBIND in the client, or net.{family}.ip_nonlocal_bind=1."
        )
    if route.errno == "EACCES" and route.at_bind:
        return (
            "Give the client a port from net.ipv4.ip_unprivileged_port_start on, or the capability "
            "CAP_NET_BIND_SERVICE (AmbientCapabilities= in its unit)."
        )
    if route.errno == "EADDRNOTAVAIL" and journey.destination == "::1":
        return (
            "See `ip -6 address show lo`: it has ::1 while lo is up (ip link set lo up) and IPv6 is on there "
            "(sysctl net.ipv6.conf.lo.disable_ipv6 says 0). Or connect to 127.0.0.1."
        )
    if route.errno == "ETIMEDOUT" or journey.destination.startswith(("127.", "::1")):
        return "Put lo up: ip link set lo up. (A fresh network namespace begins with it down.)"
    if route.errno == "EADDRNOTAVAIL":
        return (
            "Connect to an IPv4 address, or give this host (or container) IPv6: "
            "`sysctl net.ipv6.conf.all.disable_ipv6`, `ip -6 address`. A wider port range changes nothing."
        )
    if route.errno == "EPERM":
        return "See `ip xfrm policy`, and what wrote it (strongSwan, Libreswan): no firewall is to blame."
    if route.why is not None:
        return "Name the interface: each has its own link-local addresses."
    source = f" from {journey.source}" if journey.bound and journey.bound == journey.source else ""
    return (
        f"See `ip route get {journey.destination}{source}` and `ip rule`: connect() fails before it looks "
        "for a port."
    )


def connect_avoid(journey: Journey, scene: Scene, answer: ConnectPrediction) -> tuple[str, ...]:
    """Return what is often tried against this and does not help."""
    if answer.verdict == "ETIMEDOUT" and answer.stage == "listener" and scene.listeners:
        return ("A longer backlog or net.core.somaxconn: a server that does not accept fills any queue.",)
    if (
        answer.stage != "port"
        or answer.verdict != "EADDRNOTAVAIL"
        or not answer.usable
        or journey.source_port
    ):
        return ()
    return (
        "Lowering tcp_fin_timeout: TIME_WAIT lasts 60 s whatever it says.",
        "SO_REUSEADDR on the client: it makes connect() find no further port.",
        "Counting all TIME_WAIT of the host: only those towards this one destination matter here.",
    )


def _make_room(journey: Journey, scene: Scene, answer: ConnectPrediction) -> list[str]:
    advice = []
    if answer.lost > _MOSTLY_LOST * answer.usable:
        advice.append(
            f"Close what is bound and not used: `{journey.asks('sockets --state bound')}` and "
            "`--state listen` name the holders. connect() skips such a port whatever the destination and "
            "the source."
        )
    if answer.used_by_state:
        advice.append(
            "Keep connections open and reuse them (a pool, HTTP keep-alive) instead of one for each request."
        )
    waiting = answer.used_by_state.get(TcpState.TIME_WAIT, 0)
    if waiting >= _MOSTLY_TIME_WAIT * max(1, sum(answer.used_by_state.values())):
        advice.append("Let the server close first: the side that closes first keeps the TIME_WAIT.")
        reuse = scene.reuse
        if not isinstance(reuse, Missing) and not reuse.allowed:
            advice.append(
                f"net.ipv4.tcp_tw_reuse=1 (with tcp_timestamps=1) lets connect() take over a TIME_WAIT "
                f"that is {reuse.after:g} s old, if the peer uses timestamps; today: {reuse.why}."
            )
    if answer.used_by_state.get(TcpState.CLOSE_WAIT, 0):
        advice.append(
            "CLOSE_WAIT never ends by itself: the client must close() (explain --state close-wait)."
        )
    others = 0 if scene.ports.unknown else answer.usable - answer.lost
    more = "a wider net.ipv4.ip_local_port_range, which"
    if others:
        more = (
            "a second source address, destination address or destination port each brings "
            f"{others:,}; a wider net.ipv4.ip_local_port_range brings fewer, and"
        )
    advice.append(
        f"More ports: {more} must not cover ports that servers here listen on unless they are in "
        "ip_local_reserved_ports."
    )
    return advice


def _until(answer: ConnectPrediction) -> str:
    if answer.next_free is None:
        gives_up = " or one in SYN_SENT gives up" if TcpState.SYN_SENT in answer.used_by_state else ""
        if not answer.used_by_state:
            return "None becomes free until one of these sockets is closed."
        return f"None becomes free until a connection there is closed{gives_up}."
    return f"The next becomes free in {show(answer.next_free, SECOND)} at the earliest."

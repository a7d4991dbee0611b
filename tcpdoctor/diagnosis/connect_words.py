"""The verdict on connect() in a sentence, what to do, and what not to do."""

from tcpdoctor.diagnosis.bind import OK
from tcpdoctor.diagnosis.connect import ConnectAnswer, Journey, Scene, goes_to_many
from tcpdoctor.facts.dimension import SECOND, show
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.routes import NoRoute
from tcpdoctor.kernel.states import TcpState

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


def connect_verdict(
    journey: Journey, scene: Scene, answer: ConnectAnswer, *, listens: bool | None = None
) -> str:
    """Say in a sentence whether connect() gets a local port, and if not, why and until when.

    Args:
        journey: From where to where.
        scene: What was found.
        answer: The prediction.
        listens: Whether anybody listens there, of a destination on this host; None of others.
    """
    who = f"connect() from {journey.source} to {journey.where}"
    if journey.source is None:
        who = f"connect() to {journey.where}"
    if isinstance(journey.route, NoRoute):
        return f"{who} fails with {answer.verdict}: {_refusal(journey.route)}."
    if goes_to_many(journey):
        return f"{who} fails with {answer.verdict}: TCP connects to no broadcast or multicast address."
    if answer.verdict == OK:
        sure = "" if answer.certain else "probably "
        refused = " But nothing listens there: it is refused (ECONNREFUSED)." if listens is False else ""
        return (
            f"{who} {sure}gets a local port: {answer.free:,} of {answer.usable:,} are free for it.{refused}"
        )
    if not answer.usable:
        return f"{who} fails with EADDRNOTAVAIL: the port range holds no port that is not reserved."
    taken = f"none of the {answer.usable:,} ports {scene.ports.low}-{scene.ports.high} is left"
    held = ", ".join(f"{number:,} {state.name}" for state, number in answer.used_by_state.items())
    because = [f"connections there hold {held}"] if held else []
    because += [f"listeners and sockets placed by bind() have {answer.lost:,}"] if answer.lost else []
    return f"{who} fails with EADDRNOTAVAIL: {taken}: {', '.join(because)}. {_until(answer)}"


def _refusal(route: NoRoute) -> str:
    if route.at_bind:
        return f"bind() to that source does, before any port is sought: {route.why}"
    return route.why or _ROUTE_ERRORS.get(route.errno, "the routing tables answer so")


def connect_advice(journey: Journey, scene: Scene, answer: ConnectAnswer) -> tuple[str, ...]:
    """Return what to do, the most useful first; empty where nothing needs doing."""
    if isinstance(journey.route, NoRoute):
        return (_find_a_way(journey, journey.route),)
    if goes_to_many(journey):
        return ("Give the address of one host.",)
    advice = []
    if not answer.usable:
        advice.append(
            "Widen net.ipv4.ip_local_port_range, or take ports out of net.ipv4.ip_local_reserved_ports: "
            "it covers the whole range."
        )
    elif answer.verdict == "EADDRNOTAVAIL" or answer.free * 5 < answer.usable:
        advice += _make_room(scene, answer)
    if answer.verdict == OK and answer.bind_first != OK:
        advice.append(
            "A client that calls bind(address, 0) before connect() fails with EADDRINUSE all the same: leave "
            "bind() out, or set IP_BIND_ADDRESS_NO_PORT before it, so that connect() chooses the port."
        )
    return tuple(advice)


def _find_a_way(journey: Journey, route: NoRoute) -> str:
    if route.at_bind and route.errno == "EADDRNOTAVAIL":
        family = "ipv6" if journey.family == 6 else "ipv4"
        return (
            "Give a source address of this host (`ip address` lists them). For one that comes later or "
            f"moves between hosts: IP_FREEBIND in the client, or net.{family}.ip_nonlocal_bind=1."
        )
    if route.why is not None:
        return "Name the interface: each has its own link-local addresses."
    source = f" from {journey.source}" if journey.bound_source else ""
    return (
        f"See `ip route get {journey.destination}{source}` and `ip rule`: connect() fails before it looks "
        "for a port."
    )


def connect_avoid(journey: Journey, answer: ConnectAnswer) -> tuple[str, ...]:
    """Return what is often tried against this and does not help."""
    if answer.verdict != "EADDRNOTAVAIL" or isinstance(journey.route, NoRoute) or not answer.usable:
        return ()
    return (
        "Lowering tcp_fin_timeout: TIME_WAIT lasts 60 s whatever it says.",
        "SO_REUSEADDR on the client: it makes connect() find no further port.",
        "Counting all TIME_WAIT of the host: only those towards this one destination matter here.",
    )


def _make_room(scene: Scene, answer: ConnectAnswer) -> list[str]:
    advice = []
    if answer.lost > _MOSTLY_LOST * answer.usable:
        advice.append(
            "Close what is bound and not used: `tcpdoctor sockets --state bound` and `--state listen` name "
            "the holders. connect() skips such a port whatever the destination and the source."
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
    others = answer.usable - answer.lost
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


def _until(answer: ConnectAnswer) -> str:
    if answer.next_free is None:
        gives_up = " or one in SYN_SENT gives up" if TcpState.SYN_SENT in answer.used_by_state else ""
        if not answer.used_by_state:
            return "None becomes free until one of these sockets is closed."
        return f"None becomes free until a connection there is closed{gives_up}."
    return f"The next becomes free in {show(answer.next_free, SECOND)} at the earliest."

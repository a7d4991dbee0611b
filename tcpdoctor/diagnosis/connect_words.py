"""The verdict on connect() in a sentence, what to do, and what not to do."""

from tcpdoctor.diagnosis.bind import OK
from tcpdoctor.diagnosis.connect import ConnectAnswer, Journey, Scene
from tcpdoctor.facts.dimension import SECOND, show
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.routes import NoRoute
from tcpdoctor.kernel.states import TcpState

_ROUTE_ERRORS = {
    "ENETUNREACH": "no route leads there",
    "EHOSTUNREACH": "a route of type unreachable, or the missing gateway, stops it",
    "EACCES": "a route of type prohibit forbids it",
    "EINVAL": "a route of type blackhole, or a source address that cannot go there, stops it",
}
_MOSTLY_TIME_WAIT = 0.5
"""From this share of TIME_WAIT on, who closes first is what matters."""


def connect_verdict(journey: Journey, scene: Scene, answer: ConnectAnswer) -> str:
    """Say in a sentence whether connect() gets a local port, and if not, why and until when."""
    there = f"{_end(journey.destination)}:{journey.port}"
    who = f"connect() from {journey.source} to {there}"
    if answer.verdict in _ROUTE_ERRORS:
        return f"{who} fails with {answer.verdict}: {_ROUTE_ERRORS[answer.verdict]}."
    if answer.verdict == OK:
        sure = "" if answer.certain else "probably "
        return f"{who} {sure}gets a local port: {answer.free:,} of {answer.usable:,} are free for it."
    if isinstance(journey.route, NoRoute):
        return (
            f"{who} fails with {answer.verdict}: bind() to {journey.source} does, before any port is sought."
        )
    if not answer.usable:
        return f"{who} fails with EADDRNOTAVAIL: the port range holds no port that is not reserved."
    taken = f"none of the {answer.usable:,} ports {scene.ports.low}-{scene.ports.high} is left"
    held = ", ".join(f"{number:,} {state.name}" for state, number in answer.used_by_state.items())
    because = [f"connections there hold {held}"] if held else []
    because += [f"listening or bound sockets have {answer.lost:,}"] if answer.lost else []
    return f"{who} fails with EADDRNOTAVAIL: {taken}: {', '.join(because)}. {_until(answer)}"


def connect_advice(journey: Journey, scene: Scene, answer: ConnectAnswer) -> tuple[str, ...]:
    """Return what to do, the most useful first; empty where nothing needs doing."""
    if answer.verdict in _ROUTE_ERRORS:
        return (f"See `ip route get {journey.destination}`: connect() fails before it looks for a port.",)
    advice = []
    if answer.verdict == "EADDRNOTAVAIL" or answer.free * 5 < answer.usable:
        advice += _make_room(scene, answer)
    if answer.verdict == OK and answer.bind_first != OK:
        advice.append(
            "A client that calls bind(address, 0) before connect() fails with EADDRINUSE all the same: leave "
            "bind() out, or set IP_BIND_ADDRESS_NO_PORT before it, so that connect() chooses the port."
        )
    return tuple(advice)


def connect_avoid(answer: ConnectAnswer) -> tuple[str, ...]:
    """Return what is often tried against this and does not help."""
    if answer.verdict != "EADDRNOTAVAIL":
        return ()
    return (
        "Lower tcp_fin_timeout: TIME_WAIT lasts 60 s whatever it says.",
        "SO_REUSEADDR on the client: it makes connect() find no further port.",
        "Count all TIME_WAIT of the host: only those towards this one destination matter here.",
    )


def _make_room(scene: Scene, answer: ConnectAnswer) -> list[str]:
    advice = [
        "Keep connections open and reuse them (a pool, HTTP keep-alive) instead of one for each request."
    ]
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
    advice.append(
        "More ports: a second source address, destination address or destination port each brings "
        f"{answer.usable:,}; a wider net.ipv4.ip_local_port_range brings fewer, and must not cover ports "
        "that servers here listen on unless they are in ip_local_reserved_ports."
    )
    return advice


def _until(answer: ConnectAnswer) -> str:
    if answer.next_free is None:
        return "None becomes free until a connection there is closed."
    return f"The next becomes free in {show(answer.next_free, SECOND)} at the earliest."


def _end(address: str) -> str:
    return f"[{address}]" if ":" in address else address

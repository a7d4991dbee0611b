"""TCP's states and the ways between them, with this host's numbers: a drawing in SVG."""

from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Finding, Severity
from tcpdoctor.facts.subject import Scope
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_html_parts import GROUPS, name_of, text
from tcpdoctor.report.host import StateReadings

_WIDTH, _HEIGHT = 860, 650
_W, _H = 184, 56
"""Of one state's box."""


class _Node(NamedTuple):
    x: int
    y: int
    """The middle of its box."""
    wait: str
    """What a socket in this state waits for."""


_NODES = {
    TcpState.BOUND: _Node(430, 50, "a port, and nothing yet"),
    TcpState.LISTEN: _Node(130, 130, "waits for clients"),
    TcpState.SYN_RECV: _Node(130, 245, "waits for the client's ACK"),
    TcpState.SYN_SENT: _Node(730, 190, "waits for an answer"),
    TcpState.ESTABLISHED: _Node(430, 300, "data both ways"),
    TcpState.FIN_WAIT_1: _Node(190, 400, "waits for the ACK of its FIN"),
    TcpState.CLOSE_WAIT: _Node(700, 400, "waits for its own program"),
    TcpState.FIN_WAIT_2: _Node(130, 515, "waits for the peer's FIN"),
    TcpState.CLOSING: _Node(405, 478, "both closed at once"),
    TcpState.LAST_ACK: _Node(700, 515, "waits for the last ACK"),
    TcpState.TIME_WAIT: _Node(300, 605, "60 s, then gone"),
}


class _Edge(NamedTuple):
    path: str
    x: int
    y: int
    words: str
    anchor: str = "middle"


_EDGES = (
    _Edge("M338 62 C250 70 165 70 143 98", 220, 68, "listen()"),
    _Edge("M522 62 C640 72 720 100 728 158", 652, 82, "connect()"),
    _Edge("M130 158 V213", 140, 190, "SYN arrives", "start"),
    _Edge("M222 250 C290 262 330 270 352 270", 268, 246, "ACK arrives", "start"),
    _Edge("M700 218 C660 262 590 285 526 293", 655, 272, "SYN+ACK arrives", "start"),
    _Edge("M360 328 C320 355 260 355 222 370", 262, 340, "we close first", "end"),
    _Edge("M500 328 C550 355 600 355 652 370", 600, 340, "the peer closes first", "start"),
    _Edge("M165 428 L140 485", 143, 462, "ACK arrives", "end"),
    _Edge("M282 415 C330 420 365 428 385 447", 350, 414, "FIN arrives", "start"),
    _Edge("M150 543 C165 570 180 588 205 596", 168, 584, "FIN arrives", "end"),
    _Edge("M390 506 C380 535 365 555 345 575", 385, 548, "ACK arrives", "start"),
    _Edge("M700 428 V483", 710, 462, "close()", "start"),
    _Edge("M700 543 C700 580 690 598 640 603", 702, 585, "ACK arrives", "start"),
    _Edge("M392 605 H598", 495, 598, "after 60 s"),
)


def machine_svg(readings: StateReadings, findings: tuple[Finding, ...]) -> str:
    """Return the drawing; states that a finding is about are marked with its severity."""
    sick = _sick_states(findings)
    edges = "".join(
        f'<path class="edge" d="{edge.path}" marker-end="url(#arrow)"/>'
        f'<text class="say" x="{edge.x}" y="{edge.y}" text-anchor="{edge.anchor}">{text(edge.words)}</text>'
        for edge in _EDGES
    )
    nodes = "".join(_node(state, readings[state], sick.get(state)) for state in _NODES)
    words = "; ".join(f"{name_of(state)} {_count(readings[state])}" for state in _NODES)
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="State machine">'
        f'<svg class="machine" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="machine-title">'
        f'<title id="machine-title">Sockets in each TCP state: {text(words)}</title>'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>'
        f'{edges}<circle class="end" cx="620" cy="605" r="9"/>'
        f'<text class="why" x="620" y="632" text-anchor="middle">gone</text>{nodes}</svg></div>'
    )


def _node(state: TcpState, reading: Reading[int], severity: Severity | None) -> str:
    node, count = _NODES[state], _count(reading)
    left, top = node.x - _W // 2, node.y - _H // 2
    kinds = [f"c-{GROUPS[state]}", "idle" if reading == 0 else "full"]
    if severity is not None:
        kinds += ["sick", f"is-{severity.key}"]
    return (
        f'<g class="{" ".join(kinds)}">'
        f'<rect class="box" x="{left}" y="{top}" width="{_W}" height="{_H}" rx="10"/>'
        f'<rect class="stripe" x="{left + 9}" y="{top + 11}" width="4" height="{_H - 22}" rx="2"/>'
        f'<text class="name" x="{left + 22}" y="{top + 24}">{text(name_of(state))}</text>'
        f'<text class="why" x="{left + 22}" y="{top + 43}">{text(node.wait)}</text>'
        f'<text class="count" x="{left + _W - 13}" y="{top + 26}">{count}</text></g>'
    )


def _count(reading: Reading[int]) -> str:
    return "?" if isinstance(reading, Missing) else f"{reading:,}"


def _sick_states(findings: tuple[Finding, ...]) -> Mapping[TcpState, Severity]:
    """Return the states that findings above info are about, as far as their evidence names them."""
    sick: dict[TcpState, Severity] = {}
    for finding in findings:
        words = " ".join(item.fact for item in finding.evidence)
        for state in _NODES:
            named = f"{state.key}." in words or f".{state.key}" in words
            listens = state is TcpState.LISTEN and finding.scope is Scope.LISTENER
            if (named or listens) and finding.severity > Severity.INFO:
                sick[state] = max(finding.severity, sick.get(state, Severity.INFO))
    return sick

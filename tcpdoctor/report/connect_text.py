"""`explain --connect` for people: the verdict first, all on one screen."""

from collections.abc import Iterable

from tcpdoctor.answers.connect import ConnectReport
from tcpdoctor.diagnosis.bind import OK
from tcpdoctor.diagnosis.connect import connect_advice, connect_avoid, connect_verdict, goes_to_many
from tcpdoctor.kernel.connect_evidence import NoRoute, Route
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

_SHOWN_HOLDERS = 5
_SHOWN_OTHERS = 3


def connect_text(report: ConnectReport, style: Style) -> str:
    """Return the whole answer: verdict, ports, ways to connect, holders, what to do and what not."""
    journey, scene, answer = report.journey, report.scene, report.answer
    parts = [
        style.bold(style.wrap(connect_verdict(journey, scene, answer, listens=report.listens_here))),
        _others(report, style),
        _ports(report, style),
        _ways(report, style),
        _holders(report, style),
        _list("What to do", connect_advice(journey, scene, answer), style),
        _list("What does not help", connect_avoid(journey, answer), style),
        _list("Not certain, because", answer.doubts, style),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _others(report: ConnectReport, style: Style) -> str:
    others = report.journey.others
    if not others:
        return ""
    shown = ", ".join(others[:_SHOWN_OTHERS])
    more = f" and {len(others) - _SHOWN_OTHERS} more" if len(others) > _SHOWN_OTHERS else ""
    return style.wrap(
        f"The name has other addresses too ({shown}{more}); this is about {report.journey.destination} only."
    )


def _ports(report: ConnectReport, style: Style) -> str:
    scene, answer = report.scene, report.answer
    whole = scene.ports.high - scene.ports.low + 1
    reserved = f", {whole - answer.usable:,} reserved" if whole > answer.usable else ""
    states = ", ".join(f"{number:,} {state.name}" for state, number in answer.used_by_state.items())
    free = f"{answer.free:,}"
    if answer.reusable:
        free += f", {answer.reusable:,} of them by taking over a TIME_WAIT"
    rows = [
        ("range", f"{scene.ports.low}-{scene.ports.high}: {answer.usable:,} usable{reserved}"),
        ("used there", f"{plural(answer.used, 'port')}; sockets: {states or 'none'}"),
        (
            "lost",
            f"{answer.lost:,} to listeners and other sockets placed by bind(), which connect() never shares",
        ),
        ("free", free),
        (
            "TIME_WAIT",
            f"unknown: {scene.reuse.reason}" if isinstance(scene.reuse, Missing) else str(scene.reuse),
        ),
        ("route", _route(report)),
    ]
    if isinstance(report.journey.route, NoRoute) or goes_to_many(report.journey):
        rows = rows[:1]  # the verdict has the rest
    lines = [style.wrap(text, " " * 14, f"  {name:<12}") for name, text in rows]
    return "\n".join([style.bold("Local ports towards this destination"), *lines])


def _route(report: ConnectReport) -> str:
    route = report.journey.route
    if isinstance(route, Missing):
        return f"unknown: {route.reason}"
    if not isinstance(route, Route):
        return f"none: {route.errno}"
    if route.kind == "local":
        listens = {
            True: "something listens there",
            False: "nothing listens there: ECONNREFUSED",
            None: "whether anybody listens there is unknown",
        }
        return f"an address of this host; {listens[report.listens_here]}"
    gateway = f", by way of {route.gateway}" if route.gateway else ""
    return f"through {route.interface or 'an unnamed interface'}{gateway}"


def _ways(report: ConnectReport, style: Style) -> str:
    answer, journey = report.answer, report.journey
    if isinstance(journey.route, NoRoute) or goes_to_many(journey):
        return ""  # every way ends there
    address = journey.source if journey.bound_source else "any"
    plain = answer.verdict + ("" if answer.certain else " (not certain)")
    bind_first = f"bind(): {answer.bind_first}" if answer.bind_first != OK else plain_after_bind(report)
    rows = [] if journey.bound_source else [("connect() alone", plain)]
    rows += [
        ("IP_BIND_ADDRESS_NO_PORT, bind(), connect()", plain),
        (f"bind({address}, 0), then connect()", f"{bind_first}, {answer.bind_first_free:,} ports for it"),
    ]
    lines = [style.wrap(text, " " * 46, f"  {name:<43} ") for name, text in rows]
    return "\n".join(
        [style.bold("How a client asks, and what it gets (predicted; nothing was bound)"), *lines]
    )


def plain_after_bind(report: ConnectReport) -> str:
    """What connect() answers after a bind() that got a port of its own: only the route can stop it."""
    verdict = report.answer.verdict
    return OK if verdict == "EADDRNOTAVAIL" else verdict


def _holders(report: ConnectReport, style: Style) -> str:
    lines = [
        style.wrap(
            f"{holder.name} (pid {holder.pid}, uid {holder.uid}): {plural(number, 'socket')}", "    ", "  "
        )
        for holder, number in list(report.holders.items())[:_SHOWN_HOLDERS]
    ]
    if len(report.holders) > _SHOWN_HOLDERS:
        lines.append(f"  and {len(report.holders) - _SHOWN_HOLDERS} more processes")
    if report.unheld:
        lines.append(f"  no process (TIME_WAIT and orphans): {plural(report.unheld, 'socket')}")
    lines += [
        style.wrap(f"unknown: {plural(number, 'socket')}: {reason}", "    ", "  ")
        for reason, number in report.hidden.items()
    ]
    return "\n".join([style.bold("Who holds the sockets that go there"), *lines]) if lines else ""


def _list(title: str, sentences: Iterable[str], style: Style) -> str:
    lines = [style.wrap(sentence, "    ", "  - ") for sentence in sentences]
    return "\n".join([style.bold(title), *lines]) if lines else ""

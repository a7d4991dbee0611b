"""`explain --connect` for people: the verdict first, then what to do, what not, and who; `--long` has all."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tcpdoctor.answers.connect import ConnectAnswer, OwnPort, SocketsTowards
from tcpdoctor.facts.value import BYTE, SECOND, show
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.report.host import finding_words, plural, who_of
from tcpdoctor.report.page import (
    Block,
    Command,
    Fields,
    Found,
    Inset,
    Item,
    Prose,
    Section,
    Verdict,
    labelled,
    listed,
)
from tcpdoctor.report.style import Style

if TYPE_CHECKING:
    from tcpdoctor.answers.process import StateGroup

_SHOWN_HOLDERS, _SHOWN_OTHERS, _SHOWN_LISTENERS = 5, 3, 3
_LABEL, _NAMED_RULES = 6, 3
_WORDS = {
    "bind": "NO BIND",
    "route": "NO ROUTE",
    "port": "NO PORT",
    "next-hop": "NO NEXT HOP",
    "ECONNREFUSED": "REFUSED",
    "ETIMEDOUT": "NO ANSWER",
}


def connect_page(answer: ConnectAnswer, style: Style, *, long: bool) -> list[Block]:
    """Return the short form, or all: verdict, ports, ways to connect, holders, what to do and what not."""
    verdict = Verdict(_word(answer), answer.summary)
    return [verdict, *(_long(answer, style) if long else _short(answer, style))]


def _long(answer: ConnectAnswer, style: Style) -> list[Block]:
    return [
        Section("", (Prose(_others(answer)),)),
        *listed("What to do", answer.advice),
        *listed("What does not help", answer.does_not_help),
        _ports(answer),
        *_ways(answer),
        *listed("What is there", _there(answer)),
        *listed("Who holds the sockets that go there", _holders(answer)),
        *_findings(answer, style),
        *listed("Not certain, because", answer.doubts),
        *listed("What was not looked at", [answer.not_looked] if answer.not_looked else ()),
    ]


def _word(answer: ConnectAnswer) -> str:
    if answer.connect.verdict == "ok":
        if any(found.severity != "info" for found in answer.findings) or _is_unanswered(answer):
            return "OK, BUT"
        return "OK" if answer.connect.certain else "NOT CERTAIN"
    return _WORDS.get(answer.connect.verdict) or _WORDS.get(answer.connect.stage, "NO")


def _is_unanswered(answer: ConnectAnswer) -> bool:
    return any(
        group.state is TcpState.SYN_SENT and isinstance(group.unanswered, int) and group.unanswered
        for group in answer.sockets
    )


def _short(answer: ConnectAnswer, style: Style) -> list[Block]:
    """The most useful of each kind, a label before it."""
    rows = labelled("now", _there(answer))
    rows += [("do", answer.advice[0])] if answer.advice else []
    rows += [("not", answer.does_not_help[0])] if answer.does_not_help else []
    rows += [("who", ", ".join(_holders(answer)[:_SHOWN_OTHERS]))] if _holders(answer) else []
    rows += [("but", doubt) for doubt in answer.doubts[:1]]
    rows += [("rules", f"not looked: {answer.not_looked}")] if answer.not_looked else []
    found: list[Block] = [
        told_briefly(one.severity, finding_words(one), one.rule, style) for one in answer.findings
    ]
    more = [f"{plural(len(answer.advice) - 1, 'more way')} out"] if len(answer.advice) > 1 else []
    last = ("more", f"--long: {', '.join(['ports, route, ways to bind', *more])}")
    unanswered = map(Prose, _unanswered(answer, style, long=False))
    return [Inset((Fields(tuple(rows), _LABEL), *found, *unanswered, Fields((last,), _LABEL)))]


def _there(answer: ConnectAnswer) -> list[str]:
    """Sockets towards the destination, and the listeners that it leads to, a sentence each."""
    found = [_socket_words(group) for group in answer.sockets]
    listeners = answer.listeners[:_SHOWN_LISTENERS]
    for one in listeners:
        length, limit = (
            "unknown" if isinstance(number, Missing) else f"{number:,}"
            for number in (one.accept_queue, one.accept_limit)
        )
        whose = "held by a process that is hidden from us" if one.name is None else f"{one.name} ({one.pid})"
        found.append(f"{one.local}: {whose}, accept queue {length} of {limit}")
    if len(answer.listeners) > len(listeners):
        found.append(f"and {len(answer.listeners) - len(listeners)} more listeners")
    return found


def _socket_words(group: SocketsTowards) -> str:
    oldest = [f"the oldest for at least {show(group.oldest_s, SECOND)}"] if group.oldest_s else []
    return ", ".join([f"{group.sockets:,} {group.state.name}", *oldest, *waiting_words(group)])


def waiting_words(group: "SocketsTowards | StateGroup") -> Iterator[str]:
    """Say what the sockets of a group wait for: answers, and who reads."""
    if group.unanswered and not isinstance(group.unanswered, Missing):
        yield unanswered_words(group.unanswered, group.unanswered_s)
    if group.unacknowledged_bytes and not isinstance(group.unacknowledged_bytes, Missing):
        yield f"{show(group.unacknowledged_bytes, BYTE)} not acknowledged"
    if group.unread_bytes and not isinstance(group.unread_bytes, Missing):
        yield f"{show(group.unread_bytes, BYTE)} not read by the process"


def unanswered_words(sockets: int, seconds: float | None) -> str:
    """Say of how many sockets something is sent again, and since when at least."""
    since = f" for at least {show(seconds, SECOND)}" if seconds else ""
    return f"{sockets:,} sent again without an answer{since}"


def _others(answer: ConnectAnswer) -> str:
    others = answer.other_addresses
    if not others:
        return ""
    shown = name_a_few(others, _SHOWN_OTHERS)
    return f"The name has other addresses too ({shown}); this is about {answer.destination} only."


def _ports(answer: ConnectAnswer) -> Section:
    ports = answer.connect
    states = ", ".join(f"{number:,} {state.upper()}" for state, number in ports.used_by_state.items())
    free = _number(ports.free)
    if ports.time_wait_reusable and not isinstance(ports.time_wait_reusable, Missing):
        free += f", {ports.time_wait_reusable:,} of them by taking over a TIME_WAIT"
    rows = [
        ("range", _range(answer)),
        ("used there", f"{_number(ports.used, 'port')}; sockets: {states or 'none'}"),
        (
            "lost",
            f"{_number(ports.lost_to_bound_sockets)} to listeners and others placed by bind(), never shared",
        ),
        ("free", free),
        ("TIME_WAIT", answer.time_wait),
        ("route", _route(answer)),
    ]
    if _ends_early(answer):
        rows = rows[:1]  # the verdict has the rest
    return Section("Local ports towards this destination", (Fields(tuple(rows)),))


def _range(answer: ConnectAnswer) -> str:
    usable = answer.connect.usable_ports
    if isinstance(answer.range, Missing) or isinstance(usable, Missing):
        return _number(usable)
    low, high = answer.range
    reserved = high - low + 1 - usable
    return f"{low}-{high}: {usable:,} usable{f', {reserved:,} reserved' if reserved else ''}"


def _number(count: Reading[int], noun: str = "") -> str:
    if isinstance(count, Missing):
        return "not known"
    return plural(count, noun) if noun else f"{count:,}"


def _ends_early(answer: ConnectAnswer) -> bool:
    """Whether the verdict falls before any port is sought."""
    return answer.connect.stage == "route" or (answer.connect.stage == "bind" and answer.source_port is None)


def _route(answer: ConnectAnswer) -> str:
    route = answer.route
    if isinstance(route, Missing):
        return f"unknown: {route.reason}"
    if route.error is not None:
        return f"none: {route.error}"
    if route.kind == "local":
        listens = {
            True: "something listens there",
            False: "nothing listens there",
            None: "whether anybody listens there is unknown",
        }
        return f"an address of this host; {listens[answer.listens_here]}"
    gateway = f", by way of {route.gateway}" if route.gateway else ""
    return f"through {route.interface or 'an unnamed interface'}{gateway}"


def _ways(answer: ConnectAnswer) -> list[Section]:
    if _ends_early(answer):
        return []  # every way ends there
    first = answer.bind_then_connect
    if first.attempts:
        title = f"From port {answer.source_port}: what is set before bind(), and what the client gets"
        rows = [(" and ".join(one.options) or "nothing", _attempt(one)) for one in first.attempts]
    else:
        title = "How a client asks, and what it gets (predicted; nothing was bound)"
        rows = _ways_without_port(answer)
    return [Section(title, (Fields(tuple(rows)),))]


def _attempt(one: OwnPort) -> str:
    sure = "" if one.certain else " (not certain)"
    if one.connect is None:
        return f"bind(): {one.bind}{sure}"
    return f"{one.connect}{sure}"


def _ways_without_port(answer: ConnectAnswer) -> list[tuple[str, str]]:
    bound = None if isinstance(answer.source, Missing) else answer.source
    plain = answer.connect.verdict + ("" if answer.connect.certain else " (not certain)")
    first = answer.bind_then_connect
    rows = [
        ("connect() alone", plain),
        ("IP_BIND_ADDRESS_NO_PORT, bind(), connect()", plain),
    ]
    sure = "" if first.certain else " (not certain)"
    what = f"bind(): {first.bind}{sure}"
    if first.bind == "ok":  # a port of its own: only what comes after the search for ports can stop it
        what = ("ok" if answer.connect.verdict == "EADDRNOTAVAIL" else answer.connect.verdict) + sure
    ports = (
        "how many ports for it is not known"
        if isinstance(first.free, Missing)
        else f"{first.free:,} ports for it"
    )
    rows.append((f"bind({bound or 'any'}, 0), then connect()", f"{what}, {ports}"))
    return rows


def _holders(answer: ConnectAnswer) -> list[str]:
    lines = [
        f"{owner.name} ({who_of(owner.pid, owner.uid)}): {plural(owner.sockets, 'socket')}"
        for owner in answer.owners[:_SHOWN_HOLDERS]
    ]
    if len(answer.owners) > _SHOWN_HOLDERS:
        lines.append(f"and {len(answer.owners) - _SHOWN_HOLDERS} more processes")
    if answer.held_by_no_process:
        lines.append(f"no process (TIME_WAIT and orphans): {plural(answer.held_by_no_process, 'socket')}")
    if "owners" in answer.missing:
        lines.append(f"unknown: {answer.missing['owners']}")
    return lines


def _findings(answer: ConnectAnswer, style: Style) -> list[Section]:
    found = ((each.severity, each.summary, each.rule) for each in answer.findings)
    blocks = finding_items(found, style)
    blocks += [Prose(said) for said in _unanswered(answer, style, long=True)]
    return [Section("What tcpdoctor check finds", tuple(blocks))] if blocks else []


def _unanswered(answer: ConnectAnswer, style: Style, *, long: bool) -> list[str]:
    return unanswered_rules([rule.rule for rule in answer.unchecked], style, long=long)


def finding_items(findings: Iterable[tuple[str, str, str]], style: Style) -> list[Block]:
    """Return findings (severity, words, rule) as the long form of an explanation shows them."""
    return [
        Item(
            words,
            severity=severity,
            blocks=(Command((style.asks(f"tcpdoctor check {rule}"),), close=True),),
        )
        for severity, words, rule in findings
    ]


def told_briefly(severity: str, text: str, rule: str, style: Style) -> Found:
    """Return a finding as the short form of an explanation shows it."""
    return Found(severity, text, style.asks(f"tcpdoctor check {rule}"))


def unanswered_rules(rules: Sequence[str], style: Style, *, long: bool) -> list[str]:
    """Say which rules could not be answered, or how many, and where the reasons are; empty where all were."""
    if not rules:
        return []
    which = ", ".join(rules) if long or len(rules) <= _NAMED_RULES else f"{len(rules)} rules"
    return [f"Not answered: {which}; why: `{style.asks('tcpdoctor check --unanswered')}`"]

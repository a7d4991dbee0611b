"""`explain --port` for people: what to do in a dozen lines, or all that is known."""

from collections import Counter
from collections.abc import Sequence

from tcpdoctor.answers.blocker import Blocker, OtherEnd, SocketHolder
from tcpdoctor.answers.finding import ToldFinding
from tcpdoctor.answers.port import Bind, ListenerHere, PortAnswer, ToldAttempt, blockers_in_words
from tcpdoctor.facts.value import show_wait
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import beginning_of
from tcpdoctor.report.host import finding_words, known_numbers
from tcpdoctor.report.page import (
    Block,
    Entries,
    Fields,
    Found,
    Inset,
    Item,
    Prose,
    Row,
    Said,
    Section,
    Table,
    Verdict,
    labelled,
    listed,
    typed,
)
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column
from tcpdoctor.report.trace_text import trace_sentences

SHOWN_BLOCKERS = 4
SHOWN_LISTENERS = 4
SHOWN_FINDINGS = 3
_COMMAND = 60
_LABEL = 6
"""Columns of the labels in the short form."""
_UNITS = 3
_GROUPS = 3
"""Kinds of blockers in the short form."""
_REFUSALS = {"EACCES": "DENIED", "EADDRNOTAVAIL": "NOT HERE"}
"""What is said where it is no other socket that stops a bind(): nothing is busy then."""
_COLORS = {"free": "ok", "busy": "critical", "partly": "warning", "unknown": "unknown"}
_SWITCHES = ("SO_REUSEADDR", "SO_REUSEPORT", "IPV6_V6ONLY", "SO_KEEPALIVE", "TCP_DEFER_ACCEPT")


def port_page(answer: PortAnswer, style: Style, *, long: bool) -> list[Block]:
    """Return the answer that somebody woken at three can use, or all of it."""
    return _long(answer, style) if long else _short(answer, style)


def _short(answer: PortAnswer, style: Style) -> list[Block]:
    """The verdict first, then now, do, not, who."""
    busy = _first_busy(answer)
    rows: list[Row] = []
    if answer.waited_s is not None:
        rows.append(("wait", f"{answer.waited_s:.1f} s, {_what_came_of_it(answer)}"))
    if busy is not None:
        on = f"on {busy.address}: " if answer.verdict == "partly" else ""
        rows += [(key, on + text) for key, text in _now(busy, style)]
    rows += labelled("do", answer.advice[:2])
    rows += [("not", text) for text in answer.wrong_advice[:1]]
    rows += [] if busy is None else labelled("who", _who(busy, answer))
    rows += labelled("udp", _udp(answer))
    found = answer.findings[:SHOWN_FINDINGS]
    rows += labelled("check", [line for one in found for line in _finding_lines(one, answer.port, style)])
    rows += labelled("fix", [typed([one], style) for one in _by_settings(answer, style)])
    if answer.verdict == "free":
        if isinstance(answer.redirects, Missing):
            rows.append(("rules", f"of nft and iptables: {answer.redirects.reason}"))
        rows += labelled("units", _programs(answer)[:_UNITS])
        rows.append(("else", _ELSE))
    if answer.trace is not None:
        rows += labelled("trace", trace_sentences(answer.trace)[:_TRACED])
    rows.append(("more", "--long: all four combinations of options, every socket"))
    return [_verdict(answer), Inset((Fields(tuple(rows), _LABEL),))]


def _verdict(answer: PortAnswer) -> Verdict:
    busy, word = _first_busy(answer), answer.verdict.upper()
    if word == "BUSY" and busy is not None and busy.obstacle is not None:
        word = _REFUSALS.get(busy.attempts[0].bind, "CANNOT")
    return Verdict(word, answer.summary, _COLORS[answer.verdict])


_TRACED = 6
"""Sentences of a trace in the short form."""


def _finding_lines(finding: ToldFinding, port: int, style: Style) -> list[Said]:
    """What is found with its numbers, and the command that tells the whole of it."""
    whole = typed([style.asks(f"tcpdoctor check {finding.rule}")], style)
    return [f"{finding.severity.upper()} {finding_words(finding, port)}", whole]


_ELSE = (
    "a server that cannot bind it runs in another network namespace (--netns), as another user (--user), "
    "asks for another address (--address), or came a moment before: --wait looks until it is free"
)


def _programs(answer: PortAnswer) -> list[str]:
    """Which units may be refused the port by programs of eBPF, a sentence each, or that nobody looked."""
    if isinstance(answer.programs, Missing):
        return [f"that programs of eBPF refuse the port to: {answer.programs.reason}"]
    return [
        f"programs of eBPF decide over bind() of {one.group} and may refuse it the port"
        + (f": {one.command}" if one.command else "")
        for one in answer.programs
    ]


def _what_came_of_it(answer: PortAnswer) -> str:
    return "then it was free" if answer.verdict == "free" else "and it was not free"


def _first_busy(answer: PortAnswer) -> Bind | None:
    """The first address that a bind() without options does not get, or may not."""
    asked = [one for one in (answer.bind, answer.bind_ipv6) if isinstance(one, Bind)]
    return next((one for one in asked if one.verdict != "free"), None)


def _now(bind: Bind, style: Style) -> list[tuple[str, str]]:
    """What a start that is made at this moment meets, and one that waits."""
    plain, reuseaddr, reuseport, _ = bind.attempts
    if bind.obstacle is not None:
        return [("now", f"{plain.bind}, whatever options are set")]
    rows = []
    if not reuseaddr.fails:
        rows.append(("with SO_REUSEADDR", _likely(reuseaddr, style)))
    if reuseport.bind == "ok" and reuseport.certain:
        rows.append(("with SO_REUSEPORT", f"at once, as uid {bind.uid}"))
    if bind.free_in_s is not None:
        by = f", at {bind.free_at.clock}" if bind.free_at else ""
        least = " at the earliest" if bind.by_cause.keys() - {"time-wait"} else ""
        rows.append(("without", f"in {show_wait(bind.free_in_s)}{least}{by}, by itself"))
    elif plain.bind != "ok":
        held = any(one.holders or one.owner_missing or one.not_accepted for one in bind.blockers)
        until = "until its holder lets go" if held else "until the kernel ends it; when, nothing here tells"
        if held and all(one.state == "syn_recv" and one.began_here is False for one in bind.blockers):
            until += ", or it is given up"
        rows.append(("without" if rows else "any options", f"{plain.bind} {until}"))
    return [("" if number else "now", f"{what:<21}{text}") for number, (what, text) in enumerate(rows)]


def _likely(attempt: ToldAttempt, style: Style) -> str:
    if attempt.certain:
        return "at once"
    asks = "" if style.recorded else "; --probe asks"
    if attempt.bind == "ok":
        return f"probably at once (the others had it{asks})"
    return f"perhaps at once (most servers set it{asks})"


def _who(bind: Bind, answer: PortAnswer) -> list[str]:
    """Blockers that are alike on a line, listeners first, then the largest groups."""
    groups: dict[tuple[str, str, str, str], list[Blocker]] = {}
    for one in bind.blockers:
        groups.setdefault((one.state, one.local, _holder_of(one, answer), _special(one)), []).append(one)
    ordered = sorted(groups.items(), key=lambda group: (group[0][0] != "listen", -len(group[1])))
    numbers = _numbers([(key[0], len(alike)) for key, alike in ordered], bind, answer)
    lines: list[str] = []
    told = {ordered[0][0][2]} if ordered and _is_advised(bind, ordered[0][1][0]) else set()
    for ((state, local, holder, special), alike), number in list(zip(ordered, numbers, strict=True))[
        :_GROUPS
    ]:
        ends = _remote(alike) if number == len(alike) else ""
        command = "" if holder in told else _command_of(alike[0])
        told.add(holder)
        lines.append(f"{number:,} {state.upper()} {local}{ends}, {holder}{command}{special}")
    shown = sum(numbers[:_GROUPS])
    if bind.blockers_total > shown:
        lines.append(f"and {bind.blockers_total - shown:,} more ({blockers_in_words(bind)} in all)")
    return lines


def _is_advised(bind: Bind, first: Blocker) -> bool:
    """Whether the advice is to end the holder: it tells the command line then."""
    is_listener = bind.cause in ("listener", "dual-stack-listener") and first.state == "listen"
    is_client = bind.cause == "outgoing-connection"
    return (
        (is_listener or is_client)
        and first.stop is not None
        and bool(first.stop.commands and first.stop.command)
    )


def _numbers(listed: Sequence[tuple[str, int]], bind: Bind, answer: PortAnswer) -> list[int]:
    """How many sockets each kind has, those that are not listed too where they can be of no other."""
    if len(listed) == 1:
        return [bind.blockers_total]
    here = {state: number for state, number in answer.states._asdict().items() if isinstance(number, int)}
    if sum(here.values()) != bind.blockers_total:
        return [number for _, number in listed]
    kinds = Counter(state for state, _ in listed)
    return [here[state] if kinds[state] == 1 else number for state, number in listed]


def _remote(alike: Sequence[Blocker]) -> str:
    """The other ends: one, or the first and the last port of one address, or how many."""
    remotes = sorted({one.remote_end for one in alike if one.remote_end is not None})
    if not remotes:
        return ""
    arrow = "->" if alike[0].began_here else "<-"
    if len(remotes) == 1:
        return f" {arrow} {remotes[0]}"
    hosts = {end.address for end in remotes}
    if len(hosts) > 1:
        return f" {arrow} {len(hosts)} hosts"
    return f" {arrow} {remotes[0]}..{remotes[-1].port}"


def _holder_of(one: Blocker, answer: PortAnswer) -> str:
    if one.state == "time_wait":
        return "closed here first"
    if not one.holders:
        return _unheld(one)
    holder = one.holders[0]
    parts = [f"{holder.name} ({holder.pid})", *_place(holder)]
    if holder.started_at:
        began = holder.started_at
        parts.append(f"since {began.clock if began.day == answer.taken_at.day else began.day}")
    if len(one.holders) > 1:
        parts.append(f"and {len(one.holders) - 1} more")
    return ", ".join(parts)


def _command_of(one: Blocker) -> str:
    """The command line of its holder, for the end of a line."""
    command = one.holders[0].command if one.state != "time_wait" and one.holders else None
    return f": {beginning_of(command, _COMMAND)}" if command else ""


def _special(one: Blocker) -> str:
    """What is unusual about the socket and decides: its device, and a uid that is not its process's."""
    holder = one.holders[0] if one.holders else None
    other = holder is not None and one.uid is not None and _differs(one.uid, holder)
    return f"; the socket is uid {one.uid}'s" if other else ""


def _differs(uid: int, holder: SocketHolder) -> bool:
    """Whether a socket's uid is known to be another than its process's."""
    return not isinstance(holder.uid, Missing) and holder.uid != uid


def _udp(answer: PortAnswer) -> list[str]:
    """Who has the port in the other protocol."""
    if answer.protocol == "udp":
        return []
    if isinstance(answer.udp_holders, Missing):
        return [f"not known: {answer.udp_holders.reason}"]
    if not answer.udp_holders:
        return [] if answer.verdict == "free" else ["free"]  # then the first line says so
    taken = [
        f"taken: {one.local}, {_holder_of(one, answer)}{_command_of(one)}" for one in answer.udp_holders[:2]
    ]
    more = len(answer.udp_holders) - len(taken)
    return [*taken, f"and {more} more"] if more else taken


# The long form.


def _long(answer: PortAnswer, style: Style) -> list[Block]:
    """Verdict, attempts, holders, what goes on, what to do and what not."""
    asked = [one for one in (answer.bind, answer.bind_ipv6) if isinstance(one, Bind)]
    unread = (answer.redirects.reason,) if isinstance(answer.redirects, Missing) else ()
    return [
        _verdict(answer),
        *(Prose(one.says, apart=True) for one in asked),
        *listed("What to do", answer.advice),
        *listed("What does not help", answer.wrong_advice),
        *(_attempts(one, answer, style) for one in asked),
        *(section for one in asked[: 1 if _alike(asked) else 2] for section in _blockers(one)),
        *_udp_holders(answer),
        *_traffic(answer),
        *(listed("What ended there", trace_sentences(answer.trace)) if answer.trace is not None else ()),
        *_findings(answer, style),
        *listed("Not certain, because", answer.doubts),
        *listed("Rules of nft and iptables that lead the port elsewhere", unread),
        *listed("Units whose programs of eBPF decide over bind()", _programs(answer)),
    ]


def _alike(asked: Sequence[Bind]) -> bool:
    """Whether the same sockets stand in the way of both addresses."""
    return len(asked) == 2 and asked[0].blockers == asked[1].blockers


def _attempts(bind: Bind, answer: PortAnswer, style: Style) -> Section:
    how = "predicted" if style.recorded else "predicted; --probe asks the kernel"
    if bind.probed:
        how = "bind() probed, listen() predicted"
        if bind.listen_probed:
            how = "bind() and listen() probed"
        elif answer.protocol == "udp":
            how = "bind() probed"
    device = f" on {answer.device}" if answer.device else ""
    where = f"{bind.address}{device} {answer.protocol} port {answer.port}"
    title = f"A server of uid {bind.uid} on {where} ({how})"
    rows = [_attempt(attempt) for attempt in bind.attempts]
    if len({row[1:] for row in rows}) == 1:
        rows = [("none, or any", *rows[0][1:])]
    columns = tuple(Column(name) for name in ("SOCKET OPTIONS", "BIND()", "LISTEN()", "NOTE"))
    return Section(title, (Table(columns, tuple(rows)),))


def _attempt(attempt: ToldAttempt) -> tuple[str, str, str, str]:
    name = " + ".join(attempt.options) or "none"
    return name, attempt.bind, attempt.listen or "-", _note(attempt)


def _note(attempt: ToldAttempt) -> str:
    if attempt.certain:
        return ""
    return "fails for sure, perhaps with another errno" if attempt.fails else "not certain"


def _blockers(bind: Bind) -> list[Section]:
    if not bind.blockers:
        return []
    more = ", those that stay longest" if bind.blockers_total > SHOWN_BLOCKERS else ""
    title = f"Who holds {bind.address} ({_count(bind.blockers_total, 'socket')}{more})"
    shown = bind.blockers[:SHOWN_BLOCKERS]
    blocks: list[Block] = [Entries(tuple(_blocker(one, first=not place) for place, one in enumerate(shown)))]
    rest = bind.blockers_total - len(shown)
    if rest > 0:
        kinds = blockers_in_words(bind)
        blocks.append(Prose(f"... and {rest} more ({kinds} in all); --format json lists 20"))
    return [Section(title, tuple(blocks))]


def _blocker(one: Blocker, *, first: bool) -> Item:
    ends = one.local if one.remote is None else f"{one.local} -> {one.remote}"
    parts = [f"{one.state.upper()} {ends}"]
    if one.holders:
        parts += [_name_holder(holder) for holder in one.holders[:2]]
        if len(one.holders) > 2:
            parts.append(_count(len(one.holders) - 2, "more process", "more processes"))
    else:
        parts.append(_unheld(one))
    if one.uid is not None and any(_differs(one.uid, holder) for holder in one.holders[:1]):
        parts.append(f"the socket's uid is {one.uid}")
    if one.device is not None:
        parts.append(f"bound to {one.device}")
    parts += _end(one)
    flags = (("SO_REUSEADDR", one.reuseaddr), ("SO_REUSEPORT", one.reuseport))
    parts += [name for name, value in flags if value]
    below = [Item(one.why)] if first else []
    below += [] if one.peer is None else [Item(_peer(one.peer))]
    return Item("; ".join(parts), blocks=(Entries(tuple(below), deeper=2),) if below else ())


def _name_holder(holder: SocketHolder) -> str:
    """Name a holder: ``pid 811 nginx, fd 6, uid 33, nginx.service``."""
    return ", ".join(
        [
            f"pid {holder.pid} {holder.name}",
            *known_numbers(("fd", holder.fd), ("uid", holder.uid)),
            *_place(holder),
        ]
    )


def _place(holder: SocketHolder) -> list[str]:
    """Where it runs, as far as it is known: its unit, or its container with whatever unit is inside."""
    if holder.place is not None:
        return [holder.place.says] if holder.place.says else []
    if holder.container:
        return [f"container {holder.container[:12]}"]
    return [holder.unit] if holder.unit else []


def _unheld(one: Blocker | OtherEnd) -> str:
    if one.owner_missing:
        return "holder hidden"
    return "not accepted yet" if one.not_accepted else "held by no process"


def _end(one: Blocker) -> list[str]:
    if one.expires_s is None or one.expires_at_most_s is None:
        return []
    if one.expires_s == one.expires_at_most_s:
        return [f"{show_wait(one.expires_s)} left"]
    return [f"{show_wait(one.expires_s)} to {show_wait(one.expires_at_most_s)} left unless its peer answers"]


def _peer(peer: OtherEnd) -> str:
    holder = peer.owner
    held = f"held by pid {holder.pid} {holder.name}, fd {holder.fd}" if holder else _unheld(peer)
    return f"its peer {peer.local} is in {peer.state.upper()}, {held}"


def _udp_holders(answer: PortAnswer) -> list[Section]:
    if answer.protocol == "udp":
        return []
    if isinstance(answer.udp_holders, Missing):
        return [Section("UDP", (Prose(f"not known: {answer.udp_holders.reason}"),))]
    if not answer.udp_holders:
        return [Section("UDP", (Prose("the port is free; --udp predicts a bind() there"),))]
    items = [_blocker(one, first=False) for one in answer.udp_holders[:SHOWN_BLOCKERS]]
    rest = len(answer.udp_holders) - SHOWN_BLOCKERS
    items += [Item(f"... and {rest} more")] if rest > 0 else []
    said = Prose("They do not stop a TCP server; --udp predicts a bind() there.")
    return [Section("UDP", (Entries(tuple(items)), said))]


def _traffic(answer: PortAnswer) -> list[Section]:
    asked = [one for one in (answer.bind, answer.bind_ipv6) if isinstance(one, Bind)]
    introduced = {(one.local, one.uid) for bind in asked for one in bind.blockers[:SHOWN_BLOCKERS]}
    listeners = () if isinstance(answer.listeners, Missing) else answer.listeners
    if not listeners and answer.as_local == 0 and answer.as_remote == 0:
        return []
    lines = [_listener(row, known=(row.local, row.uid) in introduced) for row in listeners[:SHOWN_LISTENERS]]
    if len(listeners) > SHOWN_LISTENERS:
        lines.append(f"... and {len(listeners) - SHOWN_LISTENERS} more listeners")
    lines.append(f"as local port: {_states(answer)}; {_as_remote(answer)}")
    return [Section("At this port", (Entries(tuple(map(Item, lines))),))]


def _listener(row: ListenerHere, *, known: bool) -> str:
    limit = "an unknown limit" if isinstance(row.accept_limit, Missing) else str(row.accept_limit)
    length = "of unknown length" if isinstance(row.accept_queue, Missing) else row.accept_queue
    text = f"listening on {row.local}: accept queue {length} of {limit}"
    if not isinstance(row.drops, Missing) and row.drops:
        text += f", {row.drops} dropped in its life"
    if row.owner is not None and not known:
        text += f"; {_name_holder(row.owner)}"
    options = row.options or {}
    return text + "".join(f"; {name}" for name in _SWITCHES if options.get(name))


def _states(answer: PortAnswer) -> str:
    counts = {key.upper(): number for key, number in answer.states._asdict().items() if key != "listen"}
    known = [f"{number} {key}" for key, number in counts.items() if isinstance(number, int) and number]
    reasons = {number.reason for number in counts.values() if isinstance(number, Missing)}
    if reasons and not known:
        return f"unknown ({'; '.join(sorted(reasons))})"
    return ", ".join(known) or "none"


def _as_remote(answer: PortAnswer) -> str:
    if isinstance(answer.as_remote, Missing):
        return f"as remote port: unknown ({answer.as_remote.reason})"
    return f"as remote port: {answer.as_remote or 'none'}"


def _findings(answer: PortAnswer, style: Style) -> list[Section]:
    if not answer.findings:
        return []
    blocks: list[Block] = [
        Found(one.severity, f"{one.subject['label']}: {one.title}")
        for one in answer.findings[:SHOWN_FINDINGS]
    ]
    if len(answer.findings) > SHOWN_FINDINGS:
        blocks.append(Prose(f"... and {len(answer.findings) - SHOWN_FINDINGS} more"))
    more = style.asks(f"tcpdoctor explain --rule {answer.findings[0].rule}")
    blocks += [Prose(f"By a setting that undoes itself: {line}") for line in _by_settings(answer, style)]
    blocks.append(Prose(f"More: {more}", faint=True))
    return [Section("What tcpdoctor check finds here", tuple(blocks))]


def _by_settings(answer: PortAnswer, style: Style) -> list[str]:
    """The command that plans the settings which findings at this port ask for, where any does."""
    rules = dict.fromkeys(
        one.rule for one in answer.findings if any(fix.sysctl is not None for fix in one.fixes)
    )
    return [style.asks(f"tcpdoctor fix {' '.join(rules)}")] if rules else []


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"one {one}" if number == 1 else f"{number} {many or one + 's'}"

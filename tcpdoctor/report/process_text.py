"""`explain --pid` for people: who it is, what it holds and what is wrong; `--long` has all."""

from collections.abc import Iterable, Mapping, Sequence

from tcpdoctor.answers.process import DeadGroup, Holdings, OptionGroup, PeerGroup, ProcessAnswer, StateGroup
from tcpdoctor.diagnosis.finding import Diagnosis, Severity
from tcpdoctor.facts.dimension import BYTE, SECOND, show
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.report.connect_text import finding_items, finding_lines, unanswered_rules, unanswered_words
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Prose, Section, page_text
from tcpdoctor.report.sockets_text import age_words, option_words, queue_words
from tcpdoctor.report.style import Style

_SHOWN, _SHOWN_OPTIONS, _SHOWN_SHORTLY = 5, 8, 3
_COMMAND = 200
"""Characters of the command line that are shown; --format json has more."""
_USUAL: Mapping[str, OptionValue] = {
    "SO_REUSEPORT": False,
    "TCP_LINGER2": 60,
    "TCP_DEFER_ACCEPT": 0,
    "IP_BIND_ADDRESS_NO_PORT": False,
}
"""Values that nobody set; others are worth a word."""
_ONLY_WITH_KEEPALIVE = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
_LABEL = 6


def processes_text(answers: Sequence[ProcessAnswer], style: Style, *, long: bool) -> str:
    """Return the answers one behind the other, each short or whole; of many a line for the rest."""
    shown = answers if long else answers[:_SHOWN]
    parts = [_process_text(answer, style, long=long) for answer in shown]
    rest = [style.wrap(f"{_word(answer)}  {_headline(answer)}") for answer in answers[len(shown) :]]
    return "\n".join([*parts, *(["\n".join(rest) + "\n"] if rest else [])])


def _process_text(answer: ProcessAnswer, style: Style, *, long: bool) -> str:
    head = style.bold(style.wrap(f"{_word(answer)}  {_headline(answer)}"))
    if not long:
        return "\n".join([head, *_short_lines(answer, style)]) + "\n"
    parts = [head, _identity(answer, style)]
    if not isinstance(answer.holdings, Missing):
        parts += [
            _states(answer.holdings, style),
            _listeners(answer.holdings, style),
            _peers(answer.holdings, style),
            _options(answer.holdings, style),
        ]
    parts.append(_findings(answer, style))
    return "\n\n".join(part for part in parts if part) + "\n"


def _word(answer: ProcessAnswer) -> str:
    """The verdict: the worst severity, or that nothing is known to be wrong, or that it cannot be seen."""
    if isinstance(answer.diagnosis, Missing):
        return "HIDDEN"
    worst = max((found.severity for found in answer.diagnosis.findings), default=Severity.INFO)
    if worst > Severity.INFO:
        return worst.key.upper()
    return "ELSEWHERE" if answer.elsewhere else "OK"


def _headline(answer: ProcessAnswer) -> str:
    process = answer.process
    who = f"{process.name} (pid {process.pid}, uid {process.uid})"
    if answer.task.zombie:
        parent = "" if isinstance(process.parent, Missing) else f" (pid {process.parent})"
        return f"{who} has ended and holds nothing; its parent{parent} has not noticed yet."
    if answer.task.kernel:
        return f"{who} is a thread of the kernel: it has no descriptors, and so no sockets."
    if isinstance(answer.holdings, Missing):
        return f"{who}: its sockets cannot be seen: {answer.holdings.reason}"
    number = answer.holdings.total
    sockets = f"{number:,} TCP {'socket' if number == 1 else 'sockets'}"
    if answer.elsewhere:
        sockets += " in this network namespace, its own is another"
    return f"{who}: {sockets}; {_descriptors(answer)}."


def _descriptors(answer: ProcessAnswer) -> str:
    used, limit = answer.process.descriptors, answer.process.descriptor_limit
    if isinstance(used, Missing):
        return "its descriptors are hidden from us"
    if isinstance(limit, Missing):
        return f"{used:,} descriptors in use, of how many is unknown"
    share = f" ({used * 100 // limit} %)" if 0 < limit <= used * 100 else ""
    return f"{used:,} of {limit:,} descriptors in use{share}"


# the short form


def _short_lines(answer: ProcessAnswer, style: Style) -> list[str]:
    rows = [("unit", _unit(answer))] if _unit(answer) else []
    rows += [("thread", f"{answer.asked} is one of its threads.")] if _is_thread(answer) else []
    rows += [("netns", _elsewhere(answer))] if answer.elsewhere else []
    if not isinstance(answer.holdings, Missing):
        rows += _short_holdings(answer.holdings)
    lines = [_labelled(label, text, style) for label, text in rows]
    lines += _finding_lines(answer, style)
    lines += [_labelled(label, text, style) for label, text in _how_to_end(answer)]
    more = "command, options of its sockets, every peer; --format json has each socket"
    return [*lines, _labelled("more", f"--long: {more}", style)]


def _short_holdings(holdings: Holdings) -> list[tuple[str, str]]:
    rows = [("now", _state_words(group)) for group in holdings.states if group.state is not TcpState.LISTEN]
    listeners = holdings.listeners[:_SHOWN_SHORTLY]
    rows += [("on", f"{row.local}: {', '.join(queue_words(row))}") for row in listeners]
    if len(holdings.listeners) > _SHOWN_SHORTLY:
        rows.append(("on", f"and {len(holdings.listeners) - _SHOWN_SHORTLY} more listeners"))
    if holdings.peers:
        named = [_peer_words(peer) for peer in holdings.peers[:_SHOWN_SHORTLY]]
        rows.append(("with", name_a_few(named, _SHOWN_SHORTLY, len(holdings.peers))))
    rows += [("dead", words) for words in _dead_words(holdings)]
    return rows


def _labelled(label: str, text: str, style: Style) -> str:
    return style.wrap(text, " " * (_LABEL + 2), f" {label:<{_LABEL}} ")


def _how_to_end(answer: ProcessAnswer) -> list[tuple[str, str]]:
    """How to end it: the commands, or why there are none; and what must not be done for it."""
    stop = answer.stop
    if stop is None:
        return []
    how = " or ".join(stop.commands)
    named = f" ({' or '.join(stop.lookup)} names it)" if how and stop.lookup else ""
    ends = f"; ends {plural(stop.connections, 'connection')}" if how and stop.connections else ""
    return [("end", f"{how}{named}{ends}" if how else stop.says), *[("not", text) for text in stop.avoid[:1]]]


def _unit(answer: ProcessAnswer) -> str:
    if answer.place is not None:
        return answer.place
    known = [_known(answer.process.unit), _known(answer.process.container)]
    return ", ".join(word for word in known if word and not word.startswith("unknown"))


def _is_thread(answer: ProcessAnswer) -> bool:
    return answer.asked != answer.process.pid


def _elsewhere(answer: ProcessAnswer) -> str:
    pid = answer.process.pid
    return (
        f"It lives in another network namespace ({answer.namespace}); its sockets there are not listed. "
        f"To see them: tcpdoctor explain --pid {pid} --netns {pid}"
    )


# what both forms say


def _state_words(group: StateGroup) -> str:
    return ", ".join([f"{group.number:,} {group.state.name}", *_how_long(group)])


def _how_long(group: StateGroup) -> list[str]:
    words = [] if group.oldest is None else [f"the oldest {age_words(group.oldest)}"]
    if group.idle is not None:
        words = [f"the most idle without data for {show(group.idle, SECOND)}"]
    waits = group.waits
    if waits.unanswered:
        words.append(unanswered_words(waits.unanswered, waits.unanswered_for))
    if waits.unacknowledged_bytes:
        words.append(f"{show(waits.unacknowledged_bytes, BYTE)} not acknowledged")
    if waits.unread_bytes:
        words.append(f"{show(waits.unread_bytes, BYTE)} not read by the process")
    return words


def _peer_words(peer: PeerGroup) -> str:
    if not peer.connecting:
        return f"{peer.peer}: {peer.sockets:,}"
    some = "" if peer.connecting == peer.sockets else f"{peer.connecting:,} of them "
    return f"{peer.peer}: {peer.sockets:,} ({some}not connected yet: SYN_SENT)"


def _dead_words(holdings: Holdings) -> list[str]:
    """Connections that are over and whose descriptors are held, or why nobody knows."""
    if isinstance(holdings.dead, Missing):
        return [f"connections that are over and not closed: unknown: {holdings.dead.reason}"]
    if holdings.dead is None:
        return []
    return [_dead_group(holdings.dead)]


def _dead_group(dead: DeadGroup) -> str:
    least = "at least " if dead.every > 1 else ""
    return (
        f"{least}{dead.number:,} connections are over (reset, or timed out), their descriptors not closed; "
        f"the longest silent for {show(dead.longest_silent, SECOND)}"
        f"{f'; peers: {dead.peers}' if dead.peers else ''}"
    )


# the long form


def _identity(answer: ProcessAnswer, style: Style) -> str:
    process = answer.process
    rows = [
        ("unit", _known(process.unit) or "none"),
        ("container", _known(process.container) or "none"),
    ]
    if not answer.task.zombie and not answer.task.kernel:
        rows = [("command", _short(_known(process.command))), ("program", _known(process.executable)), *rows]
    rows += _how_to_end(answer)
    lines = [style.wrap(text, " " * 13, f"  {name:<11}") for name, text in rows]
    if _is_thread(answer):
        lines.append(f"  {answer.asked} is one of its threads.")
    if answer.elsewhere:
        lines.append(style.wrap(_elsewhere(answer), "  ", "  "))
    if not isinstance(answer.holdings, Missing):
        lines += [style.wrap(f"{words}.", "  ", "  ") for words in _dead_words(answer.holdings)]
        lines += _other_sockets(answer.holdings, style)
    return "\n".join(lines)


def _other_sockets(holdings: Holdings, style: Style) -> list[str]:
    dead = holdings.dead
    others = holdings.other_sockets - (dead.number if isinstance(dead, DeadGroup) else 0)
    if others <= 0:
        return []
    kinds = "of other protocols or network namespaces, or TCP and in no state (not bound, or reset)"
    return [style.wrap(f"It holds {plural(others, 'socket')} more: {kinds}.", "  ", "  ")]


def _short(command: str) -> str:
    return command if len(command) <= _COMMAND else command[: _COMMAND - 1] + "~"


def _known(reading: Reading[str | None]) -> str:
    return f"unknown: {reading.reason}" if isinstance(reading, Missing) else reading or ""


def _states(holdings: Holdings, style: Style) -> str:
    lines = [
        style.wrap(
            ", ".join(_how_long(group)), " " * 25, f"  {group.state.name:<14}{group.number:>7}  "
        ).rstrip()
        for group in holdings.states
    ]
    return "\n".join([style.bold("Sockets by state"), *lines]) if lines else ""


def _listeners(holdings: Holdings, style: Style) -> str:
    lines = [
        style.wrap(f"{row.local}: {', '.join(queue_words(row))}", "    ", "  ") for row in holdings.listeners
    ]
    return "\n".join([style.bold("Listens on"), *_few(lines, "listeners")]) if lines else ""


def _peers(holdings: Holdings, style: Style) -> str:
    lines = [style.wrap(_peer_words(peer), "    ", "  ") for peer in holdings.peers]
    only_dials = all(peer.connecting == peer.sockets for peer in holdings.peers)
    title = "Connecting" if only_dials else "Connected"
    return "\n".join([style.bold(title), *_few(lines, "peers")]) if lines else ""


def _options(holdings: Holdings, style: Style) -> str:
    lines = [style.wrap(_option_words(group), "    ", f"  {_whose(group)}: ") for group in holdings.options]
    lines = _few(lines, "combinations", _SHOWN_OPTIONS)
    lines += [
        style.wrap(f"unknown of {plural(number, 'socket')}: {reason}", "    ", "  ")
        for reason, number in holdings.unasked
    ]
    return "\n".join([style.wrap(style.bold("Socket options that matter")), *lines]) if lines else ""


def _whose(group: OptionGroup) -> str:
    one = "listener" if group.listening else "connection"
    return f"{group.sockets:,} {one if group.sockets == 1 else one + 's'}"


def _option_words(group: OptionGroup) -> str:
    """Name the options; those that are at their default and rarely anything else are left out."""
    values = dict(group.options)
    silent = set() if values.get("SO_KEEPALIVE") else set(_ONLY_WITH_KEEPALIVE)
    silent |= {name for name, usual in _USUAL.items() if values.get(name) == usual}
    return " ".join(option_words(name, value) for name, value in group.options if name not in silent)


def _findings(answer: ProcessAnswer, style: Style) -> str:
    diagnosis = answer.diagnosis
    blocks: list[Block]
    if isinstance(diagnosis, Missing):
        title, blocks = "No finding can be told", [Prose(f"{diagnosis.reason}.")]
    else:
        found = [(one.severity.key, one.summary, one.rule) for one in diagnosis.findings]
        title = "What tcpdoctor check finds" if found else "No finding of tcpdoctor check names it"
        blocks = [*finding_items(found), *map(Prose, unanswered_rules(_unanswered(diagnosis), long=True))]
    return page_text([Section(title, tuple(blocks) or (Prose(""),))], style) or style.bold(title)


def _unanswered(diagnosis: Diagnosis) -> list[str]:
    return [rule.rule for rule in diagnosis.unchecked if rule.applies]


def _finding_lines(answer: ProcessAnswer, style: Style) -> list[str]:
    diagnosis = answer.diagnosis
    if isinstance(diagnosis, Missing):
        return [style.wrap(f"{diagnosis.reason}.", "  ", "  ")]
    lines = []
    for finding in diagnosis.findings:
        headline = finding.headline or finding.title
        short = headline if finding.pids == {answer.process.pid} else f"{finding.label}: {headline}"
        lines += finding_lines(finding.severity.key, short, finding.rule, style)
    return lines + [
        style.wrap(said, " ", " ") for said in unanswered_rules(_unanswered(diagnosis), long=False)
    ]


def _few(lines: Iterable[str], what: str, shown: int = _SHOWN) -> list[str]:
    """Show one line more than that rather than say that there is one more."""
    every = list(lines)
    if len(every) <= shown + 1:
        return every
    return [*every[:shown], f"  and {len(every) - shown} more {what}"]

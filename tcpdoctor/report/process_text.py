"""`explain --pid` for people: who it is, what it holds and what is wrong; `--long` has all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from tcpdoctor.answers.process import (
    OptionGroup,
    PeerGroup,
    ProcessAnswer,
    ProcessesAnswer,
    StateGroup,
    sockets_in_all,
)
from tcpdoctor.answers.socket import ToldSocket
from tcpdoctor.facts.value import SECOND, show
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.kernel.text import beginning_of, name_a_few
from tcpdoctor.report.connect_text import (
    finding_items,
    told_briefly,
    unanswered_rules,
    waiting_words,
)
from tcpdoctor.report.finding_page import early_words
from tcpdoctor.report.host import finding_words, plural, who_of
from tcpdoctor.report.page import (
    Block,
    Entries,
    Fields,
    Inset,
    Item,
    Prose,
    Row,
    Section,
    Title,
    Verdict,
    labelled,
)
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
_LABEL, _IDENTITY, _STATES = 7, 11, 23
"""Columns of labels: in the short form, of who it is, and of states."""
_MORE = ("more", "--long: command, options of its sockets, every peer; --format json has each socket")
_IDLE = ("ELSEWHERE", "OK")
"""Of one that holds nothing here and has no finding nobody asks how to end it."""
_T = TypeVar("_T")


def process_page(answer: ProcessAnswer | ProcessesAnswer, style: Style, *, long: bool) -> list[Block]:
    """Return the answers one behind the other, each short or whole; of many a line for the rest."""
    answers = answer.processes if isinstance(answer, ProcessesAnswer) else (answer,)
    shown = answers if long else answers[:_SHOWN]
    pages = [tuple(_long(each, style) if long else _short(each, style)) for each in shown]
    rest = tuple(Prose(f"{_word(each)}  {_headline(each)}") for each in answers[len(shown) :])
    more = [] if long else [(Inset((Fields((_MORE,), _LABEL),)),)]
    if len(answers) == 1:
        return [Section("", tuple(block for page in (*pages, *more) for block in page))]
    return [Section("", page) for page in (*pages, *([rest] if rest else []), *more)]


def _verdict(answer: ProcessAnswer) -> Verdict:
    return Verdict(_word(answer), _headline(answer))


def _long(answer: ProcessAnswer, style: Style) -> list[Block]:
    peers, options = _seen(answer.peers, ()), _seen(answer.options, ())
    only_dials = all(peer.connecting == peer.sockets for peer in peers)
    settings = _few(
        [f"{_whose(one)}: {_option_words(one)}" for one in options], "combinations", _SHOWN_OPTIONS
    )
    settings += [f"unknown of {answer.missing['options']}"] if "options" in answer.missing else []
    return [
        _verdict(answer),
        Section("", tuple(_identity(answer))),
        *_states(answer),
        *_several("Listens on", _few(map(_listener_words, _listening(answer)), "listeners")),
        *_several("Connecting" if only_dials else "Connected", _few(map(_peer_words, peers), "peers")),
        *_several("Socket options that matter", settings),
        _findings(answer, style),
    ]


def _states(answer: ProcessAnswer) -> list[Section]:
    rows = tuple(
        (f"{state.upper():<14}{group.sockets:>7}", ", ".join(_how_long(group)))
        for state, group in _seen(answer.states, {}).items()
    )
    return [Section("Sockets by state", (Fields(rows, _STATES),))] if rows else []


def _several(title: str, texts: Sequence[str]) -> list[Section]:
    return [Section(title, (Entries(tuple(map(Item, texts)), deeper=2),))] if texts else []


def _word(answer: ProcessAnswer) -> str:
    """The verdict: the worst severity, or that nothing is known to be wrong, or that it cannot be seen."""
    if isinstance(answer.findings, Missing):
        return "HIDDEN"
    if answer.status in ("warning", "critical"):
        return answer.status.upper()
    if answer.process.kind == "zombie":
        return "ENDED"
    if answer.stop is not None and answer.stop.halted:
        return answer.stop.halted.upper()
    return "ELSEWHERE" if _is_elsewhere(answer) else answer.status.upper()


def _is_elsewhere(answer: ProcessAnswer) -> bool:
    """Whether it lives in another network namespace than the one that was looked at."""
    own = answer.process.namespace
    return not isinstance(own, Missing) and str(own) != answer.host.namespace


def _headline(answer: ProcessAnswer) -> str:
    process = answer.process
    who = f"{process.name} ({who_of(process.pid, process.uid)})"
    if process.kind == "zombie":
        parent = "" if isinstance(process.parent, Missing) else f" (pid {process.parent})"
        return f"{who} has ended and holds nothing; its parent{parent} has not noticed yet."
    if process.kind == "kernel":
        return f"{who} is a thread of the kernel: it has no descriptors, and so no sockets."
    if isinstance(answer.states, Missing):
        return f"{who}: its sockets cannot be seen: {answer.states.reason}"
    number = sockets_in_all(answer) or 0
    sockets = f"{number:,} TCP {'socket' if number == 1 else 'sockets'}"
    if _is_elsewhere(answer):
        sockets += " in this network namespace, its own is another"
    return f"{who}: {sockets}; {_descriptors(answer)}."


def _descriptors(answer: ProcessAnswer) -> str:
    used, limit = answer.process.descriptors, answer.process.descriptor_limit
    if isinstance(used, Missing):
        return "how many descriptors it has is not known"
    if isinstance(limit, Missing):
        return f"{used:,} descriptors in use, of how many is unknown"
    share = f" ({used * 100 // limit} %)" if 0 < limit <= used * 100 else ""
    return f"{used:,} of {limit:,} descriptors in use{share}"


# the short form


def _short(answer: ProcessAnswer, style: Style) -> list[Block]:
    rows: list[Row] = [("unit", _unit(answer))] if _unit(answer) else []
    rows += [("thread", f"{answer.process.thread} is one of its threads.")] if answer.process.thread else []
    rows += [("netns", _elsewhere(answer))] if _is_elsewhere(answer) else []
    rows += [("halt", words) for words in _halt_words(answer)]
    rows += _short_holdings(answer)
    ending = _how_to_end(answer) if sockets_in_all(answer) != 0 or _word(answer) not in _IDLE else ()
    return [
        _verdict(answer),
        *_findings_briefly(answer, style),
        Inset((Fields((*rows, *ending), _LABEL), *_not_told(answer, style))),
    ]


def _short_holdings(answer: ProcessAnswer) -> list[Row]:
    states, listeners, peers = _seen(answer.states, {}), _listening(answer), _seen(answer.peers, ())
    rows = labelled("now", [_state_words(key, group) for key, group in states.items() if key != "listen"])
    shown = [_listener_words(row) for row in listeners[:_SHOWN_SHORTLY]]
    more = len(listeners) - len(shown)
    rows += labelled("on", [*shown, f"and {more} more listeners"] if more else shown)
    if peers:
        named = [_peer_words(peer) for peer in peers[:_SHOWN_SHORTLY]]
        rows.append(("with", name_a_few(named, _SHOWN_SHORTLY, len(peers))))
    rows += [("dead", words) for words in _dead_words(answer)]
    return [*rows, *(("early", early_words(one)) for one in answer.too_early)]


def _seen(reading: Reading[_T], nothing: _T) -> _T:
    """What is shown of it: nothing where it is hidden, which the headline says."""
    return nothing if isinstance(reading, Missing) else reading


def _listening(answer: ProcessAnswer) -> list[ToldSocket]:
    return [row for row in _seen(answer.sockets, ()) if row.state == "listen"]


def _listener_words(row: ToldSocket) -> str:
    return f"{row.local}: {', '.join(queue_words(row.accept_queue, row.accept_limit, row.drops))}"


def _halt_words(answer: ProcessAnswer) -> list[str]:
    return [answer.stop.halted_says] if answer.stop is not None and answer.stop.halted_says else []


def _how_to_end(answer: ProcessAnswer) -> list[tuple[str, str]]:
    """How to end it: the commands, or why there are none; and what must not be done for it."""
    stop = answer.stop
    if stop is None:
        return []
    how = " or ".join(f"`{command}`" for command in stop.commands)
    named = (
        f" ({' or '.join(f'`{command}`' for command in stop.lookup)} names it)" if how and stop.lookup else ""
    )
    ends = f"; ends {plural(stop.connections, 'connection')}" if how and stop.connections else ""
    if how and stop.pid != answer.process.pid:
        ends = f"; pid {stop.pid} began it, shares its listener, and would start another in its place"
    shortly = how and answer.place is not None  # else nobody can tell what keeps it, which the sentences say
    said = f"{how}{named}{ends}" if shortly else f"{stop.says[0].upper()}{stop.says[1:]}"
    return [("end", said), *[("not", text) for text in stop.avoid[:1]]]


def _unit(answer: ProcessAnswer) -> str:
    if answer.place is not None:
        return answer.place.says or ""
    known = (answer.process.unit, answer.process.container)
    return ", ".join(word for word in known if word and not isinstance(word, Missing))


def _elsewhere(answer: ProcessAnswer) -> str:
    pid, own = answer.process.pid, answer.process.namespace
    return (
        f"It lives in another network namespace ({own}); its sockets there are not listed. "
        f"To see them: `tcpdoctor explain --pid {pid} --netns {pid}`"
    )


# what both forms say


def _state_words(state: str, group: StateGroup) -> str:
    return ", ".join([f"{group.sockets:,} {state.upper()}", *_how_long(group)])


def _how_long(group: StateGroup) -> list[str]:
    words = []
    if group.most_idle_s is not None:
        words = [f"the most idle without data for {show(group.most_idle_s, SECOND)}"]
    elif group.oldest is not None:
        words = [f"the oldest {age_words(*group.oldest)}"]
    return [*words, *waiting_words(group)]


def _peer_words(peer: PeerGroup) -> str:
    if not peer.connecting:
        return f"{peer.peer}: {peer.sockets:,}"
    some = "" if peer.connecting == peer.sockets else f"{peer.connecting:,} of them "
    return f"{peer.peer}: {peer.sockets:,} ({some}not connected yet: SYN_SENT)"


def _dead_words(answer: ProcessAnswer) -> list[str]:
    """Connections that are over and whose descriptors are held, or why nobody knows."""
    dead = answer.dead_sockets
    if isinstance(answer.sockets, Missing):
        return []
    if isinstance(dead, Missing):
        return [f"connections that are over and not closed: unknown: {dead.reason}"]
    if not dead.sockets:
        return []
    least = "at least " if dead.every > 1 else ""
    peers = f"; peers: {dead.peers}" if dead.peers else ""
    silent = show(dead.longest_silent_s or 0.0, SECOND)
    words = (
        f"{least}{dead.sockets:,} connections are over (reset, or timed out), their descriptors not closed; "
        f"the longest silent for {silent}{peers}"
    )
    return [words]


# the long form


def _identity(answer: ProcessAnswer) -> list[Block]:
    process = answer.process
    rows = [
        ("unit", _known(process.unit) or "none"),
        ("container", _known(process.container) or "none"),
    ]
    if process.kind == "process":
        rows = [
            ("command", beginning_of(_known(process.command), _COMMAND)),
            ("program", _known(process.executable)),
            *rows,
        ]
    rows += [("halted", words) for words in _halt_words(answer)]
    said = [f"{process.thread} is one of its threads."] if process.thread else []
    said += [_elsewhere(answer)] if _is_elsewhere(answer) else []
    said += [f"{words}." for words in (*_dead_words(answer), *map(early_words, answer.too_early))]
    said += _other_sockets(answer)
    return [Inset((Fields((*rows, *_how_to_end(answer)), _IDENTITY), *map(Prose, said)), 2)]


def _other_sockets(answer: ProcessAnswer) -> list[str]:
    dead = answer.dead_sockets
    others = _seen(answer.other_sockets, 0) - (0 if isinstance(dead, Missing) else dead.sockets)
    if others <= 0:
        return []
    kinds = "of other protocols or network namespaces, or TCP and in no state (not bound, or reset)"
    return [f"It holds {plural(others, 'socket')} more: {kinds}."]


def _known(reading: Reading[str | None]) -> str:
    return f"unknown: {reading.reason}" if isinstance(reading, Missing) else reading or ""


def _whose(group: OptionGroup) -> str:
    one = "listener" if group.listening else "connection"
    return f"{group.sockets:,} {one if group.sockets == 1 else one + 's'}"


def _option_words(group: OptionGroup) -> str:
    """Name the options; those that are at their default and rarely anything else are left out."""
    values = group.options
    silent = set() if values.get("SO_KEEPALIVE") else set(_ONLY_WITH_KEEPALIVE)
    silent |= {name for name, usual in _USUAL.items() if values.get(name) == usual}
    shown = {name: value for name, value in values.items() if value is not None and name not in silent}
    return " ".join(option_words(name, value) for name, value in shown.items())


def _findings(answer: ProcessAnswer, style: Style) -> Section:
    if isinstance(answer.findings, Missing):
        return Section("No finding can be told", (Prose(f"{answer.findings.reason}."),))
    found = finding_items(((one.severity, one.summary, one.rule) for one in answer.findings), style)
    untold = tuple(map(Prose, unanswered_rules(_unanswered(answer), style, long=True)))
    if found:
        return Section("What tcpdoctor check finds", (*found, *untold))
    return Section("", (Title("No finding of tcpdoctor check names it"), Inset(untold, 2)))


def _unanswered(answer: ProcessAnswer) -> list[str]:
    return [rule.rule for rule in _seen(answer.unchecked, ()) if rule.applies]


def _findings_briefly(answer: ProcessAnswer, style: Style) -> list[Block]:
    """What is wrong, before what it holds: it is what the verdict speaks of."""
    found: list[Block] = []
    for finding in _seen(answer.findings, ()):
        headline = finding.headline or finding.title
        mine = finding.scope == "process" and finding.subject.get("pid") == answer.process.pid
        short = headline if mine else finding_words(finding)
        found.append(told_briefly(finding.severity, short, finding.rule, style))
    return [Inset(tuple(found))] if found else []


def _not_told(answer: ProcessAnswer, style: Style) -> list[Prose]:
    if isinstance(answer.findings, Missing):
        return [Prose(f"{answer.findings.reason}.")]
    return [Prose(text) for text in unanswered_rules(_unanswered(answer), style, long=False)]


def _few(texts: Iterable[str], what: str, shown: int = _SHOWN) -> list[str]:
    """Show one line more than that rather than say that there is one more."""
    every = list(texts)
    if len(every) <= shown + 1:
        return every
    return [*every[:shown], f"and {len(every) - shown} more {what}"]

"""`trace` for people: a line for each connection that has ended, and in the end what they amount to."""

from collections.abc import Iterator

from tcpdoctor.answers.ended import (
    EndedConnection,
    IdleEnding,
    PeerEndings,
    ProgramEndings,
    TraceSummary,
)
from tcpdoctor.facts.value import BYTE, SECOND, show
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Fields, Item, Items, Section, Title
from tcpdoctor.report.style import Style

_WORDS = {
    "here": "here",
    "peer": "peer",
    "reset_here": "RESET here",
    "reset_by_peer": "RESET peer",
    "never_established": "never",
    None: "?",
}
_FIRST_WORDS = {
    "closed_first_here": "closed first here",
    "closed_first_by_peer": "closed first by the peer",
    "reset_here": "reset from here",
    "reset_by_peer": "reset by the peer",
    "never_established": "never established",
}
_ROOM = 11
_MOST = 10
"""Programs, and peers, that are told to people; JSON has a hundred."""


def connection_text(ended: EndedConnection, style: Style) -> str:
    """Return one line, on a narrow terminal more: who closed first, how long each state lasted, and why."""
    parts = [f"{ended.local} - {ended.remote}"]
    if ended.pid is not None:
        parts.append(f"{ended.name or '?'} ({ended.pid})")
    parts += [
        f"{state.state.upper()} {'?' if state.seconds is None else show(state.seconds, SECOND)}"
        for state in ended.states
    ]
    if ended.bytes_in is not None:
        parts.append(f"in {show(ended.bytes_in, BYTE)}")
    if ended.bytes_out is not None:
        parts.append(f"out {show(ended.bytes_out, BYTE)}")
    if ended.rtt_s is not None:
        parts.append(f"rtt {show(ended.rtt_s, SECOND)}")
    if ended.retransmissions:
        parts.append(f"{ended.retransmissions} retransmitted")
    if ended.idle_at_close_s is not None:
        parts.append(f"idle {show(ended.idle_at_close_s, SECOND)}")
    if ended.reason is not None:
        parts.append(ended.reason)
    word = _WORDS[ended.closed_first]
    return style.wrap(", ".join(parts), " " * _ROOM, f"{word:<{_ROOM}}")


def trace_page(summary: TraceSummary) -> list[Block]:
    """Return what the endings amount to: who closes first, who resets whom, who never answers, who waits."""
    total = summary.connections
    title = f"{plural(total, 'connection')} ended in {show(summary.seconds, SECOND)}"
    if not isinstance(summary.still_open, Missing):
        title += f", {summary.still_open:,} still open"
    page: list[Block] = [Title(title)]
    rows = tuple((words, _share(getattr(summary, key), total)) for key, words in _FIRST_WORDS.items())
    page.append(Section("", (Fields(rows),)))
    for heading, lines in (
        ("Who closes first", _closers(summary)),
        ("Who resets whom", _resets(summary)),
        ("Never established", _failures(summary)),
        ("Idle connections", _idle(summary)),
        ("Not known", _missing(summary)),
    ):
        told = tuple(Item(line) for line in lines)
        if told:
            page.append(Section(heading, (Items(told),)))
    return page


def trace_sentences(summary: TraceSummary) -> list[str]:
    """Return what the endings amount to in sentences, where they are part of another answer."""
    number = plural(summary.connections, "connection")
    told = [f"{number} ended in {show(summary.seconds, SECOND)}"]
    for lines in (_closers, _resets, _failures, _idle):
        told += lines(summary)
    if isinstance(summary.closed_first_here, Missing):
        told.append(f"who closed first is not known: {summary.closed_first_here.reason}")
    if summary.events_lost:
        told.append(summary.missing.get("events_lost") or summary.missing["messages_lost"])
    return told


def _share(count: object, total: int) -> str:
    if isinstance(count, Missing):
        return "unknown"
    return f"{count:,}" + (f"  {100 * int(str(count)) / total:.0f} %" if total else "")


def _place(row: ProgramEndings) -> str:
    name = row.name or "unknown programs"
    who = f"{name} ({row.pids[0]})" if len(row.pids) == 1 else name
    if row.port is None:
        return who
    return f"{who} on :{row.port}" if row.side == "accepted" else f"{who} to port {row.port}"


def _closers(summary: TraceSummary) -> Iterator[str]:
    if isinstance(summary.closed_first_here, Missing):
        return
    for row in summary.by_process[:_MOST]:
        here, peer = row.closed_first_here, row.closed_first_by_peer
        if not here and not peer:
            continue
        if here >= peer:
            yield (
                f"{100 * here / row.connections:.0f} % of {plural(row.connections, 'connection')} of "
                f"{_place(row)} were closed first here: that is where TIME_WAIT comes from"
            )
        else:
            yield (
                f"{100 * peer / row.connections:.0f} % of {plural(row.connections, 'connection')} of "
                f"{_place(row)} were closed first by the peer: their TIME_WAIT is there"
            )


def _resets(summary: TraceSummary) -> Iterator[str]:
    for row in summary.by_process[:_MOST]:
        for by, words in (("here", "from here"), ("peer", "by the peer")):
            told = [(each.number, each.reason) for each in row.resets if each.by == by]
            if told:
                number = plural(sum(count for count, _ in told), "reset")
                each = ", ".join(f"{count} {reason}" for count, reason in told)
                yield f"{_place(row)}: {number} {words}: {each}"


def _failures(summary: TraceSummary) -> Iterator[str]:
    for row in summary.by_peer[:_MOST]:
        if row.failures:
            each = ", ".join(f"{count} {reason}" for reason, count in row.failures.items())
            yield f"{_peer(row)}: {each}"


def _peer(row: PeerEndings) -> str:
    if row.address is None:
        return "other peers"
    if row.side != "opened" or row.port is None:
        return row.address
    return f"[{row.address}]:{row.port}" if ":" in row.address else f"{row.address}:{row.port}"


def _idle(summary: TraceSummary) -> Iterator[str]:
    for row in summary.by_peer[:_MOST]:
        for end in row.idle:
            yield _idle_sentence(row, end)


def _idle_sentence(row: PeerEndings, end: IdleEnding) -> str:
    """The keep-alive mismatch where there is one, else who ends idle connections after how long."""
    name, peer = row.name or "the program", _peer(row)
    after = f"idle {show(end.idle_s, SECOND)} ({end.alike} of {end.of})"
    if end.by == "peer":
        said = f"{peer} ends connections that were {after}"
        if end.other_keeps_s is not None:
            said += f"; {name} here reuses them up to {show(end.other_keeps_s, SECOND)}"
        advice = f"let {name} give them up before {show(end.idle_s, SECOND)}"
    else:
        whose = "to" if row.side == "opened" else "from"
        said = f"{name} here ends connections {whose} {peer} that were {after}"
        advice = f"let the peer give them up before {show(end.idle_s, SECOND)}, or {name} keep them longer"
    if not end.requests_reset:
        return said
    return f"{said}: {plural(end.requests_reset, 'request')} met a reset. The remedy: {advice}"


def _missing(summary: TraceSummary) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for key, reason in summary.missing.items():
        reasons.setdefault(reason, []).append(key)
    if isinstance(summary.still_open, Missing):
        reasons.setdefault(summary.still_open.reason, []).append("still_open")
    for reason, keys in reasons.items():
        yield f"{', '.join(_FIRST_WORDS.get(key, key.replace('_', ' ')) for key in keys)}: {reason}"

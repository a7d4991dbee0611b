"""`explain --port` for people: the verdict first, all on one screen."""

from collections.abc import Collection, Mapping, Sequence

from tcpdoctor.diagnosis.bind import Attempt
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.port import (
    Custody,
    PortAnswer,
    PortSocket,
    Row,
    custody_of,
    first_holder,
    is_waiting,
    name_holder,
    peer_of,
)
from tcpdoctor.diagnosis.port_advice import Advice, count, flag_value, seconds, verdict, why
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Detail, Listener
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.style import Style

SHOWN_BLOCKERS = 4
SHOWN_LISTENERS = 4
SHOWN_FINDINGS = 3


def port_text(answer: PortAnswer, advice: Advice, diagnosis: Diagnosis, style: Style) -> str:
    """Return the whole answer: verdict, attempts, holders, what goes on, what to do and what not."""
    parts = [
        style.bold(style.wrap(verdict(answer))),
        _attempts(answer, style),
        _blockers(answer, style),
        _traffic(answer, style),
        _findings(diagnosis, style),
        _list("What to do", advice.do, style),
        _list("What does not help", advice.avoid, style),
        _list("Not certain, because", answer.unknowns, style),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _attempts(answer: PortAnswer, style: Style) -> str:
    how = "predicted; --probe asks the kernel"
    if any(attempt.probed for attempt in answer.attempts):
        listened = any(attempt.listen_probed for attempt in answer.attempts)
        how = "bind() and listen() probed" if listened else "bind() probed, listen() predicted"
    where = f"{answer.target.address} port {answer.target.port}"
    lines = [style.bold(style.wrap(f"A server of uid {answer.wanted.uid} on {where} ({how})"))]
    lines.append(style.dim("  socket options               bind()          listen()"))
    rows = [_attempt(attempt) for attempt in answer.attempts]
    if len({row[1:] for row in rows}) == 1:
        rows = [("none, or any", *rows[0][1:])]
    lines += [f"  {name:<29}{bind:<16}{listen:<16}{doubt}".rstrip() for name, bind, listen, doubt in rows]
    return "\n".join(lines)


def _attempt(attempt: Attempt) -> tuple[str, str, str, str]:
    name = " + ".join(attempt.options) or "none"
    return name, attempt.bind, attempt.listen or "-", "" if attempt.certain else "not certain"


def _blockers(answer: PortAnswer, style: Style) -> str:
    if not answer.blockers:
        return ""
    more = ", those that stay longest" if answer.blockers_total > SHOWN_BLOCKERS else ""
    lines = [style.bold(f"Who holds it ({count(answer.blockers_total, 'socket')}{more})")]
    for socket in answer.blockers[:SHOWN_BLOCKERS]:
        lines += _blocker(socket, answer, style)
    rest = answer.blockers_total - min(SHOWN_BLOCKERS, len(answer.blockers))
    if rest > 0:
        kinds = ", ".join(f"{number} {cause}" for cause, number in answer.by_cause)
        lines.append(style.wrap(f"... and {rest} more ({kinds} in all); --format json lists 20", "  "))
    return "\n".join(lines)


def _blocker(socket: PortSocket, answer: PortAnswer, style: Style) -> list[str]:
    row, evidence = socket.row, answer.evidence
    custody = custody_of(row, evidence)
    ends = str(row.local)
    if isinstance(row, Connection) and row.remote.port:
        ends += f" -> {row.remote}"
    parts = [f"{socket.state.name} {ends}"]
    if custody.holders:
        parts += [name_holder(holder, evidence) for holder in custody.holders[:2]]
        if len(custody.holders) > 2:
            parts.append(count(len(custody.holders) - 2, "more process", "more processes"))
    else:
        parts.append(_unheld(socket, custody))
    if socket.leaves is not None:
        parts.append(_end(socket))
    flags = [
        name
        for name, key in (("SO_REUSEADDR", "reuseaddr"), ("SO_REUSEPORT", "reuseport"))
        if flag_value(socket, key)
    ]
    lines = [style.wrap("; ".join([*parts, *flags]), "      ", "  ")]
    if socket is answer.blockers[0]:
        lines.append(style.wrap(why(socket, evidence), "      ", "    "))
    peer = peer_of(row, evidence)
    if peer is not None:
        lines.append(style.wrap(_peer(peer), "      ", "    "))
    return lines


def _unheld(socket: PortSocket, custody: Custody) -> str:
    if custody.hidden:
        return "holder hidden"
    return "not accepted yet" if is_waiting(socket.row) else "held by no process"


def _end(socket: PortSocket) -> str:
    assert socket.leaves is not None  # noqa: S101 - the caller asked
    if socket.leaves.low == socket.leaves.high:
        return f"{seconds(socket.leaves.low)} left"
    return f"{socket.leaves} left unless its peer answers"


def _peer(peer: Connection) -> str:
    holder = first_holder(peer)
    if holder is None:
        held = "not accepted yet" if is_waiting(peer) else "held by no process"
        held = "holder hidden" if isinstance(peer.owner, Missing) else held
    else:
        held = f"held by pid {holder.pid} {holder.name}, fd {holder.fd}"
    return f"its peer {peer.local} is in {peer.state.name}, {held}"


def _traffic(answer: PortAnswer, style: Style) -> str:
    evidence = answer.evidence
    introduced = {socket.row for socket in answer.blockers[:SHOWN_BLOCKERS]}
    lines = []
    if not isinstance(evidence.listeners, Missing):
        shown = evidence.listeners[:SHOWN_LISTENERS]
        lines += [style.wrap(_listener(row, evidence, introduced), "      ", "  ") for row in shown]
        if len(evidence.listeners) > SHOWN_LISTENERS:
            lines.append(f"  ... and {len(evidence.listeners) - SHOWN_LISTENERS} more listeners")
    local, remote = _states(evidence.local), _states(evidence.remote)
    if local or remote or lines:
        lines.append(
            style.wrap(
                f"as local port: {local or 'none'}; as remote port: {remote or 'none'}", "      ", "  "
            )
        )
    return "\n".join([style.bold("At this port"), *lines]) if lines else ""


def _listener(row: Listener, evidence: PortEvidence, introduced: Collection[Row]) -> str:
    limit = "an unknown limit" if isinstance(row.accept_limit, Missing) else str(row.accept_limit)
    text = f"listening on {row.local}: accept queue {row.accept_queue} of {limit}"
    if isinstance(row.drops, int) and row.drops:
        text += f", {row.drops} dropped in its life"
    custody = custody_of(row, evidence)
    if custody.holders and row not in introduced:
        text += f"; {name_holder(custody.holders[0], evidence)}"
    options = evidence.options.get(row.inode)
    if options is not None and not isinstance(options, Missing):
        names = ("SO_REUSEADDR", "SO_REUSEPORT", "IPV6_V6ONLY", "SO_KEEPALIVE", "TCP_DEFER_ACCEPT")
        text += "".join(
            f"; {name}" for name in names if options.get(name) and not isinstance(options[name], Missing)
        )
    return text


def _states(detail: Reading[Mapping[TcpState, Detail]]) -> str:
    if isinstance(detail, Missing):
        return f"unknown ({detail.reason})"
    return ", ".join(f"{one.total} {state.name}" for state, one in detail.items() if one.total)


def _findings(diagnosis: Diagnosis, style: Style) -> str:
    findings = diagnosis.findings
    if not findings:
        return ""
    lines = [style.bold("What tcpdoctor check finds here")]
    for finding in findings[:SHOWN_FINDINGS]:
        word = finding.severity.key.upper()
        text = style.wrap(f"{word} {finding.label}: {finding.title}", "      ", "  ")
        lines.append(text.replace(word, style.severity(finding.severity.key, word), 1))
    if len(findings) > SHOWN_FINDINGS:
        lines.append(f"  ... and {len(findings) - SHOWN_FINDINGS} more")
    names = dict.fromkeys(finding.rule for finding in findings)
    lines.append(style.dim(style.wrap(f"More: tcpdoctor explain --rule {next(iter(names))}", "  ")))
    return "\n".join(lines)


def _list(title: str, items: Sequence[str], style: Style) -> str:
    if not items:
        return ""
    return "\n".join([style.bold(title), *(style.wrap(item, "    ", "  - ") for item in items)])

"""The answer to `explain --pid`: one process's TCP, and what `check` finds about it."""

import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.finding import ToldFinding, ToldUnchecked, told_finding
from tcpdoctor.answers.record import Count, Host, Is, Pid, Reasons, Seconds, Time, host_of, utc
from tcpdoctor.answers.socket import ToldAge, ToldSocket, told_age, told_socket
from tcpdoctor.answers.sockets import Entry, Outstanding, entries_of, idle_seconds, outstanding, state_of
from tcpdoctor.answers.stop import ToldStop, told_stop
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.holders import who_may_be_stopped
from tcpdoctor.diagnosis.stopping import Asker, name_place
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.origin import began_here
from tcpdoctor.facts.socketset import Age, name_ends
from tcpdoctor.kernel.cgroups import read_place
from tcpdoctor.kernel.dead_sockets import ask_process
from tcpdoctor.kernel.live import take_samples, with_known_owners
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.processes import Task, read_process, read_task
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, DeadSockets, Holder, Listener, Owner, Process, Samples
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.kernel.standing import read_standings
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.survey import Survey, held_by, take_survey

MATTER = (
    "SO_REUSEADDR",
    "SO_REUSEPORT",
    "IPV6_V6ONLY",
    "SO_KEEPALIVE",
    "TCP_KEEPIDLE",
    "TCP_KEEPINTVL",
    "TCP_KEEPCNT",
    "TCP_USER_TIMEOUT",
    "SO_LINGER",
    "TCP_LINGER2",
    "TCP_DEFER_ACCEPT",
    "IP_BIND_ADDRESS_NO_PORT",
)
"""The options that decide how connections end and who may bind; `sockets --options` shows all."""


class StateGroup(NamedTuple):
    """A process's sockets of one state."""

    state: TcpState
    number: int
    oldest: Age | None
    """The age of the one whose lower bound is highest; None where the kernel tells nothing of ages."""
    idle: float | None
    """Seconds since data last went either way on the one that is idle longest, of those that wait for no
    acknowledgement: what is sent again is no data. None where not known."""
    waits: Outstanding


class PeerGroup(NamedTuple):
    """Sockets towards one peer, or from one."""

    peer: str
    """``to 10.0.0.5:5432``; ``from 10.0.0.7``, whose port tells nothing."""
    sockets: int
    connecting: int
    """Of them in SYN_SENT: there is no connection yet."""


class OptionGroup(NamedTuple):
    """Sockets with the same options."""

    sockets: int
    listening: bool
    options: tuple[tuple[str, OptionValue], ...]


class DeadGroup(NamedTuple):
    """Connections that are over and whose descriptors the process still holds: in no table of the kernel."""

    number: int
    """At least so many; all of them where `every` is 1."""
    every: int
    """Only descriptors whose number is a multiple of this were asked."""
    longest_silent: float
    """Seconds since the last data or acknowledgement on the one that is silent longest."""
    peers: str | None = None
    """Their other ends, those with most first; None where the sockets do not tell them."""


class Holdings(NamedTuple):
    """What a process has open, as far as TCP goes."""

    entries: tuple[Entry, ...]
    """Its TCP sockets in this network namespace; of very many in one state a uniform sample."""
    states: tuple[StateGroup, ...]
    """The states that there are, in the order of every report; all sockets are counted."""
    total: int
    other_sockets: int
    """Its sockets that are not among them: of other protocols or network namespaces, or in no state."""
    dead: Reading[DeadGroup | None]
    """Of `other_sockets` those that were connections; None: there are none."""
    listeners: tuple[Listener, ...]
    peers: tuple[PeerGroup, ...]
    """Whom it is connected to, the most frequent first."""
    options: tuple[OptionGroup, ...]
    """The options that matter, sockets with the same ones together, the most frequent first."""
    unasked: tuple[tuple[str, int], ...]
    """Why sockets' options could not be read, and of how many."""


class ProcessAnswer(NamedTuple):
    """One process's TCP, finished: what prints it only reads it."""

    host: Identity
    taken_at: float
    """Seconds since 1970, UTC."""
    process: Process
    task: Task
    asked: int
    """The number that was asked about: the process's, or that of one of its threads."""
    namespace: Reading[int]
    """Inode of the process's own network namespace."""
    elsewhere: bool
    """Whether that is another one, whose sockets are not listed here."""
    holdings: Reading[Holdings]
    """Missing where the process hides its descriptors from us."""
    diagnosis: Reading[Diagnosis]
    """The findings of `check` that are about it or name it; Missing where its sockets are hidden."""
    missing: Mapping[str, str]
    """What could not be listed, with the reason."""
    stop: ToldStop | None = None
    """How it may be stopped, and what must not be for it; None of a kernel thread, or of one that ended."""
    place: str | None = None
    """Where it runs: its unit, or its container with whatever unit is inside."""


class ToldProcess(NamedTuple):
    """Who the process is."""

    pid: Pid
    name: str
    uid: Count
    parent: Reading[Count]
    executable: Reading[str]
    command: Reading[str]
    unit: Reading[str | None]
    container: Reading[str | None]
    descriptors: Reading[Count]
    descriptor_limit: Reading[Count]
    namespace: Annotated[Reading[int | str], Is("Inode number of its own network namespace.")]
    kind: Literal["process", "zombie", "kernel"]
    thread: Annotated[int | None, Is("Of its threads the one that was asked about.", minimum=0)]


class ToldGroup(NamedTuple):
    """Its sockets of one state."""

    sockets: Count
    oldest: Annotated[ToldAge | None, Is("How long it has been in its state; null where nothing tells.")]
    most_idle_s: Seconds | None
    unanswered: Count
    unacknowledged_bytes: Count
    unread_bytes: Count
    unanswered_s: Annotated[
        float | None,
        Is("At least so long ago what is sent again was sent first: of the longest.", minimum=0),
    ]


class ToldPeer(NamedTuple):
    """Sockets towards one peer, or from one."""

    peer: str
    sockets: Count
    connecting: Annotated[int, Is("Of them in SYN_SENT: not connected yet.", minimum=0)]


class ToldOptions(NamedTuple):
    """Sockets with the same options."""

    sockets: Count
    listening: bool
    options: Annotated[Mapping[str, OptionValue | None], Is("By name, in the kernel's units.")]


class ToldDead(NamedTuple):
    """Connections that are over and whose descriptors are held; in no table of the kernel."""

    sockets: Annotated[int, Is("At least so many; all where every is 1.", minimum=0)]
    every: Annotated[int, Is("Only descriptors whose number is a multiple of it were asked.", minimum=1)]
    longest_silent_s: Seconds | None
    peers: Annotated[
        str | None, Is("Their other ends, those with most first; null where the sockets do not tell them.")
    ]


class ProcessDocument(NamedTuple):
    """What `tcpdoctor explain --pid N --format json` prints."""

    schema: Literal["tcpdoctor.process/1"]
    host: Host
    taken_at: Time
    process: ToldProcess
    states: Annotated[Reading[Mapping[str, ToldGroup]], Is("By state; a state without sockets is left out.")]
    other_sockets: Reading[Count]
    peers: Reading[tuple[ToldPeer, ...]]
    options: Reading[tuple[ToldOptions, ...]]
    sockets: Reading[tuple[ToldSocket, ...]]
    dead_sockets: Reading[ToldDead]
    findings: Reading[tuple[ToldFinding, ...]]
    unchecked: Reading[tuple[ToldUnchecked, ...]]
    missing: Reasons
    stop: Annotated[
        ToldStop | None, Is("How it may be stopped; null of a thread of the kernel, or one that has ended.")
    ]


class ProcessesDocument(NamedTuple):
    """The same of several processes that are called so."""

    schema: Literal["tcpdoctor.processes/1"]
    processes: tuple[ProcessDocument, ...]


def told_processes(answers: Sequence[ProcessAnswer]) -> ProcessDocument | ProcessesDocument:
    """Return what is printed for machines; one process stands alone."""
    told = tuple(map(_told, answers))
    return told[0] if len(told) == 1 else ProcessesDocument("tcpdoctor.processes/1", told)


def _told(answer: ProcessAnswer) -> ProcessDocument:
    held, diagnosis = _told_holdings(answer.holdings), answer.diagnosis
    findings: Reading[tuple[ToldFinding, ...]]
    unchecked: Reading[tuple[ToldUnchecked, ...]]
    if isinstance(diagnosis, Missing):
        findings, unchecked = diagnosis, diagnosis
    else:
        findings = tuple(map(told_finding, diagnosis.findings))
        unchecked = tuple(ToldUnchecked(rule.rule, rule.reason) for rule in diagnosis.unchecked)
    return ProcessDocument(
        schema="tcpdoctor.process/1",
        host=host_of(answer.host),
        taken_at=utc(answer.taken_at),
        process=_told_process(answer),
        states=held.states,
        other_sockets=held.other_sockets,
        peers=held.peers,
        options=held.options,
        sockets=held.sockets,
        dead_sockets=held.dead_sockets,
        findings=findings,
        unchecked=unchecked,
        missing={**answer.missing, **held.unasked},
        stop=answer.stop,
    )


class _ToldHoldings(NamedTuple):
    states: Reading[Mapping[str, ToldGroup]]
    other_sockets: Reading[int]
    peers: Reading[tuple[ToldPeer, ...]]
    options: Reading[tuple[ToldOptions, ...]]
    sockets: Reading[tuple[ToldSocket, ...]]
    dead_sockets: Reading[ToldDead]
    unasked: Mapping[str, str]
    """Why options of some sockets are not there."""


def _told_holdings(holdings: Reading[Holdings]) -> _ToldHoldings:
    if isinstance(holdings, Missing):
        return _ToldHoldings(holdings, holdings, holdings, holdings, holdings, holdings, {})
    why = [f"{number} sockets: {reason}" for reason, number in holdings.unasked]
    return _ToldHoldings(
        states=_told_states(holdings),
        other_sockets=holdings.other_sockets,
        peers=tuple(ToldPeer(*peer) for peer in holdings.peers),
        options=tuple(
            ToldOptions(group.sockets, group.listening, dict(group.options)) for group in holdings.options
        ),
        sockets=tuple(told_socket(entry, options=True) for entry in holdings.entries),
        dead_sockets=_told_dead(holdings.dead),
        unasked={"options": "; ".join(why)} if why else {},
    )


def _told_process(answer: ProcessAnswer) -> ToldProcess:
    process = answer.process
    return ToldProcess(
        pid=process.pid,
        name=process.name,
        uid=process.uid,
        parent=process.parent,
        executable=process.executable,
        command=process.command,
        unit=process.unit,
        container=process.container,
        descriptors=process.descriptors,
        descriptor_limit=process.descriptor_limit,
        namespace=answer.namespace,
        kind="zombie" if answer.task.zombie else "kernel" if answer.task.kernel else "process",
        thread=answer.asked if answer.asked != process.pid else None,
    )


def _told_states(holdings: Holdings) -> Mapping[str, ToldGroup]:
    return {
        group.state.key: ToldGroup(
            sockets=group.number,
            oldest=told_age(group.oldest),
            most_idle_s=group.idle,
            unanswered=group.waits.unanswered,
            unacknowledged_bytes=group.waits.unacknowledged_bytes,
            unread_bytes=group.waits.unread_bytes,
            unanswered_s=group.waits.unanswered_for,
        )
        for group in holdings.states
    }


def _told_dead(dead: Reading[DeadGroup | None]) -> Reading[ToldDead]:
    if isinstance(dead, Missing):
        return dead
    if dead is None:
        return ToldDead(0, 1, None, None)
    return ToldDead(dead.number, dead.every, round(dead.longest_silent, 3), dead.peers)


_WINDOW = 1.0
"""Seconds between the two looks, as of `check`."""
_DESCRIBED = 5_000
"""Of each state so many sockets are described one by one; all are counted."""


def look_at_processes(pids: Iterable[int]) -> tuple[ProcessAnswer, ...]:
    """Say what TCP sockets processes hold, how they are, which options they set, and what is wrong.

    What a process hides from us is Missing in its answer. The host is looked at twice, once for all of them;
    of several the worst comes first, and one that has ended meanwhile is left out.

    Raises:
        QuestionError: There is no such process.
    """
    taken_at, who = time.time(), read_identity()
    known = _identify_all(tuple(dict.fromkeys(pids)))
    surveys = [_survey(process.pid) for _, process in known]
    samples = take_samples(_WINDOW, every_listener=any(map(_listens, surveys)))
    answers = [
        _answer(who, taken_at, asked, process, survey, samples)
        for (asked, process), survey in zip(known, surveys, strict=True)
        if not isinstance(survey, Missing) or len(known) == 1 or not _is_gone(process.pid)
    ]
    return tuple(sorted(answers, key=_worst_first))


def _is_gone(pid: int) -> bool:
    return isinstance(read_task(pid), Missing)


def _worst_first(answer: ProcessAnswer) -> tuple[int, int, int]:
    findings = () if isinstance(answer.diagnosis, Missing) else answer.diagnosis.findings
    total = 0 if isinstance(answer.holdings, Missing) else answer.holdings.total
    worst = max((int(finding.severity) for finding in findings), default=0)
    return -worst, -total, answer.process.pid


def _identify_all(pids: Sequence[int]) -> list[tuple[tuple[int, Task], Process]]:
    known = []
    for pid in pids:
        try:
            known.append(_identify(pid))
        except QuestionError:
            if len(pids) == 1 or (pid == pids[-1] and not known):
                raise
    return known


def _identify(pid: int) -> tuple[tuple[int, Task], Process]:
    if pid < 1:
        raise QuestionError(f"--pid {pid}: process ids begin with 1")
    task = read_task(pid)
    if isinstance(task, Missing):
        raise QuestionError(f"--pid {pid}: {task.reason}")
    process = read_process(task.process)
    if isinstance(process, Missing):
        raise QuestionError(f"--pid {pid}: {process.reason}")
    return (pid, task), process


class _Seen(NamedTuple):
    """What was read of one process's sockets."""

    owners: Mapping[int, Owner]
    """Its descriptors' sockets of every kind, by inode."""
    survey: Survey
    dead: Reading[DeadSockets]


def _survey(pid: int) -> Reading[_Seen]:
    owners = held_by(pid)
    if isinstance(owners, Missing):
        return owners
    survey = take_survey(COUNTED_STATES, pid=pid, options=True, room=_DESCRIBED)
    if isinstance(survey, Missing):
        return survey
    nothing = DeadSockets((), 0, 1)
    return _Seen(owners, survey, _ask_dead(pid) if len(owners) > survey.total else nothing)


def _ask_dead(pid: int) -> Reading[DeadSockets]:
    try:
        return ask_process(pid)
    except OSError as error:
        return Missing(f"the descriptors of process {pid}: {error.strerror or error}")


def _listens(seen: Reading[_Seen]) -> bool:
    return not isinstance(seen, Missing) and bool(seen.survey.by_state.get(TcpState.LISTEN))


def _answer(
    who: Identity,
    taken_at: float,
    asked: tuple[int, Task],
    process: Process,
    seen: Reading[_Seen],
    samples: Samples,
) -> ProcessAnswer:
    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.diagnosis.evaluate import diagnose_process

    number, task = asked
    namespace = _namespace(process.pid)
    holdings: Reading[Holdings] = seen if isinstance(seen, Missing) else _holdings(seen)
    diagnosis: Reading[Diagnosis] = Missing(
        "which findings are about it is not known: its sockets are hidden"
    )
    if not isinstance(holdings, Missing) and not isinstance(seen, Missing):
        looks = samples._replace(after=with_known_owners(samples.after, seen.owners, process))
        diagnosis = diagnose_process(load_rules().rules, looks, process.pid, holdings.listeners)
    return ProcessAnswer(
        host=who,
        taken_at=taken_at,
        process=process,
        task=task,
        asked=number,
        namespace=namespace,
        elsewhere=not isinstance(namespace, Missing) and namespace != who.namespace,
        holdings=holdings,
        diagnosis=diagnosis,
        missing={} if isinstance(seen, Missing) else _with_sample(seen.survey),
        stop=_stop(process, task, holdings),
        place=_place(process.pid),
    )


def _stop(process: Process, task: Task, holdings: Reading[Holdings]) -> ToldStop | None:
    """Who has to be stopped to end it, as it is for a port that it holds."""
    if task.zombie or task.kernel:
        return None
    holder = Holder(process.pid, process.name, 0, process.uid)
    stop = who_may_be_stopped((holder,), read_standings([process.pid]), Asker(os.geteuid()))
    connections = None if isinstance(holdings, Missing) else holdings.total - len(holdings.listeners)
    return None if stop is None else told_stop(stop, connections)


def _place(pid: int) -> str | None:
    place = read_place(pid)
    return None if isinstance(place, Missing) else name_place(place)


def _holdings(seen: _Seen) -> Holdings:
    entries = entries_of(seen.survey)
    return Holdings(
        entries=entries,
        states=_state_groups(entries, seen.survey.by_state),
        total=seen.survey.total,
        other_sockets=max(0, len(seen.owners) - seen.survey.total),
        dead=_dead_group(seen.dead),
        listeners=tuple(entry.seen.row for entry in entries if isinstance(entry.seen.row, Listener)),
        peers=_peer_groups(entries),
        options=_option_groups(entries),
        unasked=_unasked(entries),
    )


def _dead_group(dead: Reading[DeadSockets]) -> Reading[DeadGroup | None]:
    if isinstance(dead, Missing):
        return dead
    if not dead.found:
        return None
    ends = [row.peer for row in dead.found if row.peer is not None]
    silent = max(row.silent for row in dead.found)
    return DeadGroup(len(dead.found), dead.every, silent, name_ends(ends) if ends else None)


def _state_groups(entries: Sequence[Entry], by_state: Mapping[TcpState, int]) -> tuple[StateGroup, ...]:
    """The states that there are; ages and what is outstanding are those of `entries`."""
    by_name: dict[TcpState, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(state_of(entry), []).append(entry)
    groups = []
    for state in COUNTED_STATES:
        number = by_state.get(state, 0)
        if not number:
            continue
        some = by_name.get(state, [])
        known = [entry.age for entry in some if entry.age is not None and not math.isinf(entry.age.high)]
        rows = [entry.seen.row for entry in some if isinstance(entry.seen.row, Connection)]
        idle = [seconds for seconds in map(idle_seconds, rows) if isinstance(seconds, float)]
        oldest = max(known, key=lambda age: age.low, default=None)
        groups.append(StateGroup(state, number, oldest, max(idle, default=None), outstanding(rows)))
    return tuple(groups)


def _peer_groups(entries: Sequence[Entry]) -> tuple[PeerGroup, ...]:
    """Towards a server a peer is address and port, from a client the address alone: its port tells nothing.

    Who began a connection is computed; of those of which it is not known, one on a port that is listened on
    came from a client.
    """
    listening = {row.local.port for row in (e.seen.row for e in entries) if isinstance(row, Listener)}
    found: Counter[str] = Counter()
    connecting: Counter[str] = Counter()
    for entry in entries:
        row = entry.seen.row
        if isinstance(row, Connection) and row.remote.port:
            ours = began_here(row)
            if isinstance(ours, Missing):
                ours = row.local.port not in listening
            peer = f"to {row.remote}" if ours else f"from {row.remote.address}"
            found[peer] += 1
            connecting[peer] += row.state is TcpState.SYN_SENT
    return tuple(PeerGroup(peer, number, connecting[peer]) for peer, number in found.most_common())


def _option_groups(entries: Sequence[Entry]) -> tuple[OptionGroup, ...]:
    found: Counter[tuple[bool, tuple[tuple[str, OptionValue], ...]]] = Counter()
    for entry in entries:
        options = entry.seen.options
        if isinstance(options, Missing):
            continue
        listening = isinstance(entry.seen.row, Listener)
        chosen = tuple((name, options[name]) for name in MATTER if name in options)
        known = tuple((name, value) for name, value in chosen if not isinstance(value, Missing))
        found[listening, known] += 1
    return tuple(OptionGroup(number, listening, known) for (listening, known), number in found.most_common())


def _unasked(entries: Sequence[Entry]) -> tuple[tuple[str, int], ...]:
    reasons = Counter(e.seen.options.reason for e in entries if isinstance(e.seen.options, Missing))
    return tuple(reasons.most_common())


def _with_sample(survey: Survey) -> Mapping[str, str]:
    """What could not be listed; and that details are those of a sample, where they are."""
    if survey.total == len(survey.sockets):
        return survey.missing
    known = f"{survey.total:,} are counted, {len(survey.sockets):,} of them described (a uniform sample)"
    reasons = [known, *filter(None, [survey.missing.get("sockets")])]
    return {**survey.missing, "sockets": "; ".join(reasons)}


def _namespace(pid: int) -> Reading[int]:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError as error:
        return Missing(f"/proc/{pid}/ns/net: {error.strerror}")

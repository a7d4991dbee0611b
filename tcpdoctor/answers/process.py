"""The answer to `explain --pid`: one process's TCP, and what `check` finds about it."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Annotated, Literal

from tcpdoctor.answers.ages import TooEarly, too_early
from tcpdoctor.answers.blocker import ToldPlace, ToldStop, told_place, told_stop
from tcpdoctor.answers.check import Status, saw_too_little, status_of
from tcpdoctor.answers.finding import ToldFinding, told_finding
from tcpdoctor.answers.record import (
    Count,
    Host,
    Is,
    Pid,
    Reasons,
    Time,
    host_of,
    told_number,
    utc,
)
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.answers.socket import ToldAge, ToldSocket, told_age, told_socket
from tcpdoctor.answers.sockets import Entry, entries_of, idle_seconds, outstanding, state_of
from tcpdoctor.diagnosis.evaluate import diagnose_process
from tcpdoctor.diagnosis.finding import Severity, Unchecked
from tcpdoctor.diagnosis.holders import who_may_be_stopped
from tcpdoctor.diagnosis.stopping import Asker
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.connection import began_here
from tcpdoctor.facts.socketset import name_ends
from tcpdoctor.kernel.cgroups import Place, read_place
from tcpdoctor.kernel.live import take_samples, with_known_owners
from tcpdoctor.kernel.namespaces import Identity, asking_uid, is_recording, moment, read_identity
from tcpdoctor.kernel.processes import Task, read_process, read_task
from tcpdoctor.kernel.reading import NOT_RECORDED, Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Connection,
    DeadSockets,
    Holder,
    Listener,
    Owner,
    Process,
    Samples,
)
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.kernel.standing import Standing, read_children, read_standings
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.survey import Survey, find_share, held_by, take_survey
from tcpdoctor.kernel.unlisted import ask_process
from tcpdoctor.named_tuples import NamedTuple

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


class ProcessHere(NamedTuple):
    """Who the process is."""

    pid: Pid
    name: str
    uid: Reading[Count]
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


class StateGroup(NamedTuple):
    """Its sockets of one state."""

    sockets: Count
    oldest: Annotated[ToldAge | None, Is("How long it has been in its state; null where nothing tells.")]
    most_idle_s: Annotated[
        float | None,
        Is(
            "Since data last went either way on the one that is idle longest, of those that wait for no "
            "acknowledgement: what is sent again is no data.",
            minimum=0,
        ),
    ]
    unanswered: Reading[Count]
    unacknowledged_bytes: Reading[Count]
    unread_bytes: Reading[Count]
    unanswered_s: Annotated[
        float | None,
        Is("At least so long ago what is sent again was sent first: of the longest.", minimum=0),
    ]


class PeerGroup(NamedTuple):
    """Sockets towards one peer, or from one."""

    peer: Annotated[str, Is("to 10.0.0.5:5432; from 10.0.0.7, whose port tells nothing.")]
    sockets: Count
    connecting: Annotated[int, Is("Of them in SYN_SENT: not connected yet.", minimum=0)]


class OptionGroup(NamedTuple):
    """Sockets with the same options."""

    sockets: Count
    listening: bool
    options: Annotated[Mapping[str, OptionValue | None], Is("By name, in the kernel's units.")]


class DeadGroup(NamedTuple):
    """Connections that are over and whose descriptors are held; in no table of the kernel."""

    sockets: Annotated[int, Is("At least so many; all where every is 1.", minimum=0)]
    every: Annotated[int, Is("One in so many descriptors was asked, always the same; 1: all.", minimum=1)]
    longest_silent_s: Annotated[
        float | None,
        Is("Since the last data or acknowledgement on the one that is silent longest.", minimum=0),
    ]
    peers: Annotated[
        str | None, Is("Their other ends, those with most first; null where the sockets do not tell them.")
    ]


class ProcessAnswer(NamedTuple):
    """One process's TCP: what `tcpdoctor explain --pid N` says, as text and as JSON."""

    schema: Literal["tcpdoctor.process/1"]
    host: Host
    taken_at: Time
    process: ProcessHere
    states: Annotated[Reading[Mapping[str, StateGroup]], Is("By state; a state without sockets is left out.")]
    other_sockets: Annotated[
        Reading[Count],
        Is("Not among them: of other protocols or network namespaces, or in no state."),
    ]
    peers: Annotated[Reading[tuple[PeerGroup, ...]], Is("The most frequent first.")]
    options: Annotated[Reading[tuple[OptionGroup, ...]], Is("Those that matter, the most frequent first.")]
    sockets: Annotated[Reading[tuple[ToldSocket, ...]], Is("Of very many in one state a uniform sample.")]
    dead_sockets: Annotated[Reading[DeadGroup], Is("Of other_sockets those that were connections.")]
    findings: Annotated[Reading[tuple[ToldFinding, ...]], Is("That are about it or name it.")]
    unchecked: Reading[tuple[Unchecked, ...]]
    missing: Reasons
    stop: Annotated[
        ToldStop | None, Is("How it may be stopped; null of a thread of the kernel, or one that has ended.")
    ]
    place: Annotated[ToldPlace | None, Is("Where it stands; null where that was not read.")]
    status: Annotated[
        Status,
        Is("Its worst finding above info; unknown where its sockets are hidden or too little was answered."),
    ]
    too_early: Annotated[
        tuple[TooEarly, ...],
        Is("Leaks that only their age keeps from being findings: whether they are any cannot be told yet."),
    ]


class ProcessesAnswer(NamedTuple):
    """The same of several processes that are called so, the worst first."""

    schema: Literal["tcpdoctor.processes/1"]
    processes: tuple[ProcessAnswer, ...]


_WINDOW = 1.0
"""Seconds between the two looks, as of `check`."""
_DESCRIBED = 5_000
"""Of each state so many sockets are described one by one; all are counted."""


def look_at_processes(pids: Iterable[int], *, shortly: bool = False) -> ProcessAnswer | ProcessesAnswer:
    """Say what TCP sockets processes hold, how they are, which options they set, and what is wrong.

    What a process hides from us is Missing in its answer. The host is looked at twice, once for all of them;
    of several the worst comes first, and one that has ended meanwhile is left out.

    Args:
        pids: Theirs.
        shortly: For a page that shows no options, and only listeners one by one: others are not told.

    Raises:
        QuestionError: There is no such process.
    """
    taken_at, who = moment(), read_identity()
    known = _identify_all(tuple(dict.fromkeys(pids)))
    surveys = [_survey(process.pid, options=not shortly) for _, process in known]
    samples = take_samples(_WINDOW, every_listener=any(map(_listens, surveys)))
    answers = [
        _answer(who, taken_at, asked, process, survey, samples, shortly=shortly)
        for (asked, process), survey in zip(known, surveys, strict=True)
        if not isinstance(survey, Missing) or len(known) == 1 or not _is_gone(process.pid)
    ]
    if len(answers) == 1:
        return answers[0]
    return ProcessesAnswer("tcpdoctor.processes/1", tuple(sorted(answers, key=_worst_first)))


def _is_gone(pid: int) -> bool:
    return isinstance(read_task(pid), Missing)


def _worst_first(answer: ProcessAnswer) -> tuple[int, int, int]:
    findings = () if isinstance(answer.findings, Missing) else answer.findings
    worst = max((Severity[finding.severity.upper()] for finding in findings), default=0)
    return -worst, -(sockets_in_all(answer) or 0), answer.process.pid


def sockets_in_all(answer: ProcessAnswer) -> int | None:
    """Return how many TCP sockets it has in this network namespace; None where they are hidden."""
    if isinstance(answer.states, Missing):
        return None
    return sum(group.sockets for group in answer.states.values())


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


def _survey(pid: int, *, options: bool) -> Reading[_Seen]:
    owners = held_by(pid)
    if isinstance(owners, Missing):
        return owners
    survey = take_survey(COUNTED_STATES, pid=pid, held=owners, options=options, room=_DESCRIBED)
    if isinstance(survey, Missing):
        return survey
    nothing = DeadSockets((), 0, 1)
    has_more = is_recording() or len(owners) > survey.total
    return _Seen(owners, survey, _ask_dead(pid) if has_more else nothing)


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
    *,
    shortly: bool,
) -> ProcessAnswer:
    answer = _hidden_answer(who, taken_at, _process_here(process, asked), read_place(process.pid), seen)
    if isinstance(seen, Missing):
        return answer._replace(stop=_stop(answer.process))
    entries, survey = entries_of(seen.survey), seen.survey
    listening = [entry for entry in entries if isinstance(entry.seen.row, Listener)]
    listeners = tuple(entry.seen.row for entry in listening if isinstance(entry.seen.row, Listener))
    samples = samples._replace(after=with_known_owners(samples.after, seen.owners, process))
    diagnosis = diagnose_process(load_rules().rules, samples, process.pid, listeners)
    return answer._replace(
        states=_state_groups(entries, survey.by_state),
        other_sockets=NOT_RECORDED if is_recording() else max(0, len(seen.owners) - survey.total),
        peers=_peer_groups(entries),
        options=_option_groups(entries),
        sockets=tuple(told_socket(one, options=True) for one in (listening if shortly else entries)),
        dead_sockets=_dead_group(seen.dead),
        findings=tuple(map(told_finding, diagnosis.findings)),
        unchecked=diagnosis.unchecked,
        missing={**_with_sample(survey), **_unasked(entries)},
        stop=_stop(answer.process, survey.total - len(listeners), {row.inode for row in listeners}),
        status=status_of(diagnosis, blind=saw_too_little(diagnosis, samples.after)),
        too_early=too_early(diagnosis, samples, pid=process.pid),
    )


def _hidden_answer(
    who: Identity, taken_at: float, about: ProcessHere, place: Reading[Place], seen: Reading[_Seen]
) -> ProcessAnswer:
    """What is told of a process whose sockets are hidden, but for who may be stopped; and of any at first."""
    why = seen if isinstance(seen, Missing) else Missing("its sockets were not looked at yet")
    hidden = Missing("which findings are about it is not known: its sockets are hidden")
    return ProcessAnswer(
        "tcpdoctor.process/1",
        host_of(who),
        utc(taken_at),
        about,
        *(why,) * 6,
        findings=hidden,
        unchecked=hidden,
        missing={},
        stop=None,
        place=None if isinstance(place, Missing) else told_place(place),
        status="unknown",
        too_early=(),
    )


def _process_here(process: Process, asked: tuple[int, Task]) -> ProcessHere:
    number, task = asked
    return ProcessHere(
        pid=process.pid,
        name=process.name,
        uid=told_number(process.uid),
        parent=process.parent,
        executable=process.executable,
        command=process.command,
        unit=process.unit,
        container=process.container,
        descriptors=process.descriptors,
        descriptor_limit=process.descriptor_limit,
        namespace=_namespace(process.pid),
        kind="zombie" if task.zombie else "kernel" if task.kernel else "process",
        thread=number if number != process.pid else None,
    )


def _stop(
    process: ProcessHere, connections: int | None = None, listens: Set[int] = frozenset()
) -> ToldStop | None:
    """Who has to be stopped to end it, as for a port that it holds: of a worker the one that began it."""
    if process.kind != "process":
        return None
    uid = -1 if isinstance(process.uid, Missing) else process.uid
    holder = Holder(process.pid, process.name, 0, uid)
    standing = read_standings([process.pid])[process.pid]
    above = _above(standing, listens)
    top = above or holder
    standings = {process.pid: standing} if above is None else read_standings([top.pid])
    known = standings[top.pid]
    below = () if isinstance(known, Missing) or not listens else _that_share(known.below, listens)
    mine = () if above is None or any(one.pid == holder.pid for one in below) else (holder,)
    beside = () if above or below else _beside(standing, listens)
    stop = who_may_be_stopped(
        (top, *mine, *below, *beside),
        standings,
        Asker(asking_uid(), listens=bool(listens)),
        parents=dict.fromkeys((one.pid for one in (top, *beside)), 0) if beside else {},
    )
    return None if stop is None else told_stop(stop, None if above else connections)


def _above(standing: Reading[Standing], listens: Set[int]) -> Holder | None:
    """The topmost ancestor of its name that holds a listener of its, through others of the same kind."""
    found = None
    if isinstance(standing, Missing) or not listens:
        return found
    for kin in standing.ancestors:
        if kin.name != standing.kin.name or kin.pid == 1 or find_share(kin.pid, listens) is None:
            break
        found = Holder(kin.pid, kin.name, 0, kin.uid)
    return found


def _beside(standing: Reading[Standing], listens: Set[int]) -> tuple[Holder, ...]:
    """Those that its parent began, or took over, beside it, and that hold a listener of its."""
    if isinstance(standing, Missing) or not listens:
        return ()
    me = standing.kin
    children = read_children(me.parent)
    return _that_share((pid for pid, name in children.items() if name == me.name and pid != me.pid), listens)


def _that_share(pids: Iterable[int], listens: Set[int]) -> tuple[Holder, ...]:
    """Those of these processes that hold one of the listeners."""
    return tuple(filter(None, (find_share(pid, listens) for pid in pids)))


def _dead_group(dead: Reading[DeadSockets]) -> Reading[DeadGroup]:
    if isinstance(dead, Missing):
        return dead
    if not dead.found:
        return DeadGroup(0, 1, None, None)
    ends = [row.peer for row in dead.found if row.peer is not None]
    silent = max(row.silent for row in dead.found)
    return DeadGroup(len(dead.found), dead.every, round(silent, 3), name_ends(ends) if ends else None)


def _state_groups(entries: Sequence[Entry], by_state: Mapping[TcpState, int]) -> Mapping[str, StateGroup]:
    """The states that there are; ages and what is outstanding are those of `entries`."""
    by_name: dict[TcpState, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(state_of(entry), []).append(entry)
    return {
        state.key: _state_group(number, by_name.get(state, []))
        for state in COUNTED_STATES
        if (number := by_state.get(state, 0))
    }


def _state_group(number: int, some: Sequence[Entry]) -> StateGroup:
    """Of all its ages that one counts whose lower bound is highest."""
    known = [entry.age for entry in some if entry.age is not None and not math.isinf(entry.age.high)]
    rows = [entry.seen.row for entry in some if isinstance(entry.seen.row, Connection)]
    idle = [seconds for seconds in map(idle_seconds, rows) if isinstance(seconds, float)]
    waits = outstanding(rows)
    return StateGroup(
        sockets=number,
        oldest=told_age(max(known, key=lambda age: age.low, default=None)),
        most_idle_s=max(idle, default=None),
        unanswered=waits.unanswered,
        unacknowledged_bytes=waits.unacknowledged_bytes,
        unread_bytes=waits.unread_bytes,
        unanswered_s=waits.unanswered_for,
    )


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
    return tuple(
        OptionGroup(number, listening, dict(known)) for (listening, known), number in found.most_common()
    )


def _unasked(entries: Sequence[Entry]) -> Mapping[str, str]:
    """Why options of some sockets are not there."""
    reasons = Counter(e.seen.options.reason for e in entries if isinstance(e.seen.options, Missing))
    why = [
        f"{number} socket{'s' if number != 1 else ''}: {reason}" for reason, number in reasons.most_common()
    ]
    return {"options": "; ".join(why)} if why else {}


def _with_sample(survey: Survey) -> Mapping[str, str]:
    """What could not be listed; and that details are those of a sample, where they are."""
    if survey.total == len(survey.sockets):
        return survey.missing
    known = f"{survey.total:,} are counted, {len(survey.sockets):,} of them described (a uniform sample)"
    reasons = [known, *filter(None, [survey.missing.get("sockets")])]
    return {**survey.missing, "sockets": "; ".join(reasons)}


def _namespace(pid: int) -> Reading[int]:
    if is_recording():
        return Missing("the recording does not tell it")
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError as error:
        return Missing(f"/proc/{pid}/ns/net: {error.strerror}")

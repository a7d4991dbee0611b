"""What `explain --pid` has to say, whatever the format."""

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.answers.sockets import Entry, entries_of, state_of
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.socketset import Age
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.processes import Task, read_descriptors, read_process, read_task
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Listener, Process
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.survey import Survey, take_survey

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


class ProcessReport(NamedTuple):
    """One process's TCP."""

    host: Identity
    taken_at: float
    """Seconds since 1970, UTC."""
    process: Process
    entries: tuple[Entry, ...]
    """Its TCP sockets in this network namespace; of very many in one state a uniform sample."""
    by_state: Mapping[TcpState, int]
    """How many it has in each state, all of them counted."""
    other_sockets: int
    """Its sockets that are not among them: of other protocols or network namespaces, or in no state."""
    namespace: Reading[int]
    """Inode of the process's own network namespace."""
    diagnosis: Diagnosis
    asked: int
    """The number that was asked about: the process's, or that of one of its threads."""
    task: Task
    missing: Mapping[str, str]
    """What could not be listed, with the reason."""

    @property
    def elsewhere(self) -> bool:
        """Whether the process lives in another network namespace, whose sockets are not listed here."""
        return not isinstance(self.namespace, Missing) and self.namespace != self.host.namespace


class StateGroup(NamedTuple):
    """Its sockets of one state."""

    state: TcpState
    number: int
    oldest: Age | None
    """The age of the one whose lower bound is highest; None where the kernel tells nothing of ages."""
    idle: float | None
    """Seconds since data last went either way on the one that is idle longest; None where not known."""


class OptionGroup(NamedTuple):
    """Sockets with the same options."""

    sockets: int
    listening: bool
    options: tuple[tuple[str, OptionValue], ...]


def state_groups(entries: Sequence[Entry], by_state: Mapping[TcpState, int]) -> tuple[StateGroup, ...]:
    """Return the states that there are, in the order of every report; ages are those of `entries`."""
    groups = []
    for state in COUNTED_STATES:
        number = by_state.get(state, 0)
        ages = [entry.age for entry in entries if state_of(entry) is state]
        known = [age for age in ages if age is not None and not math.isinf(age.high)]
        if number:
            oldest = max(known, key=lambda age: age.low, default=None)
            groups.append(StateGroup(state, number, oldest, _longest_idle(entries, state)))
    return tuple(groups)


def _longest_idle(entries: Sequence[Entry], state: TcpState) -> float | None:
    if state is not TcpState.ESTABLISHED:
        return None  # elsewhere data has ended, or never began
    rows = [entry.seen.row for entry in entries if state_of(entry) is state]
    infos = [row.info for row in rows if isinstance(row, Connection)]
    return max(
        (min(info.last_data_sent, info.last_data_recv) for info in infos if not isinstance(info, Missing)),
        default=None,
    )


def peers(entries: Sequence[Entry]) -> tuple[tuple[str, int], ...]:
    """Return whom the process is connected to and how often, the most frequent first.

    Towards a server that is address and port, from a client the address alone: its port tells nothing.
    """
    listening = {row.local.port for row in (e.seen.row for e in entries) if isinstance(row, Listener)}
    found: Counter[str] = Counter()
    for entry in entries:
        row = entry.seen.row
        if isinstance(row, Connection) and row.remote.port:
            incoming = row.local.port in listening
            found[f"from {row.remote.address}" if incoming else f"to {row.remote}"] += 1
    return tuple(found.most_common())


def option_groups(entries: Sequence[Entry]) -> tuple[OptionGroup, ...]:
    """Return the options that matter, sockets with the same ones together, the most frequent first."""
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


def unasked(entries: Sequence[Entry]) -> tuple[tuple[str, int], ...]:
    """Return why sockets' options could not be read, and of how many."""
    reasons = Counter(e.seen.options.reason for e in entries if isinstance(e.seen.options, Missing))
    return tuple(reasons.most_common())


# `tcpdoctor explain --pid`: look at one process's sockets, judge, print.


_WINDOW = 1.0
"""Seconds between the two looks, as of `check`."""
_DESCRIBED = 20_000
"""Of each state so many sockets are described one by one; all are counted."""


def look(pid: int) -> ProcessReport:
    """Gather the answer; errors as `answer_pid`."""
    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.diagnosis.evaluate import diagnose_process

    if pid < 1:
        raise QuestionError(f"--pid {pid}: process ids begin with 1")
    taken_at = time.time()
    task = read_task(pid)
    if isinstance(task, Missing):
        raise QuestionError(f"--pid {pid}: {task.reason}")
    asked, pid = pid, task.process
    process = read_process(pid)
    if isinstance(process, Missing):
        raise QuestionError(f"--pid {pid}: {process.reason}")
    descriptors = read_descriptors(pid)
    survey = take_survey(COUNTED_STATES, pid=pid, options=True, room=_DESCRIBED)
    if isinstance(descriptors, Missing) or isinstance(survey, Missing):
        hidden = descriptors if isinstance(descriptors, Missing) else survey
        raise QuestionError(f"--pid {pid}: {hidden.reason if isinstance(hidden, Missing) else hidden}")
    entries = entries_of(survey)
    listeners = [seen.row for seen in survey.sockets if isinstance(seen.row, Listener)]
    samples = take_samples(_WINDOW, every_listener=bool(listeners))
    return ProcessReport(
        host=read_identity(),
        taken_at=taken_at,
        process=process,
        entries=entries,
        by_state=survey.by_state,
        other_sockets=max(0, len(set(descriptors.values())) - survey.total),
        namespace=_namespace(pid),
        asked=asked,
        task=task,
        missing=_with_sample(survey),
        diagnosis=diagnose_process(load_rules().rules, samples, pid, listeners),
    )


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

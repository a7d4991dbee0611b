"""Rules x subjects -> Diagnosis, and whose owners one that was made without them still wants.

A rule that is clear while nobody knows who holds what is clear whoever does: its facts were ranges that held
the truth. So owners matter for rules that could not be answered, and for the text of those that fired.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

from tcpdoctor.diagnosis.closure import facts_of, join_reasons
from tcpdoctor.diagnosis.finding import MOST_SUBJECTS, Diagnosis, Finding, Unchecked, Untold
from tcpdoctor.diagnosis.measure import (
    SubjectsOf,
    certain,
    first_limit,
    judge,
    make_judge,
    observe,
    value_of,
)
from tcpdoctor.diagnosis.rule import NEEDS, Rule, Trigger, read_body
from tcpdoctor.facts.host import HostFacts, subjects_of
from tcpdoctor.facts.ports import is_loopback
from tcpdoctor.facts.subject import OWNED_FACTS, Crowd, Scope, Subject
from tcpdoctor.kernel.reading import Missing, Reading, Refused
from tcpdoctor.kernel.snapshot import Endpoint, Held, Listener, Owned, Samples, Snapshot
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.named_tuples import NamedTuple

_ELSEWHERE = "it is about the whole machine: look from the host's initial network namespace"
_MOST_REASONS = 3


def diagnose(rules: Sequence[Rule], samples: Samples, most: int = MOST_SUBJECTS) -> Diagnosis:
    """Apply every rule to every subject of its scope. Facts are asked for only in the scopes of the rules.

    Args:
        rules: Those in force.
        samples: One look or two.
        most: Of one rule so many findings are told, the worst, fewer where several rules find a crowd; the
            rest is counted.

    Raises:
        RuleError: A shipped rule's prose is wrong; lint finds that before it is shipped.
    """
    host = HostFacts(samples)  # shared, so that no fact is computed twice
    return diagnose_subjects(rules, samples.after, lambda scope: subjects_of(samples, scope, host), most)


_LEAST_TOLD = 10
"""Findings of a rule that are told whatever else there is to say."""


class _Fired(NamedTuple):
    """A rule, and for which subjects it fired."""

    rule: Rule
    subjects: list[tuple[Subject, Trigger]]


def diagnose_subjects(
    rules: Sequence[Rule], snapshot: Snapshot, find_subjects: SubjectsOf, most: int = MOST_SUBJECTS
) -> Diagnosis:
    """The same for subjects from anywhere; `snapshot` says which namespace, and what its sysctls are."""
    known: dict[Scope, Reading[Sequence[Subject]]] = {}
    every: list[_Fired] = []
    unchecked: list[Unchecked] = []
    for rule in rules:
        elsewhere = _why_not_here(rule, snapshot)
        if elsewhere is not None:
            unchecked.append(Unchecked(rule.id, elsewhere, applies=False))
            continue
        if rule.scope not in known:
            known[rule.scope] = find_subjects(rule.scope)
        subjects = known[rule.scope]
        if isinstance(subjects, Missing):
            unchecked.append(Unchecked(rule.id, subjects.reason))
            continue
        fired, unknown = _apply(rule, subjects)
        every.append(_Fired(rule, fired))
        if unknown:
            unchecked.append(Unchecked(rule.id, _summarise(unknown, subjects)))
        elif snapshot.untold and (reason := why_a_part(rule, snapshot.untold)) is not None:
            unchecked.append(Unchecked(rule.id, reason))
    findings: list[Finding] = []
    untold: list[Untold] = []
    firing = _without_explained(every)
    share = _share([len(fired) for _, fired in firing], most)
    for rule, fired in firing:
        told, rest = _worst(rule, fired, share)
        findings += _tell_all(rule, told, snapshot)
        untold += rest
    findings.sort(key=lambda finding: (-finding.severity, finding.rule, -_extent(finding), finding.label))
    return Diagnosis(tuple(findings), tuple(unchecked), len(rules), tuple(untold))


def _without_explained(every: Sequence[_Fired]) -> list[_Fired]:
    """Leave out what another finding about the same subject explains: two would give contrary advice."""
    told = {
        (explained, id(subject))
        for rule, fired in every
        for explained in rule.explains
        for subject, _ in fired
    }
    if not told:
        return list(every)
    return [
        _Fired(rule, [each for each in fired if (rule.id, id(each[0])) not in told]) for rule, fired in every
    ]


def _share(crowds: Sequence[int], most: int) -> int:
    """Return how many findings of each rule are told: fewer than `most` where several fire for crowds.

    What is told of all of them stays below a megabyte in every format.
    """
    together = most + most // 2
    if sum(min(crowd, most) for crowd in crowds) <= together:
        return most
    large = sum(crowd > _LEAST_TOLD for crowd in crowds)
    return min(most, max(_LEAST_TOLD, together // max(1, large)))


def _worst(
    rule: Rule, fired: list[tuple[Subject, Trigger]], most: int
) -> tuple[list[tuple[Subject, Trigger]], list[Untold]]:
    """The worst subjects, and how many more of each severity there are.

    A rule may fire for thirty thousand listeners at once: nobody reads megabytes.
    """
    if len(fired) <= most:
        return fired, []
    severity = {id(trigger): rule.severity or trigger.severity for _, trigger in fired}
    limit = first_limit(rule)

    def badness(each: tuple[Subject, Trigger]) -> tuple[float, float]:
        subject, trigger = each
        value = certain(value_of(rule, subject.facts, at_most=trigger.at_most))
        return -severity[id(trigger)], -_beyond(value, limit)

    ordered = sorted(fired, key=badness)
    rest = Counter(severity[id(trigger)] for _, trigger in ordered[most:])
    untold = [Untold(rule.id, each, rest[each]) for each in sorted(rest, reverse=True)]
    return ordered[:most], untold


def _why_not_here(rule: Rule, snapshot: Snapshot) -> str | None:
    """Say why there can be no such disease here; None where there can, or where nobody looked."""
    if rule.initial_only and snapshot.initial_namespace is False:
        return _ELSEWHERE
    if rule.needs is not None:
        sign = snapshot.sysctls.get(NEEDS[rule.needs])
        if isinstance(sign, Missing) and not isinstance(sign, Refused):
            return sign.reason
    return None


def why_a_part(rule: Rule, untold: Mapping[str, str]) -> str | None:
    """Say why there may be others than those that were found well; None: these are all."""
    if rule.scope is Scope.HOST:
        families = {name.partition(".")[0] for name in _numbers_of(rule)}
        return None if families.isdisjoint(_OF_LISTED) else untold.get("sockets")
    return untold.get(rule.scope.value)


_OF_LISTED = frozenset(
    {
        "fin_wait_1",
        "fin_wait_2",
        "idle",
        "last_ack",
        "self_connected",
        "syn_recv",
        "unanswered",
        "zero_window",
    }
)
"""Families of facts about the host that are about its sockets, one by one."""


def _apply(
    rule: Rule, subjects: Sequence[Subject]
) -> tuple[list[tuple[Subject, Trigger]], Mapping[str, Sequence[int]]]:
    """The subjects for which it fires, and by reason the places of those that could not be judged."""
    fired: list[tuple[Subject, Trigger]] = []
    unknown: dict[str, list[int]] = {}
    for number, verdict in _verdicts(rule, subjects):
        if isinstance(verdict, Missing):
            unknown.setdefault(verdict.reason, []).append(number)
            continue
        subject = subjects[number]
        if subject.hidden:
            unknown.setdefault(_why_hidden(rule, verdict, subject), []).append(number)
        else:
            fired.append((subject, verdict))
    return fired, unknown


def _verdicts(rule: Rule, subjects: Sequence[Subject]) -> Iterable[tuple[int, Trigger | Missing]]:
    """What the rule says of each subject, by its place, without those that it is clear for."""
    by = make_judge(rule)
    if not isinstance(subjects, Crowd) or not subjects.apart.isdisjoint(_numbers_of(rule)):
        each = ((number, judge(by, subject.facts)) for number, subject in enumerate(subjects))
        return ((number, verdict) for number, verdict in each if verdict is not None)
    found: list[tuple[int, Trigger | Missing]] = []
    for alike in subjects.alike.values():
        verdict = judge(by, subjects[alike[0]].facts)
        if verdict is not None:
            found += [(number, verdict) for number in alike]
    return sorted(found, key=itemgetter(0))


def _numbers_of(rule: Rule) -> Iterator[str]:
    """The names of the facts that its conditions read."""
    return (fact.name for trigger in rule.fires for fact in facts_of(trigger.tree))


def _tell_all(rule: Rule, fired: Sequence[tuple[Subject, Trigger]], snapshot: Snapshot) -> list[Finding]:
    if not fired:
        return []
    from tcpdoctor.diagnosis.tell import tell  # a healthy host does not pay for prose

    body = read_body(rule)  # once per rule: TOML is slow
    whom = [subject for subject, _ in fired]
    return [tell(rule, body, trigger, subject, snapshot, whom) for subject, trigger in fired]


def _extent(finding: Finding) -> float:
    """How far the disease goes beyond the rule's limit, to have the worst of a rule's subjects first."""
    return _beyond(finding.value, finding.limit)


def _beyond(value: float | None, limit: float | None) -> float:
    if value is None or not limit:
        return value or 0.0
    # what fires above its limit is larger than it, what fires below is smaller
    return max(value / limit, limit / value if value else math.inf)


def _why_hidden(rule: Rule, trigger: Trigger, subject: Subject) -> str:
    values = [observation.value for observation in observe(rule, trigger, subject.facts)]
    return join_reasons(values) or f"{subject.label} cannot be seen"


def _summarise(unknown: Mapping[str, Sequence[int]], subjects: Sequence[Subject]) -> str:
    """One reason for the report; it names the subjects where others could be judged."""
    parts = [
        reason if len(whom) == len(subjects) else f"{reason} ({_first(whom, subjects)})"
        for reason, whom in unknown.items()
    ]
    more = len(parts) - _MOST_REASONS
    return "; ".join(parts[:_MOST_REASONS]) + (f"; and {more} more reasons" if more > 0 else "")


def _first(whom: Sequence[int], subjects: Sequence[Subject]) -> str:
    shown = [subjects[number].label for number in whom[:_MOST_REASONS]]
    return name_a_few(shown, _MOST_REASONS, len(whom))


# The findings of `check` that are about one port, one process or one destination, or name it.


def diagnose_port(rules: Sequence[Rule], samples: Samples, port: int, pids: Collection[int]) -> Diagnosis:
    """Keep the findings that are about a port, about who is there, or of the host about sockets there.

    Args:
        rules: Those in force.
        samples: With owners; two looks have the same findings with the same severities as `check`.
        port: A local port, and the port of destinations.
        pids: The processes that hold sockets at this port. Rules about processes are asked about these only.
    """

    def only_here(subject: Subject) -> bool:
        return subject.scope is not Scope.PROCESS or subject.identity.get("pid") in pids

    def is_here(peer: Endpoint) -> bool:
        return peer.port == port and is_loopback(peer.address)

    def concerns(finding: Finding) -> bool:
        if finding.scope is Scope.HOST:
            return port in finding.local_ports or any(map(is_here, finding.peers))
        return finding.scope is Scope.PROCESS or finding.identity.get("port") == port

    here = [rule for rule in rules if rule.scope is not Scope.HOST or _tells_of_sockets(rule)]
    return _diagnose_part(here, samples, only_here, concerns)


def _tells_of_sockets(rule: Rule) -> bool:
    """Whether a rule about the host says whose sockets it is about: most judge settings and counters."""
    return any(name.partition(".")[0] in _TELL_OF_SOCKETS for name in _numbers_of(rule))


_TELL_OF_SOCKETS = frozenset({"fin_wait_1", "last_ack", *(name.partition(".")[0] for name in OWNED_FACTS)})
"""Families of facts of which one says who holds the sockets, or, where nobody does, to whom they lead."""


def diagnose_process(
    rules: Sequence[Rule], samples: Samples, pid: int, listeners: Collection[Listener]
) -> Diagnosis:
    """Apply all rules, and keep the findings that are about a process or name it.

    Args:
        rules: Those in force.
        samples: With owners; two looks have the same findings with the same severities as `check`.
        pid: The process. Rules about processes are asked about this one only.
        listeners: Those that it holds.
    """

    def only_this(subject: Subject) -> bool:
        return subject.scope is not Scope.PROCESS or subject.identity.get("pid") == pid

    def concerns(finding: Finding) -> bool:
        return pid in finding.pids or any(is_of_listener(finding, row) for row in listeners)

    return _diagnose_part(rules, samples, only_this, concerns)


def diagnose_destination(
    rules: Sequence[Rule],
    samples: Samples,
    destination: Endpoint,
    source: str | None,
    listeners: Collection[Listener],
) -> Diagnosis:
    """Apply all rules, and keep the findings that are about a destination or name it.

    Args:
        rules: Those in force.
        samples: As `diagnose_process`.
        destination: Address and port, IPv4 as IPv4.
        source: The client's address: a finding about the same destination from another address is left out.
        listeners: Those of this host that answer there; what is found of who holds them is kept too.
    """
    serving = {holder.pid for row in listeners if isinstance(row.owner, Held) for holder in row.owner.holders}

    def concerns(finding: Finding) -> bool:
        if finding.scope is Scope.DESTINATION and source is not None and finding.identity["source"] != source:
            return False
        if finding.scope is Scope.PROCESS and finding.identity.get("pid") in serving:
            return True
        if finding.scope is Scope.HOST and any(row.local.port in finding.local_ports for row in listeners):
            return True
        return destination in finding.peers or any(is_of_listener(finding, row) for row in listeners)

    return _diagnose_part(rules, samples, lambda _subject: True, concerns)


def is_of_listener(finding: Finding, listener: Listener) -> bool:
    """Whether a finding is about this listener; those that share an address have cookies."""
    identity = finding.identity
    if finding.scope is not Scope.LISTENER:
        return False
    place = (identity.get("address"), identity.get("port"), identity.get("interface", 0))
    if place != (listener.local.address, listener.local.port, listener.device):
        return False
    return identity.get("cookie", listener.cookie) == listener.cookie


def _diagnose_part(
    rules: Sequence[Rule],
    samples: Samples,
    wanted: Callable[[Subject], bool],
    concerns: Callable[[Finding], bool],
) -> Diagnosis:
    host = HostFacts(samples)

    def subjects(scope: Scope) -> Reading[Sequence[Subject]]:
        found = subjects_of(samples, scope, host)
        return found if isinstance(found, Missing) else list(filter(wanted, found))

    whole = diagnose_subjects(rules, samples.after, subjects)
    return whole._replace(findings=tuple(filter(concerns, whole.findings)))


def owners_wanted(rules: Sequence[Rule], diagnosis: Diagnosis) -> frozenset[Owned]:
    """The kinds of sockets whose owners could change the diagnosis, or that its findings name."""
    unknown = {each.rule for each in diagnosis.unchecked}
    fired = {each.rule for each in diagnosis.findings}
    wanted: set[Owned] = set()
    for rule in rules:
        if rule.id in fired:
            wanted |= _told_by(rule)
        elif rule.id in unknown:
            wanted |= _decided_by(rule)
    return frozenset(wanted)


def _decided_by(rule: Rule) -> set[Owned]:
    """What its conditions ask; a tree is walked only where its text names such a fact."""
    return {
        owned
        for trigger in rule.fires
        if any(name in trigger.text for name in OWNED_FACTS)
        for fact in facts_of(trigger.tree)
        for owned in OWNED_FACTS.get(fact.name, ())
    }


def _told_by(rule: Rule) -> set[Owned]:
    """What any part of the rule names; listeners on one address are told apart by their owners besides."""
    named = {owned for name, each in OWNED_FACTS.items() if name in rule.text for owned in each}
    return named | {Owned.LISTENER} if rule.scope is Scope.LISTENER else named

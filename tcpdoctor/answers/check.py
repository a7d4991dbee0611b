"""What `check` concludes from a diagnosis: status and exit code, the same in every format."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, TypeAlias

from tcpdoctor.diagnosis.closure import facts_of
from tcpdoctor.diagnosis.finding import MOST_SUBJECTS, Diagnosis, Finding, Severity
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.vocabulary import MACHINE_WIDE
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Owned, Samples, Snapshot
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:  # one namespace does without those of many
    from tcpdoctor.answers.ages import Measured, TooEarly
    from tcpdoctor.answers.everywhere import Place, Unseen
    from tcpdoctor.answers.planned import PlannedChange
    from tcpdoctor.diagnosis.measure import Measure
    from tcpdoctor.facts.destinations import PortsLeft
    from tcpdoctor.kernel.namespace_entry import HeldPlace
    from tcpdoctor.recordings.source import Source


Status: TypeAlias = Literal["ok", "warning", "critical", "unknown"]
"""What a look comes to."""


class Check(NamedTuple):
    """One run of `check`: all that a report needs."""

    diagnosis: Diagnosis
    samples: Samples
    window: float
    """Seconds between the two samples that the user asked for; 0: one sample."""
    fail_on: Severity | None = Severity.WARNING
    """The least severity that changes the exit code; None: no finding does (`--fail-on never`)."""
    strict: bool = False
    """Whether a rule that could not be answered matters."""
    version: str = ""
    """Of this program."""
    rules: tuple[Rule, ...] = ()
    """Those in force, for formats that name the rules that found nothing."""
    duration: float | None = None
    """Seconds from the command's start to the diagnosis, the window included; None where nobody measured."""
    interrupted: bool = False
    """Whether the look was cut short: rates and what lasts are of less time, or not all was read."""
    most_destinations: int = 10
    """Destinations that are named to Prometheus, those with the fewest ports left."""
    place: "Place | None" = None
    """How the network namespace is called, where it is one of many (`--netns all`)."""
    way: str | None = None
    """What to type before a command to run it in the namespace that was asked for (`--netns`)."""
    plan: "tuple[PlannedChange, ...]" = ()
    """The settings that `tcpdoctor fix` would change, where the format tells of them."""
    settable: int = 0
    """How many these are, also where the format tells no more."""
    source: "Source | None" = None
    """Which recordings were read, where it was no look at this host (`--from`)."""
    netns: str = ""
    """The value of `--netns` that leads to where was looked, as a shell takes it; empty: none is needed."""
    early: "tuple[TooEarly, ...]" = ()
    """Leaks that only their age hides, where a text tells of them."""
    measured: "Measured | None" = None
    """What else the format has numbers of; None where it has none."""

    @property
    def title(self) -> str:
        """Whose findings these are: the host's name, which not every recording tells."""
        host = self.samples.after.host
        return host if self.source is None else self.source.title(host)


CROWD = 1_000
"""Sockets: ten times what the rules below ask for of one process, and more than pass through at once."""
JUDGES = {
    "close-wait-leak": TcpState.CLOSE_WAIT,
    "fin-wait-1-stuck": TcpState.FIN_WAIT_1,
    "half-open-connections-pile-up": TcpState.SYN_RECV,
    "last-ack-stuck": TcpState.LAST_ACK,
    "syn-sent-unanswered": TcpState.SYN_SENT,
}
"""Of states that sockets of a healthy host leave soon, the rule that says whether they do."""


class Unjudged(NamedTuple):
    """Sockets of which nobody could say whether they are a disease, in a number that seldom is none."""

    number: int
    state: TcpState
    rule: str
    """Which would have said it."""
    reason: str
    """Why it could not, and what to ask for."""


class Checks(NamedTuple):
    """One run of `check --netns all`: a check for each network namespace, the worst first."""

    checks: tuple[Check, ...]
    unseen: "tuple[Unseen, ...]"
    """Namespaces that could not be looked at."""
    hidden: int
    """Processes that did not let us see their namespace: there may be more."""


def diagnose_on_demand(
    rules: Sequence[Rule],
    samples: Samples,
    most: int = MOST_SUBJECTS,
    add_owners: "Callable[[Snapshot, Collection[Owned]], Snapshot] | None" = None,
) -> tuple[Diagnosis, Samples]:
    """Judge a look that was taken without owners; search for those on which something hangs, and judge again.

    Args:
        rules: Those in force.
        samples: Taken with ``owners=None``.
        most: Of one rule so many findings are told.
        add_owners: Finds the owners; None: `tcpdoctor.kernel.live.add_owners`, which remembers none.

    Returns:
        The diagnosis, and the samples with the owners that were searched for. What was found of one kind
        of socket may make a rule fire that names another, so this goes on until nothing more is wanted.
    """
    from tcpdoctor.diagnosis.evaluate import diagnose, owners_wanted

    searched: frozenset[Owned] = frozenset()
    while True:
        diagnosis = diagnose(rules, samples, most)
        wanted = owners_wanted(rules, diagnosis) - searched
        if not wanted:
            return diagnosis, samples
        if add_owners is None:
            from tcpdoctor.kernel import live  # a healthy host does not pay for it

            add_owners = live.add_owners
        del diagnosis  # and with it what was computed for it
        searched |= wanted
        samples = samples._replace(after=add_owners(samples.after, wanted))


def check_everywhere(
    finish: Callable[[Diagnosis, Samples], Check],
    rules: Sequence[Rule],
    window: float,
    most: int = MOST_SUBJECTS,
    *,
    every_owner: bool = False,
    waiting: AbstractContextManager[None] | None = None,
    interrupted: Callable[[], None] | None = None,
) -> Checks:
    """Look into every network namespace of this host and judge what is there.

    Args:
        finish: Makes a check of what was found in one of them.
        rules: Those in force.
        window: Seconds between the two samples; 0: one sample.
        most: Of one rule so many findings are told, in each namespace.
        every_owner: Find the owners of all sockets that any rule may ask about.
        waiting: Entered while the windows pass.
        interrupted: As `take_samples`.

    Raises:
        QuestionError: No namespace could be looked at, for the same reason.
    """
    from tcpdoctor.answers.everywhere import BADNESS, gathered
    from tcpdoctor.kernel.workers import every_place, sample_each

    with every_place() as places:
        seen = sample_each(places.held, window, waiting=waiting, interrupted=interrupted)
        samples = {
            held: each for held, each in zip(places.held, seen, strict=True) if not isinstance(each, Missing)
        }
        judged = _judge_each(rules, samples, most, every_owner=every_owner)
        found = gathered(
            places,
            [
                one if isinstance(one, Missing) else judged[held]
                for held, one in zip(places.held, seen, strict=True)
            ],
        )
    checks = [
        finish(diagnosis, after)._replace(place=place, netns=place.netns, way=place.way)
        for place, (diagnosis, after) in found.told
    ]
    checks = _told_once(rules, checks)
    checks.sort(key=lambda check: (-BADNESS[exit_code(check)], not (check.place and check.place.own)))
    return Checks(tuple(checks), found.unseen, found.hidden)


def _judge_each(
    rules: Sequence[Rule], samples: "dict[HeldPlace, Samples]", most: int, *, every_owner: bool
) -> "dict[HeldPlace, tuple[Diagnosis, Samples]]":
    """Judge all looks; owners are searched for as `diagnose_on_demand` does, for all of them at once."""
    from tcpdoctor.diagnosis.evaluate import diagnose, owners_wanted
    from tcpdoctor.kernel.workers import add_owners_to_each

    judged: dict[HeldPlace, tuple[Diagnosis, Samples]] = {}
    searched: dict[HeldPlace, frozenset[Owned]] = dict.fromkeys(samples, frozenset())
    wanted = dict.fromkeys(samples, frozenset(Owned) if every_owner else frozenset())
    fresh = list(samples)
    while fresh:
        looks = {held: (samples[held].after, wanted[held]) for held in fresh if wanted[held]}
        for held, look in (add_owners_to_each(looks) if looks else {}).items():
            samples[held] = samples[held]._replace(after=look)
            searched[held] |= wanted[held]
        for held in fresh:
            diagnosis = diagnose(rules, samples[held], most)
            judged[held] = diagnosis, samples[held]
            wanted[held] = owners_wanted(rules, diagnosis) - searched[held]
        fresh = [held for held in fresh if wanted[held]]
    return judged


def _told_once(rules: Sequence[Rule], checks: list[Check]) -> list[Check]:
    """Leave what is true of the whole machine to the host's own namespace, else to the first that has it."""
    wide = {
        rule.id
        for rule in rules
        if rule.scope is Scope.HOST
        and all(fact.name in MACHINE_WIDE for trigger in rule.fires for fact in facts_of(trigger.tree))
    }
    told: set[str] = set()
    once = {}
    for check in sorted(checks, key=lambda check: check.samples.after.initial_namespace is not True):
        findings = check.diagnosis.findings
        kept = tuple(finding for finding in findings if finding.rule not in told)
        told |= wide.intersection(finding.rule for finding in findings)
        once[check.samples.after.namespace] = check._replace(
            diagnosis=check.diagnosis._replace(findings=kept)
        )
    return [once[check.samples.after.namespace] for check in checks]


def exit_code_of_all(checks: Checks) -> int:
    """Return the worst exit code of all namespaces; 3 where one could not be looked at and none is worse."""
    from tcpdoctor.answers.everywhere import worst_exit_code

    codes = [exit_code(check) for check in checks.checks] + [3] * bool(checks.unseen)
    return worst_exit_code(codes)


def status(check: Check) -> Status:
    """Return the worst severity above info, else ``ok``; ``unknown`` where we could not look.

    We could not look where fewer than half of the rules that apply here were answered, where one was not and
    no socket could be listed at all, where a crowd of sockets was not judged, and under `--strict` where one
    rule was not answered.
    """
    return status_of(check.diagnosis, blind=is_blind(check))


def status_of(diagnosis: Diagnosis, *, blind: bool) -> Status:
    """Return the same of a diagnosis; `blind`: too little could be answered to call it healthy."""
    match worst_severity(diagnosis):
        case Severity.CRITICAL:
            return "critical"
        case Severity.WARNING:
            return "warning"
    return "unknown" if blind else "ok"


def exit_code(check: Check) -> int:
    """Return 2 critical, 1 warning, 3 could not look, 0 otherwise: the monitoring plugins' codes.

    Info never counts, and nothing below `fail_on` does. A look that was interrupted is none.
    """
    if check.interrupted:
        return 3
    worst = worst_severity(check.diagnosis)
    if check.fail_on is not None and worst is not None and worst >= max(check.fail_on, Severity.WARNING):
        return 2 if worst is Severity.CRITICAL else 1
    return 3 if is_blind(check) else 0


def is_blind(check: Check) -> bool:
    """Whether too little could be answered to call the host healthy."""
    return saw_too_little(check.diagnosis, check.samples.after, strict=check.strict)


def saw_too_little(diagnosis: Diagnosis, look: Snapshot, *, strict: bool = False) -> bool:
    """Whether a look in which a rule found nothing says too little: see `status`."""
    hidden = {rule.rule for rule in diagnosis.unchecked if rule.applies}
    if strict and hidden:
        return True
    fired = {finding.rule for finding in diagnosis.findings}
    unanswered = hidden - fired
    elsewhere = unchecked_rules(diagnosis) - hidden - fired
    applying = diagnosis.rules - len(elsewhere)
    answered = applying - len(unanswered)
    if not answered or 2 * answered < applying or unjudged(diagnosis, look):
        return True
    return bool(unanswered) and _saw_no_sockets(look)


def unjudged(diagnosis: Diagnosis, look: Snapshot) -> list[Unjudged]:
    """Return the crowds in a state that no socket should stay in, whose rule gave no answer."""
    census = look.census
    if isinstance(census, Missing):
        return []
    fired = {finding.rule for finding in diagnosis.findings}
    found = [
        Unjudged(census.by_state.get(JUDGES[one.rule], 0), JUDGES[one.rule], one.rule, one.reason)
        for one in diagnosis.unchecked
        if one.applies and one.rule in JUDGES and one.rule not in fired
    ]
    return sorted((one for one in found if one.number >= CROWD), key=lambda one: -one.number)


def crowd_words(crowds: Iterable[tuple[int, TcpState]]) -> str:
    """Say that nobody can tell whether sockets are a disease: ``5,000 in CLOSE_WAIT, and ...``."""
    said = " and ".join(f"{number:,} in {state.name}" for number, state in crowds)
    return f"{said}, and it is not told whether they stay"


def _saw_no_sockets(look: Snapshot) -> bool:
    return all(isinstance(seen, Missing) for seen in (look.census, look.listeners, look.detail))


def worst_severity(diagnosis: Diagnosis) -> Severity | None:
    """Return the worst severity found, None where nothing was."""
    return max((finding.severity for finding in diagnosis.findings), default=None)


def unchecked_rules(diagnosis: Diagnosis) -> set[str]:
    """Return the ids of the rules that could not be answered for at least one subject."""
    return {rule.rule for rule in diagnosis.unchecked}


def checked(diagnosis: Diagnosis) -> int:
    """Return how many rules were answered for every subject."""
    return diagnosis.rules - len(unchecked_rules(diagnosis))


def with_measures(check: Check, kind: str) -> Check:
    """Return a check with all that a format tells; what the format does not tell costs nothing."""
    from tcpdoctor.answers.ages import AGED_STATES, Measured, ages_in, oldest_ages, ports_usable, too_early

    if kind == "html":
        ages = {state: ages_in(check.samples, state) for state in AGED_STATES}
        return check._replace(measured=Measured(ages=ages, usable_ports=ports_usable(check.samples)))
    if kind == "nagios":
        return check._replace(measured=Measured(measures_of(check)))
    if kind == "prometheus":
        found = measures_of(check), destinations_left(check), oldest_ages(check.samples)
        return check._replace(measured=Measured(*found))
    return check._replace(early=too_early(check.diagnosis, check.samples, check.rules))


def measures_of(check: Check) -> "Sequence[Measure]":
    """Return how far the worst subject of each rule has gone, rules that do not apply here left out.

    Where a recording is a part, those that it does not show may have gone further: Missing, if nothing fired.
    """
    from tcpdoctor.diagnosis.evaluate import why_a_part
    from tcpdoctor.diagnosis.measure import measures  # two formats need it
    from tcpdoctor.facts.host import HostFacts, subjects_of

    samples = check.samples
    elsewhere = {unchecked.rule for unchecked in check.diagnosis.unchecked if not unchecked.applies}
    host = HostFacts(samples)
    rules = [rule for rule in check.rules if rule.id not in elsewhere]
    found = measures(rules, lambda scope: subjects_of(samples, scope, host))
    untold = samples.after.untold
    fired = {finding.rule for finding in check.diagnosis.findings}
    parts = {rule.id: why_a_part(rule, untold) for rule in rules if untold and rule.id not in fired}
    return [
        measure if (reason := parts.get(measure.rule)) is None else measure._replace(value=Missing(reason))
        for measure in found
    ]


def destinations_left(check: Check) -> "Sequence[PortsLeft]":
    """Return the destinations to which the fewest ports are left, as many as were asked for."""
    from tcpdoctor.facts.destinations import fewest_ports_left  # one format needs it

    return fewest_ports_left(check.samples.after, check.most_destinations)


def count_of(diagnosis: Diagnosis, severity: Severity) -> int:
    """Return how many findings have exactly this severity, told or not."""
    told = sum(finding.severity is severity for finding in diagnosis.findings)
    return told + sum(each.number for each in diagnosis.untold if each.severity is severity)


def untold_by_rule(diagnosis: Diagnosis) -> dict[str, int]:
    """Return by rule how many findings there are beyond those that are told."""
    found: dict[str, int] = {}
    for each in diagnosis.untold:
        found[each.rule] = found.get(each.rule, 0) + each.number
    return found


def loud_findings(check: Check) -> tuple[Finding, ...]:
    """Return the findings at or above `fail_on`, which are what `--quiet` prints."""
    if check.fail_on is None:
        return ()
    return tuple(finding for finding in check.diagnosis.findings if finding.severity >= check.fail_on)


# Of many network namespaces: which is the worst, and of what.


class ListRow(NamedTuple):
    """One network namespace in the list: its verdict and the worst that was found."""

    verdict: str
    name: str
    label: str
    worst: str
    """The worst finding with its subject, or why it could not be looked at; empty where all is well."""


def list_rows(checks: Checks) -> Iterator[ListRow]:
    """Return every namespace, the worst first; those that nobody could look at before those that are well."""
    rows = [_row(check) for check in checks.checks]
    ill = sum(exit_code(check) in (1, 2) for check in checks.checks)
    unseen = [ListRow("unknown", one.place.short, one.place.label, one.reason) for one in checks.unseen]
    yield from (*rows[:ill], *unseen, *rows[ill:])


def _row(check: Check) -> ListRow:
    findings, place = check.diagnosis.findings, check.place
    worst = (
        f"{findings[0].whom or findings[0].label}: {findings[0].headline or findings[0].title}"
        if findings
        else ""
    )
    name, label = ("here", "here") if place is None else (place.short, place.label)
    if check.samples.after.initial_namespace is True and name == "here":
        name = "host"
    return ListRow(status(check), name, label, worst)


def verdict_of_all(checks: Checks) -> str:
    """Return the worst status of all."""
    order = ("critical", "warning", "unknown", "ok")
    words = {status(check) for check in checks.checks} | ({"unknown"} if checks.unseen else set())
    return next((word for word in order if word in words), "ok")

"""What formats have numbers of: how far rules have gone, how old sockets are, which leaks are too young."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from tcpdoctor.answers.record import Is
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.answers.states import are_many_closing
from tcpdoctor.diagnosis.closure import Limit, Older, compile_number
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.measure import Measure, SubjectsOf, first_limit
from tcpdoctor.diagnosis.rule import Rule, measured
from tcpdoctor.facts.connection import Earlier, age_of
from tcpdoctor.facts.host import HostFacts, subjects_of
from tcpdoctor.facts.ports import usable_ports
from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Detail, Samples
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:  # one format needs it
    from tcpdoctor.facts.destinations import PortsLeft

_STEPS = (
    (1, "below 1 s"),
    (10, "1 to 10 s"),
    (60, "10 to 60 s"),
    (600, "1 to 10 min"),
    (3600, "10 to 60 min"),
    (86400, "1 to 24 h"),
    (math.inf, "a day or more"),
)
AGED_STATES = (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2, TcpState.SYN_SENT)
"""States whose sockets are known one by one and whose age the kernel bounds."""


class AgeStep(NamedTuple):
    """Sockets of about one age."""

    label: str
    sure: int
    longer: int
    """How many have been there so long at least; how much longer the kernel does not tell."""


class StateAges(NamedTuple):
    """The ages of the sockets of one state."""

    steps: tuple[AgeStep, ...]
    """All of them, the youngest first."""
    unknown: int
    """Sockets of which it is not known whether they are a second old."""
    known: int
    """Sockets that were read one by one."""
    total: int


class Measured(NamedTuple):
    """What some formats tell besides findings; what the format has not is empty."""

    rules: Sequence[Measure] = ()
    """How far the worst subject of each rule has gone."""
    destinations: "Sequence[PortsLeft]" = ()
    """Those to which the fewest ports are left."""
    oldest: Mapping[TcpState, float] = MappingProxyType({})
    """For how many seconds the oldest socket of a state has been in it, at least."""
    ages: Mapping[TcpState, Reading[StateAges]] = MappingProxyType({})
    usable_ports: int | None = None
    """From so many connect() may choose; None where that is not known, or there are none."""


def ages_in(samples: Samples, state: TcpState) -> Reading[StateAges]:
    """Return how long the sockets of a state have been there; Missing where they were not read one by one."""
    detail = samples.after.detail
    if isinstance(detail, Missing):
        return detail
    rows = detail.get(state)
    if rows is None:
        return Missing("they were not read one by one")
    return _stepped(rows, Earlier(samples))


def _stepped(rows: Detail, earlier: Earlier) -> StateAges:
    sure = dict.fromkeys((label for _, label in _STEPS), 0)
    longer = dict(sure)
    unknown = 0
    for connection in rows.connections:
        age = age_of(connection, earlier)
        least, most = _step(age.low), _step(age.high)
        if least == most:
            sure[least] += 1
        elif age.low < 1:
            unknown += 1
        else:
            longer[least] += 1
    steps = tuple(AgeStep(label, number, longer[label]) for label, number in sure.items())
    return StateAges(steps, unknown, len(rows.connections), rows.total)


def _step(age: float) -> str:
    return next(label for limit, label in _STEPS if age < limit or math.isinf(limit))


def oldest_ages(samples: Samples) -> Mapping[TcpState, float]:
    """Return how many seconds the oldest socket of a state has been there for sure; only states with one.

    A state whose sockets are not all known one by one is left out where the age is not bounded from below.
    """
    detail = samples.after.detail
    if isinstance(detail, Missing):
        return {}
    earlier = Earlier(samples)
    ages = {
        state: [age_of(connection, earlier) for connection in detail[state].connections]
        for state in AGED_STATES
        if state in detail
    }
    known = {state: [age.low for age in rows if age.low > 0 or age.high < 1] for state, rows in ages.items()}
    return {state: max(lows) for state, lows in known.items() if lows}


def ports_usable(samples: Samples) -> int | None:
    """Return how many ports connect() may choose from; None where that is not known, or there are none."""
    usable = usable_ports(samples.after)
    return usable if isinstance(usable, int) and usable > 0 else None


class TooEarly(NamedTuple):
    """So many sockets of one process that they are a finding once they are old enough."""

    rule: str
    state: Literal["close_wait", "fin_wait_2"]
    sockets: Annotated[
        int,
        Is("Of the process that has the most; where it is not known who holds them, of the host.", minimum=0),
    ]
    least: Annotated[int, Is("How many of one process have to be old enough.", minimum=0)]
    age_s: Annotated[float, Is("How old that is, in seconds.", minimum=0)]


def too_early(
    diagnosis: Diagnosis, samples: Samples, rules: Sequence[Rule] = (), pid: int | None = None
) -> tuple[TooEarly, ...]:
    """Return the leaks that only their age hides, of the rules that were answered and found nothing.

    A host without a hundred sockets in such a state is not asked again.

    Args:
        diagnosis: What was found in the samples, and what was not answered.
        samples: With owners.
        rules: Those in force; none: as they are loaded.
        pid: Of this process only.
    """
    if not are_many_closing(samples.after.census):
        return ()
    said = {one.rule for one in diagnosis.unchecked} | {one.rule for one in diagnosis.findings}
    find_subjects = cache(partial(subjects_of, samples, host=HostFacts(samples)))
    known = rules or load_rules().rules
    explains = {rule.id: rule.explains for rule in known}
    return tuple(
        early
        for rule in known
        if rule.id not in said and {"close", "leak"} <= set(rule.tags)
        for early in _of_rule(
            rule,
            find_subjects,
            pid,
            {at for one in diagnosis.findings if rule.id in explains.get(one.rule, ()) for at in one.pids},
        )
    )


def _of_rule(
    rule: Rule, find_subjects: SubjectsOf, pid: int | None, explained: Collection[int]
) -> Iterator[TooEarly]:
    """Of `explained` processes another finding says what these sockets are."""
    tree = measured(rule).tree if rule.measure is not None else None
    limit = first_limit(rule)
    if not isinstance(tree, Older) or not isinstance(tree.seconds, Limit) or limit is None:
        return
    count = compile_number(tree, {**rule.limit_values, tree.seconds.name: 0.0})
    subjects, most = find_subjects(rule.scope), 0.0
    for subject in () if isinstance(subjects, Missing) else subjects:
        whose = subject.identity.get("pid")
        if whose in explained or (pid is not None and whose != pid):
            continue
        number = count(subject.facts)
        if isinstance(number, Range):
            number = number.high if math.isfinite(number.high) else number.low
        most = most if isinstance(number, Missing) else max(most, number)
    if most >= limit:
        state = TcpState[tree.fact.name.partition(".")[0].upper()]
        seconds = rule.limit_values[tree.seconds.name]
        yield TooEarly(rule.id, state.key, int(most), int(limit), seconds)  # type: ignore[arg-type]  # of _STATES

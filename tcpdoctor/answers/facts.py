"""The answer to `facts`: facts with their values, by scope and subject."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, TypeAlias

from tcpdoctor.answers.finding import Bounds
from tcpdoctor.answers.record import ABSENT, Absent, Host, Is, Seconds, Time, utc
from tcpdoctor.diagnosis.table import nearest
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.host import HostFacts, subjects_of
from tcpdoctor.facts.subject import Fact, FactKind, Scope, ScopeName, Subject
from tcpdoctor.facts.value import Ages, Growth, Range, Value, show, show_number, unit_name
from tcpdoctor.facts.vocabulary import own_facts
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Samples

NO_SUBJECT = {
    Scope.HOST: "no host was looked at",
    Scope.LISTENER: "no socket listens here",
    Scope.PROCESS: "no process here holds a listener or a socket of interest",
    Scope.PORT: "no local port is in use here",
    Scope.DESTINATION: "no connection from an ephemeral port is there",
}
"""Why a scope's facts have no value where nothing is wrong."""


Wanted: TypeAlias = Mapping[Scope, Sequence[Fact]]


class SubjectOfFact(NamedTuple):
    """What is told of every subject, beside what identifies it."""

    label: str
    hidden: Annotated[Literal[True], Is("It stands for processes that are hidden.", optional=True)]


class OfAges(NamedTuple):
    """A set of ages."""

    sockets: float | Bounds | None
    oldest: Annotated[float | Bounds | None, Is("In the unit.")]


class FactRow(NamedTuple):
    """One fact of one subject."""

    fact: str
    scope: ScopeName
    subject: Annotated[Mapping[str, str | int | bool | None], Is(keys=SubjectOfFact)] | None
    value: Annotated[
        float | str | Bounds | OfAges | None,
        Is("A number, bounds of one, a text, a set of ages, or null. A counter's is its growth."),
    ]
    missing: Annotated[str | None, Is("Why the value is null, or not certain.")]
    unit: Annotated[
        str,
        Is(
            "Of value: count, second, byte, page, per_second, ratio, text, or a compound such as "
            "byte_per_second.",
            pattern="^[a-z_]+$",
        ),
    ]
    kind: FactKind
    source: str
    meaning: str
    in_words: Annotated[str, Is("The value.")]
    certain: Annotated[bool, Is("in_words would be the same at both bounds of the value.")]
    over_s: Annotated[Seconds | Absent, Is("Seconds in which a counter grew by value.", optional=True)]


class FactsAnswer(NamedTuple):
    """What `tcpdoctor facts --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.facts/1"]
    host: Host
    taken_at: Time
    window_s: Annotated[Seconds, Is("Between the two samples; 0: there was one.")]
    facts: tuple[FactRow, ...]
    not_described: Annotated[
        tuple[str, ...], Is("Counters and TCP settings of this kernel that the vocabulary has no word for.")
    ]


def wanted_facts(beginnings: Sequence[str], scope: Scope | None) -> Wanted:
    """Return the facts to list, by scope.

    Raises:
        QuestionError: A beginning fits no fact of these scopes; with the nearest that there is.
    """
    scopes = [scope] if scope else list(Scope)
    found = {one: own_facts(one) for one in scopes}
    everything = [fact.name for one in scopes for fact in found[one]]
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in everything):
            where = f" of scope {scope.value}" if scope else ""
            guess = nearest(beginning, everything)
            hint = f"did you mean {guess}?" if guess else "tcpdoctor facts --window 0 lists them all"
            raise QuestionError(f"no fact{where} begins with {beginning!r}; {hint}")
    if not beginnings:
        return found
    chosen = {
        one: [fact for fact in known if fact.name.startswith(tuple(beginnings))]
        for one, known in found.items()
    }
    return {one: known for one, known in chosen.items() if known}


def look_at_facts(wanted: Wanted, window: float) -> FactsAnswer:
    """Return these facts of every subject here, from two looks so many seconds apart; 0: from one."""
    return facts_answer(take_samples(window, every_listener=True), wanted)


def facts_answer(samples: Samples, wanted: Wanted) -> FactsAnswer:
    """Return these facts of every subject in the samples."""
    before, after = samples
    host = HostFacts(samples)
    rows: list[FactRow] = []
    for scope, facts in wanted.items():
        subjects = subjects_of(samples, scope, host)
        if isinstance(subjects, Missing) or not subjects:
            why = subjects if isinstance(subjects, Missing) else Missing(NO_SUBJECT[scope])
            rows += [_row(fact, None, why) for fact in facts]
            continue
        for subject in subjects:
            told = _subject(subject)
            rows += [_row(fact, told, subject.facts[fact.name]) for fact in facts]
    return FactsAnswer(
        schema="tcpdoctor.facts/1",
        host=Host(after.host, after.kernel, str(after.namespace), after.namespace_name),
        taken_at=utc(after.taken_at),
        window_s=0.0 if before is None else round(after.clock - before.clock, 3),
        facts=tuple(rows),
        not_described=tuple(host.unknown_names()) if Scope.HOST in wanted else (),
    )


def _row(fact: Fact, subject: Mapping[str, str | int | bool | None] | None, value: Value) -> FactRow:
    return FactRow(
        fact=fact.name,
        scope=fact.scope.value,
        subject=subject,
        value=told_value(value),
        missing=value.reason if isinstance(value, Missing | Range | Ages) else None,
        unit=unit_name(fact.dimension),
        kind=fact.kind,
        source=fact.source,
        meaning=fact.meaning,
        in_words=show(value, fact.dimension),
        certain=_reads_as_certain(value, fact),
        over_s=round(value.seconds, 3) if isinstance(value, Growth) else ABSENT,
    )


def _subject(subject: Subject) -> Mapping[str, str | int | bool | None]:
    told = {"label": subject.label, **subject.identity}
    return told | {"hidden": True} if subject.hidden else told


def _reads_as_certain(value: Value, fact: Fact) -> bool:
    """Whether the value in words would be the same at both of its bounds."""
    match value:
        case Missing():
            return False
        case Range():
            return show(value, fact.dimension) == show_number(value.low, fact.dimension)
        case Ages():
            return len(value.at_least) == len(value.at_most)
        case _:
            return True


def told_value(value: Value) -> float | str | Bounds | OfAges | None:
    """Return a value as it is printed: infinite ends and what is missing are None."""
    match value:
        case Missing():
            return None
        case Range():
            return _between(value.low, value.high)
        case Growth():
            return _number(value.delta)
        case Ages():
            oldest = max(value.at_least, default=0), max(value.at_most, default=0)
            return OfAges(_between(len(value.at_least), len(value.at_most)), _between(*oldest))
        case str():
            return value
        case _:
            return _number(value)


def _between(low: float, high: float) -> float | Bounds | None:
    return _number(low) if low == high else Bounds(_number(low), _number(high))


def _number(value: float) -> float | None:
    if math.isinf(value):
        return None
    return int(value) if value == int(value) else round(value, 6)

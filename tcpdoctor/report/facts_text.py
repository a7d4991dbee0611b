"""`facts` for people: by scope and subject, each fact with its value and meaning."""

from collections.abc import Iterator, Sequence

from tcpdoctor.answers.facts import FactList, Section, why_empty
from tcpdoctor.facts.dimension import show, show_number, unit_name
from tcpdoctor.facts.fact import Fact
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.value import Ages, Range, Value
from tcpdoctor.facts.vocabulary import COUNTER_GROUPS
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural, utc
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column, table

MOST_SUBJECTS = 20
"""More of one scope are not read by people; json lists all."""

_TITLES = {
    Scope.HOST: "Host: for rules of every scope",
    Scope.LISTENER: "Listener: once per listening socket",
    Scope.PROCESS: "Process: once per process that holds sockets of interest",
    Scope.PORT: "Port: once per local port in use",
    Scope.DESTINATION: "Destination: once per source address, peer and peer's port",
}

_GROUPS = {
    "": "Computed from sockets and settings",
    "sockets": "Sockets by state",
    "sockstat": "Sockets and memory (/proc/net/sockstat)",
    "sysctl": "Settings (/proc/sys)",
    **{group: f"Counters {group}: growth between the samples" for group in COUNTER_GROUPS},
}

_WIDEST_VALUE, _NARROWEST_VALUE = 34, 12


def facts_text(listing: FactList, style: Style) -> str:
    """Return every fact with its value; its meaning once per scope, under the first subject."""
    lines = list(_head(listing, style))
    for section in listing.sections:
        lines += ["", style.bold(_TITLES[section.scope])]
        lines += _section(section, style)
    if listing.unknown:
        names = ", ".join(listing.unknown)
        lines += [
            "",
            style.wrap(
                f"This kernel also has, unknown to the vocabulary and so of no use in rules: {names}."
            ),
        ]
    return "\n".join(lines) + "\n"


def _head(listing: FactList, style: Style) -> Iterator[str]:
    before, after = listing.samples
    yield style.bold(style.wrap(f"{after.host}: facts that rules may use"))
    if before is None:
        samples = "one sample, so no growth"
    else:
        samples = f"two samples, {after.clock - before.clock:.1f} s apart"
    name = f" ({after.namespace_name})" if after.namespace_name else ""
    yield style.wrap(
        f"{utc(after.taken_at)}, Linux {after.kernel}, network namespace {after.namespace}{name}, {samples}"
    )


def _section(section: Section, style: Style) -> Iterator[str]:
    reason = why_empty(section)
    if isinstance(section.subjects, Missing) or not section.subjects:
        yield style.wrap(f"{reason or 'unknown'}; the facts would be:", "  ")
        yield from table(
            _COLUMNS, [[fact.name, "", "", _meaning(fact)] for fact in section.facts], style, "  "
        )
        return
    if section.scope is Scope.HOST:
        yield from _grouped(section.facts, section.subjects[0], style)
        return
    shown = section.subjects[:MOST_SUBJECTS]
    for place, subject in enumerate(shown):
        yield ""
        yield "  " + style.bold(subject.label)
        yield from _values(section.facts, subject, style, with_meaning=place == 0)
    if len(section.subjects) > len(shown):
        more = plural(len(section.subjects) - len(shown), section.scope.value)
        yield ""
        yield f"  ... and {more} more; --format json lists all"


def _grouped(facts: Sequence[Fact], subject: Subject, style: Style) -> Iterator[str]:
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        word = fact.name.partition(".")[0]
        groups.setdefault(word if word in _GROUPS else "", []).append(fact)
    for word, members in groups.items():
        yield ""
        yield "  " + style.bold(_GROUPS[word])
        yield from _values(members, subject, style, with_meaning=True)


_COLUMNS = (
    Column("FACT"),
    Column("VALUE", most=_WIDEST_VALUE, least=_NARROWEST_VALUE),
    Column("BECAUSE", below=True),
    Column("MEANING", below=True),
)


def _values(facts: Sequence[Fact], subject: Subject, style: Style, *, with_meaning: bool) -> Iterator[str]:
    rows = []
    for fact in facts:
        meaning = _meaning(fact) if with_meaning else ""
        value, because = _shown(subject.facts[fact.name], fact)
        rows.append([fact.name, value, because, meaning])
    yield from table(_COLUMNS, rows, style, "  ")


def _meaning(fact: Fact) -> str:
    return f"{fact.meaning} [{unit_name(fact.dimension)}; {fact.source}]"


def _shown(value: Value, fact: Fact) -> tuple[str, str]:
    """The value, and beside it, where that is short, why it is not certain if one can see that it is not."""
    shown, because = show(value, fact.dimension), ""
    match value:
        case Missing():
            because = value.reason
            if len(whole := f"unknown: {because}") <= _WIDEST_VALUE:
                return whole, ""
        case Range() if shown != show_number(value.low, fact.dimension):
            because = f"({value.reason})"
        case Ages() if len(value.at_least) != len(value.at_most):
            because = f"({value.reason})"
    return shown, because

"""`facts` for people: by scope and subject, each fact with its value and meaning."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from tcpdoctor.answers.facts import FactRow, FactsAnswer
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column, table

MOST_SUBJECTS = 20
"""More of one scope are not read by people; json lists all."""

_TITLES = {
    "host": "Host: for rules of every scope",
    "listener": "Listener: once per listening socket",
    "process": "Process: once per process that holds sockets of interest",
    "port": "Port: once per local port in use",
    "destination": "Destination: once per source address, peer and peer's port",
}

_GROUPS = {
    "": "Computed from sockets and settings",
    "sockets": "Sockets by state",
    "sockstat": "Sockets and memory (/proc/net/sockstat)",
    "sysctl": "Settings (/proc/sys)",
    **{
        group: f"Counters {group}: growth between the samples"
        for group in ("Tcp", "TcpExt", "MPTcpExt", "Ip", "IpExt", "Ip6", "Icmp", "Icmp6", "nf_conntrack")
    },
}

_WIDEST_VALUE, _NARROWEST_VALUE = 34, 12


def facts_text(answer: FactsAnswer, style: Style) -> str:
    """Return every fact with its value; its meaning once per scope, under the first subject."""
    lines = list(_head(answer, style))
    for scope, rows in groupby(answer.facts, lambda row: row.scope):
        lines += ["", style.wrap(style.bold(_TITLES[scope]))]
        lines += _section(scope, list(rows), style)
    if answer.not_described:
        names = ", ".join(answer.not_described)
        lines += [
            "",
            style.wrap(
                f"This kernel also has, unknown to the vocabulary and so of no use in rules: {names}."
            ),
        ]
    return "\n".join(lines) + "\n"


def _head(answer: FactsAnswer, style: Style) -> Iterator[str]:
    host = answer.host
    yield style.bold(style.wrap(f"{host.name}: facts that rules may use"))
    samples = f"two samples, {answer.window_s:.1f} s apart" if answer.window_s else "one sample, so no growth"
    name = f" ({host.namespace_name})" if host.namespace_name else ""
    yield style.wrap(
        f"{answer.taken_at}, Linux {host.kernel}, network namespace {host.namespace}{name}, {samples}"
    )


def _section(scope: str, rows: Sequence[FactRow], style: Style) -> Iterator[str]:
    if rows[0].subject is None:
        yield style.wrap(f"{rows[0].missing or 'unknown'}; the facts would be:", "  ")
        yield from table(_COLUMNS, [[row.fact, "", "", _meaning(row)] for row in rows], style, "  ")
        return
    if scope == "host":
        yield from _grouped(rows, style)
        return
    facts = len({row.fact for row in rows})
    subjects = [rows[first : first + facts] for first in range(0, len(rows), facts)]
    for place, subject in enumerate(subjects[:MOST_SUBJECTS]):
        yield ""
        yield style.wrap(style.bold(str((subject[0].subject or {})["label"])), "  ")
        yield from _values(subject, style, with_meaning=place == 0)
    if len(subjects) > MOST_SUBJECTS:
        more = plural(len(subjects) - MOST_SUBJECTS, scope)
        yield ""
        yield f"  ... and {more} more; --format json lists all"


def _grouped(rows: Sequence[FactRow], style: Style) -> Iterator[str]:
    groups: dict[str, list[FactRow]] = {}
    for row in rows:
        groups.setdefault(_group(row), []).append(row)
    for title, members in groups.items():
        yield ""
        yield style.wrap(style.bold(title), "  ")
        yield from _values(members, style, with_meaning=True)


_COLUMNS = (
    Column("FACT"),
    Column("VALUE", most=_WIDEST_VALUE, least=_NARROWEST_VALUE),
    Column("BECAUSE", below=True),
    Column("MEANING", below=True),
)


def _group(row: FactRow) -> str:
    return _GROUPS.get(row.fact.partition(".")[0], _GROUPS[""])


def _values(rows: Sequence[FactRow], style: Style, *, with_meaning: bool) -> Iterator[str]:
    told = [[row.fact, *_shown(row), _meaning(row) if with_meaning else ""] for row in rows]
    yield from table(_COLUMNS, told, style, "  ")


def _meaning(row: FactRow) -> str:
    return f"{row.meaning} [{row.unit}; {row.source}]"


def _shown(row: FactRow) -> tuple[str, str]:
    """The value, and beside it, where that is short, why it is not certain if one can see that it is not."""
    if row.certain or row.missing is None:
        return row.in_words, ""
    if row.value is not None:
        return row.in_words, f"({row.missing})"
    whole = f"{row.in_words}: {row.missing}"
    return (whole, "") if len(whole) <= _WIDEST_VALUE else (row.in_words, row.missing)

"""`facts` for people: by scope and subject, each fact with its value and meaning."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from tcpdoctor.answers.facts import FactRow, FactsAnswer
from tcpdoctor.report.host import plural, where_words
from tcpdoctor.report.page import Block, Inset, Prose, Section, Table, Title
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column

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


def facts_page(answer: FactsAnswer, _style: Style) -> list[Block]:
    """Return every fact with its value; its meaning once per scope, under the first subject."""
    blocks = _head(answer)
    for scope, rows in groupby(answer.facts, lambda row: row.scope):
        blocks += _section(scope, list(rows))
    if answer.not_described:
        names = ", ".join(answer.not_described)
        said = f"This kernel also has, unknown to the vocabulary and so of no use in rules: {names}."
        blocks.append(Section("", (Prose(said),)))
    return blocks


def _head(answer: FactsAnswer) -> list[Block]:
    host = answer.host
    samples = f"two samples, {answer.window_s:.1f} s apart" if answer.window_s else "one sample, so no growth"
    where = where_words(host.kernel, host.namespace, host.namespace_name)
    return [
        Title(f"{host.name}: facts that rules may use"),
        Prose(f"{answer.taken_at}, {where}, {samples}"),
    ]


def _section(scope: str, rows: Sequence[FactRow]) -> Iterator[Section]:
    if rows[0].subject is None:
        said = Prose(f"{rows[0].missing or 'unknown'}; the facts would be:")
        yield Section(
            _TITLES[scope], (said, Table(_COLUMNS, tuple((row.fact, "", "", _meaning(row)) for row in rows)))
        )
        return
    yield Section("", (Title(_TITLES[scope]),))
    if scope == "host":
        groups: dict[str, list[FactRow]] = {}
        for row in rows:
            groups.setdefault(_group(row), []).append(row)
        yield from (_titled(title, members, with_meaning=True) for title, members in groups.items())
        return
    facts = len({row.fact for row in rows})
    subjects = [rows[first : first + facts] for first in range(0, len(rows), facts)]
    for place, subject in enumerate(subjects[:MOST_SUBJECTS]):
        yield _titled(str((subject[0].subject or {})["label"]), subject, with_meaning=place == 0)
    if len(subjects) > MOST_SUBJECTS:
        more = plural(len(subjects) - MOST_SUBJECTS, scope)
        yield Section("", (Inset((Prose(f"... and {more} more; --format json lists all"),), 2),))


def _titled(title: str, rows: Sequence[FactRow], *, with_meaning: bool) -> Section:
    told = tuple((row.fact, *_shown(row), _meaning(row) if with_meaning else "") for row in rows)
    return Section("", (Inset((Title(title), Table(_COLUMNS, told)), 2),))


_COLUMNS = (
    Column("FACT"),
    Column("VALUE", most=_WIDEST_VALUE, least=_NARROWEST_VALUE),
    Column("BECAUSE", below=True),
    Column("MEANING", below=True),
)


def _group(row: FactRow) -> str:
    return _GROUPS.get(row.fact.partition(".")[0], _GROUPS[""])


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

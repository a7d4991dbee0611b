"""Records of watch to draw: one as on a busy host, and any that hypothesis can think of."""

import string

from hypothesis import strategies as st

from tcpdoctor.answers.watch import (
    DestinationRow,
    Event,
    FindingRow,
    ListenerRow,
    OwnerRow,
    Rates,
    StateRow,
    Verdict,
    Watch,
)
from tcpdoctor.facts.rates import Series, TooFew
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import COUNTED_STATES
from tcpdoctor.report.watch_frame import SORTS, View
from tests.report.examples import FINDING
from tests.report.hostile import NASTY, NASTY_FINDING

UNKNOWN = Missing("only root may know")


def series(*values):
    found = Series()
    for number, value in enumerate(values):
        found = found.add(4000.0 + 2 * number, value)
    return found


def state(name, now, growth, note="", ended=None):
    return StateRow(f"state {name.lower()}", name, now, growth, note, series(0, 3, 9), ended)


def owner(label, pid, close_wait, growth, ended=None):
    return OwnerRow(
        f"owner {pid}", label, "web1", pid, close_wait, growth, 18, 431, 1024, 960.0, 37.0,
        series(300, 350, 408), ended,
    )  # fmt: skip


def destination(peer, left, used, growth=0.0, until=None, *, low=False):
    return DestinationRow(
        f"destination {peer}", f"{peer} from 10.0.0.9", peer, "10.0.0.9", left, used, growth, until, low,
        series(1, 2, 3),
    )  # fmt: skip


def listener(local, queue, limit, drops=0.0, *, full=False):
    port = int(local.rpartition(":")[2])
    return ListenerRow(
        f"listener {local}", local, port, 1, queue, limit, 12, drops, full, "nginx (700)", None,
        series(0, 1, queue),
    )  # fmt: skip


FOUND = FindingRow("finding 3f2a", FINDING.rule, FINDING, 3990.0, False, series(100.0, 110.0, 120.0))

BUSY = Watch(
    host="web1",
    kernel="6.18.44",
    where="host netns",
    taken_at=1795176130.0,
    clock=4004.0,
    interval=2.0,
    source="",
    cpu=0.009,
    verdict=Verdict("warning", (0, 1, 0), 100, 100, "", 1795176130.0),
    findings=(FOUND,),
    states=(
        state("ESTABLISHED", 9214, 31.0),
        state("TIME_WAIT", 18120, 912.0, "at servers 17,800"),
        state("CLOSE_WAIT", 412, 37.0, "oldest 19 min"),
        state("FIN_WAIT_2", 131, -2.0, "orphans 113"),
        state("SYN_RECV", 3, 0.0),
    ),
    owners=(owner("orders-api (811)", 811, 408, 37.0), owner("nginx (700)", 700, 4, 0.0)),
    destinations=(
        destination("10.0.0.5:5432", 1911, 26321, 640.0, 180.0, low=True),
        destination("10.0.0.7:6379", 28100, 132),
    ),
    listeners=(listener("127.0.0.1:9443", 6, 5, 12.0, full=True), listener("0.0.0.0:443", 0, 511)),
    rates=Rates(812.0, 640.0, 0.004, 3.0, 12.0),
    events=(Event(1795176096.0, "close-wait-leak began (orders-api 300)"),),
    unknown={},
)

_LEAK = FINDING._replace(rule="close-wait-leak", label="orders-api (811)", fingerprint="5a1c")
_PORTS = FINDING._replace(rule="ports-nearly-exhausted", label="10.0.0.5:5432", fingerprint="77d0")


def _over_five_minutes(first, last):
    """A number that went from one to the other while somebody looked, every two seconds."""
    found = Series()
    for number in range(151):
        found = found.add(3704.0 + 2 * number, first + (last - first) * number / 150)
    return found


EXAMPLE = BUSY._replace(
    owners=(
        BUSY.owners[0],
        BUSY.owners[1]._replace(
            where="", descriptors=1206, limit=65_536, until_limit=None, descriptor_growth=0.0
        ),
    ),
    verdict=BUSY.verdict._replace(counts=(0, 2, 0)),
    findings=(
        FOUND._replace(key="finding 5a1c", finding=_LEAK),
        FOUND._replace(key="finding 77d0", finding=_PORTS),
    ),
    states=tuple(
        row._replace(series=_over_five_minutes(*ends))
        for row, ends in zip(
            BUSY.states, [(9060, 9214), (13_560, 18_120), (227, 412), (141, 131), (3, 3)], strict=True
        )
    ),
)
"""The screen that README.md shows."""

names = st.text(max_size=40) | st.sampled_from(["\u6f22\u5b57" * 9, "e\u0301" * 30, NASTY, ""])
numbers = st.integers(0, 10**30) | st.just(UNKNOWN)
rates = st.floats(-1e30, 1e30) | st.just(UNKNOWN) | st.just(TooFew("needs three looks"))
times = st.none() | st.floats(0, 1e30)
endings = st.none() | st.floats(0, 4004)
a_series = st.lists(st.none() | st.floats(0, 1e30), max_size=9).map(lambda values: series(*values))

states = st.builds(
    lambda state, *others: StateRow(f"state {state.key}", state.name, *others),
    st.sampled_from(sorted(COUNTED_STATES)), numbers, rates, names, a_series, endings,
)  # fmt: skip
keys = st.text(string.ascii_lowercase, min_size=1, max_size=3)
owners = st.builds(
    OwnerRow, keys, names, names, st.none() | st.integers(1, 2**22), numbers, rates, numbers, numbers,
    numbers, times, rates, a_series, endings,
)  # fmt: skip
destinations = st.builds(
    DestinationRow, keys, names, names, names, numbers, st.integers(0, 10**30), rates, times, st.booleans(),
    a_series, endings,
)  # fmt: skip
listeners = st.builds(
    ListenerRow, keys, names, st.integers(1, 65535), st.integers(1, 999), st.integers(0, 10**12), numbers,
    st.integers(0, 10**12), rates, st.booleans(), names, st.none() | rates, a_series, endings,
)  # fmt: skip
findings = st.builds(
    FindingRow, keys, names, st.sampled_from([FINDING, NASTY_FINDING]), st.floats(0, 4004), st.booleans(),
    a_series, endings,
)  # fmt: skip
verdicts = st.none() | st.builds(
    Verdict,
    st.sampled_from(["ok", "warning", "critical", "unknown"]),
    st.tuples(*[st.integers(0, 10**6)] * 3),
    st.integers(0, 100), st.integers(0, 100), names, st.floats(0, 1795176130.0),
)  # fmt: skip


def several(rows):
    return st.lists(rows, max_size=12, unique_by=lambda row: row.key).map(tuple)


watches = st.builds(
    Watch, names, names, names, st.floats(0, 2e9), st.just(4004.0), st.floats(0.2, 3600), names,
    st.none() | st.floats(0, 99), verdicts, several(findings), several(states), several(owners),
    several(destinations), several(listeners), st.builds(Rates, *[rates] * 5),
    st.lists(st.builds(Event, st.floats(0, 2e9), names), max_size=9).map(tuple),
    st.dictionaries(st.sampled_from(["owners", "destinations", "listeners"]), names),
)  # fmt: skip
views = st.builds(
    View, keys, st.sampled_from(SORTS), st.sampled_from(["", "a", NASTY]), st.booleans(), st.booleans(),
    st.none() | st.lists(names, max_size=99).map(tuple), names, st.integers(0, 99),
    st.none() | st.integers(0, 99), names, st.booleans(), st.booleans(), st.booleans(),
    st.lists(names, max_size=99).map(tuple),
)  # fmt: skip

"""One record on a line: the same text as from the object that the record makes."""

import json
import math

import pytest

from tcpdoctor.answers.record import ABSENT, NO_REASONS
from tcpdoctor.answers.socket import SocketOwner, ToldAge, ToldSocket
from tcpdoctor.kernel.reading import Missing, Refused
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.document import as_json, json_line, json_rows

LISTENER = ToldSocket(
    "listen", "ipv4", "0.0.0.0:811", None, 811, None, 0, 4001, 17, Missing("hidden"), 3, Missing("no"), 5
)
CONNECTION = ToldSocket(
    "close_wait", "ipv6", "[::1]:811", "[::1]:40009", 811, 40009, 1009, 4003, 2**63,
    SocketOwner(7, 'a"\\\u202e', 5, 0),
    ABSENT, ABSENT, ABSENT, ToldAge(0.001, None), None, None, 0, 1, 0, Refused("none measured"), 1e-05,
    {"SO_KEEPALIVE": True, "TCP_CORK": Missing("not asked")},
)  # fmt: skip


class Nested(NamedTuple):
    """A reason of what has no field for it stands in the record above."""

    age: Missing | int
    text: str


class Holding(NamedTuple):
    """A record with records in it."""

    nested: Nested
    rows: tuple[int, ...]
    missing: dict[str, str]
    share: float = math.inf
    sure: bool = True


RECORDS = {
    "listener": LISTENER,
    "connection": CONNECTION,
    "known owner": LISTENER._replace(owner=SocketOwner(811, "x", 3, 0)),
    "nobody": CONNECTION._replace(owner=None, age=None, missing={"why": "%s and %d"}),
    "percent": CONNECTION._replace(local="%s%%", timer="%d"),
    "nested": Holding(Nested(Missing("gone"), "x"), (2, 3, 5), {"a": "b"}),
    "plain": Holding(Nested(3, "\n"), (), NO_REASONS, 0.1, sure=False),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_line_is_what_the_object_is(name):
    record = RECORDS[name]
    assert [json_line(record)] == [*json_rows([record])] == [json.dumps(as_json(record), allow_nan=False)]


def test_the_lines_of_many_that_have_nothing_in_common_stand_in_their_order():
    lines = {name: json_line(record) for name, record in RECORDS.items()}
    bound = CONNECTION._replace(device="eth0", rtt_s=2.5, idle_s=None, missing=NO_REASONS)
    assert [*json_rows([*RECORDS.values(), bound, *[LISTENER] * 307, *RECORDS.values()])] == [
        *lines.values(),
        json_line(bound),
        *[lines["listener"]] * 307,
        *lines.values(),
    ]


def test_a_reason_that_has_no_place_is_an_error():
    with pytest.raises(TypeError, match="no field `missing` for age"):
        json_line(Nested(Missing("gone"), "x"))
    with pytest.raises(TypeError, match="no field `missing` for age"):
        list(json_rows([Nested(3, "x"), Nested(Missing("gone"), "x")]))

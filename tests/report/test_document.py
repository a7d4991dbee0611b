"""A record becomes JSON and JSON Schema by its types alone."""

import json
import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Literal, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from tcpdoctor.answers.record import ABSENT, NO_REASONS, Absent, Count, Is, Reasons
from tcpdoctor.kernel.reading import JsonValue, Missing, Reading
from tcpdoctor.report.document import LONG, Written, as_json, as_long_json, document_lines, schema_of


class Level(IntEnum):
    LOW = 1

    @property
    def key(self) -> str:
        return self.name.lower()


class Part(NamedTuple):
    owner: Reading[str]
    sizes: tuple[Reading[Count], ...]


class Own(NamedTuple):
    inside: Reading[int]
    missing: Reasons = NO_REASONS


class Whole(NamedTuple):
    schema: Literal["tcpdoctor.whole/1"]
    part: Part
    own: Own | None
    options: Mapping[str, Reading[bool]]
    level: Level
    seconds: float | None
    ends: tuple[int, int]
    anything: JsonValue
    missing: Reasons
    extra: Annotated[str | Absent, Is("Only sometimes.", optional=True)] = ABSENT


def whole(**changed):
    plain = Whole(
        schema="tcpdoctor.whole/1",
        part=Part("nginx", (1, 2)),
        own=None,
        options={"SO_KEEPALIVE": True},
        level=Level.LOW,
        seconds=1.5,
        ends=(1, 2),
        anything=[None, {"a": 1}],
        missing={"total": "the dump was cut short"},
    )
    return plain._replace(**changed)


def test_a_record_becomes_an_object_with_its_fields_in_their_order():
    assert as_json(whole()) == {
        "schema": "tcpdoctor.whole/1",
        "part": {"owner": "nginx", "sizes": [1, 2]},
        "own": None,
        "options": {"SO_KEEPALIVE": True},
        "level": "low",
        "seconds": 1.5,
        "ends": [1, 2],
        "anything": [None, {"a": 1}],
        "missing": {"total": "the dump was cut short"},
    }
    assert list(as_json(whole(extra="x")))[-1] == "extra"


def test_what_is_missing_is_null_with_its_reason_by_its_place():
    told = as_json(
        whole(
            part=Part(Missing("run as root"), (1, Missing("no netlink"))),
            own=Own(Missing("it is gone")),
            options={"SO_KEEPALIVE": Missing("not allowed")},
        )
    )
    assert told["part"] == {"owner": None, "sizes": [1, None]}
    assert told["own"] == {"inside": None, "missing": {"inside": "it is gone"}}
    assert told["missing"] == {
        "total": "the dump was cut short",
        "part.owner": "run as root",
        "part.sizes[1]": "no netlink",
        "options.SO_KEEPALIVE": "not allowed",
    }


def test_a_reason_that_no_field_takes_is_a_fault_of_the_record():
    with pytest.raises(TypeError, match="owner"):
        as_json(Part(Missing("run as root"), ()))


def test_what_json_has_not_is_null_or_refused():
    assert as_json(whole(seconds=math.inf))["seconds"] is None
    with pytest.raises(TypeError, match="anything: bytes"):
        as_json(whole(anything=b""))


def test_the_schema_fits_what_is_printed_and_nothing_else():
    schema = schema_of(Whole, "A whole.")
    Draft202012Validator.check_schema(schema)
    valid = Draft202012Validator(schema)
    assert schema["$id"] == "urn:tcpdoctor:schema:whole:1"
    assert "extra" not in schema["required"]
    assert schema["properties"]["part"]["properties"]["sizes"]["items"] == {
        "type": ["integer", "null"],
        "minimum": 0,
    }
    told = json.loads(json.dumps(as_json(whole(own=Own(3), extra="x"))))
    assert valid.is_valid(told)
    for wrong in ({"level": "high"}, {"ends": [1]}, {"own": {}}, {"extra": 1}, {"schema": "other"}):
        assert not valid.is_valid(told | wrong), wrong


class Many(NamedTuple):
    rows: tuple[Own, ...]
    after: int
    missing: Reasons = NO_REASONS


@pytest.mark.parametrize("number", [0, LONG, LONG + 1, 211])
def test_a_long_list_of_records_is_the_same_text_written_row_by_row(number):
    rows = [
        Own(Missing("hidden") if place % 3 else place, {"x": "y"} if place % 7 else {})
        for place in range(number)
    ]
    record = Many(tuple(rows), 5, {"a": "b"})
    told = as_long_json(record)
    assert isinstance(told["rows"], Written) == (number > LONG)
    assert "".join(document_lines(told)) == "".join(document_lines(as_json(record)))

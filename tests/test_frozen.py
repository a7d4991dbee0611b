"""What was promised stays: no key, type or value of a JSON form goes away, and what is required stays so."""

import pytest

from tcpdoctor.report.schemas import load_schema, schema_names
from tests.frozen.schemas import FOLDER, Promise, frozen, promises

NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_a_promise_is_kept(name):
    assert promises(frozen(name)) - promises(load_schema(name)) == set()


def test_every_form_is_frozen():
    assert set(schema_names()) == set(NAMES), "make freeze"


def test_a_lost_key_type_or_value_is_seen():
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"$ref": "#/$defs/part"}},
        "$defs": {"part": {"anyOf": [{"enum": ["x", "y"]}, {"type": "array", "items": {"type": "integer"}}]}},
    }
    assert {
        Promise("", "required a"),
        Promise("", "key a"),
        Promise(".a", 'value "x"'),
        Promise(".a", "type array"),
        Promise(".a[]", "type integer"),
    } <= promises(schema)

"""What was promised stays: the forms of JSON, and the names of options, rules, metrics and exit codes."""

import pytest

from tcpdoctor.cli.schema import load_schema, schema_names
from tests.frozen.names import frozen_names, lost_names, names_here
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


def test_no_option_rule_metric_or_exit_code_goes_away():
    assert lost_names() == {}


def test_every_name_is_frozen():
    assert frozen_names() == names_here(), "make freeze"

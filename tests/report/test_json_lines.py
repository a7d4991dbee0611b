"""JSON written part by part is what the standard library writes at once, long lists apart."""

import json
import random

import pytest

from tcpdoctor.report.document import LONG, document_lines


def anything(chance, depth=4):
    kind = chance.randrange(9 if depth else 6)
    match kind:
        case 0:
            return chance.choice((None, True, False))
        case 1:
            return chance.randrange(-(2**40), 2**40)
        case 2:
            return chance.uniform(-1e9, 1e9)
        case 3 | 4 | 5:
            return chance.choice(("", "a", 'a "quoted" \\ one', "\u00e4\u2028\n", "x" * 97))
        case 6:
            return [anything(chance, depth - 1) for _ in range(chance.randrange(5))]
        case _:
            return {f"key {number}": anything(chance, depth - 1) for number in range(chance.randrange(5))}


@pytest.mark.parametrize("seed", range(97))
def test_it_is_what_the_standard_library_writes(seed):
    document = {"first": anything(random.Random(seed)), "second": anything(random.Random(-seed - 1))}
    assert "".join(document_lines(document)) == json.dumps(document, indent=1)


def test_a_long_list_of_objects_has_each_on_a_line():
    document = {"schema": "x/1", "rows": [{"number": number, "list": [1]} for number in range(LONG + 1)]}
    text = "".join(document_lines(document))
    assert json.loads(text) == document
    assert text.splitlines()[3] == '  {"number": 0, "list": [1]},'
    assert len(text.splitlines()) == LONG + 1 + 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_has_not_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        list(document_lines({"value": [value]}))

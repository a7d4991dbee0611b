"""`tcpdoctor schema`: every JSON has a schema that is complete, strict, and open for what comes later."""

import copy
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import tcpdoctor as package
from tcpdoctor.answers.verdict import check_answer
from tcpdoctor.cli.schema import load_schema, schema_names
from tcpdoctor.report.document import as_json
from tests.cli.command import complaint, tcpdoctor
from tests.report.examples import FINDING, HIDDEN, check
from tests.schemas import described

NAMES = schema_names()
SOURCES = Path(package.__file__).parent
READ_ONLY = {"samples", "failure", "last", "fix-journal"}
"""Forms of files that are read, and printed by no command with --format json."""


def document():
    return json.loads(json.dumps(as_json(check_answer(check(FINDING, unchecked=[HIDDEN])))))


def faults(changed):
    return [fault.message for fault in Draft202012Validator(load_schema("check")).iter_errors(changed)]


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_printed_whole(name):
    schema = json.loads(tcpdoctor("schema", name).stdout)
    assert schema == load_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["schema"] == {"const": f"tcpdoctor.{name}/1"}
    wanted = set(re.findall(r'"#/\$defs/([a-z_-]+)"', json.dumps(schema)))
    assert wanted == set(schema.get("$defs", {}))


def test_every_form_that_a_command_prints_has_a_schema():
    texts = [path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py")]
    named = {name for text in texts for name in re.findall(r'"tcpdoctor\.([a-z-]+)/1"', text)}
    assert named - READ_ONLY - set(NAMES) == set()


def test_without_a_name_all_are_listed():
    answer = tcpdoctor("schema")
    assert answer.returncode == 0
    assert [line.split()[0] for line in answer.stdout.splitlines() if not line.startswith(" ")] == list(NAMES)
    assert max(map(len, answer.stdout.splitlines())) <= 80


def test_the_list_is_json_where_that_is_wanted():
    told = described(tcpdoctor("schema", "--json").stdout)
    assert [one["name"] for one in told["schemas"]] == list(NAMES)
    assert tcpdoctor("schema", "check", "--json").stdout == tcpdoctor("schema", "check").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_a_shell_is_json_where_that_is_wanted(shell):
    told = described(tcpdoctor("completion", shell, "--json").stdout)
    assert (told["shell"], told["script"]) == (shell, tcpdoctor("completion", shell).stdout)


@pytest.mark.parametrize("name", ["check", "tcpdoctor.check/1", "Check"])
def test_the_name_may_be_what_the_json_says(name):
    assert json.loads(tcpdoctor("schema", name).stdout)["title"] == "tcpdoctor.check/1"


def test_a_misspelt_name_is_told_with_the_nearest():
    assert "did you mean check?" in complaint(tcpdoctor("schema", "chekc"))


def test_a_document_is_valid_and_stays_so_with_keys_of_a_later_version():
    later = document()
    later["later"] = {"anything": 1}
    later["findings"][0]["later"] = later["host"]["later"] = later["states"]["later"] = None
    assert faults(document()) == faults(later) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("status"),
        lambda d: d["findings"][0].pop("fingerprint"),
        lambda d: d["states"].pop("close_wait"),
        lambda d: d["states"].update(close_wait="7"),
        lambda d: d["states"].update(close_wait=-1),
        lambda d: d["host"].update(namespace=4026531840),
        lambda d: d.update(status="fine"),
        lambda d: d.update(schema="tcpdoctor.check/2"),
        lambda d: d.update(taken_at="yesterday"),
        lambda d: d["findings"][0].update(severity="error"),
        lambda d: d["findings"][0]["evidence"][0].pop("unit"),
        lambda d: d["findings"][0]["fixes"][1]["sysctl"].pop("persist"),
        lambda d: d["missing"].update(x=None),
        lambda d: d["unchecked"][0].update(reason=None),
    ],
)
def test_what_breaks_the_contract_is_no_valid_document(change):
    broken = copy.deepcopy(document())
    change(broken)
    assert faults(broken)

"""Every command line that a help shows is run as it stands there."""

import json
import shlex

import pytest

from tcpdoctor.cli.examples import EXAMPLES, FIRST
from tests.cli.command import tcpdoctor

UNSEEN = {"db:5432": "localhost:5432"}
"""No host here is called db."""
ENDED = {"tcpdoctor watch": ("--count", "1")}
"""What goes on until somebody ends it is ended after a look."""
COMMANDS = sorted({example.command for pair in (FIRST, *EXAMPLES.values()) for example in pair})


@pytest.mark.parametrize(
    "command", [one for one in COMMANDS if " lab run " not in one and " lab prove " not in one]
)
def test_it_answers(command, tmp_path):
    program, *words = [UNSEEN.get(word, word) for word in shlex.split(command)]
    words += ENDED.get(command, ())
    if words[0] == "fleet":
        report = tcpdoctor("check", "--window", "0", "--json")
        (tmp_path / "reports").mkdir()
        (tmp_path / "reports" / "one.json").write_text(report.stdout)
        words = [word.replace("*", "one") for word in words]
    if words[0] == "diff":
        for name in words[1:3]:
            (tmp_path / name).write_bytes(tcpdoctor("snapshot", "--window", "0").stdout.encode())
    answer = tcpdoctor(*words, cwd=tmp_path)
    assert program == "tcpdoctor"
    assert answer.returncode in (0, 1, 2), answer.stderr
    assert answer.stdout
    if "--json" in words:
        json.loads(answer.stdout)


@pytest.mark.parametrize("command", [one for one in COMMANDS if " lab run " in one or " lab prove " in one])
def test_the_lab_answers(command, in_namespace):
    answer = tcpdoctor(*shlex.split(command)[1:], input="\n")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "close-wait-leak" in answer.stdout

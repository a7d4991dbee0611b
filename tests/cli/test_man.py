"""The manual says what the program does: its options are those of the commands, its form is mdoc."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tcpdoctor.cli.app import COMMANDS
from tests.cli.command import tcpdoctor

MAN = Path(__file__).parents[2] / "man"


def generator():
    spec = importlib.util.spec_from_file_location("man_generate", MAN / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_options_in_the_manual_are_those_of_the_commands():
    page = (MAN / "tcpdoctor.1").read_text(encoding="utf-8")
    assert generator().page_with_options(page) == page, "run `make man`"


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="lacks a mark"):
        generator().page_with_options(".Dd November 20, 2026\n")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_that_help_names_is_in_the_manual(name):
    page = (MAN / "tcpdoctor.1").read_text(encoding="utf-8")
    for option in re.findall(r"--([a-z][a-z-]*)", tcpdoctor(name, "--help").stdout):
        assert f"Fl Fl {option}" in page


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@pytest.mark.parametrize("page", sorted(MAN.glob("*.[0-9]")), ids=lambda page: page.name)
def test_mandoc_has_nothing_to_complain_about(page):
    answer = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(page)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (answer.returncode, answer.stdout) == (0, "")


def test_the_manual_lists_every_key_of_checks_json(in_namespace):
    document = json.loads(in_namespace(tcpdoctor, "check", "--window", "0", "--format", "json").stdout)
    output = (MAN / "tcpdoctor.1").read_text(encoding="utf-8").partition(".Ss The object of check\n")[2]
    for key in document:
        assert re.search(rf"^\.It .*\b{key}\b", output, re.MULTILINE), key

"""Rules that were read when the program was built are those that their files give, or are not used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcpdoctor.answers import rules as compiled
from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.diagnosis.rule import read_body

CHECKOUT = Path(__file__).resolve().parent.parent.parent
LOOK = """
import sys
from tcpdoctor.answers.rules import load_rules
rules = load_rules().rules
print(len(rules), bool(rules[0].packed), not {"tomllib", "tomli"}.isdisjoint(sys.modules))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout of its own, with its rules compiled."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", compiled.FILE)
    for name in ("tcpdoctor", "rules"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    run(folder, "-m", "tcpdoctor.cli.prepare")
    return folder


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def look(folder):
    """(how many rules, whether they were compiled, whether TOML was read)."""
    number, packed, toml = run(folder, "-c", LOOK).split()
    return int(number), packed == "True", toml == "True"


NUMBER = len(list((CHECKOUT / "rules").glob("*/*.toml")))


def test_compiled_rules_are_those_of_the_files_with_all_they_tell():
    data = compiled.compile_rules(CHECKOUT / "tcpdoctor", CHECKOUT / "rules", here=False)
    found = compiled.Compiled(*compiled._pickle.loads(data))
    plain = load_library(shipped_texts()).rules
    assert len(found.rules) == len(plain) == NUMBER
    for packed, rule in zip(sorted(found.rules, key=lambda rule: rule.name), plain, strict=True):
        same = packed._replace(vocabulary=rule.vocabulary, packed=b"", source=rule.source)
        assert same == rule
        assert rule.source.endswith(packed.source)
        assert read_body(packed) == read_body(rule)


def test_a_checkout_whose_rules_are_compiled_reads_no_toml(checkout):
    assert look(checkout) == (NUMBER, True, False)


def test_times_of_files_alone_change_nothing(checkout):
    for path in (checkout / "rules").glob("*/*.toml"):
        os.utime(path)
    assert look(checkout) == (NUMBER, True, False)


@pytest.mark.parametrize(
    "name",
    ["rules/close/close-wait-leak.toml", "tcpdoctor/diagnosis/rule.py", "tcpdoctor/facts/ports.py"],
)
def test_a_checkout_whose_sources_differ_reads_them_and_writes_nothing(checkout, name):
    path, written = checkout / name, (checkout / "tcpdoctor" / compiled.FILE).read_bytes()
    text = path.read_text()
    path.write_text(text + "# another line\n")
    try:
        assert look(checkout) == (NUMBER, False, True)
    finally:
        path.write_text(text)
    assert (checkout / "tcpdoctor" / compiled.FILE).read_bytes() == written
    assert look(checkout) == (NUMBER, True, False)


def test_a_rule_that_is_new_or_gone_is_seen(checkout):
    path = checkout / "rules" / "close" / "close-wait-leak.toml"
    path.rename(checkout / "away")
    try:
        assert look(checkout) == (NUMBER - 1, False, True)
    finally:
        (checkout / "away").rename(path)


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\x80\x05N."])
def test_without_the_file_or_with_a_broken_one_the_rules_are_read(checkout, content):
    target = checkout / "tcpdoctor" / compiled.FILE
    kept = target.read_bytes()
    target.unlink()
    try:
        if content is not None:
            target.write_bytes(content)
        assert look(checkout) == (NUMBER, False, True)
    finally:
        target.write_bytes(kept)


def test_what_is_installed_with_its_rules_is_not_compared(checkout, tmp_path):
    """In a wheel the rules lie inside the package, and no time of a file is that of the build."""
    package = tmp_path / "tcpdoctor"
    shutil.copytree(checkout / "tcpdoctor", package)
    shutil.copytree(checkout / "rules", package / "rules")
    for path in package.rglob("*.toml"):
        os.utime(path, (0, 0))
    assert look(tmp_path) == (NUMBER, True, False)

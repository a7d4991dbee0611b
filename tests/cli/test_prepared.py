"""What is printed without importing the command line is what the command line would print."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tcpdoctor
from tcpdoctor.answers.rules import FILE
from tcpdoctor.cli.app import help_text
from tcpdoctor.prepared import prepared_text

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A checkout of its own whose texts were written, and how to run it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("tcpdoctor", "rules"):
        ignored = shutil.ignore_patterns("__pycache__", FILE)
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    run(folder, "tcpdoctor.cli.prepare")
    return folder


def run(folder, module, *arguments, stdout=subprocess.PIPE, **environment):
    ours = ("COLUMNS", "JOURNAL_STREAM")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", module, *arguments],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(folder)} | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )


def imports_typer(done):
    return any(line.rpartition("|")[2].strip() == "typer" for line in done.stderr.splitlines())


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("-h",), ()])
def test_prepared_texts_are_those_of_typer_and_import_nothing_of_it(prepared, arguments):
    fast = run(prepared, "tcpdoctor", *arguments)
    slow = run(prepared, "tcpdoctor", *arguments, COLUMNS="80", JOURNAL_STREAM="1:1")
    assert (fast.returncode, slow.returncode) == (0, 0)
    assert fast.stdout == slow.stdout
    assert (imports_typer(fast), imports_typer(slow)) == (False, True)


def test_the_help_of_a_checkout_that_was_changed_is_worked_out(prepared):
    path = prepared / "tcpdoctor" / "cli" / "app.py"
    text = path.read_text()
    path.write_text(text.replace("Says what is wrong with TCP", "Tells what is wrong with TCP"))
    try:
        done = run(prepared, "tcpdoctor", "--help")
    finally:
        path.write_text(text)
    assert "Tells what is wrong with TCP" in done.stdout


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\x80\x05N."])
def test_without_the_file_or_with_a_broken_one_the_help_is_worked_out(prepared, content):
    target = prepared / "tcpdoctor" / FILE
    kept = target.read_bytes()
    target.unlink()
    try:
        if content is not None:
            target.write_bytes(content)
        done = run(prepared, "tcpdoctor", "--help")
    finally:
        target.write_bytes(kept)
    assert imports_typer(done)
    assert done.stdout == help_text()


def test_a_full_disk_is_complained_of_as_ever(prepared):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run(prepared, "tcpdoctor", "--version", stdout=full)
    assert done.returncode == 3
    assert "No space left on device" in done.stderr


def test_a_reader_that_has_gone_is_no_error(prepared):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run(prepared, "tcpdoctor", "--help", stdout=writer).returncode == 0
    finally:
        os.close(writer)


def test_other_words_are_left_to_typer(monkeypatch):
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert prepared_text(["--version"]) == f"tcpdoctor {tcpdoctor.__version__}\n"
    for words in (["--version", "--help"], ["check", "--help"], ["--vers"], ["help"]):
        assert prepared_text(words) is None


_TABLES = """
import json, sys
from pathlib import Path
from tcpdoctor.knowledge import resource
room = Path(resource.__file__).parent
names = [path.relative_to(room).as_posix() for path in sorted(room.rglob("*.toml"))]
tables = {name: resource.read_table(name) for name in names}
print(json.dumps([tables, "tomllib" in sys.modules or "tomli" in sys.modules]))
"""


def tables_of(folder):
    """What the pages' files say to a program in this folder, and whether any was parsed."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = (sys.executable, "-c", _TABLES)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    tables, parsed = json.loads(done.stdout)
    return tables, parsed


def test_compiled_pages_are_those_of_their_files(prepared):
    target = prepared / "tcpdoctor" / FILE
    kept = target.read_bytes()
    compiled, parsed = tables_of(prepared)
    assert not parsed
    target.unlink()
    try:
        assert tables_of(prepared) == (compiled, True)
        target.write_bytes(b"garbage")
        assert tables_of(prepared) == (compiled, True)
    finally:
        target.write_bytes(kept)
    assert len(compiled) > 70


def test_a_page_that_was_changed_is_read_and_one_that_was_touched_is_not(prepared):
    path, target = prepared / "tcpdoctor" / "knowledge" / "states.toml", prepared / "tcpdoctor" / FILE
    text, kept = path.read_text(), target.read_bytes()
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_007))
    try:
        assert not tables_of(prepared)[1]
        path.write_text(text + '\n[another]\nname = "ANOTHER"\n')
        tables, parsed = tables_of(prepared)
    finally:
        path.write_text(text)
    assert (parsed, tables["states.toml"]["another"]) == (True, {"name": "ANOTHER"})
    assert target.read_bytes() == kept

"""What a start costs: which modules `--version`, `--help`, `states` and `check` import, and no others."""

import functools
import subprocess
import sys

import pytest

from tcpdoctor.lab.namespace import NamespaceRefusedError, in_private_namespace
from tests.cli.command import environment

TYPER = {"annotated_doc", "shellingham", "typer"}
"""All that is imported besides Python's own library; pyroute2, tabulate and rich wait until needed."""

HEAVY = {
    "asyncio",
    "ctypes",
    "email",
    "http",
    "importlib.resources",
    "logging",
    "tempfile",
    "unittest",
    "xml",
}
"""Modules of Python's own library that take milliseconds and that nothing here needs."""

RUNS = {
    "help": ("--help",),
    "version": ("--version",),
    "states": ("states", "--format", "json"),
    "check": ("check", "--window", "0", "--format", "json"),
    "text": ("check", "--window", "0"),
}
QUIET = {
    "states": RUNS["states"],
    "check": (*RUNS["check"], "--only", "accept-queue-full"),
}
"""Where nothing listens that rule finds nothing."""


LISTING = """
import os, sys
leave = os._exit
def listing(code):
    print(code, *sys.modules, file=sys.stderr, flush=True)
    leave(code)
os._exit = listing
from tcpdoctor.__main__ import main
main()
"""


@functools.cache
def imported(run):
    """In a namespace of its own where there is one: what is found on this host takes more modules."""
    try:
        return in_private_namespace(modules_of, RUNS[run])
    except NamespaceRefusedError:
        return modules_of(RUNS[run])


def modules_of(arguments):
    answer = subprocess.run(
        [sys.executable, "-c", LISTING, *arguments],
        capture_output=True,
        encoding="utf-8",
        env=environment() | {"COLUMNS": "80"},  # or the help is one that was written down
        check=False,
        timeout=120,
    )
    code, *names = answer.stderr.split()
    assert code in ("0", "1", "2"), answer.stderr
    return set(names)


EVERY_RUN = pytest.mark.parametrize("run", sorted(RUNS))


@EVERY_RUN
def test_nothing_but_typer_is_imported_besides_pythons_own_library(run):
    before = {name.partition(".")[0] for name in imported_by_python()}
    foreign = {name.partition(".")[0] for name in imported(run)} - set(sys.stdlib_module_names) - before
    assert foreign - {"tcpdoctor"} <= TYPER


@functools.cache
def imported_by_python():
    """What site-packages' .pth files import into every Python here."""
    answer = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return answer.stdout.split()


@EVERY_RUN
def test_nothing_heavy_is_imported(run):
    assert imported(run) & HEAVY == set()


WAIT = {"ast", "dataclasses", "datetime", "hashlib", "pathlib", "pickle", "socket", "textwrap", "threading"}
"""Modules of Python's own library that take milliseconds too, and that wait until something is found."""


OURS = {f"tcpdoctor.kernel.{name}" for name in ("files", "owners", "sockopts", "unlisted")}
"""Modules of ours that wait until a socket is to be told by its owner, or a file of the user's is read."""


@pytest.mark.parametrize("run", sorted(QUIET))
def test_what_a_quiet_host_does_not_need_waits(run, in_namespace):
    assert in_namespace(modules_of, QUIET[run]) & (WAIT | OURS) == set()


@EVERY_RUN
def test_json_is_imported_for_json_only(run):
    assert ("json" in imported(run)) == ("json" in RUNS[run])


@EVERY_RUN
def test_a_command_imports_no_other_command(run):
    others = {"check", "explain", "facts", "rules", "states"} - {RUNS[run][0]}
    assert imported(run) & {f"tcpdoctor.cli.{name}" for name in others} == set()


def test_help_knows_the_commands_without_importing_them():
    own = {name for name in imported("help") if name.startswith("tcpdoctor.")}
    assert [name for name in own if name.split(".")[1] in ("kernel", "facts", "diagnosis", "knowledge")] == []
    assert {name for name in own if name.startswith("tcpdoctor.cli.")} == {
        "tcpdoctor.cli.app",
        "tcpdoctor.cli.examples",
        "tcpdoctor.cli.output",
        "tcpdoctor.cli.options",
    }


def test_the_version_is_printed_without_the_command_line():
    own = {name for name in imported("version") if name.partition(".")[0] == "tcpdoctor"}
    assert own == {"tcpdoctor", "tcpdoctor.__main__", "tcpdoctor.prepared"}
    assert imported("version") & {"typing", "re", "pathlib", "typer", "json", "collections"} <= {
        "collections"
    }


def test_states_needs_no_rules_and_no_facts():
    floors = ("tcpdoctor.facts", "tcpdoctor.diagnosis", "tcpdoctor.knowledge")
    assert [name for name in imported("states") if name.startswith(floors)] == []
    assert "tomllib" not in imported("states")


def test_check_writes_one_format_and_asks_for_no_knowledge():
    assert [
        name for name in imported("check") if name.startswith(("tcpdoctor.knowledge", "tcpdoctor.lab"))
    ] == []
    assert "tcpdoctor.report.check_text" not in imported("check")
    assert "tcpdoctor.answers.verdict" not in imported("text")

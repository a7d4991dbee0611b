"""The house has seven floors, imports only go down, and never in a circle."""

import ast
import functools
from collections import Counter
from enum import Enum
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import get_origin

import pytest

import tcpdoctor
from tcpdoctor.kernel.reading import Missing

PACKAGE = Path(tcpdoctor.__file__).parent
FLOORS = ("kernel", "recordings", "facts", "diagnosis", "answers", "report", "cli")
"""Lowest first. knowledge and lab stand beside them."""

BESIDE = {"knowledge": ("kernel", "facts", "knowledge"), "lab": ("kernel", "lab")}
"""What the rooms beside the floors may reach."""

MAY_REACH_KNOWLEDGE = ("answers", "report", "cli", "knowledge")


@functools.lru_cache(maxsize=1)
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All of a module's syntax; of one module at a time, which is parsed once for all that is asked of it."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported_rooms(path: Path) -> set[str]:
    """The folders of the package that a module imports from, at its top or inside a function."""
    rooms = set()
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "tcpdoctor" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                rooms.add(parts[1])
    return rooms


def modules() -> list[Path]:
    return sorted(PACKAGE.glob("*/**/*.py"))


def check_imports_only_point_down(path):
    room = path.relative_to(PACKAGE).parts[0]
    reached = imported_rooms(path)
    if room in BESIDE:
        assert reached <= set(BESIDE[room])
        return
    upward = {name for name in reached if name in FLOORS and FLOORS.index(name) > FLOORS.index(room)}
    assert not upward, f"{path.name} on floor {room!r} reaches up to {sorted(upward)}"
    assert "knowledge" not in reached or room in MAY_REACH_KNOWLEDGE
    assert "lab" not in reached or room == "cli"


def imported_modules(path: Path) -> set[str]:
    """The modules of the package that a module imports, at its top or inside a function."""
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name for name in names if (PACKAGE.parent / (name.replace(".", "/") + ".py")).exists()}
    return found


def test_no_module_imports_itself_in_a_circle():
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in modules()}
    graph = {name: imported_modules(path) for name, path in names.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_a_module_gives_each_name_one_meaning():
    """A second `_FEW = 100` further down is that of the functions above it as well."""
    twice = {}
    for path in modules():
        bound = Counter(name for node in ast.parse(path.read_text()).body for name in bound_by(node))
        twice[path.name] = sorted(name for name, times in bound.items() if times > 1)
    assert {name: found for name, found in twice.items() if found} == {}


def bound_by(node: ast.stmt) -> list[str]:
    """The names that a statement of a module gives a meaning; not what it imports."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [] if any("overload" in ast.dump(one) for one in node.decorator_list) else [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "base", "manager", "misc"])
def test_no_room_is_named_after_nothing(name):
    assert not [path for path in PACKAGE.rglob("*") if path.stem == name]


IMPURE = {
    "asyncio", "datetime", "fcntl", "io", "locale", "logging", "mmap", "os", "pathlib", "random", "secrets",
    "select", "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time",
}  # fmt: skip
ARITHMETIC = {
    "socket": {"AF_INET", "AF_INET6", "inet_aton", "inet_ntop", "inet_pton"},
    "sys": {"version_info"},
    "time": {"gmtime", "strftime"},
}
"""What those modules hold that reads nothing: conversions and constants."""

SECONDS_GIVEN = {"gmtime": 1, "strftime": 2}
"""Calls that read the clock where they have fewer arguments."""


def check_no_input_or_output(path):
    nodes = nodes_of(path)
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names} & IMPURE
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
            module, used = node.value.id, {node.attr}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in IMPURE:
            module, used = str(node.module), {alias.name for alias in node.names}
        else:
            continue
        assert used <= ARITHMETIC.get(module, set()), f"{path.name} line {node.lineno} uses {module}: {used}"


def check_nothing_is_opened_and_no_clock_read(path):
    for node in nodes_of(path):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        assert not (isinstance(node.func, ast.Name) and name in ("open", "print", "input", "exec", "eval"))
        assert len(node.args) >= SECONDS_GIVEN.get(name, 0), f"{path.name} line {node.lineno} reads the clock"


LOOKS = ("read_", "take_", "probe_", "write_", "find_owners", "find_every_holder", "find_unlisted")
"""How functions of the kernel's floor begin that read the machine."""


def check_no_look_is_taken(path):
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tcpdoctor.kernel"):
            looks = {alias.name for alias in node.names if alias.name.startswith(LOOKS)}
            assert not looks, f"{path.name} line {node.lineno} reads the machine by {looks}"


WORDING = {
    "tcpdoctor.facts.value": {"BYTE", "SECOND", "show", "show_wait"},
    "tcpdoctor.facts.sysctl_value": {"value_as_printed"},
    "tcpdoctor.kernel.text": {"beginning_of", "clean", "name_a_few"},
}
"""How a number with its unit and a setting's value are written, and what is taken out of others' texts.

The same functions word them for rules and for pages.
"""


OF_A_RECORD = {
    "tcpdoctor.answers.check": {
        *(
            "checked",
            "count_of",
            "crowd_words",
            "exit_code",
            "exit_code_of_all",
            "list_rows",
            "loud_findings",
        ),
        *("status", "unchecked_rules", "unjudged", "untold_by_rule", "verdict_of_all"),
    },
    "tcpdoctor.answers.fleet": {"sick_hosts"},
    "tcpdoctor.answers.host_report": {"STATUSES"},
    "tcpdoctor.answers.planned": {"write_command"},
    "tcpdoctor.answers.port": {"blockers_in_words"},
    "tcpdoctor.answers.process": {"sockets_in_all"},
    "tcpdoctor.answers.record": {"ABSENT", "Absent", "Moment", "told_number", "utc"},
    "tcpdoctor.answers.socket": {"OPTION_UNITS", "told_socket"},
    "tcpdoctor.answers.sockets": {"idle_seconds", "unacknowledged_bytes"},
    "tcpdoctor.answers.states": {"SICK", "state_readings"},
    "tcpdoctor.answers.verdict": {"check_answer", "checks_answer"},
    "tcpdoctor.answers.watch": {"FIRST_STATES"},
}
"""What a page may ask of a finished answer: it counts, names and picks, and measures nothing."""


def is_a_type(value: object) -> bool:
    """Whether it is a class of records, an enum, `Missing`, or an alias of such."""
    if isinstance(value, type):
        return issubclass(value, Missing | Enum) or hasattr(value, "_fields")
    return get_origin(value) is not None or isinstance(value, UnionType)


BELOW_A_PAGE = ("kernel", "facts", "diagnosis", "answers")


def computed_below(path: Path) -> set[str]:
    """What a page imports of the floors below that is no type, no wording and no part of a record."""
    found = set()
    for node in nodes_of(path):
        module = str(node.module) if isinstance(node, ast.ImportFrom) else ""
        if module.split(".")[1:2] and module.split(".")[1] in BELOW_A_PAGE:
            names = {alias.name for alias in node.names} - (WORDING | OF_A_RECORD).get(module, set())
            found |= {name for name in names if not is_a_type(getattr(import_module(module), name))}
    return found


def check_a_page_computes_nothing(path):
    assert computed_below(path) == set()


LAZY = {
    "cli": {
        "shlex": "1 ms; few look into another network namespace",
        "tcpdoctor": "a run asks one question: its answer costs 20 to 135 ms to import, its page 2 to 15",
        "json": "1.5 ms, and text does without",
        "inspect": "8 ms; only typer asks what a command takes",
        "threading": "only waits that are told on a terminal",
        "signal": "1 ms; only a look that may be interrupted",
        "pathlib": "3 ms; only an option that names a file",
        "socket": "3.6 ms; only the journal's",
        "curses": "some Pythons are built without it",
    },
    "report": {
        "tcpdoctor": "a run prints one format: its module costs 2 to 15 ms",
        "tabulate": "45 ms; only where a table is printed",
        "textwrap": "less than 1 ms and a regular expression; short lines need no wrapping",
    },
    "answers": {
        "tcpdoctor": "rules cost 34 ms, a diagnosis 79, a survey 45, pages 15: only where an answer has them",
        "difflib": "only a mistake pays",
        "fnmatch": "1.6 ms; only for a pattern",
        "hashlib": "5 ms; only a checkout compares its sources",
        "heapq": "only sockets of which few are wanted",
        "importlib.resources": "8 ms; only a zip file",
        "resource": "only EMFILE asks for the limit",
    },
    "diagnosis": {
        "tcpdoctor.diagnosis.body": "1.2 ms; only a rule that fires, or is shown",
        "tcpdoctor.diagnosis.expression": "2.6 ms; only rules that were not compiled ahead",
        "tcpdoctor.diagnosis.occupants": "9.9 ms with what is read of a port; only where all are taken",
        "tcpdoctor.diagnosis.tell": "1.8 ms; only a rule that fires",
        "_pickle": "1 ms; only compiled rules",
        "difflib": "1.5 ms; only a mistake pays",
        "hashlib": "3.2 ms; only a finding has a fingerprint",
        "ipaddress": "1.6 ms, where nothing else has it; only an address of a container",
        "tomli": "Python 3.10",
        "tomllib": "7 ms; compiled rules do without",
        "unicodedata": "0.3 ms, and a library is opened; only a file of settings with odd letters",
    },
    "facts": {
        "tcpdoctor.facts.counter_facts": "0.4 ms; words of 363 counters, of which a rule names few",
        "tcpdoctor.facts.deadlines": "0.7 ms; only where something is in a state that the kernel ends",
        "tcpdoctor.facts.sysctl_facts": "0.3 ms; words of 123 settings, of which a rule names few",
        "tcpdoctor.facts": "a rule needs the words of all facts, and not what computes them",
    },
    "recordings": {
        "tcpdoctor.recordings.assembled": "8 ms; a snapshot is one look already",
        "tcpdoctor.recordings.forms": "25 ms; a snapshot needs no reader of text",
        "tcpdoctor.recordings.sosreport": "39 ms; a paste needs no reader of archives",
    },
    "kernel": {
        "tcpdoctor.kernel.cgroups": "0.7 to 2.3 ms; only who is to be told by unit or container",
        "tcpdoctor.kernel.closer_look": "1.5 ms; only where sockets are decoded one by one",
        "tcpdoctor.kernel.conntrack_table": "4.9 ms; only where source NAT has no port left",
        "tcpdoctor.kernel.live": "1.5 ms; only a port that is asked for with what a check would see",
        "tcpdoctor.kernel.owners": "1.4 ms; only sockets whose owners are wanted",
        "tcpdoctor.kernel.unlisted": "1.7 to 3.4 ms; only where something is held that no listing has",
        "ctypes": "2.3 ms; system calls that Python has not, for few questions",
        "ipaddress": "1.6 ms, where nothing else has it; only rules of nft, and recordings",
        "json": "2.5 ms; only files that are JSON",
        "pathlib": "5 ms; only files of others",
        "select": "0.4 ms, and a library is opened; only who waits for a descriptor",
        "signal": "0.9 ms; only a write that must not be cut short",
        "socket": "3.8 ms; only an address of IPv6 beside a helper of containers",
        "threading": "1.4 ms; only who compares settings with those of a fresh namespace",
        "traceback": "3.1 ms; only a crash in a worker",
    },
    "knowledge": {
        "tcpdoctor.facts.sysctl_facts": "0.5 ms; only a page of a setting",
        "tcpdoctor.knowledge.option_pages": "4.9 ms; only a name that is no setting",
        "hashlib": "3.2 ms; only a checkout compares its sources",
        "importlib.resources": "13 ms; only a zip file whose pages were not compiled",
        "difflib": "1.5 ms; only a mistake pays",
        "tomli": "Python 3.10",
        "tomllib": "7 ms; only a page",
    },
    "lab": {
        "ctypes": "2.1 ms; one scenario listens to packets",
        "pyroute2": "150 to 180 ms; only scenarios that lose packets, or filter them, change links and rules",
    },
}
"""What may be imported inside a function, by room and by the beginning of its name, and what that saves.

Measured as CPU time of a process that imports it, above one that has `typing`, `re` and `enum` already.
"""


def lazy_imports(path: Path) -> set[str]:
    """The modules that are imported inside functions of this one."""
    functions = [node for node in nodes_of(path) if isinstance(node, ast.FunctionDef)]
    inside = [node for function in functions for node in ast.walk(function)]
    found = {str(node.module) for node in inside if isinstance(node, ast.ImportFrom)}
    return found | {alias.name for node in inside if isinstance(node, ast.Import) for alias in node.names}


def reason_of(room: str, module: str) -> str | None:
    """The entry of `LAZY` that allows it."""
    begins = (begin for begin in LAZY.get(room, {}) if f"{module}.".startswith(f"{begin}."))
    return next(begins, None)


def check_what_is_imported_late_has_a_reason(path):
    room = path.relative_to(PACKAGE).parts[0]
    unexplained = {module for module in lazy_imports(path) if reason_of(room, module) is None}
    assert not unexplained, f"import it at the top of {path.name}, or say in LAZY what that would cost"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_keeps_to_its_floor(path):
    room = path.relative_to(PACKAGE).parts[0]
    check_imports_only_point_down(path)
    check_what_is_imported_late_has_a_reason(path)
    if room in ("facts", "diagnosis", "report"):
        check_no_input_or_output(path)
        check_nothing_is_opened_and_no_clock_read(path)
        check_no_look_is_taken(path)
    if room == "report":
        check_a_page_computes_nothing(path)


def test_every_reason_for_a_late_import_has_such_an_import():
    used = {
        (room, reason_of(room, module))
        for path in modules()
        for room in [path.relative_to(PACKAGE).parts[0]]
        for module in lazy_imports(path)
    }
    assert {(room, begin) for room, begins in LAZY.items() for begin in begins} <= used

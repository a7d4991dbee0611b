"""The house has six floors, imports only go down, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tcpdoctor

PACKAGE = Path(tcpdoctor.__file__).parent
FLOORS = ("kernel", "facts", "diagnosis", "answers", "report", "cli")
"""Lowest first. knowledge and lab stand beside them."""

BESIDE = {"knowledge": ("kernel", "facts", "knowledge"), "lab": ("kernel", "lab")}
"""What the rooms beside the floors may reach."""

MAY_REACH_KNOWLEDGE = ("answers", "report", "cli", "knowledge")


def imported_rooms(path: Path) -> set[str]:
    """The folders of the package that a module imports from, at its top or inside a function."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_point_down(path):
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
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "base", "manager", "misc"])
def test_no_room_is_named_after_nothing(name):
    assert not [path for path in PACKAGE.rglob("*") if path.stem == name]


IMPURE = {"os", "time", "socket", "subprocess", "shutil", "tempfile", "pathlib", "sys", "logging", "select"}
ARITHMETIC = {
    "socket": {"AF_INET", "AF_INET6", "inet_aton", "inet_ntop", "inet_pton"},
    "sys": {"version_info"},
    "time": {"gmtime", "strftime"},
}
"""What those modules hold that reads nothing: conversions and constants."""


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if path.relative_to(PACKAGE).parts[0] in ("facts", "diagnosis", "report")],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_floors_above_the_kernel_do_no_input_or_output(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names} & IMPURE
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
            module, used = node.value.id, {node.attr}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in IMPURE:
            module, used = str(node.module), {alias.name for alias in node.names}
        else:
            continue
        assert used <= ARITHMETIC.get(module, set()), f"{path.name} line {node.lineno} uses {module}: {used}"

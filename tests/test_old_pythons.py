"""What an interpreter that is too old is told, and that the newest and the oldest one read every file."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
READABLE_BY_ALL = ("tcpdoctor/__init__.py", "tcpdoctor/__main__.py")
TOO_OLD = ("2.7", "3.6", "3.7", "3.8", "3.9")
NOT_IN_2_7 = (
    ast.JoinedStr,
    ast.AnnAssign,
    ast.NamedExpr,
    ast.Nonlocal,
    ast.Await,
    ast.YieldFrom,
    ast.Starred,
)
LINE = "Python 3.10 or later is needed, this is "


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, **more)


def old_pythons():
    """Every kind of interpreter of this machine that is too old: on PATH, and where pyenv keeps its own."""
    homes = sorted((Path.home() / ".pyenv" / "versions").glob("*/bin"))
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *homes]
    for version in TOO_OLD:
        for path in (folder / f"python{version}" for folder in folders):
            # pyenv has a file for every version, which works for those that are chosen
            if os.access(path, os.X_OK) and run(str(path), "-V").returncode == 0:
                yield str(path)
                break


@pytest.mark.parametrize("form", ["module", "one file", "script"])
def test_a_python_that_is_too_old_is_told_in_one_line(form, one_file):
    script = "from tcpdoctor.__main__ import main; main()"
    start = {"module": ("-m", "tcpdoctor"), "one file": (one_file,), "script": ("-c", script)}[form]
    found = list(old_pythons())
    if not found:
        pytest.skip("no Python older than 3.10 is on this machine")
    for python in found:
        check_one_line(python, *start)


def check_one_line(python, *start):
    plain = run(python, *start, "check")
    assert (plain.returncode, plain.stdout) == (3, "")
    assert plain.stderr.startswith(f"tcpdoctor: {LINE}")
    assert plain.stderr.count("\n") == 1
    for words in (("--format", "nagios"), ("--format=nagios",)):
        asked = run(python, *start, "check", *words)
        assert (asked.returncode, asked.stderr) == (3, "")
        assert asked.stdout.startswith(f"TCPDOCTOR UNKNOWN - {LINE}")
        assert asked.stdout.count("\n") == 1


@pytest.mark.parametrize("name", READABLE_BY_ALL)
def test_what_every_python_has_to_read_holds_nothing_newer_than_2_7(name):
    tree = ast.parse((CHECKOUT / name).read_text())
    newer = [node for node in ast.walk(tree) if isinstance(node, NOT_IN_2_7)]
    assert not newer
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [f.name for f in functions if f.returns or f.args.kwonlyargs or f.args.posonlyargs]
    assert not [f.name for f in functions if any(argument.annotation for argument in f.args.args)]


def test_every_file_of_the_program_can_be_read_by_the_oldest_python():
    for path in (CHECKOUT / "tcpdoctor").rglob("*.py"):
        ast.parse(path.read_text(), filename=str(path), feature_version=(3, 10))


def start(preamble, *arguments, **more):
    code = f"import sys; sys.argv = ['tcpdoctor', *{list(arguments)!r}]\n{preamble}\n"
    return run(sys.executable, "-c", code + "from tcpdoctor.__main__ import main; main()", **more)


LAST_RESORTS = {
    "a big-endian machine": ("sys.byteorder = 'big'", "big-endian machines are not supported"),
    "typer is missing": ("sys.modules['typer'] = None", "this installation is not whole: "),
    "memory is short": (
        "import tcpdoctor.cli.app as app\ndef run(words): raise MemoryError\napp.run = run",
        "out of memory",
    ),
    "even the complaint fails": (
        """
import tcpdoctor.cli.app as app, tcpdoctor.cli.output as output
def run(words): raise ValueError("what broke")
def complain(text): raise OSError("nor this")
app.run, output.complain, output.describe_crash = run, complain, complain
""",
        "a fault of this program: OSError: nor this",
    ),
}


@pytest.mark.parametrize(("preamble", "said"), LAST_RESORTS.values(), ids=LAST_RESORTS)
def test_where_nothing_works_there_is_still_one_line_and_exit_3(preamble, said):
    plain = start(preamble, "check")
    assert (plain.returncode, plain.stdout) == (3, "")
    assert plain.stderr.startswith(f"tcpdoctor: {said}")
    assert plain.stderr.count("\n") == 1
    asked = start(preamble, "check", "--format=nagios")
    assert (asked.returncode, asked.stderr) == (3, "")
    assert asked.stdout.startswith(f"TCPDOCTOR UNKNOWN - {said}")


def test_the_last_resort_cannot_be_made_to_steer_a_terminal_or_forge_performance_data():
    code = "from tcpdoctor.__main__ import give_up; give_up('a\\x1b[2Jb\\nc|d=1;' + 'x' * 9000)"
    plain = run(sys.executable, "-c", code)
    assert plain.stderr == "tcpdoctor: a?[2Jb?c|d=1;" + "x" * 387 + "\n"
    asked = run(sys.executable, "-c", code, "nagios")
    assert asked.stdout.startswith("TCPDOCTOR UNKNOWN - a?[2Jb?c/d=1;x")

"""Hot commands without typer: a command line means what typer makes of it, or is left to typer."""

import inspect
import json
import os
import random
import subprocess
import sys
from importlib import import_module

import pytest
import typer

from tcpdoctor.cli import app
from tcpdoctor.cli.hot import HOT_COMMANDS, answer_hot, declared, parse
from tests.cli.command import environment

PARAMS = {name: app.build_command(name, app.COMMANDS[name]).params for name in HOT_COMMANDS}
TABLES = {name: declared(params) for name, params in PARAMS.items()}
VALUES = (
    "0", "1", "5s", "2m", "-1", "nonsense", "text", "json", "html", "warning", "never", "critical", "port",
    "close-wait-leak", "a,b", "", "/tmp/x", "-", "--", "all", "auto", "always", "blue", "1e3", "=",
)  # fmt: skip


def typers_view(name, words):
    """The arguments that typer would call the function with; None where it refuses them."""
    if app._empty_value([name, *words]) is not None or app._given_twice([name, *words]) is not None:
        return None
    command = app.build_command(name, app.COMMANDS[name])
    try:
        with command.make_context(name, list(words)) as context:
            values = dict(context.params)
    except (typer.TyperException, typer.Exit):
        return None
    values.pop("help", None)
    return values


def with_defaults(name, given):
    """The same from the short parser's answer, whose function fills in its own defaults."""
    function = getattr(import_module(f"tcpdoctor.cli.{name}"), name)
    defaults = {key: value.default for key, value in inspect.signature(function).parameters.items()}
    return defaults | given


def plain(values):
    """Lists and tuples alike, and nothing given as nothing."""
    return {
        key: list(map(str, value or ())) if isinstance(value, list | tuple) or value is None else str(value)
        for key, value in values.items()
    }


def generated(seed):
    """A command line of up to six words out of options, values and mistakes."""
    chosen = random.Random(seed)
    name = chosen.choice(HOT_COMMANDS)
    spellings = [spelling for param in PARAMS[name] for spelling in param.opts if spelling.startswith("-")]
    words = []
    for _ in range(chosen.randrange(4)):
        option = chosen.choice([*spellings, "--nonsense", "-x", "--form"])
        form = chosen.randrange(10)
        if form < 5:
            words += [option, chosen.choice(VALUES)]
        elif form < 7:
            words.append(f"{option}={chosen.choice(VALUES)}")
        elif form < 9:
            words.append(option)
        else:
            words.append(chosen.choice(VALUES))
    return name, words


def test_a_thousand_command_lines_mean_the_same_or_are_left_to_typer():
    taken = 0
    for seed in range(1000):
        name, words = generated(seed)
        try:
            short = parse(words, TABLES[name])
        except typer.BadParameter:
            short = None
        if short is None:
            continue
        taken += 1
        whole = typers_view(name, words)
        assert whole is not None, f"typer refuses {name} {words}, which was taken"
        assert plain(with_defaults(name, short)) == plain(whole), f"{name} {words}"
    assert taken > 200, "the generator makes too few command lines that are right"


@pytest.mark.parametrize("name", HOT_COMMANDS)
def test_every_option_that_typer_knows_is_in_the_table(name):
    spellings = {s for param in PARAMS[name] for s in param.opts if param.param_type_name == "option"}
    assert spellings - set(TABLES[name]) == {"-h", "--help"}


@pytest.mark.parametrize(
    "words",
    [
        (), ("check",), ("check", "--window"), ("check", "--window="), ("check", "--netns", "all"),
        ("check", "--netns=all"), ("check", "--nonsense"), ("check", "-qv"), ("check", "--window", "-1"),
        ("check", "--quiet", "--quiet"), ("check", "--format", "yaml"), ("check", "--help"),
        ("check", ""), ("explain", "8080"), ("states", "word"), ("states", "--by=nobody"),
    ],
)  # fmt: skip
def test_what_is_out_of_the_ordinary_is_left_to_typer(words):
    """typer is imported here, so nothing is taken; what the parser itself says is asked too."""
    assert answer_hot(words, TABLES) is None
    if len(words) > 1 and words[0] in TABLES and "all" not in "".join(words):
        assert parse(words[1:], TABLES[words[0]]) is None


RUN = """
import json, os, sys
from tcpdoctor.cli import hot
tables = json.loads(sys.argv.pop(1))
tables = {c: {s: (n, tuple(k) if c != k and isinstance(k, list) and not k[0].startswith("tcpdoctor.") else k, m)
              for s, (n, k, m) in t.items()} for c, t in tables.items()}
code = hot.answer_hot(sys.argv[1:], tables)
hot_typer = "typer" in sys.modules and hasattr(sys.modules["typer"], "Typer")
print(f"typer: {hot_typer}", file=sys.stderr)
if code is None:
    from tcpdoctor.cli.app import run
    code = run(sys.argv[1:])
os._exit(code if not sys.stdout.flush() else 1)
"""


def run_hot(*words):
    return subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(TABLES), *words],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip


def run_typer(*words):
    code = "import sys; from tcpdoctor.cli.app import run; code = run(sys.argv[1:]); sys.stdout.flush(); sys.exit(code)"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment(), check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        ("states", "--nonsense"),
        ("check", "--window", "9999"),
        ("check", "--window", "nonsense"),
        ("check", "--only-changes"),
        ("check", "--quiet", "--format", "nagios"),
        ("check", "--timeout", "0"),
        ("check", "--only", "nonsense"),
        ("check", "--config", "/nonexistent"),
        ("check", "--rules", "/nonexistent", "--window", "0"),
        ("check", "--netns", "nonsense"),
        ("states", "--netns", "nonsense"),
        ("states", "-o", "/nonexistent/file"),
        ("check", "8080"),
    ],
)
def test_complaints_are_those_of_typer(words):
    hot, slow = run_hot(*words), run_typer(*words)
    assert (hot.returncode, hot.stdout) == (slow.returncode, slow.stdout) == (3, "")
    assert [
        line for line in hot.stderr.splitlines() if not line.startswith("typer: ")
    ] == slow.stderr.splitlines()
    assert slow.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("states",),
        ("states", "--json"),
        ("states", "--by", "process", "--format", "json"),
        ("check", "--window", "0", "--format", "json"),
        ("check", "-w", "0", "-v"),
        ("check", "--window=0", "--unanswered"),
        ("check", "close-wait-leak", "-w", "0"),
        ("check", "--window", "0", "--skip", "close-wait-leak", "--skip", "a" * 3, "--fail-on", "never")[:6],
        ("check", "--window", "0", "--format", "prometheus"),
        ("check", "--window", "0", "--format", "nagios"),
        ("check", "--window", "0", "--format", "html"),
        ("check", "--window", "0", "--timeout", "30", "--quiet"),
        ("check", "--window", "0", "--color", "never", "--no-pager"),
    ],
)
def test_answers_come_without_typer_and_with_the_same_code(words):
    hot, slow = run_hot(*words), run_typer(*words)
    assert "typer: False" in hot.stderr
    assert hot.returncode == slow.returncode
    assert bool(hot.stdout) == bool(slow.stdout)
    if "json" in words or "--json" in words:
        assert set(json.loads(hot.stdout)) == set(json.loads(slow.stdout))


def test_a_run_between_two_looks_is_kept_without_typer(tmp_path):
    for _ in range(2):
        done = run_hot(
            "check", "--since-last", str(tmp_path / "memory"), "--only-changes", "--format", "json"
        )
        assert "typer: False" in done.stderr
        assert done.returncode in (0, 1, 2), done.stderr
        assert "changes" in json.loads(done.stdout)
    assert os.path.exists(tmp_path / "memory")

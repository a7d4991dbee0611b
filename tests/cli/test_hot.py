"""Hot commands without typer: a command line means what typer makes of it, or is left to typer."""

import base64
import inspect
import json
import os
import pickle
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
    "close-wait-leak", "a,b", "", "x/y", "-", "--", "all", "auto", "always", "blue", "1e3", "=",
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
import base64, os, pickle, sys
from tcpdoctor.cli import hot
code = hot.answer_hot(sys.argv[2:], pickle.loads(base64.b64decode(sys.argv[1])))
print("typer:", hasattr(sys.modules.get("typer"), "Typer"), file=sys.stderr)
if code is None:
    from tcpdoctor.cli.app import run
    code = run(sys.argv[2:])
sys.stdout.flush()
os._exit(code)
"""
WHOLE = "import sys; from tcpdoctor.cli.app import run; code = run(sys.argv[1:]); sys.exit(code)"


def run(*words):
    command = [sys.executable, "-c", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=False, timeout=120
    )


def run_hot(*words):
    return run(RUN, base64.b64encode(pickle.dumps(TABLES)).decode(), *words)


def run_typer(*words):
    return run(WHOLE, *words)


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
    assert (hot.returncode, hot.stdout) == (slow.returncode, slow.stdout)
    assert slow.returncode == 3
    told = [line for line in hot.stderr.splitlines() if not line.startswith("typer: ")]
    assert told == slow.stderr.splitlines()
    assert slow.stderr or slow.stdout


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
        ("check", "--window", "0", "--skip", "close-wait-leak", "--fail-on", "never"),
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
        done = run_hot("check", "--since-last", str(tmp_path / "memory"), "--only-changes")
        assert "typer: False" in done.stderr
        assert done.returncode in (0, 1, 2), done.stderr
    assert os.path.exists(tmp_path / "memory")

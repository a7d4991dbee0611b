"""What the lab sees of a scene, by asking this program's commands inside it, cut for a lesson.

What was left out of a long output is always said.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from typing import Any, NamedTuple, NoReturn

from tcpdoctor.answers.proof import Part, ProofAnswer, Proven, Unproven, proof_answer
from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.library import Config, Override, RuleText
from tcpdoctor.errors import QuestionError
from tcpdoctor.lab.scenario import (
    Asked,
    Between,
    Broken,
    Cured,
    Ended,
    Looked,
    Refused,
    Scenario,
    Scene,
    Stage,
    Step,
)
from tcpdoctor.report.host import plural


class Printed(NamedTuple):
    """What a command printed, and how it ended."""

    output: str
    """Standard output, then what it said on standard error."""
    exit_code: int
    """-9 where signal 9 ended it."""


class Aside:
    """A function that runs in a child of its own, beside others."""

    def __init__(self, function: Callable[[], int]) -> None:
        """Fork and begin; `function` prints, and returns its exit code."""
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _speak(function, writer)
        os.close(writer)

    def printed(self) -> Printed:
        """Wait for its end."""
        with os.fdopen(self._reader, "rb") as stream:
            output = stream.read().decode("utf-8", "replace")
        _, status = os.waitpid(self._pid, 0)
        return Printed(output, os.waitstatus_to_exitcode(status))


def _speak(function: Callable[[], int], writer: int) -> NoReturn:
    code = 3
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        # what they were may have data of the caller in it, or be no descriptor at all
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        code = function()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


_MOST_LINES = 24
_MOST_ROWS = 3
_TRACE = "trace"
"""The command whose output is a line for each connection, and a summary."""


def cut_lines(text: str) -> str:
    """The first lines of an output: as many as a short form has, or fewer that end well."""
    lines = text.rstrip("\n").splitlines()
    if len(lines) <= _MOST_LINES:
        return "\n".join(lines)
    kept = lines[:_MOST_LINES]
    if "" in kept[3:]:
        while kept[-1]:
            kept.pop()
    while kept and not kept[-1]:
        kept.pop()
    return "\n".join([*kept, f"[... {plural(len(lines) - len(kept), 'more line')}]"])


_RANK = {"info": 0, "warning": 1, "critical": 2}
_CLEAR = "clear"


class Shown(NamedTuple):
    """A command and what of its output is worth showing."""

    command: str
    """As it would be typed."""
    output: str


class Verdict(NamedTuple):
    """What was expected of a scene, and what came."""

    what: str
    """A rule, or a path in an answer."""
    wanted: str
    seen: str
    holds: bool


class View(NamedTuple):
    """A scene that was looked at."""

    shown: tuple[Shown, ...]
    verdicts: tuple[Verdict, ...]
    short: str = ""
    """The short form of what `check` found, where it is held."""


class Looker:
    """Looks at the scenes of one scenario, in their order. It remembers which rules were to fire."""

    def __init__(
        self, texts: Sequence[RuleText], *, tell: bool, color: bool = False, holds: bool = False
    ) -> None:
        """Take the rules as shipped.

        `tell` asks for what people read as well, `color` for colours in it, `holds` for the short form.
        """
        self._holds = holds
        self._own_users = os.stat("/proc/self/ns/user").st_ino
        self._texts = texts
        self._tell = tell
        self._color = ["--color", "always"] if color else ["--color", "never"]
        self._rules: list[str] = []
        self._told: set[str] = set()
        self._limits: dict[str, Mapping[str, float]] = {}

    def __call__(self, scene: Scene) -> View:
        """Look, from inside the namespace."""
        if isinstance(scene, Broken):
            self._limits |= scene.limits
            self._rules += [rule for rule in scene.fires if rule not in self._rules]
        shown = [self._show(command) for command in _commands(scene)] if self._tell else []
        if isinstance(scene, Step):
            return View(tuple(shown), ())
        if isinstance(scene, Asked):
            return self._ask(scene, shown)
        return self._check(scene, shown)

    def _show(self, typed: str) -> Shown:
        if typed.startswith("sockets"):
            typed = f"{typed} --limit {_MOST_ROWS}"
        output = self._run([*shlex.split(typed), *self._color]).output
        return Shown(f"tcpdoctor {typed}", cut_lines(output))

    def _run(self, arguments: list[str]) -> Printed:
        return self._begin(arguments).printed()

    def _begin(self, arguments: list[str]) -> Aside:
        return Aside(lambda: self._answer(arguments))

    def _answer(self, arguments: list[str]) -> int:
        from tcpdoctor.answers.rules import pin_rules
        from tcpdoctor.cli.app import run

        limits = {rule: Override(True, None, values) for rule, values in self._limits.items()}  # noqa: FBT003
        pin_rules(self._texts, Config("the lab", limits))
        return run(arguments)

    def _ask(self, scene: Asked, shown: list[Shown]) -> View:
        typed = scene.question
        words = shlex.split(typed)
        form = ["--as=lesson"] if words[0] == _TRACE else []
        told = self._begin([*words, *form, *self._color]) if self._tell else None
        answer = _object(self._run([*words, "--format", "json"]), typed)
        if told is not None:
            output = told.printed().output
            cut = output.rstrip("\n") if form else cut_lines(output)
            shown.insert(0, Shown(f"tcpdoctor {typed}", cut))
        verdicts = [_compared(path, wanted, _at(answer, path)) for path, wanted in scene.answer.items()]
        return View(tuple(shown), tuple(verdicts))

    def _brief(self, rules: list[str], window: float) -> Aside:
        """Ask for the short form as somebody outside would: its commands are to be typed there."""
        only = [f"--only={rule}" for rule in rules]
        is_shell_needed = os.stat("/proc/self/ns/user").st_ino != self._own_users
        netns = [] if is_shell_needed else [f"--netns={os.getpid()}"]
        return self._begin(["check", *only, f"--window={window:g}", *netns, *self._color])

    def _check(self, scene: Broken | Cured, shown: list[Shown]) -> View:
        rules = list(scene.fires) if isinstance(scene, Broken) else self._rules
        typed = f"check {' '.join(rules)}"
        if scene.window != 1:
            typed += f" --window {scene.window:g}"
        form = "--as=again" if self._told.issuperset(rules) else "--as=lesson"
        told = self._begin([*shlex.split(typed), form, *self._color]) if self._tell else None
        brief = self._brief(rules, scene.window) if self._holds else None
        report = _object(self._run([*shlex.split(typed), "--format", "json"]), typed)
        if told is not None:
            shown.append(Shown(f"tcpdoctor {typed}", told.printed().output.rstrip("\n")))
            self._told |= set(rules)
        wanted = scene.fires if isinstance(scene, Broken) else dict.fromkeys(rules, _CLEAR)
        judged = tuple(_judged(rule, least, report) for rule, least in wanted.items())
        return View(tuple(shown), judged, "" if brief is None else brief.printed().output)


def _commands(scene: Scene) -> list[str]:
    """What is to be shown; of a disease always something that explains it."""
    commands = list(scene.show)
    if isinstance(scene, Broken) and not any(command.startswith("explain") for command in commands):
        commands.append(f"explain --rule {next(iter(scene.fires))}")
    return commands


def _object(printed: Printed, typed: str) -> Any:
    output = printed.output
    if shlex.split(typed)[0] == _TRACE:  # a line for each connection, and the summary last
        output = output.rstrip("\n").rpartition("\n")[2]
    try:
        return json.loads(output)
    except ValueError:
        said = " ".join(printed.output.split())[:300]
        raise ValueError(f"`tcpdoctor {typed}` gave no answer but: {said}") from None


def _judged(rule: str, wanted: str, report: Any) -> Verdict:
    """Compare what `check` says of a rule with the least severity that is wanted, or with clear."""
    found = [finding["severity"] for finding in report["findings"] if finding["rule"] == rule]
    open_ones = [item["reason"] for item in report["unchecked"] if item["rule"] == rule]
    if found:
        seen = max(found, key=_RANK.__getitem__)
    else:
        seen = f"could not be checked: {open_ones[0]}" if open_ones else _CLEAR
    holds = seen == _CLEAR if wanted == _CLEAR else _RANK.get(seen, -1) >= _RANK[wanted]
    return Verdict(rule, wanted, seen, holds)


def _compared(path: str, wanted: object, seen: object) -> Verdict:
    if isinstance(wanted, Between):
        holds = isinstance(seen, int | float) and wanted.low <= seen <= wanted.high
        return Verdict(path, f"{wanted.low:g} to {wanted.high:g}", str(seen), holds)
    return Verdict(path, _spelt(wanted), _spelt(seen), seen == wanted)


def _spelt(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _at(answer: Any, path: str) -> Any:
    """What is at a path; a name for its absence where there is nothing."""
    for key in path.split("."):
        try:
            answer = answer[int(key)] if isinstance(answer, list) else answer[key]
        except (LookupError, TypeError, ValueError):
            return f"there is no {key}"
    return answer


# `tcpdoctor lab prove`: plays scenarios, a few at a time, and keeps what each showed.


_AT_ONCE = 4
"""Scenarios beside each other: they wait more than they work."""
_ERASE = "\r\x1b[K"


class _Playing:
    """A scenario that is on stage, and what came of it so far."""

    def __init__(self, scenario: Scenario, stage: Stage) -> None:
        self.scenario = scenario
        self.stage = stage
        self.begun = time.monotonic()
        self.broken: list[Part] = []
        self.cured: list[Part] = []

    def note(self, scene: Scene, verdicts: Sequence[Verdict]) -> None:
        healthy = isinstance(scene, Cured) or (isinstance(scene, Asked) and scene.cured)
        (self.cured if healthy else self.broken).extend(Part(*verdict) for verdict in verdicts)

    def proven(self, problem: str | None) -> Proven:
        return Proven(
            self.scenario.name,
            self.scenario.rules,
            tuple(self.broken),
            tuple(self.cured),
            problem,
            time.monotonic() - self.begun,
        )


def prove(scenarios: Sequence[Scenario], without: tuple[Unproven, ...]) -> ProofAnswer:
    """Play these scenarios, each in a namespace of its own.

    Raises:
        QuestionError: This machine gives us no network namespace.
    """
    texts = list(shipped_texts())
    begun, taken_at = time.monotonic(), time.time()
    waiting = list(reversed(scenarios))
    playing: dict[int, _Playing] = {}
    proven: dict[str, Proven] = {}
    with _erased_in_the_end(), ExitStack() as stack:
        while waiting or playing:
            while waiting and len(playing) < _AT_ONCE:
                scenario = waiting.pop()
                stage = stack.enter_context(Stage(scenario, Looker(texts, tell=False)))
                playing[stage.connection.fileno()] = _Playing(scenario, stage)
            _show(f"{len(proven)} of {len(scenarios)} done")
            for ready in wait([entry.stage.connection for entry in playing.values()]):
                entry = playing[ready.fileno()]  # type: ignore[union-attr]
                done = _follow(entry)
                if done is not None:
                    del playing[entry.stage.connection.fileno()]
                    entry.stage.end()
                    proven[done.name] = done
    ordered = tuple(proven[scenario.name] for scenario in scenarios)
    return proof_answer(os.uname().release, taken_at, time.monotonic() - begun, ordered, without)


def _follow(entry: _Playing) -> Proven | None:
    """Take one message; what came of the scenario where it was the last."""
    message = entry.stage.receive()
    if isinstance(message, Refused):
        raise QuestionError(f"the lab cannot play here: {message.reason}")
    if isinstance(message, Looked):
        view: View = message.result
        entry.note(message.scene, view.verdicts)
        entry.stage.go()
    return entry.proven(message.problem) if isinstance(message, Ended) else None


@contextmanager
def _erased_in_the_end() -> Iterator[None]:
    try:
        yield
    finally:
        _show("")


def _show(text: str) -> None:
    """Say on a terminal's stderr how far it is; nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        return
    try:
        sys.stderr.write(_ERASE + text)
        sys.stderr.flush()
    except OSError:
        return  # the terminal is gone; the proof may still have somewhere to go

"""What the lab sees of a scene, by asking the commands of this program from inside its namespace."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tcpdoctor.cli.lab_cut import cut_finding, cut_lines, cut_rows
from tcpdoctor.diagnosis.config import Config, Override
from tcpdoctor.diagnosis.library import RuleText
from tcpdoctor.lab.aside import Aside, Printed
from tcpdoctor.lab.scenario import Asked, Between, Broken, Cured, Scene, Step

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


class Looker:
    """Looks at the scenes of one scenario, in their order. It remembers which rules were to fire."""

    def __init__(self, texts: Sequence[RuleText], *, tell: bool, color: bool = False) -> None:
        """Take the rules as shipped; `tell` asks for what people read as well, `color` for colours in it."""
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
        command, _, lines = typed.partition("| head -")
        output = self._run([*shlex.split(command), *self._color]).output
        if command.startswith("sockets") and not lines:
            return Shown(f"tcpdoctor {typed}", cut_rows(output))
        return Shown(f"tcpdoctor {typed}", cut_lines(output, int(lines) if lines else None))

    def _run(self, arguments: list[str]) -> Printed:
        return self._begin(arguments).printed()

    def _begin(self, arguments: list[str]) -> Aside:
        return Aside(lambda: self._answer(arguments))

    def _answer(self, arguments: list[str]) -> int:
        from tcpdoctor.cli.app import run
        from tcpdoctor.cli.rule_files import pin_rules

        limits = {rule: Override(True, None, values) for rule, values in self._limits.items()}  # noqa: FBT003
        pin_rules(self._texts, Config("the lab", limits))
        return run(arguments)

    def _ask(self, scene: Asked, shown: list[Shown]) -> View:
        typed = scene.question
        told = self._begin([*shlex.split(typed), *self._color]) if self._tell else None
        answer = _object(self._run([*shlex.split(typed), "--format", "json"]), typed)
        if told is not None:
            shown.insert(0, Shown(f"tcpdoctor {typed}", cut_lines(told.printed().output, None)))
        verdicts = [_compared(path, wanted, _at(answer, path)) for path, wanted in scene.answer.items()]
        return View(tuple(shown), tuple(verdicts))

    def _check(self, scene: Broken | Cured, shown: list[Shown]) -> View:
        rules = list(scene.fires) if isinstance(scene, Broken) else self._rules
        typed = f"check --only {','.join(rules)}"
        if scene.window != 1:
            typed += f" --window {scene.window:g}"
        told = self._begin([*shlex.split(typed), *self._color]) if self._tell else None
        report = _object(self._run([*shlex.split(typed), "--format", "json"]), typed)
        if told is not None:
            text = cut_finding(told.printed().output, again=self._told.issuperset(rules))
            shown.append(Shown(f"tcpdoctor {typed}", text))
            self._told |= set(rules)
        wanted = scene.fires if isinstance(scene, Broken) else dict.fromkeys(rules, _CLEAR)
        return View(tuple(shown), tuple(_judged(rule, least, report) for rule, least in wanted.items()))


def _commands(scene: Scene) -> list[str]:
    """What is to be shown; of a disease always something that explains it."""
    commands = list(scene.show)
    if isinstance(scene, Broken) and not any(command.startswith("explain") for command in commands):
        commands.append(f"explain --rule {next(iter(scene.fires))}")
    return commands


def _object(printed: Printed, typed: str) -> Any:
    try:
        return json.loads(printed.output)
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

"""`tcpdoctor lab run`: tells one scenario to a person, step by step, while it happens."""

import os
import select
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tcpdoctor.cli.lab_look import Looker, Shown, View
from tcpdoctor.cli.output import Output, emit, style_of
from tcpdoctor.cli.rule_files import shipped_texts
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.diagnosis.units import LIMIT_UNITS, in_base_unit
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.dimension import show_number
from tcpdoctor.lab.scenario import Asked, Broken, Cured, Scenario, Scene
from tcpdoctor.lab.stage import Ended, Looked, Opened, Reached, Refused, Stage

_FELL_SHORT = 1


def tell(scenario: Scenario, output: Output, *, hold: bool) -> int:
    """Play the scenario and print every step; return the exit code.

    Raises:
        QuestionError: This machine gives us no network namespace.
    """
    from tcpdoctor.cli.lab_catalogue import shipped_rules

    style = style_of(output)
    looker = Looker(list(shipped_texts()), tell=True, color=style.color)
    teller = _Teller(scenario, output, {rule.id: rule for rule in shipped_rules()})
    with Stage(scenario, looker) as stage, _watched_stdout() as is_lost:
        while not isinstance(message := stage.receive(), Ended):
            if isinstance(message, Refused):
                raise QuestionError(f"the lab cannot play here: {message.reason}")
            teller.hear(message)
            if is_lost():
                return 0
            if isinstance(message, Looked):
                if hold and _is_sick(message.scene):
                    teller.hold(message.scene)
                stage.go()
    return teller.conclude(message)


def _is_sick(scene: Scene) -> bool:
    return isinstance(scene, Broken) or (isinstance(scene, Asked) and not scene.cured)


@contextmanager
def _watched_stdout() -> Iterator[Callable[[], bool]]:
    """Give a question: has the reader of our output closed the pipe? Then there is nothing to go on for.

    It looks at a duplicate, because `emit` replaces a stdout that is lost.
    """
    duplicate = os.dup(1)
    poll = select.poll()
    poll.register(duplicate, 0)
    try:
        yield lambda: any(event & select.POLLERR for _, event in poll.poll(0))
    finally:
        os.close(duplicate)


class _Teller:
    """Prints what happens, and remembers whether it went as told."""

    def __init__(self, scenario: Scenario, output: Output, rules: dict[str, Rule]) -> None:
        self._scenario = scenario
        self._output = output
        self._style = style_of(output)
        self._rules = rules
        self._steps = 0
        self._begun = time.monotonic()
        self._player: Opened | None = None
        self._failed: list[str] = []
        self._was_sick = False

    def hear(self, message: Opened | Reached | Looked) -> None:
        """Print one message of the stage."""
        if isinstance(message, Opened):
            self._player = message
            self._say(self._style.bold(self._style.wrap(f"{self._scenario.name}: {self._scenario.title}")))
            self._say(
                self._style.wrap(
                    "This happens in a network namespace of its own: no packet leaves it, no setting of "
                    "this host changes, and all that is made here ends with it."
                )
            )
        elif isinstance(message, Reached):
            self._steps += 1
            self._say("\n" + self._style.bold(f"{self._steps}. {self._heading(message.scene)}"))
            self._say(self._style.wrap(_prose(message.scene.text)))
            self._say_what_is_lowered(message.scene)
        else:
            view: View = message.result
            for shown in view.shown:
                self._show(shown)
            self._judge(view)

    def hold(self, scene: Scene) -> None:
        """Let the person explore, until Enter; Ctrl-C ends everything."""
        assert self._player is not None  # noqa: S101 - the stage opens before the first scene
        pid = self._player.player
        user = " -U" if self._player.in_user_namespace else ""
        keep = " --preserve-credentials" if self._player.in_user_namespace else ""
        self._say("\n" + self._style.bold("It is held in this state. To look around, in another terminal:"))
        self._say(f"  nsenter -t {pid}{user} -n{keep}")
        self._say(
            self._style.wrap(
                "Then, in that shell: tcpdoctor check, tcpdoctor sockets, ss -tanpo. Leave it with exit."
            )
        )
        if isinstance(scene, Broken) and scene.limits:
            self._say(
                self._style.wrap("check has its usual limits there, and is silent until they are reached.")
            )
        self._say("Enter goes on, Ctrl-C ends it here.")
        _wait_for_enter()

    def conclude(self, end: Ended) -> int:
        """Print the last lines; return the exit code."""
        if end.problem is not None:
            self._failed.append(f"the story broke off: {end.problem}")
            if os.environ.get("TCPDOCTOR_TRACEBACK"):
                self._say(end.trace)
        took = f"{time.monotonic() - self._begun:.1f} s"
        if self._failed:
            self._say("\n" + self._style.severity("critical", "It did not go as told:"))
            for failed in self._failed:
                self._say(self._style.wrap(failed, "    ", "  - "))
            return _FELL_SHORT
        self._say(
            "\n"
            + self._style.wrap(
                f"All went as told, in {took}; the namespace and everything in it are gone.{self._more()}"
            )
        )
        return 0

    def _more(self) -> str:
        rules = self._scenario.rules
        return f" More: tcpdoctor explain --rule {rules[0]}" if rules else ""

    def _heading(self, scene: Scene) -> str:
        if isinstance(scene, Broken):
            self._was_sick = True
            return "The disease"
        if isinstance(scene, Cured) or (isinstance(scene, Asked) and scene.cured):
            return "Fixed"
        if isinstance(scene, Asked):
            return "The symptom"
        if self._was_sick:
            return "The fix"
        return "Set up" if self._steps == 1 else "What happens"

    def _say(self, text: str) -> None:
        emit(text, self._output)

    def _say_what_is_lowered(self, scene: Scene) -> None:
        if not isinstance(scene, Broken) or not scene.limits:
            return
        lowered = []
        for rule, limits in scene.limits.items():
            of_rule = f" ({rule})" if len(scene.limits) > 1 else ""
            for name, value in limits.items():
                limit = self._rules[rule].limits[name]
                less, usual = (_shown(number, limit.unit) for number in (value, limit.given))
                lowered.append(f"{name} = {less} instead of {usual}{of_rule}")
        told = " and ".join(lowered)
        self._say("\n" + self._style.wrap(f"So that it shows at once, this look is made with {told}."))

    def _show(self, shown: Shown) -> None:
        self._say("\n" + self._style.command(f"$ {shown.command}"))
        self._say(shown.output)

    def _judge(self, view: View) -> None:
        for verdict in view.verdicts:
            if not verdict.holds:
                failed = f"{verdict.what} should be {verdict.wanted}, and is {verdict.seen}"
                self._failed.append(f"step {self._steps}: {failed}")
                self._say("\n" + self._style.severity("critical", self._style.wrap(f"Not as told: {failed}")))


def _shown(value: float, unit: str) -> str:
    """A limit with its unit, as findings print it."""
    return show_number(in_base_unit(value, unit), LIMIT_UNITS[unit][1])


def _prose(text: str) -> str:
    return textwrap.dedent(text).strip()


def _wait_for_enter() -> None:
    """Wait for a line, or the end of a terminal's input; without any input only a signal ends the wait."""
    if sys.stdin is not None and (sys.stdin.readline() or sys.stdin.isatty()):
        return
    while True:
        select.select([], [], [], 3600)

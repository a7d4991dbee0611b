"""`tcpdoctor lab`: makes a disease in a private network namespace, and shows how it is found and cured."""

import os
import select
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, NamedTuple

import typer

from tcpdoctor.answers.proof import (
    ListedScenario,
    ScenarioList,
    Unproven,
)
from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.cli.lab_look import Looker, Shown, View, prove
from tcpdoctor.cli.output import (
    COLOR,
    FORMAT,
    JSON,
    NO_PAGER,
    OUTPUT,
    Output,
    emit,
    format_of,
    refuse_hopeless_file,
    say,
    style_of,
)
from tcpdoctor.diagnosis.closure import LIMIT_UNITS, in_base_unit
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.diagnosis.table import nearest
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.value import BYTE, show, show_number
from tcpdoctor.kernel.reading import is_ready
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.overheard import ELSEWHERE, Pair, Passed
from tcpdoctor.lab.scenario import (
    Asked,
    Broken,
    Cured,
    Ended,
    Looked,
    Opened,
    Reached,
    Refused,
    Scenario,
    Scene,
    Stage,
)
from tcpdoctor.report.host import plural
from tcpdoctor.report.proof_text import lab_list_page, proof_page
from tcpdoctor.report.style import Style

app = typer.Typer(
    no_args_is_help=False,
    help="Make a disease in a private namespace; see it found and cured.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_scenarios(
    *,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
    no_pager: NO_PAGER = False,
) -> None:
    """List the scenarios: name, what is wrong, and what each proves."""
    answer = ScenarioList("tcpdoctor.lab/1", list_entries())
    say(answer, lab_list_page, Output(format_of(output_format, as_json), output, color, pager=not no_pager))


@app.command("run")
def run_scenario(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `lab list` has it; a rule's id as well.")],
    *,
    hold: Annotated[
        bool,
        typer.Option("--hold", help="Stop while it is broken, and say how to look around in there."),
    ] = False,
    no_pause: Annotated[
        bool, typer.Option("--no-pause", help="On a terminal, too, do not stop at each step.")
    ] = False,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    color: COLOR = "auto",
) -> None:
    """Tell one scenario step by step: the disease, its finding, the fix.

    On a terminal it stops at each step: Enter goes on, q ends it. Of the connections of a step one is
    drawn: what passed between its ends, and their states behind each segment.

    It happens in a network namespace of its own, as root or where user namespaces are allowed; no setting
    of the host changes, and all that is made ends with the namespace. Kernel modules that the kernel loads
    for it (connection tracking, virtual links, shapers) stay loaded. Exits 0 if all went as told, 1 if it
    did not, and 3 if it could not run. As JSON it is what `lab prove NAME` prints.
    """
    if format_of(output_format, as_json) == "json":
        if hold:
            raise typer.BadParameter("is for people; it goes with --format text", param_hint="--hold")
        _print_proof([find_scenario(name)], (), Output("json"))
        return
    code = tell(find_scenario(name), Output("text", None, color), pace_of(hold=hold, no_pause=no_pause))
    if code:
        raise typer.Exit(code)


@app.command("prove")
def prove_scenarios(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Scenarios, or ids of rules; without any, all."),
    ] = None,
    *,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Prove on this kernel: each disease is found, and its fix ends it.

    Exits 0 if every scenario went as it should, 1 if one fell short, and 3 if none could run here.
    """
    target = Output(format_of(output_format, as_json), output, color)
    refuse_hopeless_file(target)
    chosen = {found.name: found for found in map(find_scenario, names)} if names else LAB
    _print_proof(list(chosen.values()), () if names else rules_without(list_entries()), target)


def _print_proof(scenarios: Sequence[Scenario], without: tuple[Unproven, ...], target: Output) -> None:
    """Play them and print what they showed.

    Raises:
        typer.Exit: With 1, where one fell short.
    """
    proof = prove(scenarios, without)
    say(proof, proof_page, target)
    if not proof.holds:
        raise typer.Exit(1)


_STATE = 11
"""Columns of the longest state, ESTABLISHED."""
_INDENT = "  "
_SHORTEST, _LONGEST = 12, 28
_MOST_OTHERS = 3


class Strokes(NamedTuple):
    """What an arrow is made of."""

    line: str
    right: str
    left: str


ASCII = Strokes("-", ">", "<")
UNICODE = Strokes("\u2500", "\u25b6", "\u25c0")


def pair_lines(pair: Pair, style: Style, strokes: Strokes) -> list[str]:
    """Return the drawing, a line a segment; each line has the state of both ends behind it.

    The last line is what the kernel says of them at the scene.
    """
    arrow = max(_SHORTEST, min(_LONGEST, style.width - len(_INDENT) - 2 * _STATE - 2))
    last = _segment_words(pair.before, pair)
    lines = [*_heads(pair, style, arrow), _line(last, last, " " * arrow, style)]
    for passed in pair.passed:
        states = _segment_words((passed.client, passed.server), pair)
        lines.append(_line(states, last, _arrow(passed, arrow, strokes), style))
        last = states
    lines.append(_line(pair.states, last, f"{'(the kernel)':^{arrow}}", style))
    told = [f"{plural(pair.alike, 'connection')} in these states"] if pair.alike > 1 else []
    told += [f"{number} {client} - {server}" for client, server, number in pair.others[:_MOST_OTHERS]]
    if told:
        lines.append(style.dim(style.wrap("; ".join(told), _INDENT)))
    return lines


def _heads(pair: Pair, style: Style, arrow: int) -> list[str]:
    """Who is who; below each other where both do not fit beside each other."""
    client, server = f"client {pair.client}", f"server {pair.server}"
    column = len(_INDENT) + _STATE + arrow + 2
    if len(_INDENT) + len(client) < column and column + len(server) <= style.width:
        return [style.bold(f"{_INDENT}{client:<{column - len(_INDENT)}}{server}")]
    return [
        style.bold(style.wrap(f"{client} (left)", _INDENT)),
        style.bold(style.wrap(f"{server} (right)", _INDENT)),
    ]


def _segment_words(states: tuple[str, str], pair: Pair) -> tuple[str, str]:
    """Of an end that is elsewhere nothing is claimed."""
    client, server = (
        ELSEWHERE if at_last == ELSEWHERE else state
        for state, at_last in zip(states, pair.states, strict=True)
    )
    return client, server


def _line(states: tuple[str, str], before: tuple[str, str], between: str, style: Style) -> str:
    """One line; a state that has changed is bold, as is said by its being another word, too."""
    client, server = (
        style.bold(f"{state:<{_STATE}}") if state != old else f"{state:<{_STATE}}"
        for state, old in zip(states, before, strict=True)
    )
    return f"{_INDENT}{client} {between} {server}".rstrip()


def _arrow(passed: Passed, width: int, strokes: Strokes) -> str:
    label = passed.what
    if "data" in label:
        label = label.replace("data", show(passed.data, BYTE))
    if passed.number > 1 and "data" not in passed.what:
        label = f"{label} x{passed.number}"
    shaft = f"{f' {label} ':{strokes.line}^{width - 1}}"
    return shaft + strokes.right if passed.by_client else strokes.left + shaft


# Scenarios beside the rules that they prove.


def shipped_rules() -> tuple[Rule, ...]:
    """The rules of this program, whatever the administrator of this host has changed."""
    return load_library(shipped_texts()).rules


def list_entries() -> tuple[ListedScenario, ...]:
    """Every scenario, with the rules that it proves."""
    return tuple(ListedScenario(one.name, one.title, one.rules) for one in LAB.values())


def rules_without(entries: Sequence[ListedScenario]) -> tuple[Unproven, ...]:
    """The shipped rules that no scenario proves, with the reason that their file gives."""
    proven = {rule for entry in entries for rule in entry.rules}
    return tuple(
        Unproven(rule.id, rule.no_scenario or "its file does not say why")
        for rule in shipped_rules()
        if rule.id not in proven
    )


def find_scenario(name: str) -> Scenario:
    """The scenario of this name, or the first that proves the rule of this name.

    Raises:
        QuestionError: There is none; with the reason of the rule's file, or the nearest name.
    """
    wanted = name.rpartition("/")[2]
    if wanted in LAB:
        return LAB[wanted]
    for scenario in LAB.values():
        if wanted in scenario.rules:
            return scenario
    for rule in shipped_rules():
        if rule.id == wanted:
            raise QuestionError(f"rule {wanted} has no scenario: {rule.no_scenario or 'nobody made one yet'}")
    close = nearest(wanted, LAB)
    hint = f"did you mean {close}?" if close else "`tcpdoctor lab list` prints all of them"
    raise QuestionError(f"there is no scenario {name[:80]!r}; {hint}")


_FELL_SHORT = 1
_PER_SEGMENT = 0.15
"""Seconds from a line of a drawing to the next."""


class Pace(NamedTuple):
    """How a story is told."""

    hold: bool = False
    """Stop while it is broken, wherever it is printed."""
    pause: bool = False
    """Stop at each step, until Enter."""
    strokes: Strokes = ASCII


def pace_of(*, hold: bool, no_pause: bool) -> Pace:
    """Stop at each step where somebody sits at a terminal, and draw what its locale can show."""
    terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return Pace(hold, terminal and not no_pause, UNICODE if terminal and shows_utf8(os.environ) else ASCII)


def shows_utf8(environment: Mapping[str, str]) -> bool:
    """Whether the user's locale is one of UTF-8.

    What Python writes does not tell: in the locale C it writes UTF-8 all the same, and sets LC_CTYPE for that
    (PEP 538).
    """
    language = environment.get("LANG", "")
    own = environment.get("LC_CTYPE", "")
    if own == "C.UTF-8" and language in ("", "C", "POSIX"):
        own = ""
    locale = environment.get("LC_ALL") or own or language
    return locale.lower().replace("-", "").endswith("utf8")


def tell(scenario: Scenario, output: Output, pace: Pace) -> int:
    """Play the scenario and print every step; return the exit code.

    Raises:
        QuestionError: This machine gives us no network namespace.
    """
    style = style_of(output)
    looker = Looker(list(shipped_texts()), tell=True, color=style.color, holds=pace.hold)
    config = _lent_name() if pace.hold else None
    teller = _Teller(scenario, output, pace, config or "")
    stage = Stage(scenario, looker, overhear=True, leftover=config)
    with stage, _watched_stdout() as is_lost:
        while not isinstance(message := stage.receive(), Ended):
            if isinstance(message, Refused):
                raise QuestionError(f"the lab cannot play here: {message.reason}")
            teller.hear(message)
            if is_lost():
                return 0
            if isinstance(message, Looked):
                if not teller.wants_more(message):
                    break
                stage.go()
    return teller.conclude(message)


def _lent_name() -> str:
    """The path of a file that is made where a look has limits of its own; the keeper removes it."""
    return os.path.join(tempfile.gettempdir(), f"tcpdoctor-lab-{os.urandom(8).hex()}.toml")


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

    def __init__(self, scenario: Scenario, output: Output, pace: Pace, config: str) -> None:
        self._scenario = scenario
        self._pace = pace
        self._config = config
        self._output = output
        self._style = style_of(output)
        self._rules = {rule.id: rule for rule in shipped_rules()}
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
            self._draw(message.pair)
            self._say_what_is_lowered(message.scene)
        else:
            view: View = message.result
            for shown in view.shown:
                self._show(shown)
            self._judge(view)

    def wants_more(self, looked: Looked) -> bool:
        """Wait for the person where the pace says so; False: it ends here."""
        if self._pace.hold and _is_sick(looked.scene):
            self._hold(looked)
            if not self._pace.pause:
                self._say("Enter goes on, Ctrl-C ends it here.")
                _wait_for_enter()
                return True
        return not self._pace.pause or self._goes_on()

    def _goes_on(self) -> bool:
        self._say("\n" + self._style.dim("Enter goes on, q or Ctrl-C ends it here."))
        line = _typed_line()
        return line != "" and not line.strip().lower().startswith("q")

    def _hold(self, looked: Looked) -> None:
        """Show the finding once more, and how it is seen from another terminal."""
        assert self._player is not None  # noqa: S101 - the stage opens before the first scene
        pid = self._player.keeper
        self._say("\n" + self._style.bold("It is held in this state, until you go on."))
        view: View = looked.result
        if view.short:
            self._say("\n" + view.short.rstrip("\n"))
        if self._player.in_user_namespace:
            self._say(f"\nTo see it from another terminal:\n  nsenter -t {pid} -U -n --preserve-credentials")
            self._say("and in that shell:")
        else:
            self._say(f"\nA shell in there, from another terminal:\n  nsenter -t {pid} -n")
            self._say("To see it there, or from outside with --netns:")
        netns = "" if self._player.in_user_namespace else f" --netns {pid}"
        for command in (*self._commands(looked.scene), "sockets"):
            self._say(self._style.command_block(f"tcpdoctor {command}{netns}", "  "))

    def _commands(self, scene: Scene) -> list[str]:
        """What shows the finding, or the answer, to somebody else."""
        if isinstance(scene, Asked):
            return [scene.question]
        if not isinstance(scene, Broken):
            return []
        config = f" --config {self._lowered(scene)}" if scene.limits else ""
        return [f"check {' '.join(scene.fires)}{config}"]

    def _lowered(self, scene: Broken) -> str:
        """The path of a configuration with the limits of this look."""
        with suppress(FileNotFoundError):
            os.unlink(self._config)  # of the look before
        made = os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(made, "w", encoding="ascii") as file:
            for rule, limits in scene.limits.items():
                file.write(f"[rules.{rule}.limits]\n")
                file.writelines(f"{name} = {value:g}\n" for name, value in limits.items())
        return self._config

    def _draw(self, pair: Pair | None) -> None:
        """Draw both ends; for somebody at a terminal line by line, so that the states are seen to move."""
        if pair is None:
            return
        for number, line in enumerate(pair_lines(pair, self._style, self._pace.strokes)):
            if self._pace.pause and number > 1:
                time.sleep(_PER_SEGMENT)
            self._say(line if number else "\n" + line)

    def conclude(self, end: Ended | Looked) -> int:
        """Print the last lines; return the exit code. Behind a `Looked` the person wanted no more."""
        if isinstance(end, Looked):
            self._say("Ended here; the namespace and everything in it are gone.")
            return _FELL_SHORT if self._failed else 0
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
    if sys.stdin is not None and (_typed_line() or sys.stdin.isatty()):
        return
    while True:
        time.sleep(_AGAIN)


_AGAIN = 0.5
"""Seconds after which a wait is begun anew: a signal that comes just before it would not end it."""


def _typed_line() -> str:
    while sys.stdin.isatty() and not is_ready(sys.stdin.fileno(), _AGAIN):
        pass
    return sys.stdin.readline()

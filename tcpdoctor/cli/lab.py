"""`tcpdoctor lab`: makes a disease in a private network namespace, and shows how it is found and cured."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from typing import Annotated

import typer

from tcpdoctor.answers.proof import Part, ProofAnswer, Proven, ScenarioList, Unproven, proof_answer
from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.cli.lab_look import Looker, Verdict, View
from tcpdoctor.cli.lab_run import find_scenario, list_entries, pace_of, rules_without, tell
from tcpdoctor.cli.output import (
    COLOR,
    FORMAT,
    JSON,
    NO_PAGER,
    OUTPUT,
    Output,
    format_of,
    refuse_hopeless_file,
    say,
)
from tcpdoctor.errors import QuestionError
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.scenario import Asked, Cured, Scenario, Scene
from tcpdoctor.lab.stage import Ended, Looked, Refused, Stage
from tcpdoctor.report.proof_text import lab_list_page, proof_page

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

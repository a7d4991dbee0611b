"""`tcpdoctor lab prove`: plays scenarios, a few at a time, and keeps what each showed."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait

from tcpdoctor.cli.lab_look import Looker, Verdict, View
from tcpdoctor.cli.rule_files import shipped_texts
from tcpdoctor.errors import QuestionError
from tcpdoctor.lab.scenario import Asked, Cured, Scenario, Scene
from tcpdoctor.lab.stage import Ended, Looked, Refused, Stage
from tcpdoctor.report.proof import Part, Proof, Proven, Unproven

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


def prove(scenarios: Sequence[Scenario], without: tuple[Unproven, ...]) -> Proof:
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
    return Proof(os.uname().release, taken_at, time.monotonic() - begun, ordered, without)


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

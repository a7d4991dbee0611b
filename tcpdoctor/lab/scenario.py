"""What a scenario is: a story in scenes, told while it happens in a private network namespace.

A scenario is a generator function. What it does between two scenes happens on the real kernel; each
scene says in plain English what was done, what the kernel does about it and why, and what has to be seen
now. Whoever plays it (`tcpdoctor lab`, a live test) looks at every scene while the sockets are in it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias


class Step(NamedTuple):
    """Something was set up; nothing is wrong yet."""

    text: str
    show: tuple[str, ...] = ()
    """Commands of this program worth running now, without its name: ``sockets --state fin-wait-2``."""


class Broken(NamedTuple):
    """The disease is there: these rules fire."""

    text: str
    fires: Mapping[str, str]
    """Rule id to the least severity that it has to reach: ``info``, ``warning`` or ``critical``."""
    show: tuple[str, ...] = ()
    limits: Mapping[str, Mapping[str, float]] = {}
    """Limits of rules that are lowered for the look, so that nobody waits for minutes; said on the screen."""
    window: float = 1.0
    """Seconds between the samples of the look."""


class Cured(NamedTuple):
    """The fix was applied: the rules of the scenes before are clear."""

    text: str
    show: tuple[str, ...] = ()
    window: float = 1.0


class Between(NamedTuple):
    """A number of an answer that is only known to lie between two others, both included."""

    low: float
    high: float


class Asked(NamedTuple):
    """A question to this program whose answer has to be what the kernel did, or will do."""

    text: str
    question: str
    """The command without its name: ``explain --port 7001``; its answer is taken as JSON."""
    answer: Mapping[str, object]
    """Path in the JSON to the value there: ``{"bind.attempts.1.bind": "EADDRINUSE"}``; or a `Between`."""
    cured: bool = False
    """Whether the fix has been applied by now."""
    show: tuple[str, ...] = ()


Scene: TypeAlias = Step | Broken | Cured | Asked


class Scenario(NamedTuple):
    """One disease that can be made on one machine."""

    name: str
    """A slug; where the scenario is the proof of one rule, that rule's id."""
    title: str
    """What is wrong, in one line of at most 72 characters."""
    play: Callable[[], Iterator[Scene]]
    """Runs inside the namespace, with `lo` up; ends everything it began when it is closed."""
    proves: tuple[str, ...] | None = None
    """The rules that have to fire in it and to be clear at its end; None: the rule of its name."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that it proves; none where it proves an answer of `explain`."""
        return (self.name,) if self.proves is None else self.proves

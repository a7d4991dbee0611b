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


Scene: TypeAlias = Step | Broken | Cured


class Scenario(NamedTuple):
    """One disease that can be made on one machine."""

    name: str
    """A slug; where the scenario is the proof of one rule, that rule's id."""
    title: str
    """What is wrong, in one line of at most 72 characters."""
    play: Callable[[], Iterator[Scene]]
    """Runs inside the namespace, with `lo` up; ends everything it began when it is closed."""

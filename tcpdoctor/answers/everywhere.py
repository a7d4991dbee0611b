"""What is told of all network namespaces of a host together: ``--netns all``."""

import shlex
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.cgroups import Container
from tcpdoctor.kernel.namespace_entry import NAMES, NamespacePlace, path_of
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.workers import HeldPlaces, Look, every_place, look_in_each
from tcpdoctor.named_tuples import NamedTuple

T = TypeVar("T")


class Place(NamedTuple):
    """A network namespace, as it is called in an answer."""

    namespace: int
    """Inode."""
    name: str | None
    """A name that stays from run to run: of ``ip netns``, else the pod, container or unit inside."""
    label: str
    """For people, with all who share it: ``network namespace 4026532177 of docker 3f2a0c11d0aa``."""
    own: bool
    """Whether it is the namespace that the command was started in."""
    way: str | None = None
    """What to type before a command to run it inside: ``ip netns exec blue``; None for our own."""
    inside: tuple[Container, ...] = ()
    """The containers that share it."""
    unit: str | None = None
    """Where no container is inside, the systemd unit of its lowest process."""
    process: str | None = None
    """Where neither is known, that process: ``bwrap (811)``."""
    netns: str = ""
    """The value of `--netns` that leads here, as a shell takes it; empty for our own."""

    @property
    def short(self) -> str:
        """For a column: its name, or that of a process inside, or its number."""
        return self.name or self.process or ("here" if self.own else str(self.namespace))


class Unseen(NamedTuple):
    """A namespace that could not be looked at."""

    place: Place
    reason: str


class Everywhere(NamedTuple):
    """The same answer from many namespaces."""

    told: tuple[tuple[Place, Any], ...]
    unseen: tuple[Unseen, ...]
    hidden: int
    """Processes that did not let us see their namespace: there may be more."""


BADNESS = {2: 3, 1: 2, 3: 1, 0: 0}
"""By exit code: critical before warning before what could not be looked at before well."""


def worst_exit_code(codes: Iterable[int]) -> int:
    """Return the worst of the exit codes of `check`, 0 for none."""
    return max(codes, key=lambda code: BADNESS[code], default=0)


def place_of(place: NamespacePlace, own: int) -> Place:
    """Return how a namespace is called; `own` is the inode of ours."""
    is_own = place.inode == own
    return Place(
        place.inode,
        place.called(),
        _label(place, own=is_own),
        is_own,
        None if is_own else _way_into(place),
        place.inside,
        place.unit,
        f"{place.process} ({place.pid})" if place.process else None,
        "" if is_own else _asked_as(place),
    )


def _asked_as(place: NamespacePlace) -> str:
    """What `--netns` takes for it; empty where only a name leads there that none can type."""
    if place.is_named() and place.path == f"{NAMES}/{place.name}":
        return shlex.quote(place.name or "")
    if place.pid is not None:
        return str(place.pid)
    return shlex.quote(place.path) if clean(place.path) == place.path else ""


def way_into(wanted: str) -> str | None:
    """Return what to type before a command to run it where ``--netns WANTED`` looks, as `Place.way`."""
    path = path_of(wanted)
    if path == f"{NAMES}/{wanted}":
        return f"ip netns exec {shlex.quote(wanted)}"
    if path == f"/proc/{wanted}/ns/net":
        return f"nsenter -t {wanted} -n"
    return f"nsenter --net={shlex.quote(path)}" if clean(path) == path else None


def _way_into(place: NamespacePlace) -> str | None:
    """What to type before a command to run it there; None: only a name leads there that none can type."""
    name = place.path.removeprefix(f"{NAMES}/")
    if place.is_named() and name != place.path and name == place.name:
        return f"ip netns exec {shlex.quote(name)}"
    if place.pid is not None:
        return f"nsenter -t {place.pid} -n"
    return f"nsenter --net={shlex.quote(place.path)}" if clean(place.path) == place.path else None


def _label(place: NamespacePlace, *, own: bool) -> str:
    if place.is_named():
        within = f": {place.words()}" if place.inside else ""
        return f"network namespace {place.name} ({place.inode}){within}"
    if own:
        return f"network namespace {place.inode}"
    called = f" ({place.process})" if place.process else ""
    who = place.words() or (f"process {place.pid}{called}" if place.pid is not None else "")
    return f"network namespace {place.inode} of {who}" if who else f"network namespace {place.inode}"


def look_everywhere(
    look: Look[T],
    *,
    each_waits: bool = False,
    waiting: AbstractContextManager[None] | None = None,
    in_part: bool = False,
) -> Everywhere:
    """Ask the same of every network namespace; arguments as of `look_in_each`.

    Raises:
        QuestionError: It could be answered nowhere, for the same reason: the question is wrong.
    """
    with every_place() as places:
        seen = look_in_each(places.held, look, each_waits=each_waits, waiting=waiting, in_part=in_part)
        return gathered(places, seen)


def gathered(places: HeldPlaces, seen: Iterable[Reading[T]]) -> Everywhere:
    """Put together what was seen in the places that are held, and what could not be.

    Raises:
        QuestionError: As `look_everywhere`.
    """
    told: list[tuple[Place, T]] = []
    unseen = [Unseen(place_of(place, places.own), reason) for place, reason in places.closed.items()]
    for held, each in zip(places.held, seen, strict=True):
        place = place_of(held.place, places.own)
        if isinstance(each, Missing):
            unseen.append(Unseen(place, each.reason))
        else:
            told.append((place, each))
    if not told and len({each.reason for each in unseen}) == 1:
        raise QuestionError(unseen[0].reason)
    return Everywhere(tuple(told), tuple(unseen), places.hidden)

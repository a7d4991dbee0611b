"""All network namespaces of this host, looked at together: one window, one search for the owners of all."""

import os
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from tcpdoctor.kernel.descriptor_use import survey_descriptors
from tcpdoctor.kernel.live import (
    add_heavy_users,
    fill_in,
    groups_of,
    look_lightly,
    owned_sockets,
    still_among,
    take_snapshot,
    with_holders,
)
from tcpdoctor.kernel.namespace_entry import (
    GONE,
    HeldPlace,
    NamespacePlace,
    coming_back,
    enter_held,
    find_namespaces,
    hold,
    make_room_for,
    who_is_inside,
)
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Owned, Samples, Snapshot
from tcpdoctor.kernel.workers import Look, look_in_each
from tcpdoctor.named_tuples import NamedTuple

_SECONDS = 1.0
"""Of CPU time, for each search through /proc, however many namespaces there are."""


class HeldPlaces(NamedTuple):
    """The network namespaces that we know of, and that stay as long as this does."""

    held: tuple[HeldPlace, ...]
    """Our own first, then by inode."""
    closed: Mapping[NamespacePlace, str]
    """Those that could not be opened, with the reason. One that has ended meanwhile is nowhere."""
    hidden: int
    """Processes that do not let us see their namespace: there may be more."""
    own: int
    """The inode of ours."""


@contextmanager
def every_place() -> Iterator[HeldPlaces]:
    """Find all network namespaces, and who is in them, and hold them."""
    found = find_namespaces()
    own = os.stat("/proc/thread-self/ns/net").st_ino
    make_room_for(len(found.places))
    held: list[HeldPlace] = []
    closed: dict[NamespacePlace, str] = {}
    try:
        for place in found.places:
            known = place if place.inode == own else who_is_inside(place)
            one = hold(known)
            if isinstance(one, HeldPlace):
                held.append(one)
            elif one != GONE:
                closed[known] = one.reason
        yield HeldPlaces(tuple(held), closed, found.hidden, own)
    finally:
        for each in held:
            os.close(each.descriptor)


def two_looks(window: float) -> Look[Samples]:
    """Return a look of two samples `window` seconds apart, one where it is 0.

    It leaves to `complete_samples` what is searched for once for all namespaces: owners, and processes near
    their limit of descriptors.
    """

    def look() -> Generator[float, None, Samples]:
        before = None
        if window > 0:
            before = look_lightly()
            yield before.clock + window
        return Samples(before, take_snapshot(owners=None, before=before, heavy=False))

    return look


def sample_each(
    places: Sequence[HeldPlace],
    window: float,
    *,
    waiting: AbstractContextManager[None] | None = None,
    interrupted: Callable[[], None] | None = None,
) -> list[Reading[Samples]]:
    """Take the samples of each place, in their order, without owners; arguments as of `look_in_each`."""
    seen = look_in_each(places, two_looks(window), waiting=waiting, interrupted=interrupted)
    survey = survey_descriptors(_SECONDS)
    return [
        each
        if isinstance(each, Missing)
        else each._replace(after=add_heavy_users(each.after, survey.within(os.fstat(held.descriptor))))
        for held, each in zip(places, seen, strict=True)
    ]


def add_owners_to_each(
    looks: Mapping[HeldPlace, tuple[Snapshot, Collection[Owned]]], *, every_listener: bool = False
) -> dict[HeldPlace, Snapshot]:
    """Find the owners of some kinds of sockets of many namespaces, in one search through /proc.

    Args:
        looks: What was seen in each place a moment ago, and the kinds.
        every_listener: As `take_snapshot`.
    """
    sockets = {
        held: [*owned_sockets(look, which, every_listener=every_listener)]
        for held, (look, which) in looks.items()
    }
    every = [row for rows in sockets.values() for row in rows]
    present = {
        held: (frozenset(row.inode for row in rows), still_among(rows)) for held, rows in sockets.items()
    }

    def still(inodes: Collection[int]) -> Collection[int]:
        left: set[int] = set()
        with coming_back():
            for held, (ours, ask) in present.items():
                if asked := ours.intersection(inodes):
                    enter_held(held.descriptor, "--netns")
                    left.update(ask(asked))
        return left

    wanted = {row.inode: row.uid for row in every}
    found = find_owners(wanted, seconds=_SECONDS, groups=groups_of(every), still=still) if wanted else {}
    told = {}
    with coming_back():
        for held, (look, which) in looks.items():
            enter_held(held.descriptor, "--netns")
            owners = {row.inode: found[row.inode] for row in sockets[held]}
            told[held] = with_holders(fill_in(look, which, owners) if owners else look)
    return told

"""What somebody else's look at a host says, whatever it was recorded with."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import overload

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Process, Samples, UdpSocket
from tcpdoctor.kernel.surroundings import Surroundings
from tcpdoctor.kernel.survey import Seen
from tcpdoctor.kernel.sysctl_files import Tree
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.source import Source


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector still: it would go through all that was read again and again, for half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()  # else it would go through all of it as soon as it may
            gc.enable()


class Recording(NamedTuple):
    """A look at a host, or two, that was recorded."""

    source: Source
    samples: Samples
    """What rules are asked about. What the recording does not tell is Missing, with what to ask for next."""
    sockets: Reading[Sequence[Seen]]
    """Every TCP socket that is known one by one, listeners first, with its owner; of very many a part."""
    udp: Reading[tuple[UdpSocket, ...]] = Missing("the recording has no UDP sockets; ask for: ss -uanp")
    processes: Mapping[int, Process] = {}
    """By pid, those that hold any of these sockets, as far as they were read."""
    interfaces: Mapping[str, int] = {}
    """The interfaces that sockets are bound to, with the numbers that stand for them here."""
    settings: Reading[Tree] = Missing("they are not in the recording")
    """The files that set the kernel's settings at boot."""
    around: Reading[Surroundings] = Missing("it is not in the recording; record with: tcpdoctor snapshot")
    """Routes, packet rules, addresses, and what keeps the processes running."""


class Later(Sequence[Seen]):
    """Sockets that are made of what was read when somebody looks at one."""

    def __init__(self, length: int, make: Callable[[], tuple[Seen, ...]]) -> None:
        self._length = length
        self._make: Callable[[], tuple[Seen, ...]] | None = make
        self._found: tuple[Seen, ...] = ()

    def _all(self) -> tuple[Seen, ...]:
        if self._make is not None:
            with uncollected():
                self._found, self._make = self._make(), None
        return self._found

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Seen: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Seen, ...]: ...
    def __getitem__(self, place: int | slice) -> Seen | tuple[Seen, ...]:
        return self._all()[place]

    def __iter__(self) -> Iterator[Seen]:
        return iter(self._all())

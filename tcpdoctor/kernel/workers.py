"""The same look from inside many network namespaces, by as many processes as there are processors.

Of all namespaces of this host together there is one window, and one search for the owners of all.

A look is a generator: it begins, says when it goes on, and returns what it saw. Each worker enters the
namespaces of its share one after the other and begins all looks, then ends them in the same order, so that
all of them wait for their windows together. What they saw comes back pickled. A worker that ends on the way
takes nothing with it but the namespace that it was in; the others of its share are looked at by another.

Where no process may be started (RLIMIT_NPROC, a full pids cgroup, seccomp) the calling thread does the work
itself and returns to its own namespace.
"""

import ctypes
import os
import pickle
import select
import signal
import struct
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NoReturn, TypeAlias, TypeVar

from tcpdoctor.errors import TcpdoctorError
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
from tcpdoctor.kernel.namespaces import call_namespace
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.reading import INTERRUPTED, UNDERWAY, Missing, Reading, boottime
from tcpdoctor.kernel.snapshot import Owned, Samples, Snapshot
from tcpdoctor.named_tuples import NamedTuple

T = TypeVar("T")

Look: TypeAlias = Callable[[], Generator[float, None, T]]
"""Begins inside a namespace, yields when it goes on (CLOCK_BOOTTIME), and returns its answer."""

_Share: TypeAlias = Sequence[tuple[int, HeldPlace]]
_Wait: TypeAlias = Callable[[float], None]


class _Until(NamedTuple):
    """When a look goes on, on CLOCK_BOOTTIME."""

    clock: float


_Step: TypeAlias = tuple[int, Reading[Any] | None]
"""The number of a place, and what was seen there; None: it is being entered."""

_MOST_WORKERS = 8
_FEWEST_EACH = 3
"""Namespaces of a worker below which another one costs more than it saves."""
_MOST_AT_ONCE = 64
"""Workers where each look waits by itself."""
_ROUNDS = 3
"""How often new workers are started for what others that ended have left."""
_FRAME = struct.Struct("=iI")
"""Number of the place, and bytes of the pickle behind it; 0: the worker has entered that place."""
_PR_SET_PDEATHSIG = 1
_FAULT = 3
"""Exit code of a worker that has told what was wrong with it."""


def at_once(look: Callable[[], T]) -> Look[T]:
    """Make a look of what has nothing to wait for."""

    def begin() -> Generator[float, None, T]:
        yield from ()
        return look()

    return begin


def look_in_each(
    places: Sequence[HeldPlace],
    look: Look[T],
    *,
    each_waits: bool = False,
    waiting: AbstractContextManager[None] | None = None,
    interrupted: Callable[[], None] | None = None,
    in_part: bool = False,
) -> list[Reading[T]]:
    """Look from inside each place; return what was seen, in the order of the places.

    Args:
        places: Held by us until this returns.
        look: What it returns can be pickled.
        each_waits: The look waits by itself, so that each place needs a worker of its own.
        waiting: Entered when all have begun.
        interrupted: Told once when somebody interrupts the wait; the looks then go on at once. Without it
            an interrupt ends everything.
        in_part: An interrupt ends the looks; places that have no answer by then are `INTERRUPTED`.

    Returns:
        For each place the answer, or Missing with the reason why there is none.
    """
    answers: dict[int, Reading[T]] = {}
    for _ in range(_ROUNDS):
        left = [(number, place) for number, place in enumerate(places) if number not in answers]
        if not left:
            break
        crew = _Crew(left, look, each_waits=each_waits)
        with waiting or nullcontext():
            try:
                crew.collect(answers, interrupted)
                _look_here(answers, crew.unmanned, look, interrupted)
            except KeyboardInterrupt:
                if not in_part:
                    raise
                return [answers.get(number, INTERRUPTED) for number in range(len(places))]
        waiting = None
    gone = Missing("the processes that were to look ended before they came there")
    return [answers.get(number, gone) for number in range(len(places))]


class _Worker:
    """A child that looks, as its parent sees it."""

    def __init__(self, pid: int, reader: int, share: _Share) -> None:
        self.pid = pid
        self.reader = reader
        self.left = {number for number, _ in share}
        self.inside: int | None = None
        """The place that it is in."""
        self.received = bytearray()

    def take(self, data: bytes) -> Iterator[tuple[int, Any]]:
        """Yield what has come in by now: places with their answers."""
        self.received += data
        while len(self.received) >= _FRAME.size:
            number, length = _FRAME.unpack_from(self.received)
            end = _FRAME.size + length
            if len(self.received) < end:
                return
            self.inside = number
            if length:
                yield number, pickle.loads(bytes(self.received[_FRAME.size : end]))  # noqa: S301 - our child
                self.left.discard(number)
            del self.received[:end]


class _Crew:
    """The workers that could be started."""

    def __init__(self, places: _Share, look: Look[Any], *, each_waits: bool) -> None:
        number = _number_of_workers(len(places), each_waits=each_waits)
        self.workers: list[_Worker] = []
        self.unmanned: _Share = places
        """What no worker could be started for."""
        self._hurry: int | None = None
        try:
            hurry, self._hurry = os.pipe()
        except OSError:
            return
        try:
            shares = [places[first::number] for first in range(number)]
            for share in shares:
                worker = self._start(share, look, hurry)
                if worker is None:
                    break
                self.workers.append(worker)
            self.unmanned = [each for share in shares[len(self.workers) :] for each in share]
        finally:
            os.close(hurry)

    def _start(self, share: _Share, look: Look[Any], hurry: int) -> _Worker | None:
        """Fork; None where that is refused."""
        try:
            reader, writer = os.pipe()
        except OSError:
            return None
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            return None
        if pid == 0:
            unused = [reader, *(worker.reader for worker in self.workers)]
            unused += [] if self._hurry is None else [self._hurry]
            _work(share, look, writer, hurry, parent, unused)
        os.close(writer)
        return _Worker(pid, reader, share)

    def collect(self, answers: dict[int, Reading[Any]], interrupted: Callable[[], None] | None) -> None:
        """Wait for all; add what they saw, and why the place has no answer in which one ended."""
        UNDERWAY.begin("network namespaces looked at", sum(len(worker.left) for worker in self.workers))
        waiting = {worker.reader: worker for worker in self.workers}
        poll = select.poll()
        for reader in waiting:
            poll.register(reader, select.POLLIN)
        try:
            while waiting:
                try:
                    for reader, _ in poll.poll():
                        worker = waiting[reader]
                        data = os.read(reader, 1 << 20)
                        answers.update(worker.take(data))
                        UNDERWAY.done = len(answers)
                        if not data:
                            poll.unregister(reader)
                            del waiting[reader]
                            answers.update(_epitaph(worker))
                except KeyboardInterrupt:
                    if interrupted is None or self._hurry is None:
                        raise
                    interrupted()
                    self._go_on()
        finally:
            for worker in waiting.values():
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
            for worker in self.workers:
                os.close(worker.reader)
            self._go_on()

    def _go_on(self) -> None:
        """Let the workers wait no longer."""
        if self._hurry is not None:
            os.close(self._hurry)
            self._hurry = None


def _number_of_workers(places: int, *, each_waits: bool) -> int:
    if each_waits:
        return min(places, _MOST_AT_ONCE)
    return max(1, min(len(os.sched_getaffinity(0)), _MOST_WORKERS, places // _FEWEST_EACH))


def _epitaph(worker: _Worker) -> dict[int, Reading[Any]]:
    """Reap a worker; say why the place has no answer in which it ended before its work was done."""
    _, status = os.waitpid(worker.pid, 0)
    if worker.inside is None or worker.inside not in worker.left:
        return {}
    code = os.waitstatus_to_exitcode(status)
    how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    return {worker.inside: Missing(f"the process that looked there ended with {how}")}


def _look_here(
    answers: dict[int, Reading[Any]],
    share: _Share,
    look: Look[Any],
    interrupted: Callable[[], None] | None,
) -> None:
    """Do the work of a worker in this thread, and come back."""
    if not share:
        return
    hurried: list[bool] = []

    def wait(until: float) -> None:
        if hurried:
            return
        try:
            time.sleep(max(0.0, until - boottime()))
        except KeyboardInterrupt:
            if interrupted is None:
                raise
            interrupted()
            hurried.append(True)

    with coming_back():
        try:
            steps = _steps(share, look, wait)
            answers.update((number, answer) for number, answer in steps if answer is not None)
        finally:
            call_namespace(None)


# In the worker.


def _work(
    share: _Share, look: Look[Any], writer: int, hurry: int, parent: int, unused: Sequence[int]
) -> NoReturn:
    """Look at a share and write down what was seen; the process ends here, whatever happens."""
    code = _FAULT
    here = share[0][0]
    try:
        end_with(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what it means is the parent's to say
        for descriptor in unused:
            os.close(descriptor)
        for here, answer in _steps(share, look, lambda until: _wait(until, hurry)):
            _send(writer, here, answer)
        code = 0
    except BrokenPipeError:
        code = 0  # nobody waits any more
    except Exception as error:  # the edge of a process; the parent tells it
        if os.environ.get("TCPDOCTOR_TRACEBACK"):
            import traceback

            traceback.print_exc()
        _send(writer, here, Missing(f"a fault of this program: {type(error).__name__}: {error}"))
    finally:
        os._exit(code)


def end_with(parent: int) -> None:
    """Let this process be killed when its parent ends; end at once where that has happened by now."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_FAULT)


def _wait(until: float, hurry: int) -> None:
    """Wait until then, or until the parent closes its end: because it is in a hurry, or has ended."""
    left = until - boottime()
    if left > 0:
        poll = select.poll()
        poll.register(hurry, select.POLLIN)
        poll.poll(left * 1000)


def _send(writer: int, number: int, answer: Reading[Any] | None) -> None:
    packed = b"" if answer is None else pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    rest = memoryview(_FRAME.pack(number, len(packed)) + packed)
    while rest:
        rest = rest[os.write(writer, rest) :]


def _steps(share: _Share, look: Look[Any], wait: _Wait) -> Iterator[_Step]:
    """Begin the look in each place, then end it in each; say before whatever is done where it is done."""
    begun: list[tuple[int, HeldPlace, Generator[float, None, Any], float]] = []
    for number, held in share:
        yield number, None
        going = look()
        seen = _advance(held, going)
        if isinstance(seen, _Until):
            begun.append((number, held, going, seen.clock))
        else:
            yield number, seen
    for number, held, going, until in begun:
        wait(until)
        yield number, None
        seen = _advance(held, going)
        yield number, Missing("the look waited twice") if isinstance(seen, _Until) else seen


def _advance(held: HeldPlace, going: Generator[float, None, Any]) -> Any:
    """Go on with a look inside a place, up to where it waits (the time), or to its answer."""
    try:
        enter_held(held.descriptor, "--netns")
        call_namespace(held.place.called())
        return _Until(next(going))
    except StopIteration as end:
        return end.value
    except TcpdoctorError as error:
        return Missing(str(error))


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
    looks: Mapping[HeldPlace, tuple[Snapshot, Collection[Owned]]],
) -> dict[HeldPlace, Snapshot]:
    """Find the owners of some kinds of sockets of many namespaces, in one search through /proc.

    Args:
        looks: What was seen in each place a moment ago, and the kinds.
    """
    sockets = {held: [*owned_sockets(look, which)] for held, (look, which) in looks.items()}
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

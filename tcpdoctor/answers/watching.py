"""The looks of `tcpdoctor watch`: light ones each interval, and what `check` sees as often as it may cost.

One look of `check` with its rules takes the CPU time of two or three light ones. Watch is to take less
than a fiftieth of a core, so it measures what both cost here and spaces those of `check` accordingly: on an
idle host each interval, beside very many sockets every half a minute at the latest.
"""

import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from tcpdoctor.answers.ages import AGED_STATES
from tcpdoctor.answers.check import Check, diagnose_on_demand
from tcpdoctor.answers.watch import MOST_ROWS, Course, Sight, Watch
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.library import Library
from tcpdoctor.facts.connection import Earlier, age_of
from tcpdoctor.facts.destinations import ports_left
from tcpdoctor.facts.value import SECOND, show
from tcpdoctor.kernel.kept_rows import Handle, KeptRows
from tcpdoctor.kernel.live import take_snapshot
from tcpdoctor.kernel.processes import count_descriptors, read_process, size_counts_descriptors
from tcpdoctor.kernel.pulse import OwnerMemory, Pulse, pulse_of, take_pulse
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Held, NotHeld, Owner, Process, Samples, Snapshot
from tcpdoctor.kernel.states import HELD_STATES, TcpState
from tcpdoctor.recordings.recording import Recording

_SHARE = 0.016
"""Of a core, for looks; drawing takes some of the rest up to the 0.02 that are promised."""
_MOST_SHARE = 0.1
"""Of a core, for light looks: beside a million sockets one takes a second, and then they come every ten."""
_RARELY = 30.0
"""Seconds after which the rules are asked whatever they cost."""
_FIRST = 2
"""Whole looks at the beginning: many rules need two."""
_OVER = 60.0
"""Seconds over which the own cost is measured."""
_MOST_DESTINATIONS = 50
_MOST_COUNTED = 30
"""Processes whose descriptors are counted at each look."""
_MOST_DECODED = 300
"""Sockets of one state that are decoded to know how old the oldest is."""
_NEAR = 0.5
"""Share of its descriptors from which on a process is shown whatever its sockets."""


class Watcher:
    """Looks at the network namespace of the calling thread, again and again."""

    def __init__(self, library: Library, interval: float) -> None:
        self._library, self._interval = library, interval
        self._course = Course(interval)
        self._memory = OwnerMemory()
        self._samples: Samples | None = None
        """The latest look that the rules were asked about."""
        self._looks = self._light_looks = 0
        self._costs: dict[bool, float] = {}
        self._spent: deque[tuple[float, float]] = deque()
        self._processes: dict[int, tuple[float, Process]] = {}
        self._oldest: Mapping[TcpState, str] = {}
        self.closed_here: Callable[[], Mapping[int, float] | None] = untraced
        """What a trace says, where one runs."""

    def anew(self) -> "Watcher":
        """Return one that knows nothing yet, for another network namespace."""
        return Watcher(self._library, self._interval)

    def look(self) -> Watch:
        """Look once and say what there is to show.

        Raises:
            KernelReadError: The kernel answered in a way we do not understand.
        """
        began = time.process_time()
        whole = self._samples is None or self._is_due()
        samples, pulse = self._whole() if whole else (None, self._light())
        self._memory.learn(_handles(pulse), pulse.clock)
        check = None if samples is None else self._judge(samples)
        watch = self._course.add(self._sight(pulse, check))
        self._note_cost(time.process_time() - began, whole=whole)
        return watch

    def _whole(self) -> tuple[Samples, Pulse]:
        """Look as `check` does; the earlier look is the one that was judged last."""
        before = None if self._samples is None else self._samples.after
        look = take_snapshot(owners=None, before=before)
        return Samples(before, look), pulse_of(look)

    def _light(self) -> Pulse:
        assert self._samples is not None  # noqa: S101 - the first look is a whole one
        return take_pulse(self._samples.after)

    def _judge(self, samples: Samples) -> Check:
        diagnosis, samples = diagnose_on_demand(
            self._library.rules, samples, self._library.most, self._memory.add_owners
        )
        before = samples.before
        self._samples = samples._replace(before=None)
        self._oldest = oldest_words(samples)
        window = samples.after.clock - before.clock if before is not None else 0.0
        return Check(diagnosis, samples._replace(before=None), window=window, rules=self._library.rules)

    def _sight(self, pulse: Pulse, check: Check | None) -> Sight:
        assert self._samples is not None  # noqa: S101 - there was a whole look
        look = self._samples.after._replace(census=pulse.census, listeners=pulse.listeners)
        return Sight(
            pulse,
            check,
            self._memory.owner_of,
            self._holders(pulse),
            ports_left(look, _MOST_DESTINATIONS),
            self._oldest,
            self._own_share(),
            closed_here=self.closed_here(),
        )

    def _holders(self, pulse: Pulse) -> dict[int, Process]:
        """The processes to show, their descriptors counted at this look, those with most sockets first."""
        numbers: Counter[int] = Counter()
        for handle in _held(pulse):
            owner = self._memory.owner_of(handle)
            if isinstance(owner, Held):
                numbers[owner.holders[0].pid] += 1
        near = _near_their_limit(self._samples.after.processes if self._samples else {})
        shown = [*near, *(pid for pid, _ in numbers.most_common(MOST_ROWS) if pid not in near)]
        found = {}
        for place, pid in enumerate(shown):
            process = self._process(pid, pulse.clock, counted=place < _MOST_COUNTED)
            if process is not None:
                found[pid] = process
        self._processes = {pid: self._processes[pid] for pid in found}
        return found

    def _process(self, pid: int, clock: float, *, counted: bool) -> Process | None:
        """One process, read anew every half a minute, and in between its descriptors where that is cheap."""
        read, process = self._processes.get(pid, (-math.inf, None))
        if process is None or clock - read >= _RARELY:
            now = read_process(pid)
            if isinstance(now, Missing):
                return None
            read, process = clock, now
        elif counted and size_counts_descriptors():
            process = process._replace(descriptors=count_descriptors(pid))
        self._processes[pid] = read, process
        return process

    # What it costs.

    def interval(self) -> float:
        """Return the seconds from one look to the next: longer than asked for where looks cost very much."""
        return max(self._interval, self._costs.get(False, 0.0) / _MOST_SHARE)

    def _is_due(self) -> bool:
        """Whether the rules are to be asked at this look, so that all looks together stay below `_SHARE`."""
        self._light_looks += 1
        if self._looks < _FIRST:
            return True
        whole, light = self._costs.get(True, 0.0), self._costs.get(False)
        may_cost = _SHARE * self._interval
        at_most = max(1, int(_RARELY / self._interval))
        if whole <= may_cost:
            return True
        if light is None:
            return False
        # where light looks alone cost as much, as with a short interval, an eighth of it goes to the rules
        spare = max(may_cost - light, may_cost / 8)
        return self._light_looks >= min(at_most, math.ceil((whole - min(light, may_cost)) / spare))

    def _note_cost(self, seconds: float, *, whole: bool) -> None:
        before = self._costs.get(whole, seconds)
        self._costs[whole] = seconds if self._looks <= 1 else (before + seconds) / 2
        self._looks += 1
        if whole:
            self._light_looks = 0

    def _own_share(self) -> float | None:
        """What this process has taken of a core in the last minute, the first look left out."""
        now = time.monotonic(), time.process_time()
        self._spent.append(now)
        while now[0] - self._spent[0][0] > _OVER:
            self._spent.popleft()
        first = self._spent[0]
        return (now[1] - first[1]) / (now[0] - first[0]) if now[0] - first[0] >= self._interval / 2 else None


def untraced() -> None:
    """What is known of who closes first where nobody traces."""


def _held(pulse: Pulse) -> Iterator[Handle]:
    """The sockets that a process may keep for ever."""
    if not isinstance(pulse.held, Missing):
        for state in HELD_STATES:
            yield from pulse.held.get(state, ())


def _handles(pulse: Pulse) -> Iterator[Handle]:
    """All sockets whose owners are shown: those, and listeners."""
    yield from _held(pulse)
    if not isinstance(pulse.listeners, Missing):
        for row in pulse.listeners:
            yield Handle(row.cookie, row.inode, row.uid)


def _near_their_limit(processes: Mapping[int, Process]) -> list[int]:
    return [
        pid
        for pid, process in processes.items()
        if isinstance(process.descriptors, int)
        and isinstance(process.descriptor_limit, int)
        and process.descriptors >= _NEAR * process.descriptor_limit
    ]


def oldest_words(samples: Samples) -> dict[TcpState, str]:
    """Say by state how long its oldest socket has been in it, as far as that is known.

    Many sockets that nobody has decoded are not decoded for it: then it is said how long at most.
    """
    detail = samples.after.detail
    if isinstance(detail, Missing):
        return {}
    words = {}
    for state in AGED_STATES:
        rows = detail[state].connections if state in detail else ()
        if not rows:
            continue
        if isinstance(rows, KeptRows) and not rows.decoded and len(rows) > _MOST_DECODED:
            highest = rows.highest_ages()
            if highest:
                words[state] = f"oldest at most {show(highest[-1], SECOND)}"
            continue
        earlier = Earlier(samples)
        oldest = max((age_of(row, earlier).low for row in islice(rows, _MOST_DECODED)), default=0.0)
        if oldest >= 1:
            words[state] = f"oldest {show(round(oldest), SECOND)}"
    return words


# Recordings, one behind the other.


def watch_recordings(recordings: Sequence[Recording], library: Library, interval: float) -> list[Watch]:
    """Return what there is to show of each recording, each with what went before.

    Args:
        recordings: In the order of time where they say it, else as given.
        library: The rules.
        interval: Seconds between two of which one does not say when it was taken.
    """
    dated = all(one.source.dated for one in recordings)
    ordered = sorted(recordings, key=lambda one: one.samples.after.taken_at) if dated else list(recordings)
    course, shown = Course(interval), []
    before: Snapshot | None = None
    for number, recording in enumerate(ordered):
        look = recording.samples.after
        clock = look.taken_at if dated else ordered[0].samples.after.taken_at + number * interval
        earlier = recording.samples.before or (before if _is_earlier(before, look) and dated else None)
        samples = Samples(earlier, look)
        diagnosis = diagnose(library.rules, samples, library.most)
        check = Check(diagnosis, samples._replace(before=None), window=0.0, rules=library.rules)
        pulse, owners = _recorded_pulse(look)
        name = recording.source.files[0] if recording.source.files else ""
        sight = Sight(
            pulse._replace(clock=clock),
            check,
            partial(_recorded_owner, owners),
            look.processes,
            ports_left(look, _MOST_DESTINATIONS),
            oldest_words(samples),
            source=f"{number + 1} of {len(ordered)}: {os.path.basename(name)}",
        )
        shown.append(course.add(sight))
        before = look
    return shown


def _recorded_owner(owners: Mapping[int, Owner], handle: Handle) -> Owner:
    return owners.get(handle.cookie, NotHeld())


def _is_earlier(before: Snapshot | None, look: Snapshot) -> bool:
    """Whether two recordings are looks at one namespace of one host since one boot."""
    if before is None or before.host != look.host or before.namespace != look.namespace:
        return False
    apart = look.clock - before.clock
    return apart > 0 and abs(apart - (look.taken_at - before.taken_at)) < _SAME_BOOT


_SAME_BOOT = 60.0
"""Seconds by which the clock of the day may have been set between them."""


def _recorded_pulse(look: Snapshot) -> tuple[Pulse, dict[int, Owner]]:
    """What a recording tells at a glance, and who holds what: numbers stand for its sockets."""
    pulse, owners = pulse_of(look), dict[int, Owner]()
    if isinstance(look.detail, Missing):
        return pulse, owners
    held: dict[TcpState, list[Handle]] = {state: [] for state in HELD_STATES}
    for state in HELD_STATES:
        for row in look.detail[state].connections if state in look.detail else ():
            number = len(owners) + 1
            owners[number] = row.owner
            held[state].append(Handle(number, 0 if isinstance(row.owner, NotHeld) else number, row.uid))
    return pulse._replace(held=held), owners

"""The file of `--since-last`: what the run before saw, for the next one to compare with.

It is only ever replaced whole (written beside, then renamed), has mode 0600, and is locked from before it is
read until after it was replaced: of two runs that overlap the second waits for the first and then
compares with what that one saw. So nothing is torn, and nothing that went or came is lost between them.

Whoever can write the file decides what is told as gone. So it has to be a regular file of our own that
nobody else can write; as root also the way to it has to be (`tcpdoctor.kernel.files`), which makes
files in /tmp safe to name: a link or file that somebody else has put there is refused.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.files import UntrustedPathError, is_of_proc, open_trusted, replace_file
from tcpdoctor.kernel.live import EARLIER_STATES
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.recorded import LARGEST_PACKED, pack, unpack
from tcpdoctor.kernel.snapshot import Census, Detail, Snapshot
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.text import clean

FORMAT = "tcpdoctor.last/1"
LONGEST_WAIT = 30.0
"""Seconds that a run waits for another one that has the file."""

_MOST_SOCKETS = 5_000
"""Of each state. Beyond, those with the lowest cookies are kept: the oldest, which are stuck if any are."""
_MOST_DESTINATIONS = 256
"""Those with most connections."""
_NOT_KEPT = Missing("it is not kept from one run to the next")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Told(NamedTuple):
    """A finding of an earlier run."""

    fingerprint: str
    rule: str
    severity: str
    """``info``, ``warning`` or ``critical``."""
    label: str
    """Of its subject: ``nginx (811)``."""
    title: str
    since: float
    """When it was seen first, in seconds since 1970."""
    unanswered: bool = False
    """Whether the last run could not tell if it is still there."""
    held: str = ""
    """What is held back of it: ``new``, ``gone``, ``unanswered`` or another severity; empty: nothing."""
    runs: int = 0
    """How many runs behind each other have found what is held back."""


class LastRun(NamedTuple):
    """What one run leaves for the next."""

    boot: str
    """The kernel's boot_id: clocks and counters of another boot say nothing."""
    sample: Snapshot
    told: tuple[Told, ...]


class LastFile(NamedTuple):
    """The file while it is ours alone."""

    shown: str
    """Its name, for messages."""
    data: bytes
    """What it holds; empty in the first run."""
    target: str
    """A path to it through an open descriptor of its folder."""

    def read(self) -> LastRun | None:
        """Return what the run before left; None in the first one.

        Raises:
            SnapshotError: It is damaged or of another version: one line.
        """
        if not self.data:
            return None
        found: LastRun = unpack(self.data, FORMAT, LastRun, self.shown)
        return found

    def replace(self, run: LastRun) -> None:
        """Leave this for the next run.

        Raises:
            SnapshotError: It could not be written; the file is as it was.
        """
        try:
            replace_file(self.target, pack(FORMAT, LastRun, run), 0o600)
        except OSError as error:
            raise SnapshotError(f"{self.shown}: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def last_file(path: Path) -> Iterator[LastFile]:
    """Open the file, make it where it is not there, and keep every other run from it meanwhile.

    Raises:
        SnapshotError: One line: it cannot be written, is no file of ours alone, or another run has it for
            longer than `LONGEST_WAIT`.
    """
    shown = clean(os.fspath(path), 300)
    try:
        folder = _open_folder(path, shown)
        try:
            target = f"/proc/self/fd/{folder}/{path.name}"
            held = _open_locked(target, shown)
            try:
                with os.fdopen(os.dup(held), "rb") as file:
                    data = file.read(LARGEST_PACKED + 1)
                yield LastFile(shown, data, target)
            finally:
                os.close(held)
        finally:
            os.close(folder)
    except UntrustedPathError as problem:
        raise SnapshotError(f"{shown}: {clean(str(problem), 400)}") from None


def as_earlier(look: Snapshot, before: Snapshot | None = None) -> Snapshot:
    """Return what a later look compares itself with; the rest is left out, as in the first of two looks.

    Args:
        look: What was seen.
        before: What the run before had left, if it can be compared: sockets that stay keep the time at
            which they were first seen.
    """
    detail = look.detail
    if not isinstance(detail, Missing):
        detail = {state: _oldest(rows) for state, rows in detail.items() if state in EARLIER_STATES}
    listeners = look.listeners
    if not isinstance(listeners, Missing):
        listeners = tuple(row._replace(owner=_NOT_KEPT) for row in listeners)
    look = look._replace(
        sysctls={}, census=_destinations_of(look.census), listeners=listeners, detail=detail, processes={}
    )
    return look._replace(first_seen=_first_seen(look, before))


def _destinations_of(census: Reading[Census]) -> Reading[Census]:
    """Keep how many connections went where, for the next run to say where there are fewer; else nothing."""
    if isinstance(census, Missing):
        return census
    kept = dict(islice(census.by_destination.items(), _MOST_DESTINATIONS))
    left_out = max((use.total for use in islice(census.by_destination.values(), len(kept), None)), default=0)
    return census._replace(
        by_state={},
        bound=_NOT_KEPT,
        by_port={},
        by_destination=kept,
        unlisted=max(census.unlisted, left_out),
        established=_NOT_KEPT,
    )


def _first_seen(look: Snapshot, before: Snapshot | None) -> Mapping[int, float]:
    """When each kept socket in CLOSE_WAIT and FIN_WAIT_2 was first seen; bounded as these are.

    Neither state leads to the other, so that a socket that was first seen in one is still in that one.
    """
    if isinstance(look.detail, Missing):
        return {}
    known: Mapping[int, float] = {} if before is None else before.first_seen
    states = (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2)
    rows = [row for state in states if state in look.detail for row in look.detail[state].connections]
    return {row.cookie: known.get(row.cookie, look.clock) for row in rows if row.cookie}


def boot_id() -> str:
    """Return the kernel's name for this boot; "" where /proc does not tell it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _oldest(rows: Detail) -> Detail:
    kept = rows.connections
    if len(kept) > _MOST_SOCKETS:
        kept = tuple(sorted(kept, key=lambda row: row.cookie)[:_MOST_SOCKETS])
    return Detail(tuple(row._replace(owner=_NOT_KEPT) for row in kept), rows.total)


def _open_folder(path: Path, shown: str) -> int:
    """Open the folder without reading it, and say at once if nothing could be written there."""
    parent = os.fspath(path.parent)
    try:
        if os.geteuid() == 0:
            folder = open_trusted(parent)
        else:
            folder = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        missing = clean(parent, 300)
        raise SnapshotError(f"{shown}: there is no folder {missing}; create it, or choose another") from None
    except OSError as error:
        raise SnapshotError(f"{shown}: the folder: {(error.strerror or str(error)).lower()}") from error
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
        os.close(folder)
        raise SnapshotError(f"{shown}: you may not write in {clean(parent, 300)}; choose another folder")
    return folder


def _open_locked(target: str, shown: str) -> int:
    """Open the file and lock it; once more where another run has replaced it meanwhile."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        held = _open_own(target, shown)
        if _lock(held, deadline) and _is_still(held, target):
            return held
        os.close(held)
        if time.monotonic() >= deadline:
            held_for = f"another run has had it for {LONGEST_WAIT:g} s"
            raise SnapshotError(f"{shown}: {held_for}; look for one that hangs, or give each a file")


def _open_own(target: str, shown: str) -> int:
    """Open or make the file; it is looked at before it is opened, because a device acts when it is."""
    try:
        try:
            place = os.open(target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _refuse_others(os.fstat(place), shown)
            return os.open(f"/proc/self/fd/{place}", os.O_RDWR | os.O_CLOEXEC)
        finally:
            os.close(place)
    except FileExistsError:  # another run was faster
        return _open_own(target, shown)
    except OSError as error:
        raise SnapshotError(f"{shown}: {(error.strerror or str(error)).lower()}") from error


def _refuse_others(status: os.stat_result, shown: str) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        raise SnapshotError(f"{shown}: refused: a link; name the file itself")
    if not stat.S_ISREG(status.st_mode) or is_of_proc(status):
        raise SnapshotError(f"{shown}: refused: not a regular file; name another")
    if status.st_uid != os.geteuid():
        raise SnapshotError(f"{shown}: refused: it belongs to uid {status.st_uid}; name a file of your own")
    if mode & _OTHERS_WRITE:
        raise SnapshotError(
            f"{shown}: refused: others can write it (mode {mode:04o}); chmod 0600 or remove it"
        )


def _lock(held: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
        else:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)


def _is_still(held: int, target: str) -> bool:
    """Whether the file is the one that its name stands for."""
    try:
        return os.path.samestat(os.fstat(held), os.lstat(target))
    except FileNotFoundError:
        return False

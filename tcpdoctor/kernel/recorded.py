"""A look at a host as a file: gzip'd JSON that names its format, complete, and read without trust.

``{"format": "tcpdoctor.samples/1", "tool": "0.1.0", "layout": {...}, "content": ...}``; see
`tcpdoctor.kernel.typed_json` for how records become lists. The number after the slash grows when a meaning
changes; a part that a later version adds is read as not recorded where it is absent.

The file of `--since-last` is one as well: what the run before saw, for the next one to compare with.
"""

import errno
import fcntl
import json
import os
import stat
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import tcpdoctor
from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.files import OTHERS_WRITE, UntrustedPathError, is_of_proc, open_trusted, replace_file
from tcpdoctor.kernel.live import EARLIER_STATES
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Census, Detail, Samples, Snapshot
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.typed_json import Decoder, Encoder, Layout, MisfitError

SAMPLES = "tcpdoctor.samples/1"

LARGEST_PACKED = 16 << 20
LARGEST_UNPACKED = 64 << 20
"""Bytes. A look with 100,000 sockets one by one, more than it ever holds, takes 29 MB, packed 6 MB."""

MOST_PARTS = 6_000_000
"""Lists and objects, which take 80 bytes each; 100,000 sockets are less than two million."""

_GZIP = 16 + zlib.MAX_WBITS


def pack_samples(samples: Samples) -> bytes:
    """Return the content of a file; the same samples always give the same bytes."""
    return pack(SAMPLES, Samples, samples)


def unpack_samples(data: bytes, source: str) -> Samples:
    """Return what was packed; `source` names the file in errors.

    Raises:
        SnapshotError: One line: the file, what is wrong with it, what to do.
    """
    found: Samples = unpack(data, SAMPLES, Samples, source)
    return found


def pack(kind: str, hint: Any, value: Any) -> bytes:
    """Return a value of a type as the content of a file of this kind (``tcpdoctor.samples/1``)."""
    encoder = Encoder()
    content = encoder.of(hint)(value)
    document = {"format": kind, "tool": tcpdoctor.__version__, "layout": encoder.layout, "content": content}
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return packer.compress(text) + packer.flush()


def unpack(data: bytes, kind: str, hint: Any, source: str) -> Any:
    """Return the value that `pack` was given.

    Raises:
        SnapshotError: It is of another kind or version, damaged, cut short, too large or made up.
    """
    document = parse_document(inflate(data, source), source)
    if type(document) is not dict or type(document.get("format")) is not str:
        raise SnapshotError(f"{source}: not a recording of tcpdoctor; is it the right file?")
    if document["format"] != kind:
        raise SnapshotError(another_format(document["format"], document, kind, source))
    return decode_part(document, "content", hint, source)


def another_format(found: str, document: Mapping[str, Any], kind: str, source: str) -> str:
    """Say that a file is of another kind or version than the one that is read."""
    return (
        f"{source}: its format is {clean(found, 60)}, and tcpdoctor {tcpdoctor.__version__} "
        f"reads {kind}; use the version that wrote it{_who(document)}"
    )


def decode_part(document: Mapping[str, Any], part: str, hint: Any, source: str) -> Any:
    """Return one part of a file's document as the value of a type, by the file's layout.

    Raises:
        SnapshotError: It does not fit.
    """
    try:
        return Decoder(_layout(document.get("layout"))).of(hint)(document.get(part))
    except MisfitError as error:
        raise SnapshotError(
            f"{source}: not what tcpdoctor {tcpdoctor.__version__} understands{_who(document)}: {error}"
        ) from None


def inflate(data: bytes, source: str) -> bytes:
    """Unpack one gzip member that fills the file, in bounded memory.

    Raises:
        SnapshotError: It is none, or too large.
    """
    if not data:
        raise SnapshotError(f"{source}: empty; record again")
    unpacker = zlib.decompressobj(_GZIP)
    try:
        text = unpacker.decompress(data, LARGEST_UNPACKED + 1)
    except zlib.error:
        gzipped = data.startswith(b"\x1f\x8b")
        what = "damaged; copy it again" if gzipped else "not a recording: it is not gzip'd"
        raise SnapshotError(f"{source}: {what}") from None
    if len(text) > LARGEST_UNPACKED:
        raise SnapshotError(
            f"{source}: more than {LARGEST_UNPACKED} bytes when unpacked; no recording is so large"
        )
    if not unpacker.eof:
        raise SnapshotError(f"{source}: it ends in the middle; copy it again")
    if unpacker.unused_data:
        raise SnapshotError(f"{source}: damaged: something follows its end; copy it again")
    return text


def parse_document(text: bytes, source: str) -> Any:
    """Return what the JSON of a file says.

    Raises:
        SnapshotError: It is no JSON of ours.
    """
    if text.count(b"[") + text.count(b"{") > MOST_PARTS:
        raise SnapshotError(f"{source}: damaged: more than {MOST_PARTS:,} lists and objects; record again")
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):  # a JSONDecodeError, no UTF-8, thousands of digits, [[[[[[...
        raise SnapshotError(
            f"{source}: damaged: what it holds is no JSON of tcpdoctor; record again"
        ) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _layout(value: Any) -> Layout:
    if type(value) is not dict or not all(map(_are_fields, value.values())):
        raise MisfitError("its layout is no list of fields for each kind of record")
    layout: Layout = value
    return layout


def _are_fields(value: Any) -> bool:
    return (
        type(value) is list and all(type(field) is str for field in value) and len(set(value)) == len(value)
    )


def _who(document: Mapping[str, Any]) -> str:
    """Name the version that wrote a file, where it is another one."""
    tool = document.get("tool")
    if type(tool) is not str or tool == tcpdoctor.__version__:
        return ""
    return f" ({clean(tool, 30)} wrote it)"


# The file of `--since-last`. It is only ever replaced whole (written beside, then renamed), has mode 0600,
# and is locked from before it is read until after it was replaced: of two runs that overlap the second waits
# for the first and then compares with what that one saw. So nothing is torn, and nothing that went or came is
# lost between them.
#
# Whoever can write the file decides what is told as gone. So it has to be a regular file of our own that
# nobody else can write; as root also the way to it has to be (`tcpdoctor.kernel.files`), which makes files in
# /tmp safe to name: a link or file that somebody else has put there is refused.


LAST_FORMAT = "tcpdoctor.last/1"
LONGEST_WAIT = 30.0
"""Seconds that a run waits for another one that has the file."""

_MOST_SOCKETS = 5_000
"""Of each state. Beyond, those with the lowest cookies are kept: the oldest, which are stuck if any are."""
_MOST_DESTINATIONS = 256
"""Those with most connections."""
_NOT_KEPT = Missing("it is not kept from one run to the next")


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
        found: LastRun = unpack(self.data, LAST_FORMAT, LastRun, self.shown)
        return found

    def replace(self, run: LastRun) -> None:
        """Leave this for the next run.

        Raises:
            SnapshotError: It could not be written; the file is as it was.
        """
        try:
            replace_file(self.target, pack(LAST_FORMAT, LastRun, run), 0o600)
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
    if mode & OTHERS_WRITE:
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

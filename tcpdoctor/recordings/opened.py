"""From a path to what was recorded there: our own snapshot, a sosreport or a paste, told apart by content."""

import codecs
import os
import re
import stat
import sys
import time
import zlib
from collections.abc import Sequence
from typing import BinaryIO

from tcpdoctor.errors import QuestionError, SnapshotError
from tcpdoctor.kernel.files import is_of_proc, read_most
from tcpdoctor.kernel.namespaces import ENTERED
from tcpdoctor.kernel.recorded import LARGEST_PACKED, LARGEST_UNPACKED, inflate
from tcpdoctor.kernel.replay import Replay
from tcpdoctor.kernel.snapshot import Samples, Snapshot
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.recordings.recording import Recording, uncollected, unpack_snapshot
from tcpdoctor.recordings.source import Source, another_boot

STDIN = "-"
_CLOCK_SET = 60.0
"""Seconds by which somebody may set a clock between two looks without a boot."""
_GZIP, _XZ, _BZIP2 = b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh"
_GZIP_MEMBER = 16 + zlib.MAX_WBITS
_TAR_AT, _TAR = 257, b"ustar"
_HEAD = 1 << 16
_LARGEST_TEXT = 256 << 20
"""Bytes of a paste: ss fills each line with blanks to the longest one, so 100,000 sockets can be 120 MB."""
_JSON = re.compile(rb"\s*(?:\{|\[\s*[{\[\]\"])")
"""How JSON begins, and the prompt ``[root@web1 ~]#`` does not."""


_NSTAT_JSON = b'{"kernel":{'


def open_recording(path: str, netns: str | None = None) -> Recording:
    """Return what was recorded at a path; ``-`` is standard input.

    Args:
        path: A file, a pipe, or the folder of a sosreport.
        netns: A network namespace of a sosreport, by name; None: the host's.

    Raises:
        QuestionError: It has no such network namespace.
        SnapshotError: It cannot be read as a recording; one line: the file, what is wrong, what to do.
    """
    with uncollected():
        return _opened(path, netns)


def _opened(path: str, netns: str | None) -> Recording:
    shown = "standard input" if path == STDIN else clean(path, 300)
    if path != STDIN and os.path.isdir(path):
        return _open_sosreport(path, shown, netns)
    data, modified = _read(path, shown)
    if is_archive(data):
        if path == STDIN:
            raise SnapshotError("standard input: an archive; give its path instead")
        return _open_sosreport(path, shown, netns)
    if netns is not None:
        raise QuestionError(
            f"{shown} is of one network namespace; --netns chooses among those of a sosreport; leave it out"
        )
    if data.startswith(_GZIP):
        data = inflate(data, shown)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # what PowerShell writes to a file
        data = data.decode("utf-16", "replace").encode()
    is_json = _JSON.match(data) is not None and not data.lstrip().startswith(_NSTAT_JSON)
    if len(data) > (largest := LARGEST_UNPACKED if is_json else _LARGEST_TEXT):
        raise SnapshotError(f"{shown}: more than {largest} bytes; no recording is so large")
    if is_json:
        return unpack_snapshot(data, shown)
    text = decode(data)
    del data  # a listing of a hundred thousand sockets is a hundred megabytes
    return _open_text(text, shown, modified)


def open_looks(paths: Sequence[str], apart: float | None = None, netns: str | None = None) -> Recording:
    """Return one recording, or two of the same host as two looks of which the earlier comes first.

    Args:
        paths: One or two.
        apart: Seconds between them, where they do not say when they were taken; else that is told.
        netns: As `open_recording`.

    Raises:
        QuestionError: There are more, they are of different hosts, or nothing says how far apart they are.
        SnapshotError: As `open_recording`.
    """
    if len(paths) > 2:
        raise QuestionError(f"--from is given {len(paths)} times; once is one recording, twice are two looks")
    if paths.count(STDIN) > 1:
        raise QuestionError("--from - is given twice; standard input is one recording")
    opened = [open_recording(path, netns) for path in paths]
    return opened[0] if len(opened) == 1 else two_looks(opened[0], opened[1], apart)


def enter(recording: Recording) -> None:
    """Have every question of this process answered from a recording, as from a namespace that was entered."""
    ENTERED.recorded = Replay(
        recording.samples,
        recording.sockets,
        recording.udp,
        recording.processes,
        recording.interfaces,
        recording.settings,
        recording.around,
    )


def two_looks(one: Recording, other: Recording, apart: float | None = None) -> Recording:
    """Return two recordings as two looks at the same host; arguments and errors as `open_looks`."""
    first, second = one.samples.after, other.samples.after
    dated = one.source.dated and other.source.dated
    if dated and first.taken_at > second.taken_at:
        return two_looks(other, one, apart)
    names = [recording.source.files[0] for recording in (one, other)]
    if first.host != second.host:
        raise QuestionError(
            f"{names[0]} is of host {first.host} and {names[1]} of {second.host}"
            f"{another_boot(first.host, second.host)}: two looks are of one host"
        )
    if not dated:
        if apart is None:
            undated = names[0] if not one.source.dated else names[1]
            raise QuestionError(
                f"{undated} does not say when it was taken: give the seconds between the two with --window"
            )
        first = first._replace(clock=second.clock - apart)
    if dated and booted_between(first, second):
        raise QuestionError(
            f"the host was booted between {names[0]} and {names[1]}: its counters began again"
        )
    source = Source(
        other.source.kind,
        tuple(dict.fromkeys((*one.source.forms, *other.source.forms))),
        2,
        (*one.source.files, *other.source.files),
        dated,
        tuple(dict.fromkeys((*one.source.notes, *other.source.notes))),
    )
    return other._replace(source=source, samples=Samples(first, second))


def booted_between(then: Snapshot, now: Snapshot) -> bool:
    """Whether a host was booted between two looks that tell when they were; see `_CLOCK_SET`."""
    if not then.clock or not now.clock:
        return False
    later = (now.taken_at - now.clock) - (then.taken_at - then.clock)
    return now.clock < then.clock or later > _CLOCK_SET


def _open_sosreport(path: str, shown: str, netns: str | None) -> Recording:
    from tcpdoctor.recordings.sosreport import open_sosreport  # archives are seldom

    return open_sosreport(path, shown, netns)


def _open_text(text: str, shown: str, modified: float) -> Recording:
    from tcpdoctor.recordings.assembled import Circumstances, assemble
    from tcpdoctor.recordings.forms import read_forms

    forms = read_forms(text, shown)
    found = assemble(forms, Circumstances(taken_at=modified))
    return found._replace(source=found.source._replace(kind="text", files=(shown,), dated=False))


def is_archive(data: bytes) -> bool:
    """Whether a file that begins so is a tar archive, packed or not."""
    if data.startswith((_XZ, _BZIP2)):
        return True
    if data.startswith(_GZIP):
        try:
            data = zlib.decompressobj(_GZIP_MEMBER).decompress(data, _TAR_AT + len(_TAR))
        except zlib.error:
            return False
    return data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR


def _read(path: str, shown: str) -> tuple[bytes, float]:
    """Return what a file or pipe holds, and when it was written."""
    if path == STDIN:
        if sys.stdin is None:
            raise SnapshotError("standard input is closed; give a file instead of -")
        return _read_stream(sys.stdin.buffer), time.time()
    try:
        # Before it is opened: what waits for ever, or acts when it is read, is not even touched.
        _refuse_device(os.stat(path), shown)
        with open(path, "rb", opener=_open_quietly) as file:
            status = os.fstat(file.fileno())
            _refuse_device(status, shown)
            return _read_stream(file), status.st_mtime
    except OSError as error:
        raise SnapshotError(f"{shown}: {(error.strerror or str(error)).lower()}") from None


def _refuse_device(status: os.stat_result, shown: str) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
        raise SnapshotError(f"{shown}: neither a file nor a folder of a recording")
    if stat.S_ISREG(status.st_mode) and is_of_proc(status):
        raise SnapshotError(f"{shown}: a file of /proc is no recording; give a copy, or a pipe and --from -")


def _open_quietly(name: str, flags: int) -> int:
    """Open a file that is never waited for, or a pipe whose other end may take its time."""
    waits = stat.S_ISFIFO(os.stat(name).st_mode)
    return os.open(name, flags | os.O_NOCTTY | (0 if waits else os.O_NONBLOCK))


def _read_stream(stream: BinaryIO) -> bytes:
    """All of it, at most a byte more than any recording has; of an archive the beginning."""
    head = stream.read(_HEAD)
    if is_archive(head):
        return head
    limit = LARGEST_PACKED if head.startswith(_GZIP) else _LARGEST_TEXT
    return read_most(stream, limit + 1, head)

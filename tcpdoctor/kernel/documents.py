"""JSON documents in files, folders and pipes, one at a time: read with limits, and none is skipped silently.

What they hold was written on other hosts. Nothing about it is believed here but its length.
"""

import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean

LARGEST_DOCUMENT = 8 << 20
"""Bytes of one document: the report of a host with a thousand findings has about four million."""
SUFFIXES = (".json", ".jsonl", ".ndjson")
"""Of the files that are read in a folder."""
MOST_PARTS = 400_000
"""Objects, lists and members of one document, each of which may cost a hundred bytes of memory; those of a
thousand findings are about half as many."""
STDIN = "-"
_OPENING = (b"{", b"[")


class Document(NamedTuple):
    """One JSON value, or why there is none."""

    source: str
    """For people: ``web1.json``, ``all.jsonl line 7``, ``standard input``; safe to show."""
    name: str | None
    """The file's name without its suffix; None for one of many documents of a file and for pipes."""
    value: Reading[object]


def read_documents(path: str) -> Iterator[Document]:
    """Give every document at `path`, in order; never raises for what is there.

    A file holds one document, or one on each line (JSON Lines); ``-`` is standard input. Of a folder and
    the folders below it all files are read whose names end in one of SUFFIXES; names that begin with a dot
    are left out, and folders that are links are not entered. A pipe is read where it is named itself, as
    the shell's ``<(...)`` does; a device never is. Memory is bounded by LARGEST_DOCUMENT, however long
    the file is.
    """
    if path == STDIN:
        if sys.stdin is None:
            yield Document("standard input", None, Missing("it is closed"))
            return
        yield from _documents_of(sys.stdin.buffer, "standard input", None)
        return
    if not os.path.isdir(path):
        yield from _read_file(path, pipe_allowed=True)
        return
    empty = True
    for document in _documents_below(path):
        empty = False
        yield document
    if empty:
        yield Document(_shown(path), None, Missing(f"the folder holds no file of *{', *'.join(SUFFIXES)}"))


def _documents_below(folder: str) -> Iterator[Document]:
    waiting = [folder]
    while waiting:
        for entry in _entries(waiting.pop()):
            if isinstance(entry, Document):
                yield entry
            elif os.path.isdir(entry):
                waiting += [] if os.path.islink(entry) else [entry]
            elif entry.endswith(SUFFIXES):
                yield from _read_file(entry, pipe_allowed=False)


def _entries(folder: str) -> Iterator[str | Document]:
    """Give the paths in a folder, sorted, or a document that says why it cannot be listed."""
    try:
        names = sorted(os.listdir(folder), reverse=True)
    except OSError as problem:
        yield _unread(folder, problem)
        return
    while names:  # each is forgotten once it was read
        name = names.pop()
        if not name.startswith("."):
            yield os.path.join(folder, name)


def _read_file(path: str, *, pipe_allowed: bool) -> Iterator[Document]:
    try:
        # O_NONBLOCK: whatever is there, opening it does not wait
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except (OSError, ValueError) as problem:
        yield _unread(path, problem)
        return
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or (pipe_allowed and stat.S_ISFIFO(mode))):
            yield Document(_shown(path), _name(path), Missing("not a regular file"))
            return
        os.set_blocking(descriptor, True)
        yield from _documents_of(file, _shown(path), _name(path) if stat.S_ISREG(mode) else None)


def _documents_of(file: BinaryIO, source: str, name: str | None) -> Iterator[Document]:
    """Give the document of a file, or one for each line where its lines are documents."""
    try:
        start = file.read(LARGEST_DOCUMENT + 1)
        first, _, rest = start.partition(b"\n")
        spread, complete = first.strip() in _OPENING, len(start) <= LARGEST_DOCUMENT
        value = _whole(start) if spread or complete else _too_long()
        if spread or (complete and not rest.strip()) or not isinstance(value, Missing):
            yield Document(source, name, value)
            return
        yield from _lines(start, file, source)
    except OSError as problem:
        yield Document(source, name, _why(problem))


def _lines(start: bytes, file: BinaryIO, source: str) -> Iterator[Document]:
    """Give one document for each line that is not blank; `start` was read from the file before."""
    number = 0
    for number, line in enumerate(_split(start, file), 1):
        if isinstance(line, Missing):
            yield Document(f"{source} line {number}", None, line)
        elif line.strip():
            yield Document(f"{source} line {number}", None, _parse(line))


def _split(start: bytes, file: BinaryIO) -> Iterator[Reading[bytes]]:
    """Give lines of at most LARGEST_DOCUMENT bytes; of a longer one only that it is."""
    rest = b""
    for line in io.BytesIO(start):  # without a copy of all of it
        if line.endswith(b"\n"):
            yield line.removesuffix(b"\n")
        else:
            rest = line
    while True:
        more = file.readline(LARGEST_DOCUMENT + 1 - len(rest)) if len(rest) <= LARGEST_DOCUMENT else b""
        line = rest + more
        rest = b""
        if not line:
            return
        if len(line) > LARGEST_DOCUMENT and not line.endswith(b"\n"):
            yield _too_long()
            _skip_line(file)
        else:
            yield line


def _skip_line(file: BinaryIO) -> None:
    while (part := file.readline(1 << 20)) and not part.endswith(b"\n"):
        pass


def _whole(raw: bytes) -> Reading[object]:
    return _too_long() if len(raw) > LARGEST_DOCUMENT else _parse(raw)


def _parse(raw: bytes) -> Reading[object]:
    """Return the JSON value; Missing where it is damaged, and says where."""
    import json

    if not raw.strip():
        return Missing("it is empty")
    if sum(map(raw.count, (b",", b"[", b"{"))) > MOST_PARTS:
        return Missing("it has more parts than any report")
    try:
        value: object = json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as problem:
        return Missing(f"byte {problem.start} is not UTF-8")
    except json.JSONDecodeError as problem:
        return Missing(
            f"damaged at line {problem.lineno} column {problem.colno}: {problem.msg.removesuffix(' at')}"
        )
    except RecursionError:
        return Missing("nested too deeply to be a report")
    except ValueError as problem:  # NaN, or an integer of thousands of digits
        return Missing(clean(f"damaged: {problem}".partition(";")[0], 120))
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _unread(path: str, problem: OSError | ValueError) -> Document:
    return Document(_shown(path), _name(path), _why(problem))


def _why(problem: OSError | ValueError) -> Missing:
    if isinstance(problem, OSError):
        return Missing((problem.strerror or str(problem)).lower())
    return Missing("this cannot be a file name")


def _too_long() -> Missing:
    return Missing(f"longer than {LARGEST_DOCUMENT} bytes: is it a report?")


def _name(path: str) -> str:
    """Return a file's name without folder and suffix."""
    name = os.path.basename(path)
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return clean(name, 120)


def _shown(path: str) -> str:
    return clean(path, 300)

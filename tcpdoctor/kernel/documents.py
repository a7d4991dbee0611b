"""JSON documents in files, folders and pipes, one at a time: read with limits, and none is skipped silently.

What they hold was written on other hosts. Nothing about it is believed here but its length.
"""

import io
import itertools
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, TypeAlias

from tcpdoctor.kernel.files import is_of_proc
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
_CLOSING = (b"}", b"]")
_NEXT = re.compile(r"\s*\S")
_MOST_ON_A_LINE = 10_000


class Document(NamedTuple):
    """One JSON value, or why there is none."""

    source: str
    """For people: ``web1.json``, ``all.jsonl line 7``, ``standard input``; safe to show."""
    name: str | None
    """The file's name without its suffix; None for one of many documents of a file and for pipes."""
    value: Reading[object]


def read_documents(path: str) -> Iterator[Document]:
    """Give every document at `path`, in order; never raises for what is there.

    A file holds one document, or several behind each other: one on each line (JSON Lines), or as `cat
    *.json` joins them; ``-`` is standard input. Of a folder and
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
        status = os.fstat(descriptor)
        mode = status.st_mode
        is_file = stat.S_ISREG(mode) and not is_of_proc(status)
        if not (is_file or (pipe_allowed and stat.S_ISFIFO(mode))):
            yield Document(_shown(path), _name(path), Missing("not a regular file"))
            return
        os.set_blocking(descriptor, stat.S_ISFIFO(mode))
        yield from _documents_of(file, _shown(path), _name(path) if stat.S_ISREG(mode) else None)


def _documents_of(file: BinaryIO, source: str, name: str | None) -> Iterator[Document]:
    """Give the document of a file, or every one where several stand behind each other."""
    try:
        start = file.read(LARGEST_DOCUMENT + 1)
        if start is None:  # a file of the kernel without anything in it yet
            yield Document(source, name, Missing("it would have to be waited for"))
            return
        complete = len(start) <= LARGEST_DOCUMENT
        value = _parse(start) if complete else _too_long()
        if not isinstance(value, Missing) or (not complete and start.partition(b"\n")[0].strip() == b"["):
            yield Document(source, name, value)
            return
        yield from _told_apart(start, file, source, name)
    except OSError as problem:
        yield Document(source, name, _why(problem))


def _told_apart(start: bytes, file: BinaryIO, source: str, name: str | None) -> Iterator[Document]:
    """Give each document by the line that it begins on; one alone by its file.

    A document begins where a line does, with a brace or bracket: JSON Lines, and what `cat *.json` joins.
    Others may follow it on its lines. What is damaged ends where the next one begins.
    """
    found = (value for piece in _pieces(start, file) for value in _values(piece))
    first = next(found, (1, Missing("it is empty")))
    second = next(found, None)
    if second is None:
        yield Document(source, name, first[1])
        return
    for number, value in itertools.chain((first, second), found):
        yield Document(f"{source} line {number}", None, value)


_Piece: TypeAlias = tuple[int, Reading[bytes]]
"""Lines that begin with a document, and the number of the first; Missing where they are too long."""


def _pieces(start: bytes, file: BinaryIO) -> Iterator[_Piece]:
    """Part a file where a line begins a document; nothing longer than LARGEST_DOCUMENT is kept."""
    held: list[bytes] = []
    number, size = 1, 0
    for place, line in enumerate(_split(start, file), 1):
        for part in _parted(line):
            if isinstance(part, Missing):
                if held and isinstance(_parse(b"\n".join(held)), Missing):
                    size = LARGEST_DOCUMENT + 1  # it is a line of that document
                    continue
                yield from _piece(held, number, size)
                yield place, part
                held, size = [], 0
                continue
            if not held or part.startswith(_OPENING):
                yield from _piece(held, number, size)
                held, number, size = [], place, -1
            size += len(part) + 1
            if size <= LARGEST_DOCUMENT:
                held.append(part)
    yield from _piece(held, number, size)


def _piece(held: list[bytes], number: int, size: int) -> Iterator[_Piece]:
    raw = b"\n".join(held).rstrip()
    if size > LARGEST_DOCUMENT:
        yield number, _too_long()
    elif raw:
        yield number, raw


def _parted(line: Reading[bytes]) -> Iterator[Reading[bytes]]:
    """Part a line such as ``}{``: the end of one document and the beginning of the next."""
    if not isinstance(line, Missing) and line.startswith(_CLOSING):
        rest = line[1:].lstrip()
        if rest.startswith(_OPENING):
            yield line[:1]
            line = rest
    yield line


def _values(piece: _Piece) -> Iterator[tuple[int, Reading[object]]]:
    """Give every value of some lines with the line that it begins on; damage is the last of them."""
    number, raw = piece
    whole = raw if isinstance(raw, Missing) else _parse(raw)
    text = "" if isinstance(raw, Missing) else raw.decode("utf-8-sig", "surrogateescape")
    end = _end_of_value(text, 0) if isinstance(whole, Missing) else None
    if end is None:
        yield number, whole
        return
    place = 0
    for _ in range(_MOST_ON_A_LINE):
        yield number, _parse(text[place:end].encode("utf-8", "surrogateescape"))
        following = _NEXT.match(text, len(text) if end is None else end)
        if following is None:
            return
        number += text.count("\n", place, following.end() - 1)
        place = following.end() - 1
        end = _end_of_value(text, place)
    yield number, Missing(f"more than {_MOST_ON_A_LINE} documents stand on one line")


def _end_of_value(text: str, place: int) -> int | None:
    """Return where the value that begins there ends; None where it does not."""
    try:
        _, end = json.JSONDecoder().raw_decode(text, place)
    except (ValueError, RecursionError):
        return None
    return end


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
            yield line.removesuffix(b"\n")


def _skip_line(file: BinaryIO) -> None:
    while (part := file.readline(1 << 20)) and not part.endswith(b"\n"):
        pass


def _parse(raw: bytes) -> Reading[object]:
    """Return the JSON value; Missing where it is damaged, and says where."""
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

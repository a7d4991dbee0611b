"""Files of a folder or of a tar archive that somebody else made, without trust.

Nothing is unpacked: what is wanted of an archive is kept in memory, within bounds, and all else is passed
over. A link leads only to other files of the same archive or folder. What has no place in a report of files
(a device, a name that begins with ``/`` or goes up by ``..``) refuses the whole archive.
"""

import bz2
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import BinaryIO, Protocol

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.files import read_most
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.named_tuples import NamedTuple

LARGEST_FILE = 64 << 20
"""Bytes of one file; /proc/net/tcp has 150 for each socket."""
LARGEST_KEPT = 192 << 20
MOST_MEMBERS = 500_000
MOST_LINKS = 200_000
LARGEST_UNPACKED = 16 << 30
"""Bytes of an archive when unpacked; a real one with all its logs is far below."""
HIGHEST_RATIO = 250
"""Text packs to a twentieth. What packs better than this is looked at no longer than `RATIO_FROM`."""
RATIO_FROM = 256 << 20
_LONGEST_NAME = 1 << 16
_NOTHING = "dev/null"
"""No archive has it, and what leads there is empty."""
_MOST_HOPS = 40
_DEEPEST = 12
_CHUNK = 1 << 18
_BLOCK = 512
_LZMA_MEMORY = 256 << 20


class Kept(NamedTuple):
    """A file that was wanted."""

    data: bytes
    written: float
    """When it was written last, in seconds since 1970."""


class Files(NamedTuple):
    """What was wanted of an archive or a folder, by its name from the top: ``proc/net/tcp``."""

    kept: Mapping[str, Kept]
    links: Mapping[str, str]
    """Where each link leads, as a name from the top; ``..`` in front: outside."""
    too_large: frozenset[str]
    """Wanted, and longer than `LARGEST_FILE`."""

    def find(self, name: str, shown: str = "the archive") -> Kept | None:
        """Return a file by its name, links followed; None where there is none.

        Raises:
            SnapshotError: A link on the way leads outside, or in a circle.
        """
        return self.kept.get(self.place(name, shown))

    def place(self, name: str, shown: str = "the archive") -> str:
        """Return where a name leads; errors as `find`."""
        for _ in range(_MOST_HOPS):
            parts = name.split("/")
            links = ("/".join(parts[:at]) for at in range(1, len(parts) + 1))
            link = next((link for link in links if link in self.links), None)
            if link is None or name in self.kept:
                return name
            name = _joined(self.links[link], name[len(link) :])
            if name.startswith(".."):
                raise SnapshotError(
                    f"{shown}: {clean(link, 120)} is a link that leads out of it, as in no report; not read"
                )
        raise SnapshotError(f"{shown}: {clean(name, 120)} is a link that leads in a circle; not read")

    def below(self, folder: str) -> list[str]:
        """Return the names of the files and links below a folder, sorted."""
        return sorted(name for name in (*self.kept, *self.links) if name.startswith(f"{folder}/"))


def _joined(folder: str, name: str) -> str:
    """Put a relative name to a folder, ``..`` worked out; it begins with ``..`` where it leads outside."""
    here: list[str] = []
    for part in f"{folder}/{name}".split("/"):
        if part == "..":
            if not here or here[-1] == "..":
                return ".."
            here.pop()
        elif part not in ("", "."):
            here.append(part)
    return "/".join(here)


def _target(link: str, leads_to: str) -> str:
    """Where a link at a name from the top leads; ``..`` for outside."""
    if leads_to.startswith("/"):
        return _NOTHING if leads_to == f"/{_NOTHING}" else ".."
    return _joined(link.rpartition("/")[0], leads_to)


# A folder: links are read and not followed, and what is behind them is looked for from the top.


def read_folder(
    path: str, shown: str, wanted: Callable[[str], bool], entered: Callable[[str], bool]
) -> Files:
    """Return what is wanted of a folder.

    Args:
        path: The folder.
        shown: Its name in errors.
        wanted: Says of a name from the top whether the file is read.
        entered: Says of a name from the top whether the folder is entered.

    Raises:
        SnapshotError: It cannot be read, or holds far more than any report.
    """
    found = _Gathered(shown)
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _walk(top, "", found, wanted, entered)
        finally:
            os.close(top)
    except OSError as error:
        raise SnapshotError(f"{shown}: {(error.strerror or str(error)).lower()}") from None
    return found.files()


def _walk(
    folder: int, above: str, found: "_Gathered", wanted: Callable[[str], bool], entered: Callable[[str], bool]
) -> None:
    with os.scandir(folder) as entries:
        seen = sorted(
            (entry.name, entry.is_symlink(), entry.is_dir(follow_symlinks=False)) for entry in entries
        )
    for bare, is_link, is_folder in seen:
        name = f"{above}{bare}"
        found.count()
        if is_link:
            found.link(name, _target(name, os.readlink(bare, dir_fd=folder)))
        elif is_folder and entered(name) and name.count("/") < _DEEPEST:
            _enter(bare, folder, f"{name}/", found, wanted, entered)
        elif not is_folder and wanted(name):
            _read_file(bare, folder, name, found)


def _enter(
    bare: str,
    folder: int,
    above: str,
    found: "_Gathered",
    wanted: Callable[[str], bool],
    entered: Callable[[str], bool],
) -> None:
    try:
        below = os.open(bare, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return  # another user's, or gone
    try:
        _walk(below, above, found, wanted, entered)
    finally:
        os.close(below)


def _read_file(bare: str, folder: int, name: str, found: "_Gathered") -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    if not stat.S_ISREG(os.stat(bare, dir_fd=folder, follow_symlinks=False).st_mode):
        return
    try:
        file = os.fdopen(os.open(bare, flags, dir_fd=folder), "rb")
    except OSError:
        return  # another user's, or gone
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return
        if found.fits(name, status.st_size):
            found.keep(name, Kept(read_most(file, LARGEST_FILE), status.st_mtime))


class _Gathered:
    """What has been found so far, and the bounds of it."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._kept: dict[str, Kept] = {}
        self._links: dict[str, str] = {}
        self._too_large: set[str] = set()
        self._size = 0
        self._members = 0

    def count(self) -> None:
        self._members += 1
        if self._members > MOST_MEMBERS or len(self._links) > MOST_LINKS:
            raise SnapshotError(f"{self._shown}: more files than any report has; is it the right one?")

    def fits(self, name: str, size: int) -> bool:
        """Whether a wanted file of this size is to be kept."""
        if size > LARGEST_FILE:
            self._too_large.add(name)
        return size <= LARGEST_FILE

    def keep(self, name: str, file: Kept) -> None:
        self._size += len(file.data)
        if name in self._kept or name in self._links:
            raise SnapshotError(f"{self._shown}: {clean(name, 120)} is in it twice; it is damaged or made up")
        if self._size > LARGEST_KEPT:
            raise SnapshotError(f"{self._shown}: more data than any report has; is it the right one?")
        self._kept[name] = file

    def link(self, name: str, target: str) -> None:
        if name in self._kept:
            raise SnapshotError(f"{self._shown}: {clean(name, 120)} is in it twice; it is damaged or made up")
        self._links[name] = target

    def files(self) -> Files:
        return Files(self._kept, self._links, frozenset(self._too_large))


# An archive: POSIX.1-2001 and GNU tar, as much of them as names, links and contents of files need.


def read_archive(path: str, shown: str, wanted: Callable[[str], bool], at_top: Collection[str] = ()) -> Files:
    """Return what is wanted of a tar archive, plain or packed with gzip, xz or bzip2.

    Args:
        path: The archive.
        shown: Its name in errors.
        wanted: Says of a name from the top whether the file is kept.
        at_top: Names that are at the top of what is looked for. Anything else there is the one folder in
            which all of it lies, and names are from that folder.

    Raises:
        SnapshotError: It cannot be read, is damaged or cut short, or holds what no report holds; one line.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SnapshotError(f"{shown}: an archive has to be a regular file")
            return gather(file, shown, wanted, at_top)
    except OSError as error:
        raise SnapshotError(f"{shown}: {(error.strerror or str(error)).lower()}") from None


class _Member(NamedTuple):
    """One header of an archive."""

    name: str
    kind: bytes
    size: int
    written: float
    leads_to: str


_FILE, _HARD_LINK, _LINK, _FOLDER = (b"0", b"\0", b"7"), b"1", b"2", b"5"
_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL, _SPARSE = b"L", b"K", b"x", b"g", b"S"
_SPECIAL = {b"3": "a device", b"4": "a device", b"6": "a pipe"}


def gather(file: BinaryIO, shown: str, wanted: Callable[[str], bool], at_top: Collection[str]) -> Files:
    """Return what is wanted of an archive that is open; arguments and errors as `read_archive`."""
    stream = _Stream(file, shown)
    found = _Gathered(shown)
    top: str | None = None
    for member in _members(stream, shown):
        found.count()
        name = _checked(member, shown)
        folder, _, rest = name.partition("/")
        if folder in at_top:
            folder, rest = "", name
        if rest and top not in (None, folder):
            raise SnapshotError(f"{shown}: not a report: it holds more than one folder")
        top = folder if rest else top
        if member.kind == _LINK:
            found.link(rest, _below(folder, _target(name, member.leads_to)))
        elif member.kind == _HARD_LINK:
            found.link(rest, _below(folder, _joined("", member.leads_to)))
        elif member.kind in _FILE and wanted(rest) and found.fits(rest, member.size):
            found.keep(rest, Kept(stream.take(member.size), member.written))
            stream.skip(-member.size % _BLOCK)
            continue
        stream.skip(member.size + -member.size % _BLOCK)
    return found.files()


def _below(folder: str, name: str) -> str:
    if not folder or name == _NOTHING:
        return name
    first, _, rest = name.partition("/")
    return rest if first == folder else ".."


def _checked(member: _Member, shown: str) -> str:
    """The member's name, which stays inside.

    Raises:
        SnapshotError: It does not, or the member is no file, folder or link.
    """
    name = _joined("", member.name)
    if member.name.startswith("/") or ".." in member.name.split("/") or "\0" in member.name:
        raise SnapshotError(
            f"{shown}: {clean(member.name, 120)} would lie outside of it, which no report has; not read"
        )
    if member.kind in _SPECIAL:
        what = _SPECIAL[member.kind]
        raise SnapshotError(f"{shown}: {clean(member.name, 120)} is {what}, which no report has; not read")
    return name


def _members(stream: "_Stream", shown: str) -> Iterator[_Member]:
    """Yield the headers; whoever takes one passes over its content, padding included."""
    pending: dict[str, str] = {}
    common: dict[str, str] = {}
    while True:
        block = stream.take(_BLOCK)
        if block == bytes(_BLOCK):
            return
        member = _decoded(block, shown)
        if member.kind in (_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL):
            if member.size > _LONGEST_NAME:
                raise SnapshotError(
                    f"{shown}: a name in it is longer than any file's; it is damaged or made up"
                )
            text = stream.take(member.size)
            stream.skip(-member.size % _BLOCK)
            if member.kind in (_EXTENDED, _GLOBAL):
                (pending if member.kind == _EXTENDED else common).update(_extended(text, shown))
            else:
                pending["path" if member.kind == _LONG_NAME else "linkpath"] = decode(text.rstrip(b"\0"))
            continue
        yield _with({**common, **pending}, member, shown)
        pending = {}


def _decoded(block: bytes, shown: str) -> _Member:
    total = _number(block[148:156], shown)
    if total != sum(block[:148]) + sum(block[156:]) + 8 * 32:
        raise SnapshotError(f"{shown}: damaged: a header of the archive is not what it was; copy it again")
    name, prefix = _text(block[:100]), _text(block[345:500])
    if block[257:263] == b"ustar\0" and prefix:
        name = f"{prefix}/{name}"
    size = _number(block[124:136], shown)
    kind = block[156:157]
    if kind in (_HARD_LINK, _LINK, _FOLDER):
        size = 0
    return _Member(name, kind, size, float(_number(block[136:148], shown)), _text(block[157:257]))


def _text(field: bytes) -> str:
    return decode(field.partition(b"\0")[0])


def _number(field: bytes, shown: str) -> int:
    """Read octal digits, or GNU's binary form of large numbers."""
    try:
        if field[0] & 0x80:
            number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        else:
            number = int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 62:
        raise SnapshotError(f"{shown}: damaged: a header of the archive makes no sense; copy it again")
    return number


def _extended(text: bytes, shown: str) -> dict[str, str]:
    """Read ``15 path=a name`` and so on, a line each, with its own length in front."""
    found: dict[str, str] = {}
    while text.strip(b"\0"):
        length, blank, _ = text[:24].partition(b" ")
        size = int(length) if blank and length.isdigit() else 0
        record = text[:size]
        if size < 5 or not record.endswith(b"\n"):
            raise SnapshotError(f"{shown}: damaged: a header of the archive makes no sense; copy it again")
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        found[decode(key)] = decode(value)
        text = text[size:]
    return found


def _with(more: Mapping[str, str], member: _Member, shown: str) -> _Member:
    """What extended headers say of the member that follows them; of a sparse file only its name is of use."""
    name, leads_to = more.get("path", member.name), more.get("linkpath", member.leads_to)
    size = _number(b"%o" % int(more["size"]), shown) if _is_size(more) else member.size
    kind = _SPARSE if any(key.startswith("GNU.sparse") for key in more) else member.kind
    return member._replace(name=name, leads_to=leads_to, size=size, kind=kind)


def _is_size(more: Mapping[str, str]) -> bool:
    text = more.get("size", "")
    return text.isascii() and text.isdigit() and len(text) <= 18


class _Unpacker(Protocol):
    """What zlib, lzma and bz2 have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, most: int, /) -> bytes: ...


class _Stream:
    """The bytes of an archive one after the other, unpacked, and no more of them than is reasonable."""

    def __init__(self, file: BinaryIO, shown: str) -> None:
        self._shown = shown
        self._parts = _unpacked(file, shown)
        self._rest = memoryview(b"")

    def take(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            SnapshotError: There are fewer.
        """
        taken = []
        while size > 0:
            part = self._next()[:size]
            taken.append(bytes(part))
            self._rest = self._rest[len(part) :]
            size -= len(part)
        return b"".join(taken)

    def skip(self, size: int) -> None:
        """Pass over so many bytes; errors as `take`."""
        while size > 0:
            passed = min(size, len(self._next()))
            self._rest = self._rest[passed:]
            size -= passed

    def _next(self) -> memoryview:
        if not self._rest:
            part = next(self._parts, b"")
            if not part:
                raise SnapshotError(f"{self._shown}: it ends in the middle; copy it again")
            self._rest = memoryview(part)
        return self._rest


def _unpacked(file: BinaryIO, shown: str) -> Iterator[bytes]:
    """Yield parts of the archive, unpacked, none of them large."""
    total = 0
    for packed, part in _parts(file, shown):
        total += len(part)
        if total > LARGEST_UNPACKED or (total > RATIO_FROM and total > packed * HIGHEST_RATIO):
            raise SnapshotError(
                f"{shown}: {total >> 20} MB from {packed >> 10} kB so far: no report packs so well; not read"
            )
        if part:
            yield part


def _parts(file: BinaryIO, shown: str) -> Iterator[tuple[int, bytes]]:
    """Yield how many bytes were read so far, and what they gave."""
    data = file.read(_CHUNK)
    read = len(data)
    start = next((start for magic, start in _UNPACKERS.items() if data.startswith(magic)), _Plain)
    while data:  # packed by several programs at once, it is several packed streams behind each other
        unpacker = start()
        while not unpacker.eof:
            try:
                part = unpacker.decompress(data, _CHUNK)
            except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError):
                raise SnapshotError(f"{shown}: damaged: it cannot be unpacked; copy it again") from None
            yield read, part
            data = b""
            if unpacker.needs_input and not unpacker.eof:
                data = file.read(_CHUNK)
                read += len(data)
                if not data:
                    return
        data = unpacker.unused_data or file.read(_CHUNK)


class _Plain:
    """An archive that is not packed."""

    eof = False
    needs_input = True
    unused_data = b""

    def decompress(self, data: bytes, _most: int, /) -> bytes:
        return data


class _Gzip:
    """What zlib does, in the way of lzma and bz2."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._unpacker.eof

    @property
    def needs_input(self) -> bool:
        return not self._unpacker.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._unpacker.unused_data

    def decompress(self, data: bytes, most: int, /) -> bytes:
        return self._unpacker.decompress(self._unpacker.unconsumed_tail + data, most)


_UNPACKERS: Mapping[bytes, Callable[[], _Unpacker]] = {
    b"\x1f\x8b": _Gzip,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY),
    b"BZh": bz2.BZ2Decompressor,
}

"""A look at a host as a file: gzip'd JSON that names its format, complete, and read without trust.

``{"format": "tcpdoctor.samples/1", "tool": "0.1.0", "layout": {...}, "content": ...}``; see
`tcpdoctor.kernel.typed_json` for how records become lists. The number after the slash grows when a meaning
changes; a part that a later version adds is read as not recorded where it is absent.
"""

import json
import zlib
from collections.abc import Mapping
from os import PathLike
from typing import Any

import tcpdoctor
from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.files import read_file
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.typed_json import Decoder, Encoder, Layout, MisfitError

SAMPLES = "tcpdoctor.samples/1"

LARGEST_PACKED = 16 << 20
LARGEST_UNPACKED = 64 << 20
"""Bytes. A look with 100,000 sockets one by one, more than it ever holds, takes 29 MB, packed 6 MB."""

MOST_PARTS = 6_000_000
"""Lists and objects, which take 80 bytes each; 100,000 sockets are less than two million."""

_GZIP = 16 + zlib.MAX_WBITS


def read_samples(path: str | PathLike[str]) -> Samples:
    """Return what was recorded in a file.

    Raises:
        SnapshotError: One line: the file, what is wrong with it, what to do.
    """
    data = read_file(path, limit_bytes=LARGEST_PACKED, error=SnapshotError)
    return unpack_samples(data, clean(str(path), 300))


def pack_samples(samples: Samples) -> bytes:
    """Return the content of a file; the same samples always give the same bytes."""
    return pack(SAMPLES, Samples, samples)


def unpack_samples(data: bytes, source: str) -> Samples:
    """Return what was packed; `source` names the file in errors.

    Raises:
        SnapshotError: As `read_samples`.
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

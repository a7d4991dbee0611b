"""A look at a host as a file: gzip'd JSON that names its format, complete, and read without trust.

``{"format": "tcpdoctor.samples/1", "tool": "0.1.0", "layout": {...}, "content": ...}``; see
`tcpdoctor.kernel.typed_json` for how records become lists. The number after the slash grows when a meaning
changes; a part that a later version adds is read as not recorded where it is absent.
"""

import ipaddress
import json
import zlib
from collections.abc import Callable, Collection, Mapping
from os import PathLike
from typing import Any, TypeAlias

import tcpdoctor
from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.files import read_file
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.typed_json import Decoder, Encoder, Layout, MisfitError

SAMPLES = "tcpdoctor.samples/1"

LARGEST_PACKED = 16 << 20
LARGEST_UNPACKED = 64 << 20
"""Bytes. A look with 100,000 sockets one by one, more than it ever holds, takes 29 MB, packed 6 MB."""

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


# A recorded look without what tells whose host it is: addresses and names give way, the same to the same.
#
# Kept are kernel, states, counters, sysctls, ports, pids and times, and what is the same on every host:
# loopback, wildcard and link-local prefixes, and whether an address is IPv4, IPv6 or one mapped into the
# other. Two texts that were equal stay equal, and two that differed stay different.


_Replace: TypeAlias = Callable[[str], str]

KEPT = frozenset(
    {
        ("Snapshot", "kernel"),
        ("Snapshot", "sysctls"),
        ("Snapshot", "counters"),
        ("Snapshot", "sockstat"),
        ("Snapshot", "unread"),
        ("Snapshot", "untold"),
        ("Detail", "reason"),
        ("Census", "source"),
        ("Translation", "protocol"),
    }
)
"""Fields with text that tell nothing of a host's owner: the kernel's own words, and ours."""


def anonymise(samples: Samples, keep: Collection[str] = ()) -> Samples:
    """Return the samples with addresses and names replaced, consistently over both.

    Args:
        samples: One or two looks.
        keep: Names of processes that may stay, such as ``nginx``.
    """
    addresses = _Addresses()
    names, texts = _Numbered("process", keep), _Numbered("text", keep)
    rules: Mapping[tuple[str, str], _Replace] = {
        ("Endpoint", "address"): addresses,
        ("Destination", "source"): addresses,
        ("Destination", "address"): addresses,
        ("Holder", "name"): names,
        ("Process", "name"): names,
        ("Process", "executable"): texts,
        ("Process", "command"): texts,
        ("Process", "unit"): texts,
        ("Process", "container"): texts,
        ("Snapshot", "host"): _Numbered("host"),
        ("Snapshot", "namespace_name"): _Numbered("namespace"),
    }
    found: Samples = _replaced(samples, rules)
    return found


class _Numbered:
    """Gives each distinct text a name with a number."""

    def __init__(self, kind: str, keep: Collection[str] = ()) -> None:
        self._kind = kind
        self._keep = frozenset(keep)
        self._given: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        if text in self._keep:
            return text
        return self._given.setdefault(text, f"{self._kind}-{len(self._given) + 1}")


class _Addresses:
    """Gives each address another one: of 10.0.0.0/8, or of 2001:db8::/32 (RFC 3849)."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}

    def __call__(self, address: str) -> str:
        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            return "::ffff:" + self(str(parsed.ipv4_mapped))
        if parsed.is_loopback or parsed.is_unspecified:
            return address
        if address not in self._given:
            self._given[address] = self._next(parsed.version, link_local=parsed.is_link_local)
        return self._given[address]

    def _next(self, version: int, *, link_local: bool) -> str:
        starts = {
            (4, False): "10.0.0.0",
            (4, True): "169.254.0.0",
            (6, False): "2001:db8::",
            (6, True): "fe80::",
        }
        start = ipaddress.ip_address(starts[version, link_local])
        return str(start + len(self._given) + 1)


def _replaced(value: Any, rules: Mapping[tuple[str, str], _Replace]) -> Any:
    """Return a value with the texts replaced for whose field there is a rule, however deep they are."""
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        if fields is None:
            return tuple([_replaced(item, rules) for item in value])
        kind = type(value).__name__
        return type(value)(
            *[
                _by_rule(item, rules.get((kind, field)), rules)
                for field, item in zip(fields, value, strict=True)
            ]
        )
    if isinstance(value, Mapping):
        return {_replaced(key, rules): _replaced(item, rules) for key, item in value.items()}
    return value


def _by_rule(value: Any, rule: _Replace | None, rules: Mapping[tuple[str, str], _Replace]) -> Any:
    if rule is not None and isinstance(value, str):
        return rule(value)
    return value if isinstance(value, Missing) else _replaced(value, rules)

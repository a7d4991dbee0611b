"""What somebody else's look at a host says, whatever it was recorded with; and our own recording as a file.

The file is JSON that names its schema, gzip'd or not, complete, and read without trust:
``{"schema": "tcpdoctor.snapshot/1", "tool": "0.1.0", "layout": {...}, "content": ..., "sockets": ...}``.
``content`` are the `Samples` that rules are asked about, as in tcpdoctor.samples/1, which is read as well;
``sockets`` are those that are known one by one, for the other questions. See `tcpdoctor.kernel.typed_json`.
"""

import gc
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, overload

import tcpdoctor
from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.recorded import SAMPLES, another_format, decode_part, inflate, parse_document
from tcpdoctor.kernel.snapshot import Process, Samples, UdpSocket
from tcpdoctor.kernel.surroundings import Surroundings
from tcpdoctor.kernel.survey import Seen
from tcpdoctor.kernel.sysctl_files import Tree
from tcpdoctor.kernel.typed_json import OF_AN_OLDER_VERSION, Encoder
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.source import Source


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector still: it would go through all that was read again and again, for half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()  # else it would go through all of it as soon as it may
            gc.enable()


class Recording(NamedTuple):
    """A look at a host, or two, that was recorded."""

    source: Source
    samples: Samples
    """What rules are asked about. What the recording does not tell is Missing, with what to ask for next."""
    sockets: Reading[Sequence[Seen]]
    """Every TCP socket that is known one by one, listeners first, with its owner; of very many a part."""
    udp: Reading[tuple[UdpSocket, ...]] = Missing("the recording has no UDP sockets; ask for: ss -uanp")
    processes: Mapping[int, Process] = {}
    """By pid, those that hold any of these sockets, as far as they were read."""
    interfaces: Mapping[str, int] = {}
    """The interfaces that sockets are bound to, with the numbers that stand for them here."""
    settings: Reading[Tree] = Missing("they are not in the recording")
    """The files that set the kernel's settings at boot."""
    around: Reading[Surroundings] = Missing("it is not in the recording; record with: tcpdoctor snapshot")
    """Routes, packet rules, addresses, and what keeps the processes running."""


class Later(Sequence[Seen]):
    """Sockets that are made of what was read when somebody looks at one."""

    def __init__(self, length: int, make: Callable[[], tuple[Seen, ...]]) -> None:
        self._length = length
        self._make: Callable[[], tuple[Seen, ...]] | None = make
        self._found: tuple[Seen, ...] = ()

    def _all(self) -> tuple[Seen, ...]:
        if self._make is not None:
            with uncollected():
                self._found, self._make = self._make(), None
        return self._found

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Seen: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Seen, ...]: ...
    def __getitem__(self, place: int | slice) -> Seen | tuple[Seen, ...]:
        return self._all()[place]

    def __iter__(self) -> Iterator[Seen]:
        return iter(self._all())


SNAPSHOT = "tcpdoctor.snapshot/1"
_GZIP = 16 + zlib.MAX_WBITS
_NO_SOCKETS = Missing("the recording has no sockets one by one; record with: tcpdoctor snapshot")
_MANY, _NEAR = 10_000, 1.1
"""Counts and sockets were not taken in one moment: of few, or nearly as many, none was left out."""
_NO_UDP = Missing("the recording has no UDP sockets")
_SOCKETS = Reading[tuple[Seen, ...]]
_INTERFACES = Mapping[str, int]
_PROCESSES = Mapping[int, Process]
_UDP = Reading[tuple[UdpSocket, ...]]
_AROUND = Reading[Surroundings]


def pack_snapshot(recording: Recording, *, gzipped: bool) -> bytes:
    """Return the content of a file; the same recording always gives the same bytes."""
    encoder = Encoder()
    sockets = recording.sockets if isinstance(recording.sockets, Missing) else tuple(recording.sockets)
    parts = {
        "content": encoder.of(Samples)(recording.samples),
        "sockets": encoder.of(_SOCKETS)(sockets),
        "udp": encoder.of(_UDP)(recording.udp),
        "processes": encoder.of(_PROCESSES)(recording.processes),
        "interfaces": encoder.of(_INTERFACES)(recording.interfaces),
        "around": encoder.of(_AROUND)(recording.around),
    }
    document = {"schema": SNAPSHOT, "tool": tcpdoctor.__version__, "layout": encoder.layout, **parts}
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
    if not gzipped:
        return text
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return packer.compress(text) + packer.flush()


def unpack_snapshot(data: bytes, shown: str) -> Recording:
    """Return what was recorded; `shown` names the file in errors.

    Raises:
        SnapshotError: It is of another kind or version, damaged, cut short, too large or made up.
    """
    document = parse_document(inflate(data, shown) if data.startswith(b"\x1f\x8b") else data, shown)
    kind = None
    if type(document) is dict:
        kind = document.get("schema", document.get("format"))
    if type(kind) is not str:
        raise SnapshotError(f"{shown}: not a recording of tcpdoctor; is it the right file?")
    if kind not in (SNAPSHOT, SAMPLES):
        raise SnapshotError(another_format(kind, document, SNAPSHOT, shown))
    samples: Samples = decode_part(document, "content", Samples, shown)
    sockets: Reading[Sequence[Seen]] = _NO_SOCKETS
    udp: Reading[tuple[UdpSocket, ...]] = _NO_UDP
    if "sockets" in document:
        rows = document.pop("sockets")

        def decoded() -> Any:
            return decode_part({**document, "sockets": rows}, "sockets", _SOCKETS, shown)

        # Rules are asked about the samples alone, and a hundred thousand sockets take two seconds.
        is_list = type(rows) is list
        sockets = Later(len(rows), decoded) if is_list else decoded()
    if "udp" in document:
        udp = decode_part(document, "udp", _UDP, shown)
    processes = decode_part(document, "processes", _PROCESSES, shown) if "processes" in document else {}
    looks = 1 if samples.before is None else 2
    source = Source("snapshot", (), 2 if looks == 2 else 1, (shown,), notes=_thinned(samples, sockets))
    interfaces = decode_part(document, "interfaces", _INTERFACES, shown) if "interfaces" in document else {}
    around = decode_part(document, "around", _AROUND, shown) if "around" in document else OF_AN_OLDER_VERSION
    return Recording(source, samples, sockets, udp, processes, interfaces, around=around)


def _thinned(samples: Samples, sockets: Reading[Sequence[Seen]]) -> tuple[str, ...]:
    """What a reader must know where not all sockets were recorded one by one."""
    census = samples.after.census
    if isinstance(census, Missing) or isinstance(sockets, Missing) or len(sockets) < _MANY:
        return ()
    number = sum(census.by_state.values())
    if number <= _NEAR * len(sockets):
        return ()
    told = f"{len(sockets):,} of {number:,} sockets are in it one by one, each kind thinned alike"
    return (f"{told}: what is counted by process or peer is of these",)

"""What is kept of every report of a fleet: some two hundred bytes a host, whatever it sent.

Words that many hosts share are kept once; of a host stay its name and numbers.
"""

import struct
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

MOST_REASONS = 10_000
"""Different reasons why hosts are not known whose words are kept."""
MOST_NAMESPACES = 4_000
"""Of one host: above what a host of containers has."""
_MORE_REASONS = "its reason is in its report: too many different ones to tell"
_FORM = struct.Struct("<qddBIIIIII")
_NUMBER = struct.Struct("<II")
_WHOLE, _SHORT = "\0", "\1"
"""Stand for a host's name, and for that up to its first dot; no cleaned text holds them."""
_MOST = 2**32 - 1
_Value = TypeVar("_Value", str, bytes)


class Digest(NamedTuple):
    """What is kept of a look into one namespace of one host."""

    namespace: int
    """Stands for its number and name; 0 where nothing was seen."""
    taken_at: float
    complete_since: float
    status: int
    """Place in STATUSES."""
    reason: str | None
    findings: tuple[tuple[int, int], ...]
    """Kind of finding, and for how many subjects."""
    untold: int
    unanswered: int
    source: str


class Records:
    """The digests of every host, by its name; one for each namespace."""

    def __init__(self) -> None:
        """Begin with no host."""
        self._packed: dict[str, bytes] = {}
        self._reasons = _Words[str]()
        self._findings = _Words[bytes]()
        self._sources = _Words[str]()

    def __len__(self) -> int:
        """Return the number of hosts."""
        return len(self._packed)

    def __iter__(self) -> Iterator[str]:
        """Give the names of the hosts."""
        return iter(self._packed)

    def __contains__(self, name: str) -> bool:
        """Whether anything is known of a host of exactly this name."""
        return name in self._packed

    def of(self, name: str) -> list[Digest]:
        """Return what is kept of a host; nothing where it is not known."""
        packed = self._packed.get(name, b"")
        return [self._unpacked(name, fields) for fields in _FORM.iter_unpack(packed)]

    def look_into(self, name: str, namespace: int) -> Digest | None:
        """Return what is kept of one namespace of a host."""
        packed = self._packed.get(name, b"")
        start = _find(packed, namespace)
        return None if start < 0 else self._unpacked(name, _FORM.unpack_from(packed, start))

    def put(self, name: str, digest: Digest) -> bool:
        """Keep a look, in the place of an earlier one into that namespace; False where there are too many."""
        packed = self._packed.get(name, b"")
        start = _find(packed, digest.namespace)
        if start < 0:
            start = len(packed)
        if start >= MOST_NAMESPACES * _FORM.size:
            return False
        self._packed[name] = packed[:start] + self._as_bytes(name, digest) + packed[start + _FORM.size :]
        return True

    def _as_bytes(self, name: str, digest: Digest) -> bytes:
        reason = digest.reason or ""
        if len(self._reasons) >= MOST_REASONS and reason not in self._reasons:
            reason = _MORE_REASONS
        findings = b"".join(_NUMBER.pack(kind, min(number, _MOST)) for kind, number in digest.findings)
        source, line = _without_number(_without_name(digest.source, name))
        return _FORM.pack(
            digest.namespace,
            digest.taken_at,
            digest.complete_since,
            digest.status,
            self._reasons.place(reason),
            self._findings.place(findings),
            min(digest.untold, _MOST),
            min(digest.unanswered, _MOST),
            self._sources.place(source),
            line,
        )

    def _unpacked(self, name: str, fields: tuple[int, ...]) -> Digest:
        *seen, reason, findings, untold, unanswered, source, line = fields
        namespace, taken_at, complete_since, status = seen
        return Digest(
            namespace,
            taken_at,
            complete_since,
            status,
            self._reasons[reason] or None,
            tuple(_NUMBER.iter_unpack(self._findings[findings])),
            untold,
            unanswered,
            _with_name(f"{self._sources[source]}{line or ''}", name),
        )


def _find(packed: bytes, namespace: int) -> int:
    """Return where the record of a namespace begins; -1 where there is none."""
    wanted = _FORM.pack(namespace, *[0] * 9)[:8]
    start = packed.find(wanted)
    while start % _FORM.size and start > 0:
        start = packed.find(wanted, start + 1)
    return start


class _Words(Generic[_Value]):
    """Values that many share, each kept once and known by its place."""

    def __init__(self) -> None:
        self._places: dict[_Value, int] = {}
        self._values: list[_Value] = []

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, value: _Value) -> bool:
        return value in self._places

    def __getitem__(self, place: int) -> _Value:
        return self._values[place]

    def place(self, value: _Value) -> int:
        place = self._places.setdefault(value, len(self._values))
        if place == len(self._values):
            self._values.append(value)
        return place


def _without_name(source: str, name: str) -> str:
    """Return a source in the words that it shares with those of other hosts."""
    folder, slash, file = source.rpartition("/")
    short = name.partition(".")[0]
    if name in file:
        return folder + slash + file.replace(name, _WHOLE, 1)
    return folder + slash + (file.replace(short, _SHORT, 1) if short else file)


def _with_name(source: str, name: str) -> str:
    return source.replace(_WHOLE, name).replace(_SHORT, name.partition(".")[0])


def _without_number(source: str) -> tuple[str, int]:
    """Split ``all.jsonl line 7``; 0 where no line is named."""
    start, _, number = source.rpartition(" line ")
    if start and number.isascii() and number.isdigit() and not number.startswith("0") and int(number) < _MOST:
        return f"{start} line ", int(number)
    return source, 0

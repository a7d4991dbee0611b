"""What was recorded, without what tells whose host it is: the same thing gets the same name.

Kept are kernel, states, counters, settings, ports, pids, uids and times, the names of processes, units and
containers unless those are to go as well, and what is the same on every host: loopback, wildcard and
link-local prefixes, and whether an address is IPv4, IPv6 or one mapped into the other.

A name is made with a key. With the same key, such as one of this boot, two recordings give the same thing the
same name, so that they can be compared; nobody who has not the key can try out what a name stands for.
"""

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from tcpdoctor.kernel.last_run import boot_id
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.typed_json import is_list, is_mapping, is_record, is_union
from tcpdoctor.recordings.recording import Recording

T = TypeVar("T")
_Change: TypeAlias = Callable[[Any], Any]
_Kind: TypeAlias = Literal["address", "process", "unit", "container", "file", "command", "host", "netns"]

REPLACED: Mapping[tuple[str, str], _Kind] = {
    ("Endpoint", "address"): "address",
    ("Destination", "source"): "address",
    ("Destination", "address"): "address",
    ("Holder", "name"): "process",
    ("Process", "name"): "process",
    ("Process", "unit"): "unit",
    ("Process", "container"): "container",
    ("Process", "executable"): "file",
    ("Process", "command"): "command",
    ("Snapshot", "host"): "host",
    ("Snapshot", "namespace_name"): "netns",
}
"""What each text is the name of, by record and field."""

NAMES: tuple[_Kind, ...] = ("process", "unit", "container")
"""What may stay: it tells which programs run, and seldom whose they are."""

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
        ("Seen", "options"),
    }
)
"""Fields with text that tell nothing of a host's owner: the kernel's own words, and ours."""


def anonymised(recording: Recording, key: bytes, *, names: bool) -> Recording:
    """Return a recording without addresses and names.

    Args:
        recording: As it was taken.
        key: What names are made with; kept to oneself.
        names: Replace the names of processes, units and containers as well.
    """
    disguise = Disguise(key, names=names)
    sockets = recording.sockets
    return recording._replace(
        samples=disguise.of(recording.samples),
        sockets=sockets if isinstance(sockets, Missing) else tuple(map(disguise.of, sockets)),
        udp=recording.udp if isinstance(recording.udp, Missing) else tuple(map(disguise.of, recording.udp)),
        processes={pid: disguise.of(process) for pid, process in recording.processes.items()},
    )


def key_of_this_boot() -> bytes:
    """Return the same key until the machine boots again, which nobody else can know; else one of its own."""
    return (boot_id() or os.urandom(16).hex()).encode()


class Disguise:
    """Gives each thing another name, and the same to the same."""

    def __init__(self, key: bytes, *, names: bool = False, keep: Collection[str] = ()) -> None:
        """Take what decides.

        Args:
            key: What names are made with.
            names: Replace the names of processes, units and containers as well.
            keep: Of all names those that may stay, such as ``nginx``.
        """
        self._key = key
        self._kept_kinds = () if names else NAMES
        self._keep = frozenset(keep)
        self._given: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()
        self._changes: dict[Any, _Change | None] = {}

    def of(self, record: T) -> T:
        """Return a record with its texts replaced, however deep they are."""
        change = self._change_of(type(record))
        return record if change is None else change(record)

    def name(self, kind: _Kind, text: str) -> str:
        """Return the other name of a thing."""
        if kind in self._kept_kinds or text in self._keep:
            return text
        known = self._given.get((kind, text))
        if known is None:
            known = self._address(text) if kind == "address" else self._numbered(kind, text)
            self._given[kind, text] = known
        return known

    def _numbered(self, kind: _Kind, text: str) -> str:
        return f"{kind}-{self._digest(kind, text)[:3].hex()}"

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{kind} {text}".encode("utf-8", "surrogateescape"), hashlib.sha256)

    def _address(self, address: str) -> str:
        """Another one: of 10.0.0.0/8, or of 2001:db8::/32 (RFC 3849)."""
        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            return "::ffff:" + self.name("address", str(parsed.ipv4_mapped))
        if parsed.is_loopback or parsed.is_unspecified:
            return address
        start, bits = _SPACES[parsed.version, parsed.is_link_local]
        number = int.from_bytes(self._digest("address", address)[:8], "big")
        while True:
            found = str(ipaddress.ip_address(start) + number % ((1 << bits) - 2) + 1)
            if found not in self._taken:
                self._taken.add(found)
                return found
            number += 1

    # What there is to change in a type is found once, from its hints.

    def _change_of(self, hint: Any) -> _Change | None:
        if hint not in self._changes:
            self._changes[hint] = None  # a type that holds itself
            self._changes[hint] = self._made(hint)
        return self._changes[hint]

    def _made(self, hint: Any) -> _Change | None:
        if is_record(hint):
            return self._of_record(hint)
        if is_union(hint):
            return self._of_union(get_args(hint))
        match get_origin(hint), get_args(hint):
            case (origin, (item, *rest)) if is_list(origin, rest):
                change = self._change_of(item)
                return None if change is None else lambda values: tuple([change(value) for value in values])
            case (origin, (key, value)) if is_mapping(origin):
                return self._of_mapping(self._change_of(key), self._change_of(value))
        return None

    def _of_record(self, record: Any) -> _Change | None:
        hints = get_type_hints(record)
        changes: list[tuple[int, _Change]] = []
        for place, field in enumerate(record._fields):
            kind = REPLACED.get((record.__name__, field))
            change = self._change_of(hints[field]) if kind is None else self._renaming(kind)
            if change is not None:
                changes.append((place, change))
        if not changes:
            return None

        def changed(value: Any) -> Any:
            parts = list(value)
            for place, change in changes:
                parts[place] = change(parts[place])
            return record._make(parts)

        return changed

    def _renaming(self, kind: _Kind) -> _Change:
        return lambda text: self.name(kind, text) if isinstance(text, str) else text

    def _of_union(self, members: tuple[Any, ...]) -> _Change | None:
        changes = [(member, self._change_of(member)) for member in members]
        records = {member: change for member, change in changes if is_record(member) and change}
        others = [change for member, change in changes if not is_record(member) and change]
        if not records and not others:
            return None

        def changed(value: Any) -> Any:
            if value is None or isinstance(value, Missing):
                return value
            change = records.get(type(value))
            if change is None and others and not hasattr(value, "_fields"):
                change = others[0]
            return value if change is None else change(value)

        return changed

    @staticmethod
    def _of_mapping(key: _Change | None, value: _Change | None) -> _Change | None:
        if key is None and value is None:
            return None
        of_key, of_value = key or _same, value or _same
        return lambda mapping: {of_key(name): of_value(item) for name, item in mapping.items()}


def _same(value: Any) -> Any:
    return value


_SPACES = {
    (4, False): ("10.0.0.0", 24),
    (4, True): ("169.254.0.0", 16),
    (6, False): ("2001:db8::", 64),
    (6, True): ("fe80::", 64),
}
"""By version, and whether an address is link-local: where the others begin, and how many there are."""

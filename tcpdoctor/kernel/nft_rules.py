"""nft's rules, read over netlink: those that send a port elsewhere, and those that stop a packet.

Asking may load modules, so it is done only where they are there already.
"""

import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from tcpdoctor.kernel.packet_rules import (
    MATCHES_ASKED,
    MOST_CHAINS,
    PATIENCE,
    SECONDS,
    Asked,
    Goal,
    Redirect,
    Step,
    TooLongError,
    Wanted,
    goal_of,
    match_ports,
    may_ask_for_rules,
    no_privilege,
    told_network,
    walk_rules,
    xt_target,
)
from tcpdoctor.kernel.reading import Missing, Reading, read_kernel_file
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.named_tuples import NamedTuple

_NETLINK_NETFILTER = 12
_HEADER = struct.Struct("=IHHII")
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_SUBSYSTEM = 10 << 8
_GET_CHAIN, _GET_RULE, _GET_SET, _GET_ELEMENTS = 4, 7, 10, 13
_FAMILIES = {"1": ("inet", (4, 6)), "2": ("ip", (4,)), "10": ("ip6", (6,))}
_NF_DROP = 0
_ENDS: Mapping[int, Literal["chain", "hook"]] = {1: "hook", -4: "chain", -5: "chain"}
"""NF_ACCEPT, NFT_GOTO (what follows it in its chain is not reached) and NFT_RETURN."""
_COMPARE_NOTHING = ("counter", "log", "notrack", "objref", "last")
_FAMILY_NETDEV = 5
_META_PROTOCOL, _TRANSPORT, _NETWORK = 16, 2, 1
_META_ASKED: Mapping[int, Asked] = {3: "mark", 4: "interface", 6: "interface"}
"""NFT_META_MARK, NFT_META_IIF, NFT_META_IIFNAME."""
_ASKED: Mapping[str, Asked] = {"interface": "interface", "sender": "sender", "mark": "mark"}
"""By the name of the symbol."""
_PORT_COMPARED = (
    rb"\x08\0\x02\0\0\0\0\x02\x08\0\x03\0\0\0\0\x02\x08\0\x04\0\0\0\0\x02[\s\S]{0,8}"
    rb"\x08\0\x01\0cmp\0[\s\S]{4}\x08\0\x01\0[\s\S]{4}\x08\0\x02\0\0\0\0\0"
    rb"\x0c\0\x03[\0\x80]\x06\0\x01\0([\s\S]{2})"
)
"""A rule that loads the destination port and compares it for equality, which most do: with another port it is
known by its bytes not to apply, ten times as fast as by decoding it."""


class _Symbol(NamedTuple):
    """What a register holds: a known part of the packet."""

    name: str
    mask: bytes = b""


def read_nft(wanted: Wanted) -> Reading[list[Redirect]]:
    """Read which rules of nft send a packet elsewhere.

    Missing: it needs CAP_NET_ADMIN, would load a module, or the rules are too many.
    """
    absent = why_nft_absent()
    if absent is not None:
        return [] if absent == "" else Missing(absent)
    if not may_ask_for_rules():
        return no_privilege("nft's rules")
    try:
        with NftRules(wanted) as rules:
            return list(rules.redirects())
    except TooLongError:
        return Missing(f"nft's rules could not be read in {SECONDS:g} s")
    except OSError as error:
        return Missing(f"nft's rules: {error.strerror or error}")


def why_nft_absent() -> str | None:
    """Return why nft has no rules to read: empty where it is not there; None where it is there."""
    if all(os.path.isdir(f"/sys/module/{name}") for name in ("nf_tables", "nfnetlink")):
        return None
    if not os.path.exists("/proc/modules"):
        return None  # a kernel that can load nothing: it is built in, or asking finds nothing
    try:
        builtin = decode(read_kernel_file(f"/lib/modules/{os.uname().release}/modules.builtin"))
    except OSError:
        return "nf_tables is no loaded module, and asking for its rules could load it"
    if "/nf_tables.ko" not in builtin:
        return ""
    return None if "/nfnetlink.ko" in builtin or os.path.isdir("/sys/module/nfnetlink") else ""


def attributes_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute of a netlink message, without its flags."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += length + 3 & ~3


def _number(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "big")


def _name(data: bytes | None) -> str:
    return decode((data or b"").rstrip(b"\0"))


class NftRules:
    """nft's rules, read over netlink; expressions are decoded only of the chains that are gone through."""

    def __init__(self, wanted: Wanted) -> None:
        self.packet = wanted
        self._port = wanted.port
        self._cpu_deadline = time.thread_time() + SECONDS
        self._deadline = time.monotonic() + SECONDS * PATIENCE
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
        self._chains: dict[str, list[bytes]] = {}
        self._sets: dict[str, list[dict[int, bytes]]] = {}
        self._flags: dict[str, int] = {}

    def __enter__(self) -> "NftRules":
        self._sock.settimeout(SECONDS * PATIENCE)
        with contextlib.suppress(OSError):
            self._sock.connect((0, 0))
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def redirects(self) -> Iterator[Redirect]:
        """Yield what sends the port elsewhere."""
        begin: dict[str, int] = {}
        for family, chain in self._dump(_GET_CHAIN):
            hook = dict(attributes_of(chain.get(4, b"")))
            if hook and family != _FAMILY_NETDEV and _number(hook.get(1)) in self.packet.hooks:
                begin[_place(family, chain.get(1), chain.get(3))] = _number(hook.get(1))
        if not begin:
            return
        for family, rule in self._dump(_GET_RULE):
            self._chains.setdefault(_place(family, rule.get(1), rule.get(2)), []).append(rule.get(4, b""))
        for family, one in self._dump(_GET_SET):
            self._flags[_place(family, one.get(1), one.get(2))] = _number(one.get(3))
        yield from walk_rules(self.packet, begin, self._steps, _told_place)

    def stops(self, hooks: Sequence[int]) -> list[tuple[str, bool]]:
        """Return where rules at these hooks drop or reject packets, and whether they name the port."""
        waiting, found = [], []
        for family, chain in self._dump(_GET_CHAIN):
            hook = dict(attributes_of(chain.get(4, b"")))
            if hook and _number(hook.get(1)) in hooks and family != _FAMILY_NETDEV:
                place = _place(family, chain.get(1), chain.get(3))
                waiting.append((place, False))
                if _number(chain.get(5, b"\1")) == _NF_DROP:
                    found.append((place, False))
        if waiting:
            for family, rule in self._dump(_GET_RULE):
                key = _place(family, rule.get(1), rule.get(2))
                self._chains.setdefault(key, []).append(rule.get(4, b""))
        seen = set(waiting)
        while waiting and len(seen) <= MOST_CHAINS:
            place, named = waiting.pop()
            for step in self._steps(place):
                state = (step.jump or "", named or step.names_port)
                if step.stops:
                    found.append((place, state[1]))
                if step.jump is not None and state not in seen:
                    seen.add(state)
                    waiting.append(state)
        return [(_told_place(place)[0], named) for place, named in found]

    def _dump(self, kind: int, family: int = 0, body: bytes = b"") -> Iterator[tuple[int, dict[int, bytes]]]:
        generic = struct.pack("=BBH", family, 0, 0)
        head = _HEADER.pack(16 + len(generic) + len(body), _SUBSYSTEM | kind, _REQUEST_DUMP, kind, 0)
        self._sock.send(head + generic + body)
        while True:
            self._check_time()
            answer, at = self._sock.recv(1 << 18), 0
            while at + 16 <= len(answer):
                length, message = struct.unpack_from("=IH", answer, at)
                if message == _DONE:
                    return
                if message == _ERROR:
                    code = -struct.unpack_from("=i", answer, at + 16)[0]
                    raise OSError(code, os.strerror(code))
                if length >= 20:
                    yield answer[at + 16], dict(attributes_of(answer[at + 20 : at + length]))
                at += max(16, length + 3 & ~3)

    def _check_time(self) -> None:
        if time.thread_time() > self._cpu_deadline or time.monotonic() > self._deadline:
            raise TooLongError

    def _steps(self, place: str) -> Iterator[Step]:
        self._check_time()
        for expressions in self._chains.get(place, ()):
            other = re.search(_PORT_COMPARED, expressions)
            if other is not None and other[1] != self._port:
                self.packet.note_ports(other[1])
                continue
            step = _Rule(self, place, expressions).step()
            if step is not None:
                yield step

    def elements(self, place: str, name: str) -> list[dict[int, bytes]]:
        """Return the elements of a set or map of the table that a chain is in."""
        family, table, _ = place.split("\0")
        key = f"{family}\0{table}\0{name}"
        if key not in self._sets:
            body = _attribute(1, table) + _attribute(2, name)
            self._sets[key] = [
                dict(attributes_of(element))
                for _, part in self._dump(_GET_ELEMENTS, int(family), body)
                for _, element in attributes_of(part.get(3, b""))
            ]
        return self._sets[key]

    def is_interval(self, place: str, name: str) -> bool:
        """Whether a set holds ranges, written as elements that begin and end them."""
        family, table, _ = place.split("\0")
        return bool(self._flags.get(f"{family}\0{table}\0{name}", 0) & 4)

    @property
    def wanted(self) -> Mapping[str, bytes]:
        """What the parts of a packet are that is sent to the port."""
        return {"port": self._port, "protocol": bytes([self.packet.protocol])}


def _attribute(kind: int, text: str) -> bytes:
    data = os.fsencode(text) + b"\0"
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _place(family: int, table: bytes | None, name: bytes | None) -> str:
    return f"{family}\0{_name(table)}\0{_name(name)}"


def _told_place(place: str) -> tuple[str, tuple[int, ...]]:
    family, table, chain = place.split("\0")
    word, families = _FAMILIES.get(family, ("of another family", (4, 6)))
    return clean(f"nft (table {word} {table}, chain {chain})"), families


class _Rule:
    """One rule of nft, gone through expression by expression with what its registers hold."""

    def __init__(self, rules: NftRules, place: str, expressions: bytes) -> None:
        self._rules, self._place = rules, place
        self._family, _, _ = place.split("\0")
        self._expressions = expressions
        self._registers: dict[int, _Symbol | bytes] = {}
        self._named = False
        self._asks: set[Asked] = set()
        self._stops = False
        self._sure = True
        self._ends: Literal["chain", "hook"] | None = None
        self._address: str | None = None
        self._to: Goal | None = None
        self._jump: str | None = None

    def step(self) -> Step | None:
        """Return what the rule does with a packet for the port; None where it does nothing with it."""
        for _, element in attributes_of(self._expressions):
            parts = dict(attributes_of(element))
            name, data = _name(parts.get(1)), dict(attributes_of(parts.get(2, b"")))
            evaluate = getattr(self, f"_do_{name}", None)
            if evaluate is not None and evaluate(data) is False:
                return None
            self._sure = self._sure and (evaluate is not None or name in _COMPARE_NOTHING)
        if self._to is None and self._jump is None and not self._stops and self._ends is None:
            return None
        return Step(
            self._named,
            self._address,
            self._to,
            self._jump,
            tuple(self._asks),
            self._stops,
            self._sure and not self._asks,
            self._ends,
        )

    def _do_meta(self, data: Mapping[int, bytes]) -> None:
        if 1 in data:
            key = _number(data.get(2))
            name = "protocol" if key == _META_PROTOCOL else _META_ASKED.get(key)
            self._set(_number(data[1]), _Symbol(name) if name else None)

    def _do_payload(self, data: Mapping[int, bytes]) -> None:
        base, offset, length = (_number(data.get(key)) for key in (2, 3, 4))
        symbol = None
        if base == _TRANSPORT and (offset, length) == (2, 2):
            symbol = _Symbol("port")
        elif base == _NETWORK:
            four = self._family == "2" or (self._family == "1" and offset == 16 and length <= 4)
            if offset == (16 if four else 24) and length <= (4 if four else 16):
                symbol = _Symbol("address", b"\xff" * length + b"\0" * ((4 if four else 16) - length))
            elif (offset, length) == ((9, 1) if four else (6, 1)):
                symbol = _Symbol("protocol")
            elif offset == (12 if four else 8):
                symbol = _Symbol("sender")
        if 1 in data:
            self._set(_number(data[1]), symbol)

    def _do_bitwise(self, data: Mapping[int, bytes]) -> None:
        source = self._registers.get(_slot(_number(data.get(1))))
        mask = _value(data.get(4))
        masked = isinstance(source, _Symbol) and source.name == "address" and len(mask) == len(source.mask)
        other = source if isinstance(source, _Symbol) and source.name in _ASKED else None
        self._set(_number(data.get(2)), _Symbol("address", mask) if masked else other)

    def _do_cmp(self, data: Mapping[int, bytes]) -> bool:
        symbol = self._registers.get(_slot(_number(data.get(1))))
        return self._compare(symbol, _number(data.get(2)), _value(data.get(3)))

    def _compare(self, symbol: _Symbol | bytes | None, operation: int, value: bytes) -> bool:
        if not isinstance(symbol, _Symbol):
            self._sure = False
            return True
        if symbol.name == "address" and operation == 1 and self._rules.packet.is_for_one:
            return not self._rules.packet.is_for_us(*_network(value, symbol.mask))
        if symbol.name == "address":
            self._sure = self._sure and operation == 0
            return self._note_address(value, symbol.mask) if operation == 0 else True
        if symbol.name in _ASKED:
            self._asks.add(_ASKED[symbol.name])
            return True
        have = self._rules.wanted[symbol.name]
        value = value[: len(have)]
        if symbol.name == "port":
            self._rules.packet.note_ports(value)
        holds = (have == value, have != value, have < value, have <= value, have > value, have >= value)[
            operation
        ]
        if symbol.name == "port" and operation != 1:
            self._named = self._named or holds
        return holds

    def _note_address(self, value: bytes, mask: bytes) -> bool:
        """Remember whom the packet has to be for; False where it is for another."""
        packed, bits = _network(value, mask)
        if not self._rules.packet.is_for_one:
            self._address = told_network(packed, bits)
        return self._rules.packet.is_for_us(packed, bits)

    def _do_range(self, data: Mapping[int, bytes]) -> bool:
        symbol = self._registers.get(_slot(_number(data.get(1))))
        if isinstance(symbol, _Symbol) and symbol.name in _ASKED:
            self._asks.add(_ASKED[symbol.name])
            return True
        if not isinstance(symbol, _Symbol) or symbol.name == "address":
            self._sure = False
            return True
        have = self._rules.wanted[symbol.name]
        if symbol.name == "port":
            self._rules.packet.note_ports(_value(data.get(3)), _value(data.get(4)))
        inside = _value(data.get(3)) <= have <= _value(data.get(4))
        holds = inside is (_number(data.get(2)) == 0)
        self._named = self._named or (holds and symbol.name == "port")
        return holds

    def _do_lookup(self, data: Mapping[int, bytes]) -> bool:
        source, inverted = _slot(_number(data.get(2))), bool(_number(data.get(5)) & 1)
        symbols = {
            slot - source: s
            for slot, s in self._registers.items()
            if isinstance(s, _Symbol) and slot >= source
        }
        self._sure = self._sure and all(s.name in ("port", "protocol") for s in symbols.values())
        if not any(symbol.name in ("port", "protocol") for symbol in symbols.values()):
            self._sure = False
            if isinstance(self._registers.get(source), _Symbol):
                self._asks |= {_ASKED[name] for name in (symbols[0].name,) if name in _ASKED}
            return True
        name = _name(data.get(1))
        found = self._find(name, symbols)
        if inverted:
            return found is None or any(symbol.name != "port" for symbol in symbols.values())
        if found is None:
            return False
        self._named = self._named or any(symbol.name == "port" for symbol in symbols.values())
        if 3 in data:
            result = dict(attributes_of(found.get(2, b"")))
            if 2 in result:
                self._verdict(result[2])
            elif 1 in result:
                self._set(_number(data[3]), result[1])
        return True

    def _find(self, name: str, symbols: Mapping[int, _Symbol]) -> dict[int, bytes] | None:
        """Return the element that a packet for the port finds; its address is noted."""
        elements = self._rules.elements(self._place, name)
        if (
            self._rules.is_interval(self._place, name)
            and len(symbols) == 1
            and not any(10 in e for e in elements)
        ):
            if 0 not in symbols:
                return None
            if symbols[0].name == "port":
                for element in elements:
                    self._rules.packet.note_ports(_value(element.get(1)))
            return _within(elements, self._rules.wanted[symbols[0].name])
        for element in elements:
            key, end = _value(element.get(1)), _value(element.get(10)) or _value(element.get(1))
            if all(self._fits(symbol, slot * 4, key, end) for slot, symbol in symbols.items()):
                return element
        return None

    def _fits(self, symbol: _Symbol, at: int, key: bytes, end: bytes) -> bool:
        if at >= len(key):
            return True
        if symbol.name in _ASKED:
            self._asks.add(_ASKED[symbol.name])
            return True
        if symbol.name == "address":
            value = key[at : at + len(symbol.mask)]
            return len(value) < len(symbol.mask) or self._note_address(value, symbol.mask)
        have = self._rules.wanted[symbol.name]
        if symbol.name == "port":
            self._rules.packet.note_ports(key[at:], end[at:])
        return key[at : at + len(have)] <= have <= end[at : at + len(have)]

    def _do_immediate(self, data: Mapping[int, bytes]) -> None:
        parts = dict(attributes_of(data.get(2, b"")))
        if 2 in parts:
            self._verdict(parts[2])
        elif 1 in parts:
            self._set(_number(data.get(1)), parts[1])

    def _verdict(self, data: bytes) -> None:
        parts = dict(attributes_of(data))
        code = struct.unpack(">i", parts.get(1, b"").rjust(4, b"\0"))[0]
        self._stops = self._stops or code == _NF_DROP
        self._ends = _ENDS.get(code)
        if 2 in parts:  # jump and goto name a chain of the same table
            family, table, _ = self._place.split("\0")
            self._jump = f"{family}\0{table}\0{_name(parts[2])}"

    def _do_nat(self, data: Mapping[int, bytes]) -> None:
        if _number(data.get(1)) != 1:
            return
        six = _number(data.get(2)) == 10
        address = self._constant(data.get(3), 16 if six else 4)
        port = self._constant(data.get(5), 2)
        self._to = goal_of(address, port)

    def _do_reject(self, _: Mapping[int, bytes]) -> None:
        self._stops = True

    def _do_redir(self, data: Mapping[int, bytes]) -> None:
        self._to = goal_of(None, self._constant(data.get(1), 2))

    def _do_tproxy(self, data: Mapping[int, bytes]) -> None:
        self._to = goal_of(None, self._constant(data.get(3), 2))

    def _do_match(self, data: Mapping[int, bytes]) -> bool:
        """Evaluate what iptables-nft left as a match of its own."""
        named = match_ports(_name(data.get(1)), _number(data.get(2)), data.get(3, b""), self._rules.packet)
        self._named = self._named or bool(named)
        self._sure = self._sure and (bool(named) or _name(data.get(1)) == "comment")
        self._asks |= {MATCHES_ASKED[name] for name in (_name(data.get(1)),) if name in MATCHES_ASKED}
        return named is not False

    def _do_target(self, data: Mapping[int, bytes]) -> None:
        self._stops = self._stops or _name(data.get(1)) in ("REJECT", "DROP", "TARPIT")
        self._to = xt_target(_name(data.get(1)), _number(data.get(2)), data.get(3, b"")) or self._to

    def _set(self, register: int, value: _Symbol | bytes | None) -> None:
        slot = _slot(register)
        if value is None:
            self._registers.pop(slot, None)
        elif isinstance(value, bytes):
            for at in range(0, len(value), 4):
                self._registers[slot + at // 4] = value[at : at + 4]
        else:
            self._registers[slot] = value

    def _constant(self, register: bytes | None, length: int) -> bytes | None:
        """Return what a register holds; None where there is none, or it comes from the packet."""
        if register is None:
            return None
        slot = _slot(_number(register))
        parts = [self._registers.get(slot + number) for number in range((length + 3) // 4)]
        known = [part for part in parts if isinstance(part, bytes)]
        return b"".join(known)[:length] if len(known) == len(parts) else b""


def _slot(register: int) -> int:
    """Registers of 16 bytes (1 to 4) lie over those of 4 bytes (8 and up)."""
    return (register - 1) * 4 if 1 <= register <= 4 else register - 8


def _value(data: bytes | None) -> bytes:
    return dict(attributes_of(data or b"")).get(1, b"")


def _within(elements: Sequence[Mapping[int, bytes]], have: bytes) -> dict[int, bytes] | None:
    """Find the range with a value: elements begin ranges, and those with flag 1 end them."""
    best: Mapping[int, bytes] | None = None
    for element in sorted(elements, key=lambda e: (_value(e.get(1)), not _number(e.get(3)) & 1)):
        if _value(element.get(1))[: len(have)] > have:
            break
        best = element
    return None if best is None or _number(best.get(3)) & 1 else dict(best)


def _network(value: bytes, mask: bytes) -> tuple[bytes, int]:
    """Return a network's first address and how many bits of it count."""
    size = 4 if len(mask) <= 4 else 16
    bits = bin(int.from_bytes(mask.ljust(size, b"\0"), "big")).count("1")
    return value[:size].ljust(size, b"\0"), bits

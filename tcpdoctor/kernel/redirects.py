"""Rules of nft and iptables that send a port elsewhere (DNAT, redirect): taken although no socket holds it.

A published container port or a Kubernetes NodePort may be such a rule alone: bind() succeeds, and the clients
are led elsewhere. Looking must not switch anything on: asking nft or iptables may load modules, so it is done
only where they are there already. What is not looked at is said, never taken for "no rule".
"""

import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from tcpdoctor.kernel.addresses import LocalAddresses
from tcpdoctor.kernel.carriers import find_container_at
from tcpdoctor.kernel.cgroups import Container
from tcpdoctor.kernel.namespaces import CAP_NET_ADMIN, effective_capabilities
from tcpdoctor.kernel.procfile import read_kernel_file, why_unreadable
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.kernel.virtual_servers import read_virtual_servers, why_programs_hide_services
from tcpdoctor.named_tuples import NamedTuple

_SECONDS, _PATIENCE = 2.0, 3
"""CPU time that reading the rules may take, and how many times that by the clock: a Kubernetes node can have
a hundred thousand; 25,000 take half a second."""
_MOST_CHAINS, _MOST_REDIRECTS = 10_000, 16
_TCP, _UDP = 6, 17
_PREROUTING, _OUTPUT = 0, 3
"""Hooks before the socket is looked up, NF_INET_PRE_ROUTING and NF_INET_LOCAL_OUT."""
_INPUT, _POSTROUTING = 1, 4


Asked: TypeAlias = Literal["interface", "mark", "sender"]
"""A part of a packet that is named where a rule compares it, and not evaluated."""


class Goal(NamedTuple):
    """Where a rule sends a packet."""

    address: str | None = None
    """None: to this host itself; empty: it hangs on the packet."""
    port: int | None = None
    """None: the port stays as it is, or hangs on the packet."""

    def __str__(self) -> str:
        if self.address is None:
            return f"port {self.port} of this host" if self.port else "another port of this host"
        if not self.address:
            return "an address that hangs on the packet"
        host = f"[{self.address}]" if ":" in self.address and self.port else self.address
        return f"{host}:{self.port}" if self.port else host


class Redirect(NamedTuple):
    """A rule that sends what comes for a port to another place."""

    to: Goal
    where: str
    """Where the rule stands: ``nft (table ip nat, chain DOCKER)``."""
    address: str | None
    """Address or network that a client has to have asked for; None: any of this host's."""
    names_port: bool
    """It is for this port, or for a list with it; False: for every port of the address."""
    families: tuple[int, ...] = (4, 6)
    """The families of addresses that it acts on."""
    container: Container | None = None
    """The container that has the address it leads to."""
    asks: tuple[Asked, ...] = ()
    """What else a packet must have, which was not compared: an ``interface``, a ``sender``, a ``mark``."""


class Redirects(NamedTuple):
    """All such rules of this network namespace that could be read."""

    found: tuple[Redirect, ...]
    not_looked: tuple[str, ...]
    """Why others may exist that were not read, each completing "not looked: ..."."""


class Step(NamedTuple):
    """One rule, as far as it concerns the port asked about: a rule that cannot apply is none."""

    names_port: bool
    address: str | None
    to: Goal | None
    """Where it sends the packet."""
    jump: str | None
    """Chain that is gone through next."""
    asks: tuple[Asked, ...] = ()
    """As `Redirect.asks`."""
    stops: bool = False
    """It drops or rejects the packet."""


def read_redirects(port: int, protocol: str = "tcp", local: LocalAddresses | None = None) -> Redirects:
    """Read which rules of this network namespace send a local port elsewhere.

    Needs CAP_NET_ADMIN. Conditions on interface, sender and mark are named, not evaluated: such a rule may
    concern some clients only.

    Args:
        port: The local port.
        protocol: ``tcp`` or ``udp``.
        local: This host's addresses: rules for other addresses are left out, of which a Kubernetes node has
            thousands. None: all are returned.
    """
    number = _UDP if protocol == "udp" else _TCP
    found: list[Redirect] = []
    not_looked: list[str] = []
    for reader in (_read_nft, _read_legacy, _read_ipvs):
        answer = reader(_Wanted(port, number, local))
        if isinstance(answer, Missing):
            not_looked.append(answer.reason)
        else:
            found += answer
    if hidden := why_programs_hide_services():
        not_looked.append(hidden)
    named = [_with_container(one) for one in list(dict.fromkeys(found))[:_MOST_REDIRECTS]]
    return Redirects(tuple(named), tuple(not_looked))


class Filters(NamedTuple):
    """Rules that drop or reject packets on the way of a connection that begins here."""

    named: tuple[str, ...]
    """Where such rules stand that name the port, as `Redirect.where`."""
    others: tuple[str, ...]
    """Where others stand: they may or may not concern the port."""
    not_looked: str | None = None
    """Why nft's rules were not read."""


NO_FILTERS = Filters((), ())


def read_filters(port: int, *, local: bool) -> Filters:
    """Read which rules of nft stop what a program here sends to a port; other conditions are not compared.

    Of iptables-legacy, whose tables are not gone through for it, those with any rule at these hooks are told
    as others.

    Args:
        port: The destination's.
        local: The destination is this host: what comes in counts as well.
    """
    hooks = (_PREROUTING, _INPUT, _OUTPUT, _POSTROUTING) if local else (_OUTPUT, _POSTROUTING)
    legacy = tuple(
        f"{layout.word}-legacy (table filter)" for layout in _LAYOUTS if _filters_legacy(layout, local=local)
    )
    absent = _why_nft_absent()
    if absent is not None:
        return Filters((), legacy, absent or None)
    if not _may_ask():
        return Filters((), legacy, _no_privilege("nft's rules").reason)
    try:
        with _Rules(_Wanted(port, _TCP, None)) as rules:
            found = rules.stops(hooks)
    except _TooLongError:
        return Filters((), legacy, f"nft's rules could not be read in {_SECONDS:g} s")
    except OSError as error:
        return Filters((), legacy, f"nft's rules: {error.strerror or error}")
    return Filters(
        tuple(dict.fromkeys(where for where, named in found if named)),
        (*dict.fromkeys(where for where, named in found if not named), *legacy),
    )


def _with_container(one: Redirect) -> Redirect:
    found = find_container_at(one.to.address) if one.to.address else None
    return one if isinstance(found, Missing) else one._replace(container=found)


class _Wanted:
    """The packets that are asked about."""

    def __init__(self, port: int, protocol: int, local: LocalAddresses | None) -> None:
        self.port, self.protocol = port.to_bytes(2, "big"), protocol
        ipv4 = local.ipv4 if local is not None else ()
        ipv6 = local.ipv6 if local is not None else ()
        self._any = {
            4: local is None or isinstance(ipv4, Missing),
            16: local is None or isinstance(ipv6, Missing),
        }
        self._ipv4 = [] if isinstance(ipv4, Missing) else [(one.network, one.length) for one in ipv4]
        self._ipv6 = (
            []
            if isinstance(ipv6, Missing)
            else [int.from_bytes(socket.inet_pton(socket.AF_INET6, one.address), "big") for one in ipv6]
        )

    def is_for_us(self, address: bytes, bits: int) -> bool:
        """Whether this host has an address of a network."""
        if self._any[len(address)]:
            return True
        number, width = int.from_bytes(address, "big"), 8 * len(address)
        ours = self._ipv4 if width == 32 else [(one, 128) for one in self._ipv6]
        return any(
            number >> (width - common) == one >> (width - common)
            for one, length in ours
            for common in (min(bits, length),)
        )


def _may_ask() -> bool:
    return CAP_NET_ADMIN in effective_capabilities()


def _no_privilege(rules: str) -> Missing:
    remedy = "run as root" if os.geteuid() else "root has lost it here"
    return Missing(f"reading {rules} takes CAP_NET_ADMIN; {remedy}")


class _TooLongError(Exception):
    """The rules could not be gone through in the time that there is."""


_Walked: TypeAlias = tuple[str, bool, str | None, tuple[Asked, ...]]
"""A chain, and what was compared on the way to it."""


def _walk(
    begin: Sequence[str],
    steps_of: Callable[[str], Iterator[Step]],
    where: Callable[[str], tuple[str, tuple[int, ...]]],
) -> Iterator[Redirect]:
    """Follow the rules from the hooks on, and yield each place that the port can be sent to."""
    waiting: list[_Walked] = [(chain, False, None, ()) for chain in begin]
    seen = set(waiting)
    while waiting:
        if len(seen) > _MOST_CHAINS:
            raise _TooLongError
        chain, named, address, asks = waiting.pop()
        for step in steps_of(chain):
            asked = tuple(sorted({*asks, *step.asks}))
            state = (named or step.names_port, step.address or address, asked)
            if step.to is not None and (state[0] or state[1]):
                told, families = where(chain)
                yield Redirect(step.to, told, state[1], state[0], families, asks=asked)
            if step.jump is not None and (step.jump, *state) not in seen:
                seen.add((step.jump, *state))
                waiting.append((step.jump, *state))


# nft


_NETLINK_NETFILTER = 12
_HEADER = struct.Struct("=IHHII")
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_SUBSYSTEM = 10 << 8
_GET_CHAIN, _GET_RULE, _GET_SET, _GET_ELEMENTS = 4, 7, 10, 13
_FAMILIES = {"1": ("inet", (4, 6)), "2": ("ip", (4,)), "10": ("ip6", (6,))}
_NF_DROP = 0
_FAMILY_NETDEV = 5
_META_PROTOCOL, _TRANSPORT, _NETWORK = 16, 2, 1
_META_ASKED: Mapping[int, Asked] = {3: "mark", 4: "interface", 6: "interface"}
"""NFT_META_MARK, NFT_META_IIF, NFT_META_IIFNAME."""
_ASKED: Mapping[str, Asked] = {"interface": "interface", "sender": "sender", "mark": "mark"}
"""By the name of the symbol."""
_MATCHES_ASKED: Mapping[str, Asked] = {
    "mark": "mark",
    "connmark": "mark",
    "iprange": "sender",
    "mac": "sender",
    "physdev": "interface",
}
"""Matches of iptables that compare them."""
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


def _read_nft(wanted: _Wanted) -> Reading[list[Redirect]]:
    absent = _why_nft_absent()
    if absent is not None:
        return [] if absent == "" else Missing(absent)
    if not _may_ask():
        return _no_privilege("nft's rules")
    try:
        with _Rules(wanted) as rules:
            return list(rules.redirects())
    except _TooLongError:
        return Missing(f"nft's rules could not be read in {_SECONDS:g} s")
    except OSError as error:
        return Missing(f"nft's rules: {error.strerror or error}")


def _why_nft_absent() -> str | None:
    """None: it is there, asking loads nothing; empty: it is not, so that no rule is; else why unknown."""
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


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
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


class _Rules:
    """nft's rules, read over netlink; expressions are decoded only of the chains that are gone through."""

    def __init__(self, wanted: _Wanted) -> None:
        self.packet = wanted
        self._port = wanted.port
        self._cpu_deadline = time.thread_time() + _SECONDS
        self._deadline = time.monotonic() + _SECONDS * _PATIENCE
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
        self._chains: dict[str, list[bytes]] = {}
        self._sets: dict[str, list[dict[int, bytes]]] = {}
        self._flags: dict[str, int] = {}

    def __enter__(self) -> "_Rules":
        self._sock.settimeout(_SECONDS * _PATIENCE)
        with contextlib.suppress(OSError):
            self._sock.connect((0, 0))
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def redirects(self) -> Iterator[Redirect]:
        """Yield what sends the port elsewhere."""
        begin = []
        for family, chain in self._dump(_GET_CHAIN):
            hook = dict(_attributes(chain.get(4, b"")))
            if hook and _number(hook.get(1)) in (_PREROUTING, _OUTPUT):
                begin.append(_place(family, chain.get(1), chain.get(3)))
        if not begin:
            return
        for family, rule in self._dump(_GET_RULE):
            self._chains.setdefault(_place(family, rule.get(1), rule.get(2)), []).append(rule.get(4, b""))
        for family, one in self._dump(_GET_SET):
            self._flags[_place(family, one.get(1), one.get(2))] = _number(one.get(3))
        yield from _walk(begin, self._steps, _told_place)

    def stops(self, hooks: Sequence[int]) -> list[tuple[str, bool]]:
        """Return where rules at these hooks drop or reject packets, and whether they name the port."""
        waiting, found = [], []
        for family, chain in self._dump(_GET_CHAIN):
            hook = dict(_attributes(chain.get(4, b"")))
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
        while waiting and len(seen) <= _MOST_CHAINS:
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
                    yield answer[at + 16], dict(_attributes(answer[at + 20 : at + length]))
                at += max(16, length + 3 & ~3)

    def _check_time(self) -> None:
        if time.thread_time() > self._cpu_deadline or time.monotonic() > self._deadline:
            raise _TooLongError

    def _steps(self, place: str) -> Iterator[Step]:
        self._check_time()
        for expressions in self._chains.get(place, ()):
            other = re.search(_PORT_COMPARED, expressions)
            if other is not None and other[1] != self._port:
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
                dict(_attributes(element))
                for _, part in self._dump(_GET_ELEMENTS, int(family), body)
                for _, element in _attributes(part.get(3, b""))
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

    def __init__(self, rules: _Rules, place: str, expressions: bytes) -> None:
        self._rules, self._place = rules, place
        self._family, _, _ = place.split("\0")
        self._expressions = expressions
        self._registers: dict[int, _Symbol | bytes] = {}
        self._named = False
        self._asks: set[Asked] = set()
        self._stops = False
        self._address: str | None = None
        self._to: Goal | None = None
        self._jump: str | None = None

    def step(self) -> Step | None:
        """Return what the rule does with a packet for the port; None where it does nothing with it."""
        for _, element in _attributes(self._expressions):
            parts = dict(_attributes(element))
            name, data = _name(parts.get(1)), dict(_attributes(parts.get(2, b"")))
            evaluate = getattr(self, f"_do_{name}", None)
            if evaluate is not None and evaluate(data) is False:
                return None
        if self._to is None and self._jump is None and not self._stops:
            return None
        return Step(self._named, self._address, self._to, self._jump, tuple(self._asks), self._stops)

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
            return True
        if symbol.name == "address":
            return self._note_address(value, symbol.mask) if operation == 0 else True
        if symbol.name in _ASKED:
            self._asks.add(_ASKED[symbol.name])
            return True
        have = self._rules.wanted[symbol.name]
        value = value[: len(have)]
        holds = (have == value, have != value, have < value, have <= value, have > value, have >= value)[
            operation
        ]
        if symbol.name == "port" and operation != 1:
            self._named = self._named or holds
        return holds

    def _note_address(self, value: bytes, mask: bytes) -> bool:
        """Remember whom the packet has to be for; False where that is not this host."""
        packed, bits = _network(value, mask)
        self._address = _told_network(packed, bits)
        return self._rules.packet.is_for_us(packed, bits)

    def _do_range(self, data: Mapping[int, bytes]) -> bool:
        symbol = self._registers.get(_slot(_number(data.get(1))))
        if isinstance(symbol, _Symbol) and symbol.name in _ASKED:
            self._asks.add(_ASKED[symbol.name])
            return True
        if not isinstance(symbol, _Symbol) or symbol.name == "address":
            return True
        have = self._rules.wanted[symbol.name]
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
        if not any(symbol.name in ("port", "protocol") for symbol in symbols.values()):
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
            result = dict(_attributes(found.get(2, b"")))
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
            return _within(elements, self._rules.wanted[symbols[0].name]) if 0 in symbols else None
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
        return key[at : at + len(have)] <= have <= end[at : at + len(have)]

    def _do_immediate(self, data: Mapping[int, bytes]) -> None:
        parts = dict(_attributes(data.get(2, b"")))
        if 2 in parts:
            self._verdict(parts[2])
        elif 1 in parts:
            self._set(_number(data.get(1)), parts[1])

    def _verdict(self, data: bytes) -> None:
        parts = dict(_attributes(data))
        self._stops = self._stops or _number(parts.get(1)) == _NF_DROP
        if 2 in parts:  # jump and goto name a chain of the same table
            family, table, _ = self._place.split("\0")
            self._jump = f"{family}\0{table}\0{_name(parts[2])}"

    def _do_nat(self, data: Mapping[int, bytes]) -> None:
        if _number(data.get(1)) != 1:
            return
        six = _number(data.get(2)) == 10
        address = self._constant(data.get(3), 16 if six else 4)
        port = self._constant(data.get(5), 2)
        self._to = _goal(address, port)

    def _do_reject(self, _: Mapping[int, bytes]) -> None:
        self._stops = True

    def _do_redir(self, data: Mapping[int, bytes]) -> None:
        self._to = _goal(None, self._constant(data.get(1), 2))

    def _do_tproxy(self, data: Mapping[int, bytes]) -> None:
        self._to = _goal(None, self._constant(data.get(3), 2))

    def _do_match(self, data: Mapping[int, bytes]) -> bool:
        """Evaluate what iptables-nft left as a match of its own."""
        named = _match_ports(
            _name(data.get(1)), _number(data.get(2)), data.get(3, b""), self._rules.wanted["port"]
        )
        self._named = self._named or bool(named)
        self._asks |= {_MATCHES_ASKED[name] for name in (_name(data.get(1)),) if name in _MATCHES_ASKED}
        return named is not False

    def _do_target(self, data: Mapping[int, bytes]) -> None:
        self._stops = self._stops or _name(data.get(1)) in ("REJECT", "DROP", "TARPIT")
        self._to = _xt_target(_name(data.get(1)), _number(data.get(2)), data.get(3, b"")) or self._to

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
    return dict(_attributes(data or b"")).get(1, b"")


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


def _told_network(packed: bytes, bits: int) -> str:
    import ipaddress  # here, because most hosts have no such rule

    address = ipaddress.ip_address(packed)
    return str(address) if bits == address.max_prefixlen else f"{address}/{bits}"


def _goal(address: bytes | None, port: bytes | None) -> Goal:
    """Read where a packet goes; empty bytes stand for something that hangs on the packet."""
    host = _told_network(address, 8 * len(address)) if address else address
    return Goal(None if host is None else host or "", int.from_bytes(port, "big") if port else None)


# What iptables left, in its own tables and in nft's


def _match_ports(name: str, revision: int, info: bytes, port: bytes) -> bool | None:
    """Whether a match of iptables lets the port in; None where it is about something else."""
    if name in ("tcp", "udp") and len(info) >= 8:
        low, high = struct.unpack_from("=HH", info, 4)
        flags = info[8:9] if name == "udp" else info[11:12]  # struct xt_udp, struct xt_tcp: invflags
        inverted = bool(flags and flags[0] & 2)
        if (low, high) == (0, 0xFFFF):
            return None
        return (low <= int.from_bytes(port, "big") <= high) is not inverted
    if name == "multiport" and revision == 1 and len(info) >= 48 and info[0] in (1, 2):
        return _multiport(info, int.from_bytes(port, "big")) is not bool(info[47])
    return None


def _multiport(info: bytes, port: int) -> bool:
    """Ports of xt_multiport_v1; a flag joins one with the next into a range."""
    ports, at = struct.unpack_from("=15H", info, 2), 0
    while at < info[1]:
        if info[32 + at] and at + 1 < info[1]:
            if ports[at] <= port <= ports[at + 1]:
                return True
            at += 2
        elif ports[at] == port:
            return True
        else:
            at += 1
    return False


def _xt_target(name: str, revision: int, info: bytes) -> Goal | None:
    """Read where a target of iptables sends a packet; None where it sends it nowhere."""
    if name not in ("DNAT", "REDIRECT"):
        return None
    old = name == "REDIRECT" or revision == 0
    if len(info) < (16 if old else 40):
        return None
    if old:  # struct nf_nat_ipv4_multi_range_compat; REDIRECT of IPv6 has struct nf_nat_range
        if name == "REDIRECT" and len(info) >= 40:
            flags, address, port = struct.unpack_from("=I", info)[0], b"", info[36:38]
        else:
            flags, address, port = struct.unpack_from("=I", info, 4)[0], info[8:12], info[16:18]
    else:
        flags, address, port = struct.unpack_from("=I", info)[0], info[4:20], info[36:38]
        address = address[:4] if not any(address[4:]) else address
    return _goal(address if flags & 1 else None, port if flags & 2 else None)


class _Layout(NamedTuple):
    """Where the parts of an entry lie: struct ipt_entry, struct ip6t_entry."""

    names: str
    family: int
    level: int
    word: str
    size: int
    protocol: int
    offsets: int
    elements: int
    inverted: int


_LAYOUTS = (
    _Layout("/proc/net/ip_tables_names", socket.AF_INET, socket.IPPROTO_IP, "iptables", 4, 80, 88, 112, 83),
    _Layout(
        "/proc/net/ip6_tables_names",
        socket.AF_INET6,
        socket.IPPROTO_IPV6,
        "ip6tables",
        16,
        128,
        140,
        168,
        132,
    ),
)
_GET_INFO, _GET_ENTRIES = 64, 65


def _read_legacy(wanted: _Wanted) -> Reading[list[Redirect]]:
    """Read the table nat of iptables' own interface, where it is in use: asking for it would make it."""
    found: list[Redirect] = []
    for layout in _LAYOUTS:
        try:
            if "nat" not in decode(read_kernel_file(layout.names)).split():
                continue
        except FileNotFoundError:
            continue  # the module is not there, so no rule is
        except OSError as error:
            return Missing(why_unreadable(error))
        if not _may_ask():
            return _no_privilege(f"{layout.word}-legacy's rules")
        try:
            found += _Table(layout, wanted).redirects()
        except _TooLongError:
            return Missing(f"{layout.word}-legacy's rules are too many to go through")
        except OSError as error:
            return Missing(f"{layout.word}-legacy's rules: {error.strerror or error}")
    return found


def _filters_legacy(layout: _Layout, *, local: bool) -> bool:
    """Whether the table filter has any rule where such a connection passes; the policy alone is not read."""
    try:
        if "filter" not in decode(read_kernel_file(layout.names)).split() or not _may_ask():
            return False
        info = _get_option(layout, _GET_INFO, b"filter".ljust(84, b"\0"))
    except OSError:
        return False
    entries, ends = struct.unpack_from("=5I5I", info, 36)[:5], struct.unpack_from("=5I5I", info, 36)[5:]
    return any(entries[hook] != ends[hook] for hook in ((_INPUT, _OUTPUT) if local else (_OUTPUT,)))


def _read_ipvs(wanted: _Wanted) -> Reading[list[Redirect]]:
    """Read what the kernel's load balancer takes before a socket is looked up."""
    services = read_virtual_servers("tcp" if wanted.protocol == _TCP else "udp")
    if isinstance(services, Missing):
        return services
    port = int.from_bytes(wanted.port, "big")
    return [
        Redirect(
            Goal(address, real), "IPVS (ipvsadm -Ln)", one.address, one.port != 0, (_family(one.address),)
        )
        for one in services
        if one.port in (0, port) and wanted.is_for_us(packed := _packed(one.address), 8 * len(packed))
        for address, real in one.servers
    ]


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _family(address: str) -> int:
    return 6 if ":" in address else 4


class _Table:
    """The table nat as getsockopt() gives it: one block of entries that jump to offsets."""

    def __init__(self, layout: _Layout, wanted: _Wanted) -> None:
        self._layout, self._packet = layout, wanted
        name = b"nat".ljust(32, b"\0")
        info = _get_option(layout, _GET_INFO, name.ljust(84, b"\0"))
        self._hooks, *entries = struct.unpack_from("=I5I", info, 32)
        self._begin = [str(entries[hook]) for hook in (_PREROUTING, _OUTPUT) if self._hooks >> hook & 1]
        size = struct.unpack_from("=I", info, 80)[0]
        asked = (name + struct.pack("=I", size)).ljust(40 + size, b"\0")
        self._block = _get_option(layout, _GET_ENTRIES, asked)[40:]
        self._chains = dict(self._heads())

    def redirects(self) -> Iterator[Redirect]:
        """Yield what sends the port elsewhere."""
        return _walk(self._begin, self._steps, self._told)

    def _told(self, chain: str) -> tuple[str, tuple[int, ...]]:
        name = self._chains.get(int(chain)) or ("PREROUTING" if chain == self._begin[0] else "OUTPUT")
        families = (4,) if self._layout.size == 4 else (6,)
        return clean(f"{self._layout.word}-legacy (table nat, chain {name})"), families

    def _entries(self, at: int = 0) -> Iterator[tuple[int, int, str, int, bytes]]:
        """Yield (offset, next, name of the target, its revision, its data)."""
        while at + self._layout.elements <= len(self._block):
            target, length = struct.unpack_from("=HH", self._block, at + self._layout.offsets)
            if length < self._layout.elements or at + length > len(self._block):
                return
            name = self._block[at + target + 2 : at + target + 31].split(b"\0")[0]
            yield (
                at,
                at + length,
                decode(name),
                self._block[at + target + 31],
                self._block[at + target + 32 : at + length],
            )
            at += length

    def _heads(self) -> Iterator[tuple[int, str]]:
        """Yield where chains begin that users made: after a target ERROR with the chain's name."""
        for _, following, name, _, data in self._entries():
            if name == "ERROR":
                yield following, decode(data.split(b"\0")[0])

    def _steps(self, chain: str) -> Iterator[Step]:
        for at, following, name, revision, data in self._entries(int(chain)):
            if name == "ERROR":
                return  # the next chain begins
            jump = None
            if name == "":
                verdict = struct.unpack_from("=i", data)[0]
                jump = str(verdict) if verdict >= 0 and verdict != following else None
            to = _xt_target(name, revision, data)
            applies, named, address = self._conditions(at)
            if applies and (to is not None or jump is not None):
                yield Step(named, address, to, jump, self._asked(at))
            if (
                name == ""
                and jump is None
                and at + self._layout.elements + 40 == following
                and self._is_bare(at)
            ):
                return  # the chain's end, or a rule that returns whatever comes

    def _is_bare(self, at: int) -> bool:
        return not any(self._block[at : at + self._layout.offsets - 4])

    def _conditions(self, at: int) -> tuple[bool, bool, str | None]:
        """Return whether a packet for the port can pass, whether its port is named, and for which address."""
        layout, block = self._layout, self._block
        protocol, inverted = (
            struct.unpack_from("=H", block, at + layout.protocol)[0],
            block[at + layout.inverted],
        )
        if protocol not in (0, self._packet.protocol) and not inverted & 0x40:
            return False, False, None
        mask = block[at + 3 * layout.size : at + 4 * layout.size]
        bits = bin(int.from_bytes(mask, "big")).count("1")
        packed = block[at + layout.size : at + 2 * layout.size]
        address = _told_network(packed, bits) if bits and not inverted & 0x10 else None
        if address is not None and not self._packet.is_for_us(packed, bits):
            return False, False, None
        named = False
        for name, revision, info in self._matches(at):
            answer = _match_ports(name, revision, info, self._packet.port)
            if answer is False:
                return False, False, None
            named = named or bool(answer)
        return True, named, address

    def _asked(self, at: int) -> tuple[Asked, ...]:
        """Name what a packet must have besides: struct ipt_ip is src, dst, their masks, the interface."""
        size = self._layout.size
        asks: set[Asked] = {
            _MATCHES_ASKED[name] for name, _, _ in self._matches(at) if name in _MATCHES_ASKED
        }
        if any(self._block[at + 2 * size : at + 3 * size]):
            asks.add("sender")
        if any(self._block[at + 4 * size : at + 4 * size + 16]):
            asks.add("interface")
        return tuple(asks)

    def _matches(self, at: int) -> Iterator[tuple[str, int, bytes]]:
        end = at + struct.unpack_from("=H", self._block, at + self._layout.offsets)[0]
        at += self._layout.elements
        while at + 32 <= end:
            size = struct.unpack_from("=H", self._block, at)[0]
            if size < 32:
                return
            yield (
                decode(self._block[at + 2 : at + 31].split(b"\0")[0]),
                self._block[at + 31],
                self._block[at + 32 : at + size],
            )
            at += size


def _get_option(layout: _Layout, option: int, asked: bytes) -> bytes:
    """getsockopt() with a question in its buffer, which the socket module cannot ask."""
    import ctypes  # 6 ms, and wanted only where iptables-legacy is in use

    with socket.socket(layout.family, socket.SOCK_DGRAM) as sock:
        buffer, length = ctypes.create_string_buffer(asked, len(asked)), ctypes.c_uint32(len(asked))
        library = ctypes.CDLL(None, use_errno=True)
        if library.getsockopt(sock.fileno(), layout.level, option, buffer, ctypes.byref(length)) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return buffer.raw[: length.value]

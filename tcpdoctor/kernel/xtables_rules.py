"""iptables-legacy's rules, read by getsockopt(): only where a table is in use, as asking for one makes it."""

import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from tcpdoctor.kernel.packet_rules import (
    MATCHES_ASKED,
    MOST_CHAINS,
    OUTPUT,
    PREROUTING,
    Asked,
    Redirect,
    Step,
    TooLongError,
    Wanted,
    match_ports,
    may_ask_for_rules,
    no_privilege,
    told_network,
    walk_rules,
    xt_target,
)
from tcpdoctor.kernel.reading import Missing, Reading, read_kernel_file, why_unreadable
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.named_tuples import NamedTuple


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


LAYOUTS = (
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
_DROP = -1
"""The verdict of a standard target is kept as -verdict - 1; NF_DROP is 0."""
_ENDS: Mapping[int, Literal["chain", "hook"]] = {-2: "hook", -5: "chain"}
"""ACCEPT, and RETURN (XT_RETURN)."""
_HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


def read_xtables(wanted: Wanted) -> Reading[list[Redirect]]:
    """Read the tables nat and mangle of iptables' own interface where they are in use: asking makes them."""
    found: list[Redirect] = []
    for layout in LAYOUTS:
        try:
            tables = decode(read_kernel_file(layout.names)).split()
        except FileNotFoundError:
            continue  # the module is not there, so no rule is
        except OSError as error:
            return Missing(why_unreadable(error))
        for table in sorted({"mangle", "nat"} & {*tables}):
            if not may_ask_for_rules():
                return no_privilege(f"{layout.word}-legacy's rules")
            try:
                found += _Table(layout, wanted, table, (PREROUTING, OUTPUT)).redirects()
            except TooLongError:
                return Missing(f"{layout.word}-legacy's rules are too many to go through")
            except OSError as error:
                return Missing(f"{layout.word}-legacy's rules: {error.strerror or error}")
    return found


def read_xtables_stops(wanted: Wanted, hooks: Sequence[int]) -> Reading[list[tuple[str, bool]]]:
    """Return where rules and policies at these hooks drop or reject packets, and whether they name the port.

    Of each table that is in use but nat; what else a rule compares is not evaluated.
    """
    found: list[tuple[str, bool]] = []
    for layout in LAYOUTS:
        try:
            tables = decode(read_kernel_file(layout.names)).split()
        except FileNotFoundError:
            continue
        except OSError as error:
            return Missing(why_unreadable(error))
        for name in sorted({*tables} - {"nat"}):
            if not may_ask_for_rules():
                return no_privilege(f"{layout.word}-legacy's rules")
            try:
                found += _Table(layout, wanted, name, hooks).stops()
            except TooLongError:
                return Missing(f"{layout.word}-legacy's rules are too many to go through")
            except OSError as error:
                return Missing(f"{layout.word}-legacy's rules: {error.strerror or error}")
    return found


_EVERY_PORT = b"\0\0\xff\xff"
"""How a match for TCP or UDP begins that lets every port of the sender in."""


class _Table:
    """A table as getsockopt() gives it: one block of entries that jump to offsets."""

    def __init__(self, layout: _Layout, wanted: Wanted, table: str, hooks: Sequence[int]) -> None:
        self._layout, self._packet, self._table = layout, wanted, table
        name = table.encode().ljust(32, b"\0")
        info = _get_option(layout, _GET_INFO, name.ljust(84, b"\0"))
        self._hooks, *entries = struct.unpack_from("=I5I", info, 32)
        self._begin = {str(entries[hook]): hook for hook in hooks if self._hooks >> hook & 1}
        size = struct.unpack_from("=I", info, 80)[0]
        asked = (name + struct.pack("=I", size)).ljust(40 + size, b"\0")
        self._block = _get_option(layout, _GET_ENTRIES, asked)[40:]
        self._chains = dict(self._heads())

    def redirects(self) -> Iterator[Redirect]:
        """Yield what sends the port elsewhere."""
        return walk_rules(self._begin, self._steps, self._told)

    def stops(self) -> Iterator[tuple[str, bool]]:
        """Yield where a packet for the port may be dropped or rejected, and whether its port is named."""
        waiting = [(chain, False) for chain in self._begin]
        seen = set(waiting)
        while waiting:
            if len(seen) > MOST_CHAINS:
                raise TooLongError
            chain, named = waiting.pop()
            for step in self._steps(chain):
                state = (step.jump or "", named or step.names_port)
                if step.stops:
                    yield self._told(chain)[0], state[1]
                if step.jump is not None and state not in seen:
                    seen.add(state)
                    waiting.append(state)

    def _told(self, chain: str) -> tuple[str, tuple[int, ...]]:
        name = self._chains.get(int(chain)) or _HOOKS[self._begin[chain]]
        families = (4,) if self._layout.size == 4 else (6,)
        return clean(f"{self._layout.word}-legacy (table {self._table}, chain {name})"), families

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
            jump, stops, ends = None, name == "REJECT", None
            if name == "":
                verdict = struct.unpack_from("=i", data)[0]
                jump = str(verdict) if verdict >= 0 and verdict != following else None
                stops, ends = verdict == _DROP, _ENDS.get(verdict)
            to = xt_target(name, revision, data)
            applies, named, address, sure = self._conditions(at)
            if applies and (to is not None or jump is not None or stops or ends):
                asks = self._asked(at)
                yield Step(named, address, to, jump, asks, stops, sure and not asks, ends)
            if (
                name == ""
                and jump is None
                and at + self._layout.elements + 40 == following
                and self._is_bare(at)
            ):
                return  # the chain's end, or a rule that returns whatever comes

    def _is_bare(self, at: int) -> bool:
        return not any(self._block[at : at + self._layout.offsets - 4])

    def _conditions(self, at: int) -> tuple[bool, bool, str | None, bool]:
        """Whether a packet for the port can pass, its port is named, for which address, and that is all."""
        layout, block = self._layout, self._block
        protocol, inverted = (
            struct.unpack_from("=H", block, at + layout.protocol)[0],
            block[at + layout.inverted],
        )
        if protocol not in (0, self._packet.protocol) and not inverted & 0x40:
            return False, False, None, False
        mask = block[at + 3 * layout.size : at + 4 * layout.size]
        bits = bin(int.from_bytes(mask, "big")).count("1")
        packed = block[at + layout.size : at + 2 * layout.size]
        address = told_network(packed, bits) if bits and not inverted & 0x10 else None
        if address is not None and not self._packet.is_for_us(packed, bits):
            return False, False, None, False
        named, sure = False, not inverted & 0x50
        for name, revision, info in self._matches(at):
            answer = match_ports(name, revision, info, self._packet)
            if answer is False:
                return False, False, None, False
            named = named or bool(answer)
            sure = sure and (bool(answer) or name == "comment" or info[:4] == _EVERY_PORT)
        return True, named, address, sure

    def _asked(self, at: int) -> tuple[Asked, ...]:
        """Name what a packet must have besides: struct ipt_ip is src, dst, their masks, the interface."""
        size = self._layout.size
        asks: set[Asked] = {MATCHES_ASKED[name] for name, _, _ in self._matches(at) if name in MATCHES_ASKED}
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

"""Rules of nft and iptables that send a port elsewhere (DNAT, redirect): taken although no socket holds it.

A published container port or a Kubernetes NodePort may be such a rule alone: bind() succeeds, and the clients
are led elsewhere. Looking must not switch anything on: asking nft or iptables may load modules, so it is done
only where they are there already. What is not looked at is said, never taken for "no rule".
"""

import os
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from tcpdoctor.kernel.addresses import LocalAddresses
from tcpdoctor.kernel.carriers import find_container_at
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.nft_rules import NftRules, read_nft, why_nft_absent
from tcpdoctor.kernel.packet_rules import (
    INPUT,
    MATCHES_ASKED,
    MOST_CHAINS,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    SECONDS,
    TCP,
    UDP,
    Asked,
    Goal,
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
from tcpdoctor.kernel.reading import THREAD_NET, Missing, Reading, is_absent, read_kernel_file, why_unreadable
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
                found += _Table(layout, wanted, table, wanted.hooks).redirects()
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
        return walk_rules(self._packet, self._begin, self._steps, self._told)

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
        others, one = bool(inverted & 0x10), self._packet.is_for_one
        if bits and (one or not others) and self._packet.is_for_us(packed, bits) is others:
            return False, False, None, False
        address = told_network(packed, bits) if bits and not (others or one) else None
        named, sure = False, not inverted & (0x40 if one else 0x50)
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


_MOST_REDIRECTS = 16
_Reader: TypeAlias = Callable[[Wanted], Reading[list[Redirect]]]


class Redirects(NamedTuple):
    """All such rules of this network namespace that could be read."""

    found: tuple[Redirect, ...]
    not_looked: tuple[str, ...]
    """Why others may exist that were not read, each completing "not looked: ..."."""


@replayed
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
    found, not_looked = find_redirects(Wanted(port, UDP if protocol == "udp" else TCP, local))
    return Redirects(tuple(map(_with_container, found)), not_looked)


@replayed
def read_sent_redirects(port: int, destination: str, *, stays: bool) -> Redirects:
    """Read which rules send a connection elsewhere that begins here, also those for every port.

    Without CAP_NET_ADMIN only IPVS is looked at, and the rest told by `why_rules_unread` and `sign_of_rules`.

    Args:
        port: The destination's.
        destination: Its address.
        stays: That is an address of this host: what comes in counts as well.
    """
    readers = _READERS if may_ask_for_rules() else (_read_ipvs,)
    wanted = Wanted(port, TCP, None, sent_to=destination, stays=stays)
    found, not_looked = find_redirects(wanted, readers)
    family = _family(destination)
    return Redirects(tuple(one for one in found if family in one.families), not_looked)


def find_redirects(
    wanted: Wanted, readers: Sequence[_Reader] | None = None
) -> tuple[list[Redirect], tuple[str, ...]]:
    """Return such rules without the containers that they lead to, and what was not looked at."""
    found: list[Redirect] = []
    not_looked: list[str] = []
    for reader in readers or _READERS:
        answer = reader(wanted)
        if isinstance(answer, Missing):
            not_looked.append(answer.reason)
        else:
            found += answer
    if hidden := why_programs_hide_services():
        not_looked.append(hidden)
    for one in found:
        if one.to.address is None and one.to.port:
            wanted.note_ports(one.to.port.to_bytes(2, "big"))
    itself = Goal(None, int.from_bytes(wanted.port, "big"))
    elsewhere = [one for one in dict.fromkeys(found) if one.to != itself]
    return elsewhere[:_MOST_REDIRECTS], tuple(not_looked)


class Filters(NamedTuple):
    """Rules that drop or reject packets on the way of a connection that begins here."""

    named: tuple[str, ...]
    """Where such rules stand that name the port, as `Redirect.where`."""
    others: tuple[str, ...]
    """Where others stand: they may or may not concern the port."""
    not_looked: str | None = None
    """Why nft's rules were not read."""


NO_FILTERS = Filters((), ())


@replayed
def read_filters(port: int, *, local: bool) -> Filters:
    """Read which rules of nft and iptables stop what a program here sends to a port.

    What else than the port they compare is not evaluated. None without CAP_NET_ADMIN, of which
    `why_rules_unread` and `sign_of_rules` tell.

    Args:
        port: The destination's.
        local: The destination is this host: what comes in counts as well.
    """
    return find_filters(Wanted(port, TCP, None), local=local) if may_ask_for_rules() else NO_FILTERS


@replayed
def sign_of_rules() -> str:
    """Return what tells that there are rules of nft or iptables where nobody may ask; empty where nothing."""
    if may_ask_for_rules():
        return ""
    try:
        tracked = int(read_kernel_file("/proc/sys/net/netfilter/nf_conntrack_count"))
    except (OSError, ValueError):
        tracked = 0
    if tracked:
        return "connections are tracked here, which rules of nft or iptables begin"
    legacy = next((name for name in _LEGACY if os.path.isdir(f"/sys/module/{name}")), None)
    if legacy is not None:
        return f"a table of iptables is there (the module {legacy})"
    if os.path.exists(f"{THREAD_NET}/ip_tables_names") and not os.path.isdir("/sys/module/ip_tables"):
        return "ip_tables is built into this kernel, and who may not ask is not told of its rules"
    return _sign_of_chains()


def _sign_of_chains() -> str:
    """As `sign_of_rules`, of nft: that its module is in use does not show in its count of users."""
    absent = why_nft_absent()
    if absent is not None:
        return absent and "whether nf_tables is built into this kernel is not known here"
    how = "loaded" if os.path.isdir("/sys/module/nf_tables/holders") else "built into this kernel"
    return f"nf_tables is {how}, and who may not ask is not told of its rules"


_LEGACY = tuple(
    f"{family}table_{table}" for family in ("ip", "ip6") for table in ("filter", "nat", "mangle", "raw")
)
"""Modules of the tables of iptables' own interface, loaded when somebody first asks for one."""


def find_filters(wanted: Wanted, *, local: bool) -> Filters:
    """As `read_filters`; `wanted` learns at which ports the answer is another one."""
    hooks = (PREROUTING, INPUT, OUTPUT, POSTROUTING) if local else (OUTPUT, POSTROUTING)
    parts = [_nft_stops(wanted, hooks), read_xtables_stops(wanted, hooks)]
    found = [stop for part in parts if not isinstance(part, Missing) for stop in part]
    named = dict.fromkeys(where for where, names_port in found if names_port)
    others = dict.fromkeys(where for where, names_port in found if not names_port)
    unread = [part.reason for part in parts if isinstance(part, Missing)]
    return Filters(tuple(named), tuple(others), "; ".join(unread) or None)


def _nft_stops(wanted: Wanted, hooks: Sequence[int]) -> Reading[list[tuple[str, bool]]]:
    absent = why_nft_absent()
    if absent is not None:
        return Missing(absent) if absent else []
    if not may_ask_for_rules():
        return no_privilege("nft's rules")
    try:
        with NftRules(wanted) as rules:
            return rules.stops(hooks)
    except TooLongError:
        return Missing(f"nft's rules could not be read in {SECONDS:g} s")
    except OSError as error:
        return Missing(f"nft's rules: {error.strerror or error}")


def _with_container(one: Redirect) -> Redirect:
    found = find_container_at(one.to.address) if one.to.address else None
    return one if isinstance(found, Missing) else one._replace(container=found)


def _read_ipvs(wanted: Wanted) -> Reading[list[Redirect]]:
    """Read what the kernel's load balancer takes before a socket is looked up."""
    services = read_virtual_servers("tcp" if wanted.protocol == TCP else "udp")
    if isinstance(services, Missing):
        return services
    for one in services:
        wanted.note_ports(one.port.to_bytes(2, "big"))
    port = int.from_bytes(wanted.port, "big")
    return [
        Redirect(
            Goal(address, real), "IPVS (ipvsadm -Ln)", one.address, one.port != 0, (_family(one.address),)
        )
        for one in services
        if one.port in (0, port) and wanted.is_for_us(packed := _packed(one.address), 8 * len(packed))
        for address, real in one.servers
    ]


_READERS = (read_nft, read_xtables, _read_ipvs)


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _family(address: str) -> int:
    return 6 if ":" in address else 4


_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:]+\]|[0-9A-Fa-f]{8}):([0-9A-Fa-f]{4})")


class VirtualServer(NamedTuple):
    """A service of IPVS: what comes for its address and port is sent to its real servers."""

    address: str
    port: int
    """0: every port of the address."""
    servers: tuple[tuple[str, int], ...]
    """Address and port of each real server."""


def read_virtual_servers(protocol: str, path: str = f"{THREAD_NET}/ip_vs") -> Reading[list[VirtualServer]]:
    """Read the services of IPVS for ``tcp`` or ``udp``; none where the module is not there.

    Everybody may read the file. Missing where it cannot be read, and where services go by firewall mark:
    which packets get the mark hangs on other rules.
    """
    try:
        text = decode(read_kernel_file(path))
    except OSError as error:
        return [] if is_absent(error) else Missing(why_unreadable(error))
    return parse_virtual_servers(text, protocol)


def parse_virtual_servers(text: str, protocol: str) -> Reading[list[VirtualServer]]:
    """Read the text of /proc/net/ip_vs (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show)."""
    found: list[VirtualServer] = []
    ours = marked = False
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        if words[0] == "->":
            end = _endpoint(words[1])
            if ours and end is not None:
                found[-1] = found[-1]._replace(servers=(*found[-1].servers, end))
            continue
        marked = marked or words[0] == "FWM"
        end = _endpoint(words[1])
        ours = words[0] == protocol.upper() and end is not None
        if ours and end is not None:
            found.append(VirtualServer(*end, ()))
    if marked and not found:
        return Missing("services of IPVS go by firewall mark, and other rules say which packets have it")
    return found


def _endpoint(word: str) -> tuple[str, int] | None:
    match = _ENDPOINT.fullmatch(word)
    if match is None:
        return None
    host, port = match.groups()
    if host[0] == "[":
        try:
            packed = socket.inet_pton(socket.AF_INET6, host[1:-1])
        except OSError:
            return None  # colons and digits that are no address
        return socket.inet_ntop(socket.AF_INET6, packed), int(port, 16)
    return socket.inet_ntoa(bytes.fromhex(host)), int(port, 16)


def why_programs_hide_services(folder: str = "/sys/fs/bpf/tc/globals") -> str | None:
    """Say that eBPF programs translate services here, where their tables are pinned at the usual place.

    What a program does is not read: only that Cilium's or Calico's is there. None where none is seen, or
    the folder is root's.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    for start, whose in (("cilium_lb", "Cilium"), ("cali_v4_nat", "Calico"), ("cali_v6_nat", "Calico")):
        if any(name.startswith(start) for name in names):
            return f"{whose}'s eBPF programs translate services here, and what they do is not read"
    return None

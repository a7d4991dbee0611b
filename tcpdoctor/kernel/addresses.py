"""Which addresses are local to this network namespace, and which interfaces are of a VRF, as bind() sees it.

IPv4: bind() looks the address up in the routing table ``local`` (inet_addr_type_table() in
net/ipv4/fib_frontend.c), so that whole prefixes can be local (127.0.0.0/8, ``ip route add local``).
IPv6: bind() wants an address of an interface that has passed duplicate address detection
(ipv6_chk_addr() in net/ipv6/addrconf.c); a ``local`` route is not enough.
"""

import contextlib
import fcntl
import functools
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import MAPPED
from tcpdoctor.kernel.sysctl import read_sysctl
from tcpdoctor.kernel.text import blank_split, clean
from tcpdoctor.named_tuples import NamedTuple

_PROC_NET = Path("/proc/net")

# Addresses as the kernel's events have them: sixteen bytes, an IPv4 one as ::ffff:a.b.c.d.


@functools.lru_cache(4096)
def address_text(raw: bytes) -> str:
    """Return sixteen bytes as text, an IPv4 address as such."""
    if raw.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def raw_address(text: str) -> bytes:
    """Return the sixteen bytes of a numeric address without a scope.

    Raises:
        OSError: It is none.
    """
    if ":" in text:
        return socket.inet_pton(socket.AF_INET6, text)
    return MAPPED + socket.inet_pton(socket.AF_INET, text)


# What /proc tells of this namespace's addresses.


_TENTATIVE, _OPTIMISTIC, _DAD_FAILED = 0x40, 0x04, 0x08  # IFA_F_* in include/uapi/linux/if_addr.h


class LocalPrefix(NamedTuple):
    """IPv4 addresses that are local."""

    network: int
    """The prefix in host byte order."""
    length: int
    """0 to 32."""
    broadcast: bool
    """A subnet's broadcast address; bind() takes it as it takes a local one."""


class InterfaceAddress(NamedTuple):
    """An IPv6 address of an interface."""

    address: str
    interface_index: int
    interface: str
    prefix: int
    """Length of its subnet's prefix."""
    tentative: bool
    """Duplicate address detection has not passed: bind() refuses it."""
    duplicate: bool
    """Detection failed: another host has the address, and it stays tentative."""


class LocalAddresses(NamedTuple):
    """What bind() takes as an address of this network namespace."""

    ipv4: Reading[tuple[LocalPrefix, ...]]
    ipv6: Reading[tuple[InterfaceAddress, ...]]
    """Empty where IPv6 is switched off on all interfaces."""

    def has_ipv4(self, address: str) -> Reading[bool]:
        """Return whether a route of the table ``local`` covers an IPv4 address."""
        if isinstance(self.ipv4, Missing):
            return self.ipv4
        wanted = int.from_bytes(socket.inet_aton(address), "big")
        return any(wanted >> (32 - p.length) == p.network >> (32 - p.length) for p in self.ipv4)


@replayed
def read_local_addresses(proc_net: Path = _PROC_NET) -> LocalAddresses:
    """Read the local addresses of the calling thread's network namespace.

    Each family is `Missing` on its own where the kernel does not show it.

    Raises:
        KernelReadError: A line is not what the kernel prints.
    """
    ipv6: Reading[tuple[InterfaceAddress, ...]]
    try:
        with open(proc_net / "fib_trie", encoding="ascii", errors="replace") as lines:
            ipv4: Reading[tuple[LocalPrefix, ...]] = parse_local_table(lines)
    except (FileNotFoundError, PermissionError) as error:
        ipv4 = Missing(f"{error.filename}: {error.strerror}")
    try:
        with open(proc_net / "if_inet6", encoding="utf-8", errors="surrogateescape") as lines:
            ipv6 = parse_interface_addresses(lines)
    except FileNotFoundError:
        ipv6 = ()  # the kernel has no IPv6 at all
    except PermissionError as error:
        ipv6 = Missing(f"{error.filename}: {error.strerror}")
    return LocalAddresses(ipv4, ipv6)


@replayed
def is_loopback_down() -> bool:
    """Say whether the interface lo of this network namespace is down; False where that is not known."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, b"lo".ljust(40, b"\0"))
        return not int.from_bytes(answer[16:18], sys.byteorder) & _IFF_UP
    return False


_SIOCGIFFLAGS, _IFF_UP = 0x8913, 1


@replayed
def interface_indexes(proc_net: Path = _PROC_NET) -> dict[str, int]:
    """Return the index of each interface of the calling thread's network namespace, by name.

    Where netlink is refused, /proc names them and an ioctl(2) tells each index. Where no socket can be made
    for that either, it is empty.
    """
    try:
        return {name: index for index, name in socket.if_nameindex()}
    except OSError:
        pass  # a seccomp filter refuses netlink
    indexes: dict[str, int] = {}
    with contextlib.suppress(OSError):  # nothing tells
        with open(proc_net / "dev", encoding="utf-8", errors="surrogateescape") as lines:
            names = [line.partition(":")[0].strip() for line in lines if ":" in line]
        for name in names:
            indexes[name] = socket.if_nametoindex(name)
    return indexes


def parse_local_table(lines: Iterable[str]) -> tuple[LocalPrefix, ...]:
    """Parse the table ``Local:`` of /proc/net/fib_trie; other tables do not make an address local.

    A leaf is a line ``|-- 127.0.0.1`` and below it one line per prefix: ``/32 host LOCAL``.

    Raises:
        KernelReadError: A prefix without its leaf, or an address that is none.
    """
    found: list[LocalPrefix] = []
    inside = False
    leaf: str | None = None
    for line in lines:
        if not line[:1].isspace():
            inside = line.startswith("Local:")
            continue
        if not inside:
            continue
        words = line.split() or [""]
        if words[0] == "|--":
            leaf = words[-1]
        elif words[0].startswith("/") and words[-1] in ("LOCAL", "BROADCAST"):
            found.append(_prefix(leaf, words[0], broadcast=words[-1] == "BROADCAST"))
    return tuple(found)


def _prefix(leaf: str | None, length: str, *, broadcast: bool) -> LocalPrefix:
    try:
        return LocalPrefix(int.from_bytes(socket.inet_aton(leaf or ""), "big"), int(length[1:]), broadcast)
    except (OSError, ValueError) as error:
        raise KernelReadError(
            f"/proc/net/fib_trie: {(leaf or '')[:80]!r} with {length[:80]!r} is no IPv4 prefix"
        ) from error


def parse_interface_addresses(lines: Iterable[str]) -> tuple[InterfaceAddress, ...]:
    """Parse /proc/net/if_inet6: ``fe80...2ce5 03 40 20 80 eth0``, all numbers hexadecimal.

    Raises:
        KernelReadError: A line has other columns.
    """
    found: list[InterfaceAddress] = []
    for number, line in enumerate(lines, 1):
        try:
            packed, index, prefix, _, flags, interface = blank_split(line)
            bits = int(flags, 16)
            found.append(
                InterfaceAddress(
                    address=socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed)),
                    interface_index=int(index, 16),
                    interface=clean(interface),
                    prefix=int(prefix, 16),
                    tentative=bool(bits & _TENTATIVE) and not bits & _OPTIMISTIC,
                    duplicate=bool(bits & _DAD_FAILED),
                )
            )
        except ValueError as error:
            raise KernelReadError(
                f"/proc/net/if_inet6 line {number}: six columns expected: {line[:80]!r}"
            ) from error
    return tuple(found)


# VRFs: each has bind buckets of its own, so that its sockets are in nobody's way. `inet_bind_bucket_match()`
# compares the VRF of the interface that a socket is bound to, and no bucket tells of another's sockets. With
# net.ipv4.tcp_l3mdev_accept=1 all sockets are in one (inet_sk_bound_l3mdev()).


_NETLINK_ROUTE, _RTM_GETLINK, _RTM_NEWLINK = 0, 18, 16
_REQUEST_DUMP = 0x301
_IFLA_MASTER, _IFLA_LINKINFO, _INFO_KIND, _INFO_SLAVE_KIND = 10, 18, 1, 4
_HEADER, _LINK, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBHiII"), struct.Struct("=HH")
_NESTED = 0x3FFF
"""What is left of an attribute's type without the flags of nested ones."""


@replayed
def read_vrfs() -> Reading[Mapping[int, int]]:
    """Return the VRF by the index of an interface, for VRFs and what is in them; both are indices.

    Empty too where one listener serves all of them. Missing where interfaces may not be listed (a sandbox
    without netlink), and where there are VRFs and net.ipv4.tcp_l3mdev_accept cannot be read.
    """
    accepts = read_sysctl("net.ipv4.tcp_l3mdev_accept")
    if not isinstance(accepts, Missing) and accepts != 0:
        return {}
    try:
        found = dict(_vrf_links())
    except OSError as error:
        return Missing(f"which interfaces are of a VRF could not be asked: {error.strerror}")
    return accepts if found and isinstance(accepts, Missing) else found


def _vrf_links() -> Iterator[tuple[int, int]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE) as asked:
        request = _LINK.pack(0, 0, 0, 0, 0, 0)
        asked.send(_HEADER.pack(_HEADER.size + len(request), _RTM_GETLINK, _REQUEST_DUMP, 1, 0) + request)
        while True:
            answer = asked.recv(1 << 17)
            for kind, body in _messages(answer):
                if kind != _RTM_NEWLINK:
                    return
                yield from _vrf_of(body)


def _messages(answer: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(answer):
        length, kind, *_ = _HEADER.unpack_from(answer, at)
        if length < _HEADER.size:
            return
        yield kind, answer[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _vrf_of(link: bytes) -> Iterator[tuple[int, int]]:
    index = _LINK.unpack_from(link)[3]
    told = dict(_attributes(link[_LINK.size :]))
    info = dict(_attributes(told.get(_IFLA_LINKINFO, b"")))
    if info.get(_INFO_KIND, b"").rstrip(b"\0") == b"vrf":
        yield index, index
    elif info.get(_INFO_SLAVE_KIND, b"").rstrip(b"\0") == b"vrf":
        yield index, int.from_bytes(told.get(_IFLA_MASTER, b""), "little")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _NESTED, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3

"""Which interfaces are of a VRF: each has bind buckets of its own, so that its sockets are in nobody's way.

`inet_bind_bucket_match()` compares the VRF of the interface that a socket is bound to, and no bucket tells of
another's sockets. With net.ipv4.tcp_l3mdev_accept=1 all sockets are in one (inet_sk_bound_l3mdev()).
"""

import socket
import struct
from collections.abc import Iterator, Mapping

from tcpdoctor.kernel.entered import replayed
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sysctl import read_sysctl

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

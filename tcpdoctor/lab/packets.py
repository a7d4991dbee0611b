"""Packets made by hand, for what no healthy socket sends: damaged ones, from the wrong side; and firewalls.

Needs CAP_NET_RAW in the network namespace, which its owner has, in a user namespace too. A firewall raises
pyroute2's ``NetlinkError`` where this kernel has no nf_tables, or we have no privilege over this namespace.
"""

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyroute2.nftables.main import NFTables


_SIOCSIFADDR = 0x8916
_ETHERNET_IPV4 = b"\0" * 12 + b"\x08\x00"
"""Header of a frame on lo, whose hardware addresses are all zero."""
_SYN, _ACK = 0x02, 0x10


class Endpoints:
    """Who a packet made by hand says it is from, and whom it is for."""

    __slots__ = ("destination", "port", "source", "source_port")

    def __init__(self, source: str, source_port: int, destination: str, port: int) -> None:
        self.source, self.source_port, self.destination, self.port = source, source_port, destination, port


def send_damaged_segments(count: int, ends: Endpoints) -> None:
    """Send `count` segments with one byte of data whose TCP checksum is wrong, through IP."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as sock:
        sock.bind((ends.source, 0))
        for number in range(count):
            segment = _segment(ends, number, _ACK, b"x", damage=0x55AA)
            sock.sendto(segment, (ends.destination, 0))


def send_stray_segments(count: int, ends: Endpoints) -> None:
    """Send `count` segments of 100 bytes far apart in sequence, which cannot be joined, through IP."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as sock:
        sock.bind((ends.source, 0))
        for number in range(count):
            sock.sendto(_segment(ends, number * 7919, _ACK, bytes(100)), (ends.destination, 0))


def send_outside_the_window(sock: socket.socket) -> None:
    """Send a segment in the name of a connected socket whose sequence number is far outside the window.

    What it acknowledges is right, so that a reset that answers it is believed. The numbers are the kernel's
    own, by TCP_REPAIR, which takes CAP_NET_ADMIN.
    """
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    numbers = []
    for queue in (_SEND_QUEUE, _RECEIVE_QUEUE):
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
        (number,) = struct.unpack("=I", sock.getsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ, 4))
        numbers.append(number)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _WITHOUT_PROBE)
    (source, source_port), (destination, port) = sock.getsockname(), sock.getpeername()
    ends = Endpoints(source, source_port, destination, port)
    segment = _segment(ends, (numbers[0] + _FAR_AWAY) % 2**32, _ACK, b"x", acknowledged=numbers[1])
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.bind((source, 0))
        raw.sendto(segment, (destination, 0))


_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21
_RECEIVE_QUEUE, _SEND_QUEUE, _WITHOUT_PROBE = 1, 2, -1
_FAR_AWAY = 50_000_000


def send_from_the_wrong_side(count: int, ends: Endpoints) -> None:
    """Let `count` SYNs come in on lo, whatever the route to their sender says."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("lo", 0))
        for number in range(count):
            sock.send(_ETHERNET_IPV4 + _packet(ends, _segment(ends, number, _SYN)))


def add_address_to_loopback(address: str, label: str = "lo:1") -> None:
    """Give lo one more IPv4 address, under a label of its own (an alias, as ifconfig(8) does)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sHH4s8x", label.encode(), socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(sock, _SIOCSIFADDR, request)


def _packet(ends: Endpoints, payload: bytes) -> bytes:
    addresses = socket.inet_aton(ends.source) + socket.inet_aton(ends.destination)
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, socket.IPPROTO_TCP, 0)
    return header[:10] + struct.pack(">H", _checksum(header + addresses)) + addresses + payload


def _segment(
    ends: Endpoints, sequence: int, flags: int, data: bytes = b"", *, acknowledged: int = 1, damage: int = 0
) -> bytes:
    """A TCP segment; `damage` is xored into its checksum."""
    segment = struct.pack(
        ">HHIIBBHHH", ends.source_port, ends.port, sequence, acknowledged, 5 << 4, flags, 1024, 0, 0
    )  # fmt: skip
    segment += data
    pseudo = socket.inet_aton(ends.source) + socket.inet_aton(ends.destination)
    pseudo += struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(segment))
    checksum = _checksum(pseudo + segment) ^ damage
    return segment[:16] + struct.pack(">H", checksum) + segment[18:]


def _checksum(data: bytes) -> int:
    """The internet checksum, RFC 1071."""
    total: int = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


# a peer that fell silent, and a path that loses segments: in one namespace and without a firewall

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_RETURN = 0x06  # BPF_RET | BPF_K
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_LOAD_LENGTH = 0x80  # BPF_LD | BPF_W | BPF_LEN
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_WHOLE = 0xFFFFFFFF

_Instruction = tuple[int, int, int, int]


def go_deaf(sock: socket.socket) -> None:
    """Let the kernel drop every segment that comes for this socket, before TCP sees it.

    To the other end this is a host that is gone: its segments are never acknowledged, and no reset
    answers them. A deaf listener never answers a SYN; a deaf socket that connects never sees the SYN-ACK.
    """
    _attach(sock, [(_RETURN, 0, 0, 0)])


def hear_partly(sock: socket.socket, lost_of_256: int) -> None:
    """Let the kernel drop a random part of the segments that come for this socket: a path with loss."""
    _attach(
        sock,
        [
            (_LOAD, 0, 0, _RANDOM),
            (_AND, 0, 0, 0xFF),
            (_AT_LEAST, 0, 1, lost_of_256),
            (_RETURN, 0, 0, _WHOLE),
            (_RETURN, 0, 0, 0),
        ],
    )


def hear_small(sock: socket.socket, most: int) -> None:
    """Let the kernel drop every segment longer than `most` bytes, its TCP header included: a black hole."""
    _attach(
        sock,
        [
            (_LOAD_LENGTH, 0, 0, 0),
            (_AT_LEAST, 0, 1, most + 1),
            (_RETURN, 0, 0, 0),
            (_RETURN, 0, 0, _WHOLE),
        ],
    )


def hear_again(sock: socket.socket) -> None:
    """Undo `go_deaf` and `hear_partly`."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _attach(sock: socket.socket, program: list[_Instruction]) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code)
    fprog = struct.pack("HxxxxxxP", len(program), ctypes.addressof(memory))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


_INET, _IPV4 = 1, 2  # NFPROTO_INET, of both versions of IP, and NFPROTO_IPV4
_DROP = 0  # NF_DROP
_INVALID = 1  # NF_CT_STATE_INVALID_BIT


def drop_untracked_packets() -> None:
    """Track every connection from now on, and drop packets that belong to none: ``ct state invalid drop``."""
    state = _expression("ct", DREG=1, KEY=0)
    masked = _expression("bitwise", SREG=1, DREG=1, LEN=4, MASK=_state(_INVALID), XOR=_state(0))
    is_there = _expression("cmp", SREG=1, OP=1, DATA=_state(0))
    verdict = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", _DROP)]})]}
    drop = _expression("immediate", DREG=0, DATA=verdict)
    with _tables(_INET) as nft:
        nft.table("add", name="lab")
        nft.chain("add", table="lab", name="input", hook="input", type="filter")
        nft.rule("add", table="lab", chain="input", expressions=([state, masked, is_there, drop],))


def nothing_leaves() -> AbstractContextManager[None]:
    """Drop every packet on its way out of this namespace: ``chain output { ... policy drop; }``.

    TCP is told so at once: to it the segment was never sent.
    """
    return _drop_all("output")


def nothing_arrives() -> AbstractContextManager[None]:
    """Drop every packet that comes in: to TCP the segment is lost on its way."""
    return _drop_all("input")


@contextmanager
def _drop_all(hook: str) -> Iterator[None]:
    with _tables(_INET) as nft:
        nft.table("add", name="out")
        nft.chain("add", table="out", name=hook, hook=hook, type="filter", policy=_DROP)
        try:
            yield
        finally:
            nft.table("del", name="out")


def translate_sources(port: int, lowest: int, highest: int) -> None:
    """Give connections over lo to this port a source port of a small range, instead of what was said before.

    ``tcp dport PORT snat to 127.0.0.1:LOWEST-HIGHEST``; connections that exist keep theirs.
    """
    rule = [
        _expression("meta", DREG=1, KEY=16),  # the protocol above IP
        _expression("cmp", SREG=1, OP=0, DATA=_data(bytes([socket.IPPROTO_TCP]))),
        _expression("payload", DREG=1, BASE=2, OFFSET=2, LEN=2),  # the port that it is sent to
        _expression("cmp", SREG=1, OP=0, DATA=_data(struct.pack(">H", port))),
        _expression("immediate", DREG=1, DATA=_data(socket.inet_aton("127.0.0.1"))),
        _expression("immediate", DREG=2, DATA=_data(struct.pack(">H", lowest))),
        _expression("immediate", DREG=3, DATA=_data(struct.pack(">H", highest))),
        _expression("nat", TYPE=0, FAMILY=_IPV4, REG_ADDR_MIN=1, REG_PROTO_MIN=2, REG_PROTO_MAX=3),
    ]
    with _tables(_IPV4) as nft:
        nft.table("add", name="nat")
        nft.chain("add", table="nat", name="out", hook="postrouting", priority=100, type="nat")
        nft.rule("insert", table="nat", chain="out", expressions=(rule,))  # the first that fits decides


def list_tracked() -> None:
    """List the table as ``conntrack -L`` does: meanwhile the kernel throws out entries whose time is over.

    By itself it does so when it next passes an entry, which may take a minute; until then they count.
    """
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    with NFCTSocket() as tracked:
        for _ in tracked.dump():
            pass


def _tables(family: int) -> "NFTables":
    from pyroute2.nftables.main import NFTables

    return NFTables(nfgen_family=family)


def _expression(name: str, **values: Any) -> dict[str, Any]:
    """One step of a rule: what it loads, compares or does, by the kernel's names."""
    attributes = [(f"NFTA_{name.upper()}_{key}", value) for key, value in values.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": attributes})]}


def _data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _state(bits: int) -> dict[str, Any]:
    """A constant to compare with a register, which holds the state as this machine writes numbers."""
    return _data(struct.pack("=I", bits))

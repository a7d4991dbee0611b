"""Firewalls of this namespace: one that tracks connections, two that let nothing out or in."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_BEGIN, _END = 16, 17  # NFNL_MSG_BATCH_BEGIN and _END
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 2, 3, 6
_LIST_TRACKED = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_REQUEST, _ACK, _DUMP, _CREATE = 0x1, 0x4, 0x300, 0x400
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_INET = 1  # NFPROTO_INET: IPv4 and IPv6
_INPUT, _OUTPUT = 1, 3  # NF_INET_LOCAL_IN and _OUT
_INVALID = 1  # NF_CT_STATE_INVALID_BIT
_NESTED = 0x8000
_TABLE, _CHAIN = b"lab\0", b"input\0"
_WAY_OUT = b"out\0"


def drop_untracked_packets() -> None:
    """Track every connection from now on, and drop packets that belong to none: ``ct state invalid drop``.

    Raises:
        OSError: This kernel has no nf_tables, or we have no privilege over this namespace.
    """
    track = _expression(b"ct\0", _number(1, 1) + _number(2, 0))
    masked = _expression(
        b"bitwise\0",
        _number(1, 1) + _number(2, 1) + _number(3, 4) + _value(4, _INVALID) + _value(5, 0),
    )
    matches = _expression(b"cmp\0", _number(1, 1) + _number(2, 1) + _value(3, 0))
    drop = _expression(
        b"immediate\0", _number(1, 0) + _nest(2, _nest(2, _number(1, 0)))
    )  # into the verdict: NF_DROP
    hook = _nest(4, _number(1, _INPUT) + _number(2, 0))
    rule = _nest(4, track + masked + matches + drop)
    _send(
        _message(_BEGIN, _REQUEST, 0, b"", resource=10),
        _message(_SUBSYSTEM | _NEW_TABLE, _REQUEST | _CREATE, _INET, _attribute(1, _TABLE)),
        _message(
            _SUBSYSTEM | _NEW_CHAIN,
            _REQUEST | _CREATE,
            _INET,
            _attribute(1, _TABLE) + _attribute(3, _CHAIN) + hook + _attribute(7, b"filter\0"),
        ),
        _message(
            _SUBSYSTEM | _NEW_RULE,
            _REQUEST | _CREATE | _ACK,
            _INET,
            _attribute(1, _TABLE) + _attribute(2, _CHAIN) + rule,
        ),
        _message(_END, _REQUEST, 0, b"", resource=10),
    )


def nothing_leaves() -> AbstractContextManager[None]:
    """Drop every packet on its way out of this namespace: ``chain output { ... policy drop; }``.

    TCP is told so at once: to it the segment was never sent.

    Raises:
        OSError: This kernel has no nf_tables, or we have no privilege over this namespace.
    """
    return _drop_all(_OUTPUT, b"output\0")


def nothing_arrives() -> AbstractContextManager[None]:
    """Drop every packet that comes in: to TCP the segment is lost on its way.

    Raises:
        OSError: This kernel has no nf_tables, or we have no privilege over this namespace.
    """
    return _drop_all(_INPUT, b"input\0")


@contextmanager
def _drop_all(hook_number: int, kind: bytes) -> Iterator[None]:
    hook = _nest(4, _number(1, hook_number) + _number(2, 0))
    policy = _number(5, 0)  # NF_DROP
    table = _attribute(1, _WAY_OUT)
    _send(
        _message(_BEGIN, _REQUEST, 0, b"", resource=10),
        _message(_SUBSYSTEM | _NEW_TABLE, _REQUEST | _CREATE, _INET, table),
        _message(
            _SUBSYSTEM | _NEW_CHAIN,
            _REQUEST | _CREATE | _ACK,
            _INET,
            table + _attribute(3, kind) + hook + policy + _attribute(7, b"filter\0"),
        ),
        _message(_END, _REQUEST, 0, b"", resource=10),
    )
    try:
        yield
    finally:
        _send(
            _message(_BEGIN, _REQUEST, 0, b"", resource=10),
            _message(_SUBSYSTEM | _DELETE_TABLE, _REQUEST | _ACK, _INET, table),
            _message(_END, _REQUEST, 0, b"", resource=10),
        )


def translate_sources(port: int, lowest: int, highest: int) -> None:
    """Give connections over lo to this port a source port of a small range; replaces what was set before.

    ``tcp dport PORT snat to 127.0.0.1:LOWEST-HIGHEST``; connections that exist keep theirs.

    Raises:
        OSError: This kernel has no nf_tables with NAT, or we have no privilege over this namespace.
    """
    table = _attribute(1, _NAT)
    rule = b"".join(
        (
            _expression(b"meta\0", _number(1, 1) + _number(2, 16)),  # the protocol above IP
            _equals(bytes([socket.IPPROTO_TCP])),
            _expression(b"payload\0", _number(1, 1) + _number(2, 2) + _number(3, 2) + _number(4, 2)),
            _equals(struct.pack(">H", port)),
            _constant(1, socket.inet_aton("127.0.0.1")),
            _constant(2, struct.pack(">H", lowest)),
            _constant(3, struct.pack(">H", highest)),
            _expression(b"nat\0", b"".join(_number(key, value) for key, value in _SNAT)),
        )
    )
    hook = _nest(4, _number(1, _POSTROUTING) + _number(2, 100))
    _send(
        _message(_BEGIN, _REQUEST, 0, b"", resource=10),
        _message(_SUBSYSTEM | _NEW_TABLE, _REQUEST | _CREATE, _IPV4, table),
        _message(_SUBSYSTEM | _DELETE_TABLE, _REQUEST, _IPV4, table),
        _message(_SUBSYSTEM | _NEW_TABLE, _REQUEST | _CREATE, _IPV4, table),
        _message(
            _SUBSYSTEM | _NEW_CHAIN,
            _REQUEST | _CREATE,
            _IPV4,
            table + _attribute(3, b"out\0") + hook + _attribute(7, b"nat\0"),
        ),
        _message(
            _SUBSYSTEM | _NEW_RULE,
            _REQUEST | _CREATE | _ACK,
            _IPV4,
            table + _attribute(2, b"out\0") + _nest(4, rule),
        ),
        _message(_END, _REQUEST, 0, b"", resource=10),
    )


_NAT = b"nat\0"
_IPV4 = 2  # NFPROTO_IPV4
_POSTROUTING = 4  # NF_INET_POST_ROUTING
_SNAT = ((1, 0), (2, _IPV4), (3, 1), (5, 2), (6, 3))
"""NFTA_NAT_TYPE (source), _FAMILY, and the registers of _REG_ADDR_MIN, _REG_PROTO_MIN and _MAX."""


def _equals(value: bytes) -> bytes:
    """Go on only where the first register holds this."""
    return _expression(b"cmp\0", _number(1, 1) + _number(2, 0) + _nest(3, _attribute(1, value)))


def _constant(register: int, value: bytes) -> bytes:
    return _expression(b"immediate\0", _number(1, register) + _nest(2, _attribute(1, value)))


def list_tracked() -> None:
    """List the table as ``conntrack -L`` does: meanwhile the kernel throws out entries whose time is over.

    By itself it does so when it next passes an entry, which may take a minute; until then they count.
    """
    with _open() as sock:
        sock.send(_message(_LIST_TRACKED, _REQUEST | _DUMP, 0, b""))
        while _DONE not in _kinds(sock.recv(1 << 18)):
            pass


def _kinds(answer: bytes) -> set[int]:
    """The types of the messages in an answer."""
    found, offset = set(), 0
    while offset < len(answer):
        length, kind = struct.unpack_from("=IH", answer, offset)
        if kind == _ERROR:
            problem = -struct.unpack_from("=i", answer, offset + 16)[0]
            raise OSError(problem, f"nf_conntrack: {os.strerror(problem)}")
        found.add(kind)
        offset += length + -length % 4
    return found


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    sock.bind((0, 0))
    sock.settimeout(10)
    return sock


def _send(*messages: bytes) -> None:
    with _open() as sock:
        sock.send(b"".join(messages))
        answer = sock.recv(65536)
    _, kind, _, _, _, problem = struct.unpack_from("=IHHIIi", answer)
    if kind != _ERROR or problem:  # an error of 0 is the acknowledgement
        raise OSError(-problem, f"nf_tables: {os.strerror(-problem)}")


def _message(kind: int, flags: int, family: int, attributes: bytes, *, resource: int = 0) -> bytes:
    body = struct.pack(">BBH", family, 0, resource) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags, kind, 0) + body


def _attribute(kind: int, payload: bytes) -> bytes:
    padding = b"\0" * (-len(payload) % 4)
    return struct.pack("=HH", 4 + len(payload), kind) + payload + padding


def _nest(kind: int, attributes: bytes) -> bytes:
    return _attribute(kind | _NESTED, attributes)


def _number(kind: int, number: int) -> bytes:
    return _attribute(kind, struct.pack(">I", number))


def _value(kind: int, number: int) -> bytes:
    """A constant to compare with a register, which holds the state as this machine writes numbers."""
    return _nest(kind, _attribute(1, struct.pack("=I", number)))


def _expression(name: bytes, attributes: bytes) -> bytes:
    return _nest(1, _attribute(1, name) + _nest(2, attributes))

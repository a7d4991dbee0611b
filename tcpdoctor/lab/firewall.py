"""Firewalls of this namespace: one that tracks connections, two that let nothing out or in, and a NAT.

All of them raise pyroute2's ``NetlinkError`` where this kernel has no nf_tables, or we have no privilege over
this namespace.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyroute2.nftables.main import NFTables

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

"""IPsec: a policy stops what goes out before it has a port, or sends it through an association.

What comes of the association is not looked at. Looking must not switch anything on: the kernel is asked where
its part that answers (xfrm_user) is there already.
"""

import os
import re
import socket
import struct
from collections.abc import Iterator
from typing import Literal

from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.nft_rules import attributes_of
from tcpdoctor.kernel.packet_rules import TCP, may_ask_for_rules
from tcpdoctor.kernel.reading import THREAD_NET, read_kernel_file
from tcpdoctor.named_tuples import NamedTuple

_NETLINK_XFRM, _GET_POLICY, _NEW_POLICY, _REQUEST_DUMP = 6, 0x15, 0x13, 0x301
_NETLINK_HEADER = struct.Struct("=IHHII")
_POLICY = struct.Struct("=16s16s2s2s2s2sHBBB3xiI 96x IIBBBB4x")
"""struct xfrm_userpolicy_info: a selector, lifetimes, priority, index, direction, action, flags, share."""
_BLOCKED = re.compile(rb"^XfrmOutPolBlock\s+[1-9]", re.MULTILINE)
_XFRMA_TEMPLATE, _XFRMA_MARK, _XFRMA_IF_ID, _OUT, _BLOCK = 5, 21, 31, 1, 1


def _is_there() -> bool:
    """Whether the kernel answers without loading anything: the module is loaded or built in."""
    if os.path.isdir("/sys/module/xfrm_user") or not os.path.exists("/proc/modules"):
        return True
    try:
        builtin = read_kernel_file(f"/lib/modules/{os.uname().release}/modules.builtin")
    except OSError:
        return False
    return b"/xfrm_user.ko" in builtin


@replayed
def find_ipsec(source: str | None, destination: str, port: int) -> Literal["", "blocks", "protects"]:
    """Say what the IPsec policy does that a TCP connection from here to another host meets first.

    One that protects has the connection wait for its association, which is not looked at. Policies of marked
    packets and of an interface are left out. Empty too where nobody may ask: without CAP_NET_ADMIN, or where
    asking could load a module.
    """
    if not may_ask_for_rules() or not _is_there():
        return ""
    try:
        found = [one for one in _policies() if _fits(one, source, destination, port)]
    except OSError:
        return ""
    first = min(found, key=lambda one: one.priority, default=None)
    return "" if first is None else "blocks" if first.blocks else "protects" if first.protects else ""


@replayed
def sign_of_ipsec() -> str:
    """Return what tells that there are policies of IPsec where nobody may ask for them; else empty."""
    if may_ask_for_rules() or not _is_there():
        return ""
    try:
        stopped = _BLOCKED.search(read_kernel_file(f"{THREAD_NET}/xfrm_stat"))
    except OSError:
        stopped = None  # a kernel that does not count it
    if stopped:
        return "policies of IPsec have stopped packets here (XfrmOutPolBlock of /proc/net/xfrm_stat)"
    used = next((name for name in ("esp4", "esp6") if _is_used(name)), None)
    return f"associations of IPsec are there (the module {used} is in use)" if used else ""


def _is_used(module: str) -> bool:
    try:
        return int(read_kernel_file(f"/sys/module/{module}/refcnt")) > 0
    except (OSError, ValueError):
        return False


class _Policy(NamedTuple):
    to: bytes
    to_bits: int
    sender: bytes
    sender_bits: int
    port: bytes
    port_mask: bytes
    family: int
    protocol: int
    priority: int
    blocks: bool
    protects: bool


def _policies() -> Iterator[_Policy]:
    """Yield those for what goes out, of which nothing is compared that is not known."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_XFRM) as asked:
        asked.send(_NETLINK_HEADER.pack(_NETLINK_HEADER.size, _GET_POLICY, _REQUEST_DUMP, 1, 0))
        while True:
            answer, at = asked.recv(1 << 17), 0
            while at + _NETLINK_HEADER.size <= len(answer):
                length, kind, *_ = _NETLINK_HEADER.unpack_from(answer, at)
                if kind != _NEW_POLICY:
                    return
                policy = _policy(answer[at + _NETLINK_HEADER.size : at + length])
                if policy is not None:
                    yield policy
                at += (length + 3) & ~3


def _policy(body: bytes) -> _Policy | None:
    to, sender, port, mask, _, source_mask, family, to_bits, sender_bits, protocol, device, _, *rest = (
        _POLICY.unpack_from(body)
    )
    priority, _, direction, action, *_ = rest
    more = dict(attributes_of(body[_POLICY.size :]))
    others = (source_mask, more.get(_XFRMA_MARK, b"")[4:], more.get(_XFRMA_IF_ID, b""))
    if direction != _OUT or device or any(map(any, others)):
        return None
    protects = _XFRMA_TEMPLATE in more
    selector = to, to_bits, sender, sender_bits, port, mask, family, protocol
    return _Policy(*selector, priority, action == _BLOCK, protects)


def _fits(policy: _Policy, source: str | None, destination: str, port: int) -> bool:
    ports = zip(port.to_bytes(2, "big"), policy.port, policy.port_mask, strict=True)
    return (
        policy.protocol in (0, TCP)
        and policy.family == (socket.AF_INET6 if ":" in destination else socket.AF_INET)
        and not any((one ^ other) & mask for one, other, mask in ports)
        and _is_within(destination, policy.to, policy.to_bits)
        and (source is None or _is_within(source, policy.sender, policy.sender_bits))
    )


def _is_within(address: str, network: bytes, bits: int) -> bool:
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    width = 8 * len(packed)
    one, other = int.from_bytes(packed, "big"), int.from_bytes(network[: len(packed)], "big")
    return one >> (width - bits) == other >> (width - bits)

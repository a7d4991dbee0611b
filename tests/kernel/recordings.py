"""Netlink datagrams of a Linux 6.18 x86_64 kernel, recorded as root in a private namespace.

``one_pass`` lists every state, over IPv4, IPv6 and IPv4 mapped into IPv6, without attributes asked
for; ``one_pass_in_detail`` the same with all; ``ipv6`` is an answer to SOCK_DIAG_BY_FAMILY;
``established`` has rows of one length only. Each datagram is preceded by its length (4 bytes).
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcpdoctor.kernel.sock_diag import Cutter, Rows

NAMES = ("one_pass", "one_pass_in_detail", "ipv6", "established")
ONE_PASS_TYPE, BY_FAMILY_TYPE = 18, 20
ROW_TYPES = dict.fromkeys(NAMES, ONE_PASS_TYPE) | {"ipv6": BY_FAMILY_TYPE}

needs_little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="recorded on x86_64")


def datagrams(name: str) -> list[bytes]:
    data = (Path(__file__).parent / "recorded" / f"{name}.bin").read_bytes()
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def cut_all(parts: list[bytes], row_type: int = ONE_PASS_TYPE) -> Iterator[Rows]:
    """The rows of these datagrams, as `Dump` would give them."""
    cutter = Cutter(row_type)
    for part in parts:
        cutter.buffer[: len(part)] = part
        rows, finished = cutter.cut(len(part))
        if rows.stride or rows.offsets:
            yield rows
        if finished:
            return


def raw_rows(rows: Rows) -> list[bytes]:
    """Each row as bytes of its own."""
    offsets = range(0, rows.end, rows.stride) if rows.stride else rows.offsets
    return [bytes(rows.data[at : at + struct.unpack_from("=I", rows.data, at)[0]]) for at in offsets]

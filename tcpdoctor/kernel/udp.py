"""UDP sockets of this network namespace, from /proc/net/udp and udp6.

Netlink would tell no more that matters here, and asking it loads a module (udp_diag). Layout:
udp4_format_sock() in net/ipv4/udp.c and ip6_dgram_sock_seq_show() in net/ipv6/datagram.c.
"""

import os
from collections.abc import Iterator

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.entered import replayed
from tcpdoctor.kernel.procnet import OWN_NAMESPACE, endpoint_of
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import UdpSocket
from tcpdoctor.kernel.sock_diag_rows import owner_of


@replayed
def read_udp_sockets(*, local_port: int = 0, root: str = OWN_NAMESPACE) -> Reading[tuple[UdpSocket, ...]]:
    """Read every UDP socket that has a local port, or those on one port.

    Owners are not looked up. Missing where the tables cannot be read; without IPv6 there is one table.
    """
    try:
        return tuple(
            row
            for name in ("udp", "udp6")
            if name == "udp" or os.path.exists(f"{root}/{name}")
            for row in _udp_table(f"{root}/{name}")
            if local_port in (0, row.local.port)
        )
    except OSError as error:
        return Missing(f"{error.filename}: {error.strerror}")


def _udp_table(path: str) -> Iterator[UdpSocket]:
    with open(path, "rb") as lines:
        next(lines, None)
        for number, line in enumerate(lines, 2):
            try:
                yield decode_udp_line(line)
            except (ValueError, IndexError) as error:
                raise KernelReadError(f"{path} line {number}: {error}") from None


def decode_udp_line(line: bytes) -> UdpSocket:
    """Decode one line. Raises ValueError or IndexError if it is none."""
    row = line.split()
    send, _, receive = row[4].partition(b":")
    inode = int(row[9])
    return UdpSocket(
        family=4 if len(row[1]) == 13 else 6,
        local=endpoint_of(row[1]),
        remote=endpoint_of(row[2]),
        inode=inode,
        uid=int(row[7]),
        receive_queue=int(receive, 16),
        send_queue=int(send, 16),
        drops=int(row[12]),
        owner=owner_of(inode),
    )

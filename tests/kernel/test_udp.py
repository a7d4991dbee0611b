"""/proc/net/udp and udp6, line by line."""

import pytest

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.listing import decode_udp_line, read_udp_sockets
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, NotHeld
from tests.kernel.recordings import needs_little_endian

HEADING = (
    "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref "
    "pointer drops\n"
)
IPV4 = " 4711: 3500007F:0035 00000000:0000 07 00000000:00000300 00:00000000 00000000 101 0 21337 2 0 5\n"
IPV6 = (
    " 4712: 00000000000000000000000001000000:0035 00000000000000000000000001000000:C350 01 "
    "00000010:00000000 00:00000000 00000000     0        0 0 2 0000000000000000 0\n"
)


@needs_little_endian
def test_a_line_says_where_it_is_whose_and_how_full():
    row = decode_udp_line(IPV4.encode())
    assert (row.family, row.local, row.remote) == (4, Endpoint("127.0.0.53", 53), Endpoint("0.0.0.0", 0))
    assert (row.uid, row.inode, row.receive_queue, row.send_queue, row.drops) == (101, 21337, 0x300, 0, 5)


@needs_little_endian
def test_a_socket_of_the_kernel_is_held_by_nobody():
    row = decode_udp_line(IPV6.encode())
    assert (row.family, row.local, row.remote) == (6, Endpoint("::1", 53), Endpoint("::1", 50_000))
    assert (row.inode, row.owner, row.send_queue) == (0, NotHeld(), 16)


@needs_little_endian
def test_one_port_can_be_asked_for_and_ipv6_may_be_absent(tmp_path):
    other = IPV4.replace("0035 ", "0036 ", 1)
    (tmp_path / "udp").write_text(HEADING + IPV4 + other, encoding="ascii")
    found = read_udp_sockets(local_port=53, root=str(tmp_path))
    assert not isinstance(found, Missing)
    assert [row.local.port for row in found] == [53]
    (tmp_path / "udp6").write_text(HEADING + IPV6, encoding="ascii")
    both = read_udp_sockets(root=str(tmp_path))
    assert not isinstance(both, Missing)
    assert [row.family for row in both] == [4, 4, 6]


def test_without_the_table_nothing_is_known(tmp_path):
    found = read_udp_sockets(root=str(tmp_path))
    assert isinstance(found, Missing)
    assert "udp" in found.reason


@pytest.mark.parametrize("line", ["  1: nonsense\n", IPV4[:60] + "\n"])
def test_a_line_that_is_none_is_named(tmp_path, line):
    (tmp_path / "udp").write_text(HEADING + line, encoding="ascii")
    with pytest.raises(KernelReadError, match="udp line 2"):
        read_udp_sockets(root=str(tmp_path))

"""The other end of each connection, found by its addresses as the kernel wrote them."""

import contextlib
import os
import socket

import pytest

from tcpdoctor.kernel.listing import Way
from tcpdoctor.kernel.port_evidence import CONNECTION_STATES, connections, other_ends_of
from tcpdoctor.kernel.snapshot import NotHeld
from tcpdoctor.kernel.sockets import read_connections

PORT, ITSELF = 8101, 8102
DUAL_STACK = socket.has_dualstack_ipv6()


def some_connections(stack: contextlib.ExitStack) -> None:
    """Over IPv4, over IPv6, and over IPv4 to an IPv6 socket; two are half-closed, one is to itself."""
    server = stack.enter_context(
        socket.create_server(
            ("::" if DUAL_STACK else "0.0.0.0", PORT),
            family=socket.AF_INET6 if DUAL_STACK else socket.AF_INET,
            dualstack_ipv6=DUAL_STACK,
        )
    )
    for number, host in enumerate(["127.0.0.1"] * 5 + (["::1"] * 3 if DUAL_STACK else [])):
        client = stack.enter_context(socket.create_connection((host, PORT)))
        stack.enter_context(server.accept()[0])
        if number % 3 == 1:
            client.shutdown(socket.SHUT_WR)
    itself = stack.enter_context(socket.socket())
    itself.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    itself.bind(("127.0.0.1", ITSELF))
    itself.connect(("127.0.0.1", ITSELF))


def plain(end) -> tuple[str, int]:
    return end.address.removeprefix("::ffff:"), end.port


def pairs_of(port: int, way: Way) -> list[tuple[object, object]]:
    """What is found for each connection of the port, and what comparing each with each finds."""
    sides = [
        read_connections(CONNECTION_STATES, undecoded=CONNECTION_STATES, ways=(way,), **{side: port})
        for side in ("local_port", "remote_port")
    ]
    ends = other_ends_of(*sides)
    ours, others = map(connections, sides)
    return [
        (
            ends.of(row),
            next(
                one
                for one in others
                if (plain(one.local), plain(one.remote)) == (plain(row.remote), plain(row.local))
            ),
        )
        for row in ours
    ]


def look(way: Way) -> list[tuple[int, object, object]]:
    with contextlib.ExitStack() as stack:
        some_connections(stack)
        return [(port, *pair) for port in (PORT, ITSELF) for pair in pairs_of(port, way)]


@pytest.mark.parametrize("way", [Way.BOTH_FAMILIES, Way.PROC])
def test_each_connection_has_the_other_end_that_comparing_all_finds(way, in_namespace):
    found = in_namespace(look, way)
    assert [port for port, _, _ in found] == [PORT] * (8 if DUAL_STACK else 5) + [ITSELF]
    for _, quickly, slowly in found:
        unmoved = {"info": None, "expires": None, "timer": None}
        assert quickly._replace(**unmoved) == slowly._replace(**unmoved)


def one_with_a_stranger() -> tuple[object, dict[int, int], object]:
    with socket.create_server(("127.0.0.1", PORT)) as server, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with socket.create_connection(server.getsockname()) as client:
            local = read_connections(CONNECTION_STATES, local_port=PORT, undecoded=CONNECTION_STATES)
            remote = read_connections(CONNECTION_STATES, remote_port=PORT, undecoded=CONNECTION_STATES)
            ends = other_ends_of(local, remote)
            inode = socket_inode(client)
            (waiting,) = connections(local)
            return (
                ends.of(waiting),
                {inode: ends.inodes()[inode]},
                ends.owned_by({inode: NotHeld()}).of(waiting),
            )


def socket_inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def test_it_has_the_owner_that_was_found_for_it(in_namespace):
    plainly, inodes, owned = in_namespace(one_with_a_stranger)
    assert list(inodes) == [plainly.inode]
    assert plainly.owner != NotHeld()
    assert owned.owner == NotHeld()

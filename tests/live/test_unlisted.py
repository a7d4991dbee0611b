"""Sockets that no listing shows, found in their processes: compared with a kernel that does list them."""

import contextlib
import os
import socket
import struct
import time

import pytest

from tcpdoctor.kernel.listing import lists_bound_sockets
from tcpdoctor.kernel.owners import find_every_holder
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Endpoint, NotHeld
from tcpdoctor.kernel.sockets import read_connections
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.unlisted import Unlisted, find_unlisted
from tests.live.port_holders import acting_as

FIRST = 7_001
PATIENCE = 20.0
LO = "lo"
ADDRESSES = (
    (socket.AF_INET, "127.0.0.1"),
    (socket.AF_INET, "0.0.0.0"),
    (socket.AF_INET6, "::1"),
    (socket.AF_INET6, "::"),
    (socket.AF_INET6, "::ffff:127.0.0.1"),
)
SO_BINDTODEVICE, IPV6_V6ONLY, SO_LINGER_AT_ONCE = 25, 26, struct.pack("=ii", 1, 0)


def hold(keep: contextlib.ExitStack) -> list[int]:
    """Bound sockets of every kind beside sockets that are listed, or are none of ours to tell."""
    ports = []
    for number, (family, address) in enumerate(ADDRESSES * 2):
        with acting_as(1234 if number == 3 and os.geteuid() == 0 else os.geteuid()):
            sock = keep.enter_context(socket.socket(family, socket.SOCK_STREAM))
        if family == socket.AF_INET6 and not address.startswith("::ffff"):
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_V6ONLY, number % 2)
        if number == 5:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, LO.encode())
        sock.bind((address, FIRST + number))
        ports.append(FIRST + number)
    listener = keep.enter_context(socket.create_server(("127.0.0.1", 6_999)))
    keep.enter_context(socket.create_connection(listener.getsockname()))
    keep.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(("127.0.0.1", FIRST))
    keep.enter_context(socket.socket())
    return ports


def both_ways() -> tuple[list[int], Unlisted, list[Connection]]:
    with contextlib.ExitStack() as keep:
        ports = hold(keep)
        found = find_unlisted(seconds=PATIENCE)
        listed = read_connections((TcpState.BOUND,))
        assert not isinstance(listed, Missing)
        return ports, found, list(listed[TcpState.BOUND].connections) if listed else []


def identity(row: Connection) -> tuple[object, ...]:
    return (
        row.state, row.family, row.local, row.remote, row.device, row.cookie, row.inode, row.uid, row.v6only,
    )  # fmt: skip


def test_bound_sockets_are_found_as_the_kernel_lists_them(in_namespace):
    ports, found, listed = in_namespace(both_ways)
    assert sorted(row.local.port for row in found.bound) == ports
    assert found.ended == ()
    if os.geteuid() == 0:
        nobody = find_every_holder({1 << 31: 0}, seconds=PATIENCE).owners[1 << 31]
        assert (found.complete is True) == isinstance(nobody, NotHeld)
        assert {row.uid for row in found.bound} == {0, 1234}
    if lists_bound_sockets():
        assert sorted(map(identity, found.bound)) == sorted(map(identity, listed))


def after_their_ends() -> tuple[list[int], Unlisted]:
    """One accepted and reset and one refused, which have let go of their ports; one bound and refused."""
    with contextlib.ExitStack() as keep:
        server = keep.enter_context(socket.create_server(("127.0.0.1", FIRST)))
        client = keep.enter_context(socket.create_connection(server.getsockname()))
        keep.enter_context(server.accept()[0])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, SO_LINGER_AT_ONCE)
        client.close()
        server.close()
        refused = keep.enter_context(socket.socket())
        refused.bind(("127.0.0.1", FIRST + 1))
        stranger = keep.enter_context(socket.socket())
        for sock in (refused, stranger):
            with contextlib.suppress(ConnectionRefusedError):
                sock.connect(("127.0.0.1", 9))
        deadline = time.monotonic() + 10
        while len((found := find_unlisted(seconds=PATIENCE)).ended) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        return [FIRST, FIRST + 1, stranger.getsockname()[1]], found


def test_of_an_ended_connection_nobody_can_tell_whether_it_keeps_its_port(in_own_machine):
    ports, found = in_own_machine(after_their_ends)
    assert sorted(row.local.port for row in found.ended) == ports
    assert found.bound == ()


def one_port_only() -> tuple[Endpoint, ...]:
    with contextlib.ExitStack() as keep:
        hold(keep)
        return tuple(row.local for row in find_unlisted(seconds=PATIENCE, port=FIRST + 1).bound)


def test_one_port_can_be_asked_for(in_own_machine):
    assert in_own_machine(one_port_only) == (Endpoint("0.0.0.0", FIRST + 1),)


def elsewhere(child_ready: int, release: int) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", FIRST))
        os.write(child_ready, b"1")
        os.read(release, 1)


def asked_while_another_namespace_has_the_port() -> Unlisted:
    from tcpdoctor.lab.namespace import enter_private_namespace

    ready_end, ready = os.pipe()
    release, release_end = os.pipe()
    child = os.fork()
    if child == 0:
        enter_private_namespace()
        elsewhere(ready, release)
        os._exit(0)
    os.read(ready_end, 1)
    found = find_unlisted(seconds=PATIENCE, port=FIRST)
    os.write(release_end, b"1")
    os.waitpid(child, 0)
    return found


def test_a_socket_of_another_namespace_is_not_ours(in_own_machine):
    assert in_own_machine(asked_while_another_namespace_has_the_port).bound == ()


def as_another_user() -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(1234)
        os.setuid(1234)
        complete = find_unlisted(seconds=PATIENCE).complete
        os.write(writer, (complete.reason if isinstance(complete, Missing) else "complete").encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(reader, 4096).decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="there is no second user to be")
def test_who_may_not_look_everywhere_is_told_so(in_namespace):
    assert "hide" in in_namespace(as_another_user)

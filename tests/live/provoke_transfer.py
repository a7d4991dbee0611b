"""How to make calls on sockets fail that are there already, each for one reason; the OSError gets out."""

import ctypes
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable

from tcpdoctor.lab.namespace import write_sysctl
from tests.live.provoke_opening import (
    LO,
    Provocation,
    bound,
    call_libc,
    interface_down,
    listener,
    lose_capabilities,
    pair,
)


def packet_on_a_dead_interface() -> object:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind(("lo", 0))
    interface_down()
    return sock.send(bytes(64))


def route_gone_with_its_interface() -> object:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    interface_down()
    return sock.connect(("192.0.2.1", 80))


def peer_left_data_unread() -> object:
    client, accepted = pair()
    client.send(b"unread")
    accepted.close()
    return client.recv(1)


def peer_aborted() -> object:
    client, accepted = pair()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
    return client.recv(1)


def listener_closed() -> object:
    server = listener()
    client = socket.create_connection(server.getsockname())
    server.close()
    return client.recv(1)


def peer_gone_before_accept() -> object:
    """What accept() hands over although the client reset it meanwhile."""
    server = listener()
    client = socket.create_connection(server.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    accepted, _ = server.accept()
    return accepted.recv(1)


def shut_down_here() -> object:
    client, accepted = pair()
    client.shutdown(socket.SHUT_WR)
    return client.send(b"x"), accepted


def never_connected_send() -> object:
    return socket.socket().send(b"x")


def second_send_to_a_peer_that_is_gone() -> object:
    client, accepted = pair()
    accepted.close()
    client.send(b"answered with RST")
    for _ in range(1000):
        client.send(b"x")
    return client


def user_timeout() -> object:
    client, accepted = pair()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
    interface_down()
    client.send(b"x")
    return client.recv(1), accepted


def nothing_to_receive() -> object:
    client, accepted = pair()
    client.setblocking(False)
    return client.recv(1), accepted


def receive_time_over() -> object:
    client, accepted = pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 20_000))
    return client.recv(1), accepted


def send_buffer_full() -> object:
    client, accepted = pair()
    client.setblocking(False)
    while True:
        client.send(bytes(65536))
        assert accepted


def full_unix_queue() -> object:
    address = f"\0tcpdoctor-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(address)
        server.listen(0)
        first.connect(address)
        with socket.socket(socket.AF_UNIX) as second:
            second.setblocking(False)
            return second.connect(address)


def nobody_to_accept() -> object:
    server = listener()
    server.setblocking(False)
    return server.accept()


def never_connected_receive() -> object:
    return socket.socket().recv(1)


def listener_receive() -> object:
    return listener().recv(1)


def never_connected_peer() -> object:
    return socket.socket().getpeername()


def never_connected_shutdown() -> object:
    return socket.socket().shutdown(socket.SHUT_RDWR)


def peer_reset_before_getpeername() -> object:
    server = listener()
    client = socket.create_connection(server.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    accepted, _ = server.accept()
    return accepted.getpeername()


def interrupted(call: Callable[[int], None]) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    call(listener().detach())


def interrupted_accept() -> object:
    return interrupted(lambda fd: call_libc("accept", fd, None, None))


def interrupted_receive() -> object:
    client, accepted = pair()
    return interrupted(
        lambda _: call_libc("recv", client.fileno(), ctypes.create_string_buffer(1), 1, 0)
    ), accepted


# descriptors


def no_descriptor_left() -> None:
    """Leave room for no further descriptor."""
    lowest = os.open("/dev/null", os.O_RDONLY)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))


def too_many_sockets() -> object:
    no_descriptor_left()
    return socket.socket()


def too_many_to_accept() -> object:
    server = listener()
    client = socket.create_connection(server.getsockname())
    no_descriptor_left()
    return server.accept(), client


def no_socket() -> object:
    reader, _ = os.pipe()
    call_libc("listen", reader, 1)
    return reader


def closed_descriptor() -> object:
    sock = listener()
    os.close(sock.fileno())
    try:
        return sock.listen()
    finally:
        sock.detach()


# wrong order, wrong arguments


def bound_twice() -> object:
    return bound().bind((LO, 0))


def link_local_without_interface() -> object:
    return bound(0, "fe80::1")


def listen_on_a_connection() -> object:
    client, accepted = pair()
    return client.listen(), accepted


def accept_without_listen() -> object:
    return bound().accept()


def accept_after_shutdown() -> object:
    server = listener()
    server.shutdown(socket.SHUT_RD)
    return server.accept()


def number_out_of_range() -> object:
    return socket.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 0)


def option_too_late() -> object:
    return bound(0, "::1").setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def no_urgent_data() -> object:
    client, accepted = pair()
    return client.recv(1, socket.MSG_OOB), accepted


def other_family(call: str) -> Provocation:
    def provoke() -> object:
        sock = socket.socket()
        address = struct.pack("=H", socket.AF_INET6) + bytes(26)
        return call_libc(call, sock.fileno(), address, len(address))

    return provoke


def unknown_family() -> object:
    return socket.socket(45, socket.SOCK_STREAM)


def ipv6_turned_off() -> object:
    write_sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    return bound(0, "::1")


def datagram_listen() -> object:
    return socket.socket(type=socket.SOCK_DGRAM).listen()


def datagram_accept() -> object:
    return socket.socket(type=socket.SOCK_DGRAM).accept()


def datagram_too_long() -> object:
    return socket.socket(type=socket.SOCK_DGRAM).sendto(bytes(70_000), (LO, 9))


def read_only_option() -> object:
    return socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN, 1)


def unknown_option() -> object:
    return socket.socket().getsockopt(socket.IPPROTO_TCP, 9999)


def capability_lacking() -> object:
    lose_capabilities()
    return socket.socket().setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)


def tied_already() -> object:
    sock = socket.socket()
    lose_capabilities()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    return sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")


def filter_too_long() -> object:
    return socket.socket().setsockopt(socket.IPPROTO_IP, 41, bytes(1 << 20))

"""Options of live sockets are read as their owner set them, and the owner does not notice."""

import errno
import fcntl
import os
import pickle
import socket
import struct

import pytest

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sockopts import BIND_OPTIONS, OPTIONS, Descriptor, Linger, PortRange, read_options

SET = {
    "SO_REUSEADDR": True,
    "SO_REUSEPORT": True,
    "SO_KEEPALIVE": True,
    "TCP_KEEPIDLE": 61,
    "TCP_KEEPINTVL": 7,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 4321,
    "TCP_LINGER2": 17,
    "TCP_SYNCNT": 4,
    "TCP_NODELAY": True,
    "IP_BIND_ADDRESS_NO_PORT": True,
    "IP_FREEBIND": True,
}


def descriptor_of(sock: socket.socket, pid: int | None = None) -> Descriptor:
    return Descriptor(pid or os.getpid(), sock.fileno(), os.fstat(sock.fileno()).st_ino)


def one(descriptor: Descriptor, names=None):
    return read_options([descriptor], names)[descriptor]


def test_every_option_is_read_as_it_was_set():
    with socket.socket() as sock:
        numbers = {option.name: (option.level, option.number) for option in OPTIONS}
        for name, value in SET.items():
            sock.setsockopt(*numbers[name], int(value))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 13))
        try:
            sock.setsockopt(*numbers["IP_LOCAL_PORT_RANGE"], struct.pack("I", 40_009 << 16 | 40_000))
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            pytest.skip("this kernel lacks IP_LOCAL_PORT_RANGE")
        found = one(descriptor_of(sock))
        assert {name: found[name] for name in SET} == SET
        assert found["SO_LINGER"] == Linger(True, 13)
        assert found["IP_LOCAL_PORT_RANGE"] == PortRange(40_000, 40_009)
        assert found["SO_RCVBUF"] == sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert found["TCP_CONGESTION"] == sock.getsockopt(socket.IPPROTO_TCP, 13, 16).rstrip(b"\0").decode()
        assert list(found) == [option.name for option in OPTIONS]


def test_an_option_of_the_other_family_is_missing_and_not_off():
    with socket.socket(socket.AF_INET) as four, socket.socket(socket.AF_INET6) as six:
        assert isinstance(one(descriptor_of(four))["IPV6_V6ONLY"], Missing)
        assert one(descriptor_of(six))["IPV6_V6ONLY"] is False


def test_the_owner_keeps_its_mode_and_no_duplicate_stays_open():
    before = sorted(os.listdir("/proc/self/fd"))
    with socket.socket() as blocking, socket.socket() as other:
        other.setblocking(False)
        socks = (blocking, other)
        modes = [fcntl.fcntl(sock, fcntl.F_GETFL) for sock in socks]
        for sock in socks:
            one(descriptor_of(sock), BIND_OPTIONS)
        assert [fcntl.fcntl(sock, fcntl.F_GETFL) for sock in socks] == modes
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_reading_never_keeps_a_connection_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted = server.accept()[0]
        one(descriptor_of(accepted))
        accepted.close()
        client.settimeout(5)
        assert client.recv(1) == b""  # the FIN came, so nobody else has the socket
        client.close()


def test_a_descriptor_that_has_become_another_socket_is_not_taken_for_it():
    with socket.socket() as sock:
        wrong = descriptor_of(sock)._replace(inode=1)
        assert one(wrong) == Missing(
            f"descriptor {sock.fileno()} of process {os.getpid()} has changed meanwhile"
        )


def test_what_is_gone_or_no_socket_is_missing():
    reader, writer = os.pipe()
    for descriptor in (
        Descriptor(2**22 - 1, 3, 0),
        Descriptor(os.getpid(), 99_999, 0),
        Descriptor(os.getpid(), reader, 0),
    ):
        assert isinstance(one(descriptor), Missing)
    os.close(reader)
    os.close(writer)


def as_another_user() -> str:
    """Ask for root's socket as uid 1234."""
    with socket.socket() as sock:
        wanted = descriptor_of(sock)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setuid(1234)
            answer = one(wanted)
            os.write(writer, (answer.reason if isinstance(answer, Missing) else "readable").encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        return os.read(reader, 4096).decode()


def test_another_users_socket_says_that_root_could_look(in_namespace):
    with open("/proc/self/uid_map", encoding="ascii") as uid_map:
        if os.geteuid() != 0 or uid_map.read().split()[2] == "1":
            pytest.skip("there is no second user to be")
    assert "run as root" in in_namespace(as_another_user)


def test_the_options_of_a_socket_are_a_mapping_like_any_other():
    with socket.socket() as sock:
        answer = one(descriptor_of(sock), ("SO_KEEPALIVE", "TCP_KEEPIDLE"))
    assert answer == {"SO_KEEPALIVE": False, "TCP_KEEPIDLE": answer["TCP_KEEPIDLE"]}
    assert list(answer) == ["SO_KEEPALIVE", "TCP_KEEPIDLE"]
    assert (len(answer), "SO_LINGER" in answer, answer.get("SO_LINGER")) == (2, False, None)
    assert pickle.loads(pickle.dumps(answer)) == answer == dict(answer)  # noqa: S301 - our own bytes

"""Sentences of the pages and rules that no other test asks the kernel about."""

import contextlib
import errno
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable

import pytest

from tcpdoctor.kernel.counters import read_counters
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import go_deaf, hear_again

from . import lifetimes
from .checks import check, severities

LOCALHOST = lifetimes.LOCALHOST
CLOSED_FIRST = 7
_TCP_INFO_OPTIONS, _TIMESTAMPS, _SACK, _WINDOW_SCALING = 5, 1, 2, 4
_ECN_FLAGS = 0xC0
_ICMP_UNREACHABLE, _ICMP_TIME_EXCEEDED, _ICMP_PARAMETER_PROBLEM = 3, 11, 12
_ICMP6_UNREACHABLE, _ICMP6_TIME_EXCEEDED = 1, 3


_ETH_P_ARP = 0x0806
_HERE, _AWAY = "192.0.2.1", "203.0.113.7"


def arp_answers() -> tuple[list[bool], int]:
    """Whether an ARP request from an address that is routed elsewhere is answered, by rp_filter 0 and 1."""
    for line in (
        "link set lo up",
        "link add v0 type veth peer name v1",
        f"addr add {_HERE}/24 dev v0",
        "link set v0 up",
        "link set v1 up",
        "route add 203.0.113.0/24 dev lo",
    ):
        subprocess.run(["ip", *line.split()], check=True, timeout=120)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as wire:
        wire.bind(("v1", _ETH_P_ARP))
        wire.settimeout(0.2)
        mine = wire.getsockname()[4]
        request = struct.pack("!6s6sH", b"\xff" * 6, mine, _ETH_P_ARP) + struct.pack(
            "!HHBBH6s4s6s4s",
            1,
            0x0800,
            6,
            4,
            1,
            mine,
            socket.inet_aton(_AWAY),
            bytes(6),
            socket.inet_aton(_HERE),
        )
        answered = []
        for value in (0, 1):
            write_sysctl("net.ipv4.conf.v0.rp_filter", value)
            write_sysctl("net.ipv4.conf.all.rp_filter", value)
            answered.append(_is_answered(wire, request))
    counters = read_counters().counters
    return answered, counters["TcpExt.IPReversePathFilter"]


def _is_answered(wire: socket.socket, request: bytes) -> bool:
    """Ask until an answer comes; three times without one is none (a link may just come up)."""
    for _attempt in range(3):
        wire.send(request)
        with contextlib.suppress(TimeoutError):
            while True:
                frame = wire.recv(64)
                if struct.unpack_from("!H", frame, 20)[0] == 2:
                    return True
    return False


def test_the_reverse_path_filter_leaves_arp_unanswered_and_counts_nothing(in_namespace):
    assert in_namespace(arp_answers) == ([True, False], 0)


def minisockets_kept(limit: int) -> tuple[int, list[str]]:
    """How many of CLOSED_FIRST connections are in TIME_WAIT, and what `check` says of their number."""
    write_sysctl("net.ipv4.tcp_max_tw_buckets", limit)
    kept = 0
    for _ in range(CLOSED_FIRST):
        client, server = lifetimes.pair()
        ends = client.getsockname()[1], client.getpeername()[1]
        client.shutdown(socket.SHUT_WR)
        lifetimes.wait_for_state(*ends, TcpState.FIN_WAIT_2)
        server.close()
        _until(lambda ends=ends: not lifetimes.exists(*ends, TcpState.FIN_WAIT_2))
        kept += lifetimes.exists(*ends, TcpState.TIME_WAIT)
        client.close()
    return kept, severities(check("--window", "0"), "time-wait-table-nearly-full")


@pytest.mark.parametrize(
    ("limit", "kept", "found"),
    [(0, 0, ["warning"]), (3, 3, ["warning"]), (-5, CLOSED_FIRST, [])],
)
def test_no_minisocket_is_kept_beyond_the_limit_and_a_negative_one_is_none(in_namespace, limit, kept, found):
    assert in_namespace(minisockets_kept, limit) == (kept, found)


def listener_after(how: int) -> bool:
    """Whether a listener still takes connections after shutdown()."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        listener.shutdown(how)
        with socket.socket() as client:
            return client.connect_ex(listener.getsockname()) == 0


def test_only_shutting_a_listener_for_reading_ends_it(in_namespace):
    answers = [
        in_namespace(listener_after, how) for how in (socket.SHUT_WR, socket.SHUT_RD, socket.SHUT_RDWR)
    ]
    assert answers == [True, False, False]


def connect_that_meets_icmp(kind: int, code: int, family: int = socket.AF_INET) -> str:
    """Answer a SYN that nobody acknowledges with an ICMP error; what connect() ends with within a second."""
    here = LOCALHOST if family == socket.AF_INET else "::1"
    with _sniffer(family) as wire, socket.socket(family) as silent, socket.socket(family) as client:
        silent.bind((here, 0))
        silent.listen()
        go_deaf(silent)
        client.setblocking(False)
        client.connect_ex(silent.getsockname())
        _send_icmp(kind, code, wire.recv(2048), family)
        poll = select.poll()
        poll.register(client, select.POLLOUT)
        poll.poll(900)  # the first retransmission would come after a second
        return errno.errorcode.get(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "nothing")


@pytest.mark.parametrize(
    ("kind", "code", "error"),
    [
        (_ICMP_UNREACHABLE, 0, "ENETUNREACH"),
        (_ICMP_UNREACHABLE, 1, "EHOSTUNREACH"),
        (_ICMP_UNREACHABLE, 2, "ENOPROTOOPT"),
        (_ICMP_UNREACHABLE, 3, "ECONNREFUSED"),
        (_ICMP_UNREACHABLE, 9, "ENETUNREACH"),
        (_ICMP_UNREACHABLE, 10, "EHOSTUNREACH"),
        (_ICMP_UNREACHABLE, 13, "EHOSTUNREACH"),
        (_ICMP_TIME_EXCEEDED, 0, "EHOSTUNREACH"),
        (_ICMP_PARAMETER_PROBLEM, 0, "EPROTO"),
    ],
)
def test_an_icmp_error_ends_connect_at_once(in_namespace, kind, code, error):
    assert in_namespace(connect_that_meets_icmp, kind, code) == error


@pytest.mark.parametrize(
    ("kind", "code", "error"),
    [
        (_ICMP6_UNREACHABLE, 0, "ENETUNREACH"),
        (_ICMP6_UNREACHABLE, 1, "EACCES"),
        (_ICMP6_UNREACHABLE, 3, "EHOSTUNREACH"),
        (_ICMP6_UNREACHABLE, 4, "ECONNREFUSED"),
        (_ICMP6_UNREACHABLE, 5, "EACCES"),
        (_ICMP6_TIME_EXCEEDED, 0, "EHOSTUNREACH"),
    ],
)
def test_an_icmpv6_error_ends_connect_at_once(in_namespace, kind, code, error):
    assert in_namespace(connect_that_meets_icmp, kind, code, socket.AF_INET6) == error


def both_connect() -> tuple[int, str]:
    """Two sockets that call connect() to each other, one of them deaf: the inode and the end of the other."""
    write_sysctl("net.ipv4.tcp_syn_retries", 1)
    write_sysctl("net.ipv4.tcp_synack_retries", 9)
    one, other = socket.socket(), socket.socket()
    for sock, port in ((one, 45001), (other, 45002)):
        sock.bind((LOCALHOST, port))
        sock.setblocking(False)
        go_deaf(sock)
    one.connect_ex((LOCALHOST, 45002))
    other.connect_ex((LOCALHOST, 45001))
    hear_again(other)
    lifetimes.wait_for_state(45002, 45001, TcpState.SYN_RECV)
    with open("/proc/net/tcp", encoding="ascii") as table:
        (inode,) = (int(line.split()[9]) for line in table if line.split()[1].endswith(f":{45002:04X}"))
    _until(lambda: not lifetimes.exists(45002, 45001), seconds=10)
    return inode, errno.errorcode[other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]


def test_a_simultaneous_open_is_a_syn_recv_that_a_process_holds_and_syn_retries_end(in_namespace):
    inode, error = in_namespace(both_connect)
    assert inode != 0
    assert error == "ETIMEDOUT"


def keepalive_in_close_wait() -> list[tuple[bool, bool]]:
    """Of one whose peer is half-closed, and of one whose peer is gone: still CLOSE_WAIT, descriptor open."""
    write_sysctl("net.ipv4.tcp_fin_timeout", 1)
    pairs = [lifetimes.pair() for _ in range(2)]
    for client, server in pairs:
        for option, number in ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 1)):
            client.setsockopt(socket.IPPROTO_TCP, option, number)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        server.shutdown(socket.SHUT_WR)
    ends = [(client.getsockname()[1], client.getpeername()[1]) for client, _ in pairs]
    for one in ends:
        lifetimes.wait_for_state(*one, TcpState.CLOSE_WAIT)
    (half_closed, _), (left, gone) = pairs
    gone.close()
    _until(lambda: not lifetimes.exists(*ends[1]))
    _until(
        lambda: _keepalives_sent() >= 3, seconds=10
    )  # the one that met the reset, and two that were answered
    return [
        (lifetimes.exists(*ends[0], TcpState.CLOSE_WAIT), half_closed.fileno() >= 0),
        (lifetimes.exists(*ends[1], TcpState.CLOSE_WAIT), left.fileno() >= 0),
    ]


def _keepalives_sent() -> int:
    counters = read_counters().counters
    assert not isinstance(counters, Missing), counters.reason
    return counters["TcpExt.TCPKeepAlive"]


def test_keepalive_ends_close_wait_only_where_the_other_end_is_gone_and_closes_no_descriptor(in_namespace):
    assert in_namespace(keepalive_in_close_wait) == [(True, True), (False, True)]


def port_after_a_refusal(port: int) -> bool:
    """Whether a port is taken after bind() to it, or to any, and a connect() that was refused."""
    with socket.socket() as nobody:
        nobody.bind((LOCALHOST, 0))
        refusing = nobody.getsockname()
    with socket.socket() as client, socket.socket() as other:
        client.bind((LOCALHOST, port))
        mine = client.getsockname()
        assert client.connect_ex(refusing) == errno.ECONNREFUSED
        with contextlib.suppress(OSError):
            other.bind(mine)
        return other.getsockname()[1] != mine[1]


def test_a_refused_connect_keeps_only_a_port_that_bind_named(in_namespace):
    assert in_namespace(port_after_a_refusal, 45003) is True
    assert in_namespace(port_after_a_refusal, 0) is False


def options_through_a_cookie(timestamps: int) -> int:
    write_sysctl("net.ipv4.tcp_syncookies", 2)
    write_sysctl("net.ipv4.tcp_timestamps", timestamps)
    client, server = lifetimes.pair()
    with client, server:
        return server.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[_TCP_INFO_OPTIONS]


def test_a_cookie_keeps_sack_and_window_scaling_only_with_timestamps(in_namespace):
    assert in_namespace(options_through_a_cookie, 0) == 0
    assert in_namespace(options_through_a_cookie, 1) == _TIMESTAMPS | _SACK | _WINDOW_SCALING


def flags_of_two_syns(fallback: int) -> list[int]:
    """The ECN bits of a SYN that asks for ECN, and of its repetition."""
    write_sysctl("net.ipv4.tcp_ecn", 1)
    write_sysctl("net.ipv4.tcp_ecn_fallback", fallback)
    with _sniffer() as wire, socket.create_server((LOCALHOST, 0)) as silent, socket.socket() as client:
        go_deaf(silent)
        client.setblocking(False)
        client.connect_ex(silent.getsockname())
        seen = []
        while len(seen) < 2:
            packet, address = wire.recvfrom(2048)
            if address[2] != socket.PACKET_OUTGOING:
                seen.append(packet[20 + 13] & _ECN_FLAGS)
        return seen


@pytest.mark.parametrize(("fallback", "flags"), [(0, [_ECN_FLAGS, _ECN_FLAGS]), (1, [_ECN_FLAGS, 0])])
def test_a_repeated_syn_asks_for_ecn_only_without_the_fallback(in_namespace, fallback, flags):
    assert in_namespace(flags_of_two_syns, fallback) == flags


def writable_with_lowat(lowat: int) -> bool:
    write_sysctl("net.ipv4.tcp_notsent_lowat", lowat)
    client, server = lifetimes.pair()
    with client, server:
        poll = select.poll()
        poll.register(client, select.POLLOUT)
        return bool(poll.poll(200))


def test_a_notsent_lowat_of_nothing_makes_no_socket_writable(in_namespace):
    assert in_namespace(writable_with_lowat, 0) is False
    assert in_namespace(writable_with_lowat, 1) is True


def taken_with_lowat(lowat: int) -> tuple[int, int]:
    """How many bytes send() takes without waiting while the peer does not read, and the send buffer."""
    client, server = lifetimes.pair()
    with client, server:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, lowat)
        client.setblocking(False)
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                taken += client.send(b"x" * 1000)
        return taken, client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def test_notsent_lowat_holds_send_back_long_before_the_buffer_is_full(in_namespace):
    taken, buffer = in_namespace(taken_with_lowat, 1000)
    assert taken < buffer / 4
    taken, buffer = in_namespace(taken_with_lowat, 0)  # 0: the sysctl's value, no limit
    assert taken > buffer / 2


def _until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def _sniffer(family: int = socket.AF_INET) -> socket.socket:
    protocol = 0x0800 if family == socket.AF_INET else 0x86DD
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(protocol))
    wire.bind(("lo", 0))
    wire.settimeout(5)
    return wire


def _send_icmp(kind: int, code: int, syn: bytes, family: int) -> None:
    """Send an ICMP error about a SYN to ourselves; for IPv6 the kernel fills in the sum."""
    if family == socket.AF_INET:
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            raw.sendto(_icmp(kind, code, syn[:28]), (LOCALHOST, 0))
        return
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.sendto(struct.pack("!BBHI", kind, code, 0, 0) + syn[:60], ("::1", 0))


def _icmp(kind: int, code: int, about: bytes) -> bytes:
    message = struct.pack("!BBHI", kind, code, 0, 0) + about
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + message[4:]

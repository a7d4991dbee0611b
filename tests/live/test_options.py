"""What the options' pages say of the kernel: limits, inheritance, when to set them, what they do not."""

import errno
import select
import socket
import struct
import time

import pytest

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sockopts import OPTIONS, read_fresh_option
from tcpdoctor.knowledge.option_pages import OptionPage, find_option, option_names
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import go_deaf

PAGES = [find_option(name) for name in option_names()]
LO = ("127.0.0.1", 0)

SAMPLES: dict[str, bytes | int] = {
    "IP_LOCAL_PORT_RANGE": struct.pack("I", 40001 | 40010 << 16),
    "SO_BINDTODEVICE": b"lo\0",
    "SO_LINGER": struct.pack("ii", 1, 5),
    "SO_MARK": 42,
    "SO_RCVBUF": 20_000,
    "SO_RCVLOWAT": 7,
    "SO_RCVTIMEO": struct.pack("ll", 5, 0),
    "SO_SNDBUF": 20_000,
    "SO_SNDTIMEO": struct.pack("ll", 5, 0),
    "TCP_CONGESTION": b"reno",
    "TCP_DEFER_ACCEPT": 7,
    "TCP_DELACK_MAX_US": 100_000,
    "TCP_FASTOPEN": 5,
    "TCP_KEEPCNT": 4,
    "TCP_KEEPIDLE": 77,
    "TCP_KEEPINTVL": 7,
    "TCP_LINGER2": 11,
    "TCP_MAXSEG": 1000,
    "TCP_NOTSENT_LOWAT": 16_384,
    "TCP_QUICKACK": 0,
    "TCP_RTO_MAX_MS": 30_000,
    "TCP_SYNCNT": 3,
    "TCP_USER_TIMEOUT": 7000,
    "TCP_WINDOW_CLAMP": 5000,
}
"""Values that differ from every default; of all others 1."""

SETTABLE = [
    page for page in PAGES if page.inherited is not None and "ENOPROTOOPT" not in (page.accepts or "")
]


def named(page: OptionPage) -> str:
    return page.name


def read(sock: socket.socket, page: OptionPage) -> bytes:
    return sock.getsockopt(page.option().level, page.number, 16)


def accepted_by(server: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(server.getsockname()[:2])
    client.send(b"for TCP_DEFER_ACCEPT")
    accepted, _ = server.accept()
    return accepted, client


def on_accepted(name: str) -> tuple[bytes, bytes, bytes]:
    """What an accepted socket says without the option, with it, and where it waited while it was set."""
    page = find_option(name)
    six = page.level == "IPPROTO_IPV6"
    family, address = (socket.AF_INET6, "::1") if six else (socket.AF_INET, "127.0.0.1")
    with socket.socket(family) as plain, socket.socket(family) as server:
        level = page.option().level
        for sock in (plain, server):
            if six:
                sock.setsockopt(level, page.number, int(sock is server))
                sock.bind(("::", 0))
            else:
                sock.bind((address, 0))
        early = name in ("IPV6_V6ONLY", "TCP_FASTOPEN_CONNECT")
        sample = SAMPLES.get(name, 1)
        if early and not six:
            server.setsockopt(level, page.number, sample)
        for sock in (plain, server):
            sock.listen()
        without, _ = accepted_by(plain)
        waiting = None if early else socket.create_connection(server.getsockname()[:2])
        if not early:
            server.setsockopt(level, page.number, sample)
        queued = read(server.accept()[0], page) if waiting and name != "TCP_DEFER_ACCEPT" else b""
        child, _ = accepted_by(server)
        return read(without, page), read(child, page), queued


@pytest.mark.parametrize("page", [page for page in SETTABLE if page.name != "TCP_QUICKACK"], ids=named)
def test_an_accepted_socket_has_the_option_or_not_as_the_page_says(in_namespace, page):
    if isinstance(read_fresh_option(page.option(), ipv6=page.level == "IPPROTO_IPV6"), Missing):
        assert "on this kernel" not in page.does  # an older kernel: nothing to inherit
        return
    without, child, queued = in_namespace(on_accepted, page.name)
    assert (child != without) is page.inherited
    if queued:
        assert queued == without


def set_numbers(name: str, numbers: list[int]) -> list[str]:
    page = find_option(name)
    answers = []
    for number in numbers:
        with socket.socket() as sock:
            try:
                sock.setsockopt(page.option().level, page.number, number)
            except OSError as error:
                answers.append(errno.errorcode[error.errno or 0])
            else:
                answers.append(str(sock.getsockopt(page.option().level, page.number)))
    return answers


@pytest.mark.parametrize("page", [page for page in PAGES if page.limits is not None], ids=named)
def test_the_kernel_takes_exactly_the_range_of_the_page(in_namespace, page):
    low, high = page.limits
    numbers = [low - 1, low, high] + ([high + 1] if high < 2**31 - 1 else [])
    answers = in_namespace(set_numbers, page.name, numbers)
    if set(answers) == {"ENOPROTOOPT"}:
        return  # an older kernel
    assert answers == [page.outside, str(low), str(high), *[page.outside] * (len(numbers) - 3)]


@pytest.mark.parametrize(
    ("name", "numbers", "answers"),
    [
        ("TCP_LINGER2", [-5, 1, 120, 121], ["-1", "1", "120", "120"]),
        (
            "TCP_DEFER_ACCEPT",
            [-1, 0, 1, 2, 7, 8, 16, 32, 2**31 - 1],
            ["0", "0", "1", "3", "7", "15", "31", "63", "29887"],
        ),
        ("SO_RCVLOWAT", [0, 1, 9], ["1", "1", "9"]),
        ("TCP_MAXSEG", [87, 88, 32767, 32768], ["EINVAL", "88", "32767", "EINVAL"]),
        ("TCP_FASTOPEN", [-1, 5], ["EINVAL", "5"]),
        ("TCP_FASTOPEN_CONNECT", [-1, 0, 1, 2], ["EINVAL", "0", "1", "EINVAL"]),
        ("SO_RCVBUF", [20_000], ["40000"]),
        ("SO_SNDBUF", [20_000], ["40000"]),
        ("SO_ACCEPTCONN", [1], ["ENOPROTOOPT"]),
        ("SO_COOKIE", [1], ["ENOPROTOOPT"]),
    ],
)
def test_other_numbers_become_what_the_page_says(in_namespace, name, numbers, answers):
    assert in_namespace(set_numbers, name, numbers) == answers


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_that_sockets_lists_has_a_page_of_the_same_number(option):
    page = find_option(option.name)
    assert (page.option().level, page.number, page.kind) == (option.level, option.number, option.kind)
    assert page.unit == option.unit


def deferred() -> float:
    with socket.create_server(LO) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        server.settimeout(10)
        with socket.create_connection(server.getsockname()):
            begin = time.monotonic()
            server.accept()
            return time.monotonic() - begin


def test_a_silent_client_is_accepted_late_and_not_dropped(in_namespace):
    assert 0.9 < in_namespace(deferred) < 5


def corked() -> tuple[float, float, float]:
    """Seconds until one byte arrives: corked, corked with TCP_NODELAY, and with TCP_NODELAY set after."""
    with socket.create_server(LO) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        tcp = socket.IPPROTO_TCP
        client.setsockopt(tcp, socket.TCP_CORK, 1)
        times = []
        for nodelay in (0, 1, None):
            client.setsockopt(tcp, socket.TCP_NODELAY, int(bool(nodelay)))
            client.send(b"x")
            begin = time.monotonic()
            if nodelay is None:
                client.setsockopt(tcp, socket.TCP_NODELAY, 1)
            peer.recv(1)
            times.append(time.monotonic() - begin)
        return times[0], times[1], times[2]


def test_a_cork_holds_a_byte_for_a_retransmission_timeout_whatever_tcp_nodelay_says(in_namespace):
    alone, with_nodelay, nodelay_after = in_namespace(corked)
    assert 0.15 < alone < 10
    assert 0.15 < with_nodelay < 10
    assert nodelay_after < 0.1


def half_full() -> tuple[bool, bool]:
    with socket.create_server(LO) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 5)
        client.send(b"123")
        few = bool(select.select([peer], [], [], 0.1)[0])
        client.send(b"45")
        return few, bool(select.select([peer], [], [], 5)[0])


def test_poll_does_not_announce_fewer_bytes_than_so_rcvlowat(in_namespace):
    assert in_namespace(half_full) == (False, True)


def ports_bound() -> dict[str, int]:
    def bind(name: str, value: bytes | int) -> int:
        with socket.socket() as sock:
            page = find_option(name)
            sock.setsockopt(page.option().level, page.number, value)
            sock.bind(LO)
            return int(sock.getsockname()[1])

    return {
        "no port": bind("IP_BIND_ADDRESS_NO_PORT", 1),
        "inside": bind("IP_LOCAL_PORT_RANGE", struct.pack("I", 40001 | 40010 << 16)),
        "outside": bind("IP_LOCAL_PORT_RANGE", struct.pack("I", 9001 | 9010 << 16)),
    }


def test_bind_takes_no_port_one_of_the_range_or_ignores_a_range_outside(in_namespace):
    ports = in_namespace(ports_bound)
    assert ports["no port"] == 0
    assert 40001 <= ports["inside"] <= 40010
    assert not 9001 <= ports["outside"] <= 9010


def segment_sizes() -> tuple[int, int, int]:
    with socket.create_server(LO) as server, socket.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 600)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        sizes = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for sock in (client, accepted)]
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 300)
        return sizes[0], sizes[1], client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def test_tcp_maxseg_counts_before_connect_and_not_after(in_namespace):
    assert in_namespace(segment_sizes) == (588, 588, 588)


def v6only_of(address: str) -> int:
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind((address, 0))
        return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_one_ipv6_address_turns_ipv6_v6only_on_by_itself(in_namespace):
    assert in_namespace(v6only_of, "::1") == 1


def quickack_of_a_listener() -> tuple[int, int]:
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        before = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
        sock.bind(LO)
        sock.listen()
        return before, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)


def test_listen_turns_tcp_quickack_on_again(in_namespace):
    assert in_namespace(quickack_of_a_listener) == (0, 1)


def two_listeners() -> bool:
    first = socket.create_server(LO, reuse_port=True)
    second = socket.create_server(first.getsockname(), reuse_port=True)
    with first, second:
        return bool(first.getsockname() == second.getsockname())


def test_so_reuseport_lets_two_sockets_listen_on_one_port(in_namespace):
    assert in_namespace(two_listeners)


def congestion_controls() -> tuple[bytes, bytes]:
    """Of what a listener that did not choose, and one that did, accept after the sysctl has changed."""
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control", encoding="ascii") as file:
        other = next(name for name in file.read().split() if name != "reno")
    write_sysctl("net.ipv4.tcp_congestion_control", other)
    tcp, found = socket.IPPROTO_TCP, []
    servers = [socket.create_server(LO) for _ in range(2)]
    servers[1].setsockopt(tcp, socket.TCP_CONGESTION, other.encode())
    write_sysctl("net.ipv4.tcp_congestion_control", "reno")
    for server in servers:
        accepted, _ = accepted_by(server)
        name = accepted.getsockopt(tcp, socket.TCP_CONGESTION, 16)
        found.append(name.rstrip(b"\0").replace(other.encode(), b"chosen"))
    return found[0], found[1]


def test_accepted_sockets_follow_the_sysctl_unless_their_listener_chose(in_namespace):
    assert in_namespace(congestion_controls) == (b"reno", b"chosen")


def lingering_close() -> float:
    server = socket.create_server(LO)
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    go_deaf(accepted)
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1))
    client.send(b"never acknowledged")
    begin = time.monotonic()
    client.close()
    return time.monotonic() - begin


def test_close_waits_for_so_linger_even_on_a_non_blocking_socket(in_namespace):
    assert 0.9 < in_namespace(lingering_close) < 4

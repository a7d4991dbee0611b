"""Diseases of limits: descriptors used up, and a table of tracked connections that fills and overflows."""

import errno
import resource
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import (
    drop_untracked_packets,
    list_tracked,
    send_outside_the_window,
    translate_sources,
)
from tcpdoctor.lab.pairs import (
    LOOPBACK,
    NeverCameError,
    again_and_again,
    allow_descriptors,
    connect,
    connect_pair,
    connected,
    listen,
    state_of,
    wait_until,
)
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene, Step


@contextmanager
def descriptors_used(count: int, *, limit: int) -> Iterator[list[socket.socket]]:
    """This process holds `count` idle connections, both ends, and may have `limit` descriptors."""
    allow_descriptors(2 * count + 64)
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        server = listen(stack)
        pairs = [connect_pair(stack, server) for _ in range(count)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, old[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, old)
        yield [sock for pair in pairs for sock in pair]


@contextmanager
def tracked(count: int) -> Iterator[socket.socket]:
    """A firewall tracks `count` connections; one that ends is forgotten a second later. Yields the server."""
    drop_untracked_packets()
    for state in ("time_wait", "close"):
        write_sysctl(f"net.netfilter.nf_conntrack_tcp_timeout_{state}", 1)
    with connected(count) as (server, _):
        yield server


@contextmanager
def table_overflowing() -> Iterator[int]:
    """The table is full of connections without answer, and a thousand a second more come; yields its size.

    They are datagrams to 127.0.0.0/8, which nobody reads.

    Raises:
        NeverCameError: The table is too large to be filled for a lesson.
    """
    with open("/proc/sys/net/netfilter/nf_conntrack_max", encoding="ascii") as file:
        room = int(file.read())
    if not 0 < room <= _LARGEST_TABLE:
        raise NeverCameError(f"nf_conntrack_max is {room:,}: too many to fill, each takes 320 bytes")
    drop_untracked_packets()
    write_sysctl("net.netfilter.nf_conntrack_udp_timeout", 600)  # a busy machine fills it in minutes
    stop = threading.Event()
    with ExitStack() as stack:
        receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.bind(("0.0.0.0", 0))
        sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        port = receiver.getsockname()[1]
        for number in range(room):
            sender.sendto(b"x", (_loopback(number), port))
        flood = threading.Thread(target=_send_on, args=(sender, room, port, stop))
        flood.start()
        stack.callback(flood.join)
        stack.callback(stop.set)
        yield room


_LARGEST_TABLE = 1 << 20


def _loopback(number: int) -> str:
    return f"127.{1 + (number >> 16 & 127)}.{number >> 8 & 255}.{number & 255}"


def _send_on(sender: socket.socket, first: int, port: int, stop: threading.Event) -> None:
    while not stop.wait(0.001):
        sender.sendto(b"x", (_loopback(first), port))
        first += 1


@contextmanager
def translated_ports_used_up(ports: int) -> Iterator[tuple[int, list[socket.socket]]]:
    """NAT has `ports` ports towards a server; as many clients have them, and about 30 more a second try.

    Yields the server's port and the clients that try.
    """
    allow_descriptors(1024)
    trying: list[socket.socket] = []
    with ExitStack() as stack:
        server = listen(stack)
        port = int(server.getsockname()[1])
        translate_sources(port, _FIRST_PORT, _FIRST_PORT + ports - 1)
        for _ in range(ports):
            connect(stack, server)

        def try_more() -> None:
            if len(trying) < _MOST_CLIENTS:
                for _ in range(3):
                    client = stack.enter_context(socket.socket())
                    client.settimeout(0)
                    client.connect_ex((LOOPBACK, port))
                    trying.append(client)

        with again_and_again(try_more, every=0.1):
            yield port, trying


_FIRST_PORT = 40_000
_MOST_CLIENTS = 600


@contextmanager
def misjudged_packets(count: int) -> Iterator[None]:
    """`count` connections through NAT; every 30 ms one of their servers sends a packet outside the window.

    Tracking calls it INVALID, so that it is not translated back, and this host's own TCP answers it.
    """
    allow_descriptors(2 * count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        port = int(server.getsockname()[1])
        translate_sources(port, 20_000, 30_000)  # a client's own port would be kept, and known here
        accepted = deque(connect_pair(stack, server)[1] for _ in range(count))

        def misjudge_one() -> None:
            for _ in range(len(accepted)):
                accepted.rotate(-1)
                if state_of(accepted[0]) is TcpState.ESTABLISHED:
                    send_outside_the_window(accepted[0])
                    return

        with again_and_again(misjudge_one, every=0.03):
            yield


def widen_translated_ports(port: int, ports: int) -> None:
    """Let NAT give `ports` ports to new connections to the server on this port."""
    translate_sources(port, _FIRST_PORT, _FIRST_PORT + ports - 1)


def count_tracked() -> int:
    """Connections that this namespace tracks, without those whose time is over."""
    list_tracked()
    with open("/proc/sys/net/netfilter/nf_conntrack_count", encoding="ascii") as file:
        return int(file.read())


def track_for(seconds: int) -> None:
    """Let the firewall forget an idle connection after so long, and take up none in the middle."""
    write_sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", seconds)
    write_sysctl("net.netfilter.nf_conntrack_tcp_loose", 0)


def use_up_descriptors() -> tuple[int, str]:
    """Open sockets until the kernel refuses; how many there were, and what it said."""
    opened: list[socket.socket] = []
    try:
        while True:
            opened.append(socket.socket())
    except OSError as error:
        return len(opened), errno.errorcode[error.errno or 0]
    finally:
        for sock in opened:
            sock.close()


# Limits that are met before TCP is asked: descriptors, and the firewall's table.


_TRACKING = Step(
    """
    A firewall rule is set in here that asks for the state of connections: the kernel tracks them now. Where
    nf_conntrack and nf_tables are modules, they are loaded for it and stay loaded; outside of this namespace
    they track nothing because of it.
    """
)


def _descriptors_nearly_used_up() -> Iterator[Scene]:
    rule = "descriptors-nearly-used-up"
    with descriptors_used(89, limit=211) as sockets:
        more, refusal = use_up_descriptors()
        yield Broken(
            f"""
            This program may have 211 descriptors (its soft RLIMIT_NOFILE) and holds both ends of 89 idle
            connections, 178 sockets. Nothing leaks and nothing is in CLOSE_WAIT: there are simply many
            connections. Each takes a descriptor until close(). It tried to open more: after {more} the kernel
            said {refusal}, whatever fs.file-max says, and accept() and open() would have been told the same.
            """,
            fires={rule: "warning"},
            show=("states",),
            window=0,
        )
        for sock in sockets[:120]:
            sock.close()
        yield Cured(
            """
            It closed the connections that were idle for longest. Where all are needed, the limit has to be
            raised: LimitNOFILE= in the unit, or prlimit --pid for the running process.
            """,
            window=0,
        )


def _conntrack_table_nearly_full() -> Iterator[Scene]:
    rule = "conntrack-table-nearly-full"
    yield _TRACKING
    with tracked(131):
        yield Broken(
            f"""
            The rule is `ct state invalid drop`, and the kernel remembers every connection for it:
            {count_tracked()} are open, and as many entries are in its table. How many fit
            is set for the machine and cannot be lowered in here, so the limit of the rule is lowered
            instead. When the table is full, packets of new connections are dropped, and no counter of TCP
            tells.
            """,
            fires={rule: "critical"},
            show=("facts conntrack --window 0",),
            limits={rule: {"warning_use": 0.01, "critical_use": 0.02}},
            window=0,
        )
    wait_until(lambda: count_tracked() < 13, "the firewall forgets closed connections")
    yield Cured(
        """
        The connections were closed. Their entries stay for net.netfilter.nf_conntrack_tcp_timeout_time_wait:
        two minutes by default, one second in here, and then until the kernel next comes by. The TIME_WAIT of
        their sockets is another thing: it lasts 60 s and costs no entry.
        """,
        window=0,
    )


def _conntrack_table_overflows() -> Iterator[Scene]:
    rule = "conntrack-table-overflows"
    yield _TRACKING
    with table_overflowing() as room:
        yield Broken(
            f"""
            A flood of datagrams has filled the table of tracked connections: {room:,} entries, none of them
            answered. A thousand more come each second. For each the kernel looks near its place for an
            entry that nobody has answered, and throws that out: early_drop. If it found none it would drop
            the packet, of whatever service.
            """,
            fires={rule: "warning"},
            show=("facts conntrack --window 0",),
            window=0.5,
        )
    yield Cured(
        """
        The flood is over. The table is still full, and would empty by itself within half a minute, for that
        is how long an unanswered datagram is remembered (ten minutes in here, so that a busy machine can fill
        it); but nothing is thrown out any more.
        """,
        window=0.5,
    )


def _snat_ports_used_up() -> Iterator[Scene]:
    rule = "snat-ports-used-up"
    yield Step(
        """
        A rule of NAT is set in here: it gives each connection to one server a source port of seven,
        40000 to 40006. Where nf_tables and nf_nat are modules, they are loaded for it and stay loaded.
        """
    )
    with translated_ports_used_up(7) as (port, trying):
        yield Broken(
            """
            Seven clients are connected, so all seven ports are taken: two connections to one destination
            cannot have the same, or nobody could tell its answers apart. Some thirty more a second try. The
            kernel finds no free port, lets the SYN go on with one that is in use, and drops it when it is
            to be entered into the table of tracked connections. The table is all but empty.
            """,
            fires={rule: "critical"},
            show=("facts snat conntrack",),
        )
        widen_translated_ports(port, 20_000)
        wait_until(lambda: state_of(trying[-1]) is TcpState.ESTABLISHED, "the last client to connect")
        yield Cured(
            """
            The NAT may give twenty thousand ports now. The clients' SYNs are repeated by themselves after a
            second, find a free port, and connect. (More addresses for the NAT would have done as well, or
            clients that keep their connections.)
            """
        )


def _invalid_packets_reset() -> Iterator[Scene]:
    nat, ends = "invalid-packets-reset", "established-connections-reset"
    with misjudged_packets(149):
        yield Broken(
            """
            149 connections go through a NAT. Some thirty times a second one of their servers sends a packet
            whose sequence number is outside the window that tracking has seen, as happens with delayed or
            reordered packets. Tracking calls it INVALID, and NAT leaves it as it is: it reaches the NAT's own
            address, where no socket knows it, and is answered with a reset. The server believes the reset,
            and a healthy connection is gone. (Both ends and the NAT are in one place here.)
            """,
            fires={nat: "warning", ends: "info"},
            show=("facts nf_conntrack",),
        )
        write_sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", 1)
        yield Cured(
            """
            With nf_conntrack_tcp_be_liberal = 1 such packets are taken for valid and are translated. They
            reach the client, whose TCP drops them as it should. To drop packets in state invalid before
            they reach this host's TCP would have done as well.
            """
        )


def _conntrack_forgets_idle_connections() -> Iterator[Scene]:
    rule = "conntrack-forgets-idle-connections"
    yield _TRACKING
    drop_untracked_packets()
    track_for(1)
    with ExitStack() as stack:
        server = listen(stack)
        client, accepted = connect_pair(stack, server)
        client.sendall(b"x")
        accepted.recv(1)
        wait_until(lambda: count_tracked() == 0, "the firewall to forget the idle connection")
        client.sendall(b"y")
        accepted.settimeout(1.0)
        heard = _hears(accepted)
        connect(stack, server)
        yield Broken(
            f"""
            A firewall drops packets of connections that it does not know, and forgets one that is idle for a
            second (five days by default; an hour or less where somebody wanted a small table). A client was
            idle for longer and has sent a byte now: the server has {heard}. Both ends are ESTABLISHED and
            will try for minutes. A keepalive probe would have renewed the entry, but the first comes after
            two hours. (A new connection gets through, which makes it look as if nothing were wrong.)
            """,
            fires={rule: "info"},
            show=("sockets --state established",),
            window=0,
        )
        track_for(432000)
        late, late_end = connect_pair(stack, server)
        late.sendall(b"x")
        yield Cured(
            """
            The firewall remembers idle connections for five days again. The one that it forgot is lost: its
            ends have to find out by themselves. Programs that set SO_KEEPALIVE and a short TCP_KEEPIDLE
            never meet this.
            """,
            window=0,
        )
        late_end.close()


def _hears(sock: socket.socket) -> str:
    try:
        return f"got {len(sock.recv(1))} byte"
    except TimeoutError:
        return "not got it"


SCENARIOS = (
    Scenario(
        "descriptors-nearly-used-up",
        "Process comes near its limit of descriptors",
        _descriptors_nearly_used_up,
    ),
    Scenario(
        "conntrack-table-nearly-full",
        "The table of tracked connections fills",
        _conntrack_table_nearly_full,
    ),
    Scenario(
        "conntrack-table-overflows",
        "The table of tracked connections is full, and a flood goes on",
        _conntrack_table_overflows,
    ),
    Scenario(
        "snat-ports-used-up",
        "Source NAT has no port left towards one destination",
        _snat_ports_used_up,
    ),
    Scenario(
        "invalid-packets-reset",
        "Packets that tracking calls invalid are answered with resets",
        _invalid_packets_reset,
        ("invalid-packets-reset", "established-connections-reset"),
    ),
    Scenario(
        "conntrack-forgets-idle-connections",
        "The firewall forgets an idle connection",
        _conntrack_forgets_idle_connections,
    ),
)

"""Measures how long the kernel keeps sockets: many at once, each in a namespace with its own sysctls."""

import contextlib
import os
import pickle
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.facts.deadlines import Life
from tcpdoctor.lab.namespace import enter_private_namespace, write_sysctl
from tcpdoctor.lab.packets import go_deaf

POLL_SECONDS = 0.02
FAR_POLL_SECONDS = 0.3
"""/proc/net/tcp costs a millisecond a look, and dozens of children look at the same time."""
LOCALHOST = "127.0.0.1"


class Watched(NamedTuple):
    """A socket whose end is awaited."""

    local_port: int
    remote_port: int
    started: float
    rto: float
    """Its retransmission timeout in seconds."""
    keep: tuple[object, ...]
    """Sockets that stay open meanwhile."""


class Case(NamedTuple):
    """A socket in a state, and how long it is computed to live."""

    label: str
    scene: Callable[[], Watched]
    expected: Callable[[float], Life]
    """From the socket's RTO in seconds."""
    sysctls: Mapping[str, object] = {}
    """Of net.ipv4; each must exist on this kernel (`can_be_made`)."""

    @property
    def can_be_made(self) -> bool:
        return all(os.path.exists(f"/proc/sys/net/ipv4/{name}") for name in self.sysctls)


class Lifetime(NamedTuple):
    """How long it lived at least and at most, however late a busy machine let us look."""

    label: str
    least: float
    """From when it had begun for certain to the last look that saw it."""
    most: float
    """From before it began to the first look that did not."""
    rto: float


def measure(cases: Sequence[Case], patience: float) -> list[Lifetime]:
    """Run every case in a child of its own, all at the same time, each in its own namespace.

    One that outlives `patience` seconds comes back as infinite.
    """
    with contextlib.suppress(OSError):  # before Linux 6.1 a look goes through the table of the machine
        write_sysctl("net.ipv4.tcp_child_ehash_entries", 1024)
    children = [(_start(case, patience), case) for case in cases]
    lifetimes = []
    for (pid, reader), case in children:
        with os.fdopen(reader, "rb") as stream:
            answer = stream.read()
        os.waitpid(pid, 0)
        assert answer, f"{case.label}: no answer"
        (least, most), rto, problem = pickle.loads(answer)  # noqa: S301 - written by our own child
        assert problem is None, f"{case.label}: {problem}"
        lifetimes.append(Lifetime(case.label, least, most, rto))
    return lifetimes


def _start(case: Case, patience: float) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    answer: tuple[tuple[float, float], float, str | None] = ((0.0, 0.0), 0.0, "died")
    try:
        enter_private_namespace()
        for name, value in case.sysctls.items():
            write_sysctl(f"net.ipv4.{name}", value)
        watched = case.scene()
        answer = (_lifetime(watched, case.expected(watched.rto), patience), watched.rto, None)
    except BaseException as problem:  # the parent reports it, whatever it is
        answer = ((0.0, 0.0), 0.0, repr(problem))
    finally:
        os.write(writer, pickle.dumps(answer))
        os._exit(0)


def _lifetime(watched: Watched, expected: Life, patience: float) -> tuple[float, float]:
    """How long it lived at least and at most."""
    seen = looked = begun = time.monotonic()
    assert exists(watched.local_port, watched.remote_port), "the socket never was there"
    while exists(watched.local_port, watched.remote_port):
        seen = looked
        age = seen - watched.started
        if age > patience:
            return float("inf"), float("inf")
        time.sleep(POLL_SECONDS if age > expected.low - 2 * FAR_POLL_SECONDS else FAR_POLL_SECONDS)
        looked = time.monotonic()
    return seen - begun, time.monotonic() - watched.started


def exists(local_port: int, remote_port: int, state: int | None = None) -> bool:
    """Whether the namespace has this IPv4 socket, in this state of the kernel's numbering if one is given."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table:
            fields = line.split()
            if fields[1].endswith(f":{local_port:04X}") and fields[2].endswith(f":{remote_port:04X}"):
                return state is None or int(fields[3], 16) == state
    return False


def wait_for_state(local_port: int, remote_port: int, state: int) -> None:
    deadline = time.monotonic() + 5
    while not exists(local_port, remote_port, state):
        assert time.monotonic() < deadline, f"never in state {state}"
        time.sleep(0.005)


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection: the client's, the server's."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


def rto_of(sock: socket.socket) -> float:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    rto_us: int = struct.unpack_from("I", info, 8)[0]
    return rto_us / 1e6


def watch(sock: socket.socket, *keep: object, started: float | None = None) -> Watched:
    return Watched(
        sock.getsockname()[1],
        sock.getpeername()[1],
        time.monotonic() if started is None else started,
        rto_of(sock),
        keep,
    )


def orphan_fin_wait_1() -> Watched:
    client, server = pair()
    go_deaf(server)
    watched = watch(client, server)
    client.close()
    wait_for_state(watched.local_port, watched.remote_port, 4)
    return watched


def orphan_last_ack() -> Watched:
    client, server = pair()
    server.shutdown(socket.SHUT_WR)
    wait_for_state(client.getsockname()[1], client.getpeername()[1], 8)
    go_deaf(server)
    watched = watch(client, server)
    client.close()
    wait_for_state(watched.local_port, watched.remote_port, 9)
    return watched


def orphan_closing() -> Watched:
    client, server = pair()
    go_deaf(server)
    watched = watch(client, server)
    client.close()
    server.shutdown(socket.SHUT_WR)
    wait_for_state(watched.local_port, watched.remote_port, 11)
    return watched


def owned_fin_wait_1() -> Watched:
    client, server = pair()
    go_deaf(server)
    watched = watch(client, client, server)
    client.shutdown(socket.SHUT_WR)
    return watched


def owned_last_ack() -> Watched:
    client, server = pair()
    server.shutdown(socket.SHUT_WR)
    wait_for_state(client.getsockname()[1], client.getpeername()[1], 8)
    go_deaf(server)
    watched = watch(client, client, server)
    client.shutdown(socket.SHUT_WR)
    wait_for_state(watched.local_port, watched.remote_port, 9)
    return watched


def unacknowledged_data() -> Watched:
    client, server = pair()
    go_deaf(server)
    watched = watch(client, client, server)
    client.send(b"x")
    return watched


def orphan_fin_wait_2() -> Watched:
    client, server = pair()
    watched = watch(client, server)
    client.close()
    wait_for_state(watched.local_port, watched.remote_port, 5)
    return watched


def owned_fin_wait_2() -> Watched:
    client, server = pair()
    watched = watch(client, client, server)
    client.shutdown(socket.SHUT_WR)
    wait_for_state(watched.local_port, watched.remote_port, 5)
    return watched


def owned_close_wait() -> Watched:
    client, server = pair()
    watched = watch(client, client, server)
    server.shutdown(socket.SHUT_WR)
    wait_for_state(watched.local_port, watched.remote_port, 8)
    return watched


def idle() -> Watched:
    client, server = pair()
    go_deaf(server)
    return watch(client, client, server)


def time_wait() -> Watched:
    client, server = pair()
    port, peer = client.getsockname()[1], client.getpeername()[1]
    watched = watch(client)
    client.close()
    wait_for_state(port, peer, 5)
    started = time.monotonic()
    server.close()
    wait_for_state(port, peer, 6)
    return watched._replace(started=started)


def idle_with_keepalive(idle: int, interval: int, probes: int) -> Watched:
    client, server = pair()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
    go_deaf(server)
    return _with_keepalive(client, server)


def keepalive_by_sysctl() -> Watched:
    client, server = pair()
    go_deaf(server)
    return _with_keepalive(client, server)


def _with_keepalive(client: socket.socket, server: socket.socket) -> Watched:
    """SO_KEEPALIVE starts the kernel's timer: ours begins before it, or an end on time would seem early."""
    watched = watch(client, client, server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return watched


def syn_sent(syncnt: int = 0) -> Watched:
    listener = socket.create_server((LOCALHOST, 0))
    go_deaf(listener)
    client = socket.socket()
    client.setblocking(False)
    if syncnt:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, syncnt)
    started = time.monotonic()
    client.connect_ex(listener.getsockname())
    port, peer = client.getsockname()[1], listener.getsockname()[1]
    return Watched(port, peer, started, 1.0, (listener, client))


def syn_recv(syncnt: int = 0) -> Watched:
    """One SYN from a raw socket; what answers it falls on a deaf listener, so that no reset comes back."""
    server = socket.create_server((LOCALHOST, 0))
    if syncnt:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, syncnt)
    silent = socket.create_server(("127.0.0.9", 0))
    go_deaf(silent)
    here, there = silent.getsockname()[1], server.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.bind(("127.0.0.9", 0))
        started = time.monotonic()
        raw.sendto(syn_segment("127.0.0.9", here, LOCALHOST, there), (LOCALHOST, 0))
    wait_for_state(there, here, 3)
    return Watched(there, here, started, 1.0, (server, silent))


def syn_segment(source: str, source_port: int, target: str, target_port: int, data: bytes = b"") -> bytes:
    """A SYN made by hand, with data as TCP Fast Open sends it."""
    header = struct.pack("!HHIIBBHHH", source_port, target_port, 4711, 0, 5 << 4, 2, 65535, 0, 0)
    length = len(header) + len(data)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, length)
    summed = pseudo + header + data + bytes(length % 2)
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[18:] + data


def orphan_with_shut_window() -> Watched:
    """Its peer reads nothing and answers every probe; data is left unsent when it is closed."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = socket.create_connection(listener.getsockname())
        server = listener.accept()[0]
    client.setblocking(False)
    rto = rto_of(client)
    started = time.monotonic()
    with contextlib.suppress(BlockingIOError):
        while True:
            before = time.monotonic()
            client.send(b"x" * 4096)
            started = before
    watched = watch(client, server, started=started)._replace(rto=rto)
    client.close()
    return watched

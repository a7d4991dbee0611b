"""Who began a connection, as the kernel's numbers tell it, in every state and under retransmission."""

import contextlib
import random
import socket
import time
from collections import Counter

from tcpdoctor.facts.connection import began_here
from tcpdoctor.kernel.port_evidence import CONNECTION_STATES, connections
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection
from tcpdoctor.kernel.sockets import read_connections
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import nothing_arrives

PORT, PAIRS = 50_051, 61
MSG_FASTOPEN = 0x20000000
ROUNDS = 7


def ends(keep: contextlib.ExitStack) -> tuple[set[int], list[tuple[socket.socket, socket.socket]]]:
    """Pairs of which a third was opened with data in the SYN, and the clients' own ports."""
    write_sysctl("net.ipv4.tcp_fastopen", 0x207)
    server = keep.enter_context(socket.socket())
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 101)
    server.bind(("127.0.0.1", PORT))
    server.listen(101)
    pairs = []
    for number in range(PAIRS):
        client = keep.enter_context(socket.socket())
        if number % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(("127.0.0.1", 2_000 + number))  # as behind a NAT: no port of the usual range
        if number % 3:
            client.connect(("127.0.0.1", PORT))
        else:
            client.sendto(b"x" * 307, MSG_FASTOPEN, ("127.0.0.1", PORT))
        pairs.append((client, keep.enter_context(server.accept()[0])))
    return {client.getsockname()[1] for client, _ in pairs}, pairs


def rows() -> list[Connection]:
    one = read_connections(CONNECTION_STATES, local_port=PORT)
    other = read_connections(CONNECTION_STATES, remote_port=PORT)
    return connections(one) + connections(other)


def traffic(chance: random.Random, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    """Send, read, shut and close at random, so that queues, windows and states differ."""
    for pair in pairs:
        sender, receiver = chance.choice((pair, pair[::-1]))
        with contextlib.suppress(OSError):
            sender.setblocking(False)
            receiver.setblocking(False)
            match chance.randrange(6):
                case 0 | 1 | 2:
                    sender.send(b"d" * chance.choice((1, 1_009, 200_003)))
                case 3:
                    receiver.recv(chance.choice((1, 10_007)))
                case 4:
                    sender.shutdown(socket.SHUT_WR)
                case 5 if chance.random() < 0.3:
                    sender.close()


def judged(seed: int) -> tuple[Counter[str], list[str]]:
    """How often each answer was given, and the rows that were told wrong."""
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    with contextlib.ExitStack() as keep:
        ports, pairs = ends(keep)
        for turn in range(ROUNDS):
            with nothing_arrives() if turn % 3 == 1 else contextlib.nullcontext():
                traffic(chance, pairs)
                time.sleep(0.3 if turn % 3 == 1 else 0)  # long enough for the first retransmission
                judge(ports, seen, wrong)
            judge(ports, seen, wrong)
    return seen, wrong


def judge(ports: set[int], seen: Counter[str], wrong: list[str]) -> None:
    for row in rows():
        answer = began_here(row)
        kind = "unknown" if isinstance(answer, Missing) else str(answer)
        if isinstance(answer, Missing) and not row.minisocket:
            kind = answer.reason
        seen[f"{row.state.name} {kind}"] += 1
        if isinstance(row.info, tuple) and not isinstance(row.info.bytes, Missing):
            seen["retransmitted"] += row.info.bytes.retransmitted > 0
        if not isinstance(answer, Missing) and answer != (row.local.port in ports):
            wrong.append(repr((answer, row)))


def test_who_began_is_never_told_wrong(in_namespace):
    seen: Counter[str] = Counter()
    for seed in range(3):
        counts, wrong = in_namespace(judged, seed)
        assert wrong == []
        seen += counts
    told = sum(number for key, number in seen.items() if key.endswith((" True", " False")))
    assert told > 3 * ROUNDS * PAIRS
    in_motion = sum(number for key, number in seen.items() if "fit" in key)
    assert in_motion * 20 < told, seen
    for state in ("ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "LAST_ACK"):
        assert seen[f"{state} True"], seen
        assert seen[f"{state} False"], seen
    assert seen["retransmitted"], seen


def waiting_to_be_answered() -> list[object]:
    with socket.socket() as deaf, socket.socket() as filler, socket.socket() as client:
        deaf.bind(("127.0.0.1", PORT))
        deaf.listen(0)
        filler.connect(("127.0.0.1", PORT))
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", PORT))
        found = read_connections((TcpState.SYN_SENT,), remote_port=PORT)
        return [began_here(row) for row in connections(found)]


def test_a_socket_that_still_asks_began_it(in_namespace):
    assert in_namespace(waiting_to_be_answered) == [True]

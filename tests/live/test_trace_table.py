"""What the kernel's events mean: every row of the table, made on the running kernel."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time

from tcpdoctor.answers.ended import EndedConnection
from tcpdoctor.answers.trace import TraceQuestion
from tcpdoctor.diagnosis.endings import Why
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.packets import go_deaf
from tcpdoctor.lab.pairs import wait_for_state
from tests.live.traced import comm, delivered_endings_of, endings_of, needs_events

pytestmark = needs_events
PORT = 7001
HERE = "127.0.0.1"
NO_LINGER = struct.pack("ii", 1, 0)


class Pair:
    """A listener, and a connection to it."""

    def __init__(self, host: str = HERE) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, PORT), family=family)
        self.client = socket.create_connection((host, PORT), timeout=30)
        self.server = self.listener.accept()[0]

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self.client, self.server, self.listener):
            sock.close()


def wait_for(sock: socket.socket, state: TcpState) -> None:
    wait_for_state([sock], state)


def both(work, number: int = 2, **question) -> tuple[EndedConnection, EndedConnection]:
    """The server's end and the client's, of the one connection that `work` makes."""
    ended, _ = delivered_endings_of(work, number, TraceQuestion(**question))
    (server,) = [each for each in ended if each.local.endswith(f":{PORT}")]
    (client,) = [each for each in ended if each.remote.endswith(f":{PORT}")]
    return server, client


def states(ended: EndedConnection) -> list[str]:
    return [each.state for each in ended.states]


def seconds(ended: EndedConnection, state: str) -> float | None:
    (found,) = [each.seconds for each in ended.states if each.state == state]
    return found


def closed_by_the_server():
    with Pair() as pair:
        pair.client.sendall(b"x" * 1_009)
        pair.server.recv(1_009, socket.MSG_WAITALL)
        pair.server.sendall(b"y" * 503)
        pair.client.recv(503, socket.MSG_WAITALL)
        pair.server.close()
        wait_for(pair.client, TcpState.CLOSE_WAIT)


def test_an_active_close_goes_on_in_a_minisocket(in_namespace):
    server, client = in_namespace(both, closed_by_the_server)
    assert (server.closed_first, client.closed_first) == ("here", "peer")
    assert states(server) == ["established", "fin_wait_1", "fin_wait_2"]
    assert seconds(server, "fin_wait_2") is None
    assert states(client) == ["syn_sent", "established", "close_wait", "last_ack"]
    assert server.reason is client.reason is None


def test_bytes_are_counted_without_the_syn_and_the_fin(in_namespace):
    server, client = in_namespace(both, closed_by_the_server)
    assert (server.bytes_in, server.bytes_out) == (1_009, 503) == (client.bytes_out, client.bytes_in)
    assert server.rtt_s is not None
    assert client.retransmissions is not None


def test_it_is_the_same_with_ipv6(in_namespace):
    def work():
        with Pair("::1") as pair:
            pair.client.close()
            wait_for(pair.server, TcpState.CLOSE_WAIT)

    server, client = in_namespace(both, work)
    assert (server.local, client.closed_first, server.closed_first) == (f"[::1]:{PORT}", "here", "peer")


def half_closed_for_a_while():
    with Pair() as pair:
        pair.server.shutdown(socket.SHUT_WR)
        wait_for(pair.server, TcpState.FIN_WAIT_2)
        time.sleep(0.1)
        pair.client.close()
        assert pair.server.recv(1) == b""


def test_a_held_fin_wait_2_lasts_until_the_peers_fin(in_namespace):
    server, _ = in_namespace(both, half_closed_for_a_while)
    lasted = seconds(server, "fin_wait_2")
    assert lasted is not None
    assert lasted >= 0.1


def half_closed_for_a_moment():
    """The peer's FIN comes at once, and the program reads it and closes."""
    with Pair() as pair:
        pair.client.sendall(b"x" * 101)
        pair.server.recv(101, socket.MSG_WAITALL)
        pair.server.shutdown(socket.SHUT_WR)
        pair.client.recv(1)
        pair.client.close()
        assert pair.server.recv(1) == b""


def test_a_fin_that_was_read_at_once_is_no_byte(in_namespace):
    server, client = in_namespace(both, half_closed_for_a_moment)
    assert (server.closed_first, server.bytes_in, client.bytes_out) == ("here", 101, 101)
    assert seconds(server, "fin_wait_2") is not None


def closed_in_fin_wait_2():
    with Pair() as pair:
        pair.server.shutdown(socket.SHUT_WR)
        wait_for(pair.server, TcpState.FIN_WAIT_2)
        pair.server.close()


def test_a_close_in_fin_wait_2_is_no_second_state(in_namespace):
    server, client = in_namespace(both, closed_in_fin_wait_2)
    assert (server.closed_first, client.closed_first) == ("here", "peer")
    assert states(server) == ["established", "fin_wait_1", "fin_wait_2"]
    assert seconds(server, "fin_wait_2") is None


def reset_by_linger():
    with Pair() as pair:
        pair.client.sendall(b"abc")
        pair.server.recv(3)
        pair.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        pair.server.close()


def test_so_linger_0_is_a_reset_from_here(in_namespace):
    server, client = in_namespace(both, reset_by_linger)
    assert (server.closed_first, server.reason) == ("reset_here", Why.LINGER.value)
    assert (client.closed_first, client.reason) == ("reset_by_peer", Why.PEER_RESET.value)


def test_numbers_that_were_cleared_are_not_zero(in_namespace):
    server, client = in_namespace(both, reset_by_linger)
    assert (server.bytes_in, server.bytes_out, server.rtt_s, server.idle_at_close_s) == (None,) * 4
    assert client.bytes_out == 3


def closed_with_unread_data():
    with Pair() as pair:
        pair.client.sendall(b"x" * 37)
        assert pair.server.recv(37, socket.MSG_PEEK | socket.MSG_WAITALL)
        pair.server.close()


def test_unread_data_is_a_reset_from_here(in_namespace):
    server, client = in_namespace(both, closed_with_unread_data)
    assert (server.closed_first, server.reason) == ("reset_here", Why.UNREAD.value)
    assert client.closed_first == "reset_by_peer"


def listener_closed_with_a_queue():
    with socket.create_server((HERE, PORT)) as listener:
        client = socket.create_connection((HERE, PORT), timeout=30)
        wait_for_state([client], TcpState.ESTABLISHED)
        time.sleep(0.01)  # the last ACK of the handshake makes the child that waits in the queue
        listener.close()
        client.close()


def test_a_listener_that_closes_resets_its_queue(in_namespace):
    server, client = in_namespace(both, listener_closed_with_a_queue)
    assert (server.closed_first, server.reason) == ("reset_here", Why.QUEUE.value)
    assert client.closed_first == "reset_by_peer"


def test_a_listener_is_no_connection(in_namespace):
    def work():
        socket.create_server((HERE, PORT)).close()
        with Pair():
            pass

    ended, summary = in_namespace(delivered_endings_of, work, 2)
    assert len(ended) == summary.connections == 2


def written_after_the_close():
    with Pair() as pair:
        pair.server.close()
        wait_for(pair.client, TcpState.CLOSE_WAIT)
        pair.client.sendall(b"late")
        wait_for(pair.client, TcpState.CLOSE)


def test_what_the_peer_writes_after_our_close_is_answered_with_a_reset(in_namespace):
    server, client = in_namespace(both, written_after_the_close)
    assert server.closed_first == "here"
    assert server.reason in (Why.LATE_DATA.value, None)  # a minisocket answered: told by Linux 6.10 and later
    assert (client.closed_first, client.reason) == ("peer", Why.RESET_AFTER_FIN.value)


def refused():
    with socket.socket() as client, contextlib.suppress(ConnectionRefusedError):
        client.connect((HERE, PORT))


def test_a_refused_connection_was_never_established(in_namespace):
    (ended,), summary = in_namespace(delivered_endings_of, refused, 1)
    assert (ended.closed_first, ended.reason) == ("never_established", Why.REFUSED.value)
    assert ended.remote == f"{HERE}:{PORT}"
    assert not ended.local.endswith(":0")
    (peer,) = summary.by_peer
    assert (peer.address, peer.port, peer.failures) == (HERE, PORT, {Why.REFUSED.value: 1})


def tried_again_on_one_socket():
    with socket.socket() as client:
        for _ in range(3):
            with contextlib.suppress(ConnectionRefusedError):
                client.connect((HERE, PORT))


def test_each_attempt_of_one_socket_counts(in_namespace):
    ended, summary = in_namespace(delivered_endings_of, tried_again_on_one_socket, 3)
    assert [each.closed_first for each in ended] == ["never_established"] * 3
    assert summary.never_established == 3


def given_up():
    with socket.create_server((HERE, PORT)) as listener, socket.socket() as client:
        go_deaf(listener)
        client.setblocking(False)
        client.connect_ex((HERE, PORT))
        wait_for(client, TcpState.SYN_SENT)
        client.close()


def test_a_program_that_gives_up_is_not_an_unanswered_syn(in_namespace):
    (ended,), _ = in_namespace(delivered_endings_of, given_up, 1)
    assert (ended.closed_first, ended.reason) == ("never_established", Why.GIVEN_UP.value)


def unanswered():
    with socket.create_server((HERE, PORT)) as listener, socket.socket() as client:
        go_deaf(listener)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        with contextlib.suppress(TimeoutError):
            client.connect((HERE, PORT))


def test_a_peer_that_never_answers_is_told(in_namespace):
    (ended,), summary = in_namespace(delivered_endings_of, unanswered, 1)
    assert (ended.closed_first, ended.reason) == ("never_established", Why.NO_ANSWER.value)
    assert ended.retransmissions >= 1
    assert summary.by_peer[0].failures == {Why.NO_ANSWER.value: 1}


def timed_out():
    with Pair() as pair:
        go_deaf(pair.server)
        pair.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
        pair.client.sendall(b"nobody hears it")
        wait_for(pair.client, TcpState.CLOSE)
        pair.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)


def test_a_user_timeout_is_nobodys_close(in_namespace):
    _, client = in_namespace(both, timed_out)
    assert (client.closed_first, client.reason) == (None, Why.TIMED_OUT.value)


def accepted_and_ended_by_the_peer():
    with Pair() as pair:
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        pair.client.close()
        wait_for(pair.server, TcpState.CLOSE)


def test_an_accepted_connection_that_is_reset_is_its_listeners(in_namespace):
    server, client = in_namespace(both, accepted_and_ended_by_the_peer)
    assert server.closed_first == "reset_by_peer"
    assert server.pid == client.pid is not None
    assert server.name == client.name


ELSEWHERE = f"""
import socket, sys
listener = socket.create_server(("0.0.0.0", {PORT}))
print("listens", flush=True)
sys.stdin.read()
"""


def accepted_while_another_namespace_listens() -> tuple[EndedConnection, EndedConnection]:
    """The two ends; the other program listens until both are told."""
    with contextlib.ExitStack() as others:

        def work():
            with Pair() as pair:
                pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                program = ("unshare", "-n", sys.executable, "-c", ELSEWHERE)
                other = others.enter_context(
                    subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                )
                others.callback(other.stdin.close)
                assert other.stdout.readline() == b"listens\n"
                pair.client.close()
                wait_for(pair.server, TcpState.CLOSE)

        return both(work)


def test_who_listens_at_the_port_in_another_namespace_is_nobody_here(in_namespace):
    server, client = in_namespace(accepted_while_another_namespace_listens)
    assert server.closed_first == "reset_by_peer"
    assert server.pid == client.pid is not None


def opened_before(killed: bool):
    """The other end is a program that holds its connection since before the trace, and is ended."""
    listener = socket.create_server((HERE, PORT))
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        listener.close()
        with comm(b"evil\x1b[31m\nname"):
            client = socket.create_connection((HERE, PORT))
            theirs.send(b"!")
            signal.pause()
        os._exit(len(str(client)))
    server = listener.accept()[0]
    ours.recv(1)

    def work():
        if killed:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            wait_for(server, TcpState.CLOSE_WAIT)
        server.close()
        listener.close()

    ended = both(work, 2 if killed else 1) if killed else endings_of(work, 1)[0]
    if not killed:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return ended, pid


def test_a_process_that_was_killed_has_its_name_and_no_control_characters(in_namespace):
    (server, client), pid = in_namespace(opened_before, True)
    assert (client.closed_first, client.pid) == ("here", pid)
    assert client.name == "evil[31m name"
    assert server.closed_first == "peer"


def test_how_long_a_state_lasted_that_began_before_is_not_known(in_namespace):
    (server, client), _ = in_namespace(opened_before, True)
    assert (states(client)[0], client.states[0].seconds) == ("established", None)
    assert (states(server)[0], server.states[0].seconds) == ("established", None)


def short_program():
    """A program that begins, connects and ends faster than anybody could ask for its name."""
    listener = socket.create_server((HERE, PORT))
    pid = os.fork()
    if pid == 0:
        with open("/proc/thread-self/comm", "wb", buffering=0) as name:
            name.write(b"mayfly")
        socket.create_connection((HERE, PORT)).close()
        os._exit(0)
    os.waitpid(pid, 0)
    server = listener.accept()[0]
    server.recv(1)
    server.close()
    listener.close()
    return pid


def test_a_program_that_is_gone_when_it_is_told_has_its_name(in_namespace):
    _, client = in_namespace(both, short_program)
    assert client.name == "mayfly"


def idle_before_the_close():
    with Pair() as pair:
        pair.client.sendall(b"?")
        pair.server.recv(1)
        pair.server.sendall(b"!")
        pair.client.recv(1)
        time.sleep(0.5)
        pair.server.close()
        wait_for(pair.client, TcpState.CLOSE_WAIT)
        time.sleep(0.3)


def test_idle_time_ends_with_the_first_close(in_namespace):
    server, client = in_namespace(both, idle_before_the_close)
    for each in (server, client):
        assert each.idle_at_close_s is not None
        assert each.idle_at_close_s >= 0.4
    assert client.idle_at_close_s < 0.5 + seconds(client, "close_wait")

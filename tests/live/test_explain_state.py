"""`explain --state` counts the sockets that are there, and says whose they are."""

import os
import pickle
import socket

import pytest

from tcpdoctor.answers.knowledge import look_at_state
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import go_deaf
from tcpdoctor.report.document import as_json
from tcpdoctor.report.knowledge_text import state_page
from tcpdoctor.report.page import page_text
from tcpdoctor.report.style import PLAIN
from tests.live import lifetimes

OWNED, ORPHANED = 23, 7


def half_closed() -> list[socket.socket]:
    """OWNED sockets in FIN_WAIT_2 that we hold, ORPHANED that nobody does, and their peers in CLOSE_WAIT."""
    held = []
    for number in range(OWNED + ORPHANED):
        client, server = lifetimes.pair()
        port, peer = client.getsockname()[1], client.getpeername()[1]
        client.shutdown(socket.SHUT_WR)
        lifetimes.wait_for_state(port, peer, TcpState.FIN_WAIT_2)
        held.append(server)
        if number < OWNED:
            held.append(client)
        else:
            client.close()
    return held


def look_at_half_closed(*states: str) -> list[tuple[object, str, dict[str, object]]]:
    keep = half_closed()
    answers = [look_at_state(state) for state in states]
    assert keep
    return [
        (answer.sockets, " ".join(page_text(state_page(answer, PLAIN), PLAIN).split()), as_json(answer))
        for answer in answers
    ]


def test_owners_and_orphans_are_told_apart(in_namespace):
    ((number, text, said),) = in_namespace(look_at_half_closed, "fin-wait-2")
    assert number == OWNED + ORPHANED
    assert (said["held"], said["not_held"], said["owner_unknown"]) == (OWNED, ORPHANED, 0)
    assert [process["sockets"] for process in said["processes"]] == [OWNED]
    assert f"{OWNED} held by 1 process: " in text
    assert f"{ORPHANED} orphans" in text


def test_the_peers_are_in_close_wait_and_held(in_namespace):
    _, (number, _, said) = in_namespace(look_at_half_closed, "fin-wait-2", "close-wait")
    assert number == OWNED + ORPHANED
    assert said["held"] == OWNED + ORPHANED


def as_nobody() -> tuple[object, str, dict[str, object]]:
    """The sockets belong to root's process, and an ordinary user in another process looks."""
    reader, writer = os.pipe()
    keep = half_closed()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 3)
        os.closerange(4, 4096)  # the sockets as well
        os.setresuid(65534, 65534, 65534)
        answer = look_at_state("FIN_WAIT_2")
        text = " ".join(page_text(state_page(answer, PLAIN), PLAIN).split())
        os.write(3, pickle.dumps((answer.sockets, text, as_json(answer))))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = pickle.loads(stream.read())  # noqa: S301 - written by our own child
    os.waitpid(child, 0)
    assert keep
    return answer


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_is_told_that_owners_are_hidden_and_why(in_namespace, other_users):
    number, text, said = in_namespace(as_nobody)
    assert number == OWNED + ORPHANED
    assert (said["held"], said["not_held"], said["owner_unknown"]) == (0, ORPHANED, OWNED)
    assert f"{OWNED} of unknown owner: " in text
    assert "root" in said["missing"]["owner_unknown"]


def listeners_and_clients() -> dict[str, dict[str, object]]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    clients = [socket.create_connection(listeners[0].getsockname()) for _ in range(3)]  # never accepted
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    deaf = socket.create_server(("127.0.0.1", 0))
    go_deaf(deaf)
    waiting = socket.socket()
    waiting.setblocking(False)
    waiting.connect_ex(deaf.getsockname())
    assert clients
    return {state: as_json(look_at_state(state)) for state in ("listen", "estab", "bound", "syn-sent")}


def test_listeners_unaccepted_bound_and_connecting_sockets_are_counted(in_namespace):
    said = in_namespace(listeners_and_clients)
    assert (said["listen"]["sockets"], said["listen"]["held"]) == (6, 6)
    assert (said["estab"]["sockets"], said["estab"]["held"], said["estab"]["not_held"]) == (6, 3, 3)
    assert (said["syn-sent"]["sockets"], said["syn-sent"]["held"]) == (1, 1)
    if said["bound"]["sockets"] is not None:  # before Linux 6.8 nobody can know
        assert (said["bound"]["sockets"], said["bound"]["held"]) == (1, 1)


def left_behind() -> tuple[int, dict[str, object]]:
    """11 connections that a server closed first, so that TIME_WAIT is at its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for _ in range(11):
            client = socket.create_connection(listener.getsockname())
            server = listener.accept()[0]
            ends = server.getsockname()[1], server.getpeername()[1]
            server.close()
            lifetimes.wait_for_state(*ends, TcpState.FIN_WAIT_2)
            client.close()
            lifetimes.wait_for_state(*ends, TcpState.TIME_WAIT)
        return port, as_json(look_at_state("TIME-WAIT"))


def test_time_wait_has_no_owner_but_a_port(in_namespace):
    port, said = in_namespace(left_behind)
    assert (said["sockets"], said["held"], said["not_held"]) == (11, 0, 11)
    assert said["local_ports"] == [{"port": port, "sockets": 11}]
    assert said["processes"] == []


def test_closed_sockets_cannot_be_counted_and_that_is_said(in_namespace):
    answer = in_namespace(look_at_state, "CLOSED")
    assert isinstance(answer.sockets, Missing)
    assert as_json(answer)["sockets"] is None


def deadline_here(state: str, case: str, **sysctls: int) -> tuple[float, float]:
    for name, value in sysctls.items():
        write_sysctl(f"net.ipv4.{name}", value)
    said = as_json(look_at_state(state))
    return next((item["low_s"], item["high_s"]) for item in said["deadlines"] if item["case"] == case)


def test_the_deadline_is_that_of_the_sysctls_of_this_namespace(in_namespace):
    low, high = in_namespace(deadline_here, "fin_wait_2", "orphan", tcp_fin_timeout=65)
    assert low == 10.0
    assert high < 11
    low, high = in_namespace(deadline_here, "last_ack", "orphan", tcp_orphan_retries=1)
    assert 1 < low < high < 2

"""Facts of real sockets, with `ss` and `nstat` as the second opinion."""

import os
import socket
import subprocess
from contextlib import ExitStack

from tcpdoctor.facts.host import subjects_of
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.value import Growth, Range
from tcpdoctor.facts.vocabulary import fact_names
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.closing import (
    close_wait,
    close_wait_not_accepted,
    fin_wait_1_stuck,
    fin_wait_2_orphans,
    time_wait,
)
from tcpdoctor.lab.connecting import connections, unanswered
from tcpdoctor.lab.listening import accept_queue, accept_queue_overflowing
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import connect_pair, half_close, listen, wait_for_state, wait_until

from .checks import lines_of


def subjects(samples: Samples, scope: Scope) -> list[Subject]:
    found = subjects_of(samples, scope)
    assert not isinstance(found, Missing), found
    return list(found)


def host(samples: Samples):
    return subjects(samples, Scope.HOST)[0].facts


# processes


def what_this_process_holds():
    with ExitStack() as stack:
        stack.enter_context(close_wait(23, read_end=7))
        server = listen(stack)
        held = [connect_pair(stack, server)[0] for _ in range(13)]
        half_close(held)
        for _ in range(5):
            client, accepted = connect_pair(stack, server)
            client.sendall(b"never read")
            client.shutdown(socket.SHUT_WR)
            wait_for_state([accepted], TcpState.CLOSE_WAIT)
            wait_for_state([client], TcpState.FIN_WAIT_2)
        for subject in subjects(take_samples(0), Scope.PROCESS):
            if subject.identity["pid"] == os.getpid():
                counted = lines_of(f"ss -Htnp state close-wait | grep 'pid={os.getpid()},'")
                names = [
                    name for name in fact_names(Scope.PROCESS) if name.startswith(("close_wait", "fin_"))
                ]
                used = len(os.listdir("/proc/self/fd")) - 1  # without the one that lists them
                names += ["process.name", "process.descriptors.used"]
                return {name: subject.facts[name] for name in names}, counted, used
    raise AssertionError("this process was not among the holders")


def test_a_process_s_sockets_are_counted_by_what_is_left_to_read(in_namespace):
    found, counted, used = in_namespace(what_this_process_holds)
    # the pairs' other ends are ours as well: 23 + 5 closed peers, of which 5 were only shut down
    assert found["close_wait.owned"] == counted
    assert found["close_wait.eof_read"] == 7
    assert found["close_wait.unread_data"] == 5
    assert found["close_wait.owned"] == 7 + found["close_wait.eof_unread"] + 5
    assert found["fin_wait_2.owned"] == 13 + 5
    assert len(found["close_wait.owned_ages"].at_least) == counted
    assert found["close_wait.descriptors"].startswith("fd ")
    assert "127.0.0.1" in found["close_wait.peers"]
    assert found["process.descriptors.used"] == used
    assert found["process.name"]


def seen_by_another_user():
    """The same sockets, looked at by a child without privilege."""
    with close_wait(23):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.closerange(3, writer)
            os.closerange(writer + 1, 1_024)
            os.setgid(65534)
            os.setuid(65534)
            *_, last = subjects(take_samples(0), Scope.PROCESS)
            value = last.facts["close_wait.owned"]
            assert isinstance(value, Range)
            text = f"{last.hidden} {value.low} {value.high} {value.reason}"
            os.write(writer, text.encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            answer = stream.read()
        os.waitpid(child, 0)
        return answer


def test_sockets_of_others_are_hidden_from_a_user_and_never_zero(in_namespace):
    hidden, low, high, *reason = in_namespace(seen_by_another_user).split()
    assert (hidden, low, high) == ("True", "0", "23")
    assert "run as root" in " ".join(reason)
    assert "CAP_" in " ".join(reason)


# host


def closing_sockets():
    with ExitStack() as stack:
        stack.enter_context(fin_wait_2_orphans(23))
        stack.enter_context(fin_wait_1_stuck(7, unsent=1000))
        stack.enter_context(time_wait(13))
        samples = take_samples(1.0)
        seen = host(samples)
        return (
            {name: seen[name] for name in seen if name.startswith(("fin_wait", "last_ack", "sockets."))},
            {name: seen[name] for name in ("sockstat.TCP.tw", "sockstat.TCP.orphan")},
        )


def test_orphans_and_stuck_sockets_are_told_apart(in_namespace):
    found, sockstat = in_namespace(closing_sockets)
    assert found["fin_wait_2.orphaned"] == 23
    assert found["fin_wait_2.orphan_peers"] == "127.0.0.1 (23)" or ":" in found["fin_wait_2.orphan_peers"]
    assert found["fin_wait_1.lasting"] == 7
    assert found["fin_wait_1.lasting_send_queue"] >= 7000
    assert found["last_ack.lasting"] == 0
    assert found["sockets.fin_wait_2"] == 23
    assert found["sockets.time_wait"] == 13
    assert sockstat["sockstat.TCP.tw"] == 23 + 13, "orphans in FIN_WAIT_2 are minisockets as well"


def overflows():
    with accept_queue_overflowing(23, backlog=4) as server:
        samples = take_samples(1.5)
        (listener,) = [
            subject
            for subject in subjects(samples, Scope.LISTENER)
            if subject.identity["port"] == server.getsockname()[1]
        ]
        nstat = subprocess.run(
            ["nstat", "-asz", "TcpExtListenOverflows"],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        queue = {name: listener.facts[name] for name in fact_names(Scope.LISTENER)[:11]}
        counters = samples.after.counters
        assert not isinstance(counters, Missing)
        return (
            queue,
            host(samples)["TcpExt.ListenOverflows"],
            counters["TcpExt.ListenOverflows"],
            nstat.stdout,
        )


def test_a_full_queue_its_drops_and_the_kernel_s_counter_agree(in_namespace):
    queue, growth, counted, nstat = in_namespace(overflows)
    assert queue["accept_queue.limit"] == 4
    assert queue["accept_queue.length"] == queue["accept_queue.length_before"] == 5
    assert queue["accept_queue.least"] == 5
    assert isinstance(growth, Growth)
    assert growth.delta > 0
    assert queue["accept_queue.drops"].delta >= growth.delta > 0, "it is the only listener that drops"
    assert int(nstat.split("TcpExtListenOverflows")[1].split()[0]) >= counted


# listeners


def waiting_in_twins():
    """Two listeners on one port by SO_REUSEPORT; one accepts all it gets, the other nothing."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM)) for _ in range(2)
        )
        for server in (first, second):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("::", 0))
        second.bind(first.getsockname())
        for server in (first, second):
            server.listen(64)
            server.setblocking(False)
        for _ in range(46):
            client = socket.create_connection(("127.0.0.1", first.getsockname()[1]))
            client.close()
        accepted = 0
        while True:
            try:
                connection, _ = first.accept()
            except BlockingIOError:
                break
            connection.close()
            accepted += 1
        left = 46 - accepted
        wait_until(lambda: lines_of("ss -Htn state close-wait") == left, f"{left} sockets in CLOSE_WAIT")
        found = subjects(take_samples(0), Scope.LISTENER)
        return left, [
            (subject.facts["accept_queue.length"], subject.facts["close_wait.not_accepted"])
            for subject in found
        ]


def test_connections_of_twin_listeners_are_attributed_by_their_queues(in_namespace):
    left, found = in_namespace(waiting_in_twins)
    assert 0 < left < 46
    queues = dict(found)
    assert queues == {left: left, 0: 0}, "no twin has more than its own queue holds"


def waiting_in_one():
    with close_wait_not_accepted(23) as server, accept_queue(3, backlog=8) as other:
        found = {
            subject.identity["port"]: subject.facts
            for subject in subjects(take_samples(0, every_listener=True), Scope.LISTENER)
        }
        names = ("close_wait.not_accepted", "accept_queue.length", "listener.owner")
        mine, others = (found[one.getsockname()[1]] for one in (server, other))
        return [mine[name] for name in names], [others[name] for name in names], os.getpid()


def test_connections_that_nobody_accepted_belong_to_their_listener(in_namespace):
    mine, others, pid = in_namespace(waiting_in_one)
    assert mine[:2] == [23, 23]
    assert others[:2] == [0, 3]
    assert str(pid) in mine[2]


# destinations and ports


def towards_one():
    write_sysctl("net.ipv4.ip_local_port_range", "40000 40199")
    write_sysctl("net.ipv4.ip_local_reserved_ports", "40000-40099,50000")
    with connections(23) as server, unanswered(7) as deaf:
        samples = take_samples(1.0)
        ports = [one.getsockname()[1] for one in (server, deaf)]
        found = {subject.identity["port"]: subject.facts for subject in subjects(samples, Scope.DESTINATION)}
        names = (
            "ports.used",
            "ports.usable",
            "syn_sent.lasting",
            "syn_sent.oldest_age",
            "destination.owners",
        )
        values = [[found[port][name] for name in names] for port in ports]
        counted = [lines_of(f"ss -Htn dst 127.0.0.1 dport = :{port}") for port in ports]
        local = {subject.label: subject.facts for subject in subjects(samples, Scope.PORT)}
        return values, counted, local[str(ports[0])]["port.established"], os.getpid()


def test_ports_towards_a_destination_and_attempts_without_answer(in_namespace):
    (answered, silent), counted, accepted, pid = in_namespace(towards_one)
    assert counted == [23, 7]
    assert answered[:3] == [23, 100, 0]
    assert silent[:3] == [7, 100, 7]
    assert silent[3].low >= 1.0
    assert f"({pid}): 7" in silent[4]
    assert accepted == 23

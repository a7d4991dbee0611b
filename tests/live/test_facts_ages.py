"""Ages of sockets against a clock of our own: the truth always lies within the bounds."""

import socket
import time
from contextlib import ExitStack

from tcpdoctor.facts.connection import Earlier, age_of
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.connecting import unanswered
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import connect_pair, listen, wait_for_state, wait_until

TICK = 0.01
"""The kernel counts these times in clock ticks."""

CLOSE_WAIT, FIN_WAIT_2, SYN_SENT = TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2, TcpState.SYN_SENT


class Stage:
    """Sockets by name, and when each entered its state."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.server = stack, listen(stack)
        self.ports: dict[str, int] = {}
        self.since: dict[str, tuple[float, float]] = {}
        """Between which moments of our clock the state began."""

    def half_close(self, name: str) -> tuple[socket.socket, socket.socket]:
        """A pair of which the client has shut down; both ends are watched."""
        client, accepted = connect_pair(self.stack, self.server)
        client.sendall(b"question")
        self.ports[name] = client.getsockname()[1]
        return client, accepted

    def shut(self, name: str, client: socket.socket, accepted: socket.socket) -> None:
        before = time.monotonic()
        client.shutdown(socket.SHUT_WR)
        wait_for_state([accepted], CLOSE_WAIT)
        wait_for_state([client], FIN_WAIT_2)
        self.since[name] = before, time.monotonic()

    def age(self, name: str) -> tuple[float, float]:
        """Seconds since the state began: least and most."""
        first, last = self.since[name]
        return time.monotonic() - last, time.monotonic() - first


def bounds_and_truth(seconds: float):
    """What age_of says of each socket after `seconds`, beside the truth."""
    write_sysctl("net.ipv4.tcp_syn_linear_timeouts", 1)
    with ExitStack() as stack:
        stage = Stage(stack)
        pairs = {name: stage.half_close(name) for name in ("idle", "server_sends", "keepalive")}
        time.sleep(0.7)  # so that the last data is older than the FIN
        for name, (client, accepted) in pairs.items():
            stage.shut(name, client, accepted)
        pairs["keepalive"][1].setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        pairs["keepalive"][1].setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        pairs["keepalive"][1].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        before = time.monotonic()
        deaf = stack.enter_context(unanswered(1))
        stage.since["attempt"] = before, time.monotonic()
        end = time.monotonic() + seconds

        def keep_sending() -> bool:
            pairs["server_sends"][1].send(b"still here")
            time.sleep(0.05)
            return time.monotonic() > end

        wait_until(keep_sending, "the end of the wait", seconds + 5)
        samples = take_samples(0, owners=False, census=False)
        truth = {name: stage.age(name) for name in stage.since}
        assert not isinstance(samples.after.detail, Missing)
        earlier = Earlier(samples)
        names = {port: name for name, port in stage.ports.items()}
        found = {}
        for state in (CLOSE_WAIT, FIN_WAIT_2):
            for row in samples.after.detail[state].connections:
                name = names[row.remote.port if state is CLOSE_WAIT else row.local.port]
                found[name, state] = age_of(row, earlier)
        (attempt,) = samples.after.detail[SYN_SENT].connections
        assert attempt.remote.port == deaf.getsockname()[1]
        found["attempt", SYN_SENT] = age_of(attempt, earlier)
        return {key: (tuple(age)[:2], truth[key[0]]) for key, age in found.items()}


def test_the_true_age_lies_within_the_bounds_and_they_are_tight_where_nothing_disturbs(in_namespace):
    ages = in_namespace(bounds_and_truth, 4.3)
    assert len(ages) == 7
    for key, ((low, high), (least, most)) in ages.items():
        assert low <= most + TICK, (key, low, most)
        assert high >= least - 0.1, (key, high, least)
    (low, high), (least, most) = ages["idle", CLOSE_WAIT]
    assert low > least - 0.1, "nothing came after the FIN"
    assert high > most + 0.5, "the last data was older than the FIN"
    (low, high), (least, most) = ages["idle", FIN_WAIT_2]
    assert low > least - 0.1
    (low, high), (least, most) = ages["server_sends", FIN_WAIT_2]
    assert low < 0.5, "the peer's data carries ACKs"
    assert high < most + 1.5, "what the peer sends does not make it look younger or older"
    (low, high), _ = ages["keepalive", CLOSE_WAIT]
    assert low < 1.5, "answers to our own keepalive probes look like the FIN"
    (low, high), (least, most) = ages["attempt", SYN_SENT]
    assert low > least - 0.3
    assert high < most + 2.5


def seen_twice():
    """A chatty CLOSE_WAIT, looked at twice by hand."""
    with ExitStack() as stack:
        stage = Stage(stack)
        client, accepted = stage.half_close("chatty")
        stage.shut("chatty", client, accepted)
        first = take_samples(0, owners=False, census=False).after
        end = time.monotonic() + 1.3

        def keep_sending() -> bool:
            accepted.send(b"still here")
            time.sleep(0.02)
            return time.monotonic() > end

        wait_until(keep_sending, "the end of the wait")
        samples = take_samples(0, owners=False, census=False)._replace(before=first)
        truth = stage.age("chatty")
        assert not isinstance(samples.after.detail, Missing)
        (row,) = samples.after.detail[CLOSE_WAIT].connections
        return tuple(age_of(row, Earlier(samples)))[:2], truth


def test_a_socket_that_was_there_before_is_at_least_as_old_as_the_time_between(in_namespace):
    (low, high), (least, most) = in_namespace(seen_twice)
    assert 1.0 < low <= most + TICK
    assert high >= least - 0.05

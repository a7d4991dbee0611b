"""Every deadline that we print, against the kernel that keeps it, with sysctls that make the wait short."""

import functools
import math
import socket
import time

import pytest

from tcpdoctor.facts.deadlines import (
    NEVER,
    Life,
    fin_wait_2_orphan_life,
    keepalive_life,
    orphan_retry_life,
    orphan_time_left,
    owned_retry_life,
    syn_recv_life,
    syn_sent_life,
    zero_window_orphan_life,
)
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import TcpInfo
from tcpdoctor.kernel.sockets import read_connections
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import write_sysctl
from tests.live import lifetimes
from tests.live.lifetimes import Case, measure

EARLY_SECONDS = 0.03
"""The moment between our clock and the kernel's timer."""
LATE_SECONDS = 0.3
"""The kernel's own lateness; that of our looks is known."""

TICK = time.clock_getres(6)  # CLOCK_MONOTONIC_COARSE


def with_rto_max(sysctls: dict[str, int], rto_max_ms: int) -> dict[str, int]:
    """Kernels before 6.15 lack tcp_rto_max_ms; its default need not be written."""
    return sysctls if rto_max_ms == 120_000 else sysctls | {"tcp_rto_max_ms": rto_max_ms}


def orphan(retries: int, rto_max_ms: int = 120_000, scene=lifetimes.orphan_fin_wait_1) -> Case:
    return Case(
        f"{scene.__name__} retries={retries} rto_max_ms={rto_max_ms}",
        scene,
        lambda rto: orphan_retry_life(retries, rto, rto_max_ms / 1000, tick=TICK),
        with_rto_max({"tcp_orphan_retries": retries}, rto_max_ms),
    )


def owned(scene, retries2: int, rto_max_ms: int = 120_000) -> Case:
    return Case(
        f"{scene.__name__} retries2={retries2} rto_max_ms={rto_max_ms}",
        scene,
        lambda rto: owned_retry_life(retries2, rto, rto_max_ms / 1000, tick=TICK),
        # The other retry sysctl must not matter.
        with_rto_max({"tcp_retries2": retries2, "tcp_orphan_retries": 1}, rto_max_ms),
    )


def fin_wait_2(fin_timeout: int) -> Case:
    return Case(
        f"FIN_WAIT_2 orphan fin_timeout={fin_timeout}",
        lifetimes.orphan_fin_wait_2,
        lambda rto: fin_wait_2_orphan_life(fin_timeout, rto, TICK),
        {"tcp_fin_timeout": fin_timeout},
    )


def syn_sent(retries: int, linear: int, **options) -> Case:
    return Case(
        f"SYN_SENT syn_retries={retries} linear={linear} {options or ''}",
        functools.partial(lifetimes.syn_sent, **options),
        lambda _: syn_sent_life(options.get("syncnt", retries), linear, tick=TICK),
        {"tcp_syn_retries": retries, "tcp_syn_linear_timeouts": linear},
    )


def syn_recv(retries: int, rto_max_ms: int = 120_000, syncnt: int = 0) -> Case:
    return Case(
        f"SYN_RECV synack_retries={retries} rto_max_ms={rto_max_ms} syncnt={syncnt}",
        functools.partial(lifetimes.syn_recv, syncnt),
        lambda _: syn_recv_life(syncnt or retries, TICK),
        with_rto_max({"tcp_synack_retries": retries}, rto_max_ms),
    )


def shut_window(retries: int, retries2: int, rto_max_ms: int) -> Case:
    return Case(
        f"orphan with a shut window orphan_retries={retries} retries2={retries2} rto_max_ms={rto_max_ms}",
        lifetimes.orphan_with_shut_window,
        lambda rto: zero_window_orphan_life(retries, retries2, rto, rto_max_ms / 1000, tick=TICK),
        with_rto_max({"tcp_orphan_retries": retries, "tcp_retries2": retries2}, rto_max_ms),
    )


def keepalive(*times: int) -> Case:
    return Case(
        f"keepalive {times}",
        functools.partial(lifetimes.idle_with_keepalive, *times),
        lambda _: keepalive_life(*times, tick=TICK),
    )


def keepalive_by_sysctl(time: int, interval: int, probes: int) -> Case:
    return Case(
        f"keepalive by sysctl {time} {interval} {probes}",
        lifetimes.keepalive_by_sysctl,
        lambda _: keepalive_life(time, interval, probes, tick=TICK),
        {"tcp_keepalive_time": time, "tcp_keepalive_intvl": interval, "tcp_keepalive_probes": probes},
    )


CASES = [
    *[orphan(retries) for retries in (1, 2, 3, 4, 5, 6)],
    *[orphan(retries, scene=lifetimes.orphan_last_ack) for retries in (1, 2, 3, 5)],
    orphan(2, scene=lifetimes.orphan_closing),
    orphan(0, 1_000),
    orphan(0, 2_000),
    orphan(8, 2_000),
    orphan(3, 1_000, scene=lifetimes.orphan_last_ack),
    owned(lifetimes.owned_fin_wait_1, 3),
    owned(lifetimes.owned_last_ack, 2),
    owned(lifetimes.unacknowledged_data, 1),
    owned(lifetimes.unacknowledged_data, 4),
    owned(lifetimes.unacknowledged_data, 15, 1_000),
    *[fin_wait_2(seconds) for seconds in (-1, 0, 1, 2, 3, 61, 65, 70)],
    *[syn_sent(retries, linear) for retries, linear in ((1, 0), (1, 4), (2, 0), (2, 4), (3, 1), (3, 0))],
    syn_sent(6, 0, syncnt=1),
    *[syn_recv(retries) for retries in (0, 1, 2, 3)],
    syn_recv(3, 2_000),
    syn_recv(5, syncnt=1),
    keepalive(2, 1, 3),
    keepalive(1, 3, 2),
    *[keepalive_by_sysctl(*times) for times in ((3, 2, 2), (1, 1, 0), (-1, 1, 2), (1, -1, 2))],
    shut_window(0, 15, 1_000),
    shut_window(0, 15, 2_000),
    shut_window(5, 15, 1_000),
    shut_window(0, 2, 2_000),
    *[
        Case(f"{scene.__name__}, whatever tcp_fin_timeout is", scene, lambda _: NEVER, {"tcp_fin_timeout": 1})
        for scene in (lifetimes.owned_fin_wait_2, lifetimes.owned_close_wait, lifetimes.idle)
    ],
]
PATIENCE_SECONDS = 30


def wrong(cases, found) -> dict[str, str]:
    """Which lives were not as computed, and how."""
    complaints = {}
    for case, lifetime in zip(cases, found, strict=True):
        expected = case.expected(lifetime.rto)
        if not agrees(expected, lifetime.least, lifetime.most):
            lived = f"{lifetime.least:.2f} to {lifetime.most:.2f} s"
            complaints[case.label] = f"{lived}, not {tuple(expected)} (rto {lifetime.rto})"
    return complaints


def agrees(expected: Life, least: float, most: float) -> bool:
    if math.isinf(most):
        return math.isinf(expected.high)
    return expected.low - EARLY_SECONDS <= most and least <= expected.high + LATE_SECONDS


@pytest.mark.first
def test_every_socket_lives_as_long_as_computed(in_namespace):
    cases = [case for case in CASES if case.can_be_made]
    assert len(cases) > 40
    assert wrong(cases, in_namespace(measure, cases, PATIENCE_SECONDS)) == {}


def close_with_negative_linger2() -> bool:
    client, server = lifetimes.pair()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, -1)
    ends = client.getsockname()[1], client.getpeername()[1]
    client.close()
    deadline = time.monotonic() + 5
    while lifetimes.exists(*ends) and time.monotonic() < deadline:
        assert not lifetimes.exists(*ends, 5), "it is in FIN_WAIT_2"
        time.sleep(0.005)
    server.close()
    return lifetimes.exists(*ends)


def test_a_negative_linger2_leaves_no_fin_wait_2(in_namespace):
    assert in_namespace(close_with_negative_linger2) is False


def foresee(scene, sysctls, time_left) -> list[tuple[float, tuple[float, float], float, float]]:
    """Look at one socket several times in its life: when, the ends foreseen, and the end, since its begin.

    Of the end the last look that saw the socket is known, and the first that did not.
    """
    for name, value in sysctls.items():
        write_sysctl(f"net.ipv4.{name}", value)
    watched = scene()
    looks = []
    seen = looked = time.monotonic()
    while lifetimes.exists(watched.local_port, watched.remote_port):
        seen = looked
        row = the_socket(watched)
        now = time.monotonic()
        if row is not None and isinstance(row.info, TcpInfo):
            life = time_left(row.info.rto, row.info.backoff, row.expires)
            looks.append((now, (now + life.low, now + life.high)))
        time.sleep(0.1)
        looked = time.monotonic()
    start, end = watched.started, time.monotonic()
    return [
        (now - start, (low - start, high - start), seen - start, end - start) for now, (low, high) in looks
    ]


def the_socket(watched):
    states = (TcpState.FIN_WAIT_1, TcpState.ESTABLISHED)
    found = read_connections(states, local_port=watched.local_port, remote_port=watched.remote_port)
    assert not isinstance(found, Missing), found.reason
    return next((row for state in states for row in found[state].connections), None)


def orphan_left(rto, backoff, expires):
    return orphan_time_left(3, rto, backoff, expires, tick=TICK)


def test_the_end_is_foreseen_at_every_moment_of_a_life(in_namespace):
    sysctls = {"tcp_orphan_retries": 3, "tcp_retries2": 9}
    looks = in_namespace(foresee, lifetimes.orphan_fin_wait_1, sysctls, orphan_left)
    assert len(looks) > 23
    for when, (low, high), seen, end in looks:
        assert low - EARLY_SECONDS - 0.02 <= end, f"foreseen after {when:.2f} s"
        assert seen <= high + LATE_SECONDS, f"foreseen after {when:.2f} s"
        assert high - low < 2

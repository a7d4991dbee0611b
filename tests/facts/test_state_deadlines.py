"""Which sysctl ends which socket, and what its value comes to."""

import pytest

from tcpdoctor.facts.deadlines import (
    AT_ONCE,
    DEADLINE_STATES,
    DEADLINE_SYSCTLS,
    NEVER,
    assumed_rto,
    deadlines_of_sysctl,
    fin_wait_2_orphan_life,
    orphan_retry_life,
    owned_retry_life,
    state_deadlines,
    syn_sent_life,
    time_wait_life,
)
from tcpdoctor.kernel.reading import Missing

DEFAULTS = {
    "net.ipv4.tcp_fin_timeout": 60,
    "net.ipv4.tcp_keepalive_intvl": 75,
    "net.ipv4.tcp_keepalive_probes": 9,
    "net.ipv4.tcp_keepalive_time": 7200,
    "net.ipv4.tcp_orphan_retries": 0,
    "net.ipv4.tcp_retries2": 15,
    "net.ipv4.tcp_rto_max_ms": 120_000,
    "net.ipv4.tcp_rto_min_us": 200_000,
    "net.ipv4.tcp_syn_linear_timeouts": 4,
    "net.ipv4.tcp_syn_retries": 6,
    "net.ipv4.tcp_synack_retries": 5,
}


def case(key: str, name: str, **changed):
    sysctls = DEFAULTS | {f"net.ipv4.{sysctl}": value for sysctl, value in changed.items()}
    return next(deadline for deadline in state_deadlines(key, sysctls) if deadline.case == name)


def test_the_defaults_name_every_sysctl_that_is_used():
    assert tuple(DEFAULTS) == DEADLINE_SYSCTLS
    used = {
        name for key in DEADLINE_STATES for item in state_deadlines(key, DEFAULTS) for name in item.sysctls
    }
    assert used == set(DEADLINE_SYSCTLS) - {"net.ipv4.tcp_rto_min_us"}


@pytest.mark.parametrize("key", ["fin_wait_1", "closing", "last_ack"])
def test_zero_orphan_retries_are_told_to_mean_eight(key):
    deadline = case(key, "orphan")
    assert deadline.life == orphan_retry_life(8)
    assert deadline.remark == "0 means 8"
    assert case(key, "orphan", tcp_orphan_retries=2).remark == ""


@pytest.mark.parametrize("key", ["fin_wait_1", "closing", "last_ack"])
def test_a_socket_that_is_held_is_retried_by_tcp_retries2(key):
    deadline = case(key, "held by a process", tcp_retries2=4)
    assert deadline.life == owned_retry_life(4)
    assert deadline.sysctls[0] == "net.ipv4.tcp_retries2"


@pytest.mark.parametrize("key", ["established", "fin_wait_2", "close_wait"])
def test_nothing_ends_an_idle_socket_that_is_held(key):
    deadline = case(key, "held, no SO_KEEPALIVE")
    assert deadline.life == NEVER
    assert deadline.sysctls == ()


def test_close_wait_has_no_deadline_from_tcp_fin_timeout():
    assert not [
        item for item in state_deadlines("close_wait", DEFAULTS) if "fin_timeout" in str(item.sysctls)
    ]


def test_above_sixty_the_reckoning_of_tcp_fin_timeout_is_told():
    deadline = case("fin_wait_2", "orphan", tcp_fin_timeout=65)
    assert deadline.life == fin_wait_2_orphan_life(65)
    assert deadline.remark == "above 60: 2 x (65 - 60) s"
    assert case("fin_wait_2", "orphan", tcp_fin_timeout=0).remark == "at least 3.5 retransmission timeouts"
    assert case("fin_wait_2", "orphan").remark == ""


def test_time_wait_is_no_business_of_any_sysctl():
    (deadline,) = state_deadlines("time_wait", {})
    assert deadline.life == time_wait_life()
    assert deadline.sysctls == ()


@pytest.mark.parametrize("key", ["listen", "closed", "bound"])
def test_states_without_a_timer_never_end(key):
    (deadline,) = state_deadlines(key, DEFAULTS)
    assert deadline.life == NEVER


def test_a_closed_connect_is_gone_at_once():
    assert state_deadlines("syn_sent", DEFAULTS)[-1].life == AT_ONCE


def test_an_older_kernel_without_the_younger_sysctls_has_their_old_behaviour():
    old = {
        name: value
        for name, value in DEFAULTS.items()
        if name.rpartition(".")[2] not in ("tcp_rto_max_ms", "tcp_rto_min_us", "tcp_syn_linear_timeouts")
    }
    assert state_deadlines("syn_sent", old)[0].life == syn_sent_life(6, 0)
    assert state_deadlines("last_ack", old)[1].life == orphan_retry_life(0)
    assert assumed_rto(old) == pytest.approx(0.204)


def test_a_sysctl_that_is_hidden_makes_its_deadline_unknown_and_no_other():
    hidden = Missing("only root may read it")
    deadlines = state_deadlines("fin_wait_2", DEFAULTS | {"net.ipv4.tcp_fin_timeout": hidden})
    assert [deadline.life for deadline in deadlines if isinstance(deadline.life, Missing)] == [hidden]


def test_a_sysctl_is_told_all_states_that_it_ends():
    found = deadlines_of_sysctl("net.ipv4.tcp_orphan_retries", DEFAULTS)
    assert ("fin_wait_1", "closing", "last_ack") in [keys for keys, _ in found]
    assert deadlines_of_sysctl("net.ipv4.tcp_sack", DEFAULTS) == []


def test_a_shorter_minimum_makes_the_supposed_rto_shorter():
    assert assumed_rto(DEFAULTS | {"net.ipv4.tcp_rto_min_us": 50_000}) == pytest.approx(0.052)

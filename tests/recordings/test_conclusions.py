"""What an expert concludes from each sample comes out, and what a form cannot tell is not known.

The samples are one moment of one namespace: orders-api (pid 49) keeps 17 connections that their clients
ended, each with unread bytes; web client (54) keeps 4 of those half closed, 13 are minisockets; payments (53)
listens on 9443 with backlog 5, accepts nothing, and 8 clients try; a socket is bound to port 6060 alone.
"""

from pathlib import Path

import pytest

from tcpdoctor.facts.host import HostFacts, subjects_of
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.recordings.opened import open_recording
from tests.cli.command import tcpdoctor

SAMPLES = Path(__file__).parent / "samples"
WITH_TIMERS = ("ss-tanoempi", "ss-peaonmi", "netstat-tanpo", "netstat-W-neopa")
WITHOUT_TIMERS = ("ss-tanp", "netstat-anp", "netstat-tanp-de", "netstat-tanp-fr")
LISTINGS = (*WITH_TIMERS, *WITHOUT_TIMERS, "ss-tan")
NAMED = tuple(name for name in LISTINGS if name != "ss-tan")


def facts_of(name):
    """The host's facts, and those of each process and listener by pid and by port."""
    samples = open_recording(str(SAMPLES / f"{name}.txt")).samples
    host = HostFacts(samples)
    processes = subjects_of(samples, Scope.PROCESS, host)
    listeners = subjects_of(samples, Scope.LISTENER, host)
    by_pid = {} if isinstance(processes, Missing) else {one.identity["pid"]: one.facts for one in processes}
    by_port = (
        {} if isinstance(listeners, Missing) else {one.facts["listener.port"]: one.facts for one in listeners}
    )
    return host, by_pid, by_port


@pytest.mark.parametrize("name", LISTINGS)
def test_states_are_counted_and_bound_sockets_are_not_known(name):
    host, _, _ = facts_of(name)
    counted = {
        "established": 22,
        "syn_sent": 2,
        "fin_wait_2": 17,
        "time_wait": 7,
        "close_wait": 17,
        "listen": 5,
    }
    assert {state: host[f"sockets.{state}"] for state in counted} == counted
    assert isinstance(host["sockets.bound"], Missing)


@pytest.mark.parametrize("name", NAMED)
def test_the_connections_that_were_never_read_are_told_from_those_that_were_not_closed(name):
    _, processes, _ = facts_of(name)
    orders = processes[49]
    assert (orders["close_wait.owned"], orders["close_wait.unread_data"]) == (17, 17)
    assert orders["close_wait.eof_read"] == 0


@pytest.mark.parametrize("name", NAMED)
def test_ages_are_known_where_ss_prints_them_and_only_there(name):
    _, processes, _ = facts_of(name)
    age = processes[49]["close_wait.oldest_owned_age"]
    if name in ("ss-tanoempi", "ss-peaonmi"):
        assert 3 < age.low <= age.high < 3.1
    else:
        assert (age.low, age.high) == (0, float("inf"))
        assert "ss -tanoempi" in age.reason


@pytest.mark.parametrize("name", WITH_TIMERS)
def test_minisockets_are_told_from_sockets_that_are_held(name):
    host, processes, _ = facts_of(name)
    assert host["fin_wait_2.orphaned"] == 13
    assert processes[54]["fin_wait_2.owned"] == 4


@pytest.mark.parametrize("name", WITHOUT_TIMERS)
def test_without_timers_minisockets_do_not_look_like_leaks(name):
    host, processes, _ = facts_of(name)
    assert (host["fin_wait_2.orphaned"].low, host["fin_wait_2.orphaned"].high) == (0, 13)
    held = processes[54]["fin_wait_2.owned"]
    assert (held.low, held.high) == (4, 17)
    assert "ss -tanoempi" in held.reason


@pytest.mark.parametrize("name", LISTINGS)
def test_whether_an_accept_queue_is_full_only_ss_tells(name):
    _, _, listeners = facts_of(name)
    assert listeners[9443]["accept_queue.length"] == 6
    limit = listeners[9443]["accept_queue.limit"]
    if name.startswith("ss"):
        assert limit == 5
    else:
        assert "ss -tanoempi" in limit.reason


def test_who_waits_to_be_accepted_is_told_by_listings_with_inodes_and_times():
    _, _, listeners = facts_of("ss-tanoempi")
    assert len(listeners[9443]["accept_queue.waiting_ages"].at_least) == 6
    _, _, listeners = facts_of("ss-tanp")
    assert isinstance(listeners[9443]["accept_queue.waiting_ages"], Missing)
    _, _, listeners = facts_of("netstat-tanpo")
    untold = listeners[9443]["accept_queue.waiting_ages"]
    assert (untold.at_least, len(untold.at_most)) == ((), 6), "it tells no inode: each may wait"
    assert "ss -tanoempi" in untold.reason


def test_a_listing_without_any_owner_is_one_that_root_did_not_make():
    _, processes, _ = facts_of("ss-tan")
    hidden = processes[None]["close_wait.owned"]
    assert isinstance(hidden, Range)
    assert (hidden.low, hidden.high) == (0, 17)
    assert "root" in hidden.reason


def test_the_table_of_proc_has_no_owners_and_its_queues():
    host, processes, _ = facts_of("proc-net-tcp")
    assert host["sockets.close_wait"].low == 17
    assert {pid for pid in processes if pid is not None} == set()
    hidden = processes[None]["close_wait.unread_data"]
    assert (hidden.low, hidden.high) == (0, 17)


def test_the_summary_of_ss_counts_no_state_and_its_orphans_are_none():
    host, _, _ = facts_of("ss-s")
    assert host["sockstat.TCP.orphan"] == 0
    assert isinstance(host["sockets.time_wait"], Missing)
    assert isinstance(host["sockets.close_wait"], Missing)


def test_counts_by_state_are_at_least_so_many():
    host, processes, _ = facts_of("pipeline-awk-uniq")
    assert (host["sockets.close_wait"].low, host["sockets.time_wait"].low) == (17, 7)
    assert processes == {}


def test_counters_alone_say_nothing_of_sockets():
    host, processes, listeners = facts_of("nstat-az")
    assert host.samples.after.counters["TcpExt.ListenOverflows"] == 8
    assert (processes, listeners) == ({}, {})


def test_the_scope_of_an_address_is_kept_where_ss_prints_it():
    text = tcpdoctor("sockets", "--port", "7070", "--from", str(SAMPLES / "ss-tanp.txt")).stdout
    assert "[fe80::1%d0]:7070" in text

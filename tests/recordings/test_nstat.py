"""Counters as nstat, netstat -s and conntrack -S print them."""

import subprocess
from pathlib import Path

import pytest

from tcpdoctor.kernel.counters import read_counters
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.recordings.nstat import FOREIGN, read_counters_text
from tests.recordings.reports import forms_in

SAMPLES = Path(__file__).parent / "samples"
NSTAT = (SAMPLES / "nstat-az.txt").read_text()
STATISTICS = (SAMPLES / "netstat-s.txt").read_text()


def test_nstat_gives_the_kernels_names():
    found = read_counters_text(NSTAT).counters
    assert found["TcpExt.ListenOverflows"] == 8
    assert found["TcpExt.TCPSynRetrans"] == 6
    assert found["Tcp.PassiveOpens"] == 35
    assert found["Ip.InReceives"] == 190
    assert found["Ip6.InReceives"] > 0
    assert len(found) > 300


def test_every_name_is_one_of_a_live_look():
    live = read_counters().counters
    found = read_counters_text(NSTAT).counters
    shared = {name for name in found if name.startswith(("Tcp.", "TcpExt.", "Ip.", "IpExt.", "Udp.", "Ip6."))}
    assert len(shared) > 150
    assert len(shared - set(live)) < len(shared) / 10, "of another kernel, a few may differ"


def test_netstat_says_the_same_as_nstat_where_it_says_anything():
    words = read_counters_text(STATISTICS).counters
    numbers = read_counters_text(NSTAT).counters
    assert words["TcpExt.ListenOverflows"] == 8
    assert words["TcpExt.ListenDrops"] == 8
    assert words["Tcp.ActiveOpens"] == 37
    assert words["TcpExt.TCPTimeouts"] == 6
    assert len(words) > 20
    for name, number in words.items():
        if not name.startswith("Ip.") and name in numbers:
            assert number == numbers[name], name


def test_a_counter_that_is_not_printed_is_absent_and_not_zero():
    assert "TcpExt.TCPAbortOnTimeout" not in read_counters_text(STATISTICS).counters
    assert read_counters_text(NSTAT).counters["TcpExt.TCPAbortOnTimeout"] == 0


def test_words_of_older_net_tools_mean_the_same():
    text = (
        "Tcp:\n    41 active connections openings\n    43 segments send out\n    47 segments retransmited\n"
        "    53 bad segments received.\nTcpExt:\n    59 SYNs to LISTEN sockets ignored\n"
    )
    assert read_counters_text(text).counters == {
        "Tcp.ActiveOpens": 41,
        "Tcp.OutSegs": 43,
        "Tcp.RetransSegs": 47,
        "Tcp.InErrs": 53,
        "TcpExt.ListenDrops": 59,
    }


def test_another_language_is_missing_with_what_to_ask_for():
    text = (
        "Tcp:\n    5 aktive Verbindungsöffnungen\n    7 passive Verbindungsöffnungen\n"
        "    11 fehlgeschlagene Verbindungsversuche\nTcpExt:\n    TCPLostRetransmit: 4\n"
    )
    assert forms_in(text) == ["nstat"]
    assert read_counters_text(text).counters == Missing(FOREIGN)
    assert "nstat -az" in FOREIGN


def test_counts_since_the_last_run_are_no_totals():
    with_rates = "#20.1804289383 sampling_interval=5 time_const=60\nTcpInSegs   190   3.8\n"
    shrunk = "#kernel\nTcpCurrEstab                    18446744073709551599 0.0\n"
    for text in (with_rates, shrunk):
        found = read_counters_text(text).counters
        assert isinstance(found, Missing)
        assert "ask for: nstat -az" in found.reason


def test_without_zeros_it_is_said_that_they_may_be_no_totals():
    found = read_counters_text("TcpExtListenOverflows           17                 0.0\n")
    assert found.counters == {"TcpExt.ListenOverflows": 17}
    assert "least" in found.notes[0]
    assert read_counters_text(NSTAT).notes == ()


def test_tracking_of_all_cpus_is_added_up():
    text = (
        "cpu=0   \tfound=3 invalid=5 insert=0 insert_failed=7 drop=11 early_drop=0 error=0 search_restart=13 "
        "clash_resolve=17 chaintoolong=0\n"
        "cpu=1   \tfound=3 invalid=5 insert=0 insert_failed=7 drop=11 early_drop=2 error=0\n"
    )
    assert forms_in(text) == ["nstat"]
    assert read_counters_text(text).counters == {
        "nf_conntrack.invalid": 10,
        "nf_conntrack.insert_failed": 14,
        "nf_conntrack.drop": 22,
        "nf_conntrack.early_drop": 2,
        "nf_conntrack.clashres": 17,
    }


@pytest.mark.parametrize("text", ["", "Tcp: 1 2 3", "LISTEN 0 128", "net.core.somaxconn = 128", "TcpIn x y"])
def test_another_text_holds_no_counters(text):
    assert "nstat" not in forms_in(text)
    assert isinstance(read_counters_text(text).counters, Missing)


@pytest.mark.parametrize("command", [["nstat", "-az"], ["nstat", "-zas"], ["netstat", "-s"]])
def test_the_running_programs_are_read(command, tmp_path, hosts_network):
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C",
        "NSTAT_HISTORY": f"{tmp_path}/history",
    }
    try:
        printed = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    found = read_counters_text(printed.stdout).counters
    before = read_counters().counters
    assert 0 < found["Tcp.InSegs"] <= before["Tcp.InSegs"]

"""Counters: the kernel's text, verbatim, and what is absent from it."""

import pytest

from tcpdoctor.errors import KernelReadError
from tcpdoctor.facts.rates import counter
from tcpdoctor.kernel.counters import parse_named_lines, parse_paired_lines, read_counters
from tcpdoctor.kernel.reading import Missing
from tests.facts.samples import snapshot

SNMP = """\
Ip: Forwarding DefaultTTL InReceives InHdrErrors
Ip: 2 64 4695 0
IcmpMsg: InType3
IcmpMsg: 1
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs \
OutSegs RetransSegs InErrs OutRsts InCsumErrors
Tcp: 1 200 120000 -1 155 3 0 0 0 4386 3702 7 0 22 0
"""
NETSTAT = """\
TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 0 12 18446744073709551615
IpExt: InNoRoutes InTruncatedPkts
IpExt: 0 0
"""
SNMP6 = """\
Ip6InReceives                   \t1
Icmp6InMsgs                     \t2
Udp6NoPorts                     \t3
UdpLite6InDatagrams             \t5
"""


@pytest.fixture
def recorded(tmp_path):
    for name, text in {"snmp": SNMP, "netstat": NETSTAT, "snmp6": SNMP6}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_names_are_the_kernels_with_their_group(recorded):
    counters = read_counters(str(recorded)).counters
    assert counters["TcpExt.ListenOverflows"] == 12
    assert counters["Tcp.RetransSegs"] == 7
    assert counters["Tcp.MaxConn"] == -1
    assert counters["IcmpMsg.InType3"] == 1
    assert counters["Ip6.InReceives"] == 1
    assert counters["Icmp6.InMsgs"] == 2
    assert counters["Udp6.NoPorts"] == 3
    assert counters["UdpLite6.InDatagrams"] == 5


def test_a_counter_is_as_wide_as_the_kernel_has_it(recorded):
    assert read_counters(str(recorded)).counters["TcpExt.ListenDrops"] == 2**64 - 1


def test_a_counter_this_kernel_lacks_is_absent_and_not_zero(recorded):
    assert "TcpExt.TCPReqQFullDrop" not in read_counters(str(recorded)).counters


def test_without_ipv6_its_counters_are_absent_and_the_others_are_there(recorded):
    (recorded / "snmp6").unlink()
    counters = read_counters(str(recorded)).counters
    assert counters["Tcp.OutRsts"] == 22
    assert not [name for name in counters if name.startswith(("Ip6.", "Icmp6.", "Udp6."))]


GVISOR = "TcpExt: SyncookiesSent SyncookiesRecv ListenOverflows\n"
"""Linux's names and no values."""


@pytest.mark.parametrize(
    ("file", "text", "group", "others"),
    [
        ("snmp", None, "Tcp", ("TcpExt.ListenDrops", "Ip6.InReceives")),
        ("netstat", None, "TcpExt", ("Tcp.OutRsts", "Ip6.InReceives")),
        ("netstat", GVISOR, "TcpExt", ("Tcp.OutRsts", "Ip6.InReceives")),
        ("netstat", "TcpExt: A B\nTcpExt: 1\n", "TcpExt", ("Tcp.OutRsts", "Ip6.InReceives")),
        ("snmp6", "Ip6InReceives\n", "Ip6", ("Tcp.OutRsts", "TcpExt.ListenDrops")),
        ("stat/nf_conntrack", "drop\nx\n", "nf_conntrack", ("Tcp.OutRsts", "TcpExt.ListenDrops")),
    ],
)
def test_one_file_that_is_odd_or_absent_costs_its_own_counters_only(recorded, file, text, group, others):
    path = recorded / file
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True) if text is None else path.write_text(text)
    counters, unread = read_counters(str(recorded))
    assert not isinstance(counters, Missing)
    assert set(others) <= set(counters)
    assert not [name for name in counters if name.startswith(f"{group}.")]
    assert str(path) in unread[group]
    fact = counter(f"{group}.Anything", snapshot()._replace(counters=counters, unread=unread))
    assert fact == Missing(unread[group])


def test_without_any_file_all_is_missing_with_each_reason(tmp_path):
    counters, unread = read_counters(str(tmp_path))
    assert isinstance(counters, Missing)
    assert f"{tmp_path}/snmp does not exist here; {tmp_path}/netstat does not" in counters.reason
    assert "Ip6" not in unread, "IPv6 may be off"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Tcp: A B\nTcp: 1\n", 2),
        ("Tcp: A\nUdp: 1\n", 2),
        ("Ip: A\nIp: 1\nTcp: A\n", 4),
        ("Tcp: A\nTcp: x\n", 2),
        ("Tcp A\nTcp 1\n", 2),
        ("\n\n", 2),
    ],
)
def test_a_malformed_table_is_refused_with_file_and_line(text, line):
    with pytest.raises(KernelReadError, match=rf"^/proc/net/snmp line {line}: expected"):
        parse_paired_lines(text, "/proc/net/snmp")


@pytest.mark.parametrize("text", ["Ip6InReceives\n", "Ip6InReceives 1 2\n", "Ip6InReceives x\n", "\n"])
def test_a_malformed_list_is_refused_with_file_and_line(text):
    with pytest.raises(KernelReadError, match=r"^snmp6 line 2: expected a name and a whole number"):
        parse_named_lines("Ip6InMsgs 1\n" + text, "snmp6")


def test_an_empty_table_holds_nothing():
    assert parse_paired_lines("", "snmp") == {}

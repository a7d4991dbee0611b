"""Rules of nft and iptables that take a port: made in a private namespace and read back."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from tcpdoctor.kernel.addresses import read_local_addresses
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.redirects import Filters, Redirects, read_filters, read_redirects
from tcpdoctor.kernel.replay import Replay
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.surroundings import take_surroundings
from tests.live.test_explain_port import ask
from tests.report.examples import SNAPSHOT

NFT = """
table ip n {
    map doors { type inet_proto . inet_service : verdict; elements = { tcp . 30080 : goto service }; }
    chain service { tcp dport != 1 dnat to 10.244.0.5:8080; }
    chain docker {
        iifname != "docker0" tcp dport 8080 dnat to 172.17.0.2:80
        tcp dport { 8443, 9000-9010 } dnat to 172.17.0.3
        dnat to tcp dport map { 7000 : 10.0.0.7 }
        tcp dport 6000-6010 redirect to :6443
        udp dport 5353 dnat to 10.0.0.9:53
        ip daddr 198.51.100.0/24 tcp dport 8081 dnat to 10.1.1.2:81
        ip daddr 203.0.113.5 dnat to 10.1.1.1
        meta l4proto . th dport vmap @doors
    }
    chain before { type nat hook prerouting priority -100; fib daddr type local jump docker; }
}
table ip6 n { chain before { type nat hook prerouting priority -100; tcp dport 8889 dnat to [fd00::9]:88; }; }
table inet m { chain out { type nat hook output priority -100; tcp dport 8888 dnat ip to 10.9.9.9:88; }; }
table ip harmless {
    chain input { type filter hook input priority 0; tcp dport 9999 drop; }
    chain unused { tcp dport 9998 dnat to 10.0.0.1; }
}
"""
ONE_TO_ONE = ("10.1.1.1", "203.0.113.5", False)
BY_PORT = {
    8080: [("172.17.0.2:80", None, True)],
    8443: [("172.17.0.3", None, True)],
    9005: [("172.17.0.3", None, True)],
    9011: [],
    7000: [("10.0.0.7", None, True)],
    6005: [("port 6443 of this host", None, True)],
    5353: [],
    8081: [("10.1.1.2:81", "198.51.100.0/24", True)],
    30080: [("10.244.0.5:8080", None, True)],
    8888: [("10.9.9.9:88", None, True)],
    8889: [("[fd00::9]:88", None, True)],
    9999: [],
    9998: [],
}


def in_order(ways: Iterable[Any]) -> list[Any]:
    return sorted(ways, key=repr)


def told(found: Redirects) -> list[tuple[str, str | None, bool]]:
    assert not found.not_looked, found.not_looked
    return in_order((str(one.to), one.address, one.names_port) for one in found.found)


def read_nft() -> dict[int | str, Any]:
    subprocess.run(["nft", "-f", "-"], input=NFT, text=True, check=True, timeout=120)
    found: dict[int | str, Any] = {port: told(read_redirects(port)) for port in BY_PORT}
    found["udp"] = told(read_redirects(5353, "udp"))
    found["where"] = [(one.where, one.families) for one in read_redirects(8080).found]
    return found


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_each_way_to_send_a_port_elsewhere_with_nft_is_found_and_no_other(in_namespace):
    found = in_namespace(read_nft)
    for port, expected in BY_PORT.items():
        assert found[port] == in_order([*expected, ONE_TO_ONE]), port
    assert found["udp"] == in_order([("10.0.0.9:53", None, True), ONE_TO_ONE])
    assert found["where"][0] == ("nft (table ip n, chain docker)", (4,))


PARTLY = """
table ip n {
    set friends { type ipv4_addr; elements = { 192.0.2.7, 192.0.2.9 }; }
    set doors { type ifname . inet_service; elements = { "eth7" . 8007 }; }
    chain before {
        type nat hook prerouting priority -100;
        iifname != "docker0" tcp dport 8001 dnat to 172.17.0.2:80
        ip saddr 192.0.2.0/24 tcp dport 8002 redirect to :81
        meta mark 0x7 tcp dport 8003 redirect to :81
        ip saddr @friends tcp dport 8004 redirect to :81
        iifname . tcp dport @doors redirect to :81
        tcp dport 8005 redirect to :81
        iif lo jump inner
    }
    chain inner { ip saddr 127.0.0.2 tcp dport 8006 redirect to :81; }
}
"""


def what_nft_asks() -> dict[int, Any]:
    subprocess.run(["nft", "-f", "-"], input=PARTLY, text=True, check=True, timeout=120)
    return {port: [one.asks for one in read_redirects(port).found] for port in range(8001, 8008)}


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_what_else_a_rule_of_nft_compares_is_named(in_namespace):
    assert in_namespace(what_nft_asks) == {
        8001: [("interface",)],
        8002: [("sender",)],
        8003: [("mark",)],
        8004: [("sender",)],
        8005: [()],
        8006: [("interface", "sender")],
        8007: [("interface",)],
    }


EVERY = """
table ip n {
    chain red { meta l4proto tcp redirect to :15006; }
    chain sidecar {
        tcp dport { 22, 15090 } return
        tcp dport 8091 accept
        tcp dport 8092 dnat to 10.0.0.2:80
        tcp dport != 8093 counter jump red
        ip daddr 203.0.113.9 dnat to 10.0.0.3
    }
    chain before { type nat hook prerouting priority -100; meta l4proto tcp jump sidecar; }
    chain out { type nat hook output priority -100; meta l4proto tcp redirect to :15001; }
}
table ip n2 {
    set spared { type ipv4_addr; }
    chain before {
        type nat hook prerouting priority -90;
        ip daddr @spared return
        meta l4proto udp redirect to :53
    }
}
"""


def what_names_no_port() -> dict[int | str, Any]:
    subprocess.run(["nft", "-f", "-"], input=EVERY, text=True, check=True, timeout=120)
    ports = (22, 80, 8091, 8092, 8093, 15006)
    found: dict[int | str, Any] = {port: told(read_redirects(port)) for port in ports}
    found["udp"] = [(str(one.to), one.asks) for one in read_redirects(80, "udp").found]
    return found


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_a_rule_that_names_no_port_takes_all_that_no_rule_before_it_spares(in_namespace):
    """As a sidecar of a service mesh has them; of what is sent from here it is about servers elsewhere."""
    single = ("10.0.0.3", "203.0.113.9", False)
    every = ("port 15006 of this host", None, False)
    assert in_namespace(what_names_no_port) == {
        22: [],
        80: [every],
        8091: [],
        8092: [("10.0.0.2:80", None, True)],
        8093: [single],
        15006: [],
        "udp": [("port 53 of this host", ("other",))],
    }


def what_iptables_asks(program: str) -> list[Any]:
    for number, rule in enumerate(("! -i docker0", "-s 192.0.2.7", "-m mark --mark 7", "")):
        line = f"-A PREROUTING {rule} -p tcp --dport {8001 + number} -j REDIRECT --to-ports 81"
        subprocess.run([program, "-t", "nat", *line.split()], check=True, timeout=120)
    return [one.asks for port in range(8001, 8005) for one in read_redirects(port).found]


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_what_else_a_rule_of_iptables_compares_is_named(in_namespace, program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    assert in_namespace(what_iptables_asks, program) == [("interface",), ("sender",), ("mark",), ()]


RULES = (
    "-N DOCKER",
    "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
    "-A DOCKER -i docker0 -j RETURN",
    "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination {host_port}",
    "-A DOCKER -p tcp -m multiport --dports 80,443,9000:9010 -j DNAT --to-destination {host}",
    "-A DOCKER -p tcp --dport 6000:6010 -j REDIRECT --to-ports 6443",
    "-A DOCKER -p tcp ! --dport 1:65000 -j REDIRECT --to-ports 1",
    "-A PREROUTING -d {single} -j DNAT --to-destination {host}",
    "-N SERVICE",
    "-N NODEPORTS",
    "-A PREROUTING -j NODEPORTS",
    "-A NODEPORTS -p tcp --dport 30080 -m comment --comment x -j SERVICE",
    "-A SERVICE -p tcp -j DNAT --to-destination {host_port}",
)
FAMILIES = {
    "iptables": {"host": "172.17.0.2", "host_port": "172.17.0.2:80", "single": "203.0.113.5"},
    "ip6tables": {"host": "fd00::2", "host_port": "[fd00::2]:80", "single": "2001:db8::5"},
}


def read_iptables(program: str) -> dict[int, Any]:
    words = FAMILIES[program.partition("-")[0]]
    for rule in RULES:
        subprocess.run([program, "-t", "nat", *rule.format(**words).split()], check=True, timeout=120)
    return {port: told(read_redirects(port)) for port in (8080, 443, 9005, 9011, 6005, 65535, 30080, 1)}


@pytest.mark.parametrize("flavour", ["nft", "legacy"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rules_of_iptables_are_read_whichever_interface_keeps_them(in_namespace, family, flavour):
    program = f"{family}-{flavour}"
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    words = FAMILIES[family]
    found = in_namespace(read_iptables, program)
    single = (words["host"], words["single"], False)
    own = "port 6443 of this host"
    expected = {
        8080: [(words["host_port"], None, True)],
        443: [(words["host"], None, True)],
        9005: [(words["host"], None, True)],
        9011: [],
        6005: [(own, None, True)],
        65535: [("port 1 of this host", None, True)],
        30080: [(words["host_port"], None, True)],
        1: [],
    }
    for port, ways in expected.items():
        assert set(found[port]) == {*ways, single}, port


def ask_behind_a_rule() -> tuple[str, dict[str, Any]]:
    rules = (
        NFT + "table ip k { chain p { type nat hook prerouting priority -99; tcp dport 8090 redirect; }; }"
    )
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=120)
    return ask(None, port=8080)


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_a_free_port_whose_clients_are_led_elsewhere_is_said_to_be_so(in_namespace):
    text, answer = in_namespace(ask_behind_a_rule)
    words = " ".join(text.split())
    assert "a rule of nft (table ip n, chain docker) sends what comes for port 8080 to 172.17.0.2:80" in words
    assert "203.0.113.5" not in words, "an address that this host does not have"
    assert answer["bind"]["cause"] is None
    (rule,) = answer["redirects"]
    assert (rule["to_address"], rule["to_port"], rule["only_for"]) == ("172.17.0.2", 80, None)
    assert words.startswith("FREE")
    assert "but a rule leads its clients to 172.17.0.2:80" in words


def ask_about_udp() -> tuple[str, dict[str, Any]]:
    subprocess.run(["nft", "-f", "-"], input=NFT, text=True, check=True, timeout=120)
    return ask(None, "--udp", port=5353)


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_rules_for_udp_are_asked_about_on_their_own(in_namespace):
    _, answer = in_namespace(ask_about_udp)
    assert [rule["to_address"] for rule in answer["redirects"]] == ["10.0.0.9"]


def ask_without_privilege() -> dict[str, Any]:
    command = ["setpriv", "--bounding-set", "-net_admin", sys.executable, "-m", "tcpdoctor", "explain"]
    ran = subprocess.run(
        [*command, "--port", "8080"], capture_output=True, text=True, check=True, timeout=120
    )
    told = subprocess.run(
        [*command, "--port", "8080", "--format", "json"], capture_output=True, check=True, timeout=120
    )
    return {"text": " ".join(ran.stdout.split()), **json.loads(told.stdout)}


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_who_may_not_read_the_rules_is_told_so(in_namespace):
    answer = in_namespace(ask_without_privilege)
    assert answer["redirects"] is None
    assert answer["missing"]["redirects"].startswith("not looked: ")
    assert "rules of nft and iptables: not looked: " in answer["text"]


def read_without_privilege() -> Redirects:
    os.setgroups([])
    os.setuid(65534)
    return read_redirects(8080)


def test_without_privilege_it_is_said_that_nobody_looked(in_namespace):
    found = in_namespace(read_without_privilege)
    assert found.found == ()
    assert any("CAP_NET_ADMIN" in reason for reason in found.not_looked)


def test_a_namespace_without_rules_has_none(in_namespace):
    found = in_namespace(read_redirects, 8080)
    assert not isinstance(found, Missing)
    assert found == Redirects((), ())


def read_for_this_host() -> dict[str, Any]:
    subprocess.run(["ip", "addr", "add", "203.0.113.5/32", "dev", "lo"], check=True, timeout=120)
    rules = (
        NFT
        + """
    table ip k {
        map services { type ipv4_addr . inet_proto . inet_service : verdict; elements = {
            10.96.0.1 . tcp . 443 : goto one,
            203.0.113.5 . tcp . 443 : goto two,
            10.96.0.2 . tcp . 443 : goto one
        }; }
        chain one { meta l4proto tcp dnat to 10.244.0.1:6443; }
        chain two { meta l4proto tcp dnat to 10.244.0.2:6443; }
        chain p { type nat hook prerouting priority -99; ip daddr . meta l4proto . th dport vmap @services; }
    }
    """
    )
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=120)
    local = read_local_addresses()
    return {port: told(read_redirects(port, "tcp", local)) for port in (443, 8081)}


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_rules_for_addresses_of_others_are_left_out_also_among_many(in_namespace):
    found = in_namespace(read_for_this_host)
    assert ("10.244.0.2:6443", "203.0.113.5", True) in found[443]
    assert found[443] == in_order([("10.244.0.2:6443", "203.0.113.5", True), ONE_TO_ONE])
    assert found[8081] == [ONE_TO_ONE]


TRANSPARENT = (
    "-t mangle -A PREROUTING -p tcp --dport 8094 -j TPROXY --on-port 15001 --tproxy-mark 1",
    "-t nat -A PREROUTING -p tcp --dport 22 -j RETURN",
    "-t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15006",
)


def what_iptables_takes_for_itself(program: str) -> list[Any]:
    for rule in TRANSPARENT:
        subprocess.run([program, *rule.split()], check=True, timeout=120)
    return [told(read_redirects(port)) for port in (22, 8094, 80)]


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_a_transparent_proxy_of_iptables_is_told(in_namespace, program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    every = ("port 15006 of this host", None, False)
    assert in_namespace(what_iptables_takes_for_itself, program) == [
        [],
        in_order([every, ("port 15001 of this host", None, True)]),
        [every],
    ]


def every_port_at_once() -> list[Any]:
    """Of each port at which an answer changes, and of its neighbours, what is read and what was recorded."""
    for program, port in (("iptables-legacy", "8090"), ("iptables-nft", "8095")):
        if shutil.which(program):
            rule = ["-p", "tcp", "-m", "multiport", "--dports", f"{port}:8099,7100", "-j", "DNAT"]
            command = [program, "-t", "nat", "-A", "PREROUTING", *rule, "--to-destination", "10.3.3.3"]
            subprocess.run(command, check=False, capture_output=True, timeout=120)
    subprocess.run(
        ["nft", "-f", "-"], input=NFT + EVERY.replace(" n ", " o "), text=True, check=True, timeout=120
    )
    around = take_surroundings(())
    samples = Samples(None, SNAPSHOT)
    replay = Replay(samples, Missing("none"), Missing("none"), {}, {}, Missing("none"), around)
    local = read_local_addresses()
    ports = {port + near for port in (*BY_PORT, 22, 15006, 7100, 8090, 8095, 8099) for near in (-1, 0, 1)}
    found = []
    for port in (0, *sorted(ports), 65535):
        for protocol, here in (("tcp", local), ("tcp", None), ("udp", local)):
            pair = [read(port, protocol, here) for read in (read_redirects, replay.read_redirects)]
            found.append((port, protocol, here is None, *pair))
        for way in (True, False):
            pair = [read(port, local=way) for read in (read_filters, replay.read_filters)]
            found.append((port, way, False, *pair))
    return found


def without_container(told: Redirects | Filters) -> Any:
    if isinstance(told, Filters):
        return told
    return told._replace(found=tuple(one._replace(container=None) for one in told.found))


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_a_recording_knows_of_every_port_what_the_rules_do_with_it(in_namespace):
    found = in_namespace(every_port_at_once)
    # a container that has an address of these by accident may come and go
    unlike = [one for one in found if without_container(one[-2]) != without_container(one[-1])]
    assert unlike == []
    assert len({repr(one[-1]) for one in found}) > len(BY_PORT) - 3

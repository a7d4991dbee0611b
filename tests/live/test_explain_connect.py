"""`explain --connect` through the command that users run."""

import errno
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack, suppress

import pytest

from tcpdoctor.answers.ends import parse_ends
from tcpdoctor.lab.connecting import unanswered
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import listen, wait_until
from tests.cli.command import complaint, tcpdoctor

KEYS = [
    "schema", "host", "taken_at", "source", "destination", "summary", "connect", "bind_then_connect",
    "range", "route", "listens_here", "other_addresses", "owners", "held_by_no_process", "advice",
    "does_not_help", "doubts", "source_port", "user", "time_wait", "listeners", "sockets", "redirects",
    "findings", "unchecked", "missing", "not_looked",
]  # fmt: skip
CONNECT_KEYS = [
    "verdict", "certain", "usable_ports", "used", "free", "free_perhaps", "used_by_state",
    "lost_to_bound_sockets", "time_wait_counts", "time_wait_reusable", "next_free_in_s",
    "stage",
]  # fmt: skip


def exhausted(family, host):
    with ExitStack() as stack:
        write_sysctl("net.ipv4.ip_local_port_range", "40000 40023")
        server = listen(stack, port=7007, address=host) if family == 4 else None
        if server is None:
            server = stack.enter_context(socket.create_server((host, 7007), family=socket.AF_INET6))
        for _ in range(24):
            stack.enter_context(socket.create_connection(server.getsockname()[:2]))
        destination = f"[{host}]:7007" if family == 6 else f"{host}:7007"
        answers = [
            tcpdoctor("explain", "--connect", destination, *more) for more in ((), ("--format", "json"))
        ]
        try:
            socket.create_connection(server.getsockname()[:2]).close()
        except OSError as error:
            return answers, error.errno
    return answers, 0


@pytest.mark.parametrize(("family", "host"), [(4, "127.0.0.1"), (4, "127.0.0.2"), (6, "::1")])
def test_an_exhausted_destination_is_explained_as_the_kernel_answers(in_namespace, family, host):
    (text, found), code = in_namespace(exhausted, family, host)
    assert (text.returncode, found.returncode, code) == (0, 0, errno.EADDRNOTAVAIL)
    report = json.loads(found.stdout)
    assert list(report) == KEYS
    assert list(report["connect"]) == CONNECT_KEYS
    assert report["schema"] == "tcpdoctor.connect/1"
    assert report["connect"] | {"time_wait_counts": None} == {
        "verdict": "EADDRNOTAVAIL",
        "certain": True,
        "usable_ports": 24,
        "used": 24,
        "free": 0,
        "free_perhaps": 0,
        "used_by_state": {"established": 24},
        "lost_to_bound_sockets": 0,
        "time_wait_counts": None,
        "time_wait_reusable": 0,
        "next_free_in_s": None,
        "stage": "port",
    }
    assert report["owners"][0]["sockets"] == 24
    first = " ".join(text.stdout.split("\n\n")[0].split())
    assert "fails with EADDRNOTAVAIL: none of the 24 ports 40000-40023 is left" in first
    assert max(map(len, text.stdout.splitlines())) <= 80
    assert len(text.stdout.splitlines()) <= 50, "one screen"


@pytest.mark.parametrize(
    "destination",
    [
        "10.0.0.1",
        "10.0.0.1:",
        ":80",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "::1:80",
        "[::1:80",
        "a b:80",
        "x:-1",
    ],
)
def test_what_is_no_destination_is_one_line(destination):
    assert "HOST:PORT" in complaint(tcpdoctor("explain", f"--connect={destination}"))


@pytest.mark.parametrize("source", ["here", "1.2.3", "::1", "127.0.0.1:0", "127.0.0.1:x", "fe80::1"])
def test_what_is_no_source_is_one_line(source):
    assert "--source" in complaint(tcpdoctor("explain", "--connect", "127.0.0.1:80", f"--source={source}"))


def ip(*words):
    subprocess.run(["ip", *words], check=True, timeout=120)


def ask(destination, source=None):
    answer = tcpdoctor(
        "explain", "--connect", destination, *(("--source", source) if source else ()), "--format", "json"
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def really(family, address, *, source=None):
    """What connect() answers before anything comes from the other end."""
    with socket.socket(family) as client:
        client.setblocking(False)
        try:
            if source is not None:
                client.bind(source)
            client.connect(address)
        except BlockingIOError:
            return "ok"
        except OSError as error:
            return errno.errorcode[error.errno]
    return "ok"


def two_hosts_on_a_link():
    ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    for interface in ("v0", "v1"):
        ip("link", "set", interface, "addrgenmode", "none", "up")
    ip("-6", "address", "add", "fe80::1/64", "dev", "v0", "nodad")
    ip("address", "add", "10.1.0.1/24", "dev", "v0")


def link_local():
    two_hosts_on_a_link()
    ip("neigh", "replace", "fe80::2", "lladdr", "02:00:00:00:00:01", "dev", "v0")
    scope = socket.if_nametoindex("v0")
    asked = [
        ("[fe80::2%v0]:80", None, ("fe80::2", 80, 0, scope), None),
        ("[fe80::2]:80", None, ("fe80::2", 80, 0, 0), None),
        ("[fe80::2]:80", "fe80::1%v0", ("fe80::2", 80, 0, 0), ("fe80::1", 0, 0, scope)),
        ("[fe80::2%v0]:80", "fe80::1", ("fe80::2", 80, 0, scope), ("fe80::1", 0, 0, 0)),
    ]
    return [
        (ask(destination, source), really(socket.AF_INET6, to, source=own))
        for destination, source, to, own in asked
    ]


def test_a_link_local_destination_keeps_its_interface_and_needs_one(in_namespace):
    answers = in_namespace(link_local)
    assert [kernel for _, kernel in answers] == ["ok", "EINVAL", "ok", "EINVAL"]
    for report, kernel in answers:
        assert report["connect"]["verdict"] == kernel, report
    report = answers[0][0]
    assert report["destination"] == "[fe80::2%v0]:80"
    assert (report["source"], report["route"]["interface"]) == ("fe80::1", "v0")
    unscoped = answers[1][0]
    assert "names no interface" in unscoped["summary"]
    assert unscoped["source"] is None
    assert unscoped["missing"]["source"]


def test_an_interface_that_does_not_exist_is_one_line():
    assert "no interface 'nope'" in complaint(tcpdoctor("explain", "--connect", "[fe80::1%nope]:80"))


def routed_by_policy():
    two_hosts_on_a_link()
    ip("neigh", "replace", "10.1.0.2", "lladdr", "02:00:00:00:00:01", "dev", "v0")
    ip("address", "add", "10.1.0.3/24", "dev", "v0")
    ip("rule", "add", "ipproto", "6", "dport", "81", "prohibit")
    ip("rule", "add", "from", "10.1.0.3", "unreachable")
    ip("rule", "add", "from", "10.1.0.1", "to", "10.1.0.9", "blackhole")
    asked = [(80, None), (81, None), (80, "10.1.0.3"), (80, "10.1.0.1")]
    found = [
        (
            ask(f"10.1.0.2:{port}", source)["connect"]["verdict"],
            really(socket.AF_INET, ("10.1.0.2", port), source=(source, 0) if source else None),
        )
        for port, source in asked
    ]
    # the source that the route chooses is what the second look-up refuses
    found.append((ask("10.1.0.9:80")["connect"]["verdict"], really(socket.AF_INET, ("10.1.0.9", 80))))
    return found


def test_rules_about_ports_and_sources_are_asked_as_connect_asks_them(in_namespace):
    found = in_namespace(routed_by_policy)
    assert [kernel for _, kernel in found] == ["ok", "EACCES", "ENETUNREACH", "ok", "EINVAL"]
    assert [predicted for predicted, _ in found] == [kernel for _, kernel in found]


def sources():
    with ExitStack() as stack:
        server = listen(stack, port=7007)
        for _ in range(7):
            stack.enter_context(socket.create_connection(server.getsockname()))
        return [ask("127.0.0.1:7007", source) for source in ("0.0.0.0", "127.0.0.1", "192.0.2.7")]


def test_a_wildcard_source_is_the_routes_and_a_foreign_one_stops_every_way(in_namespace):
    wildcard, own, foreign = in_namespace(sources)
    for report in (wildcard, own):
        assert report["source"] == "127.0.0.1"
        assert report["connect"]["used_by_state"] == {"established": 7}
    assert foreign["connect"]["verdict"] == "EADDRNOTAVAIL"
    assert foreign["bind_then_connect"] == {
        "bind": "EADDRNOTAVAIL",
        "free": 0,
        "attempts": [],
        "certain": True,
    }
    assert "192.0.2.7 is no address of this host" in foreign["summary"]
    assert not any("pool" in advice for advice in foreign["advice"])
    assert foreign["does_not_help"] == []


def listeners_of_one_family():
    with ExitStack() as stack:
        stack.enter_context(socket.create_server(("0.0.0.0", 7008)))
        only6 = stack.enter_context(socket.socket(socket.AF_INET6))
        only6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        only6.bind(("::", 7009))
        only6.listen()
        stack.enter_context(socket.create_server(("::", 7010), family=socket.AF_INET6, dualstack_ipv6=True))
        return {
            (host, port): ask(f"{host}:{port}")["listens_here"]
            for host in ("127.0.0.1", "[::1]")
            for port in (7008, 7009, 7010)
        }


def test_a_listener_of_the_other_family_does_not_answer(in_namespace):
    assert in_namespace(listeners_of_one_family) == {
        ("127.0.0.1", 7008): True,
        ("127.0.0.1", 7009): False,
        ("127.0.0.1", 7010): True,
        ("[::1]", 7008): False,
        ("[::1]", 7009): True,
        ("[::1]", 7010): True,
    }


def nobody_listens():
    report = ask("127.0.0.1:7011")
    try:
        socket.create_connection(("127.0.0.1", 7011)).close()
    except ConnectionRefusedError:
        return report, "ECONNREFUSED"
    return report, "ok"


def test_a_port_on_this_host_where_nobody_listens_refuses(in_namespace):
    report, kernel = in_namespace(nobody_listens)
    verdict = report["connect"]
    assert (verdict["verdict"], verdict["certain"], verdict["stage"]) == ("ECONNREFUSED", True, "listener")
    assert kernel == "ECONNREFUSED"
    assert verdict["free"] == verdict["usable_ports"]
    assert "nothing listens there" in report["summary"]


def all_reserved():
    write_sysctl("net.ipv4.ip_local_port_range", "40000 40009")
    write_sysctl("net.ipv4.ip_local_reserved_ports", "40000-40009")
    return ask("127.0.0.1:7011")


def test_a_range_that_is_reserved_as_a_whole_needs_other_advice(in_namespace):
    report = in_namespace(all_reserved)
    assert report["connect"]["verdict"] == "EADDRNOTAVAIL"
    (advice,) = report["advice"]
    assert "ip_local_reserved_ports" in advice


def test_a_name_with_several_addresses_says_which_it_is_about(monkeypatch):
    found = [
        (socket.AF_INET6, 1, 6, "", ("2001:db8::5", 80, 0, 0)),
        (socket.AF_INET, 1, 6, "", ("192.0.2.5", 80)),
        (socket.AF_INET, 1, 6, "", ("192.0.2.6", 80)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    ends = parse_ends("example.org:80", None)
    assert (ends.destination.address, ends.others) == ("2001:db8::5", ("192.0.2.5", "192.0.2.6"))
    ends = parse_ends("example.org:80", "127.0.0.1")
    assert (ends.destination.address, ends.others) == ("192.0.2.5", ("2001:db8::5", "192.0.2.6"))


def a_full_accept_queue():
    with ExitStack() as stack:
        server = listen(stack, backlog=1, port=7012)
        for _ in range(2):
            stack.enter_context(socket.create_connection(server.getsockname()))
        report = ask("127.0.0.1:7012")
        late = stack.enter_context(socket.socket())
        late.settimeout(0.3)
        return report, late.connect_ex(server.getsockname()), os.getpid()


def test_a_full_accept_queue_of_this_host_lets_nobody_in(in_namespace):
    report, code, pid = in_namespace(a_full_accept_queue)
    assert code in (errno.EAGAIN, errno.ETIMEDOUT), "the kernel does not answer the SYN"
    assert (report["connect"]["verdict"], report["connect"]["stage"]) == ("ETIMEDOUT", "listener")
    assert "accept queue of the listener there is full (2 of 1)" in report["summary"]
    (listener,) = report["listeners"]
    assert (listener["local"], listener["accept_queue"], listener["accept_limit"]) == ("127.0.0.1:7012", 2, 1)
    assert listener["pid"] == pid
    assert ("accept-queue-full", "critical") in {
        (found["rule"], found["severity"]) for found in report["findings"]
    }


def an_accept_queue_with_room():
    with ExitStack() as stack:
        server = listen(stack, backlog=1, port=7012)
        stack.enter_context(socket.create_connection(server.getsockname()))
        return ask("127.0.0.1:7012"), socket.create_connection(server.getsockname()).close()


def test_an_accept_queue_with_room_for_one_takes_one(in_namespace):
    report, _ = in_namespace(an_accept_queue_with_room)
    assert (report["connect"]["verdict"], report["connect"]["stage"]) == ("ok", "accepted")


def what_is_outstanding():
    with ExitStack() as stack:
        server = listen(stack, port=7013)
        client = stack.enter_context(socket.create_connection(server.getsockname()))
        accepted = stack.enter_context(server.accept()[0])
        accepted.sendall(b"x" * 1009)
        client.sendall(b"y" * 97)
        return ask("127.0.0.1:7013"), tcpdoctor("explain", "--connect", "127.0.0.1:7013").stdout


def test_what_a_process_has_not_read_is_told(in_namespace):
    report, text = in_namespace(what_is_outstanding)
    (group,) = report["sockets"]
    assert (group["state"], group["sockets"]) == ("established", 1)
    assert (group["unread_bytes"], group["unacknowledged_bytes"], group["unanswered"]) == (1009, 0, 0)
    assert "1009 bytes not read by the process" in " ".join(text.split()).replace(",", "").replace(
        " B ", " bytes "
    )


def dials_into_silence():
    with unanswered(7) as server:
        where = "{}:{}".format(*server.getsockname())
        wait_until(lambda: ask(where)["findings"], "a finding", 40)
        return ask(where), tcpdoctor("explain", "--connect", where).stdout


def test_attempts_that_get_no_answer_are_told_with_the_finding_of_check(in_namespace):
    report, text = in_namespace(dials_into_silence)
    assert report["connect"]["stage"] == "accepted", "the port and the listener are there"
    (group,) = [group for group in report["sockets"] if group["state"] == "syn_sent"]
    assert (group["sockets"], group["unanswered"], group["unacknowledged_bytes"]) == (7, 7, 0)
    assert group["oldest_s"] > 1
    assert "syn-sent-unanswered" in {found["rule"] for found in report["findings"]}
    assert "7 SYN_SENT, the oldest for at least" in " ".join(text.split())


def another_host():
    two_hosts_on_a_link()
    return ask("10.1.0.2:80")


def test_of_another_host_only_the_way_out_is_promised(in_namespace):
    report = in_namespace(another_host)
    assert (report["connect"]["verdict"], report["connect"]["stage"]) == ("ok", "peer")
    assert report["summary"].endswith("this host lets it out; whether the peer answers was not asked.")
    assert (report["listens_here"], report["listeners"]) == (None, [])


def another_host_that_is_silent():
    """The link address of the next hop is known, and nobody has it."""
    ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    ip("addr", "add", "10.1.0.1/24", "dev", "v0")
    for link in ("v0", "v1"):
        ip("link", "set", link, "up")
    ip("neigh", "add", "10.1.0.2", "lladdr", "02:00:00:00:00:07", "dev", "v0", "nud", "permanent")
    with ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("10.1.0.2", 80))
        wait_until(lambda: ask("10.1.0.2:80")["sockets"][0]["unanswered"] == 3, "a SYN sent again", 20)
        return ask("10.1.0.2:80"), tcpdoctor("explain", "--connect", "10.1.0.2:80").stdout


def test_of_another_host_that_answers_nobody_it_is_said_first(in_namespace):
    report, text = in_namespace(another_host_that_is_silent)
    assert (report["connect"]["verdict"], report["connect"]["stage"]) == ("ok", "peer")
    assert report["summary"].endswith("this host lets it out; 3 that wait there got no answer so far.")
    assert report["advice"][0].startswith("Find where the packets end: ")
    assert text.startswith("OK, BUT  ")


def test_without_a_look_up_a_destination_is_a_number():
    done = tcpdoctor("explain", "--connect", "localhost:80", "--no-lookup")
    assert "--no-lookup" in complaint(done)


def from_a_port_of_its_own():
    with ExitStack() as stack:
        server = listen(stack, port=7014)
        taken = stack.enter_context(socket.socket())
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 7015))
        taken.connect(server.getsockname())
        where = ("127.0.0.1:7014", "127.0.0.1:7015"), ("127.0.0.2:7014", ":7015"), ("127.0.0.1:7014", ":7016")
        return [ask(to, source) for to, source in where]


def test_a_client_with_a_port_of_its_own_meets_who_has_it(in_namespace):
    same, elsewhere, other = in_namespace(from_a_port_of_its_own)
    assert (same["source_port"], same["connect"]["verdict"], same["connect"]["stage"]) == (
        7015,
        "EADDRINUSE",
        "bind",
    )
    attempts = {tuple(one["options"]): one for one in same["bind_then_connect"]["attempts"]}
    assert attempts[()] == {"options": [], "bind": "EADDRINUSE", "connect": None, "certain": True}
    assert attempts["SO_REUSEADDR",]["bind"] == "ok"
    assert attempts["SO_REUSEADDR",]["connect"] == "EADDRNOTAVAIL", "the same two ends"
    assert elsewhere["connect"]["verdict"] == "EADDRINUSE"
    assert other["connect"]["verdict"] == "ok"


def predicted(destination, family, address, *more):
    """What the program says, and after it what the kernel does: verdict, certain or not, the doubts."""
    report = json.loads(tcpdoctor("explain", "--connect", destination, *more, "--format", "json").stdout)
    told = report["connect"]
    with socket.socket(family) as client:
        client.settimeout(20)
        number = client.connect_ex(address)
    kernel = errno.errorcode[number] if number else "ok"
    return (told["verdict"], told["certain"], report["doubts"]), kernel


def interfaces_of_listeners():
    ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    ip("link", "set", "v0", "up")
    ip("address", "add", "10.1.0.1/24", "dev", "v0")
    ip("-6", "address", "add", "2001:db8::1/64", "dev", "v0", "nodad")
    answers = []
    with ExitStack() as stack:
        for number, (device, family, wild) in enumerate(
            (device, family, wild)
            for device in ("v0", "lo")
            for family, wild in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))
        ):
            server = stack.enter_context(socket.socket(family))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            server.bind((wild, 7001 + number))
            server.listen(23)
            ours = ("127.0.0.1", "10.1.0.1") if family == socket.AF_INET else ("::1", "2001:db8::1")
            for host in ours:
                shown = f"[{host}]:{7001 + number}" if ":" in host else f"{host}:{7001 + number}"
                answers.append((device, host, *predicted(shown, family, (host, 7001 + number))))
    return answers


def test_a_listener_of_an_interface_answers_to_the_addresses_of_that_interface(in_namespace):
    for device, host, (verdict, certain, _), kernel in in_namespace(interfaces_of_listeners):
        assert (verdict, certain) == (kernel, True), (device, host)


def without_ipv6():
    write_sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    return [predicted(f"[{host}]:80", socket.AF_INET6, (host, 80)) for host in ("::1", "2001:db8::1")]


def test_without_an_ipv6_address_connect_lacks_a_source_and_no_port(in_namespace):
    for (verdict, certain, _), kernel in in_namespace(without_ipv6):
        assert (verdict, certain, kernel) == ("EADDRNOTAVAIL", True, "EADDRNOTAVAIL")


def ipv6_off_everywhere():
    write_sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    return json.loads(tcpdoctor("explain", "--connect", "[::1]:80", "--format", "json").stdout)["advice"]


def test_without_ipv6_it_is_not_only_the_loopback_that_may_be_down(in_namespace):
    assert "net.ipv6.conf.lo.disable_ipv6" in in_namespace(ipv6_off_everywhere)[0]


def loopback_down():
    with socket.create_server(("127.0.0.1", 7001)):
        ip("link", "set", "lo", "down")
        return json.loads(tcpdoctor("explain", "--connect", "127.0.0.1:7001", "--format", "json").stdout)


def test_nothing_passes_a_loopback_that_is_down(in_namespace):
    report = in_namespace(loopback_down)
    assert report["connect"]["verdict"] in ("ETIMEDOUT", "ENETUNREACH")
    assert "ip link set lo up" in report["advice"][0]


FILTER = """
table ip f {
    chain out {
        type filter hook output priority 0;
        tcp dport 7001 reject with tcp reset
        tcp dport { 7002, 7003 } jump inner
        tcp sport 7004 drop
    }
    chain inner { drop; }
}
"""


def behind_filters():
    with ExitStack() as stack:
        for port in (7001, 7002, 7005):
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        plain = predicted("127.0.0.1:7005", socket.AF_INET, ("127.0.0.1", 7005))
        subprocess.run(["nft", "-f", "-"], input=FILTER, text=True, check=True, timeout=120)
        named = [
            json.loads(tcpdoctor("explain", "--connect", f"127.0.0.1:{port}", "--format", "json").stdout)
            for port in (7001, 7002, 7005)
        ]
        return plain, named


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_a_rule_that_drops_or_rejects_packets_for_the_port_makes_it_uncertain(in_namespace):
    ((verdict, certain, doubts), kernel), named = in_namespace(behind_filters)
    assert (verdict, certain, doubts, kernel) == ("ok", True, [], "ok")
    assert [report["connect"]["certain"] for report in named] == [False, False, False]
    assert (
        "rule of nft (table ip f, chain out) drops or rejects packets for this port" in named[0]["doubts"][0]
    )
    assert "chain inner) drops or rejects packets for this port" in named[1]["doubts"][0]
    assert "whether these, was not compared" in named[2]["doubts"][0]
    assert "unless a rule of nft (table ip f, chain out) that drops or rejects" in named[0]["summary"]
    assert ["a listener of this host takes it" in report["summary"] for report in named] == [
        False,
        False,
        False,
    ]
    assert "whether rules of nft (table ip f, chain out)" in named[2]["summary"]
    assert ["nft list ruleset" in " ".join(report["advice"]) for report in named] == [True, True, False]


def dropped_where_nothing_listens():
    subprocess.run(["nft", "-f", "-"], input=FILTER, text=True, check=True, timeout=120)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(5)]
        for client in clients:
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(("127.0.0.1", 7003))
        wait_until(
            lambda: all(client.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 4)[2] for client in clients),
            "SYN sent again",
        )
        return json.loads(tcpdoctor("explain", "--connect", "127.0.0.1:7003", "--format", "json").stdout)


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_a_reset_that_does_not_come_is_not_predicted(in_namespace):
    report = in_namespace(dropped_where_nothing_listens)
    assert (report["connect"]["verdict"], report["connect"]["certain"]) == ("ETIMEDOUT", False)
    assert "nothing listens there, but the reset that says so does not come: 5 SYN_SENT" in report["summary"]
    assert "nft list ruleset" in report["advice"][0]
    assert not report["does_not_help"]


TCP_INFO = 11
TCP_MD5SIG = 14


def set_md5_key(sock, peer):
    address = struct.pack("=H2x4s", socket.AF_INET, socket.inet_aton(peer)).ljust(128, b"\0")
    sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, address + struct.pack("=BBHi80s", 0, 0, 7, 0, b"testing"))


def signing_listeners():
    answers = []
    with ExitStack() as stack:
        for port, peer in ((7001, "127.0.0.1"), (7002, "127.0.0.9")):
            server = stack.enter_context(socket.create_server(("127.0.0.1", port)))
            try:
                set_md5_key(server, peer)
            except OSError as error:
                return error.errno
            report = json.loads(
                tcpdoctor("explain", "--connect", f"127.0.0.1:{port}", "--format", "json").stdout
            )
            client = stack.enter_context(socket.socket())
            client.settimeout(1)
            try:
                kernel = client.connect_ex(("127.0.0.1", port))
            except TimeoutError:
                kernel = errno.EAGAIN
            answers.append((report, kernel))
    return answers


def test_a_listener_that_takes_signed_segments_only_is_not_certain_to_answer(in_namespace):
    answers = in_namespace(signing_listeners)
    if answers in (errno.ENOPROTOOPT, errno.EOPNOTSUPP):
        pytest.skip("this kernel has no TCP-MD5")
    (signed, unheard), (plain, heard) = answers
    assert (unheard, heard) == (errno.EAGAIN, 0)
    assert (signed["connect"]["verdict"], signed["connect"]["certain"]) == ("ok", False)
    assert "TCP-MD5 signature only" in signed["doubts"][0]
    assert "if the client signs with its TCP-MD5 key" in signed["summary"]
    assert (plain["connect"]["certain"], plain["doubts"]) == (True, [])


def to_itself():
    report = ask("127.0.0.1:7018", "127.0.0.1:7018")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 7018))
        return report, sock.connect_ex(("127.0.0.1", 7018))


def test_from_a_port_to_itself_a_socket_is_connected_to_itself(in_namespace):
    report, code = in_namespace(to_itself)
    assert code == 0
    assert (report["connect"]["verdict"], report["connect"]["certain"]) == ("ok", True)
    assert "to itself" in report["summary"]


def perhaps_to_itself():
    write_sysctl("net.ipv4.ip_local_port_range", "40000 40001")
    return ask("127.0.0.1:40000")


def test_where_the_kernel_may_choose_the_very_port_a_refusal_is_not_certain(in_namespace):
    report = in_namespace(perhaps_to_itself)
    assert (report["connect"]["verdict"], report["connect"]["certain"]) == ("ECONNREFUSED", False)
    assert "connects to itself" in report["doubts"][0]


def a_destination_of_another_namespace():
    """Its address is this machine's, and not this namespace's: it is another host."""
    ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    ip("address", "add", "10.1.0.1/24", "dev", "v0")
    ip("link", "set", "v0", "up")
    sleeper = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    try:
        wait_until(
            lambda: os.stat(f"/proc/{sleeper.pid}/ns/net") != os.stat("/proc/self/ns/net"), "a namespace"
        )
        ip("link", "set", "v1", "netns", str(sleeper.pid))
        inside = ["nsenter", "--net", "--target", str(sleeper.pid)]
        subprocess.run([*inside, "ip", "address", "add", "10.1.0.2/24", "dev", "v1"], check=True, timeout=120)
        subprocess.run([*inside, "ip", "link", "set", "v1", "up"], check=True, timeout=120)
        return ask("10.1.0.2:80")
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="entering one more namespace needs root")
def test_an_address_of_another_namespace_is_another_host(in_namespace):
    report = in_namespace(a_destination_of_another_namespace)
    assert (report["connect"]["stage"], report["listens_here"]) == ("peer", None)
    assert "whether the peer answers was not asked" in report["summary"]


def led_elsewhere():
    """A rule of nft sends the port to another one, where somebody listens."""
    rule = "tcp dport 7020 redirect to :7021"
    rules = f"table inet m {{ chain out {{ type nat hook output priority -100; {rule}; }}; }}"
    subprocess.run(["nft", rules], check=True, timeout=120)
    with ExitStack() as stack:
        listen(stack, port=7021)
        report = ask("127.0.0.1:7020")
        return report, socket.create_connection(("127.0.0.1", 7020)).close()


@pytest.mark.skipif(shutil.which("nft") is None, reason="no program nft")
def test_a_port_that_a_rule_sends_elsewhere_is_not_refused(in_namespace):
    report, _ = in_namespace(led_elsewhere)
    verdict = report["connect"]
    assert (verdict["verdict"], verdict["certain"], verdict["stage"]) == ("ok", False, "peer")
    assert report["redirects"] == [{"to": "port 7021 of this host", "where": "nft (table inet m, chain out)"}]
    assert "sends it to port 7021 of this host" in report["summary"]


def as_another_user():
    with ExitStack() as stack:
        listen(stack, port=7017)
        reports = [
            json.loads(
                tcpdoctor(
                    "explain", "--connect", "127.0.0.1:7017", "--source", ":81", "--user", user,
                    "--format", "json",
                ).stdout
            )
            for user in ("nobody", "root")
        ]  # fmt: skip
        child = os.fork()
        if child == 0:
            os.setgid(65534)
            os.setuid(65534)
            try:
                socket.socket().bind(("0.0.0.0", 81))
            except PermissionError:
                os._exit(13)
            os._exit(0)
        return reports, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_user_who_would_connect_decides_about_privileged_ports(in_namespace):
    (nobody, root), kernel = in_namespace(as_another_user)
    assert kernel == errno.EACCES
    assert (nobody["user"], nobody["connect"]["verdict"]) == ("nobody", "EACCES")
    assert (root["user"], root["connect"]["verdict"]) == ("root", "ok")


@pytest.mark.parametrize("user", ["no such user", "", "4294967295", "-1"])
def test_a_user_who_does_not_exist_is_one_line(user):
    assert "--user" in complaint(tcpdoctor("explain", "--connect", "127.0.0.1:80", f"--user={user}"))


NEARLY_FULL = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (211, 211))
server = socket.create_server(("127.0.0.1", 7411))
kept = [socket.socket() for _ in range(193)]
print("ready", flush=True)
sys.stdin.read()
"""


def a_server_that_runs_out_of_descriptors():
    server = subprocess.Popen(
        [sys.executable, "-c", NEARLY_FULL], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    with socket.create_server(("127.0.0.1", 7412)):
        found = [{one["rule"] for one in ask(f"127.0.0.1:{port}")["findings"]} for port in (7411, 7412)]
    server.kill()
    server.wait()
    return found


def test_what_is_found_of_the_process_that_serves_there_is_told(in_namespace):
    there, beside = in_namespace(a_server_that_runs_out_of_descriptors)
    assert "descriptors-nearly-used-up" in there
    assert beside == set()


LEGACY = """
*raw
-A PREROUTING -p tcp --dport 7004 -j DROP
COMMIT
*filter
:inner - [0:0]
-A OUTPUT -p tcp --dport 7001 -j REJECT --reject-with tcp-reset
-A OUTPUT -p tcp -m multiport --dports 7002,7003 -j inner
-A INPUT -p tcp --dport 7006 -j ACCEPT
-A inner -j DROP
COMMIT
"""


def behind_filters_of_iptables_legacy():
    with ExitStack() as stack:
        for port in (7001, 7002, 7004, 7005, 7006):
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        subprocess.run(["iptables-legacy-restore"], input=LEGACY, text=True, check=True, timeout=120)
        named = [ask(f"127.0.0.1:{port}") for port in (7001, 7002, 7004, 7005, 7006)]
        subprocess.run(["iptables-legacy", "-P", "INPUT", "DROP"], check=True, timeout=120)
        return named, ask("127.0.0.1:7005")


@pytest.mark.skipif(not shutil.which("iptables-legacy"), reason="iptables-legacy is not installed")
def test_a_rule_of_iptables_legacy_makes_it_uncertain_for_its_ports_alone(in_namespace):
    (rejects, jumps, raw, free, accepted), policy = in_namespace(behind_filters_of_iptables_legacy)
    asked = (rejects, jumps, raw, free, accepted, policy)
    assert [one["connect"]["certain"] for one in asked] == [False, False, False, True, True, False]
    assert "iptables-legacy (table filter, chain OUTPUT) drops or rejects" in rejects["doubts"][0]
    assert "iptables-legacy (table filter, chain inner) drops or rejects" in jumps["doubts"][0]
    assert "iptables-legacy (table raw, chain PREROUTING) drops or rejects" in raw["doubts"][0]
    assert "iptables-legacy (table filter, chain INPUT)" in policy["doubts"][0]

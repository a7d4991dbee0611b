"""`sockets --udp`: real sockets of UDP with what waits in them, as a table and as JSON."""

import json
import os
import socket
import time

import pytest

from tcpdoctor.answers.record import Host
from tcpdoctor.answers.socket import UdpRow, UdpSockets, sorted_by
from tcpdoctor.report.page import page_text
from tcpdoctor.report.sockets_text import udp_sockets_page
from tcpdoctor.report.style import PLAIN
from tests.cli.command import complaint, tcpdoctor
from tests.schemas import described

DATAGRAMS = 23


def unread(port: int) -> int:
    rows = json.loads(tcpdoctor("sockets", "--udp", "--port", port, "--json").stdout)["sockets"]
    return sum(row["receive_queue"] for row in rows)


def asked() -> dict[str, str]:
    """A server that does not read, a connected client, and an IPv6 socket."""
    kinds = (socket.AF_INET, socket.SOCK_DGRAM)
    with (
        socket.socket(*kinds) as server,
        socket.socket(*kinds) as client,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other,
    ):
        server.bind(("127.0.0.1", 7001))
        other.bind(("::1", 7003))
        client.connect(("127.0.0.1", 7001))
        for _ in range(DATAGRAMS):
            client.send(b"x" * 100)
        deadline = time.monotonic() + 20
        while not unread(7001):
            assert time.monotonic() < deadline
        with open("/proc/self/comm", encoding="utf-8") as comm:
            own = comm.read().strip()
        return {
            "name": own,
            "json": tcpdoctor("sockets", "--udp", "--json").stdout,
            "text": tcpdoctor("sockets", "--udp").stdout,
            "columns": tcpdoctor(
                "sockets", "--udp", "--columns", "local_port,remote", "--sort", "local_port"
            ).stdout,
            "limited": tcpdoctor("sockets", "--udp", "--limit", 1).stdout,
            "peer": tcpdoctor("sockets", "--udp", "--peer", "127.0.0.1:7001", "--json").stdout,
            "named": tcpdoctor("sockets", "--udp", "--name", own, "--json").stdout,
            "nobody": tcpdoctor("sockets", "--udp", "--name", "no-such-program").stdout,
            "pid": tcpdoctor("sockets", "--udp", "--pid", os.getpid(), "--json").stdout,
        }


def test_sockets_of_udp_are_listed_with_owner_queue_and_drops(in_namespace):
    told = in_namespace(asked)
    rows = described(told["json"])["sockets"]
    first, *rest = rows
    assert (first["local"], first["remote"], first["family"]) == ("127.0.0.1:7001", None, "ipv4")
    assert first["receive_queue"] >= DATAGRAMS * 100
    assert {row["owner"]["name"] for row in rows} == {told["name"]}
    assert {row["family"] for row in rest} == {"ipv4", "ipv6"}
    assert [row["remote"] for row in rest if row["remote"]] == ["127.0.0.1:7001"]
    header, top, *_ = told["text"].splitlines()[3:]
    assert header.split() == ["LOCAL", "REMOTE", "OWNER", "RECV", "SEND", "DROPS"]
    assert top.startswith("127.0.0.1:7001")
    assert max(map(len, told["text"].splitlines())) <= 80


def test_they_are_filtered_sorted_and_cut(in_namespace):
    told = in_namespace(asked)
    header, *rows = told["columns"].splitlines()[3:]
    assert header.split() == ["LOCAL_PORT", "REMOTE"]
    assert [row.split()[0] for row in rows][:2] == ["7001", "7003"]
    assert "2 more are not shown" in told["limited"]
    (peer,) = described(told["peer"])["sockets"]
    assert peer["remote_port"] == 7001
    assert described(told["named"])["total"] == described(told["pid"])["total"] == 3
    assert ": 0 UDP sockets" in told["nobody"]


@pytest.mark.parametrize("option", [("--state", "listen"), ("--older", "1"), ("--options",)])
def test_what_only_tcp_has_is_refused(option):
    assert option[0] in complaint(tcpdoctor("sockets", "--udp", *option))


def test_columns_of_tcp_are_refused_with_those_there_are():
    assert "drops" in complaint(tcpdoctor("sockets", "--udp", "--sort", "rtt_s"))


def row(number: int, **changes: object) -> UdpRow:
    plain = UdpRow("ipv6", f"[2001:db8::{number}]:40000", None, 40000, None, 0, 1, None, number, 0, 0)
    return plain._replace(**changes)


def test_on_a_narrow_terminal_a_socket_takes_two_lines_and_none_is_wider():
    rows = (row(1), row(2, inode=0), row(3, remote="[2001:db8:1:2:3:4:5:6]:65535", remote_port=65535))
    host = Host("web1", "6.18.0", "4026531840", None)
    answer = UdpSockets("tcpdoctor.udp-sockets/1", host, "2026-11-20T03:00:00Z", 3, {}, rows)
    lines = page_text(udp_sockets_page(answer, PLAIN), PLAIN._replace(width=40, columns=40)).splitlines()
    assert max(map(len, lines)) <= 40
    assert "the kernel" in "\n".join(lines)


def test_sorting_puts_large_numbers_first_low_ports_first_and_the_unknown_last():
    rows = (row(1), row(2, local_port=53), row(3, remote_port=99))
    assert [each.receive_queue for each in sorted_by(rows, "receive_queue")] == [3, 2, 1]
    assert sorted_by(rows, "local_port")[0].local_port == 53
    assert sorted_by(rows, "remote_port")[0].remote_port == 99

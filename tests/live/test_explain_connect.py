"""`explain --connect` through the command that users run."""

import json
import socket
from contextlib import ExitStack

import pytest

from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import listen
from tests.cli.command import complaint, tcpdoctor

KEYS = [
    "schema", "host", "taken_at", "source", "destination", "summary", "connect", "bind_then_connect", "range",
    "route", "listens_here", "owners", "held_by_no_process", "advice", "does_not_help", "doubts", "missing",
]  # fmt: skip
CONNECT_KEYS = [
    "verdict", "certain", "usable_ports", "used", "free", "free_perhaps", "used_by_state",
    "lost_to_bound_sockets", "time_wait_counts", "time_wait_reusable", "next_free_in_s",
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
    (text, found), errno = in_namespace(exhausted, family, host)
    assert (text.returncode, found.returncode, errno) == (0, 0, 99)
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
    }
    assert report["owners"][0]["sockets"] == 24
    first = " ".join(text.stdout.split("\n\n")[0].split())
    assert "fails with EADDRNOTAVAIL: none of the 24 ports 40000-40023 is left" in first
    assert max(map(len, text.stdout.splitlines())) <= 80
    assert len(text.stdout.splitlines()) <= 50, "one screen"


@pytest.mark.parametrize(
    "destination",
    [
        "",
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


@pytest.mark.parametrize("source", ["here", "1.2.3", "::1", "127.0.0.1:80", "fe80::1"])
def test_what_is_no_source_is_one_line(source):
    complaint(tcpdoctor("explain", "--connect", "127.0.0.1:80", f"--source={source}"))

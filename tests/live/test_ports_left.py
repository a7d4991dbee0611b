"""The ports that Prometheus is told are left towards a destination are those that connect() still gets."""

import contextlib
import errno
import json
import re
import socket

from tcpdoctor.lab.namespace import write_sysctl
from tests.cli.command import tcpdoctor

RANGE = (40_000, 40_099)
LEFT = re.compile(
    r'^tcpdoctor_destination_ports_left\{destination="([^"]+)",namespace="[^"]+"\} (\d+)$', re.MULTILINE
)


def metrics(*options):
    """The destinations and numbers that are told."""
    asked = ("check", "--window", "0", "--fail-on", "never", "--format", "prometheus")
    return LEFT.findall(tcpdoctor(*asked, *options).stdout)


def connected_until_refused(taken):
    """Take so many ports towards a server, ask how many are left, and take them until there is none."""
    write_sysctl("net.ipv4.ip_local_port_range", f"{RANGE[0]}\t{RANGE[1]}")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 8080), backlog=256))

        def connect():
            stack.enter_context(socket.create_connection(server.getsockname()))

        for _ in range(taken):
            connect()
        told, none = (metrics(*options) for options in ((), ("--prometheus-destinations", "0")))
        for more in range(RANGE[1] - RANGE[0]):
            try:
                connect()
            except OSError as refused:
                return told, none, more, refused.errno
    return told, none, None, None


def test_the_ports_that_are_left_are_those_that_connect_still_gets(in_namespace):
    told, none, more, refused = in_namespace(connected_until_refused, 23)
    assert refused == errno.EADDRNOTAVAIL
    assert told == [("127.0.0.1:8080", str(more))]
    assert none == []


def reserved_while_connected():
    """Connections hold ports that are reserved afterwards: the free ones are as many as before."""
    write_sysctl("net.ipv4.ip_local_port_range", f"{RANGE[0]}\t{RANGE[1]}")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 8080), backlog=256))
        clients = [stack.enter_context(socket.create_connection(server.getsockname())) for _ in range(73)]
        ports = ",".join(str(client.getsockname()[1]) for client in clients)
        write_sysctl("net.ipv4.ip_local_reserved_ports", ports)
        report = json.loads(tcpdoctor("check", "--window", "0", "--format", "json").stdout)
        for _ in range(27):
            stack.enter_context(socket.create_connection(server.getsockname()))
    return {finding["rule"] for finding in report["findings"]}


def test_connections_from_ports_that_are_reserved_take_none_of_the_others(in_namespace):
    assert "ephemeral-ports-nearly-exhausted" not in in_namespace(reserved_while_connected)

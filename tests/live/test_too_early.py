"""Closing sockets that are too many, and too young to be a finding: too early to tell."""

import contextlib
import socket

import pytest

from tests.cli.command import tcpdoctor


def check_with_half_closed(number, *options):
    """Hold both ends of connections whose server ends have sent a FIN, and check at once."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 7001), backlog=number))
        for _ in range(number):
            stack.enter_context(socket.create_connection(server.getsockname()))
            accepted, _ = server.accept()
            stack.enter_context(accepted).shutdown(socket.SHUT_WR)
        return tcpdoctor("check", "--window", "0", *options).stdout


@pytest.mark.parametrize("options", [(), ("--long",)])
def test_a_hundred_young_ones_in_one_process_are_told_beside_ok(in_namespace, options):
    told = " ".join(in_namespace(check_with_half_closed, 107, *options).split())
    assert told.startswith("OK")
    assert "107 in CLOSE_WAIT, but not 100 of them for 60 s yet: too early to tell; look again then" in told
    assert "107 in FIN_WAIT_2, but not 100 of them for 2 min yet: too early to tell" in told


def test_fewer_are_nothing_to_look_at_again(in_namespace):
    assert "too early" not in in_namespace(check_with_half_closed, 97)

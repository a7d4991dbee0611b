"""`sockets` as a table: one row each where the width allows, in the order and with the columns asked for."""

import json
import os
import socket

import pytest

from tests.cli.command import complaint, tcpdoctor

PEERS = 7


def asked() -> tuple[str, list[str], list[dict[str, object]], str, str]:
    """A server with PEERS connections, each of which has sent one byte more than the one before."""
    with socket.create_server(("127.0.0.1", 7001), backlog=23) as server:
        held = []
        for number in range(1, PEERS + 1):
            client = socket.create_connection(("127.0.0.1", 7001))
            accepted, _ = server.accept()
            client.sendall(b"x" * number)
            held += [client, accepted]
        columns = "state,local_port,receive_queue,owner"
        queues = ("sockets", "--port", 7001, "--state", "established", "--sort", "receive_queue")
        table = tcpdoctor(*queues, "--columns", columns, "--limit", 3).stdout
        rows = json.loads(tcpdoctor(*queues, "--json", "--limit", 3).stdout)["sockets"]
        with open("/proc/self/comm", encoding="utf-8") as comm:
            own = comm.read().strip()
        named = tcpdoctor("sockets", "--name", own, "--json").stdout
        nobody = tcpdoctor("sockets", "--name", "no-such-program").stdout
        for one in held:
            one.close()
        return own, table.splitlines(), rows, named, nobody


def test_columns_sort_limit_and_name(in_namespace):
    own, table, rows, named, nobody = in_namespace(asked)
    header, *lines = table[3 : 6 + 1]
    assert header.split() == ["STATE", "LOCAL_PORT", "RECEIVE_QUEUE", "OWNER"]
    assert [line.split()[:3] for line in lines] == [["established", "7001", str(n)] for n in (7, 6, 5)]
    assert [(row["receive_queue"], row["local_port"]) for row in rows] == [(7, 7001), (6, 7001), (5, 7001)]
    assert all(row["remote_port"] for row in rows)
    answer = json.loads(named)
    assert answer["total"] == 2 * PEERS + 1
    assert {row["owner"]["name"] for row in answer["sockets"]} == {own}
    assert ": 0 TCP sockets" in nobody


def wide() -> str:
    """What a terminal of 160 columns shows."""
    import pty
    import subprocess

    from tests.cli.command import COMMAND, environment

    with socket.create_server(("127.0.0.1", 7002), backlog=23):
        ours, theirs = pty.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        with subprocess.Popen(
            [*COMMAND, "sockets", "--color", "never"], stdout=theirs, env=environment({"TERM": "xterm"})
        ) as shown:
            os.close(theirs)
            text = b""
            while True:
                try:
                    part = os.read(ours, 65536)
                except OSError:
                    break
                if not part:
                    break
                text += part
        assert shown.returncode == 0
        return text.decode()


def test_where_the_terminal_is_wide_each_socket_is_one_row_below_a_header(in_namespace):
    lines = in_namespace(wide).splitlines()
    header = next(line for line in lines if line.startswith("STATE"))
    assert header.split() == ["STATE", "LOCAL", "OWNER", "RECV", "SEND"], "columns that hold something"
    assert lines[lines.index(header) + 1].split()[:2] == ["LISTEN", "127.0.0.1:7002"]


@pytest.mark.parametrize("option", [("--sort", "colour"), ("--columns", "state,colour")])
def test_a_column_that_there_is_not_is_refused_with_those_that_there_are(option):
    line = complaint(tcpdoctor("sockets", *option))
    assert "no column 'colour'" in line
    assert "receive_queue" in line

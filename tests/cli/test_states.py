"""`states` on a real kernel, beside what ss counts."""

import json
import shutil
import socket
import subprocess

import pytest

from tcpdoctor.kernel.states import COUNTED_STATES
from tests.cli.command import tcpdoctor

NAMES = {
    "established": "established",
    "close_wait": "close-wait",
    "fin_wait_2": "fin-wait-2",
    "listen": "listening",
}


def half_closed(*runs):
    """23 connections, 7 of them closed by one side; what `states` says, and what ss counts."""
    with socket.create_server(("127.0.0.1", 18080), backlog=23):
        pairs = []
        with socket.create_server(("127.0.0.1", 18081), backlog=23) as server:
            for _ in range(23):
                client = socket.create_connection(("127.0.0.1", 18081))
                pairs.append((client, server.accept()[0]))
            for client, _ in pairs[:7]:
                client.shutdown(socket.SHUT_WR)
            answers = [tcpdoctor("states", *run) for run in runs]
            counts = {key: count_with_ss(name) for key, name in NAMES.items()}
    return [(answer.returncode, answer.stdout, answer.stderr) for answer in answers], counts


def count_with_ss(state):
    if shutil.which("ss") is None:
        return None
    command = ["ss", "-Htan", "state", state]
    return len(
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    )


def test_json_agrees_with_ss(in_namespace):
    ((code, output, errors),), counts = in_namespace(half_closed, ("--format", "json"))
    assert (code, errors) == (0, "")
    document = json.loads(output)
    assert document["states"]["established"] == 32
    assert document["states"]["close_wait"] == document["states"]["fin_wait_2"] == 7
    assert document["by"] is None
    for key, number in counts.items():
        assert number in (None, document["states"][key])


@pytest.mark.parametrize(
    ("by", "key", "state", "number"),
    [("port", "18081", "close_wait", 7), ("peer", "127.0.0.1", "established", 32)],
)
def test_groups_add_up_to_all_sockets(in_namespace, by, key, state, number):
    ((_, output, _),), _ = in_namespace(half_closed, ("--by", by, "--format", "json"))
    document = json.loads(output)
    rows = {row["key"]: row["states"] for row in document["by"]}
    assert rows[key][state] == number
    for counted in COUNTED_STATES:
        in_all = document["states"][counted.key]
        assert in_all in (None, sum(row[counted.key] or 0 for row in rows.values()))


def test_ports_of_clients_are_one_row(in_namespace):
    ((_, output, _),), _ = in_namespace(half_closed, ("--by", "port"))
    assert "client ports 32768-60999" in output
    assert "  18081 " in output
    assert "  18080 " in output


def test_a_process_is_named_with_its_pid(in_namespace):
    ((code, output, errors),), _ = in_namespace(half_closed, ("--by", "process"))
    assert (code, errors) == (0, "")
    assert "By process" in output
    assert max(map(len, output.splitlines())) <= 80

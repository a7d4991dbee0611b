"""A report that sos itself makes, of a private network namespace where client ports run out."""

import json
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cli.command import tcpdoctor

FIRST, LAST = 40_000, 40_096
CONNECTED, LEAKED = 89, 37
PORT, OTHER_PORT = 7001, 7003
PLUGINS = "networking,kernel,process,host,date"


def write_setting(name, value):
    Path("/proc/sys/net/ipv4", name).write_text(value)


def many_connections():
    """89 clients of one server from 97 ports; 37 of them have ended, and nobody closes on this side."""
    write_setting("ip_local_port_range", f"{FIRST} {LAST}")
    write_setting("tcp_syncookies", "0")
    server = socket.create_server(("127.0.0.1", PORT), backlog=CONNECTED)
    clients = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(CONNECTED)]
    accepted = [server.accept()[0] for _ in clients]
    for client in clients[:LEAKED]:
        client.shutdown(socket.SHUT_WR)
    for connection in accepted[:LEAKED]:
        assert connection.recv(1) == b""
    return server, clients, accepted


def report_of_this_namespace(sos, folder):
    """Let sos look while the connections are there; write the pid that holds them."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=300)
    held = many_connections()
    command = [sos, "report", "--batch", "--quiet", "--no-report", "--no-env-vars", "--tmp-dir", folder]
    options = ["-o", PLUGINS, "-z", "xz"]
    for option in ("process.lsof=off", "networking.ethtool_namespaces=off"):
        options += ["-k", option]
    subprocess.run([*command, *options], stdout=subprocess.DEVNULL, check=True, timeout=300)
    assert len(held[1]) == CONNECTED
    sys.stdout.write(str(os.getpid()))


def asked(path, *command):
    answer = tcpdoctor(*command, "--from", path, "--json")
    assert answer.returncode in (0, 1, 2), answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="sos takes root")
def test_a_report_of_sos_tells_what_a_live_look_would(need, tmp_path):
    inside = ["unshare", "--net", sys.executable, "-m", __name__, need("sos", "sosreport"), str(tmp_path)]
    made = subprocess.run(
        inside, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900, check=False
    )
    assert made.returncode == 0, made.stderr
    pid = int(made.stdout)
    (archive,) = tmp_path.glob("*.tar.xz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked")  # noqa: S202 - sos made it a moment ago
    (folder,) = (tmp_path / "unpacked").iterdir()
    for path in (archive, folder):
        answer = asked(path, "check")
        assert answer["source"]["kind"] == "sosreport"
        assert answer["host"]["kernel"] == os.uname().release
        assert answer["host"]["name"] == os.uname().nodename
        assert answer["states"]["close_wait"] == LEAKED
        assert answer["states"]["fin_wait_2"] == LEAKED
        assert answer["states"]["established"] == 2 * (CONNECTED - LEAKED)
        found = {finding["rule"]: finding for finding in answer["findings"]}
        assert found["ephemeral-ports-nearly-exhausted"]["severity"] in ("warning", "critical")
        assert f"{CONNECTED} of {LAST - FIRST + 1}" in json.dumps(found["ephemeral-ports-nearly-exhausted"])
        assert "syncookies-off" in found
        port = asked(path, "explain", "--port", PORT)
        assert str(pid) in json.dumps(port["listeners"])
        leaked = asked(path, "sockets", "--state", "close-wait")
        assert leaked["total"] == LEAKED


if __name__ == "__main__":
    report_of_this_namespace(sys.argv[1], sys.argv[2])

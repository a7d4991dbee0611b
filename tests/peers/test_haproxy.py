"""A real proxy without time limits for half-closed connections: found, and cured by the fix that is given."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.pairs import count_sockets, listen, wait_until
from tests.live.checks import check, evidence, findings

RULE = "proxy-waits-for-one-side"
PAIRS = 23
CONFIG = """
global
    maxconn 500
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    {limits}
listen tunnel
    bind 127.0.0.1:8000
    server far 127.0.0.1:7000
"""


@contextmanager
def haproxy(program: str, folder: Path, limits: str) -> Iterator[None]:
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(limits=limits), encoding="ascii")
    with subprocess.Popen([program, "-db", "-f", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: count_sockets(TcpState.LISTEN, 8000) == 1, "haproxy to listen")
            yield
        finally:
            process.kill()


def half_closed(program: str, folder: Path, limits: str, ended: int) -> list[dict[str, object]]:
    """Clients that end their side, a server that does not; what check says, once `ended` pairs are gone."""
    with ExitStack() as stack:
        server = listen(stack, port=7000)
        stack.enter_context(haproxy(program, folder, limits))
        for _ in range(PAIRS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", 8000), timeout=10))
            accepted = stack.enter_context(server.accept()[0])
            client.sendall(b"x")
            accepted.recv(1)
            client.shutdown(socket.SHUT_WR)
        for left in (PAIRS, PAIRS - ended):
            wait_until(lambda left=left: count_sockets(TcpState.CLOSE_WAIT, 8000) == left, f"{left}", 15)
        report = check(limits={RULE: {"min_age": 0.5}})
        return [finding for finding in findings(report, RULE) if finding["subject"]["name"] == "haproxy"]


@pytest.mark.parametrize(
    ("limits", "ended"), [("", 0), ("timeout client-fin 1s\n    timeout server-fin 1s", PAIRS)]
)
def test_haproxy_needs_its_time_limits_for_half_closed_connections(
    in_namespace, need, tmp_path, limits, ended
):
    program = need("haproxy", "haproxy")
    found = in_namespace(half_closed, program, tmp_path, limits, ended)
    assert len(found) == (0 if ended else 1)
    for finding in found:
        halves = evidence(finding, "close_wait.owned"), evidence(finding, "fin_wait_2.owned")
        assert halves == (PAIRS, PAIRS)

"""Programs set the options that runtimes.toml says they set: Python's own always, others where they are.

A runtime that this machine lacks, or has in another version than the one that was seen, is no case here.
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Listener
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.survey import Seen, take_survey
from tcpdoctor.knowledge.option_pages import Runtime, option_names, read_runtimes
from tests.live.runtime_programs import (
    CLIENTS,
    PORT,
    SERVERS,
    Program,
    is_the_one_that_was_seen,
    prepare,
)

SECONDS = 20
NOT_COMPARED = {"SO_COOKIE", "SO_ACCEPTCONN", "SO_RCVBUF", "SO_SNDBUF"}
"""Buffers grow by themselves."""

RUNTIMES = {runtime.name: runtime for runtime in read_runtimes()}


def cases(programs: tuple[Program, ...]) -> list[Any]:
    return [
        pytest.param(program, RUNTIMES[program.name], id=program.name.replace(" ", "-"))
        for program in programs
        if is_the_one_that_was_seen(program, RUNTIMES[program.name].versions)
    ]


def survey(pid: int) -> tuple[Seen, ...]:
    """A process's listeners and connections; those of others are not searched."""
    found = take_survey((TcpState.LISTEN, TcpState.ESTABLISHED), pid=pid, options=True)
    assert not isinstance(found, Missing), found.reason
    return found.sockets


def values(seen: Seen) -> dict[str, OptionValue]:
    assert not isinstance(seen.options, Missing), seen.options.reason
    return {
        name: value
        for name, value in seen.options.items()
        if name not in NOT_COMPARED and not isinstance(value, Missing)
    }


def differences(seen: Seen, plain: Seen) -> dict[str, OptionValue]:
    """The options that are not as on a plain socket; IPV6_V6ONLY of an IPv6 listener in any case."""
    plain_values = values(plain)
    return {
        name: value
        for name, value in values(seen).items()
        if (isinstance(seen.row, Listener) if name == "IPV6_V6ONLY" else value != plain_values[name])
    }


def until(question: Any, process: "subprocess.Popen[bytes]") -> Any:
    """The first true answer."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        assert process.poll() in (None, 0), f"it ended with {process.returncode}"
        time.sleep(0.01)
    raise AssertionError("nothing came")


def start(program: Program, folder: Path) -> "subprocess.Popen[bytes]":
    quiet = subprocess.DEVNULL
    return subprocess.Popen(program.command, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet)


def connect() -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", PORT), timeout=5)
    except ConnectionRefusedError:
        return None


def plain_sockets() -> tuple[socket.socket, socket.socket, socket.socket]:
    """A listener, an accepted socket and a client as the kernel makes them."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    return server, accepted, client


def of_port(pid: int, local: int, remote: int | None = None) -> list[Seen]:
    """A process's sockets at a local port; listeners, or connections from one port."""
    return [
        seen
        for seen in survey(pid)
        if seen.row.local.port == local
        and (seen.row.remote.port if isinstance(seen.row, Connection) else None) == remote
    ]


def look_at_server(program: Program, folder: Path) -> tuple[dict[str, OptionValue], dict[str, OptionValue]]:
    """What its listeners and its accepted socket have that plain ones have not."""
    plain, peer = plain_sockets(), os.getpid()
    plain_port, plain_client = plain[0].getsockname()[1], plain[2].getsockname()[1]
    with start(program, folder) as process:
        client = until(connect, process)
        mine = client.getsockname()[1]
        until(lambda: of_port(process.pid, PORT, mine), process)
        accepted = settled(lambda: of_port(process.pid, PORT, mine)[0])
        listeners: dict[str, OptionValue] = {}
        for seen in of_port(process.pid, PORT):
            listeners |= differences(seen, of_port(peer, plain_port)[0])
        process.kill()
    return listeners, differences(accepted, of_port(peer, plain_port, plain_client)[0])


def settled(look: Callable[[], Seen]) -> Seen:
    """The socket, when its options stayed the same for a tenth of a second: some are set after accept()."""
    last = look()
    for _ in range(100):
        time.sleep(0.1)
        seen = look()
        if values(seen) == values(last):
            return seen
        last = seen
    raise AssertionError("it never settled")


def look_at_client(program: Program, folder: Path) -> dict[str, OptionValue]:
    plain, peer = plain_sockets(), os.getpid()
    plain_port, plain_client = plain[0].getsockname()[1], plain[2].getsockname()[1]
    with socket.create_server(("127.0.0.1", PORT)), start(program, folder) as process:

        def connected() -> list[Seen]:
            return [
                seen
                for seen in survey(process.pid)
                if isinstance(seen.row, Connection) and seen.row.remote.port == PORT
            ]

        until(connected, process)
        seen = settled(lambda: connected()[0])
        process.kill()
    return differences(seen, of_port(peer, plain_client, plain_port)[0])


@pytest.mark.parametrize(("program", "runtime"), cases(SERVERS))
def test_a_server_sets_what_the_data_says(in_namespace, tmp_path, program, runtime):
    tmp_path.chmod(0o755)
    prepare(program, tmp_path)
    listeners, accepted = in_namespace(look_at_server, program, tmp_path)
    assert listeners == runtime.listener
    assert accepted == runtime.accepted


@pytest.mark.parametrize(("program", "runtime"), cases(CLIENTS))
def test_a_client_sets_what_the_data_says(in_namespace, tmp_path, program, runtime):
    assert in_namespace(look_at_client, program, tmp_path) == runtime.client


def told_options(runtime: Runtime) -> set[str]:
    kinds: tuple[Mapping[str, object] | None, ...] = (runtime.listener, runtime.accepted, runtime.client)
    return {name for options in kinds if options for name in options}


def test_the_data_names_only_options_that_have_a_page():
    assert {name for runtime in RUNTIMES.values() for name in told_options(runtime)} <= set(option_names())
    assert all(runtime.versions and runtime.software for runtime in RUNTIMES.values())

"""Makes the sample output in README.md: real diseases, the real command, on this machine's kernel.

    python -m tests.readme        # writes the samples anew; takes a bit more than a minute

Names and numbers that differ from run to run (host, pids, times) are set to fixed ones afterwards.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import in_private_namespace, write_sysctl
from tcpdoctor.lab.pairs import wait_for_state
from tcpdoctor.report.watch_frame import View, frame
from tests.cli.command import COMMAND, environment, tcpdoctor
from tests.report.watch_records import EXAMPLE

README = Path(__file__).resolve().parent.parent / "README.md"
PORT = 8080
NUMBER = 137
CUT = "[...]"
"""Ends a sample that shows only the beginning of an output."""


def leak(seconds: float, *options: str) -> str:
    """What `check` says of a server that does not close what its clients have closed."""
    _rename("orders-api")
    server = socket.create_server(("127.0.0.1", PORT), backlog=512)
    held = []
    clients = []
    for _ in range(NUMBER):
        clients.append(socket.create_connection(server.getsockname()))
        held.append(server.accept()[0])
    _close(clients)
    for accepted in held:
        accepted.recv(1)  # it has read the end of file, and does nothing about it
    _let_age(seconds)
    return tcpdoctor("check", *options).stdout


def sick(seconds: float, *options: str) -> str:
    """What `check` says where, besides the leak, one program does not accept and another does not read."""
    _beside("search", _does_not_accept)
    _beside("shipper", _does_not_read)
    return leak(seconds, *options)


def _does_not_accept() -> object:
    server = socket.create_server(("127.0.0.1", 9200), backlog=128)
    clients = [socket.socket() for _ in range(131)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(server.getsockname())
    return server, clients


def _does_not_read() -> object:
    server = socket.create_server(("127.0.0.1", 5044))
    pairs = [(socket.create_connection(server.getsockname()), server.accept()[0]) for _ in range(23)]
    for client, _ in pairs:
        client.sendall(b"x" * 5000)
    return server, pairs


def _beside(name: str, make: Callable[[], object]) -> None:
    """Start a program of that name which makes its sockets and holds them until it is killed."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        _rename(name)
        held = make()
        os.write(writer, b"made")
        while held:
            signal.pause()
    os.read(reader, 4)
    os.close(reader)
    os.close(writer)


def leftover() -> str:
    """What `explain --port` says after a server without SO_REUSEADDR closed first and ended."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", PORT))
        server.listen()
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    return tcpdoctor("explain", "--port", str(PORT)).stdout


def watched() -> str:
    """What `watch` draws of a busy host on 80 columns and 24 lines."""
    lines = frame(EXAMPLE, View(), 80, 24)
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def pasted() -> str:
    """What `check --from` says of a listing that somebody pasted: that of tests/recordings/samples."""
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(__file__).resolve().parent / "recordings" / "samples" / "ss-tanoempi.txt"
        shutil.copy(listing, Path(folder) / "ss.txt")
        return tcpdoctor("check", "--from", "ss.txt", cwd=folder).stdout


def traced_ends() -> str:
    """What `trace` says of a server that closes first, and that once closes before it has read everything."""
    for _ in range(7):  # perf does not deliver every event to a busy machine, and then that is said
        text = _trace_once()
        if "undelivered" not in text:
            break
    return text


def _trace_once() -> str:
    talk, line = socket.socketpair()
    if os.fork() == 0:
        _rename("orders-api")
        with socket.create_server(("127.0.0.1", PORT)) as server:
            talk.send(b"listening")
            for number in range(3):
                accepted, _ = server.accept()
                accepted.recv(4)
                accepted.sendall(b"200 OK")
                if number < 2:
                    accepted.shutdown(socket.SHUT_WR)
                    accepted.recv(1)
                else:
                    accepted.recv(1, socket.MSG_PEEK)
                accepted.close()
            talk.recv(1)
        os._exit(0)
    line.recv(9)
    command = [*COMMAND, "trace", "--pid", "orders-api"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "looking until" in process.stderr.readline()
        for request in (b"GET ", b"GET ", b"POST much"):
            with socket.create_connection(("127.0.0.1", PORT)) as client:
                client.sendall(request)
                client.recv(6)
                with contextlib.suppress(ConnectionResetError):
                    client.recv(1)
        said = [process.stdout.readline()]
        while sum(line.startswith(("here ", "RESET ")) for line in said) < 3:
            said.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        return "".join(said) + process.stdout.read()


def misconfigured() -> str:
    """What `fix` says where settings are wrong, one of them so that servers have to be reserved first."""
    for name, value in {
        "net.ipv4.ip_local_port_range": "50000 50999",
        "net.ipv4.tcp_syncookies": "0",
    }.items():
        write_sysctl(name, value)
    servers = [socket.create_server(("127.0.0.1", port)) for port in (PORT, 33060)]
    text = tcpdoctor("fix").stdout
    for server in servers:
        server.close()
    return text


SAMPLES: dict[str, tuple[str, Callable[[], str]]] = {
    "check": ("tcpdoctor check", lambda: in_private_namespace(sick, 75.0)),
    "nagios": (
        "tcpdoctor check --format nagios --timeout 8",
        lambda: in_private_namespace(leak, 75.0, "--format", "nagios", "--timeout", "8"),
    ),
    "from": ("tcpdoctor check --from ss.txt", pasted),
    "trace": ("tcpdoctor trace --pid orders-api", lambda: in_private_namespace(traced_ends)),
    "port": (f"tcpdoctor explain --port {PORT}", lambda: in_private_namespace(leftover)),
    "watch": ("tcpdoctor watch", watched),
    "fix": ("tcpdoctor fix", lambda: in_private_namespace(misconfigured)),
}
"""The command that the README shows, and what makes its output."""

_VARYING = (
    (re.compile(rf"\b{re.escape(socket.gethostname())}\b"), "web1"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "2026-11-20T03:00:00Z"),
    (re.compile(r"Linux \d+\.\d+\S*?(?=[,\s])"), "Linux 6.18.44"),
    (re.compile(r"\b402653\d{4}\b"), "4026532177"),
    (re.compile(r"(127\.0\.0\.1):(?!8080|9200|5044)\d{4,5}\b"), r"\1:53820"),
    (re.compile(r"\bat \d\d:\d\d:\d\dZ"), "at 03:01:02Z"),
    (re.compile(r"fd \d+, \d+, \d+ and"), "fd 6, 7, 8 and"),
    (re.compile(r"\(\d+ of \d+ are in use\)"), "(146 of 1024 are in use)"),
    (re.compile(r"\bfds \d+/\d+"), "fds 146/20000"),
    (re.compile(r"'fin_wait_2'=\d+"), "'fin_wait_2'=0"),  # the peers' side, which ends after a minute
)
_PIDS = {"orders-api": "811", "search": "902", "shipper": "733"}
_DURATION = re.compile(r"\b\d+(\.\d+)? ([mu]?s|min|h)\b( \d+ (s|min)\b)?")
_RANGE = "between DURATION and DURATION"
"""What the kernel's clocks leave open shows on a busy machine, where a duration is not told as one number."""


def fixed(text: str) -> str:
    """Return an output with everything that differs from machine to machine set to a fixed value."""
    for pattern, value in _VARYING:
        text = pattern.sub(value, text)
    for name, pid in _PIDS.items():
        if told := re.search(rf"\b{name} \((\d+)\)", text):
            # where columns follow the name they stay where they are
            widened = f"{name} ({told[1]})".ljust(20)
            text = text.replace(widened, f"{name} ({pid})".ljust(20))
            text = re.sub(rf"\b{told[1]}\b", pid, text)
    return text


def words(text: str) -> list[str]:
    """Return an output as words, durations alike: pids of another length change where lines end."""
    text = text.replace("FIN_WAIT_2 ?", "FIN_WAIT_2 1 ms")
    return _DURATION.sub("DURATION", fixed(" ".join(text.split()))).replace(_RANGE, "DURATION").split()


def shown(name: str, text: str) -> str:
    """Return the sample of that name as the README has it."""
    match = _block(name).search(text)
    assert match, f"README.md has no sample {name!r}"
    return match[2]


def _block(name: str) -> re.Pattern[str]:
    command = re.escape(SAMPLES[name][0])
    return re.compile(rf"(<!-- sample: {name} -->\n```console\n\$ {command}\n)(.*?)(\n```\n)", re.DOTALL)


def _close(clients: list[socket.socket]) -> None:
    """Close so that each is a minisocket at once, which ends silently.

    Where the ACK of the FIN arrives while close() still owns the socket, as happens on a busy machine, the
    kernel keeps the whole socket (tcp_rcv_state_process(), "bad case"), and when tcp_fin_timeout is over
    that resets its peer: one CLOSE_WAIT fewer (tcp_keepalive_timer()).
    """
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    wait_for_state(clients, TcpState.FIN_WAIT_2)
    for client in clients:
        client.close()


def _rename(name: str) -> None:
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(name)


def _let_age(seconds: float) -> None:
    """The one wait that nothing can shorten: the kernel counts a socket's age in real time."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(left)


def _cut_as_before(old: str, new: str) -> str:
    """End a sample where the README's author ended it: before the same words."""
    if not old.rstrip().endswith(CUT):
        return new.rstrip()
    kept = old.rstrip().removesuffix(CUT).rstrip().splitlines()
    return "\n".join([*new.splitlines()[: len(kept)], CUT])


def write_samples() -> None:
    """Replace every sample in README.md by one made on this machine."""
    text = README.read_text(encoding="utf-8")
    for name, (_, make) in SAMPLES.items():
        sample = _cut_as_before(shown(name, text), fixed(make()))
        text = _block(name).sub(lambda match, sample=sample: match[1] + sample + match[3], text)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write_samples())

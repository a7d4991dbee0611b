"""Real servers under real load, each in the private network namespace of the calling process.

What survives the end of `busy` ends with the process that `in_private_namespace` starts. The loads are what
wrk, redis-benchmark and pgbench can do on two cores: ten to twenty thousand connections a second for nginx
and haproxy, a quarter of a million segments.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tcpdoctor.kernel.live import take_samples
from tcpdoctor.kernel.snapshot import Samples

PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "nginx": {"nginx": "nginx-light", "wrk": "wrk"},
    "redis": {"redis-server": "redis-server", "redis-benchmark": "redis-tools"},
    "postgresql": {"postgres": "postgresql", "initdb": "postgresql", "pgbench": "postgresql"},
    "haproxy": {"haproxy": "haproxy", "nginx": "nginx-light", "wrk": "wrk"},
}
"""Each host's programs, and where Debian has them."""

KEPT_NAMES = ("nginx", "redis-server", "postgres", "haproxy", "wrk", "redis-benchmark", "pgbench", "psql")
"""Names of processes that a recording may show."""

NGINX, NGINX_ONCE, HAPROXY, REDIS, POSTGRESQL = 8081, 8082, 8083, 6379, 5432

_LOAD_SECONDS = 30
"""Far longer than anybody looks: the end of the namespace ends the load."""


@contextmanager
def busy(host: str) -> Iterator[None]:
    """Start a host's servers and their load, and end them afterwards."""
    with tempfile.TemporaryDirectory(prefix="tcpdoctor-host-") as folder:
        try:
            HOSTS[host](Path(folder))
            yield
        finally:
            _end_all()


def look_at(host: str, window: float = 1.0) -> Samples:
    """Look at a host while it is busy."""
    with busy(host):
        return take_samples(window)


def nothing(folder: Path) -> None:
    """A host with the kernel's defaults and one quiet server."""
    del folder
    quiet = socket.create_server(("127.0.0.1", 22))
    _KEPT.append(quiet)


def nginx_under_load(folder: Path) -> None:
    """A web server: connections that stay, and connections for one request each."""
    start_nginx(folder)
    load("wrk", "-t1", "-c53", f"-d{_LOAD_SECONDS}s", f"http://127.0.0.1:{NGINX}/")
    load(
        "wrk",
        "-t1",
        "-c3",
        f"-d{_LOAD_SECONDS}s",
        "-H",
        "Connection: close",
        f"http://127.0.0.1:{NGINX_ONCE}/",
    )
    wait_for_growth("Tcp.PassiveOpens", 400)


def haproxy_under_load(folder: Path) -> None:
    """A proxy that connects to its backend for each request: many ephemeral ports in TIME_WAIT."""
    start_nginx(folder)
    config = folder / "haproxy.cfg"
    config.write_text(
        f"""
global
    maxconn 2000
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option http-server-close
frontend web
    bind 127.0.0.1:{HAPROXY}
    default_backend servers
backend servers
    server one 127.0.0.1:{NGINX}
""",
        encoding="ascii",
    )
    serve(HAPROXY, program("haproxy"), "-db", "-f", str(config))
    load("wrk", "-t1", "-c31", f"-d{_LOAD_SECONDS}s", f"http://127.0.0.1:{HAPROXY}/")
    wait_for_growth("Tcp.PassiveOpens", 900)


def redis_under_load(folder: Path) -> None:
    """A store with pipelined clients that stay, and clients that connect for each request."""
    serve(
        REDIS,
        program("redis-server"),
        *(
            "--port",
            str(REDIS),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            str(folder),
        ),
    )
    load("redis-benchmark", "-p", str(REDIS), "-c", "47", "-n", "100000000", "-t", "set,get", "-q")
    load("redis-benchmark", "-p", str(REDIS), "-c", "2", "-n", "100000000", "-k", "0", "-t", "ping", "-q")
    wait_for_growth("Tcp.PassiveOpens", 400)


def postgresql_under_load(folder: Path) -> None:
    """A database with a pool of clients that stay, and clients that connect for each transaction."""
    cluster, user = folder / "cluster", _server_user(folder)
    run = [*user, program("initdb"), "-D", str(cluster), "-A", "trust", "-U", "postgres", "--no-sync"]
    subprocess.run(run, check=True, capture_output=True, timeout=60, cwd=folder)
    options = ["-h", "127.0.0.1", "-p", str(POSTGRESQL), "-k", "", "-F"]
    serve(POSTGRESQL, *user, program("postgres"), "-D", str(cluster), *options)
    where = ("-h", "127.0.0.1", "-p", str(POSTGRESQL), "-U", "postgres", "postgres")
    wait(lambda: _pgbench("-i", "-s", "1", *where).returncode == 0, "pgbench -i")
    load("pgbench", "-n", "-c", "13", "-T", str(_LOAD_SECONDS), *where)
    load("pgbench", "-n", "-S", "-C", "-c", "3", "-T", str(_LOAD_SECONDS), *where)
    wait_for_growth("Tcp.PassiveOpens", 100)


HOSTS: Mapping[str, Callable[[Path], None]] = {
    "defaults": nothing,
    "nginx": nginx_under_load,
    "redis": redis_under_load,
    "postgresql": postgresql_under_load,
    "haproxy": haproxy_under_load,
}

_KEPT: list[socket.socket] = []
_STARTED: "list[subprocess.Popen[bytes]]" = []


def start_nginx(folder: Path) -> None:
    config = folder / "nginx.conf"
    config.write_text(
        f"""
daemon off;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
worker_processes 2;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{NGINX}; location / {{ return 200 "hello"; }} }}
    server {{ listen 127.0.0.1:{NGINX_ONCE}; keepalive_timeout 0; location / {{ return 200 "hello"; }} }}
}}
""",
        encoding="ascii",
    )
    folder.chmod(0o755)  # its workers are another user
    serve(NGINX, program("nginx"), "-c", str(config), "-p", str(folder))


def serve(port: int, *command: str) -> None:
    """Start a server and wait until it accepts."""
    server = load(*command)

    def accepts() -> bool:
        assert server.poll() is None, f"{command[0]} ended with {server.returncode}"
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    wait(accepts, f"{command[0]} accepts on port {port}")


def load(name: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a program that goes on until its namespace ends."""
    quiet = subprocess.DEVNULL
    started = subprocess.Popen([program(name), *arguments], stdin=quiet, stdout=quiet, stderr=quiet)
    _STARTED.append(started)
    return started


def _end_all() -> None:
    """End the load and then the servers, with their workers: SIGINT is to each of them a fast end."""
    while _STARTED:
        process = _STARTED.pop()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def program(name: str) -> str:
    """Return the path of a program of Debian's.

    Raises:
        FileNotFoundError: It is not installed.
    """
    places = [
        *map(str, Path("/usr/lib/postgresql").glob("*/bin")),
        "/usr/sbin",
        os.environ.get("PATH", os.defpath),
    ]
    found = name if name.startswith("/") else shutil.which(name, path=":".join(places))
    if found is None:
        raise FileNotFoundError(name)
    return found


def wait_for_growth(counter: str, least: int) -> None:
    """Wait until a counter of this namespace has reached `least`: then the load is under way."""
    from tcpdoctor.kernel.counters import read_counters
    from tcpdoctor.kernel.reading import Missing

    def reached() -> bool:
        counters = read_counters().counters
        assert not isinstance(counters, Missing), counters
        return counters[counter] >= least

    wait(reached, f"{counter} reaches {least}")


def wait(condition: Callable[[], bool], what: str, seconds: float = 40) -> None:
    """Return as soon as `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.05)


def _server_user(folder: Path) -> list[str]:
    """Return what to put before a command of PostgreSQL, which refuses to run as root."""
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return [program("setpriv"), *ids]


def _pgbench(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([program("pgbench"), *arguments], check=False, capture_output=True, timeout=60)

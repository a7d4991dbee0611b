"""Every reading command only reads: what strace(1) sees of it, system call by system call."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

READING = {
    "check": ("check", "--window", "0.1", "--fail-on", "never"),
    "check of every namespace": ("check", "--window", "0", "--fail-on", "never", "--netns", "all"),
    "fix": ("fix", "--window", "0"),
    "explain port": ("explain", "--port", "{port}"),
    "explain connect": ("explain", "--connect", "127.0.0.1:{port}"),
    "explain pid": ("explain", "--pid", str(os.getpid())),
    "explain state": ("explain", "--state", "time-wait"),
    "explain sysctl": ("explain", "--sysctl", "tcp_fin_timeout"),
    "explain option": ("explain", "--option", "SO_KEEPALIVE"),
    "explain error": ("explain", "--error", "EADDRINUSE"),
    "states": ("states", "--by", "process"),
    "sockets": ("sockets", "--options"),
    "facts": ("facts",),
    "sysctl show": ("sysctl", "show"),
    "sysctl lint": ("sysctl", "lint", "--fail-on", "never"),
    "rules list": ("rules", "list"),
    "snapshot": ("snapshot", "--window", "0"),
    "watch": ("watch", "--plain", "--interval", "0.2", "--count", "2"),
    "trace": ("trace", "--port", "{port}", "--for", "0.1s"),
    "diff": ("diff", "{recorded}", "{recorded}"),
    "check of a recording": ("check", "--from", "{recorded}", "--fail-on", "never"),
    "sockets of a recording": ("sockets", "--from", "{recorded}"),
    "explain of a recording": ("explain", "--port", "{port}", "--from", "{recorded}"),
}
ACTING = ("listen", "kill", "tkill", "tgkill", "ptrace", "init_module", "finit_module", "delete_module")
MOVING = ("unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "truncate")
OWNING = ("chmod", "fchmodat", "chown", "fchownat", "utimensat", "mount", "umount2", "pivot_root", "chroot")
LINKING = ("symlink", "symlinkat", "link", "linkat", "mknod", "mknodat")
CHANGING = (*MOVING, *OWNING, *LINKING)
OPENING = ("open", "openat", "creat")
CALLS = f"trace=network,execve,{','.join(f'?{name}' for name in (*ACTING, *CHANGING, *OPENING))}"
"""What is looked at below and no more: each call that strace prints stops the program."""
STRACE = ("strace", "-f", "--seccomp-bpf", "-qq", "-s", "120")
ACTS, CHANGES = (re.compile(rf"\b({'|'.join(names)})\(") for names in (ACTING, CHANGING))
NAMES = re.compile(r"\b(?:bind|connect|sendto)\(\d+, .*\{sa_family=(AF_\w+)")
OPENS = re.compile(rf'\b(?:{"|".join(OPENING)})\((?:AT_FDCWD, )?"([^"]*)", ([A-Z_|]+)')
SETS = re.compile(r"\bsetsockopt\(\d+, (\w+), (\w+)")


def run(tmp_path, arguments, *tracer):
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [*tracer, sys.executable, "-m", "tcpdoctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def trace(tmp_path, *arguments):
    """The system calls of a command and its children, those that the program's start makes included."""
    file = tmp_path / "trace"
    run(tmp_path, arguments, *STRACE, "-e", CALLS, "-o", str(file))
    return [
        line
        for line in Path(file).read_text().splitlines()
        if "<... " not in line and " resumed>" not in line
    ]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """What the braces in a command stand for: a recording of this host, and the port of a server."""
    file = tmp_path_factory.mktemp("recorded") / "host.json"
    command = (sys.executable, "-m", "tcpdoctor", "snapshot", "--window", "0", "--output", str(file))
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield {"port": listener.getsockname()[1], "recorded": file}


@pytest.mark.parametrize("arguments", READING.values(), ids=READING)
def test_it_acts_on_nothing_and_writes_only_its_answer(tmp_path, words, arguments):
    calls = trace(tmp_path, *(word.format(**words) for word in arguments))
    assert len(calls) > 50, "strace has seen the program"
    acted = [call for call in calls if ACTS.search(call) and "SIGKILL" not in call]
    assert acted == []
    assert [call for call in calls if CHANGES.search(call)] == []
    assert {found[1] for call in calls if (found := NAMES.search(call))} <= {"AF_NETLINK"}
    opened = [(found[1], found[2]) for call in calls if (found := OPENS.search(call))]
    assert [(path, how) for path, how in opened if re.search("WRONLY|RDWR|CREAT|TRUNC", how)] == []
    own = {found[2] for call in calls if (found := SETS.search(call)) and found[1] != "SOL_NETLINK"}
    assert own <= {
        "SO_RCVBUF",
        "SO_RCVBUFFORCE",
        "SO_SNDBUF",
        "SO_ATTACH_FILTER",
        "SO_RCVTIMEO_OLD",
        "SO_RCVTIMEO",
    }
    programs = [call for call in calls if "execve(" in call]
    assert len(programs) == 1, "no program is run but the one that was asked for"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user loads no module at all")
def test_no_module_is_loaded_but_those_that_list_sockets(tmp_path, words):
    def loaded():
        modules = Path("/proc/modules")  # a kernel that can load none has no such file
        return {line.split()[0] for line in modules.read_text().splitlines()} if modules.exists() else set()

    before = loaded()
    for arguments in READING.values():
        run(tmp_path, [word.format(**words) for word in arguments])
    assert loaded() - before <= {"tcp_diag", "inet_diag"}

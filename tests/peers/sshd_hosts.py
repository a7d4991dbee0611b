"""Hosts with a real sshd on one machine: each has a network, an /etc, a /usr/local and more of its own.

They live in one process-id namespace. When whoever made them ends, however it ends, the kernel kills its
first process and with it all others; networks and mounts go with the last process that is in them.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tcpdoctor.lab.pairs import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
NETWORK = "10.203.17"
_OWN = ("/etc", "/usr/local", "/var/lib", "/root")
"""Of each host: reads the machine's, writes into memory. Of /root nothing is seen."""
_NEW_MOUNTS, _NEW_UTS, _NEW_NET = 0x00020000, 0x04000000, 0x40000000
_DIE_WITH_PARENT = 1


class HostPlan(NamedTuple):
    """One host to make."""

    name: str
    address: str
    python: bool = True
    """Whether it has any Python at all."""
    sysctls: Mapping[str, str] = {}
    leak: int = 0
    """CLOSE_WAIT sockets that a process of it holds."""


class Machine(NamedTuple):
    """The machine that commands are given from, beside the hosts and in their network."""

    pid: int
    """Of its first process, as this process sees it."""
    folder: Path

    def run(self, *command: object, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command on it."""
        return self._enter("--target", str(self.pid), command=command, **options)

    def on(self, name: str, *command: object) -> str:
        """Run a command on a host, past its sshd; return what it printed."""
        inside = (self.folder / f"{name}.pid").read_text(encoding="ascii")
        done = self.run("nsenter", "--target", inside, "--net", "--mount", "--uts", *command)
        assert done.returncode == 0, done
        return done.stdout

    def _enter(
        self, *target: str, command: Sequence[object], **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        spaces = ("--net", "--mount", "--uts", "--pid")
        return subprocess.run(
            ["nsenter", *target, *spaces, *map(str, command)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=120,
            check=False,
            **options,
        )


@contextmanager
def made(folder: Path, plans: Sequence[HostPlan]) -> Iterator[Machine]:
    """Make the hosts; keys, logs and everything else that has to be written is in `folder`."""
    for name in ("host", "client"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=300
        )
    public = (folder / "host.pub").read_text(encoding="ascii").split()[:2]
    known = [" ".join([plan.address, *public]) for plan in plans]
    (folder / "known_hosts").write_text("\n".join(known) + "\n", encoding="ascii")
    (folder / "plans.json").write_text(json.dumps([plan._asdict() for plan in plans]), encoding="utf-8")
    spaces = ("--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
    with subprocess.Popen(
        ["unshare", *spaces, sys.executable, "-m", "tests.peers.sshd_hosts", str(folder)],
        cwd=CHECKOUT,
        preexec_fn=_end_with_parent,
    ) as unshare:
        try:
            ready = folder / "ready"
            wait_until(lambda: ready.exists() or unshare.poll() is not None, "the hosts", 30)
            assert unshare.poll() is None, "the hosts could not be made; see above"
            (child,) = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
            yield Machine(int(child), folder)
        finally:
            unshare.kill()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


# What follows runs as the first process of the namespace.


def main(folder: Path) -> None:
    """Make the hosts that the plans in `folder` describe and stay until killed."""
    call("mount", "--make-rprivate", "/")
    own_copies(["/etc", "/root"])
    call("ip", "link", "set", "lo", "up")
    call("ip", "link", "add", "br0", "type", "bridge")
    call("ip", "address", "add", f"{NETWORK}.1/24", "dev", "br0")
    call("ip", "link", "set", "br0", "up")
    plans = [HostPlan(**plan) for plan in json.loads((folder / "plans.json").read_text(encoding="utf-8"))]
    for number, plan in enumerate(plans):
        start_host(folder, number, plan)
    for plan in plans:
        wait_until(lambda plan=plan: (folder / f"{plan.name}.up").exists(), f"host {plan.name}", 20)  # type: ignore[misc]
    (folder / "ready").touch()
    while True:  # the first process also has to bury what the others leave behind
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()


def start_host(folder: Path, number: int, plan: HostPlan) -> None:
    """Fork one host, and give it a cable to the bridge."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        guarded(lambda: be_host(folder, plan, reader))
    os.close(reader)
    wait_until(lambda: os.readlink(f"/proc/{child}/ns/net") != os.readlink("/proc/self/ns/net"), "a network")
    call("ip", "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", str(child))
    call("ip", "link", "set", f"to{number}", "master", "br0", "up")
    (folder / f"{plan.name}.pid").write_text(str(child), encoding="ascii")
    os.close(writer)


def be_host(folder: Path, plan: HostPlan, cable: int) -> None:
    """Become the host: never returns while its sshd runs."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_NEW_MOUNTS | _NEW_UTS | _NEW_NET) == 0, os.strerror(ctypes.get_errno())
    name = plan.name.encode()
    assert libc.sethostname(name, len(name)) == 0
    os.read(cable, 1)
    own_copies([*_OWN, *([] if plan.python else ["/usr/bin"])])
    call("mount", "-t", "tmpfs", "-o", "mode=755", "host", "/run")
    os.mkdir("/run/sshd", 0o755)
    call("ip", "link", "set", "lo", "up")
    call("ip", "address", "add", f"{plan.address}/24", "dev", "eth0")
    call("ip", "link", "set", "eth0", "up")
    for sysctl, value in plan.sysctls.items():
        Path("/proc/sys", sysctl.replace(".", "/")).write_text(value, encoding="ascii")
    Path("/etc/hostname").write_text(plan.name + "\n", encoding="ascii")
    unlock_root()
    if not plan.python:
        for found in [*Path("/usr/bin").glob("python*"), *Path("/usr/local/bin").glob("python*")]:
            found.unlink()
    leaking = folder / f"{plan.name}.leaking"
    if plan.leak and os.fork() == 0:
        guarded(lambda: leak(plan.leak, leaking))
    wait_until(lambda: not plan.leak or leaking.exists(), "the leak")
    config = folder / f"{plan.name}.sshd_config"
    config.write_text(sshd_config(folder, plan), encoding="utf-8")
    (folder / f"{plan.name}.up").touch()
    if any(Path(place, "python3").exists() for place in ("/usr/bin", "/usr/local/bin")) or not plan.python:
        call("mount", "-t", "tmpfs", "-o", "mode=700", "host", "/root")  # no Python of the machine's root
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin") or "/usr/sbin/sshd"
    log = str(folder / f"{plan.name}.log")
    os.execv(sshd, [sshd, "-D", "-E", log, "-f", str(config)])  # noqa: S606 - sshd has to be run by its path


def sshd_config(folder: Path, plan: HostPlan) -> str:
    """Return a configuration that lets root in with one key."""
    lines = {
        "ListenAddress": f"{plan.address}:22",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "client.pub",
        "StrictModes": "no",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UsePAM": "no",
        "UseDNS": "no",
        "PidFile": "none",
        "MaxStartups": "50",
        "Subsystem": "sftp internal-sftp",
    }
    return "".join(f"{key} {value}\n" for key, value in lines.items())


def own_copies(folders: Sequence[str]) -> None:
    """Lay memory over folders: what is written there is seen in this mount namespace only."""
    top = "/mnt"
    call("mount", "-t", "tmpfs", "-o", "mode=755", "own", top)
    for number, folder in enumerate(folders):
        upper, work = f"{top}/upper{number}", f"{top}/work{number}"
        os.mkdir(upper, os.stat(folder).st_mode & 0o7777)
        os.mkdir(work)
        options = f"lowerdir={folder},upperdir={upper},workdir={work}"
        call("mount", "-t", "overlay", "-o", options, "own", folder)


def unlock_root() -> None:
    """Let sshd accept root's key also where the password is locked with a `!`, in this host's own /etc."""
    shadow = Path("/etc/shadow")
    lines = shadow.read_text(encoding="utf-8").splitlines()
    rows = [line.split(":") for line in lines]
    changed = [":".join([row[0], "*", *row[2:]] if row[0] == "root" else row) for row in rows]
    shadow.write_text("\n".join(changed) + "\n", encoding="utf-8")


def leak(count: int, held: Path) -> None:
    """Hold connections that their peers have closed, until killed."""
    from tcpdoctor.lab.closing import close_wait

    with close_wait(count, read_end=count):
        held.touch()
        signal.pause()


def guarded(function: Callable[[], None]) -> None:
    """Run what a forked child is for, and never come back from it."""
    code = 1
    try:
        function()
        code = 0
    finally:
        sys.stderr.flush()
        if code:
            import traceback

            traceback.print_exc()
        os._exit(code)


def call(*command: str) -> None:
    """Run one command that has to succeed."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

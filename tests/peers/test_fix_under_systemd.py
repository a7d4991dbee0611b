"""A change of settings under a real systemd: its timer undoes it where the whole session is killed.

systemd is booted in a container of its own: the machine's /usr, nothing of its /etc, no network of it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may boot a container"),
]

CHECKOUT = Path(__file__).resolve().parents[2]
UNIT = """
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
Environment=PYTHONPATH={path}
ExecStart={python} /test/inside.py
ExecStopPost=/bin/systemctl exit
"""
INSIDE = '''
import json, os, pty, subprocess, sys, time
from pathlib import Path

FIN, JOURNAL = Path("/proc/sys/net/ipv4/tcp_fin_timeout"), Path("/var/lib/tcpdoctor/fix.json")
FIX = [sys.executable, "-m", "tcpdoctor", "fix", "--window", "0", "--sysctl-d", "/etc/sysctl.d"]

def wait_until(is_so, seconds):
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)

def state():
    return json.loads(JOURNAL.read_text())["state"] if JOURNAL.exists() else None

def of_the_session(pid):
    try:
        return "session.scope" in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False

def asked():
    """Somebody at a terminal, who says yes to the change and is then gone."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(FIX[0], [*FIX, "--apply", "--confirm", "1"])
    said = b""
    while b"[y/N]" not in said:
        said += os.read(terminal, 4096)
    while FIN.read_text() == "5\\n":  # what is typed before the question is no answer
        os.write(terminal, b"y")
        time.sleep(0.3)
    time.sleep(600)

if "asked" in sys.argv:
    asked()
for folder in ("/etc/sysctl.d", "/var/lib"):
    os.makedirs(folder, exist_ok=True)
FIN.write_text("5")
session = ["systemd-run", "--quiet", "--scope", "--unit=session", sys.executable, __file__, "asked"]
subprocess.Popen(session, stdout=subprocess.DEVNULL)
wait_until(lambda: FIN.read_text() == "60\\n" and state() == "pending", 120)
timers = subprocess.run(["systemctl", "list-timers", "--all"], capture_output=True, text=True).stdout
# The program before who typed: it would see him go, and undo it.
session = [pid for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))) if of_the_session(pid)]
for pid in reversed(session):
    os.kill(pid, 9)
killed = FIN.read_text(), state()
wait_until(lambda: state() == "undone", 90)
answer = {
    "timer": "tcpdoctor-fix-" in timers,
    "session": len(session),
    "killed": killed,
    "after": (FIN.read_text(), state(), os.listdir("/etc/sysctl.d")),
}
subprocess.run([*FIX, "--apply", "--yes"])
FIN.write_text("5")
subprocess.run(["/usr/lib/systemd/systemd-sysctl"])
answer["booted"] = FIN.read_text()
Path("/test/answer").write_text(json.dumps(answer))
'''


def container(folder: Path, program: str) -> list[str]:
    """The words that boot systemd with one unit, whose own folders of /run are a tmpfs."""
    shared = [str(CHECKOUT), sys.base_prefix, *(path for path in sys.path if path.endswith("site-packages"))]
    binds = [f"--bind-ro={path}" for path in dict.fromkeys(shared) if not path.startswith("/usr")]
    boot = [program, "--quiet", "-D", "/", "--volatile=yes", "--boot", "--private-network", "--register=no"]
    boot += ["--keep-unit", "--console=pipe", f"--bind={folder}:/test", *binds]
    boot += [f"--bind-ro={folder}/units:/etc/systemd/system", "systemd.unit=test.service"]
    covered = ["unshare", "-m", "-n", "--propagation", "private", "sh", "-c"]
    return [*covered, 'mount -t tmpfs none /run && exec "$@"', "sh", *boot]


def leave_no_groups(before: set[Path]) -> None:
    for folder in sorted(groups() - before, reverse=True):
        folder.rmdir()


def groups() -> set[Path]:
    root = Path("/sys/fs/cgroup")
    return {found for name in ("payload", "supervisor") for found in root.rglob(f"{name}*/**")}


def test_a_timer_of_systemd_undoes_it_where_the_whole_session_is_killed(need, mount_namespace, tmp_path):
    program = need("systemd-nspawn", "systemd-container")
    (tmp_path / "inside.py").write_text(INSIDE, encoding="utf-8")
    (tmp_path / "units").mkdir()
    path = ":".join([str(CHECKOUT), *(entry for entry in sys.path if entry.endswith("site-packages"))])
    python = os.path.realpath(sys.executable)
    (tmp_path / "units" / "test.service").write_text(UNIT.format(python=python, path=path), encoding="utf-8")
    before = groups()
    try:
        booted = subprocess.run(
            container(tmp_path, program),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=400,
            check=False,
        )
    finally:
        leave_no_groups(before)
    assert (tmp_path / "answer").exists(), (booted.stdout, booted.stderr)
    answer = json.loads((tmp_path / "answer").read_text(encoding="utf-8"))
    assert answer["timer"]
    assert answer["session"] >= 2
    assert answer["killed"] == ["60\n", "pending"]
    assert answer["after"] == ["5\n", "undone", []]
    assert answer["booted"] == "60\n"

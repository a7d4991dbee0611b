"""The units as systemd reads them, and their sandbox as far as it can be had without systemd as process 1."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tcpdoctor.lab.closing import close_wait
from tcpdoctor.report.journal import MESSAGE_ID

FOLDER = Path(__file__).parents[2] / "integrations" / "systemd"
SERVICE, TIMER = FOLDER / "tcpdoctor.service", FOLDER / "tcpdoctor.timer"
STATED_SCORE = 2.1
"""What man page and README say that `systemd-analyze security` gives, of 10; without a sandbox it is 9.6."""


def settings(name: str) -> "list[str]":
    """The values of one setting of the service."""
    return re.findall(rf"^{name}=(.*)$", SERVICE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_units_are_as_systemd_wants_them(need, tmp_path):
    analyze = need("systemd-analyze", "systemd")
    here = SERVICE.read_text(encoding="utf-8").replace(
        "/usr/local/bin/tcpdoctor", f"{Path(sys.executable).parent}/tcpdoctor"
    )
    (tmp_path / SERVICE.name).write_text(here, encoding="utf-8")
    shutil.copy(TIMER, tmp_path)
    done = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / SERVICE.name, tmp_path / TIMER.name],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    of_others = ("/lib/systemd/", "/usr/lib/systemd/", "/etc/systemd/")  # it reads units of the machine too
    ours = [line for line in done.stderr.splitlines() if not line.startswith(of_others)]
    assert (done.returncode, done.stdout, ours) == (0, "", [])


def test_the_sandbox_is_as_tight_as_is_stated(need):
    analyze = need("systemd-analyze", "systemd")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", SERVICE],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = re.search(r"Overall exposure level for tcpdoctor.service: ([0-9.]+)", done.stdout)
    assert found
    assert float(found[1]) <= STATED_SCORE
    page = (FOLDER.parents[1] / "man" / "tcpdoctor.1").read_text(encoding="utf-8")
    assert f"gives it {STATED_SCORE} of 10" in page
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"gives it {STATED_SCORE} of 10" in " ".join(readme.split())


def test_no_capability_is_there_that_could_change_anything():
    assert (
        settings("CapabilityBoundingSet")
        == settings("AmbientCapabilities")
        == ["CAP_DAC_READ_SEARCH CAP_SYS_PTRACE"]
    )
    assert settings("SuccessExitStatus") == ["1 2"]


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up all but two capabilities")


def sandboxed(setpriv: str, capabilities: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """The service's command line, as another user with these capabilities and no others."""
    dropped = [f"--{kind}={capabilities}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    user = ["--reuid=61184", "--regid=61184", "--clear-groups", "--no-new-privs"]
    with tempfile.TemporaryDirectory() as state:
        os.chown(state, 61184, 61184)
        command = settings("ExecStart")[0].replace("${STATE_DIRECTORY}", state).split()[1:]
        python = [sys.executable, "-m", "tcpdoctor", *command[:1], *command[2:], "--format", "json", *options]
        return subprocess.run(
            [setpriv, *user, *dropped, *python],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
            timeout=300,
        )


def leak_seen_by_the_service(setpriv: str, capabilities: str):
    with close_wait(113), tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - the service is another user, and reads its configuration
        config = Path(folder) / "config.toml"
        config.write_text("[rules.close-wait-leak.limits]\nmin_age = 0\n", encoding="ascii")
        return sandboxed(setpriv, capabilities, "--config", str(config)), os.getpid()


@root_only
def test_its_two_capabilities_are_enough_to_see_whose_sockets_they_are(in_namespace, need):
    setpriv = need("setpriv", "util-linux")
    done, pid = in_namespace(leak_seen_by_the_service, setpriv, "-all,+dac_read_search,+sys_ptrace")
    report = json.loads(done.stdout)
    (finding,) = [finding for finding in report["findings"] if finding["rule"] == "close-wait-leak"]
    assert finding["subject"]["pid"] == pid
    assert (done.returncode, done.stderr) == (1, "")


@root_only
def test_with_one_of_them_alone_owners_are_hidden_and_that_is_said(in_namespace, need):
    setpriv = need("setpriv", "util-linux")
    done, _ = in_namespace(leak_seen_by_the_service, setpriv, "-all,+dac_read_search")
    report = json.loads(done.stdout)
    assert "close-wait-leak" not in {finding["rule"] for finding in report["findings"]}
    reasons = {item["rule"]: item["reason"] for item in report["unchecked"]}
    assert "CAP_SYS_PTRACE" in reasons["close-wait-leak"]


# --- what the kernel would be asked to refuse ---


def calls_of_the_service(strace: str) -> str:
    """Every system call of the service's command line, with its arguments, as strace writes them."""
    with tempfile.TemporaryDirectory() as state, close_wait(113):
        log = Path(state) / "calls"
        command = settings("ExecStart")[0].replace("${STATE_DIRECTORY}", state).split()[1:]
        for _ in range(2):  # the second run has something to compare with
            subprocess.run(
                [strace, "-f", "-qq", "-o", log, sys.executable, "-m", "tcpdoctor", *command],
                check=False,
                capture_output=True,
                timeout=300,
            )
        return log.read_text(encoding="utf-8", errors="replace")


def members(analyze: str, name: str) -> set[str]:
    """The system calls of a set such as @system-service, and of the sets in it."""
    text = subprocess.run(
        [analyze, "syscall-filter", name], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    found: set[str] = set()
    for line in text.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= members(analyze, word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def allowed(analyze: str) -> set[str]:
    """What the service's SystemCallFilter lets through: the first list gives, the second takes away."""
    given, taken = settings("SystemCallFilter")
    words = [
        set().union(*[members(analyze, w) if w[0] == "@" else {w} for w in part.split()])
        for part in (given, taken[1:])
    ]
    return words[0] - words[1]


def test_every_system_call_of_the_service_is_one_that_its_filter_lets_through(in_namespace, need):
    analyze = need("systemd-analyze", "systemd")
    log = in_namespace(calls_of_the_service, need("strace", "strace"))
    calls = set(re.findall(r"^\d+ +(\w+)\(", log, re.MULTILINE))
    assert {"sendto", "flock", "rename", "execve"} <= calls
    assert calls - allowed(analyze) == set()


def test_it_opens_sockets_of_the_families_that_it_may_and_no_memory_to_write_and_execute(in_namespace, need):
    log = in_namespace(calls_of_the_service, need("strace", "strace"))
    families = set(re.findall(r" socket\((AF_\w+)", log))
    assert "AF_NETLINK" in families
    assert families <= set(settings("RestrictAddressFamilies")[0].split())
    assert "PROT_WRITE|PROT_EXEC" not in log
    # at the start of a line: a file that is read may speak of bind() as well
    assert not re.search(r"^\d+ +(bind|connect|listen)\((?!\d+, \{sa_family=AF_NETLINK)", log, re.MULTILINE)


# --- the journal ---

STREAM = """
import os, socket, sys
stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
stream.connect("/run/systemd/journal/stdout")
# identifier, unit, priority, whether lines begin with one, and three flags: what systemd sends for a service
stream.sendall(b"tcpdoctor-test\\n\\n6\\n1\\n0\\n0\\n0\\n")
status = os.fstat(stream.fileno())
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
os.dup2(stream.fileno(), 1)
os.dup2(stream.fileno(), 2)
os.execv(sys.executable, [sys.executable, "-m", "tcpdoctor", *sys.argv[1:]])
"""

JOURNAL = """
set -e
mount -t tmpfs none /run
mount -t tmpfs none /var/log
mkdir -p /run/systemd /run/log/journal
"$JOURNALD" >/dev/null 2>&1 &
daemon=$!
for try in $(seq 100); do [ -S /run/systemd/journal/stdout ] && break; sleep 0.1; done
"$PYTHON" -c "$STREAM" check --window 0 --config "$CONFIG" || true
"$PYTHON" -c "$STREAM" check --no-such-option || true
for try in $(seq 50); do
    journalctl --sync >/dev/null 2>&1 || true
    journalctl -t tcpdoctor-test -o cat --no-pager 2>/dev/null | grep -q no-such-option && break
    sleep 0.1
done
journalctl -t tcpdoctor-test -t tcpdoctor -o json --no-pager
kill $daemon
"""


def told_to_the_journal(journald: str):
    with close_wait(113), tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text("[rules.close-wait-leak.limits]\nmin_age = 0\n", encoding="ascii")
        environment = os.environ | {
            "JOURNALD": journald,
            "PYTHON": sys.executable,
            "STREAM": STREAM,
            "CONFIG": str(config),
        }
        return subprocess.run(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", JOURNAL],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=60,
        )


@root_only
def test_in_a_real_journal_each_finding_is_an_entry_with_its_priority(in_namespace, need):
    need("journalctl", "systemd")
    done = in_namespace(told_to_the_journal, "/usr/lib/systemd/systemd-journald")
    assert done.stderr == ""
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    (finding,) = [entry for entry in entries if entry.get("TCPDOCTOR_RULE") == "close-wait-leak"]
    assert finding["PRIORITY"] == "4"
    assert finding["MESSAGE"].startswith("WARNING: ")
    assert "113 CLOSE_WAIT" in finding["MESSAGE"]
    assert finding["MESSAGE_ID"] == MESSAGE_ID
    assert "holds 113 sockets in CLOSE_WAIT" in finding["TCPDOCTOR_SUMMARY"]
    (complaint,) = [entry for entry in entries if "--no-such-option" in entry["MESSAGE"]]
    assert complaint["PRIORITY"] == "3"
    assert not [entry for entry in entries if entry["MESSAGE"].startswith("<")]

"""Changes of settings in a private network namespace, whose journal and file lie in a folder of the test."""

import ctypes
import os
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tcpdoctor.answers.fix import Consent, FixPlace, apply_fix
from tcpdoctor.answers.plan import BOOT_FILE, FixAnswer
from tcpdoctor.answers.planned import PlannedChange
from tcpdoctor.answers.record import host_of, utc
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.kernel.fix_journal import FixJournal, held_text, locked_journal, read_journal
from tcpdoctor.kernel.namespaces import network_namespace, read_identity
from tcpdoctor.lab.namespace import write_sysctl

BEFORE = {
    "net.ipv4.ip_local_reserved_ports": "7001,7013",
    "net.ipv4.ip_local_port_range": "50011 50503",
    "net.ipv4.tcp_fin_timeout": "7",
    "net.ipv4.tcp_rmem": "4099 131071 6291453",
}
AFTER = {
    "net.ipv4.ip_local_reserved_ports": "7001,7013,33013-33017",
    "net.ipv4.ip_local_port_range": "32771 60999",
    "net.ipv4.tcp_fin_timeout": "61",
    "net.ipv4.tcp_rmem": "4111 131101 6291469",
}
ADMINS = b"# mine\nnet.ipv4.tcp_sack = 1\nnet.ipv4.tcp_fin_timeout = 11\n"
"""What the file may hold before: lines of the admin's own, one about a setting of the plan."""
SOON = 45.0
"""Seconds within which a guard has ended a change, on the busiest machine."""


class Stage(NamedTuple):
    """Where a change is noted down."""

    folder: Path

    @property
    def journal(self) -> Path:
        return self.folder / "state" / "fix.json"

    @property
    def file(self) -> Path:
        return self.folder / "sysctl.d" / BOOT_FILE

    @property
    def place(self) -> FixPlace:
        return FixPlace(str(self.journal), str(self.file))

    @property
    def options(self) -> tuple[str, ...]:
        return ("--journal", str(self.journal), "--sysctl-d", str(self.file.parent), "--window", "0")

    def state(self) -> FixJournal | None:
        """What the journal says, None without one."""
        if not self.journal.parent.is_dir():
            return None
        with locked_journal(str(self.journal)) as folder:
            return read_journal(folder)

    def ended(self) -> FixJournal | None:
        """The journal once nothing is pending any more."""
        wait_until(lambda: (state := self.state()) is None or state.state not in ("pending", "keeping"))
        return self.state()


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not is_so():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def fall_ill(folder: Path, content: bytes = b"") -> Stage:
    """Settings as they are before, and a file with lines of somebody else."""
    for key, value in BEFORE.items():
        write_sysctl(key, value)
    stage = Stage(folder)
    for path in (stage.journal, stage.file):
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
    if content:
        stage.file.write_bytes(content)
    return stage


def held(keys: Sequence[str] = tuple(BEFORE)) -> dict[str, Any]:
    return {key: held_text(key) for key in keys}


def planned(stage: Stage, wanted: "dict[str, str] | None" = None) -> FixAnswer:
    changes = tuple(
        PlannedChange(
            key,
            held_text(key),
            value,
            ("a-rule",),
            "",
            f"{key} = {value}",
            None,
            None,
            "",
            (),
            (),
            None,
            False,
        )
        for key, value in (AFTER if wanted is None else wanted).items()
    )
    host = host_of(read_identity())
    return FixAnswer("tcpdoctor.fix/1", host, "planned", changes, (), (), utc(0), None, str(stage.file))


def consent(
    *,
    seconds: float = SOON,
    confirmed: Callable[[float], bool] = lambda _seconds: True,
    after: Callable[[], Sequence[Finding]] = tuple,
) -> Consent:
    return Consent(seconds, confirmed, after, 0.0, lambda _text: None)


def change(stage: Stage, wanted: "dict[str, str] | None" = None, **others: Any) -> FixAnswer:
    """Apply a plan in this process."""
    return apply_fix(planned(stage, wanted), {}, (), stage.place, consent(**others))


def in_child(do: Callable[[], object]) -> int:
    """Do it in a process of its own; return that."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            do()
            code = 0
        finally:
            os._exit(code)
    return child


def exit_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_another_namespace(folder: Path, do: Callable[[], Any]) -> Any:
    """Do it in a network namespace besides ours; ours lives on meanwhile, so that its number stays taken."""
    answer = folder / "answer"

    def enter() -> None:
        assert ctypes.CDLL(None).unshare(0x40000000) == 0
        answer.write_bytes(pickle.dumps(do()))

    assert exit_of(in_child(enter)) == 0
    return pickle.loads(answer.read_bytes())  # noqa: S301 - our own child wrote it


def others_here() -> list[int]:
    """Processes in this network namespace besides this one and those it comes from: guards."""
    here, above = network_namespace(), {os.getpid(), os.getppid()}
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdecimal() and os.stat(f"/proc/{entry}/ns/net").st_ino == here:
                found.append(int(entry))
        except OSError:
            continue  # it has ended
    return [pid for pid in found if pid not in above]


class KilledAt:
    """Calls of the system that count as steps; before or after one of them the process is killed."""

    STEPS = ("fsync", "rename", "unlink", "fork", "mkdir")
    ALL = (*STEPS, "write", "close")

    def __init__(self, number: int, *, after: bool, calls: Sequence[str] = STEPS) -> None:
        self.left, self.after, self.pid = number, after, os.getpid()
        for name in calls:
            setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            mine = os.getpid() == self.pid
            self.left -= mine
            if mine and self.left == 0 and not self.after:
                os.kill(self.pid, signal.SIGKILL)
            answer = call(*arguments, **named)
            if mine and self.left == 0 and os.getpid() == self.pid:
                os.kill(self.pid, signal.SIGKILL)
            return answer

        return counted

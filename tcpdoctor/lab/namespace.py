"""A private network namespace in a forked child: a host of one's own, gone afterwards.

Works as root, and as an ordinary user where user namespaces are allowed. Other processes that a story needs
do not outlive the one that started them: prctl(2), PR_SET_PDEATHSIG and subreapers.
"""

import ctypes
import errno
import fcntl
import os
import pickle
import select
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_LONGEST, _MORE = 120, 10
"""Seconds that a function may take, and that its end may."""
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


class NamespaceRefusedError(Exception):
    """This machine gives us no network namespace; the text says why."""


class ChildFailedError(AssertionError):
    """The function raised in the child; the text is its traceback."""


def in_private_namespace(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `function` in a child process with a network namespace of its own, `lo` up.

    Its result comes back pickled. All processes it started are killed afterwards, so nothing it
    makes outlives the call. After 120 s it is killed, and one that the alarm does not end (because it is
    stopped, or somebody else holds its pipe) is waited for no longer than 10 s more.

    Raises:
        NamespaceRefusedError: Neither root nor user namespaces are available.
        ChildFailedError: The function raised, died, or took too long.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run_and_report(writer, lambda: function(*args, **kwargs))
    os.close(writer)
    try:
        answer = _read_within(reader, _LONGEST + _MORE)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(reader)
        _, status = os.waitpid(child, 0)
        _kill_group(child)
    if not answer:
        raise ChildFailedError(f"the child ended with {_describe(status)} and no answer")
    kind, value = pickle.loads(answer)  # noqa: S301 - written by our own child
    if kind == "refused":
        raise NamespaceRefusedError(value)
    if kind == "failed":
        raise ChildFailedError(value)
    result: R = value
    return result


def enter_private_namespace() -> bool:
    """Move this process into a network namespace of its own and bring `lo` up.

    Returns:
        Whether that took a user namespace as well: always for an ordinary user, and for a root who lacks
        CAP_SYS_ADMIN, as in many containers.

    Raises:
        NamespaceRefusedError: Neither root nor user namespaces are available.
    """
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    needs_user = uid != 0 or libc.unshare(_CLONE_NEWNET) != 0
    if needs_user and libc.unshare(_CLONE_NEWNET | _CLONE_NEWUSER) != 0:
        raise NamespaceRefusedError(_why_refused(ctypes.get_errno(), root=uid == 0))
    try:
        if needs_user:
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"0 {uid} 1")
            _write("/proc/self/gid_map", f"0 {gid} 1")
        bring_up("lo")
    except (
        PermissionError
    ) as error:  # a security module lets the namespace be made, and nothing be done in it
        raise NamespaceRefusedError(_why_refused(error.errno or 0, root=uid == 0)) from error
    return needs_user


def refuse_settings_that_stay() -> None:
    """See whether the settings of this namespace can be written, as most diseases need.

    Raises:
        NamespaceRefusedError: /proc/sys is mounted read-only, as container engines do.
    """
    if os.statvfs("/proc/sys/net").f_flag & os.ST_RDONLY:
        raise NamespaceRefusedError(
            "/proc/sys is mounted read-only, as in most containers: run it on the host, or in a container "
            "with --privileged"
        )


def _why_refused(number: int, *, root: bool) -> str:
    """What unshare(2) means by its error here, and what would lift it."""
    what = os.strerror(number).lower()
    if number == errno.ENOSPC:
        return f"unshare(): {what}: raise user.max_net_namespaces or user.max_user_namespaces (see sysctl)"
    if number in (errno.EPERM, errno.EACCES) and root:
        return (
            f"unshare(): {what}: root needs CAP_SYS_ADMIN, which containers lack unless it is given to them"
        )
    if number in (errno.EPERM, errno.EACCES):
        return f"unshare(): {what}: run as root, or allow user namespaces to ordinary users"
    return f"unshare(): {what}"


def bring_up(interface: str) -> None:
    """Set IFF_UP on an interface of this namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", interface.encode(), 0)
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", answer, 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), flags | _IFF_UP))


def write_sysctl(name: str, value: object) -> None:
    """Write one sysctl of this namespace, by dotted name."""
    _write("/proc/sys/" + name.replace(".", "/"), str(value))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _run_and_report(writer: int, function: Callable[[], object]) -> None:
    """Never returns: writes ("ok" | "failed" | "refused", value) and leaves at once."""
    code = 1
    mine = [writer]
    # a process that outlives the function must not keep the pipe open, or the parent would wait for it
    os.register_at_fork(after_in_child=lambda: os.close(mine.pop()) if mine else None)
    try:
        os.setsid()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the parent's handler, if it has one, would not end us
        signal.alarm(_LONGEST)
        try:
            enter_private_namespace()
            answer = pickle.dumps(("ok", function()))
        except NamespaceRefusedError as error:
            answer = pickle.dumps(("refused", str(error)))
        except BaseException:  # the parent raises it again, whatever it is
            answer = pickle.dumps(("failed", traceback.format_exc()))
        with os.fdopen(writer, "wb") as stream:
            stream.write(answer)
        code = 0
    finally:
        os._exit(code)


def _read_within(reader: int, seconds: int) -> bytes:
    """Read until all ends that write are closed.

    Raises:
        ChildFailedError: That takes longer.
    """
    parts: list[bytes] = []
    deadline = time.monotonic() + seconds
    readable = select.poll()
    readable.register(reader, select.POLLIN)
    while readable.poll(1000 * max(0.0, deadline - time.monotonic())):
        part = os.read(reader, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    raise ChildFailedError(f"no answer within {seconds} s: the child hangs, or another holds its pipe open")


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # it left no process behind


def _describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_END = 5.0
"""Seconds after which a process that got SIGKILL must have ended: only a fault of the kernel delays it."""


def die_with(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send us a signal when the thread of `parent` that forked us ends, however it ends.

    Call it again after entering a user namespace: a change of credentials cancels it.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it has ended already, and nobody will tell
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every process below us whose own parent ends, instead of process 1."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forks_die_with_us() -> None:
    """Let every process that is forked from here on, at any depth, end when its parent does."""
    parents: list[int] = []
    os.register_at_fork(
        before=lambda: parents.append(os.getpid()),
        after_in_parent=lambda: parents.clear(),
        after_in_child=lambda: die_with(parents.pop()),
    )


def kill_descendants() -> None:
    """Kill all processes below us, and wait until they are gone; needs `adopt_orphans`.

    What a killed process leaves behind becomes our child, so the second look finds it.
    """
    deadline = time.monotonic() + _LONGEST_END
    while (children := _children(os.getpid())) and time.monotonic() < deadline:
        for pid in children:
            os.kill(pid, signal.SIGKILL)  # it is our child and not waited for, so the number is still its own
        for pid in children:
            os.waitpid(pid, 0)


def _children(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[1]) == parent:
            found.append(int(name))
    return found


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem))


@contextmanager
def another_program(work: Callable[[Connection], object], name: str = "lab-peer") -> Iterator[Connection]:
    """A forked process that does `work`; yields the line to talk to it. It is killed when the block ends.

    Fork it before you open sockets: it inherits what is open. `name` is what findings and `ss -p` call it.
    """
    ours, theirs = Pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with(parent)
            ours.close()
            with open("/proc/self/comm", "w", encoding="ascii") as comm:
                comm.write(name)
            work(theirs)
        finally:
            os._exit(0)
    theirs.close()
    try:
        yield ours
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()

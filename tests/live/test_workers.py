"""The same look in many namespaces: whatever becomes of who looks, each has an answer or a reason."""

import codecs
import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.namespace_entry import HeldPlace, NamespacePlace
from tcpdoctor.kernel.namespaces import network_namespace
from tcpdoctor.kernel.reading import INTERRUPTED, UNDERWAY, Missing
from tcpdoctor.kernel.workers import at_once, every_place, look_in_each, two_looks
from tcpdoctor.lab.namespace import NamespaceRefusedError, in_private_namespace
from tests.cli.command import COMMAND, environment

CLONE_NEWNET = 0x40000000
PR_SET_DUMPABLE = 4
NO_PROCESS = """
import errno, os, sys
import tcpdoctor.cli.app, tcpdoctor.cli.check, tcpdoctor.cli.deadline
def refused():
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
os.fork = refused  # as the kernel does it at RLIMIT_NPROC
sys.exit(tcpdoctor.cli.app.run(sys.argv[1:]))
"""


@contextlib.contextmanager
def places(count):
    """So many network namespaces that nobody is in, and the one that we are in before them."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    held = [own]
    try:
        for _ in range(count):
            assert libc.unshare(CLONE_NEWNET) == 0
            held.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        assert libc.setns(own, CLONE_NEWNET) == 0
        yield [
            HeldPlace(
                NamespacePlace(os.fstat(each).st_ino, f"/proc/self/fd/{each}", f"n{number}", None), each
            )
            for number, each in enumerate(held)
        ]
    finally:
        for each in held:
            os.close(each)


def where():
    return network_namespace(), os.getpid()


def test_every_place_is_looked_at_from_inside_and_we_stay_where_we_are(in_namespace):
    def look():
        with places(7) as held:
            seen = look_in_each(held, at_once(where))
            inodes = [inode for inode, _ in seen]
            return (
                inodes == [each.place.inode for each in held],
                len(set(inodes)),
                os.getpid() in {pid for _, pid in seen},
                network_namespace() == inodes[0],
            )

    assert in_namespace(look) == (True, 8, False, True)


def test_all_wait_for_their_windows_together(in_namespace):
    def look():
        with places(11) as held:
            began = time.monotonic()
            seen = look_in_each(held, two_looks(1.0))
            took = time.monotonic() - began
            apart = [each.after.clock - each.before.clock for each in seen]
            return took, min(apart), [each.after.namespace_name for each in seen]

    took, apart, names = in_namespace(look)
    assert took < 6  # eleven windows one after the other are more
    assert apart >= 1.0
    assert names == [f"n{number}" for number in range(12)]


@pytest.mark.parametrize("how", ["dies", "raises", "refuses"])
def test_a_look_that_ends_badly_is_told_of_its_place_and_the_others_answer(in_namespace, how):
    def look():
        with places(7) as held:
            bad = held[3].place.inode

            def there():
                if network_namespace() == bad:
                    if how == "dies":
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise {"raises": ZeroDivisionError, "refuses": QuestionError}[how]("no luck")
                return network_namespace()

            seen = look_in_each(held, at_once(there))
            return [
                each.reason if isinstance(each, Missing) else each == held[number].place.inode
                for number, each in enumerate(seen)
            ]

    why = {
        "dies": "the process that looked there ended with SIGKILL",
        "raises": "a fault of this program: ZeroDivisionError: no luck",
        "refuses": "no luck",
    }[how]
    assert in_namespace(look) == [True, True, True, why, True, True, True, True]


def test_where_all_die_there_is_a_reason_for_each(in_namespace):
    def look():
        with places(2) as held:
            seen = look_in_each(held, at_once(lambda: os.kill(os.getpid(), signal.SIGKILL)))
            return {type(each) for each in seen}, [bool(each.reason) for each in seen]

    assert in_namespace(look) == ({Missing}, [True, True, True])


def test_where_no_process_may_be_started_this_one_looks_itself_and_comes_back():
    def look():
        with places(5) as held:
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            with contextlib.suppress(BlockingIOError):
                if os.fork() == 0:
                    os._exit(0)
                return "more processes may be started all the same"
            seen = look_in_each(held, at_once(where))
            same = [inode for inode, _ in seen] == [each.place.inode for each in held]
            return same, {pid for _, pid in seen} == {os.getpid()}, network_namespace() == held[0].place.inode

    def as_nobody():
        if os.geteuid() == 0:
            codecs.lookup("ascii")  # he may not read where Python is
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)  # else /proc/self stays root's
            os.chdir("/")
        try:
            return in_private_namespace(look)
        except NamespaceRefusedError as error:
            return str(error)

    answer = run_aside(as_nobody)
    if isinstance(answer, str):
        pytest.skip(answer)
    assert answer == (True, True, True)


def test_a_timeout_that_no_process_can_keep_is_told_in_one_line():
    command = [sys.executable, "-c", NO_PROCESS, "check", "--window", "0", "--timeout", "9"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), cwd="/", timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "cannot be started (Resource temporarily unavailable): leave it out" in done.stderr


def run_aside(function):
    """What a function returns in a child that may give its privileges away."""
    import pickle

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with os.fdopen(writer, "wb") as stream:
                stream.write(pickle.dumps(function()))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    assert answer, "it ended without an answer"
    return pickle.loads(answer)  # noqa: S301 - our own child


def test_too_few_descriptors_are_told_of_the_places_that_could_not_be_opened(in_namespace):
    def look():
        with places(11):
            sleepers = [subprocess.Popen(["unshare", "-n", "sleep", "60"]) for _ in range(11)]
            try:
                until(lambda: len({inode_of(each.pid) for each in sleepers}) == 11)
                open_now = len(os.listdir("/proc/self/fd"))
                resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 5, open_now + 5))
                with every_place() as found:
                    return len(found.held) > 0, sorted(set(found.closed.values()))
            finally:
                for each in sleepers:
                    each.kill()
                    each.wait()

    held, reasons = in_namespace(look)
    assert held
    assert reasons == ["too many descriptors are open; raise RLIMIT_NOFILE (ulimit -n)"]


def inode_of(pid):
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def until(happens):
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def children_of(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_polling(pid):
    """Whether a process waits in poll(2): the parent for its workers, a worker for its window."""
    where = Path(f"/proc/{pid}/wchan").read_text()
    if where == "0" and os.geteuid() != 0:
        pytest.skip("where a process sleeps is told to root only")
    return "poll" in where


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_look_that_was_ended(tmp_path, end):
    target = tmp_path / "answer.json"
    arguments = ("check", "--netns", "all", "--window", "60", "--format", "json", "--output", target)
    look = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until(lambda: children_of(look.pid))
    workers = children_of(look.pid)
    look.send_signal(end)
    _, complaint = look.communicate(timeout=30)
    assert look.returncode == {signal.SIGINT: 130}.get(end, -end)
    assert complaint == b""
    until(lambda: not any(is_running(pid) for pid in workers))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_wait_ends_with_what_is_known_marked_incomplete():
    arguments = ("check", "--netns", "all", "--window", "60", "--only", "syncookies-off")
    look = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until(lambda: is_polling(look.pid) and all(map(is_polling, children_of(look.pid))))
    os.killpg(look.pid, signal.SIGINT)  # as a terminal does
    told, _ = look.communicate(timeout=30)
    assert look.returncode == 3
    assert told.startswith(b"INCOMPLETE: interrupted after ")


def test_an_interrupt_ends_the_looks_and_what_was_seen_by_then_is_told(in_namespace):
    def look():
        while network_namespace() == here:
            time.sleep(60)
        return network_namespace()

    def interrupt_once_the_others_are_told(count):
        until(lambda: UNDERWAY.done == count)
        os.kill(os.getpid(), signal.SIGINT)

    def run():
        nonlocal here
        here = network_namespace()
        with places(3) as held:
            threading.Thread(target=interrupt_once_the_others_are_told, args=(3,)).start()
            seen = look_in_each(held, at_once(look), each_waits=True, in_part=True)
            return seen, [each.place.inode for each in held], children_of(os.getpid())

    here = 0
    seen, inodes, left = in_namespace(run)
    assert (seen[0], seen[1:], left) == (INTERRUPTED, inodes[1:], [])

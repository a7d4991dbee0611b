"""Owners of real sockets: every way in which a process can hold one, and every way of not knowing."""

import array
import contextlib
import ctypes
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tcpdoctor.kernel.kept_rows import with_owners
from tcpdoctor.kernel.owners import find_every_holder, find_owners
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Listener, NotHeld

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user or to mount")
WAYS_OUT = ("run as root", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE")


def inode_of(sock) -> int:
    return os.fstat(sock.fileno()).st_ino


PATIENT = 20.0
"""Seconds of CPU time where the budget is not what is tested: others may hold very many descriptors."""


def owners_of(inodes, *, every_holder=False, seconds=PATIENT):
    wanted = {inode: os.geteuid() for inode in inodes}
    if every_holder:
        return find_every_holder(wanted, seconds=seconds).owners
    return find_owners(wanted, seconds=seconds)


def owner_of(inode, **options):
    return owners_of([inode], **options)[inode]


def who_holds(sock, **options):
    return owner_of(inode_of(sock), **options)


def everything_is_readable() -> bool:
    """Whether this machine lets us read all descriptors, found out in the plainest way."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for entry in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    os.readlink(f"/proc/{pid}/fd/{entry}")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            return False
    return os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC


def assert_held_by_nobody(owner):
    if everything_is_readable():
        assert owner == NotHeld()
    else:
        assert isinstance(owner, Missing)
        assert all(word in owner.reason for word in WAYS_OUT)


@contextlib.contextmanager
def forked(function, *args):
    """Run `function` in a child that then waits to be killed; yields its pid when `function` is done."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        function(*args)
        os.write(writer, b".")
        while True:
            signal.pause()
    os.close(writer)
    try:
        assert os.read(reader, 1) == b".", "the child died"
        yield child
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_socket_is_held_by_the_process_that_made_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        (holder,) = who_holds(server).holders
        assert (holder.pid, holder.fd, holder.uid) == (os.getpid(), server.fileno(), os.geteuid())


def test_every_wanted_socket_is_found():
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(23)]
        owners = owners_of(map(inode_of, sockets))
        for sock in sockets:
            (holder,) = owners[inode_of(sock)].holders
            assert (holder.pid, holder.fd) == (os.getpid(), sock.fileno())


def test_without_an_inode_nobody_holds_it_and_nothing_is_scanned():
    assert find_owners({0: 0}, seconds=0) == {0: NotHeld()}
    assert find_owners({}, seconds=0) == {}


def test_of_a_socket_shared_by_fork_the_parent_is_named():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        forked(lambda: None) as first,
        forked(lambda: None) as second,
    ):
        owner = who_holds(server)
        assert [holder.pid for holder in owner.holders] == [os.getpid()]
        assert not owner.complete
        every = who_holds(server, every_holder=True)
        assert [holder.pid for holder in every.holders] == [os.getpid(), *sorted([first, second])]
        assert {holder.fd for holder in every.holders} == {server.fileno()}
        assert every.complete == everything_is_readable()


def test_a_child_that_kept_what_its_parent_closed_is_found():
    server = socket.create_server(("127.0.0.1", 0))
    inode = inode_of(server)
    with forked(lambda: None) as child:
        server.close()
        (holder,) = owner_of(inode).holders
        assert holder.pid == child


def hold_beside_many(sock, descriptor, many):
    """In a process of its own: hold `sock` under this descriptor, and many descriptors of no interest."""
    os.dup2(sock.fileno(), descriptor)
    sock.close()
    null = os.open(os.devnull, os.O_RDONLY)
    for _ in range(many):
        os.dup(null)


def test_a_low_descriptor_is_found_without_reading_all_of_a_giant(monkeypatch):
    read, count = os.readlink, []

    def counted(*args, **options):
        if "dir_fd" in options:
            count.append(read(f"/proc/self/fd/{options['dir_fd']}"))
        return read(*args, **options)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = 8_000
    if hard != resource.RLIM_INFINITY and hard < many + 500:
        pytest.skip(f"no process may open {many} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many + 500), hard))
    server = socket.create_server(("127.0.0.1", 0))
    inode = inode_of(server)
    try:
        with forked(hold_beside_many, server, 100, many) as child:
            server.close()
            monkeypatch.setattr(os, "readlink", counted)
            (holder,) = owner_of(inode).holders
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (holder.pid, holder.fd) == (child, 100)
    assert count.count(f"/proc/{child}/fd") < many  # others' descriptors are counted apart


def test_a_high_descriptor_is_found_too():
    server = socket.create_server(("127.0.0.1", 0))
    inode = inode_of(server)
    with forked(hold_beside_many, server, 900, 300) as child:
        server.close()
        (holder,) = owner_of(inode).holders
    assert (holder.pid, holder.fd) == (child, 900)


def test_of_several_descriptors_the_lowest_is_named():
    with socket.socket() as sock:
        copies = [os.dup(sock.fileno()) for _ in range(3)]
        try:
            assert who_holds(sock, every_holder=True).holders[0].fd == sock.fileno()
        finally:
            for copy in copies:
                os.close(copy)


def test_a_descriptor_in_flight_is_held_by_nobody():
    left, right = socket.socketpair()
    sock = socket.socket()
    inode = inode_of(sock)
    with left, right:
        message = array.array("i", [sock.fileno()])
        left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, message)])
        sock.close()
        assert_held_by_nobody(owner_of(inode))
        _, ancillary, _, _ = right.recvmsg(1, socket.CMSG_LEN(4))
        (descriptor,) = array.array("i", ancillary[0][2])
        try:
            assert isinstance(owner_of(inode), Held)
        finally:
            os.close(descriptor)


def test_a_thread_with_a_table_of_its_own_is_looked_into():
    ready, done = threading.Event(), threading.Event()
    found: list[int] = []

    def hold_apart() -> None:
        assert ctypes.CDLL(None).unshare(0x400) == 0  # CLONE_FILES
        with socket.socket() as sock:
            found.append(inode_of(sock))
            ready.set()
            done.wait(30)

    thread = threading.Thread(target=hold_apart)
    thread.start()
    try:
        assert ready.wait(10)
        (holder,) = owner_of(found[0]).holders
        assert holder.pid == os.getpid()
    finally:
        done.set()
        thread.join()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of exit(2) is that of x86_64")
def test_a_process_whose_first_thread_ended_is_looked_into():
    sock = socket.socket()
    inode = inode_of(sock)

    def end_first_thread() -> None:
        threading.Thread(target=lambda: time.sleep(60), daemon=True).start()
        os.write(report, b".")
        ctypes.CDLL(None).syscall(60, 0)  # exit(2) ends the calling thread only

    reader, report = os.pipe()
    child = os.fork()
    if child == 0:
        end_first_thread()
    try:
        assert os.read(reader, 1) == b"."
        sock.close()
        deadline = time.monotonic() + 10
        while "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        (holder,) = owner_of(inode).holders
        assert holder.pid == child
    finally:
        os.close(reader)
        os.close(report)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_process_of_another_network_namespace_may_hold_our_sockets(in_namespace):
    def look():
        sock = socket.socket()
        with forked(lambda: None) as child:
            owners = owners_of([inode_of(sock)], every_holder=True)
            return child, [holder.pid for holder in owners[inode_of(sock)].holders]

    def move_and_look():
        sock = socket.socket()
        inode = inode_of(sock)

        def leave() -> None:
            assert ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET

        with forked(leave) as child:
            sock.close()
            return child, [holder.pid for holder in owner_of(inode).holders]

    child, holders = in_namespace(look)
    assert child in holders
    child, holders = in_namespace(move_and_look)
    assert holders == [child]


def test_past_the_time_budget_the_owner_is_missing_with_how_far_it_came():
    with socket.socket() as sock:
        owner = who_holds(sock, seconds=0)
    assert isinstance(owner, Missing)
    assert owner.reason.startswith("the time budget of 0 s for finding owners ran out after 0 of ")


def test_a_hostile_process_name_is_cleaned():
    def rename() -> None:
        with open("/proc/self/comm", "wb") as comm:
            comm.write(b"\x1b[2Jx\xff\xe2\x80\xaey\n")

    with socket.socket() as sock:
        with forked(rename) as child:
            names = {holder.pid: holder.name for holder in who_holds(sock, every_holder=True).holders}
        assert names[child] == "[2Jx\ufffdy"


def test_a_process_without_a_printable_name_has_a_question_mark():
    def rename() -> None:
        with open("/proc/self/comm", "wb") as comm:
            comm.write(b"\x1b")

    with socket.socket() as sock, forked(rename) as child:
        names = {holder.pid: holder.name for holder in who_holds(sock, every_holder=True).holders}
        assert names[child] == "?"


def as_user(uid, function):
    """Return the repr of what `function` returns when another user runs it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(writer, repr(function()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return answer


@as_root
def test_an_ordinary_user_is_told_what_would_do():
    holder_socket = socket.socket()
    inode = inode_of(holder_socket)

    def look():
        holder_socket.close()
        return owner_of(inode)

    answer = as_user(1234, look)
    holder_socket.close()
    assert answer.count("from uid 1234") == 1
    assert all(answer.count(word) == 1 for word in WAYS_OUT)
    assert answer.startswith("Missing(")


@as_root
def test_an_ordinary_user_sees_his_own_processes():
    def look():
        with socket.socket() as sock:
            return who_holds(sock)

    assert as_user(1234, look).startswith("Held(holders=(Holder(pid=")


SCRIPT = """
import os, socket
from tcpdoctor.kernel.owners import find_every_holder, find_owners
sock = socket.socket()
inode = os.fstat(sock.fileno()).st_ino
sock.close()
print(find_owners({inode: 0})[inode])
"""


@as_root
@pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (5, 8),
    reason="before Linux 5.8 hidepid changes every mount of /proc of this PID namespace",
)
def test_processes_that_proc_does_not_even_show_may_hold_it():
    script = (
        'mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 1234 --regid 1234 --clear-groups "$@"'
    )
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if run.stderr.startswith(("unshare: ", "mount: ", "sh: ")):
        pytest.skip(f"no private mount of /proc: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    assert "/proc is mounted with hidepid" in run.stdout
    assert all(word in run.stdout for word in WAYS_OUT)


@as_root
def test_processes_outside_a_pid_namespace_may_hold_it(mount_namespace):
    run = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "processes outside this PID namespace are not visible" in run.stdout
    assert all(word in run.stdout for word in WAYS_OUT)


@as_root
def test_a_complete_scan_proves_that_nobody_holds_it(mount_namespace):
    """In a PID namespace of our own that stands for the machine, because a sandbox may hide its process 1."""
    whole = (
        "import os; from tcpdoctor.kernel import namespaces; "
        "namespaces._FIRST_PID_NAMESPACE = os.stat('/proc/1/ns/pid').st_ino"
    )
    run = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", whole + SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert run.stdout == "NotHeld()\n"


def test_owners_are_filled_in_where_they_were_looked_up():
    row = Listener(
        4, Endpoint("127.0.0.1", 80), 0, 1, 7, 0, 0, 1, 0, Missing("-"), None, Missing("was not looked up")
    )
    other = row._replace(inode=8)
    none = row._replace(inode=0, owner=NotHeld())
    filled = with_owners([row, other, none], {7: Missing("hidden"), 0: Missing("never used")})
    assert [item.owner for item in filled] == [Missing("hidden"), other.owner, NotHeld()]

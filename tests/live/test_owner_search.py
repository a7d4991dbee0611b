"""The search for owners takes short cuts; what it finds is what reading every descriptor finds."""

import contextlib
import os
import random
import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from tcpdoctor.kernel import descriptor_search, owners
from tcpdoctor.kernel.cgroups import find_cgroup2
from tcpdoctor.kernel.descriptor_search import DescriptorSearch
from tcpdoctor.kernel.owners import find_every_holder, find_owners, holds_any
from tcpdoctor.kernel.snapshot import ENDED, Held
from tests.live.test_owners import as_root, forked, inode_of

MANY = 7_000


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY + 500:
        pytest.skip(f"no process may open {MANY} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def every_link() -> dict[int, set[int]]:
    """The holders of every socket of the machine, in the plainest way."""
    found: dict[int, set[int]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            for entry in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    link = os.readlink(f"/proc/{pid}/fd/{entry}")
                    if link.startswith("socket:["):
                        found.setdefault(int(link[8:-1]), set()).add(int(pid))
    return found


def fill(seed, size, report):
    """In a process of its own: a table with gaps, files, sockets old and young; every seventh is told."""
    chosen = random.Random(seed)
    null = os.open(os.devnull, os.O_RDONLY)
    kept = []
    for place in range(size):
        if chosen.random() < 0.4:
            os.dup(null)
        else:
            kept.append(socket.socket())
        if chosen.random() < 0.1 and kept:
            kept.pop(chosen.randrange(len(kept))).close()
        del place
    fill.kept = kept  # or they would be closed
    with os.fdopen(report, "w") as stream:
        stream.write(" ".join(str(inode_of(sock)) for sock in kept[seed % 7 :: 7]))


@pytest.mark.parametrize("size", [23, 251, 1009, MANY])
def test_what_is_found_is_what_reading_every_descriptor_finds(size, many_descriptors):
    with contextlib.ExitStack() as stack:
        wanted: dict[int, int] = {}
        for seed in (3, 5):
            reader, writer = os.pipe()
            stack.enter_context(forked(fill, seed, size, writer))
            os.close(writer)
            with os.fdopen(reader) as stream:
                wanted |= dict.fromkeys(map(int, stream.read().split()), os.geteuid())
        assert len(wanted) > size // 20
        found = find_owners(wanted, seconds=60)
        plain = every_link()
    assert {inode: owner.holders[0].pid for inode, owner in found.items() if isinstance(owner, Held)} == {
        inode: min(plain[inode]) for inode in wanted
    }


def test_a_leak_in_a_large_process_is_found_without_reading_all_of_it(many_descriptors, monkeypatch):
    read, count = os.readlink, []

    def counted(path, *, dir_fd=None):
        count.append(read(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else str(path))
        return read(path, dir_fd=dir_fd)

    def leak():
        null = os.open(os.devnull, os.O_RDONLY)
        for _ in range(MANY // 2):
            os.dup(null)
        leak.kept = [socket.socket() for _ in range(2003)]
        for _ in range(MANY // 4):
            os.dup(null)

    before = {inode for inode, holders in every_link().items() if holders}
    with forked(leak) as child:
        wanted = {
            inode: 0 for inode, holders in every_link().items() if child in holders and inode not in before
        }
        assert len(wanted) == 2003
        monkeypatch.setattr(os, "readlink", counted)
        found = find_owners(wanted, seconds=60)
        monkeypatch.undo()
    assert {owner.holders[0].pid for owner in found.values()} == {child}
    links = sum(1 for path in count if path.startswith(f"/proc/{child}/fd"))
    assert 2003 < links < 3000, "the stretches beside a find come before the rest"


def test_small_tables_are_read_before_a_large_one_that_shows_nothing(many_descriptors, monkeypatch):
    read, count = os.readlink, []

    def counted(path, *, dir_fd=None):
        count.append(read(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else str(path))
        return read(path, dir_fd=dir_fd)

    def hold(number, last):
        null = os.open(os.devnull, os.O_RDONLY)
        hold.kept = [os.dup(null) for _ in range(number)], socket.socket() if last else None

    before = set(every_link())
    with forked(hold, MANY, False) as large, forked(hold, 97, True) as small:
        wanted = {
            inode: 0 for inode, holders in every_link().items() if small in holders and inode not in before
        }
        assert len(wanted) == 1
        monkeypatch.setattr(os, "readlink", counted)
        found = find_owners(wanted, seconds=60)
        monkeypatch.undo()
    assert {owner.holders[0].pid for owner in found.values()} == {small}
    assert sum(path.startswith(f"/proc/{large}/fd") for path in count) < MANY // 20


def test_a_socket_that_has_gone_is_not_looked_for_and_has_no_owner():
    asked = []

    def still(inodes):
        asked.append(tuple(inodes))
        return ()

    with socket.socket() as sock:
        inode = inode_of(sock)
    assert find_owners({inode: 0}, still=still) == {inode: ENDED}
    assert asked[0] == (inode,)


def test_what_is_still_there_is_looked_for_all_the_same():
    with socket.socket() as sock, socket.socket() as gone:
        inode, other = inode_of(sock), inode_of(gone)
        gone.close()
        found = find_owners({inode: 0, other: 0}, still=lambda inodes: {inode} & set(inodes))
    assert [holder.pid for holder in found[inode].holders] == [os.getpid()]
    assert found[other] == ENDED


def test_processes_that_are_likely_come_first():
    sock = socket.socket()
    inode = inode_of(sock)
    with forked(lambda: None) as child:
        sock.close()
        search = DescriptorSearch([inode], 60)
        search.run(frozenset(), {child})
    assert list(search.holders_of(inode)) == [child]
    assert search.done <= 1 < search.total


@as_root
def test_processes_of_a_control_group_are_those_of_its_sockets():
    mount = find_cgroup2()
    if mount is None:
        pytest.skip("cgroup2 is not mounted")
    group = Path(mount) / f"tcpdoctor-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        with forked(lambda: (group / "cgroup.procs").write_text("0")) as child:
            assert owners._members({group.stat().st_ino}) == {child}
            assert owners._members({1 << 60}) == frozenset()
    finally:
        deadline = time.monotonic() + 10
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                group.rmdir()


@as_root
def test_a_process_that_took_over_the_number_of_a_holder_is_not_named():
    """The holder ends after its descriptors were read, and before its name is; its pid passes on at once."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    if not last.exists():
        pytest.skip("this kernel lets nobody choose a pid")
    sock = socket.socket()
    inode = inode_of(sock)
    with forked(lambda: None) as child:
        sock.close()
        search = DescriptorSearch([inode], 60)
        search.run(frozenset())
        descriptor = search.holders_of(inode)[child]
        assert holds_any(f"/proc/{child}/fd", [(descriptor, inode)])
    deadline = time.monotonic() + 30
    while True:
        last.write_text(str(child - 1))
        other = os.fork()
        if other == 0:
            time.sleep(60)
            os._exit(0)
        try:
            if other == child:
                assert Path(f"/proc/{child}").exists()
                assert owners._Naming(search, climb=True).holders(inode, search.holders_of(inode)) == ()
                return
        finally:
            os.kill(other, 9)
            os.waitpid(other, 0)
        assert time.monotonic() < deadline, "somebody else takes every number"


def fill_with_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for _ in range(number):
        os.dup(null)


def test_to_find_every_holder_a_descriptor_that_stays_is_read_once(monkeypatch):
    read, count = os.readlink, []

    def counted(path, *, dir_fd=None):
        count.append(read(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else str(path))
        return read(path, dir_fd=dir_fd)

    with socket.socket() as sock, forked(fill_with_null, 1009) as child:
        inode = inode_of(sock)
        monkeypatch.setattr(os, "readlink", counted)
        found = find_every_holder({inode: 0}, seconds=60).owners
        monkeypatch.undo()
    assert {holder.pid for holder in found[inode].holders} == {os.getpid(), child}
    assert 1009 < count.count(f"/proc/{child}/fd") < 1109


PROBED = 32 + 61
"""A descriptor that is read before all of a large table, and which no test has open."""


def hold_where_it_is_probed(sock: socket.socket, others: int) -> None:
    os.dup2(sock.fileno(), PROBED)
    sock.close()
    fill_with_null(others)


def test_when_the_time_is_over_a_large_holder_is_known_and_that_there_may_be_more(
    many_descriptors, monkeypatch
):
    read, sock = os.readlink, socket.socket()
    inode, clock = inode_of(sock), time.monotonic

    def read_until_found(path, *, dir_fd=None):
        link = read(path, dir_fd=dir_fd)
        if link == f"socket:[{inode}]":
            monkeypatch.setattr(time, "monotonic", lambda: clock() + 3600)
        return link

    with forked(hold_where_it_is_probed, sock, MANY) as large:
        sock.close()
        monkeypatch.setattr(os, "readlink", read_until_found)
        found = find_every_holder({inode: 0}, seconds=60)
        monkeypatch.undo()
    assert [(holder.pid, holder.fd) for holder in found.owners[inode].holders] == [(large, PROBED)]
    assert not found.owners[inode].complete
    assert found.unread.startswith("the time budget of 60 s for finding owners ran out after 0 of ")


def take_and_say_so(end: socket.socket, number: int) -> None:
    """In a process of its own: take a descriptor under this number, and say that it is there."""
    with contextlib.closing(end):
        _, (given,), *_ = socket.recv_fds(end, 1, 1)
        os.dup2(given, number)
        os.close(given)
        end.send(b".")
        signal.pause()


def test_a_descriptor_that_is_handed_on_meanwhile_to_a_process_that_was_read_is_found(monkeypatch):
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        take_and_say_so(theirs, 211)
        os._exit(0)
    theirs.close()
    sock, rounds, pids = socket.socket(), [], descriptor_search._pids
    inode = inode_of(sock)

    def hand_on_before_the_second_round():
        rounds.append(1)
        if len(rounds) == 2:
            socket.send_fds(ours, [b"."], [sock.fileno()])
            assert ours.recv(1) == b"."
        return pids()

    monkeypatch.setattr(descriptor_search, "_pids", hand_on_before_the_second_round)
    try:
        holders = find_every_holder({inode: 0}, seconds=60).owners[inode].holders
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sock.close()
        ours.close()
    assert {(holder.pid, holder.fd) for holder in holders} >= {(child, 211)}
    assert {holder.pid for holder in holders} == {os.getpid(), child}


def test_that_nobody_holds_a_socket_is_said_after_everything_was_read_twice(monkeypatch):
    read, count = os.readlink, []

    def counted(path, *, dir_fd=None):
        count.append(read(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else str(path))
        return read(path, dir_fd=dir_fd)

    with socket.socket() as sock, forked(fill_with_null, 307) as child:
        monkeypatch.setattr(os, "readlink", counted)
        find_every_holder({inode_of(sock): 0, 1 << 31: 0}, seconds=60)
        monkeypatch.undo()
    assert count.count(f"/proc/{child}/fd") > 614

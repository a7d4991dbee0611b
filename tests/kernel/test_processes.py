"""What /proc/PID tells, from recorded text and from processes of this machine."""

import fcntl
import os
import resource
import socket

import pytest

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.processes import (
    count_descriptors,
    find_link,
    parse_descriptor_limit,
    parse_start_time,
    parse_status,
    read_descriptors,
    read_process,
)
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.survey import find_share

STATUS = """\
Name:\tevil\\nPPid:\t999
Umask:\t0022
State:\tR (running)
Tgid:\t22788
Ngid:\t0
Pid:\t22788
PPid:\t22722
TracerPid:\t0
Uid:\t0\t33\t0\t33
Gid:\t0\t0\t0\t0
"""
STAT = (
    "17461 (a) b (c) R 17433 17433 2178 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 124540 3133440 413 "
    "18446744073709551615 94577479307264 94577479327145 140730389532576 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"
)
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            1024                 524288               files     
Max locked memory         8388608              8388608              bytes     
"""  # noqa: W291 - verbatim


def test_the_effective_uid_and_the_parent_are_read():
    assert parse_status(STATUS, "status") == {"PPid": 22722, "Uid": 33}


@pytest.mark.parametrize("text", ["", "PPid:\t1\n", "PPid:\tx\nUid:\t0\t0\t0\t0\n", "PPid:\t1\nUid:\t0\n"])
def test_a_malformed_status_is_refused_with_the_file(text):
    with pytest.raises(KernelReadError, match=r"^status: expected"):
        parse_status(text, "status")


def test_brackets_and_spaces_in_a_name_do_not_move_the_start_time():
    assert parse_start_time(STAT, "stat") == 124540 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("text", ["", "1 (x) R 1 2 3\n", STAT.replace("124540", "x")])
def test_a_malformed_stat_is_refused_with_the_file(text):
    with pytest.raises(KernelReadError, match=r"^stat: expected a whole number in field 22"):
        parse_start_time(text, "stat")


def test_the_soft_limit_is_the_one_that_counts():
    assert parse_descriptor_limit(LIMITS, "limits") == 1024
    assert parse_descriptor_limit(LIMITS.replace("1024  ", "unlimited"), "limits") is None


@pytest.mark.parametrize("text", ["", "Max open files\n", LIMITS.replace("1024", "many")])
def test_malformed_limits_are_refused_with_the_file(text):
    with pytest.raises(KernelReadError, match=r'^limits: expected a line "Max open files"'):
        parse_descriptor_limit(text, "limits")


def test_this_process_is_read_whole():
    process = read_process(os.getpid())
    assert process.pid == os.getpid()
    assert process.parent == os.getppid()
    assert process.uid == os.geteuid()
    assert process.executable == os.readlink("/proc/self/exe")
    assert process.descriptor_limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert process.started > 0
    assert "pytest" in process.command or "python" in process.command


def test_descriptors_are_counted_and_sockets_among_them_known():
    with socket.socket() as sock:
        before = count_descriptors(os.getpid())
        with socket.socket():
            assert count_descriptors(os.getpid()) == before + 1
        held = read_descriptors(os.getpid())
        assert held[sock.fileno()] == os.fstat(sock.fileno()).st_ino
        assert 0 not in held.values()


@pytest.mark.parametrize("descriptor", [7, 211])
def test_a_link_is_found_under_any_number_and_not_where_there_is_none(descriptor):
    with socket.socket() as sock:
        link = f"socket:[{os.fstat(sock.fileno()).st_ino}]"
        number = fcntl.fcntl(sock, fcntl.F_DUPFD, descriptor)
    try:
        assert find_link(os.getpid(), {link, "socket:[0]"}) == number
    finally:
        os.close(number)
    assert find_link(os.getpid(), {link}) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to hide from")
def test_a_process_that_hides_its_descriptors_is_not_said_to_share_a_socket():
    with socket.socket() as sock:
        inodes = {os.fstat(sock.fileno()).st_ino}
        assert find_share(os.getpid(), inodes).fd == sock.fileno()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os._exit(find_share(os.getppid(), inodes) is not None)
        assert os.waitpid(child, 0)[1] == 0


def test_a_process_that_is_not_there_is_missing():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert find_share(child, {4242}) is None
    for answer in (read_process(child), count_descriptors(child), read_descriptors(child)):
        assert answer == Missing(f"no process {child} is there to be seen")


def test_a_zombie_has_no_executable_and_no_command():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        process = read_process(child)
        assert isinstance(process.executable, Missing)
        assert isinstance(process.command, Missing)
    finally:
        os.waitpid(child, 0)


def test_a_process_that_ends_while_it_is_read_is_no_error(tmp_path):
    folder = tmp_path / "811"
    folder.mkdir()
    for name, text in {"status": STATUS, "stat": STAT, "limits": "", "comm": "web\n"}.items():
        (folder / name).write_text(text)
    process = read_process(811, str(tmp_path))
    assert process.descriptor_limit == Missing("process 811 ended")
    for part in (process.executable, process.command, process.unit, process.container):
        assert isinstance(part, Missing)


def test_a_recorded_process_of_an_older_kernel(tmp_path):
    folder = tmp_path / "811"
    (folder / "fd").mkdir(parents=True)
    for name in ("0", "1", "2"):
        (folder / "fd" / name).symlink_to("/dev/null")
    (folder / "fd" / "5").symlink_to("socket:[4242]")
    files = {
        "status": STATUS,
        "stat": STAT,
        "limits": LIMITS,
        "comm": "we\x1b[31mb\n",
        "cmdline": "/usr/sbin/web\0-c\0/etc/web.conf\0",
        "cgroup": "0::/system.slice/web.service\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "exe").symlink_to("/usr/sbin/web")
    process = read_process(811, str(tmp_path))
    assert (process.name, process.uid, process.unit, process.container) == (
        "we[31mb",
        33,
        "web.service",
        None,
    )
    assert (process.command, process.executable) == ("/usr/sbin/web -c /etc/web.conf", "/usr/sbin/web")
    assert process.descriptor_limit == 1024
    assert read_descriptors(811, str(tmp_path)) == {5: 4242}

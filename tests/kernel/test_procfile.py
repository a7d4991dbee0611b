"""Why a file of the kernel cannot be read, in words that complete "could not check ...:"."""

import errno
import os

import pytest

from tcpdoctor.kernel.reading import read_kernel_file, why_unreadable


def test_a_file_is_read_whole_whatever_its_size(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 10_000)
    assert read_kernel_file(str(tmp_path / "file"), 4096) == b"x" * 10_000
    assert read_kernel_file("/proc/sys/net/ipv4/tcp_fin_timeout").strip().isdigit()


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        read_kernel_file(str(tmp_path / "absent"))
    assert why_unreadable(caught.value) == f"{tmp_path}/absent does not exist here"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_refusal_says_what_would_do(number):
    reason = why_unreadable(OSError(number, os.strerror(number), "/proc/net/snmp"))
    assert reason.startswith("/proc/net/snmp: permission denied; ")
    assert ("run as root" in reason) == (os.geteuid() != 0)


def test_any_other_failure_is_told_in_the_kernels_words():
    assert (
        why_unreadable(OSError(errno.EIO, "Input/output error", b"/proc/x")) == "/proc/x: Input/output error"
    )
    assert why_unreadable(OSError(errno.EIO, "Input/output error")) == "a file of /proc: Input/output error"

"""A kernel that refuses: seccomp filters that let a system call fail, or wait, for good."""

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable
from typing import NamedTuple

import pytest

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO, _ASK = 0x7FFF0000, 0x00050000, 0x7FC00000
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _NEW_LISTENER = 1, 8
_NUMBER, _FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data; its low half on little endian
_SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
_CALLS = {
    "bind": {"x86_64": 49, "aarch64": 200},
    "clone": {"x86_64": 56, "aarch64": 220},
    "clone3": {"x86_64": 435, "aarch64": 435},
    "flock": {"x86_64": 73, "aarch64": 32},
    "fork": {"x86_64": 57, "aarch64": -1},
    "memfd_create": {"x86_64": 319, "aarch64": 279},
    "openat2": {"x86_64": 437, "aarch64": 437},
    "pidfd_getfd": {"x86_64": 438, "aarch64": 438},
    "pipe2": {"x86_64": 293, "aarch64": 59},
    "recvfrom": {"x86_64": 45, "aarch64": 207},
    "sendto": {"x86_64": 44, "aarch64": 206},
    "setns": {"x86_64": 308, "aarch64": 268},
    "socket": _SOCKET_CALL,
    "uname": {"x86_64": 63, "aarch64": 160},
    "unshare": {"x86_64": 272, "aarch64": 97},
}
_AF_NETLINK = 16

needs_known_machine = pytest.mark.skipif(
    platform.machine() not in _SOCKET_CALL, reason="the number of socket(2) here is not written down"
)


def refuse_netlink(number: int = errno.EPROTONOSUPPORT) -> None:
    """Make socket(AF_NETLINK, ...) fail with `number` in this thread, for good."""
    libc, filters = _allow_filters(), _filter_netlink(_ERRNO | number)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, filters.header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def refuse_call(name: str, number: int = errno.EPERM) -> None:
    """Make a system call fail with `number` in this thread and all that it starts, for good."""
    program = (
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_EQUAL, 0, 1, _CALLS[name][platform.machine()]),
        (_RETURN, 0, 0, _ERRNO | number),
        (_RETURN, 0, 0, _ALLOW),
    )
    libc, filters = _allow_filters(), _filters(program)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, filters.header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def hold_netlink() -> int:
    """Make socket(AF_NETLINK, ...) wait inside the kernel in this thread and all that it starts, for good.

    The kernel waits for whoever reads the descriptor that is returned; keep it, and never read it.
    """
    libc, filters = _allow_filters(), _filter_netlink(_ASK)
    call = _SECCOMP_CALL[platform.machine()]
    listener = libc.syscall(call, _SET_FILTER, _NEW_LISTENER, filters.header)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


class _Filters(NamedTuple):
    header: bytes
    memory: "ctypes.Array[ctypes.c_char]"
    """What the header points to."""


def _filter_netlink(answer: int) -> _Filters:
    return _filters(
        (
            (_LOAD, 0, 0, _NUMBER),
            (_JUMP_IF_EQUAL, 0, 3, _SOCKET_CALL[platform.machine()]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_JUMP_IF_EQUAL, 0, 1, _AF_NETLINK),
            (_RETURN, 0, 0, answer),
            (_RETURN, 0, 0, _ALLOW),
        )
    )


def _filters(operations: Iterable[tuple[int, int, int, int]]) -> _Filters:
    program = b"".join(struct.pack("=HBBI", *operation) for operation in operations)
    memory = ctypes.create_string_buffer(program)
    return _Filters(struct.pack("@HP", len(program) // 8, ctypes.addressof(memory)), memory)


def _allow_filters() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    return libc

"""A kernel that does not answer netlink listings: the socket() call is refused by a seccomp filter."""

import ctypes
import errno
import platform
import struct

import pytest

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data; its low half on little endian
_SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
_AF_NETLINK = 16

needs_known_machine = pytest.mark.skipif(
    platform.machine() not in _SOCKET_CALL, reason="the number of socket(2) here is not written down"
)


def refuse_netlink(number: int = errno.EPROTONOSUPPORT) -> None:
    """Make socket(AF_NETLINK, ...) fail with `number` in this thread, for good."""
    program = b"".join(
        struct.pack("=HBBI", *operation)
        for operation in (
            (_LOAD, 0, 0, _NUMBER),
            (_JUMP_IF_EQUAL, 0, 3, _SOCKET_CALL[platform.machine()]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_JUMP_IF_EQUAL, 0, 1, _AF_NETLINK),
            (_RETURN, 0, 0, _ERRNO | number),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    memory = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, header, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

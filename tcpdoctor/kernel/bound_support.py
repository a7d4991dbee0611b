"""Whether this kernel lists sockets that are bound and nothing else.

It learnt to in Linux 6.8 (commit 91051f003948, "tcp: Dump bound-only sockets in inet_diag"). An older
kernel ignores bit 13 of the state mask and sends no such row: net/ipv4/inet_diag.c compares
the mask with the state of sockets in its listening and connection tables only, where
nothing has that state. So rows prove that it knows, and no rows say nothing.

No request tells the two apart without a bound socket, and we make none on somebody's host. Two
things do: the release, which is why this is the one place that looks at it, and below 6.8 the
kernel's own type information, which names TCP_BOUND_INACTIVE where a distribution took the
commit over.
"""

import functools
import os
import struct

_FIRST_RELEASE = (6, 8)
_TYPES = "/sys/kernel/btf/vmlinux"
_NAME = b"\0TCP_BOUND_INACTIVE\0"
_HEADER = struct.Struct("=HxxI8xII")  # struct btf_header: magic, hdr_len, str_off, str_len
_MAGIC = 0xEB9F
_MOST_NAMES = 1 << 26  # bytes


@functools.cache
def lists_bound_sockets() -> bool:
    """Whether no rows mean no bound sockets; False also where it cannot be known."""
    return lists_since_its_release(os.uname().release) or names_the_state(_TYPES)


def lists_since_its_release(release: str) -> bool:
    """Whether every kernel of this release lists bound sockets."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    if not (major.isdecimal() and minor.isdecimal()):
        return False
    return (int(major), int(minor)) >= _FIRST_RELEASE


def names_the_state(types: str) -> bool:
    """Whether the type information in this file knows the state of bound sockets.

    The file is 5 MB, its names one of them at the end (Documentation/bpf/btf.rst): only they are
    read, in 2 ms. False also for a kernel without such a file, or one that hides it: not known.
    """
    try:
        with open(types, "rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return False
            magic, size, start, length = _HEADER.unpack(header)
            if magic != _MAGIC or length > _MOST_NAMES:
                return False
            file.seek(size + start)
            names = file.read(length)
    except OSError:
        return False
    return _NAME in names

"""A process that holds its socket's lock: recv() copies into memory whose page is always late."""

import ctypes
import fcntl
import mmap
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_ZEROPAGE = 0xC018AA3F, 0xC020AA00, 0xC020AA04
_UFFD_API, _MISSING = 0xAA, 1
_MESSAGE = 32
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def reading_into_late_pages(sock: socket.socket, delay: float) -> Iterator[None]:
    """Read from `sock` all the time, into a page that comes `delay` seconds after it is wanted.

    recv() keeps the socket locked meanwhile: what arrives for it waits in the queue in front of it. Needs
    root (userfaultfd(2) for faults inside the kernel). Whoever sends must go on until the block is left.
    """
    late, page = _userfaultfd(), mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    fcntl.ioctl(late, _UFFDIO_REGISTER, bytearray(struct.pack("QQQQ", address, mmap.PAGESIZE, _MISSING, 0)))
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            _libc.recv(sock.fileno(), ctypes.c_void_p(address), 100, 0)
            page.madvise(mmap.MADV_DONTNEED)

    def answer() -> None:
        while os.read(late, _MESSAGE):
            time.sleep(delay)
            fcntl.ioctl(late, _UFFDIO_ZEROPAGE, bytearray(struct.pack("QQQq", address, mmap.PAGESIZE, 0, 0)))

    reader = threading.Thread(target=read, daemon=True)
    threading.Thread(target=answer, daemon=True).start()  # ends with the process
    reader.start()
    try:
        yield
    finally:
        over.set()
        reader.join()


def _userfaultfd() -> int:
    fd: int = _libc.syscall(_SYS_USERFAULTFD[os.uname().machine], os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    fcntl.ioctl(fd, _UFFDIO_API, bytearray(struct.pack("QQQ", _UFFD_API, 0, 0)))
    return fd

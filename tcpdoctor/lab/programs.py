"""A second program in the same namespace: the other end of a connection, or the server of yesterday."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe

from tcpdoctor.lab.lifetime import die_with


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

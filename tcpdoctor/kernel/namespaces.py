"""Which network namespace the calling thread is in."""

import os

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.capabilities import sees_all_processes_of_machine
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean

_NAMES = "/run/netns"
_OWN = "/proc/thread-self/ns/net"


def network_namespace() -> int:
    """Return the inode of the calling thread's network namespace, what ``lsns`` prints as NS.

    Raises:
        KernelReadError: /proc is not mounted, or is of a PID namespace that we are not in.
    """
    try:
        return os.stat(_OWN).st_ino
    except OSError as error:
        raise KernelReadError(f"{_OWN}: {error.strerror}; mount /proc of this PID namespace") from error


def name_of_namespace(folder: str = _NAMES) -> str | None:
    """Return the name that ``ip netns`` knows for the calling thread's namespace; None without one.

    Of several names the first in order of the alphabet.
    """
    own = os.stat(_OWN)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return None  # nobody has named a namespace, or the folder is closed to us
    for name in names:
        try:
            entry = os.stat(os.path.join(folder, name))
        except OSError:
            continue  # a name whose namespace is gone, or is hidden
        if (entry.st_dev, entry.st_ino) == (own.st_dev, own.st_ino):
            return clean(name)
    return None


def is_initial_namespace(root: str = "/proc/sys/net") -> Reading[bool]:
    """Say whether the calling thread is in the network namespace that the kernel booted with.

    Two settings that only the initial namespace shows tell it to every user: tcp_mem and
    netdev_max_backlog. Where they contradict each other, process 1 of the machine is compared.
    """
    signs = {os.path.exists(f"{root}/ipv4/tcp_mem"), os.path.exists(f"{root}/core/netdev_max_backlog")}
    if len(signs) == 1 and os.path.exists(f"{root}/ipv4/tcp_fin_timeout"):
        return signs.pop()
    try:
        if sees_all_processes_of_machine():
            first = os.stat("/proc/1/ns/net")
            own = os.stat(_OWN)
            return (first.st_dev, first.st_ino) == (own.st_dev, own.st_ino)
    except PermissionError:
        return Missing("it is not visible whether this is the initial network namespace; run as root")
    return Missing("it is not visible from this container whether this is the initial network namespace")

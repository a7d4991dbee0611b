"""What this thread may do beyond its uid (capabilities(7))."""

import os

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_NET_BIND_SERVICE = 10
CAP_NET_ADMIN = 12
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21

_FIRST_USER_NAMESPACE = 0xEFFFFFFD
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""The inodes of the namespaces that the kernel booted with, PROC_USER_INIT_INO and PROC_PID_INIT_INO
of include/linux/proc_ns.h; fixed since Linux 3.8."""


def effective_capabilities() -> frozenset[int]:
    """Return the numbers of the calling thread's effective capabilities.

    They hold in its own user namespace; see `in_first_user_namespace`.
    """
    with open("/proc/thread-self/status", encoding="utf-8", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                mask = int(line.split()[1], 16)
                return frozenset(bit for bit in range(64) if mask >> bit & 1)
    return frozenset()


def in_first_user_namespace() -> bool:
    """Whether capabilities hold for the whole machine and not only inside a user namespace."""
    return _is_namespace("/proc/thread-self/ns/user", _FIRST_USER_NAMESPACE)


def sees_all_processes_of_machine() -> bool:
    """Whether /proc shows every process of the machine, and not those of one PID namespace only.

    Asked of /proc itself first, because it may be mounted for another PID namespace than ours: its
    process 1 is in the namespace that it shows. Without leave to look there, our own namespace tells:
    where that is the first one, /proc can only be of the first one, or we would not be in it.
    """
    own = "/proc/thread-self/ns/pid"
    try:
        # Under hidepid=invisible process 1 is not even there for an ordinary user.
        return _is_namespace("/proc/1/ns/pid" if os.path.exists("/proc/1") else own, _FIRST_PID_NAMESPACE)
    except PermissionError:
        return _is_namespace(own, _FIRST_PID_NAMESPACE)


def _is_namespace(path: str, inode: int) -> bool:
    """Compare; a kernel built without namespaces of that kind has only the one."""
    try:
        return os.stat(path).st_ino == inode
    except FileNotFoundError:
        return not os.path.exists(f"/proc/thread-self/ns/{os.path.basename(path)}")

"""Programs of eBPF that decide about sockets: attached to a control group, or to a network namespace.

They may refuse bind() and connect() (EPERM), change their addresses, or drop packets; what they do is not
read. systemd has them do what some settings of a unit say. Asking takes CAP_NET_ADMIN; who lacks it is told
that nobody looked, and where the files of a unit have such a setting, that there is one.
"""

import errno
import functools
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from tcpdoctor.kernel.cgroups import find_cgroup2, find_cgroup_paths, place_of, walk_cgroups
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.packet_rules import may_ask_for_rules, no_privilege
from tcpdoctor.kernel.reading import Missing, Reading, read_kernel_file
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.named_tuples import NamedTuple

_SYSCALL_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_PROG_QUERY, _EFFECTIVE, _SK_LOOKUP = 16, 1, 36
_QUERY = struct.Struct("=IIIIQI116x")
"""union bpf_attr of BPF_PROG_QUERY: whose, which hook, flags, flags of the answer, ids, how many."""
_ON_CONNECT = {
    4: {"connect4": 10, "sock_create": 2, "egress": 1},
    6: {"connect6": 11, "sock_create": 2, "egress": 1},
}
_ON_BIND = {
    4: {"bind4": 8, "post_bind4": 12, "sock_create": 2},
    6: {"bind6": 9, "post_bind6": 13, "sock_create": 2},
}
"""BPF_CGROUP_INET4_CONNECT and so on (enum bpf_attach_type)."""
_ON_ARRIVAL = {"ingress": 0, "egress": 1}
"""What comes to a socket, and its answers."""
_SETTINGS = {
    "bind": ("SocketBindAllow", "SocketBindDeny", "BPFProgram"),
    "connect": (
        *("IPAddressAllow", "IPAddressDeny", "RestrictNetworkInterfaces"),
        *("IPIngressFilterPath", "IPEgressFilterPath", "BPFProgram"),
    ),
}
"""Settings of units that programs carry out, by what they decide over (systemd.resource-control(5))."""
_UNIT_FOLDERS = (
    *("/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient"),
    *("/etc/systemd/system.control", "/run/systemd/system.control"),
    *("/usr/lib/systemd/system", "/lib/systemd/system"),
)
_NO_FILE = 0xFFFFFFFF
_CILIUM = "cilium_host"
_MOST_GROUPS = 2_000
"""Control groups that are asked, a sixteenth of a millisecond each."""


@replayed
def find_programs(call: Literal["connect", "bind"], family: int) -> tuple[str, ...]:
    """Return the hooks at which programs of the calling process's control group decide about a call.

    Those of groups further down, as systemd attaches them to a unit, are `find_guarded_groups`'. None where
    nobody may ask: without CAP_NET_ADMIN, or where cgroup2 is not mounted.
    """
    hooks = (_ON_CONNECT if call == "connect" else _ON_BIND)[family]
    mount = find_cgroup2() if _may_ask() else None
    return () if mount is None else _attached(f"{mount}{_own_group()}", hooks, _EFFECTIVE)


@replayed
def find_arrival_programs(groups: Iterable[int]) -> tuple[str, ...]:
    """Return the hooks at which programs decide about what comes to sockets of some control groups.

    Args:
        groups: Their ids; of those that are gone or not visible nothing is found.
    """
    mount = find_cgroup2() if _may_ask() else None
    if mount is None:
        return ()
    paths = find_cgroup_paths(set(groups), mount).values()
    return tuple(
        dict.fromkeys(hook for path in paths for hook in _attached(mount + path, _ON_ARRIVAL, _EFFECTIVE))
    )


@replayed
def looks_up_sockets() -> bool:
    """Whether a program of this network namespace chooses who gets a connection (sk_lookup)."""
    return _may_ask() and bool(_attached("/proc/thread-self/ns/net", {"sk_lookup": _SK_LOOKUP}, 0))


class Guarded(NamedTuple):
    """A control group of which programs decide over bind()."""

    name: str
    """The unit whose group it is, or its path."""
    is_unit: bool
    """Whether `systemctl show` knows it: a unit of this host's systemd."""
    hooks: tuple[str, ...]


@replayed
def find_guarded_groups() -> Reading[tuple[Guarded, ...]]:
    """Return the control groups whose programs decide over bind() of their processes and not of this one."""
    if not may_ask_for_rules():
        return no_privilege("programs of eBPF")
    if refused := why_programs_unread():
        return Missing(refused)
    mount, own = find_cgroup2(), f"{_own_group()}/"
    if mount is None:
        return ()
    found = []
    for number, (_, path) in enumerate(walk_cgroups(mount)):
        if number == _MOST_GROUPS:
            return Missing(f"there are more than {_MOST_GROUPS:,} control groups")
        if own.startswith(path.rstrip("/") + "/"):
            continue  # what is attached there decides over this process too
        if hooks := _attached(mount + path, {**_ON_BIND[4], **_ON_BIND[6]}, 0):
            place = place_of(path)
            ours = place.unit_path == path and not place.containers and not place.of_user_manager
            found.append(Guarded(place.unit or clean(path), ours, hooks))
    return tuple(found)


@replayed
def why_programs_unread() -> str:
    """Return why who may ask for rules is not told of programs; empty for all others.

    bpf(2) wants the privilege in the initial user namespace: root of another, as in rootless containers, is
    refused, as are those whom a filter of system calls keeps from it.
    """
    if not may_ask_for_rules() or not _is_refused():
        return ""
    return "bpf(2), which tells of programs of eBPF, is refused here (a user namespace, or seccomp)"


def _may_ask() -> bool:
    return may_ask_for_rules() and not _is_refused()


def _is_refused() -> bool:
    """Whether bpf(2) refuses to tell, asked about no file: privilege comes first, and the file next."""
    number = _SYSCALL_BPF.get(os.uname().machine)
    if number is None:
        return False
    ask, errno_of_last = _ask_kernel()
    asked = bytearray(_QUERY.pack(_NO_FILE, _ON_BIND[4]["bind4"], 0, 0, 0, 0))
    return ask(number, asked) != 0 and errno_of_last() in (errno.EPERM, errno.EACCES)


@replayed
def sign_of_programs(call: Literal["connect", "bind"], folders: Sequence[str] = _UNIT_FOLDERS) -> str:
    """Return what tells that programs decide about a call of this process, where they may not be asked about.

    Empty where they were asked about, and where nothing tells: then there are hardly any. `folders` are those
    that hold the files of units.
    """
    if _may_ask():
        return ""
    if call == "connect" and os.path.isdir(f"/sys/class/net/{_CILIUM}"):
        return f"the interface {_CILIUM} is there, whose programs of eBPF lead connections elsewhere"
    found = next(_restrictions(_own_group(), call, folders), None)
    return f"{found}, which programs of eBPF carry out" if found else ""


def _restrictions(group: str, call: Literal["connect", "bind"], folders: Sequence[str]) -> Iterator[str]:
    """Yield what files of units say that a control group is in: ``web.service has IPAddressDeny=``."""
    for unit in group.split("/"):
        for folder in folders if unit.endswith((".service", ".slice", ".scope")) else ():
            for path in (f"{folder}/{unit}", *_drop_ins(f"{folder}/{unit}.d")):
                for setting in _settings_in(path):
                    if setting in _SETTINGS[call]:
                        yield clean(f"{unit} has {setting}=")


def _drop_ins(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.endswith(".conf")]
    except OSError:
        return []


def _settings_in(path: str) -> Iterator[str]:
    try:
        text = decode(read_kernel_file(path))
    except OSError:
        return
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and value.strip():
            yield name.strip()


def _own_group() -> str:
    try:
        groups = decode(read_kernel_file("/proc/thread-self/cgroup")).splitlines()
    except OSError:
        return "/"
    return next((line[3:] for line in groups if line.startswith("0::")), "/")


def _attached(path: str, hooks: Mapping[str, int], flags: int) -> tuple[str, ...]:
    number = _SYSCALL_BPF.get(os.uname().machine)
    try:
        whose = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        return tuple(name for name, hook in hooks.items() if number and _count(number, whose, hook, flags))
    finally:
        os.close(whose)


def _count(number: int, whose: int, hook: int, flags: int) -> int:
    """How many programs are attached; 0 too where this kernel knows no such hook, or does not tell."""
    asked = bytearray(_QUERY.pack(whose, hook, flags, 0, 0, 0))
    return int(_QUERY.unpack(asked)[5]) if _ask_kernel()[0](number, asked) == 0 else 0


@functools.cache
def _ask_kernel() -> tuple[Callable[[int, bytearray], int], Callable[[], int]]:
    """Return what asks by bpf(2) with one union of attributes, which takes the answer; and its errno."""
    import ctypes  # 4 ms, and it is asked for where rules are

    library, attributes = ctypes.CDLL(None, use_errno=True), ctypes.c_char * _QUERY.size
    return lambda number, asked: int(
        library.syscall(number, _PROG_QUERY, attributes.from_buffer(asked), _QUERY.size)
    ), ctypes.get_errno

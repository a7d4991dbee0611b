"""Kernel settings as typed values: /proc/sys.

A value's type follows from its name where we know the name, so that a number is never read as text
by accident; the few settings of net.ipv4.tcp_* that a kernel has and we do not know are typed by what
they hold.
"""

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Mapping

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.reading import Missing, Reading, Refused, read_kernel_file
from tcpdoctor.kernel.snapshot import PortRanges, SysctlValue
from tcpdoctor.kernel.text import blank_split, clean, decode, is_whole
from tcpdoctor.named_tuples import NamedTuple

PROC_SYS = "/proc/sys"
"""Its net/ belongs to the network namespace of the calling thread."""

DEFAULT_PORTS = 32_768, 60_999
"""What net.ipv4.ip_local_port_range begins with in every network namespace."""

WANTED = (
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_nonlocal_bind",
    "net.ipv4.ip_autobind_reuse",
    "net.ipv6.ip_nonlocal_bind",
    "net.ipv6.bindv6only",
    "net.core.somaxconn",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.wmem_default",
    "net.core.wmem_max",
    "net.core.optmem_max",
    "net.core.netdev_budget",
    "net.core.netdev_budget_usecs",
    "net.core.netdev_max_backlog",
    "net.core.default_qdisc",
    "net.ipv4.ip_default_ttl",
    "net.ipv4.ip_no_pmtu_disc",
    "net.ipv4.neigh.default.gc_thresh1",
    "net.ipv4.neigh.default.gc_thresh2",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
    "fs.file-max",
    "fs.file-nr",
    "fs.nr_open",
    # Expected wherever TCP is, so that an absent one is reported as missing and not forgotten:
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_orphan_retries",
    "net.ipv4.tcp_retries1",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_window_scaling",
    "net.ipv4.tcp_wmem",
)
"""Read in every look, besides all of net.ipv4.tcp_* that the kernel has."""

MACHINE_WIDE = frozenset(
    {
        "net.ipv4.tcp_available_ulp",
        "net.ipv4.tcp_low_latency",
        "net.ipv4.tcp_max_orphans",
        "net.ipv4.tcp_mem",
        "net.ipv4.tcp_rx_skb_cache",
        "net.ipv4.tcp_tx_skb_cache",
        "net.ipv4.udp_mem",
        "net.core.default_qdisc",
        "net.core.netdev_budget",
        "net.core.netdev_budget_usecs",
        "net.core.netdev_max_backlog",
        "net.ipv4.neigh.default.gc_thresh1",
        "net.ipv4.neigh.default.gc_thresh2",
        "net.ipv4.neigh.default.gc_thresh3",
        "net.ipv6.neigh.default.gc_thresh3",
    }
)
"""Settings of the machine that only the initial network namespace shows (net/ipv4/sysctl_net_ipv4.c
ipv4_table, net/core/sysctl_net_core.c net_core_table). Older kernels keep more of net.core to it, the limits
of buffers among them."""


def is_machine_wide(path: str) -> bool:
    """Whether a place below /proc/sys is shown by the initial network namespace only.

    A test compares this with what a fresh namespace of this kernel lacks.
    """
    return path.replace("/", ".") in MACHINE_WIDE or bool(_OF_THE_MACHINE.fullmatch(path))


_OF_THE_MACHINE = re.compile(
    r"net/ipv[46]/neigh/default/[^/]+|net/ipv4/route/(?!flush$|min_adv_mss$|min_pmtu$|mtu_expires$)[^/]+"
    r"|net/core/(?:bpf_jit_\w+|busy_poll|busy_read|dev_weight\w*|devconf_\w+|fb_tunnels_\w+|flow_limit_\w+"
    r"|gro_normal_batch|high_order_alloc_disable|max_skb_frags|mem_pcpu_rsv|message_\w+|netdev_\w+"
    r"|rps_sock_flow_entries|skb_defer_max|warnings)"
    r"|net/ipv[46]/(?:cipso|calipso)_\w+|net/ipv4/(?:fib_sync_mem|inet_peer_\w+|ipfrag_secret_interval"
    r"|tcp_[rt]x_skb_cache)"
    r"|net/ipv6/(?:ip6frag_secret_interval|mld_max_msf|mld_qrv)|net/nf_conntrack_max"
    r"|net/netfilter/nf_log_all_netns"
)
_PAIRS = frozenset({"net.ipv4.ip_local_port_range", "net.ipv4.ping_group_range"})
_TRIPLES = frozenset(
    {"net.ipv4.tcp_mem", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.udp_mem", "fs.file-nr"}
)
_RANGES = frozenset({"net.ipv4.ip_local_reserved_ports"})
_TEXTS = frozenset(
    {
        "net.core.default_qdisc",
        "net.ipv4.tcp_allowed_congestion_control",
        "net.ipv4.tcp_available_congestion_control",
        "net.ipv4.tcp_available_ulp",
        "net.ipv4.tcp_congestion_control",
    }
)
_NUMBERS = frozenset(WANTED) - _PAIRS - _TRIPLES - _RANGES - _TEXTS

_TRACKED = "net/netfilter/nf_conntrack_count"
"""There once nf_conntrack is, in every network namespace. Reading it loads nothing."""
_LARGEST = 1 << 19
"""Above the longest text a sysctl can have: 32,768 lone reserved ports of six characters each.
proc_do_large_bitmap() gives what fits into the first read and nothing after it."""


@replayed
def sysctl_names(root: str = PROC_SYS) -> tuple[str, ...]:
    """Return the names that every look reads: `WANTED` and all of net.ipv4.tcp_* here, sorted."""
    try:
        present = os.listdir(os.path.join(root, "net/ipv4"))
    except OSError:
        present = []  # read_sysctl() gives the reason for each of the names that remain
    found = {f"net.ipv4.{entry}" for entry in present if entry.startswith("tcp_")}
    return tuple(sorted(found.union(WANTED)))


def read_sysctls(
    names: Iterable[str] | None = None, root: str = PROC_SYS
) -> Mapping[str, Reading[SysctlValue]]:
    """Read several settings, by default those of `sysctl_names`."""
    return {name: read_sysctl(name, root) for name in (sysctl_names(root) if names is None else names)}


@replayed
def read_sysctl(name: str, root: str = PROC_SYS) -> Reading[SysctlValue]:
    """Read one setting by the name that sysctl(8) prints, dots or slashes between its parts.

    Args:
        name: For example ``net.ipv4.tcp_fin_timeout``, ``net/ipv4/conf/eth0.1/rp_filter``.
        root: Where /proc/sys is; tests point it at a recorded tree.

    Returns:
        A number, a pair or triple of numbers, ranges of ports, or text. `Missing` if the kernel or this
        network namespace has no such setting, hides it from us, if it holds something else than its name
        says, or if it is a secret key, which is not read at all.
    """
    if is_secret(name):
        return Missing(f"{name} is a secret key, which is never read")
    path = os.path.join(root, _relative_path(name))
    try:
        text = read_kernel_file(path, _LARGEST if name in _RANGES else 16384)
    except OSError as error:
        return _why_missing(name, error, root)
    if not text.strip() and name in _NUMBERS | _PAIRS | _TRIPLES:
        return Refused(f"{name}: it is empty here, so something covers it (a container's runtime masks it)")
    try:
        return parse_sysctl(name, text.decode("utf-8", "surrogateescape"), path)
    except KernelReadError as error:
        return Missing(str(error))  # what stands in for it here is one file of many: the look goes on


def is_secret(name: str) -> bool:
    """Whether a setting, by its name or its place, is a key that opens something: none is read, or kept."""
    return name.endswith(_SECRETS)


def parse_sysctl(name: str, text: str, source: str) -> SysctlValue:
    """Give a setting's text the type that its name calls for.

    Raises:
        KernelReadError: It does not fit; with `source` and what was expected.
    """
    text = text.rstrip("\n")
    if name in _TEXTS:
        return text
    if name in _RANGES:
        return _parse_ranges(text, source)
    numbers = _parse_numbers(text)
    expected = 1 if name in _NUMBERS else 2 if name in _PAIRS else 3 if name in _TRIPLES else None
    if expected is None:
        return text if not numbers else numbers[0] if len(numbers) == 1 else numbers
    if numbers is None or len(numbers) != expected:
        raise KernelReadError(f"{source}: expected {_NUMERALS[expected]}, found {text[:60]!r}")
    return numbers[0] if expected == 1 else numbers


_NUMERALS = {1: "one whole number", 2: "two whole numbers", 3: "three whole numbers"}


def _parse_numbers(text: str) -> tuple[int, ...] | None:
    """Return the whole numbers in `text`; None if there is anything else in it."""
    words = text.split()
    if not all(is_whole(word.removeprefix("-")) for word in words):
        return None
    return tuple(map(int, words))


def _parse_ranges(text: str, source: str) -> PortRanges:
    """Parse ``8080,9000-9010``; nothing at all is no range."""
    ranges = []
    for part in text.split(",") if text.strip() else []:
        low, dash, high = part.strip().partition("-")
        ends = _parse_numbers(f"{low} {high if dash else low}")
        if ends is None or len(ends) != 2 or not 0 <= ends[0] <= ends[1] <= 65535:
            raise KernelReadError(
                f"{source}: expected ranges of ports such as 8080,9000-9010, found {part[:60]!r}"
            )
        ranges.append((ends[0], ends[1]))
    return tuple(ranges)


def slashed(name: str) -> str:
    """Spell a name with slashes as sysctl(8) does: its first separator says which of the two separates."""
    first = min((name.find(mark) for mark in "./" if mark in name), default=-1)
    return name if first >= 0 and name[first] == "/" else name.translate({46: "/", 47: "."})


def _relative_path(name: str) -> str:
    path = slashed(name)
    parts = path.split("/")
    if not all(parts) or "\0" in path or {".", ".."} & set(parts):
        return "no such name"  # nothing of this name exists, and nothing outside /proc/sys is opened
    return path


def _why_missing(name: str, error: OSError, root: str) -> Missing:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        hidden = _hidden(name, root)
        if hidden is not None:
            return Refused(f"{name}: {hidden} is hidden here (a container's runtime or a sandbox masks it)")
        return Missing(_why_absent(name, root))
    if error.errno in (errno.EACCES, errno.EPERM):
        if os.geteuid() == 0:
            return Refused(f"{name}: permission denied, even as root")
        return Refused(f"{name}: only root may read it; run as root")
    if error.errno == errno.EISDIR:
        return Missing(f"{name} is a group of settings and no single one")
    return Missing(f"{name}: reading it failed: {error.strerror or error}")


def _why_absent(name: str, root: str) -> str:
    if name.startswith("net.netfilter.") and not _is_there(root, _TRACKED):
        return f"{name}: connections are not tracked here, nf_conntrack is not loaded"
    in_child = not any(_is_there(root, sign) for sign in _OF_THE_INITIAL)
    if in_child and (name in MACHINE_WIDE or name.startswith("net.core.")):
        return f"{name} exists in the initial network namespace only"
    if name.startswith("net.ipv6.") and not _is_there(root, "net/ipv6"):
        return f"{name}: IPv6 is not there in this kernel"
    return f"{name}: this kernel or network namespace does not have it"


_ALWAYS = {"net.core.": "net/core/somaxconn", "net.": "net/ipv4/tcp_fin_timeout", "fs.": "fs/nr_open"}
"""A setting of each group that every kernel and every namespace has: without it the group is hidden."""
_OF_THE_INITIAL = ("net/ipv4/tcp_mem", "net/core/netdev_max_backlog")


def _hidden(name: str, root: str) -> str | None:
    """The folder that is kept from us although the kernel has it; None where that is not the reason."""
    for group, sign in _ALWAYS.items():
        if name.startswith(group) and not _is_there(root, sign):
            return os.path.join(root, os.path.dirname(sign))
    if name.startswith("net.netfilter.") and not _is_there(root, _TRACKED):
        # the kernel registers these settings with the module, in every namespace
        is_loaded = root == PROC_SYS and os.path.isdir("/sys/module/nf_conntrack")
        return f"{root}/net/netfilter" if is_loaded else None
    return None


def _is_there(root: str, place: str) -> bool:
    return os.path.exists(os.path.join(root, place))


@replayed
def is_setting(path: str) -> bool:
    """Whether there is a setting at a place below /proc/sys."""
    return os.path.isfile(os.path.join(PROC_SYS, path))


@replayed
def is_folder(path: str) -> bool:
    """Whether there are settings below a place below /proc/sys."""
    return os.path.isdir(os.path.join(PROC_SYS, path))


@replayed
def may_be_written(path: str) -> bool | None:
    """Whether root may write a setting; None where a recording does not tell it."""
    try:
        mode = os.stat(os.path.join(PROC_SYS, path)).st_mode
    except OSError:
        return False
    return bool(mode & 0o222) and not is_read_only()


def is_read_only() -> bool:
    """Whether the settings of the network are mounted read-only here, as in most containers."""
    try:
        return bool(os.statvfs(os.path.join(PROC_SYS, "net")).f_flag & os.ST_RDONLY)
    except OSError:
        return False


# What is below /proc/sys: which settings a glob stands for, what may be written, what a setting holds.


_LONGEST = 1 << 19

_SECRETS = ("tcp_fastopen_key", "stable_secret")
"""Keys that open something are never read: the Fast Open key, and RFC 7217's secret of each interface."""

_ACTS_WHEN_READ = frozenset({"vm/stat_refresh"})

_MOUNTED = "fs/binfmt_misc/"
"""No settings: a file system of its own, which is mounted (and whose module is loaded) by a look into it."""

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_COVERED = "another file system covers it here, so what the kernel holds is not to be seen"


class Held(NamedTuple):
    """One setting of this kernel, as a file."""

    exists: bool
    writable: bool
    """Whether its mode lets root write it."""
    value: Reading[str]
    """As the kernel prints it, one space between its parts; `Missing` with the reason."""


@replayed
def look_at(path: str, root: str = PROC_SYS) -> Held:
    """Look at the setting at a place below /proc/sys, ``net/ipv4/tcp_sack``.

    Nothing outside of /proc/sys is ever opened, whatever the place says: it is walked to part by part, no
    link is followed, and what another file system covers is left alone.
    """
    try:
        folder, name = walk_to(path, root)
    except (OSError, ValueError) as error:
        return Held(exists=False, writable=False, value=_unread(error))
    try:
        return _look_in(folder, name, path)
    finally:
        os.close(folder)


def walk_to(path: str, root: str) -> tuple[int, str]:
    """Open the folder of a place, and return it with the last part of the place.

    Raises:
        OSError: There is no such folder, or the way to it leaves this file system.
        ValueError: The place holds a NUL.
    """
    *folders, name = path.split("/")
    if not name or {"", ".", ".."} & {*folders, name} or "\0" in path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    here = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        device = os.fstat(here).st_dev
        for part in folders:
            below = os.open(part, _LOOK | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
            if os.fstat(here).st_dev != device or path.startswith(_MOUNTED):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    except OSError:
        os.close(here)
        raise
    return here, name


def _look_in(folder: int, name: str, path: str) -> Held:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if found.st_dev != os.fstat(folder).st_dev:
            return Held(exists=False, writable=False, value=Missing(_COVERED))
    except (OSError, ValueError) as error:
        return Held(exists=False, writable=False, value=_unread(error))
    if not stat.S_ISREG(found.st_mode):
        return Held(
            exists=False, writable=False, value=Missing("it is a group of settings and no single one")
        )
    writable = bool(found.st_mode & 0o222)
    if not found.st_mode & 0o444 or path in _ACTS_WHEN_READ:
        return Held(exists=True, writable=writable, value=Missing("it can only be written"))
    if is_secret(path):
        return Held(exists=True, writable=writable, value=Missing("it is a secret key, which is never read"))
    try:
        text = decode(_read_in(folder, name))
    except OSError as error:
        return Held(exists=True, writable=writable, value=_unread(error))
    return Held(exists=True, writable=writable, value=clean(" ".join(blank_split(text)), _LONGEST))


def _read_in(folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        parts, size = [], 0
        while size < _LONGEST and (part := os.read(descriptor, _LONGEST)):
            parts.append(part)
            size += len(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


@replayed
def matching(pattern: str, root: str = PROC_SYS) -> tuple[str, ...]:
    """Return the places that a glob stands for, sorted, as glob(7) finds them; none outside of /proc/sys."""
    places = [""]
    pattern = posixpath.normpath(pattern).strip("/")
    for part in pattern.split("/"):
        if part == "..":
            return ()
        places = [os.path.join(place, name) for place in places for name in _names(root, place, part)]
    return tuple(sorted(place for place in places if os.path.lexists(os.path.join(root, place))))


def _names(root: str, place: str, part: str) -> list[str]:
    if f"{place}/".startswith(_MOUNTED):
        return []
    if not re.search(r"[*?\[\\]", part):
        return [part]
    try:
        present = os.listdir(os.path.join(root, place))
    except (OSError, ValueError):
        return []
    wanted = re.compile(_expression(part), re.DOTALL)
    return [
        name for name in present if wanted.fullmatch(name) and part.startswith(".") == name.startswith(".")
    ]


def _expression(part: str) -> str:
    """Translate one part of a glob; Python's own fnmatch knows neither ``[^a]`` nor backslashes.

    What follows a star is looked for once, where it comes first: going back would find nothing more, and
    takes for ever where there are many stars. (An atomic group says the same from Python 3.11 on.)
    """
    first, *rest = _between_stars(part)
    if not rest:
        return first
    inner = [piece for piece in rest[:-1] if piece]
    once = "".join(f"(?=(.*?{piece}))\\{number}" for number, piece in enumerate(inner, start=1))
    return f"{first}{once}.*{rest[-1]}"


def _between_stars(part: str) -> list[str]:
    """The expressions of what stands before, between and behind the stars of one part of a glob."""
    pieces = [""]
    place = 0
    while place < len(part):
        char = part[place]
        place += 1
        if char == "*":
            pieces.append("")
        elif char == "\\" and place < len(part):
            pieces[-1] += re.escape(part[place])
            place += 1
        elif char == "[" and (end := _end_of_set(part, place)) > 0:
            pieces[-1] += _set(part[place:end])
            place = end + 1
        else:
            pieces[-1] += "." if char == "?" else re.escape(char)
    return pieces


def _end_of_set(part: str, start: int) -> int:
    first = start + (part[start : start + 1] in ("!", "^") and part[start : start + 1] != "")
    return part.find("]", first + 1)


def _set(inside: str) -> str:
    negated = inside[:1] in ("!", "^")
    members = inside[1:] if negated else inside
    escaped = members.replace("\\", "\\\\").replace("]", "\\]").replace("[", "\\[").replace("^", "\\^")
    text = f"[{'^' if negated else ''}{escaped}]"
    try:
        re.compile(text)
    except re.error:  # a range that runs backwards matches nothing
        return "[^\\s\\S]" if not negated else "."
    return text


def _unread(error: OSError | ValueError) -> Missing:
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return Missing("this kernel or network namespace does not have it")
    if number in (errno.EXDEV, errno.ELOOP):
        return Missing(_COVERED)
    if number in (errno.EACCES, errno.EPERM):
        return Refused(
            "only root may read it; run as root" if os.geteuid() else "permission denied, even as root"
        )
    return Missing(f"reading it failed: {os.strerror(number or 0)}")


# What a namespace has that nobody has changed.


def read_fresh(names: Iterable[str]) -> Mapping[str, Reading[SysctlValue]]:
    """Read settings in a network namespace that is made for it, by a thread that ends with it.

    Only settings of which each namespace has its own, and that a new one does not take over from the initial
    one, are defaults there. Making one needs CAP_SYS_ADMIN, loads nothing and sends nothing.

    Returns:
        The values by name; nothing at all where no namespace can be made.
    """
    import ctypes  # only who compares with defaults pays for these
    import threading

    found: dict[str, Reading[SysctlValue]] = {}

    def look() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0:
            found.update((name, read_sysctl(name)) for name in names)

    thread = threading.Thread(target=look)
    try:
        thread.start()
    except RuntimeError:
        return found  # RLIMIT_NPROC, or a full pids cgroup
    thread.join()
    return found


_CLONE_NEWNET = 0x40000000

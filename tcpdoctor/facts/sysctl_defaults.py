"""Defaults that the kernel computes, where they can be computed again: from the table of connections.

Since Linux 6.1 net.ipv4.tcp_ehash_entries tells the size of that table, negative in a namespace that shares
the initial one's. What is computed from the memory that was free at boot (tcp_mem, tcp_rmem, tcp_wmem,
fs.file-max) cannot be computed again and is left out.

Source: Linux net/ipv4/tcp.c (tcp_init: sysctl_tcp_max_orphans), net/ipv4/tcp_ipv4.c (tcp_set_hashinfo:
tw_buckets, sysctl_max_syn_backlog), net/netfilter/nf_conntrack_core.c (nf_conntrack_init_start).
"""

from collections.abc import Mapping

from tcpdoctor.kernel.reading import Reading
from tcpdoctor.kernel.snapshot import SysctlValue

EHASH = "net.ipv4.tcp_ehash_entries"
BUCKETS = "net.netfilter.nf_conntrack_buckets"
NEEDED = (EHASH, BUCKETS)


def computed_defaults(sysctls: Mapping[str, Reading[SysctlValue]]) -> Mapping[str, tuple[str, ...]]:
    """Return the defaults that follow from others, by dotted name; several where kernels differ.

    Args:
        sysctls: Values of `NEEDED`; what follows from an absent one is left out.
    """
    found: dict[str, tuple[str, ...]] = {}
    entries = sysctls.get(EHASH)
    if isinstance(entries, int) and entries != 0:
        size = abs(entries)
        found["net.ipv4.tcp_max_orphans"] = (str(size // 2),)
        found["net.ipv4.tcp_max_tw_buckets"] = (str(size // 2),)
        found["net.ipv4.tcp_max_syn_backlog"] = (str(max(128, size // 128)),)
    buckets = sysctls.get(BUCKETS)
    if isinstance(buckets, int):
        found["net.netfilter.nf_conntrack_max"] = (str(buckets), str(4 * buckets))
    return found


_BYTES_EACH = 1 << 17
_LARGEST_TABLE = 1 << 19


def fewest_sockets(memory: int) -> int:
    """Return the least default that tcp_max_orphans and tcp_max_tw_buckets can have with this memory.

    For kernels before 6.1, which do not tell the size of their table: it has one bucket for each 128 KiB,
    rounded up to a power of two, and half of its buckets are the default. The kernel counts a little less
    memory than there is, so the power of two below is taken.

    Args:
        memory: Bytes.

    Source: Linux mm/mm_init.c (alloc_large_system_hash), net/ipv4/tcp.c (tcp_init).
    """
    buckets = max(1, memory // _BYTES_EACH)
    return min(1 << (buckets.bit_length() - 1), _LARGEST_TABLE) // 2

"""What the kernel's log says of TCP, and the answer that it leads to."""

import re
from typing import NamedTuple


class LogLine(NamedTuple):
    """One message of the kernel, known by its words, whatever numbers and names stand in it."""

    words: str
    """What all versions of it have in common, in lower case."""
    means: str
    """One sentence."""
    flag: str
    """What `explain` is asked: ``--rule``, ``--sysctl``."""
    name: str
    """Of the page."""

    @property
    def command(self) -> str:
        """What to type for the answer."""
        return f"tcpdoctor explain {self.flag} {self.name}"


LOG_LINES = (
    LogLine(
        "possible syn flooding",
        "A listener's queue of half-open connections was full: SYN cookies were sent, or SYNs dropped.",
        "--rule",
        "syn-queue-full",
    ),
    LogLine(
        "too many orphaned sockets",
        "More closed connections were unfinished than tcp_max_orphans allows: the kernel reset some.",
        "--rule",
        "orphans-near-limit",
    ),
    LogLine(
        "out of memory -- consider tuning tcp_mem",
        "TCP held more memory than tcp_mem allows, so closing connections were reset.",
        "--rule",
        "tcp-memory-nearly-full",
    ),
    LogLine(
        "consider tuning tcp_mem",
        "TCP held more memory than tcp_mem allows, so closing connections were reset.",
        "--rule",
        "tcp-memory-nearly-full",
    ),
    LogLine(
        "out of socket memory",
        "Before Linux 3.10: too many orphans, or more memory than tcp_mem allows.",
        "--rule",
        "orphans-near-limit",
    ),
    LogLine(
        "table full, dropping packet",
        "The table of tracked connections was full: packets of new connections were dropped.",
        "--rule",
        "conntrack-table-overflows",
    ),
    LogLine(
        "nf_conntrack: table full",
        "The table of tracked connections was full: packets of new connections were dropped.",
        "--rule",
        "conntrack-table-overflows",
    ),
    LogLine(
        "time wait bucket table overflow",
        "More connections were in TIME_WAIT than tcp_max_tw_buckets allows: further ones skipped it.",
        "--rule",
        "time-wait-table-nearly-full",
    ),
    LogLine(
        "prefer different parity for start/end values",
        "Both ends of ip_local_port_range are even, or both odd.",
        "--sysctl",
        "net.ipv4.ip_local_port_range",
    ),
    LogLine(
        "treason uncloaked",
        "Before Linux 3.2: a peer took back window that it had offered.",
        "--sysctl",
        "net.ipv4.tcp_shrink_window",
    ),
    LogLine(
        "file-max limit",
        "The machine had as many open files as fs.file-max allows (VFS: file-max limit reached).",
        "--rule",
        "open-files-near-machine-limit",
    ),
    LogLine(
        "neighbor table overflow",
        "The table of neighbours was full; this is no setting of TCP: net.ipv4.neigh.default.gc_thresh3.",
        "--error",
        "ENOBUFS",
    ),
    LogLine(
        "cannot expose privileged port",
        "Rootless Podman or Docker: the user may not bind ports below net.ipv4.ip_unprivileged_port_start.",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start",
    ),
    LogLine(
        "tcp backlog setting of",
        "Redis: net.core.somaxconn is below the backlog that it asks for.",
        "--sysctl",
        "net.core.somaxconn",
    ),
    LogLine(
        "neighbour table overflow",
        "The table of neighbours was full; this is no setting of TCP: net.ipv4.neigh.default.gc_thresh3.",
        "--error",
        "ENOBUFS",
    ),
    LogLine(
        "neighbor table overflow",
        "The table of neighbours was full; this is no setting of TCP: net.ipv4.neigh.default.gc_thresh3.",
        "--error",
        "ENOBUFS",
    ),
    LogLine(
        "martian source",
        "A packet came in from an address that cannot be reached through that interface: rp_filter drops it.",
        "--rule",
        "reverse-path-filter-drops",
    ),
    LogLine(
        "unexpectedly shrunk window",
        "A peer took back window that it had offered; the connection goes on.",
        "--sysctl",
        "net.ipv4.tcp_shrink_window",
    ),
    LogLine(
        "drop open request from",
        "Before Linux 4.4: the queue of half-open connections was full, and no SYN cookies were sent.",
        "--rule",
        "syn-queue-drops",
    ),
    LogLine(
        "netdev watchdog",
        "A network card sent nothing for seconds: its driver or hardware; nobody's connection timed out yet.",
        "--rule",
        "packets-stuck-in-host-queues",
    ),
)
_LEAST = 8
"""Letters that a part of a message has at least, to be taken for it."""


def log_line_of(asked: str) -> LogLine | None:
    """Return the message that a text is, holds, or is a part of; None where it is none.

    ``TCP: request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.``, ``possible SYN flooding``,
    ``table full``.
    """
    text = _plain(asked)
    whole = next((line for line in LOG_LINES if _plain(line.words) in text), None)
    if whole is not None or len(text) < _LEAST:
        return whole
    return next((line for line in LOG_LINES if text in _plain(line.words)), None)


def _plain(text: str) -> str:
    """Letters and digits only, with one blank between words."""
    return " ".join(re.findall(r"[a-z0-9_]+", text[:1000].lower()))

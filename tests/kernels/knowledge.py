"""What the running kernel lets be known: asked of the kernel itself, one line a question.

Run on each kernel by `python -m tests.kernels`, which makes the page docs/kernels.md of the answers.
"""

import contextlib
import json
import os
import platform
import socket
import struct
import sys
from collections.abc import Callable

from tcpdoctor.kernel.counters import read_counters
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sockets import read_connections
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import in_private_namespace

IP_LOCAL_PORT_RANGE = 51
OTHER_USER = 1234


def lists_bound() -> bool:
    """Whether sockets that are bound, and neither listen nor connect, are listed."""
    with socket.create_server(("127.0.0.1", 0)), socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        rows = read_connections((TcpState.BOUND,), local_port=bound.getsockname()[1])
        return not isinstance(rows, Missing) and TcpState.BOUND in rows


def tells_uid_of_orphans() -> bool:
    """Whether a connection that nobody accepted yet is listed with the uid of its listener."""
    os.seteuid(OTHER_USER)
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        os.seteuid(0)
        rows = read_connections((TcpState.ESTABLISHED,), local_port=server.getsockname()[1])
        assert not isinstance(rows, Missing)
        return {row.uid for row in rows[TcpState.ESTABLISHED].connections} == {OTHER_USER}


def has_port_range_option() -> bool:
    """Whether a socket may be given a range of ports of its own (IP_LOCAL_PORT_RANGE)."""
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("=I", 40000 << 16 | 39000))
        return True
    return False


def has_setting(name: str) -> Callable[[], bool]:
    """Whether a setting exists in a network namespace of its own."""
    return lambda: os.path.exists("/proc/sys/" + name.replace(".", "/"))


def has_counter(name: str) -> Callable[[], bool]:
    """Whether the kernel counts it."""

    def is_counted() -> bool:
        counters = read_counters().counters
        return not isinstance(counters, Missing) and name in counters

    return is_counted


QUESTIONS: dict[str, Callable[[], bool]] = {
    "sockets that are bound, and neither listen nor connect, are listed": lists_bound,
    "a connection not accepted yet shows the uid of its listener": tells_uid_of_orphans,
    "a socket may have a port range of its own (IP_LOCAL_PORT_RANGE)": has_port_range_option,
    **{
        f"`{name}` exists in private namespaces": has_setting(name)
        for name in (
            "net.ipv4.tcp_tw_reuse_delay",
            "net.ipv4.tcp_rto_max_ms",
            "net.ipv4.tcp_syn_linear_timeouts",
            "net.ipv4.tcp_plb_enabled",
            "net.ipv4.tcp_child_ehash_entries",
            "net.ipv4.tcp_backlog_ack_defer",
            "net.ipv4.tcp_shrink_window",
            "net.ipv4.ip_local_port_step_width",
            "net.core.rmem_max",
            "net.core.wmem_default",
        )
    },
    **{
        f"`{name}` is counted": has_counter(name)
        for name in (
            "TcpExt.TCPMigrateReqSuccess",
            "TcpExt.TCPAOBad",
            "TcpExt.TCPAORequired",
            "TcpExt.TSEcrRejected",
            "TcpExt.BeyondWindow",
            "TcpExt.TCPTimeouts",
            "TcpExt.TCPDSACKIgnoredDubious",
        )
    },
}


def answers() -> dict[str, bool]:
    """Ask everything, each question in a namespace of its own."""
    return {text: in_private_namespace(question) for text, question in QUESTIONS.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"kernel": platform.release(), "answers": answers()}) + "\n")

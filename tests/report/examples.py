"""Literal snapshots and findings, as the floors below would hand them up."""

from tcpdoctor.answers.check import Check
from tcpdoctor.diagnosis.finding import (
    Diagnosis,
    Evidence,
    Finding,
    Fix,
    Reference,
    Severity,
    SysctlFix,
    Unchecked,
    Whereabouts,
    WrongFix,
)
from tcpdoctor.facts.subject import Scope
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Census, Samples, Snapshot
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState

NO_BOUND = Missing("this kernel does not list bound sockets")

CENSUS = Census(
    by_state={state: 0 for state in COUNTED_STATES if state is not TcpState.BOUND}
    | {TcpState.ESTABLISHED: 12, TcpState.FIN_WAIT_2: 120, TcpState.LISTEN: 4},
    bound=NO_BOUND,
    by_port={},
    by_destination={},
    source="sock_diag",
    complete=True,
)

SNAPSHOT = Snapshot(
    taken_at=1795176000.9,
    clock=4000.0,
    host="web1",
    kernel="6.18.44",
    namespace=4026531840,
    namespace_name=None,
    initial_namespace=True,
    euid=0,
    sysctls={
        "net.ipv4.tcp_fin_timeout": 60,
        "net.ipv4.ip_local_port_range": (32768, 60999),
        "net.ipv4.ip_local_reserved_ports": ((8080, 8081), (9000, 9000)),
        "net.ipv4.tcp_congestion_control": "cubic",
        "net.ipv4.tcp_fastopen_key": Missing("only root may read it"),
    },
    counters={},
    sockstat={},
    census=CENSUS,
    listeners=(),
    detail={},
    processes={},
    page_size=4096,
)

FINDING = Finding(
    rule="fin-wait-2-held-open",
    severity=Severity.WARNING,
    scope=Scope.PROCESS,
    label="nginx (811)",
    identity={"pid": 811, "name": "nginx", "unit": None},
    fingerprint="3f2a",
    title="Process keeps half-closed sockets open",
    summary="nginx (pid 811) holds 120 sockets in FIN_WAIT_2, the oldest for at least 10 min.",
    explanation=(
        "It has sent its FIN and waits for the peer's.\n\n"
        "Nothing bounds that wait while a process\nholds the socket."
    ),
    impact="Each takes a descriptor and about 3 KiB of kernel memory.",
    evidence=(
        Evidence("fin_wait_2.owned", 120, "count", "sock_diag", "120", "fin_wait_2.owned"),
        Evidence(
            "older(fin_wait_2.owned_ages, 120 s)",
            *(120, "count", "sock_diag, tcpi_last_ack_recv", "120", "fin_wait_2.owned_ages"),
        ),
    ),
    fixes=(
        Fix(
            kind="code",
            title="Close the socket, or bound the wait for the peer's FIN",
            do="After shutdown(SHUT_WR), read until EOF under a timeout, then close().\n\n    ss -tnp",
            prose="After shutdown(SHUT_WR), read until EOF under a timeout, then close().",
            commands=("ss -tnp",),
            verify_commands=("ss -tnp state fin-wait-2 | grep -c pid=811   # falls",),
            risk="The peer may see RST if it still sends after close().",
            verify="ss -tnp state fin-wait-2 | grep -c pid=811   # falls",
            undo=None,
            sysctl=None,
        ),
        Fix(
            kind="sysctl",
            title="Shorten the wait for orphans",
            do="sysctl -w net.ipv4.tcp_fin_timeout=30",
            commands=("sysctl -w net.ipv4.tcp_fin_timeout=30",),
            verify_commands=("sysctl net.ipv4.tcp_fin_timeout",),
            undo_commands=("sysctl -w net.ipv4.tcp_fin_timeout=60",),
            risk="A slow peer gets RST instead of an orderly end.",
            verify="sysctl net.ipv4.tcp_fin_timeout",
            undo="sysctl -w net.ipv4.tcp_fin_timeout=60",
            sysctl=SysctlFix(
                "net.ipv4.tcp_fin_timeout",
                60,
                30,
                "net.ipv4.tcp_fin_timeout = 30",
                "namespace",
                "sysctl -w net.ipv4.tcp_fin_timeout=30",
            ),
        ),
    ),
    wrong_fixes=(WrongFix("Lower net.ipv4.tcp_fin_timeout", "It ends orphans only; these have an owner."),),
    references=(Reference("tcp_fin_timeout applies to orphans", "ip-sysctl.rst, tcp_fin_timeout"),),
    normal_when=("a protocol that half-closes on purpose and then streams for minutes",),
    whereabouts=Whereabouts("nginx", "web.service", None, (80, 443)),
    headline="120 FIN_WAIT_2 held open, oldest 10 min+",
)

INFO = FINDING._replace(
    rule="listener-port-in-ephemeral-range", severity=Severity.INFO, scope=Scope.LISTENER,
    label="0.0.0.0:40000", identity={"address": "0.0.0.0", "port": 40000},
)  # fmt: skip
CRITICAL = FINDING._replace(
    rule="accept-queue-full",
    severity=Severity.CRITICAL,
    scope=Scope.LISTENER,
    label="0.0.0.0:80",
    identity={},
    whereabouts=Whereabouts("payments", ports=(80,)),
    headline="accept queue 6 of 5 on :80, clients wait",
)

HIDDEN = Unchecked("close-wait-leak", "owners of 7 sockets are hidden: run as root")
INAPPLICABLE = Unchecked("tcp-memory-nearly-full", "tcp_mem is the whole machine's", applies=False)


def check(*findings, unchecked=(), untold=(), rules=20, window=1.0, snapshot=SNAPSHOT, **options) -> Check:
    """One run of check with these findings."""
    diagnosis = Diagnosis(findings=findings, unchecked=tuple(unchecked), rules=rules, untold=tuple(untold))
    return Check(diagnosis, Samples(None, snapshot), window, version="0.1.0", **options)

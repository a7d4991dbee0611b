"""The plan of `tcpdoctor fix` as answers have it, and what of this host a plan has to know.

`check` tells the plan as well, so that what it needs of files of settings waits in `tcpdoctor.answers.plan`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from tcpdoctor.answers.finding import SysctlNumber
from tcpdoctor.answers.record import Is
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.kernel.namespaces import is_recording
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:
    from tcpdoctor.diagnosis.plan import Plan, PlanGround


class PlannedChange(NamedTuple):
    """One setting that is to be changed."""

    key: str
    now: Annotated[SysctlNumber, Is("What it holds.")]
    value: Annotated[SysctlNumber, Is("What it shall hold.")]
    rules: Annotated[tuple[str, ...], Is("Those that ask for it.")]
    computed: Annotated[str, Is("How the value came about, in one sentence.")]
    persist: Annotated[str, Is("A line for a file of /etc/sysctl.d.")]
    set_by: Annotated[
        str | None, Is("What set the value that runs; null: the kernel's default, or it cannot be seen.")
    ]
    conflict: Annotated[
        str | None, Is("Which rules ask for something else, or what would win at the next boot.")
    ]
    risk: str
    verify: tuple[str, ...]
    undo: tuple[str, ...]
    boot: Annotated[str | None, Is("What becomes of it at the next boot, where that is not the line alone.")]
    overridden: Annotated[
        bool, Is("Something else would win at the next boot, so that it is not applied but for this boot.")
    ]
    applied: Annotated[bool, Is("tcpdoctor fix has made this change, or taken it back.")] = False
    owned: Annotated[
        bool | None, Is("A file, TuneD or the command line has set what runs; null: nobody looked.")
    ] = None
    settled: Annotated[
        str | None, Is("Why it is this value, where rules ask for several; null: they do not.")
    ] = None
    harmless: Annotated[bool, Is("No rule that asks for it knows of a risk; risk says why.")] = False


class PlannedAdvice(NamedTuple):
    """What is to be done about a finding in a program, or by hand."""

    rule: str
    subject: str
    title: str
    do: str
    whom: Annotated[str, Is("Whom it is about, for people: a process rather than an address.")] = ""
    commands: Annotated[tuple[str, ...], Is("What may be typed.")] = ()


class LeftUndone(NamedTuple):
    """What is not in the plan, or is still found after it, and why."""

    rule: str | None
    subject: str
    why: str
    setting: Annotated[
        str | None, Is("The setting that was left because somebody else has set it since; null: no such.")
    ] = None


class ToldPlan(NamedTuple):
    """A plan as it is told."""

    changes: tuple[PlannedChange, ...]
    advice: tuple[PlannedAdvice, ...]
    left: tuple[LeftUndone, ...]
    needs: Mapping[str, str]
    """By setting, the one without whose change it must not be changed."""


def bare_plan(
    findings: Sequence[Finding], snapshot: Snapshot, *, here: bool, only: frozenset[str] | None = None
) -> "Plan":
    """Return what is to be done, without what sets those settings now or at the next boot.

    Args:
        findings: Of one network namespace.
        snapshot: The same.
        here: Whether that is the namespace of the calling thread: else nothing more is looked at.
        only: As `make_plan`.
    """
    from tcpdoctor.diagnosis.plan import make_plan  # most checks ask for no setting

    return make_plan(findings, _ground(snapshot, here=here), only)


def _ground(snapshot: Snapshot, *, here: bool) -> "PlanGround":
    from tcpdoctor.diagnosis.plan import RESERVED_PORTS, PlanGround
    from tcpdoctor.facts.sysctl_value import value_as_printed
    from tcpdoctor.kernel.cgroups import runs_pods

    listed = here or (is_recording() and "port" not in snapshot.untold)
    udp = _udp_ports() if listed else Missing("not looked at")
    reserved = snapshot.sysctls.get(RESERVED_PORTS, Missing(f"{RESERVED_PORTS} was not read"))
    return PlanGround(
        servers=udp if here and isinstance(udp, Missing) else _servers(snapshot, udp),
        reserved=reserved
        if isinstance(reserved, Missing)
        else value_as_printed(reserved)
        if reserved
        else "",
        kubernetes=here and runs_pods(),
        initial=snapshot.initial_namespace,
        udp=not isinstance(udp, Missing),
        tcp_pages=_tcp_pages(snapshot),
        longest_queue=_longest_queue(snapshot),
        tracked=_tracked(snapshot),
        unprivileged_from=_first_unprivileged(snapshot),
        memory=_memory(snapshot),
    )


def _memory(snapshot: Snapshot) -> Reading[int]:
    pages = snapshot.memory
    return pages if isinstance(pages, Missing) else pages * snapshot.page_size


def _first_unprivileged(snapshot: Snapshot) -> Reading[int]:
    name = "net.ipv4.ip_unprivileged_port_start"
    start = snapshot.sysctls.get(name, Missing(f"{name} was not read"))
    return start if isinstance(start, int | Missing) else Missing(f"{name} is no number")


def _tcp_pages(snapshot: Snapshot) -> Reading[int]:
    if isinstance(snapshot.sockstat, Missing):
        return snapshot.sockstat
    return snapshot.sockstat.get("TCP.mem", Missing("the kernel does not tell"))


def _longest_queue(snapshot: Snapshot) -> Reading[int]:
    """The longest that a listener may have; Missing where there is none, or one does not tell."""
    if isinstance(snapshot.listeners, Missing):
        return snapshot.listeners
    limits = [listener.accept_limit for listener in snapshot.listeners]
    unknown = next((limit for limit in limits if isinstance(limit, Missing)), Missing("nothing listens"))
    known = [limit for limit in limits if not isinstance(limit, Missing)]
    return max(known) if known and len(known) == len(limits) else unknown


def _tracked(snapshot: Snapshot) -> Reading[float]:
    entries, limit = (
        snapshot.sysctls.get(f"net.netfilter.nf_conntrack_{name}", Missing("it was not read"))
        for name in ("count", "max")
    )
    if not isinstance(entries, int) or not isinstance(limit, int) or limit <= 0:
        return next(
            (each for each in (entries, limit) if isinstance(each, Missing)), Missing("there is no limit")
        )
    return entries / limit


def _servers(snapshot: Snapshot, udp: Reading[frozenset[int]]) -> Reading[frozenset[int]]:
    """Local ports of servers: TCP listeners, and where that is known UDP sockets without a peer."""
    if isinstance(snapshot.listeners, Missing):
        return snapshot.listeners
    ports = frozenset(listener.local.port for listener in snapshot.listeners)
    return ports if isinstance(udp, Missing) else ports | udp


def _udp_ports() -> Reading[frozenset[int]]:
    """Local ports of UDP sockets without a peer."""
    from tcpdoctor.kernel.listing import read_udp_sockets

    sockets = read_udp_sockets()
    if isinstance(sockets, Missing):
        return sockets
    return frozenset(socket.local.port for socket in sockets if not socket.remote.port)


def write_command(key: str, value: str) -> str:
    """Return the command that writes a setting; an empty list of ports is one blank for sysctl(8)."""
    return f"sysctl -w {key}={value}" if value and " " not in value else f"sysctl -w {key}='{value or ' '}'"

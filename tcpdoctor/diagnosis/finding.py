"""What a diagnosis consists of."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Literal, TypeAlias

from tcpdoctor.facts.subject import Scope
from tcpdoctor.kernel.reading import JsonValue as JsonValue  # most who need it have to do with findings
from tcpdoctor.kernel.snapshot import Endpoint
from tcpdoctor.named_tuples import NamedTuple

MOST_SUBJECTS = 100
"""Of one rule so many findings are told where the configuration does not say otherwise."""


SeverityName: TypeAlias = Literal["info", "warning", "critical"]
FixKind: TypeAlias = Literal["code", "sysctl", "operational"]
Reach: TypeAlias = Literal["namespace", "host"]
"""Where a setting holds."""


class Severity(IntEnum):
    """How much a finding matters; ordered."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def key(self) -> SeverityName:
        """Its name."""
        return self.name.lower()  # type: ignore[return-value]  # these are they


class Evidence(NamedTuple):
    """One fact that evaluation read; never written by hand."""

    fact: str
    """The fact, or the call: ``older(close_wait.owned_ages, 60 s)``, ``rate(TcpExt.ListenOverflows)``."""
    value: JsonValue
    unit: str
    """``count``, ``second``, ``byte``, ``page``, ``per_second``, ``ratio`` or ``text``."""
    source: str
    """The file or netlink field where one can see it without this program."""
    shown: str
    """The value with its unit, for people: ``140``, ``12 min``, ``4.2 MiB``."""
    name: str = ""
    """The fact alone: ``close_wait.owned_ages``."""


class SysctlFix(NamedTuple):
    """The sysctl that a fix writes."""

    name: str
    current: JsonValue
    value: JsonValue
    persist: str
    """The line for a file of /etc/sysctl.d."""
    applies_to: Reach
    command: str | None = None
    """What sets it; None where the value could not be computed."""
    formula: str = ""
    """How the value is computed, as the rule has it; nothing for a plain number."""
    alternative: bool = False
    """Whether it is instead of a sysctl fix above it."""
    why_not: str | None = None
    """Why the value could not be computed."""


class Fix(NamedTuple):
    """One way out."""

    kind: FixKind
    title: str
    do: str
    """All of it: the prose, and below it the commands, each on a line that is indented."""
    risk: str
    verify: str
    undo: str | None
    sysctl: SysctlFix | None
    prose: str = ""
    """What `do` says beside its commands; empty where the commands say all."""
    commands: tuple[str, ...] = ()
    """What to type, for this host. One that needs what could not be read is left out."""
    verify_commands: tuple[str, ...] = ()
    """`verify`, where it is something to type; each may end in a comment."""
    undo_commands: tuple[str, ...] = ()
    """`undo`, where it is something to type."""
    harmless: bool = False
    """Whether nothing is known that it may break; `risk` says why."""


class WrongFix(NamedTuple):
    """What is often recommended and does not help."""

    title: str
    why: str


class Reference(NamedTuple):
    """Where a claim comes from."""

    claim: str
    source: str


class Whereabouts(NamedTuple):
    """The process that a finding's subject is or belongs to, and the ports it listens on."""

    process: str | None = None
    """Its name; None where the subject is no process and held by none that is known."""
    unit: str | None = None
    """Its systemd unit; None where it has none, or it could not be read."""
    container: str | None = None
    """The id of its container; None likewise."""
    ports: tuple[int, ...] = ()
    """Local ports, ascending: where the process listens, or the port that the subject is."""


class Finding(NamedTuple):
    """One rule fired for one subject."""

    rule: str
    severity: Severity
    scope: Scope
    label: str
    identity: Mapping[str, int | str | None]
    fingerprint: str
    """The same in every run for the same rule, namespace and subject."""
    title: str
    summary: str
    explanation: str
    impact: str
    evidence: tuple[Evidence, ...]
    fixes: tuple[Fix, ...]
    wrong_fixes: tuple[WrongFix, ...]
    references: tuple[Reference, ...]
    normal_when: tuple[str, ...]
    pids: frozenset[int] = frozenset()
    """The processes that it is about, or names."""
    peers: frozenset[Endpoint] = frozenset()
    """The ends that this host connected to and that it is about, or names; IPv4 as IPv4."""
    local_ports: frozenset[int] = frozenset()
    """Of the sockets that it tells of, where it is about a whole host."""
    whereabouts: Whereabouts = Whereabouts()
    whom: str = ""
    """Whom it is about in few words: ``this host``, the process behind a listener, the far end alone."""
    headline: str = ""
    """One line with its numbers, at most 49 characters where they are of the usual size."""
    value: float | None = None
    """How far it has gone: the rule's `measure`, of a range its certain end; None where it is not known."""
    limit: float | None = None
    """What `value` is compared with at the lowest severity, in the same unit; None where it is a switch."""
    holding: tuple[Fix, ...] = ()
    """Fixes that ask for what a setting holds already: nothing is to be done, and nothing to be undone."""


class Unchecked(NamedTuple):
    """A rule that could not be answered for at least one subject."""

    rule: str
    reason: str
    applies: bool = True
    """False: the rule has no meaning here (``tcp_mem`` in a child namespace), which is no fault."""


class Untold(NamedTuple):
    """Subjects for which a rule fired as well, none of them worse than those that are told."""

    rule: str
    severity: Severity
    number: int


class Diagnosis(NamedTuple):
    """All that the rules say of one namespace."""

    findings: tuple[Finding, ...]
    """The worst first."""
    unchecked: tuple[Unchecked, ...]
    rules: int
    """How many rules were in force."""
    untold: tuple[Untold, ...] = ()
    """What the bound on findings of one rule leaves out; the worst severity of each rule is always told."""

"""What findings ask of the kernel's settings becomes one plan: one value a setting, conflicts settled.

Several rules may want one setting to be different things. Of a limit the largest serves all, of the range of
ports the widest; a list of ports is extended and never shortened. Elsewhere the worse finding decides, also
where it asks for nothing but what is there. Ports that a wider range makes ephemeral although a server has
them are reserved before the range is widened.
"""

from collections.abc import Iterable, Iterator, Sequence

from tcpdoctor.diagnosis.finding import Finding, Fix, Severity, SysctlFix
from tcpdoctor.facts.sysctl_value import merged, port_ranges, value_as_printed
from tcpdoctor.kernel.reading import JsonValue, Missing, Reading
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.named_tuples import NamedTuple

PORT_RANGE = "net.ipv4.ip_local_port_range"
RESERVED_PORTS = "net.ipv4.ip_local_reserved_ports"
NODE_PORTS = (30_000, 32_767)
"""Where Kubernetes puts the ports of services on every node, unless its API server was told otherwise."""


class PlanGround(NamedTuple):
    """What a plan has to know of the host besides the findings."""

    servers: Reading[frozenset[int]]
    """Local ports that TCP servers listen on and UDP sockets without a peer are bound to."""
    reserved: Reading[str]
    """The list of reserved ports as it is, ``8080,9000-9010``."""
    kubernetes: bool
    """Whether pods run here, so that `NODE_PORTS` are in use without a socket."""
    initial: Reading[bool]
    """Whether it is the initial network namespace, where the settings of the machine are."""
    udp: bool = True
    """Whether UDP sockets are among the servers."""
    tcp_pages: Reading[int] = Missing("the memory of TCP was not looked at")
    """What all TCP sockets of the machine hold, in pages."""
    longest_queue: Reading[int] = Missing("accept queues were not looked at")
    """The longest accept queue that a listener may have."""
    tracked: Reading[float] = Missing("tracked connections were not counted")
    """How much of the table of tracked connections is used, as a share."""
    unprivileged_from: Reading[int] = Missing("net.ipv4.ip_unprivileged_port_start was not read")
    """Below it the kernel lets no range of ephemeral ports begin."""
    memory: Reading[int] = Missing("the memory of the machine was not read")
    """Bytes that the machine has."""


class SettingChange(NamedTuple):
    """One setting, and what it shall be."""

    key: str
    now: JsonValue
    value: JsonValue
    rules: tuple[str, ...]
    """Those whose findings ask for it, the worst first."""
    computed: str
    """How the value came about, in one sentence."""
    conflict: str | None
    """Who asked for something else, and why it is this; None where nobody did."""
    risk: str
    applies_to: str
    """``namespace`` or ``host``."""
    needs: str | None = None
    """The setting without whose change this one must not be made."""
    settled: str | None = None
    """Why it is this value, where rules ask for several; None where they do not."""
    harmless: bool = False
    """Whether nobody who asks for it knows of a risk."""


class ProgramAdvice(NamedTuple):
    """What is to be done about a finding in a program, or by hand."""

    rule: str
    subject: str
    title: str
    do: str
    whom: str
    """As `subject`, for people: a process rather than an address."""
    commands: tuple[str, ...]


class LeftOver(NamedTuple):
    """What was asked for and is not in the plan."""

    rule: str
    subject: str
    why: str


class Plan(NamedTuple):
    """What is to be done about findings."""

    changes: tuple[SettingChange, ...]
    """In the order in which they have to be made."""
    advice: tuple[ProgramAdvice, ...]
    left: tuple[LeftOver, ...]


class Wish(NamedTuple):
    """What one finding asks of one setting."""

    rule: str
    severity: Severity
    value: JsonValue
    holds: bool
    """Whether that is what the setting holds."""
    fix: SysctlFix
    risk: str
    harmless: bool = False


def make_plan(findings: Sequence[Finding], ground: PlanGround, only: frozenset[str] | None = None) -> Plan:
    """Make a plan for findings, the worst first.

    Args:
        findings: Of one network namespace.
        ground: The same host.
        only: Rules that something is to be done about; what the others ask of the same settings counts.
            None: all.
    """
    left: list[LeftOver] = []
    asked: dict[str, list[Wish]] = {}
    for finding in findings:
        chosen = only is None or finding.rule in only
        for wish in _wishes(finding, ground, left if chosen else []):
            asked.setdefault(wish.fix.name, []).append(wish)
    settled = [_settled(key, wishes, left, only) for key, wishes in asked.items()]
    changes: dict[str, SettingChange] = {}
    for change in settled:
        why = None if change is None else _not_now(change, ground)
        if change is not None and why is None:
            changes[change.key] = change
        elif change is not None:
            left += [LeftOver(rule, "", f"{change.key}: {why}") for rule in change.rules]
    _reserve_before_widening(changes, ground, left)
    ordered = sorted(changes.values(), key=lambda change: _ORDER.get(change.key, 0))
    planned = {rule for change in ordered for rule in change.rules}
    mine = [finding for finding in findings if only is None or finding.rule in only]
    advice = tuple(each for finding in mine for each in _advice(finding, planned))
    return Plan(tuple(ordered), advice, tuple(dict.fromkeys(left)))


_ORDER = {RESERVED_PORTS: -2, PORT_RANGE: -1}
"""What comes before all else: ports are reserved while they are not yet ephemeral."""


def _wishes(finding: Finding, ground: PlanGround, left: list[LeftOver]) -> Iterator[Wish]:
    """What a finding asks of settings that can be set here; one of several that stand for each other."""
    taken = False
    for fix in (*finding.fixes, *finding.holding):
        if fix.sysctl is None:
            continue
        why = _refused(fix.sysctl, ground)
        if fix.sysctl.alternative and taken:
            continue
        if why is not None:
            left.append(LeftOver(finding.rule, finding.label, f"{fix.sysctl.name}: {why}"))
            continue
        holds = fix in finding.holding
        taken = taken or not holds
        yield Wish(
            finding.rule, finding.severity, fix.sysctl.value, holds, fix.sysctl, fix.risk, fix.harmless
        )


def _refused(change: SysctlFix, ground: PlanGround) -> str | None:
    if change.value is None or change.current is None:
        return change.why_not or "what it is could not be read"
    if change.applies_to == "host" and ground.initial is False:
        return "it is a setting of the whole machine: set it on the host"
    return None


# one value for each setting


def _settled(
    key: str, wishes: Sequence[Wish], left: list[LeftOver], only: frozenset[str] | None
) -> SettingChange | None:
    """The change of one setting; None where it stays as it is, or nobody who counts wants another value."""
    now = wishes[0].fix.current
    value, how = _meeting(key, wishes)
    served = [wish for wish in wishes if _serves(key, value, wish)]
    for wish in wishes:
        counts = only is None or wish.rule in only
        if counts and wish not in served and not wish.holds:
            left.append(LeftOver(wish.rule, "", f"{key} {value_as_printed(wish.value)}: {how}"))
    rules = tuple(dict.fromkeys(wish.rule for wish in served))
    wanted = {wish.rule for wish in wishes if not wish.holds}
    if value == now or not (wanted if only is None else wanted & only):
        return None
    conflict = _disagreement(key, wishes, value, how)
    asking = [wish for wish in (served or wishes) if not wish.holds]
    return SettingChange(
        key=key,
        now=now,
        value=value,
        rules=rules or tuple(dict.fromkeys(wish.rule for wish in wishes)),
        computed=_computed(key, value, served or wishes),
        conflict=conflict,
        risk=_risk(asking),
        applies_to=wishes[0].fix.applies_to,
        settled=None if conflict is None else how,
        harmless=all(wish.harmless for wish in asking),
    )


def _risk(asking: Sequence[Wish]) -> str:
    """What a change risks, whoever asks for it; that it risks nothing only where nobody knows better."""
    known = [wish.risk for wish in asking if not wish.harmless] or [wish.risk for wish in asking[:1]]
    return " ".join(dict.fromkeys(map(_sentence, known)))


_LARGEST = "the largest serves all of them"
_WIDEST = "the widest range serves all of them"
_TOGETHER = "the list holds the ports of all of them"
_CAREFUL = "the smallest is enough for now, because this memory is taken from everything else"
_WORST = "the worse finding decides"
_LEAST = "of two that are equally bad the smaller change is made"
_BOTH = "it serves both: long enough for slow peers, short enough for orphans"

ORPHANS_END_AFTER = 30
"""Seconds that fin-wait-2-orphans-pile-up asks for; peers that are merely slow need less."""

_MORE_IS_ENOUGH = frozenset(
    {
        "fs.file-max",
        "fs.nr_open",
        "net.core.netdev_max_backlog",
        "net.core.optmem_max",
        "net.core.rmem_max",
        "net.core.somaxconn",
        "net.core.wmem_max",
        "net.ipv4.tcp_max_orphans",
        "net.ipv4.tcp_max_tw_buckets",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
        "net.netfilter.nf_conntrack_max",
        "net.netfilter.nf_conntrack_tcp_timeout_established",
    }
)
"""Limits: who asks for less has what he asks for with more.

Of several numbers those count that somebody wants to be another: one rule raises the last of three, and
leaves it to another that they stand in the wrong order.
"""


def _meeting(key: str, wishes: Sequence[Wish]) -> tuple[JsonValue, str]:
    """The value that a setting gets, and why it is that one where they differ."""
    values = list({value_as_printed(wish.value): wish.value for wish in wishes}.values())
    if len(values) == 1:
        return _as_the_kernel_takes(key, values[0]), ""
    if key == RESERVED_PORTS:
        return _joined(map(value_as_printed, values)), _TOGETHER
    if key == PORT_RANGE:
        lows, highs = zip(*map(_numbers, values), strict=True)
        return [min(lows), max(highs)], _WIDEST
    if key in _MORE_IS_ENOUGH:
        now = _numbers(wishes[0].fix.current)
        most = [
            max(set(asked) - {held}, default=held)
            for held, *asked in zip(now, *map(_numbers, values), strict=True)
        ]
        return (most[0] if len(most) == 1 else list[JsonValue](sorted(most))), _LARGEST
    if key == "net.ipv4.tcp_mem":
        rising = [value for value in values if _numbers(value) == tuple(sorted(_numbers(value)))]
        return min(rising or values, key=lambda value: _numbers(value)[-1]), _CAREFUL
    return _by_severity(key, wishes)


_BUCKETS, _BUCKETS_A_PAGE = "net.netfilter.nf_conntrack_buckets", 65_536 // 8


def _as_the_kernel_takes(key: str, value: JsonValue) -> JsonValue:
    """A value that reads back as it was written: of buckets the kernel makes whole pages, up to 64 KiB each.

    Source: Linux net/netfilter/nf_conntrack_core.c, nf_ct_alloc_hashtable().
    """
    if key != _BUCKETS or not isinstance(value, int):
        return value
    return -(-value // _BUCKETS_A_PAGE) * _BUCKETS_A_PAGE


def _by_severity(key: str, wishes: Sequence[Wish]) -> tuple[JsonValue, str]:
    worst = max(wish.severity for wish in wishes)
    values = list(
        {value_as_printed(wish.value): wish.value for wish in wishes if wish.severity is worst}.values()
    )
    if len(values) == 1:
        return values[0], _WORST
    if key == "net.ipv4.tcp_fin_timeout":
        return ORPHANS_END_AFTER, _BOTH
    now = _numbers(wishes[0].fix.current)

    def change(value: JsonValue) -> int:
        return sum(abs(one - other) for one, other in zip(_numbers(value), now, strict=True))

    return min(values, key=change), _LEAST


def _serves(key: str, value: JsonValue, wish: Wish) -> bool:
    """Whether who made a wish has what he asked for."""
    if key == RESERVED_PORTS:
        return _joined([value_as_printed(value), value_as_printed(wish.value)]) == value
    asked, given = _numbers(wish.value), _numbers(value)
    if key == _BUCKETS:
        return given >= asked
    if key == PORT_RANGE:
        return given[0] <= asked[0] and given[1] >= asked[1]
    if key in _MORE_IS_ENOUGH:
        now = _numbers(wish.fix.current)
        return all(one >= other for one, other, held in zip(given, asked, now, strict=True) if other != held)
    return asked == given or (key == "net.ipv4.tcp_fin_timeout" and given == (ORPHANS_END_AFTER,))


def _disagreement(key: str, wishes: Sequence[Wish], value: JsonValue, how: str) -> str | None:
    if not how or key == RESERVED_PORTS:
        return None
    asked: dict[str, list[str]] = {}
    for wish in wishes:
        asked.setdefault(value_as_printed(wish.value), []).append(wish.rule)
    parts = [f"{name_a_few(tuple(dict.fromkeys(rules)), 3)} for {text}" for text, rules in asked.items()]
    return f"asked for by {', by '.join(parts)}; set to {value_as_printed(value)}: {how}"


def _computed(key: str, value: JsonValue, wishes: Sequence[Wish]) -> str:
    if key == RESERVED_PORTS:
        return "What the list holds now, and the ports of the servers that were found."
    if key == _BUCKETS:
        return f"{wishes[0].fix.formula}, in whole pages, as {wishes[0].rule} asks for."
    for wish in wishes:
        if wish.value == value and not wish.holds:
            numbers = len(_numbers(value))
            formula = f"({wish.fix.formula})" if numbers > 1 else wish.fix.formula
            return f"{formula or value_as_printed(value)}, as {wish.rule} asks for."
    return "Put together from what several rules ask for."


# what would be worse, or of no use, at this moment

SOMAXCONN_DEFAULT = 4096
_ROOM_FOR_OLD_ENTRIES = 0.5
"""Share of the table of tracked connections up to which entries may be kept for longer."""


def _not_now(change: SettingChange, ground: PlanGround) -> str | None:
    """Why a change that is right in itself is wrong while this host is as it is; None where it is not."""
    now, value = _numbers_or_none(change.now), _numbers_or_none(change.value)
    if not now or not value:
        return None
    if value > now and (why := _too_dear(change.key, value[0], ground.memory)) is not None:
        return why
    if change.key == "net.ipv4.tcp_mem" and value[-1] < now[-1] and _exceeds(ground.tcp_pages, value[1]):
        return f"TCP holds {ground.tcp_pages:,} pages and would drop data: lower it when it holds less"
    if change.key == _TRACKED_FOR and value > now and _exceeds(ground.tracked, _ROOM_FOR_OLD_ENTRIES):
        return (
            f"the table is full to {ground.tracked:.0%}, and old entries would fill it: raise its size first"
        )
    is_long = change.key == "net.core.somaxconn" and now[0] >= SOMAXCONN_DEFAULT
    if is_long and not isinstance(ground.longest_queue, Missing) and ground.longest_queue < now[0]:
        return f"no listener asks for more than {ground.longest_queue:,}: raise the backlog in its program"
    return None


_COSTS = {
    "fs.file-max": (1024, 0.25),
    "net.ipv4.tcp_max_orphans": (65_536, 0.5),
    "net.ipv4.tcp_max_tw_buckets": (256, 0.125),
    "net.netfilter.nf_conntrack_max": (320, 0.125),
}
"""What one of them costs in bytes that cannot be swapped out, and the share of the memory that all may have.

Kernels of themselves allow less: a quarter of the memory to orphans, a tenth to open files, a hundredth to
the other two.
"""


def _too_dear(key: str, number: int, memory: Reading[int]) -> str | None:
    """Why a higher limit is too much for a small machine; None where it is not, or that is not known."""
    cost, share = _COSTS.get(key, (0, 1.0))
    if isinstance(memory, Missing) or number * cost <= memory * share:
        return None
    return (
        f"{number:,} may take {number * cost >> 20:,} MiB that cannot be swapped out, of "
        f"{memory >> 20:,} MiB in all: too much for this machine"
    )


_TRACKED_FOR = "net.netfilter.nf_conntrack_tcp_timeout_established"


def _exceeds(reading: Reading[int] | Reading[float], most: float) -> bool:
    return not isinstance(reading, Missing) and reading > most


def _numbers_or_none(value: JsonValue) -> tuple[int, ...] | None:
    return _numbers(value) if all(word.isdecimal() for word in value_as_printed(value).split()) else None


# ports of servers, before they become ephemeral


def _reserve_before_widening(
    changes: dict[str, SettingChange], ground: PlanGround, left: list[LeftOver]
) -> None:
    """Add to the plan what a wider range of ports needs; without that the range stays as it is."""
    wider = changes.get(PORT_RANGE)
    if wider is None:
        return
    if not ground.udp:
        unseen = "Which UDP servers are in it was not looked at: reserve their ports as well."
        wider = changes[PORT_RANGE] = wider._replace(
            risk=unseen if wider.harmless else f"{wider.risk} {unseen}", harmless=False
        )
    wider = changes[PORT_RANGE] = _from_unprivileged(wider, ground.unprivileged_from)
    before, after = _numbers(wider.now), _numbers(wider.value)
    if after == before:
        del changes[PORT_RANGE]
        why = f"{PORT_RANGE}: it begins where net.ipv4.ip_unprivileged_port_start lets it"
        left += [LeftOver(rule, "", why) for rule in wider.rules]
        return
    if not 0 < after[0] < after[1] <= _LAST_PORT:
        del changes[PORT_RANGE]
        return
    if isinstance(ground.servers, Missing):
        del changes[PORT_RANGE]
        why = f"{PORT_RANGE}: ports of servers would become ephemeral, and which is not known: "
        left += [LeftOver(rule, "", why + ground.servers.reason) for rule in wider.rules]
        return
    listed = changes[RESERVED_PORTS].value if RESERVED_PORTS in changes else ground.reserved
    if isinstance(listed, Missing):
        del changes[PORT_RANGE]
        left += [LeftOver(rule, "", f"{PORT_RANGE}: {listed.reason}") for rule in wider.rules]
        return
    whole = _joined([value_as_printed(listed), *_newly_ephemeral(before, after, ground.servers, ground)])
    if whole == _joined([value_as_printed(listed)]):
        return
    changes[PORT_RANGE] = wider._replace(needs=RESERVED_PORTS)
    changes[RESERVED_PORTS] = _reservation(changes.get(RESERVED_PORTS), whole, wider, ground)


def _from_unprivileged(wider: SettingChange, start: Reading[int]) -> SettingChange:
    """The change with a range that the kernel takes: it refuses one that begins in the privileged ports."""
    low, high = _numbers(wider.value)
    if isinstance(start, Missing) or low >= start:
        return wider
    low = min(start, _numbers(wider.now)[0])
    computed = f"{wider.computed} It cannot begin below net.ipv4.ip_unprivileged_port_start, {start}."
    return wider._replace(value=[low, high], computed=computed)


def _newly_ephemeral(
    before: Sequence[int], after: Sequence[int], servers: frozenset[int], ground: PlanGround
) -> Iterator[str]:
    """Ports of servers that a wider range makes ephemeral, and those of the services of Kubernetes."""

    def is_new(port: int) -> bool:
        return after[0] <= port <= after[1] and not before[0] <= port <= before[1]

    yield from (str(port) for port in servers if is_new(port))
    if ground.kubernetes and any(map(is_new, NODE_PORTS)):
        yield f"{NODE_PORTS[0]}-{NODE_PORTS[1]}"


def _reservation(
    asked: SettingChange | None, whole: str, wider: SettingChange, ground: PlanGround
) -> SettingChange:
    """The list of reserved ports that has to be there before the range is widened."""
    nodes = " Those of Kubernetes' services are among them." if ground.kubernetes else ""
    computed = (
        "What the list holds now, and the ports of servers, which the wider range would let "
        f"outgoing connections take.{nodes}"
    )
    risk = "One ephemeral port fewer for each; servers may still bind them."
    if asked is not None:
        return asked._replace(
            value=whole, computed=computed, rules=tuple(dict.fromkeys((*asked.rules, *wider.rules)))
        )
    now = ground.reserved if isinstance(ground.reserved, str) else ""
    return SettingChange(
        RESERVED_PORTS, now, whole, wider.rules, computed, None, risk, applies_to="namespace"
    )


_LAST_PORT = 65_535


# what is no setting


def _advice(finding: Finding, planned: frozenset[str] | set[str]) -> Iterator[ProgramAdvice]:
    """What is to be done in programs; by hand where nothing else can be done about the finding."""
    in_programs = [fix for fix in finding.fixes if fix.kind == "code"]
    by_hand = [fix for fix in finding.fixes if fix.kind == "operational"]
    fixes = in_programs if finding.rule in planned or in_programs else by_hand[:1]
    for fix in fixes:
        whom = finding.whom or finding.label
        yield ProgramAdvice(
            finding.rule, finding.label, fix.title, _what_to_do(fix), whom, tuple(fix.commands)
        )


def _what_to_do(fix: Fix) -> str:
    return " ".join(fix.prose.split()) or "; ".join(fix.commands)


# values


def _numbers(value: JsonValue) -> tuple[int, ...]:
    return tuple(map(int, value_as_printed(value).split()))


def _joined(lists: Iterable[str]) -> str:
    """Lists of ports as one, in order, as the kernel prints it."""
    spans = [span for text in lists for span in port_ranges(text) or ()]
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in merged(spans))


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."

"""What lint demands of a rule's conditions."""

from collections.abc import Iterator

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.rule import Rule, Trigger
from tcpdoctor.diagnosis.tree import Arithmetic, Comparison, Grown, Node, facts_of, walk

MACHINE_WIDE = (
    "sysctl.net.ipv4.tcp_mem.",
    "sysctl.net.ipv4.tcp_max_orphans",
    "sockstat.TCP.orphan",
    "sockstat.TCP.alloc",
    "sockstat.TCP.mem",
)
"""Beginnings of facts that are about the machine, or are not there in a child network namespace."""


def condition_complaints(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield (name, what) for each condition that could mislead."""
    for trigger in rule.fires:
        yield from _machine_wide(rule, trigger)
        yield from _ratios(trigger)
        if trigger.severity is Severity.CRITICAL and _is_about_settings_only(trigger):
            yield (
                "critical-for-a-setting",
                "fires.critical reads sysctls only; critical is for what hurts now, use warning",
            )


def _machine_wide(rule: Rule, trigger: Trigger) -> Iterator[tuple[str, str]]:
    if rule.initial_only:
        return
    for fact in facts_of(trigger.tree):
        if fact.name.startswith(MACHINE_WIDE):
            yield (
                "machine-wide-fact",
                f'{fact.name} is about the whole machine; add `namespace = "initial"`',
            )
            return


def _is_about_settings_only(trigger: Trigger) -> bool:
    return all(fact.name.startswith("sysctl.") for fact in facts_of(trigger.tree))


def _ratios(trigger: Trigger) -> Iterator[tuple[str, str]]:
    """One retransmission out of two segments is 50 %: a ratio of rates means something from a floor on."""
    sides = [
        side
        for node in walk(trigger.tree)
        if isinstance(node, Comparison)
        for side in (node.left, node.right)
    ]
    floors = {side.fact.name for side in sides if isinstance(side, Grown)}
    for node in walk(trigger.tree):
        if not (isinstance(node, Arithmetic) and node.operator == "/" and _growths(node.left)):
            continue
        if node.right in sides:
            continue  # the divisor itself, as it is, has a floor
        for name in sorted(_growths(node.right) - floors):
            floor = f"`rate({name}) >= limit.min_traffic and`"
            yield "ratio-without-floor", f"a ratio of rates says nothing of a trickle; add {floor}"


def _growths(node: Node) -> set[str]:
    return {part.fact.name for part in walk(node) if isinstance(part, Grown)}

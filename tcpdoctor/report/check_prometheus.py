"""`check` for the textfile collector of Prometheus' node_exporter.

A rule that could not be answered has no sample of `tcpdoctor_finding_active`, so that an alert on it can tell
"nothing found" (0) from "nobody could look" (absent, and counted in `tcpdoctor_unchecked_rules`). A number
that is not known has no sample either. Labels never hold a pid or the name of a process: such values come
without end, and some of them are chosen by strangers. A peer's address is in one metric, of few peers.
"""

from collections.abc import Iterator, Mapping, Sequence
from heapq import nsmallest
from operator import itemgetter
from typing import NamedTuple

from tcpdoctor.answers.ages import Measured
from tcpdoctor.answers.check import Check, Checks, unchecked_rules
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Snapshot

_LEFT = "tcpdoctor_destination_ports_left"

Labels = Mapping[str, str]


class Family(NamedTuple):
    """One metric: every one is a gauge."""

    name: str
    help: str
    samples: Sequence[tuple[Labels, float]]


def check_prometheus(check: Check) -> str:
    """Return the exposition format, version 0.0.4; a metric without a sample is left out."""
    families = _families(check, _namespace_of(check))
    return "".join(_exposed(family) for family in families if family.samples)


def checks_prometheus(checks: Checks) -> str:
    """Return the same of many network namespaces: all samples of a metric stand together.

    A series that is there twice would make the collector refuse the whole file; so of namespaces that are
    called alike all but the first, which is the worst, have their number behind their name. What has no
    label of a namespace is told once.
    """
    names = [_namespace_of(check) for check in checks.checks]
    told: dict[str, Family] = {}
    for place, (check, name) in enumerate(zip(checks.checks, names, strict=True)):
        alone = name if name not in names[:place] else f"{name}@{check.samples.after.namespace}"
        for family in _families(check, alone):
            before = told.get(family.name, family._replace(samples=()))
            new = [sample for sample in family.samples if "namespace" in sample[0] or not before.samples]
            told[family.name] = before._replace(samples=[*before.samples, *new])
    if checks.checks:
        if _LEFT in told:
            fewest = nsmallest(checks.checks[0].most_destinations, told[_LEFT].samples, key=itemgetter(1))
            told[_LEFT] = told[_LEFT]._replace(samples=fewest)
        unseen: list[tuple[Labels, float]] = [({}, len(checks.unseen))]
        about = "Network namespaces that could not be looked at."
        told["unseen"] = Family("tcpdoctor_unseen_namespaces", about, unseen)
    return "".join(_exposed(family) for family in told.values() if family.samples)


def _namespace_of(check: Check) -> str:
    """Return a name that stays from run to run: an inode number would make a new series after each boot."""
    snapshot = check.samples.after
    if snapshot.initial_namespace is True:
        return "host"
    return snapshot.namespace_name or ("here" if check.place is None else "unnamed")


def _families(check: Check, namespace: str) -> Iterator[Family]:
    snapshot, diagnosis = check.samples.after, check.diagnosis
    here = {"namespace": namespace}
    measured = check.measured or Measured()
    inapplicable = {rule.rule for rule in diagnosis.unchecked if not rule.applies}
    yield Family(
        "tcpdoctor_finding_active",
        "1 if the rule has a finding of this severity, 0 if it has none; absent if it could not be answered.",
        [(labels | here, value) for rule in check.rules for labels, value in _findings(rule, check)],
    )
    readings = state_readings(snapshot.census).items()
    yield from _about_the_rules(check, here)
    yield Family(
        "tcpdoctor_sockets",
        "TCP sockets in this state; absent if not known.",
        [({"state": state.key} | here, n) for state, n in readings if not isinstance(n, Missing)],
    )
    yield Family(
        "tcpdoctor_oldest_seconds",
        "Seconds that the oldest socket has been in this state, at least; absent if there is none.",
        [({"state": state.key} | here, age) for state, age in measured.oldest.items()],
    )
    yield Family(
        _LEFT,
        "Ports that connect() can still choose from towards this destination, at least; the fewest only.",
        [({"destination": one.endpoint} | here, one.number) for one in measured.destinations],
    )
    yield Family("tcpdoctor_rules", "Rules in force.", [(here, diagnosis.rules)])
    yield Family(
        "tcpdoctor_unchecked_rules",
        "Rules that could not be answered for all they are about.",
        [(here, len(unchecked_rules(diagnosis)))],
    )
    yield Family(
        "tcpdoctor_inapplicable_rules",
        "Of tcpdoctor_unchecked_rules, those that have no meaning in this network namespace.",
        [(here, len(inapplicable))],
    )
    yield from _about_the_run(check, snapshot, here)


def _about_the_rules(check: Check, here: Labels) -> Iterator[Family]:
    """How near each rule is to its next finding; a value that is not known, or a switch, has no sample."""
    measured = check.measured or Measured()
    limited = {rule.id for rule in check.rules if rule.measure_limits}
    known = [
        measure
        for measure in measured.rules
        if measure.rule in limited and not isinstance(measure.value, Missing)
    ]
    yield Family(
        "tcpdoctor_rule_value",
        "What the rule is about, for the worst it looked at, in the base unit of the rule's limit.",
        [({"rule": m.rule, **here}, m.value) for m in known if not isinstance(m.value, Missing)],
    )
    yield Family(
        "tcpdoctor_rule_limit",
        "The value from which on the rule fires at its lowest severity; absent where it fires below a value, "
        "or where the value is reached and what else the rule asks for is not.",
        [({"rule": m.rule, **here}, m.limit) for m in known if m.limit is not None and not m.falls],
    )
    yield Family(
        "tcpdoctor_rule_info",
        "The title of each rule in force; always 1.",
        [({"rule": rule.id, "title": rule.title}, 1) for rule in check.rules],
    )


def _about_the_run(check: Check, snapshot: Snapshot, here: Labels) -> Iterator[Family]:
    yield Family(
        "tcpdoctor_last_check_timestamp_seconds",
        "When this was measured, in seconds since 1970.",
        [(here, round(snapshot.taken_at, 3))],
    )
    if check.duration is not None:
        yield Family(
            "tcpdoctor_check_duration_seconds",
            "How long the check took, the wait between its two samples included.",
            [(here, round(check.duration, 6))],
        )
    yield Family("tcpdoctor_build_info", "Version of tcpdoctor; always 1.", [({"version": check.version}, 1)])


def _findings(rule: Rule, check: Check) -> Iterator[tuple[dict[str, str], float]]:
    """0 or 1 for every severity that the rule may have; none where it could not be answered.

    A rule that fired for one subject and could not be answered for another has its 1, and no 0.
    """
    found = {finding.severity for finding in check.diagnosis.findings if finding.rule == rule.id}
    open_ended = rule.id in unchecked_rules(check.diagnosis)
    for severity in sorted(severities_of(rule) | found):
        if severity in found or not open_ended:
            yield {"rule": rule.id, "severity": severity.key}, float(severity in found)


def severities_of(rule: Rule) -> set[Severity]:
    """Return the severities that findings of a rule may have, as configured."""
    return {rule.severity} if rule.severity else {trigger.severity for trigger in rule.fires}


def _exposed(family: Family) -> str:
    lines = [f"# HELP {family.name} {_escaped(family.help)}", f"# TYPE {family.name} gauge"]
    for labels, value in family.samples:
        pairs = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels.items())
        lines.append(f"{family.name}{f'{{{pairs}}}' if pairs else ''} {_number(value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')

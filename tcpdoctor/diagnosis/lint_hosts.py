"""Whether a rule leaves healthy hosts in peace."""

from collections.abc import Iterator, Mapping

from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.healthy import BUSY, DEFAULTS, facts_on
from tcpdoctor.diagnosis.judge import judge, make_judge
from tcpdoctor.diagnosis.rule import Rule, Trigger
from tcpdoctor.kernel.snapshot import Samples

_HOSTS = (("fires-on-defaults", DEFAULTS, 0), ("fires-when-healthy", BUSY, Severity.INFO))
"""Complaint, host, and the worst severity that may fire there."""


def host_complaints(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield (name, what) for each healthy host on which the rule fires: at all, or (busy) above info."""
    by = make_judge(rule)
    for name, host, allowed in _HOSTS:
        verdicts = [judge(by, facts) for facts in facts_on(host, rule.scope)]
        fired = [verdict for verdict in verdicts if isinstance(verdict, Trigger)]
        worst = max((trigger.severity for trigger in fired), default=0)
        if worst > allowed:
            level = Severity(worst).key
            yield name, f"fires.{level} holds on {host.name}; raise a limit or narrow the condition"


def recorded_complaints(rule: Rule, hosts: Mapping[str, Samples]) -> Iterator[tuple[str, str]]:
    """Yield (name, what) for each host of that name, recorded while it was well, on which the rule fires.

    On one that is called ``defaults`` nothing may fire at all, on the others nothing above info.
    """
    for host, samples in hosts.items():
        allowed = 0 if host == "defaults" else Severity.INFO
        for finding in diagnose([rule], samples).findings:
            if finding.severity > allowed:
                name = "fires-when-healthy" if allowed else "fires-on-defaults"
                fired = f"fires.{finding.severity.key} holds on the recorded host {host} for {finding.label}"
                yield name, f"{fired}; raise a limit or narrow the condition"
                break

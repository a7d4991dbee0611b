"""Whether a rule leaves healthy hosts in peace."""

from collections.abc import Iterator

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.healthy import BUSY, DEFAULTS, facts_on
from tcpdoctor.diagnosis.judge import judge, make_judge
from tcpdoctor.diagnosis.rule import Rule, Trigger

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

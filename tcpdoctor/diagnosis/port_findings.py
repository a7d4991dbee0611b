"""What the rules of `check` say of one port: of its listeners, of itself, of it as a destination."""

from collections.abc import Iterable, Sequence

from tcpdoctor.diagnosis.evaluate import diagnose_subjects
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.facts.host import HostFacts
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.subjects import subjects_of
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Samples, Snapshot

_SCOPES = frozenset((Scope.LISTENER, Scope.PORT, Scope.DESTINATION))
_ELSEWHERE = Missing("only the sockets of this port were looked at; tcpdoctor check looks at all")


def diagnose_port(rules: Iterable[Rule], snapshot: Snapshot) -> Diagnosis:
    """Apply the rules that concern a port to one look at it (kernel/port_snapshot.py).

    There is one sample, so rules that need two are unchecked; and a rule that counts the host's sockets
    is unchecked too, because only this port's were looked at.
    """
    samples = Samples(None, snapshot)
    host = HostFacts(Samples(None, snapshot._replace(census=_ELSEWHERE, detail=_ELSEWHERE)))

    def subjects(scope: Scope) -> Reading[Sequence[Subject]]:
        return subjects_of(samples, scope, host)

    return diagnose_subjects([rule for rule in rules if rule.scope in _SCOPES], snapshot, subjects)

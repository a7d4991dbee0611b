"""What the rules of `check` say of one process: of itself, and of the listeners that it holds."""

from collections.abc import Collection, Iterable, Sequence

from tcpdoctor.diagnosis.evaluate import diagnose_subjects
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.facts.host import HostFacts
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.subjects import subjects_of
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Endpoint, Samples, Snapshot


def diagnose_process(
    rules: Iterable[Rule], snapshot: Snapshot, pid: int, listening: Collection[Endpoint]
) -> Diagnosis:
    """Apply the rules of the scopes process and listener to one look at the host; one process is judged.

    Args:
        rules: Those in force; the ones about hosts, ports and destinations are left out.
        snapshot: With owners. There is one sample, so rules that need two are unchecked.
        pid: The process.
        listening: Where it listens.
    """
    samples = Samples(None, snapshot)
    host = HostFacts(samples)

    def subjects(scope: Scope) -> Reading[Sequence[Subject]]:
        found = subjects_of(samples, scope, host)
        if isinstance(found, Missing):
            return found
        return [subject for subject in found if _concerns(subject, pid, listening)]

    scopes = (Scope.PROCESS, Scope.LISTENER)
    return diagnose_subjects([rule for rule in rules if rule.scope in scopes], snapshot, subjects)


def _concerns(subject: Subject, pid: int, listening: Collection[Endpoint]) -> bool:
    identity = subject.identity
    if subject.scope is Scope.PROCESS:
        return identity.get("pid") == pid
    return (identity.get("address"), identity.get("port")) in listening

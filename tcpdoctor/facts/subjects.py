"""Whom the rules of a scope are asked about, with their facts."""

from collections.abc import Sequence

from tcpdoctor.facts.destinations import destination_subjects
from tcpdoctor.facts.host import HostFacts, host_subjects
from tcpdoctor.facts.listeners import listener_subjects
from tcpdoctor.facts.ports import port_subjects
from tcpdoctor.facts.processes import process_subjects
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.kernel.reading import Reading
from tcpdoctor.kernel.snapshot import Samples


def subjects_of(samples: Samples, scope: Scope, host: HostFacts | None = None) -> Reading[Sequence[Subject]]:
    """All subjects of one scope; facts are computed when they are read.

    Args:
        samples: One look, or two for rates and for what lasts.
        scope: Which kind of subject.
        host: The host's facts of the same samples, to compute none twice when several scopes are asked.

    Returns:
        None, one or many subjects; among processes the last one is `hidden` where owners of sockets are.
        Missing where what the subjects come from could not be read at all.
    """
    facts = HostFacts(samples) if host is None else host
    match scope:
        case Scope.HOST:
            return host_subjects(samples, facts)
        case Scope.LISTENER:
            return listener_subjects(samples, facts)
        case Scope.PROCESS:
            return process_subjects(samples, facts)
        case Scope.PORT:
            return port_subjects(samples, facts)
        case Scope.DESTINATION:
            return destination_subjects(samples, facts)

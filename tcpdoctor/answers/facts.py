"""What `facts` lists: facts with their values, by scope and subject."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.facts.fact import Fact
from tcpdoctor.facts.host import HostFacts
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.subjects import subjects_of
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Samples

NO_SUBJECT = {
    Scope.HOST: "no host was looked at",
    Scope.LISTENER: "no socket listens here",
    Scope.PROCESS: "no process here holds a listener or a socket of interest",
    Scope.PORT: "no local port is in use here",
    Scope.DESTINATION: "no connection from an ephemeral port is there",
}
"""Why a scope's facts have no value where nothing is wrong."""


class Section(NamedTuple):
    """The facts of one scope, and for whom they have values."""

    scope: Scope
    facts: Sequence[Fact]
    subjects: Reading[Sequence[Subject]]


class FactList(NamedTuple):
    """All that `facts` says."""

    samples: Samples
    sections: Sequence[Section]
    unknown: Sequence[str]
    """Counters and TCP settings of this kernel that the vocabulary has no word for."""


def gather(samples: Samples, wanted: Mapping[Scope, Sequence[Fact]]) -> FactList:
    """Find the subjects of each scope; values are computed when they are printed."""
    host = HostFacts(samples)
    sections = [Section(scope, facts, subjects_of(samples, scope, host)) for scope, facts in wanted.items()]
    return FactList(samples, sections, host.unknown_names() if Scope.HOST in wanted else ())


def why_empty(section: Section) -> str | None:
    """Why no subject of this scope has values; None where one has."""
    if isinstance(section.subjects, Missing):
        return section.subjects.reason
    return None if section.subjects else NO_SUBJECT[section.scope]

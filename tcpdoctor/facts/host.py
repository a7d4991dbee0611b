"""Facts of the host, which every scope can use, and whom the rules of each scope are asked about."""

from collections.abc import Iterator, Mapping, Sequence

from tcpdoctor.facts import established, lifetime, namespace
from tcpdoctor.facts.destinations import destination_subjects
from tcpdoctor.facts.listeners import listener_subjects
from tcpdoctor.facts.namespace import Looks, default_value, sysctl_value
from tcpdoctor.facts.ports import port_subjects
from tcpdoctor.facts.processes import process_subjects
from tcpdoctor.facts.rates import counter, growth
from tcpdoctor.facts.subject import COUNTER, Scope, Subject
from tcpdoctor.facts.value import Growth, Value
from tcpdoctor.facts.vocabulary import COUNTER_GROUPS, fact_names, find_fact
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Samples


class HostFacts(Looks, Mapping[str, Value]):
    """The host's facts by name, computed when they are asked for, each at most once."""

    def __init__(self, samples: Samples) -> None:
        super().__init__(samples)
        self._known: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._known:
            self._known[name] = self._compute(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(fact_names(Scope.HOST))

    def __len__(self) -> int:
        return len(fact_names(Scope.HOST))

    def __contains__(self, name: object) -> bool:
        fact = find_fact(name) if isinstance(name, str) else None
        return fact is not None and fact.scope is Scope.HOST

    @property
    def untold(self) -> Mapping[str, str]:
        """Facts that a recording does not tell, with the reasons."""
        return self.samples.after.untold

    def _compute(self, name: str) -> Value:
        if name in self.untold:
            return Missing(self.untold[name])
        function = namespace.FUNCTIONS.get(name) or lifetime.FUNCTIONS.get(name)
        if function is not None:
            return function(self)
        of_living = established.FUNCTIONS.get(name)
        if of_living is not None:
            return of_living(self.living)
        if name not in self:
            raise KeyError(name)
        group, _, rest = name.partition(".")
        if group == "sysctl":
            return sysctl_value(rest, self.samples.after)
        if group == "default":
            return default_value(rest, self.samples.after)
        assert group in COUNTER_GROUPS  # noqa: S101 - the vocabulary has no other names
        return counter_value(name, self.samples)

    def unknown_names(self) -> Sequence[str]:
        """Counters and TCP settings of this kernel that the vocabulary does not know, sorted."""
        from tcpdoctor.facts.counter_facts import NOT_FACTS
        from tcpdoctor.facts.sysctl_facts import NOT_READ, SYSCTL_FACTS

        counters = self.samples.after.counters
        names = () if isinstance(counters, Missing) else counters
        strange = [
            name
            for name in names
            if name.partition(".")[0] in COUNTER_GROUPS
            and name not in NOT_FACTS
            and "Type" not in name  # messages by their number (InType3) have names as well
            and name not in self
        ]
        strange += [
            f"sysctl.{name}"
            for name in self.samples.after.sysctls
            if name.startswith("net.ipv4.tcp_") and name not in SYSCTL_FACTS and name not in NOT_READ
        ]
        return sorted(strange)


def host_subjects(samples: Samples, host: Mapping[str, Value]) -> Sequence[Subject]:
    """The host, or rather the one network namespace that was looked at."""
    name = samples.after.host
    return [Subject(Scope.HOST, name, {"name": name}, host)]


def counter_value(name: str, samples: Samples) -> Value:
    """Growth of a counter between the samples; the number itself where the kernel's word is a gauge."""
    fact = find_fact(name)
    if fact is None or fact.kind != COUNTER:
        return counter(name, samples.after)
    grown = growth(name, samples)
    if isinstance(grown, Missing) or not fact.dimension or not fact.dimension.second:
        return grown
    return Growth(grown.delta / 1000, grown.seconds)  # TCPMemoryPressuresChrono counts milliseconds


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

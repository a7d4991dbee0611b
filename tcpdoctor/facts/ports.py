"""Facts of local ports: how many sockets are in which state there."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.facts.host import state_count
from tcpdoctor.facts.subject import LazyFacts, Scope, Subject
from tcpdoctor.facts.value import Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Census, Samples
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState


class Port(NamedTuple):
    """One local port, and the count that it is part of."""

    number: int
    census: Census


def port_subjects(samples: Samples, host: Mapping[str, Value]) -> Reading[Sequence[Subject]]:
    """One subject per local port in use, ascending.

    Ports of the ephemeral range that nobody listens on are no subjects: the census counts them
    together. Missing where sockets could not be counted.
    """
    census = samples.after.census
    if isinstance(census, Missing):
        return census
    numbers = sorted({port for _, port in census.by_port} - {0})
    return [
        Subject(Scope.PORT, str(number), {"port": number}, LazyFacts(Port(number, census), FUNCTIONS, host))
        for number in numbers
    ]


def _count(state: TcpState) -> Callable[[Port], Value]:
    return lambda port: state_count(port.census, state, port.census.by_port.get((state, port.number), 0))


FUNCTIONS: Mapping[str, Callable[[Port], Value]] = {
    "port.number": lambda port: port.number,
    **{f"port.{state.key}": _count(state) for state in COUNTED_STATES},
}

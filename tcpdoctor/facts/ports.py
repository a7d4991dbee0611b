"""Facts of local ports: how many sockets are in which state there."""

import math
from collections.abc import Mapping, Sequence

from tcpdoctor.facts.dimension import COUNT
from tcpdoctor.facts.fact import Teller, Told, functions_of
from tcpdoctor.facts.subject import LazyFacts, Scope, Subject
from tcpdoctor.facts.value import Range, Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Census, Samples
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.named_tuples import NamedTuple

BOUND_SOURCE = "ss -tanB (sock_diag state bit 13, Linux 6.8 and later)"


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


def state_count(census: Census, state: TcpState, number: int) -> Value:
    """A number of the census; a lower bound where the census may lack sockets."""
    if state is TcpState.BOUND and isinstance(census.bound, Missing):
        return census.bound
    if isinstance(census.complete, Missing):
        return Range(number, math.inf, census.complete.reason)
    return number


_of_port = Teller[Port](Scope.PORT)


def _count(state: TcpState) -> Told[Port]:
    meaning, source = f"Sockets in {state.name} whose local port is this one.", "ss -tan 'sport = :PORT'"
    if state is TcpState.BOUND:
        meaning, source = "Sockets bound to this port that neither listen nor are connected.", BOUND_SOURCE
    return _of_port.gauge(
        f"port.{state.key}",
        COUNT,
        meaning,
        source,
        lambda port: state_count(port.census, state, port.census.by_port.get((state, port.number), 0)),
    )


FACTS: Sequence[Told[Port]] = (
    _of_port.gauge("port.number", COUNT, "The local port.", "ss -tan", lambda port: port.number),
    *map(_count, COUNTED_STATES),
)
FUNCTIONS = functions_of(FACTS)

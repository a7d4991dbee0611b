"""Between two connections: what a proxy without time limits collects."""

from collections.abc import Iterator

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.pairs import count_sockets, wait_until
from tcpdoctor.lab.proxying import half_closed_pairs
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene


def _proxy_waits_for_one_side() -> Iterator[Scene]:
    rule = "proxy-waits-for-one-side"
    with half_closed_pairs(29) as proxied:
        yield Broken(
            """
            This program is a proxy between 29 clients and a server. The clients have ended their side: the
            proxy's sockets towards them are in CLOSE_WAIT. It has passed the end on with shutdown(SHUT_WR),
            as it should: its sockets towards the server are in FIN_WAIT_2. The server does not end its side.
            Half-closed is allowed and the kernel sets no limit to it, so the pairs stay for as long as the
            proxy waits. It has no time limit.
            """,
            fires={rule: "warning"},
            show=("states", "sockets --state fin-wait-2"),
            limits={rule: {"min_age": 0.5}},
        )
        for back, front in zip(proxied.backs, proxied.fronts, strict=True):
            back.close()
            front.close()
        wait_until(lambda: count_sockets(TcpState.LAST_ACK) == 0, "the clients' ends to acknowledge")
        yield Cured(
            """
            The proxy has a time limit for half-closed connections now (haproxy: timeout client-fin and
            server-fin) and has closed both sides of each pair. Towards the server its sockets are orphans,
            which the kernel ends after tcp_fin_timeout.
            """,
        )


SCENARIOS = (
    Scenario(
        "proxy-waits-for-one-side",
        "Proxy keeps pairs of connections of which one side has ended",
        _proxy_waits_for_one_side,
    ),
)

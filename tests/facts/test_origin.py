"""Who began a connection, from numbers as the kernel gives them."""

import pytest

from tcpdoctor.facts.connection import began_here
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import TcpBytes
from tcpdoctor.kernel.states import TcpState
from tests.facts.samples import CONNECTION, INFO


def row(state: TcpState, *, acked: int, sent: int, again: int = 0, queue: int = 0, notsent: int = 0):
    info = INFO._replace(notsent=notsent, bytes=TcpBytes(acked, 311, sent, again))
    return CONNECTION._replace(state=state, send_queue=queue, info=info)


@pytest.mark.parametrize(
    ("connection", "answer"),
    [
        (row(TcpState.ESTABLISHED, acked=1, sent=0), True),
        (row(TcpState.ESTABLISHED, acked=0, sent=0), False),
        (row(TcpState.ESTABLISHED, acked=101, sent=211, again=11, queue=100), True),
        (row(TcpState.ESTABLISHED, acked=100, sent=200, queue=1_100, notsent=1_000), False),
        (row(TcpState.FIN_WAIT_1, acked=1, sent=0, queue=1, notsent=1), True),
        (row(TcpState.FIN_WAIT_1, acked=0, sent=0, queue=1), False),
        (row(TcpState.FIN_WAIT_2, acked=2, sent=0), True),
        (row(TcpState.FIN_WAIT_2, acked=1, sent=0), False),
        (row(TcpState.SYN_RECV, acked=0, sent=0, queue=1), True),
        (row(TcpState.SYN_RECV, acked=0, sent=0), False),
        (CONNECTION._replace(state=TcpState.SYN_SENT), True),
    ],
)
def test_what_is_neither_data_nor_a_fin_is_our_own_syn(connection, answer):
    assert began_here(connection) is answer


@pytest.mark.parametrize(
    "connection",
    [
        CONNECTION,
        CONNECTION._replace(info=Missing("sockets in TIME_WAIT keep none")),
        row(TcpState.BOUND, acked=0, sent=0),
        row(TcpState.ESTABLISHED, acked=0, sent=1_009),
        row(TcpState.ESTABLISHED, acked=1_009, sent=0),
    ],
)
def test_where_the_numbers_tell_nothing_nothing_is_said(connection):
    assert isinstance(began_here(connection), Missing)

"""The oldest sockets are found without decoding the others, and are those that their ages say."""

import contextlib
import socket
from collections import Counter

import pytest

from tcpdoctor.answers.sockets import Order, _entry
from tcpdoctor.kernel.closer_look import Oldest
from tcpdoctor.kernel.listing import Way, list_rows
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sock_diag import Request
from tcpdoctor.kernel.sock_diag_rows import WITH_INFO, decode_row
from tcpdoctor.kernel.sockets import read_connections
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.survey import Seen
from tests.live.test_live_snapshot import until

STATES = (
    TcpState.ESTABLISHED,
    TcpState.CLOSE_WAIT,
    TcpState.FIN_WAIT_2,
    TcpState.TIME_WAIT,
    TcpState.SYN_SENT,
)


@contextlib.contextmanager
def sockets_of_every_age():
    """Connections in all of `STATES`, made one after the other."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=97))
        for number in range(61):
            client = stack.enter_context(socket.create_connection(server.getsockname()))
            accepted = stack.enter_context(server.accept()[0])
            if number % 3 == 1:
                client.shutdown(socket.SHUT_WR)
            elif number % 3 == 2:
                client.close()
                accepted.close()
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(13):  # one or two are accepted by the kernel, the SYNs of the others are dropped
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        ended = dict.fromkeys(STATES[1:4], 20)
        until(lambda: {state: row.total for state, row in read_connections(ended).items()} == ended)
        yield


def look():
    """All rows of one listing, datagram by datagram."""
    datagrams = []

    def take(rows):
        datagrams.append((bytes(rows.data), list(rows.offsets)))

    with sockets_of_every_age():
        list_rows(Way.BOTH_FAMILIES, Request(sum(1 << state for state in STATES), WITH_INFO), take)
    return datagrams


@pytest.fixture(scope="module")
def datagrams():
    from tcpdoctor.lab.namespace import NamespaceRefusedError, in_private_namespace

    try:
        return in_private_namespace(look)
    except NamespaceRefusedError as refusal:
        pytest.skip(str(refusal))


def entry_of(row):
    return _entry(Seen(decode_row(row), Missing("not asked")))


def rows_in(datagrams, state):
    """Each datagram with the places of its rows in a state."""
    for data, places in datagrams:
        yield data, [at for at in places if data[at + 17] == state]


@pytest.mark.parametrize("bound", [1, 3, 11, 97])
@pytest.mark.parametrize("state", STATES)
def test_what_is_kept_is_what_ages_put_first(datagrams, state, bound):
    oldest, every = Oldest(bound, state), []
    for data, places in rows_in(datagrams, state):
        if not oldest.passes_over(len(places)):
            oldest.offer(data, places)
        every += [data[at : at + int.from_bytes(data[at : at + 4], "little")] for at in places]
    assert oldest.total == len(every) > 5
    kept = oldest.kept
    assert [row for row in every if row in set(kept)] == kept, "in the order in which they came"
    assert [*map(entry_of, kept)] == sorted(
        Order(most=bound).of(map(entry_of, every)), key=[*map(entry_of, every)].index
    ) or state is TcpState.SYN_SENT
    assert len(kept) == min(bound, len(every))


def batches(datagrams, state):
    """The rows of a state that have the commonest length, seven to a datagram."""
    rows = [
        bytes(data[at : at + int.from_bytes(data[at : at + 4], "little")])
        for data, places in rows_in(datagrams, state)
        for at in places
    ]
    length = Counter(map(len, rows)).most_common(1)[0][0]
    alike = [row for row in rows if len(row) == length]
    return [b"".join(alike[first : first + 7]) for first in range(0, len(alike), 7)], length


@pytest.mark.parametrize("bound", [1, 3, 5])
@pytest.mark.parametrize("state", STATES)
def test_columns_tell_the_same_as_rows_one_by_one(datagrams, state, bound):
    told, length = batches([(memoryview(data).tobytes(), at) for data, at in datagrams], state)
    assert length % 4 == 0
    by_columns, one_by_one = Oldest(bound, state), Oldest(bound, state)
    for data in told:
        for oldest, stride in ((by_columns, length), (one_by_one, 0)):
            if not oldest.passes_over(len(data) // length):
                oldest.offer(data, range(0, len(data), length), stride)
    assert by_columns.kept == one_by_one.kept
    assert by_columns.total == one_by_one.total


def test_a_listing_of_the_oldest_has_true_totals(in_namespace):
    def both():
        with sockets_of_every_age():
            few = read_connections(STATES, bound=3, oldest=True)
            every = read_connections(STATES)
        return few, every

    few, every = in_namespace(both)
    for state in STATES:
        assert few[state].total == every[state].total
        assert len(few[state].connections) == min(3, every[state].total)


def test_rows_without_tcp_info_may_be_of_any_age():
    row = (88).to_bytes(4, "little") + bytes(84)
    oldest = Oldest(1, TcpState.FIN_WAIT_2)
    oldest.offer(row * 3, [0, 88, 176])
    assert (oldest.total, oldest.kept) == (3, [row])

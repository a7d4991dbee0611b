"""Printed forms become the look that rules are asked about, and what they do not tell is never 0."""

from tcpdoctor.answers.states import state_readings
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, NotHeld
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState, Timer
from tcpdoctor.recordings.assembled import Circumstances, assemble
from tcpdoctor.recordings.pasted import Pasted, PastedSocket

NOT = Missing("not printed")
HERE, THERE = Endpoint("127.0.0.1", 8080), Endpoint("127.0.0.1", 40_001)
BARE = PastedSocket(
    "tcp", TcpState.ESTABLISHED, 4, HERE, THERE, None, 0, 0, NOT, NOT, NOT, NOT, NOT, NOT, NOT, NOT, NOT,
    NOT, NOT, NOT,
)  # fmt: skip
TOLD = Circumstances(taken_at=1_700_000_000.0)


def look_at(*sockets, **parts):
    listing = Pasted("ss", sockets=sockets, every_socket=True)._replace(**parts)
    return assemble([listing], TOLD).samples.after


def test_a_complete_listing_counts_what_it_does_not_show_as_none_and_bound_sockets_as_not_known():
    readings = state_readings(look_at(BARE).census)
    assert readings[TcpState.ESTABLISHED] == 1
    assert readings[TcpState.TIME_WAIT] == 0
    assert isinstance(readings[TcpState.BOUND], Missing)


def test_of_a_part_of_a_listing_absent_states_are_not_known():
    readings = state_readings(look_at(BARE, every_socket=NOT).census)
    assert readings[TcpState.ESTABLISHED] == 1
    unknown = [state for state in COUNTED_STATES if isinstance(readings[state], Missing)]
    assert len(unknown) == len(COUNTED_STATES) - 1


def test_without_timers_a_fin_wait_2_without_owner_is_neither_a_leak_nor_an_orphan():
    held = BARE._replace(
        state=TcpState.FIN_WAIT_2, owner=Held((Holder(44, "web client", 7, -1),)), remote=Endpoint("::1", 3)
    )
    detail = look_at(BARE._replace(state=TcpState.FIN_WAIT_2), held).detail[TcpState.FIN_WAIT_2]
    assert [row.owner.holders[0].pid for row in detail.connections] == [44]
    assert detail.total == 2
    assert "ss -tanoempi" in detail.reason


def test_with_timers_a_minisocket_is_known_to_have_no_owner():
    stub = BARE._replace(state=TcpState.FIN_WAIT_2, timer=Timer.TIME_WAIT, expires=57.0)
    detail = look_at(stub).detail[TcpState.FIN_WAIT_2]
    assert [row.owner for row in detail.connections] == [NotHeld()]
    assert detail.connections[0].inode == 0


def test_two_listings_of_one_moment_complete_each_other():
    poor = BARE._replace(state=TcpState.CLOSE_WAIT, receive_queue=NOT)
    rich = poor._replace(receive_queue=20, owner=Held((Holder(37, "orders-api", 6, -1),)))
    forms = [
        Pasted("netstat", sockets=(rich,), every_socket=True),
        Pasted("ss", sockets=(poor,), every_socket=True),
    ]
    found = assemble(forms, TOLD)
    (row,) = found.samples.after.detail[TcpState.CLOSE_WAIT].connections
    assert (row.receive_queue, row.owner.holders[0].name) == (20, "orders-api")
    assert found.source.forms == ("netstat", "ss")

"""How events become an ending: what no running kernel shows at will, and kernels that say less."""

import errno

import pytest

from tcpdoctor.diagnosis.ending_counts import EndingCounts, Group
from tcpdoctor.diagnosis.endings import EVENTS_TAKE, Ending, Known, Program, Stories, Why
from tcpdoctor.kernel.addresses import raw_address
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.tracepoints import (
    Destroyed,
    ErrorReported,
    LastNumbers,
    ResetReceived,
    ResetSent,
    StateChange,
)

LOCAL, REMOTE = raw_address("10.0.0.9"), raw_address("10.0.0.5")
ENDS = (LOCAL, 8080, REMOTE, 40_000)
SOCKET, COOKIE, PID, THREAD = 0xA000, 23, 811, 812
MS = 1_000_000
SECOND = 1_000 * MS
S = TcpState


def program(pid: int) -> Program | None:
    return Program(pid, "app") if pid == PID else None


def change(at: int, old: int, new: int, pid: int = 0, socket: int = SOCKET, ends=ENDS) -> StateChange:
    local, local_port, remote, remote_port = ends
    return StateChange(at, socket, old, new, local, local_port, remote, remote_port, pid, THREAD)


def numbers(**given) -> LastNumbers:
    base = LastNumbers(COOKIE, *ENDS, 0, 0, 101, 503, 0.02, 0, 5.0, 5.0)
    return base._replace(**given)


def told(events, last: LastNumbers | None = None, *, disconnected=False, known=None) -> list[Ending]:
    stories = Stories(program)
    if known is not None:
        stories.known[ENDS] = known
    for event in events:
        stories.add_event(event)
    at = events[-1].at
    stories.add_event(Destroyed(at, SOCKET, COOKIE, PID, disconnected))
    stories.add_numbers(last or numbers(), at)
    return list(stories.tell(at))


def the_one(*args, **options) -> Ending:
    (ending,) = told(*args, **options)
    return ending


def accepted(at: int = 0) -> list[StateChange]:
    return [change(at, S.LISTEN, S.SYN_RECV), change(at, S.SYN_RECV, S.ESTABLISHED)]


def aborted(*others, pid: int = PID):
    return [*accepted(), change(SECOND, S.ESTABLISHED, S.CLOSE, pid), *others]


@pytest.mark.parametrize(
    ("reset", "last", "disconnected", "why"),
    [
        ("TCP_ABORT_ON_CLOSE", {}, False, Why.UNREAD),
        ("TCP_STATE", {}, True, Why.LINGER),
        ("TCP_KEEPALIVE_TIMEOUT", {}, False, Why.KEEPALIVE),
        ("TCP_OF_A_LATER_KERNEL", {}, False, Why.OTHER_RESET),
        ("", {"unread": 37}, False, Why.UNREAD),
        ("", {}, True, Why.LINGER),
        ("", {}, False, Why.OTHER_RESET),
        ("NOT_SPECIFIED", {"unread": 37}, False, Why.UNREAD),
    ],
)
def test_why_a_reset_was_sent_is_told_where_the_kernel_says_it_and_where_not(reset, last, disconnected, why):
    events = aborted(ResetSent(SECOND, SOCKET, reset, None))
    ending = the_one(events, numbers(**last), disconnected=disconnected)
    assert (ending.first, ending.reset, ending.why) == ("reset_here", "here", why)


def test_a_keepalive_that_nobody_answers_is_told_by_the_error_where_the_kernel_gives_no_reason():
    events = aborted(ResetSent(SECOND, SOCKET, "", None), ErrorReported(SECOND, errno.ETIMEDOUT, ENDS), pid=0)
    assert the_one(events).why is Why.KEEPALIVE


def test_an_abort_from_outside_is_nobodys_fault():
    events = aborted(
        ErrorReported(SECOND, errno.ECONNABORTED, ENDS), ResetSent(SECOND, SOCKET, "NOT_SPECIFIED", None)
    )
    assert the_one(events).why is Why.ABORTED


def test_numbers_that_tcp_disconnect_cleared_are_unknown():
    ending = the_one(aborted(ResetSent(SECOND, SOCKET, "TCP_STATE", None)), disconnected=True)
    assert (ending.bytes_in, ending.bytes_out, ending.rtt, ending.idle) == (None,) * 4


def test_a_timeout_is_nobodys_close():
    events = [
        *accepted(),
        ErrorReported(SECOND, errno.ETIMEDOUT, ENDS),
        change(SECOND, S.ESTABLISHED, S.CLOSE),
    ]
    ending = the_one(events)
    assert (ending.first, ending.reset, ending.why) == (None, None, Why.TIMED_OUT)


def test_who_closed_a_connection_first_that_was_closing_before_the_trace_is_known_by_its_state():
    assert the_one([change(0, S.LAST_ACK, S.CLOSE)]).first == "peer"
    assert the_one([change(0, S.FIN_WAIT_1, S.FIN_WAIT_2), change(9, S.FIN_WAIT_2, S.CLOSE)]).first == "here"


def test_two_closes_at_once_are_ours_as_well():
    events = [
        *accepted(),
        change(SECOND, S.ESTABLISHED, S.FIN_WAIT_1, PID),
        change(SECOND, S.FIN_WAIT_1, S.CLOSING),
        change(SECOND, S.CLOSING, S.CLOSE),
    ]
    ending = the_one(events)
    assert (ending.first, ending.bytes_in) == ("here", 100)


def test_the_owner_of_a_connection_that_was_there_before_is_who_held_it():
    known = Known(Program(700, "nginx"), True)
    ending = the_one([change(0, S.ESTABLISHED, S.CLOSE), ResetReceived(0, SOCKET)], known=known)
    assert (ending.owner, ending.opened) == (Program(700, "nginx"), True)


def test_a_thread_of_the_kernel_is_nobody():
    events = [change(0, S.ESTABLISHED, S.FIN_WAIT_1, PID + 1), change(9, S.FIN_WAIT_1, S.CLOSE)]
    assert the_one(events).owner is None


def test_the_child_of_a_listener_was_not_in_syn_recv_for_its_microseconds():
    states = the_one([*accepted(), change(SECOND, S.ESTABLISHED, S.CLOSE_WAIT)]).states
    assert states == ((S.ESTABLISHED, 1.0), (S.CLOSE_WAIT, None))


def test_a_request_that_meets_the_peers_reset_says_how_long_the_connection_was_idle_before():
    events = [
        change(0, S.CLOSE, S.SYN_SENT, PID),
        change(0, S.SYN_SENT, S.ESTABLISHED),
        ResetReceived(70 * SECOND, SOCKET),
        change(70 * SECOND, S.ESTABLISHED, S.CLOSE),
    ]
    ending = the_one(events, numbers(sent_before=0.0, received_before=60.0))
    assert ending.why is Why.REQUEST_RESET
    assert (ending.waited, ending.idle) == (60.0, 60.0)


def test_a_reset_that_answers_a_first_request_is_no_mismatch():
    events = [
        change(0, S.CLOSE, S.SYN_SENT, PID),
        change(0, S.SYN_SENT, S.ESTABLISHED),
        ResetReceived(SECOND, SOCKET),
        change(SECOND, S.ESTABLISHED, S.CLOSE),
    ]
    ending = the_one(events, numbers(received=0, sent_before=0.0, received_before=1.0))
    assert (ending.why, ending.waited) == (Why.PEER_RESET, None)


def test_data_after_the_close_does_not_count_as_idle_time():
    events = [
        *accepted(),
        change(SECOND, S.ESTABLISHED, S.CLOSE_WAIT),
        change(9 * SECOND, S.LAST_ACK, S.CLOSE),
    ]
    assert the_one(events, numbers(sent_before=2.0, received_before=8.5)).idle == pytest.approx(0.5)
    assert the_one(events, numbers(sent_before=2.0, received_before=3.0)).idle is None


# What the kernel does not deliver.


def test_an_end_that_was_not_delivered_is_told_by_the_ends_of_the_connection():
    stories = Stories(program)
    for event in (*accepted(), change(SECOND, S.ESTABLISHED, S.FIN_WAIT_1, PID)):
        stories.add_event(event)
    stories.add_numbers(numbers(), 2 * SECOND)
    assert list(stories.tell(2 * SECOND)) == []
    (ending,) = stories.tell(2 * SECOND + EVENTS_TAKE)
    assert (ending.first, ending.owner, stories.undelivered) == ("here", Program(PID, "app"), 1)


def test_an_address_that_passes_to_another_socket_does_not_mix_two_connections():
    stories = Stories(program)
    for event in (*accepted(), change(SECOND, S.ESTABLISHED, S.FIN_WAIT_1, PID)):
        stories.add_event(event)
    other = (LOCAL, 8080, REMOTE, 40_001)
    stories.add_event(change(2 * SECOND, S.LISTEN, S.SYN_RECV, ends=other))
    stories.add_event(change(2 * SECOND, S.SYN_RECV, S.ESTABLISHED, ends=other))
    stories.add_event(change(3 * SECOND, S.ESTABLISHED, S.CLOSE_WAIT, ends=other))
    stories.add_event(Destroyed(3 * SECOND, SOCKET, COOKIE + 1, 0, disconnected=False))
    stories.add_numbers(numbers(), 3 * SECOND)
    stories.add_numbers(numbers(cookie=COOKIE + 1, remote_port=40_001), 3 * SECOND)
    ended = {ending.ends[3]: ending.first for ending in stories.tell(4 * SECOND)}
    assert ended == {40_000: "here", 40_001: "peer"}


def test_a_socket_of_which_no_event_came_has_its_numbers_and_no_first():
    stories = Stories(program)
    stories.add_numbers(numbers(), 0)
    (ending,) = stories.tell(EVENTS_TAKE)
    assert (ending.first, ending.bytes_out, ending.bytes_in) == (None, 503, None)


def test_a_socket_that_never_had_a_peer_is_no_connection():
    stories = Stories(program)
    stories.add_numbers(numbers(remote_port=0), 0)
    assert list(stories.tell(EVENTS_TAKE)) == []


def test_a_connection_of_another_namespace_is_not_told():
    stories = Stories(program)
    for event in (*accepted(), change(SECOND, S.ESTABLISHED, S.CLOSE_WAIT)):
        stories.add_event(event)
    stories.add_event(Destroyed(SECOND, SOCKET, COOKIE, 0, disconnected=False))
    assert list(stories.tell(2 * SECOND)) == []
    assert list(stories.tell(60 * SECOND)) == []
    assert stories.elsewhere == 1


# Many of them.


def closed(by: str, idle: float | None, why: Why | None = None, waited: float | None = None) -> Ending:
    events = [change(0, S.LISTEN, S.SYN_RECV), change(0, S.ESTABLISHED, S.CLOSE_WAIT)]
    base = the_one(events, numbers())
    reset = None if why is None else "peer"
    return base._replace(first=by, idle=idle, why=why, waited=waited, reset=reset, opened=True)


def test_a_side_that_ends_what_was_idle_for_a_minute_is_seen_among_other_closes():
    group = Group()
    for number in range(23):
        group.add(closed("peer", 60.0 + number / 100))
    for number in range(5):
        group.add(closed("peer", float(number)))
    end = group.idle_end("peer")
    assert end is not None
    assert (round(end.seconds), end.alike, end.of) == (60, 23, 28)
    assert group.idle_end("here") is None


@pytest.mark.parametrize(
    "times",
    [[60.0] * 4, [0.1] * 23, [float(number) for number in range(1, 24)]],
    ids=["few", "busy", "mixed"],
)
def test_closes_without_a_time_in_common_are_no_timeout(times):
    group = Group()
    for time in times:
        group.add(closed("peer", time))
    assert group.idle_end("peer") is None


def test_requests_that_met_a_reset_and_how_long_a_program_keeps_connections_are_counted():
    counts = EndingCounts()
    for _ in range(7):
        counts.add(closed("peer", 60.0, Why.REQUEST_RESET, 60.1))
        counts.add(closed("here", 75.0))
    (group,) = counts.peers.values()
    assert (group.requests_reset, group.longest_wait()) == (7, 60.1)
    (key,) = counts.programs
    assert counts.kept_here(key.name) is None  # nobody's: it has no name
    assert group.total == 14


@pytest.mark.parametrize(
    ("here", "ours", "owner"),
    [
        (True, True, Program(PID, "app")),
        (False, True, Program(77, "ours")),
        (None, True, Program(77, "ours")),
        (None, None, None),
    ],
)
def test_whose_a_listener_is_needs_to_be_known_of_this_namespace(here, ours, owner):
    stories = Stories(program, is_here=lambda pid: here if pid == PID else ours)
    stories.listeners[8080] = Program(77, "ours")
    stories.add_event(change(0, S.CLOSE, S.LISTEN, PID, socket=SOCKET + 1))
    for event in (*accepted(1), change(SECOND, S.ESTABLISHED, S.CLOSE)):
        stories.add_event(event)
    stories.add_event(Destroyed(SECOND, SOCKET, COOKIE, 0, disconnected=False))
    stories.add_numbers(numbers(), SECOND)
    (ending,) = stories.tell(SECOND)
    assert ending.owner == owner

"""Columns of raw rows say what the decoded rows say."""

import contextlib
import os
import pickle
import socket

import pytest

from tcpdoctor.facts.connection import Earlier, age_of
from tcpdoctor.facts.socketset import SocketSet, Unsure
from tcpdoctor.kernel.kept_rows import KeptRows, with_queue, without_file
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.snapshot import Held, NotHeld, Samples
from tcpdoctor.kernel.sockets import read_connections
from tcpdoctor.kernel.states import TcpState
from tests.facts.samples import once, snapshot
from tests.live.test_live_snapshot import until

CLOSING = (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2)


@contextlib.contextmanager
def half_closed(number, not_accepted=0, unread=b""):
    """Pairs of which the client has ended its side, held by both; some were never accepted."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=number + not_accepted))
        for place in range(number + not_accepted):
            client = stack.enter_context(socket.create_connection(server.getsockname()))
            if place < number:
                stack.enter_context(server.accept()[0])
            if unread:
                client.sendall(unread)
            client.shutdown(socket.SHUT_WR)
        total = number + not_accepted
        until(lambda: {rows.total for rows in read_connections(CLOSING).values()} == {total})
        yield


@pytest.mark.parametrize("unread", [b"", b"x" * 700])
def test_rows_are_the_same_whether_they_were_kept_or_decoded(in_namespace, unread):
    def look():
        with half_closed(23, not_accepted=3, unread=unread):
            kept = read_connections(CLOSING, undecoded=CLOSING)
            plain = read_connections(CLOSING)
            return {
                state: (
                    not kept[state].connections.decoded,
                    len(kept[state].connections),
                    {row.cookie: row._replace(info=None) for row in kept[state].connections}
                    == {row.cookie: row._replace(info=None) for row in plain[state].connections},
                    kept[state].connections.decoded,
                )
                for state in CLOSING
            }

    assert in_namespace(look) == dict.fromkeys(CLOSING, (True, 26, True, True))


def test_columns_say_what_the_decoded_rows_say(in_namespace):
    def look():
        with half_closed(23, not_accepted=3, unread=b"x" * 700):
            found = read_connections(CLOSING, undecoded=CLOSING)
            answers = {}
            for state, detail in found.items():
                kept = detail.connections
                columns = sorted(kept.highest_ages())
                files, large = len(kept.with_file()), len(with_queue(kept, 600))
                loose = [row.cookie for row in without_file(kept)]
                undecoded = not kept.decoded
                rows = list(kept)
                alone = Earlier(once(snapshot()))
                ages = sorted(age_of(row, alone).high for row in rows)
                answers[state] = (
                    undecoded,
                    max(abs(column + 0.01 - age) for column, age in zip(columns, ages, strict=True)),
                    (files, sum(bool(row.inode) for row in rows)),
                    (large, len(with_queue(rows, 600))),
                    (loose, [row.cookie for row in without_file(rows)]),
                    kept.highest_ages(),
                )
            return answers

    answers = in_namespace(look)
    for undecoded, difference, files, large, loose, after in answers.values():
        assert undecoded
        assert difference < 1e-6
        assert files[0] == files[1]
        assert large[0] == large[1]
        assert loose[0] == loose[1]
        assert after is None, "once decoded, the rows themselves tell"
    assert answers[TcpState.CLOSE_WAIT][2] == (23, 23)
    assert answers[TcpState.CLOSE_WAIT][3] == (26, 26)
    assert len(answers[TcpState.CLOSE_WAIT][4][0]) == 3


def test_rows_with_owners_say_what_the_decoded_rows_say(in_namespace):
    def look():
        with half_closed(23, not_accepted=3):
            kept = read_connections(CLOSING, undecoded=CLOSING)[TcpState.CLOSE_WAIT].connections
            sought = [(row.inode, row.uid, row.cookie, row.cgroup) for row in kept.sought()]
            owners = dict(find_owners({row.inode: row.uid for row in kept.sought()}, seconds=60.0))
            owners[min(owners)] = NotHeld()
            held = kept.with_owners(owners)
            parts = held.parted(lambda owner: isinstance(owner, Held))
            ages = SocketSet(parts[True]).ages(Earlier(once(snapshot())))
            peers = [SocketSet(parts[True]).peers(lambda _, ours=ours: ours) for ours in (True, False)]
            told = list(held.owners())
            undecoded = not held.decoded and not parts[True].decoded and held.owned and not kept.owned
            rows, mine = list(held), list(parts[True])
            again = [row.inode for row in kept]
            return (
                again == [row.inode for row in rows],
                undecoded,
                sought == [(row.inode, row.uid, row.cookie, row.cgroup) for row in rows if row.inode],
                told == [(row.inode, row.owner) for row in rows],
                [row.owner.holders[0].pid for row in mine] == [os.getpid()] * 22,
                len(parts[False]),
                peers == [SocketSet(mine).peers(lambda _, ours=ours: ours) for ours in (True, False)],
                ages == SocketSet(mine).ages(Earlier(once(snapshot()))),
            )

    assert in_namespace(look) == (True, True, True, True, True, 4, True, True)


@pytest.mark.parametrize("complete", [True, False])
def test_the_first_of_two_looks_narrows_ages_from_columns_as_those_of_rows(in_namespace, complete):
    def look():
        with half_closed(12):
            before = {}
            for state, one in read_connections(CLOSING).items():
                rows = tuple(one.connections)[5:]
                before[state] = one._replace(connections=rows, total=7 if complete else 12)
            kept = read_connections(CLOSING, undecoded=CLOSING)
            samples = Samples(snapshot(clock=100.0, detail=before), snapshot(clock=101.0, detail=kept))
            answers = {}
            for state, detail in kept.items():
                columns = SocketSet(detail.connections).ages(Earlier(samples))
                undecoded = not detail.connections.decoded
                answers[state] = (
                    undecoded,
                    columns == SocketSet(list(detail.connections)).ages(Earlier(samples)),
                )
            return answers

    assert in_namespace(look) == dict.fromkeys(CLOSING, (True, True))


def test_ages_are_left_to_the_rows_where_a_keepalive_timer_runs(in_namespace):
    def look():
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
                client.shutdown(socket.SHUT_WR)
                until(lambda: read_connections(CLOSING)[TcpState.CLOSE_WAIT].total == 1)
                kept = read_connections(CLOSING, undecoded=CLOSING)[TcpState.CLOSE_WAIT].connections
                return kept.ages(), len(kept.highest_ages())

    assert in_namespace(look) == (None, 1)


def test_hidden_ages_from_columns_are_those_of_the_rows(in_namespace):
    def look():
        with half_closed(23):
            kept = read_connections(CLOSING, undecoded=CLOSING)[TcpState.CLOSE_WAIT].connections.with_file()
            alone = Earlier(once(snapshot()))
            columns = list(Unsure(kept).highest_ages(alone))
            return columns, list(Unsure(list(kept)).highest_ages(alone))

    columns, rows = in_namespace(look)
    assert columns == pytest.approx(rows, abs=1e-6)


def test_rows_that_differ_in_form_are_left_to_be_decoded():
    assert KeptRows([b"\x70" + bytes(111), b"\x70" + bytes(111)], TcpState.CLOSE_WAIT).highest_ages() is None
    assert KeptRows([], TcpState.SYN_SENT).highest_ages() is None
    assert KeptRows([], TcpState.CLOSE_WAIT).highest_ages() == []


def test_kept_rows_travel_as_they_are_and_compare_as_the_tuple_that_they_are(in_namespace):
    def look():
        with half_closed(7):
            kept = read_connections(CLOSING, undecoded=CLOSING)[TcpState.CLOSE_WAIT].connections
            again = pickle.loads(pickle.dumps(kept))  # noqa: S301 - our own
            undecoded = not kept.decoded and not again.decoded
            same = again == kept, kept == again, kept[-1] == again[-1], len(kept[2:5])
            decoded = pickle.loads(pickle.dumps(kept))  # noqa: S301 - our own
            return undecoded, *same, type(decoded), decoded == kept

    assert in_namespace(look) == (True, True, True, True, 3, tuple, True)

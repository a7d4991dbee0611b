"""Every socket told as it comes: none is lost, and what opens or closes on the way is told as it is."""

import json
import os
import socket
from collections import Counter

from tcpdoctor.answers.sockets import call_sockets
from tcpdoctor.kernel import survey
from tcpdoctor.kernel.listing import Way
from tcpdoctor.kernel.snapshot import Held
from tests.cli.command import tcpdoctor
from tests.live.crowd import connect, serve

CONNECTIONS = 1009


def closed_half(pairs, number):
    """Shut down so many at the client's side: CLOSE_WAIT and FIN_WAIT_2."""
    for client, _ in pairs[:number]:
        client.shutdown(socket.SHUT_WR)


def both_ways():
    closed_half(connect(serve(), CONNECTIONS), 17)
    connect(serve("::1"), 13)
    whole = json.loads(tcpdoctor("sockets", "--json").stdout)
    sorted_way = json.loads(tcpdoctor("sockets", "--json", "--sort", "inode").stdout)
    return whole, sorted_way


def test_what_is_told_as_it_comes_is_what_is_told_when_sorted(in_namespace):
    told, kept = in_namespace(both_ways)
    assert told["total"] == len(told["sockets"]) == kept["total"] == 2 * (CONNECTIONS + 13) + 2
    assert Counter(row["state"] for row in told["sockets"]) == {
        "established": 2 * (CONNECTIONS + 13 - 17), "listen": 2, "close_wait": 17, "fin_wait_2": 17,
    }  # fmt: skip
    lasting = ("cookie", "state", "local", "remote", "inode", "owner", "missing")
    by_cookie = [
        {row["cookie"]: {key: row[key] for key in lasting} for row in one["sockets"]} for one in (told, kept)
    ]
    assert by_cookie[0] == by_cookie[1]
    assert told["missing"] == {}


def opened_and_closed_on_the_way():
    server = serve()
    pairs = connect(server, 7)
    answer = call_sockets([], None, None, None, None)
    closed = pairs[0][0].getsockname()[1]
    for end in pairs.pop(0):
        end.close()
    (late,) = connect(server, 1)
    rows = list(answer.roll)
    ours = Counter(isinstance(row.owner, Held) and row.owner.holders[0].pid == os.getpid() for row in rows)
    inodes = [row.inode for row in rows]
    gone = [
        row
        for row in rows
        if row.inode and closed in (row.local.port, getattr(row, "remote", row.local).port)
    ]
    return (
        ours,
        sorted(inodes[-2:]),
        sorted(os.fstat(end.fileno()).st_ino for end in late),
        len(gone),
        len(rows),
        answer.roll.total,
    )


def test_a_socket_opened_meanwhile_has_its_owner_and_one_closed_is_not_told(in_namespace):
    ours, last, late, gone, told, total = in_namespace(opened_and_closed_on_the_way)
    assert last == late
    assert ours[True] == 1 + 2 * 7
    assert (gone, told) == (0, total)


def through_proc():
    survey.WAYS = (Way.PROC,)
    closed_half(connect(serve(), 31), 11)
    answer = call_sockets(["close-wait", "listen"], None, None, None, None)
    rows = list(answer.roll)
    return (
        Counter(type(row).__name__ for row in rows),
        sum(isinstance(row.owner, Held) for row in rows),
        answer.roll.missing,
    )


def test_without_netlink_the_same_states_are_told(in_namespace):
    kinds, held, missing = in_namespace(through_proc)
    assert kinds == {"Listener": 1, "Connection": 11}
    assert held == 12
    assert missing == {}


def bound_through_proc():
    survey.WAYS = (Way.PROC,)
    answer = call_sockets(["bound"], None, None, None, None)
    return list(answer.roll), answer.roll.missing


def test_a_state_that_cannot_be_listed_is_missing(in_namespace):
    rows, missing = in_namespace(bound_through_proc)
    assert rows == []
    assert "does not list bound sockets" in missing["bound"]

"""Sockets that may belong to many processes: one sequence of ages for all of them, never a copy each."""

import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.facts.connection import Earlier, age_of
from tcpdoctor.facts.socketset import SocketSet, Unsure
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Merged
from tests.facts.samples import CONNECTION, HIDDEN, INFO, NGINX, held_by, once, several, snapshot, subjects

ASCENDING = st.lists(st.floats(0, 100, width=16), max_size=12).map(sorted)


@given(ASCENDING, ASCENDING, st.integers(0, 3), st.floats(0, 100, width=16))
def test_two_sequences_and_infinities_read_as_one_in_order(one, other, infinite, sought):
    merged, plain = Merged(one, other, infinite), (*sorted(one + other), *[math.inf] * infinite)
    assert merged == plain
    assert plain == merged
    assert tuple(merged) == plain
    assert [merged[-place] for place in range(1, len(plain) + 1)] == list(reversed(plain))
    assert merged[1:4] == plain[1:4]
    assert bisect_left(merged, sought) == bisect_left(plain, sought)


def test_a_place_that_is_not_there_is_refused():
    merged = Merged((1.0,), (2.0,), 1)
    for place in (3, -4):
        with pytest.raises(IndexError):
            merged[place]


def test_ages_of_a_set_are_those_of_its_sockets_one_by_one():
    alone = Earlier(once(snapshot()))
    rows = [
        row._replace(info=INFO._replace(last_ack_recv=1.0 + place, last_data_recv=90.0 - place * 7))
        for place, row in enumerate(several(11, CONNECTION))
    ]
    sure, maybe = rows[:4], rows[4:]
    ages = SocketSet(sure, Unsure(maybe), 2, "hidden").ages(alone)
    highs = sorted(age_of(row, alone).high for row in rows)
    assert ages.at_most == (*highs, math.inf, math.inf)
    assert ages.at_least == tuple(sorted(age_of(row, alone).low for row in sure))


class Counted(list):
    """Rows that count how often they are walked."""

    walks = 0

    def __iter__(self):
        Counted.walks += 1
        return super().__iter__()


def test_hidden_sockets_are_walked_as_often_for_a_thousand_processes_as_for_one():
    def walks(processes):
        Counted.walks = 0
        unsure = Unsure(Counted(several(23, CONNECTION._replace(owner=HIDDEN))))
        alone = Earlier(once(snapshot()))
        for place in range(processes):
            held = SocketSet(several(1, CONNECTION, place), unsure, 0, HIDDEN.reason)
            held.ages(alone)
            held.where(is_read).number()
        return Counted.walks

    assert walks(1) == walks(1009)


def is_read(socket):
    return socket.receive_queue == 0


def test_many_processes_beside_many_hidden_sockets_share_one_sequence_of_ages():
    held = [CONNECTION._replace(owner=held_by(pid, 6), cookie=pid, inode=pid) for pid in range(100, 131)]
    hidden = several(41, CONNECTION._replace(owner=HIDDEN), 5000)
    processes = {pid: NGINX._replace(pid=pid) for pid in range(100, 131)}
    found = subjects(once(snapshot([*held, *hidden], processes=processes)), Scope.PROCESS)
    ages = [subject.facts["close_wait.owned_ages"] for subject in found if not subject.hidden]
    assert [(len(each.at_least), len(each.at_most)) for each in ages] == [(1, 42)] * 31
    assert len({id(each.at_most._other) for each in ages}) == 1

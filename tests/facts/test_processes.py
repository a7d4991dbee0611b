"""Facts of processes: what they hold, and what may be theirs where owners are hidden."""

import math

import pytest

from tcpdoctor.facts.host import subjects_of
from tcpdoctor.facts.subject import HIDDEN_LABEL, Scope
from tcpdoctor.facts.value import Ages, Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import (
    DeadSocket,
    DeadSockets,
    DeadUse,
    Detail,
    Endpoint,
    Established,
    Held,
    Holder,
    NotHeld,
)
from tcpdoctor.kernel.sock_diag_rows import NOT_LOOKED_UP
from tcpdoctor.kernel.states import TcpState
from tests.facts.samples import (
    BUDGET,
    CONNECTION,
    HIDDEN,
    INFO,
    NGINX,
    census,
    details,
    facts,
    held_by,
    once,
    several,
    snapshot,
    subjects,
    twice,
)

LEAKED = CONNECTION._replace(owner=held_by(811, 6), receive_queue=0)
UNSEEN = CONNECTION._replace(owner=HIDDEN, receive_queue=0)
HALF_CLOSED = LEAKED._replace(state=TcpState.FIN_WAIT_2)


def of_process(*connections, **changes):
    return facts(once(snapshot(connections, processes={811: NGINX}, **changes)), Scope.PROCESS)


def test_sockets_of_a_process_with_very_many_descriptors_are_a_range():
    seen = facts(
        once(snapshot(processes={811: NGINX._replace(sockets=9000, sockets_within=600)})), Scope.PROCESS
    )
    assert (seen["process.descriptors.sockets"].low, seen["process.descriptors.sockets"].high) == (8400, 9600)
    seen = facts(once(snapshot(processes={811: NGINX._replace(sockets=90)})), Scope.PROCESS)
    assert seen["process.descriptors.sockets"] == 90
    assert isinstance(
        facts(once(snapshot(processes={811: NGINX})), Scope.PROCESS)["process.descriptors.sockets"], Missing
    )


def test_a_process_is_named_with_its_pid():
    (subject,) = subjects(once(snapshot(processes={811: NGINX})), Scope.PROCESS)
    assert (subject.label, dict(subject.identity)) == ("nginx (811)", {"pid": 811, "name": "nginx"})
    assert not subject.hidden


def test_what_is_known_of_the_process_itself():
    found = of_process()
    assert found["process.pid"] == "811"
    assert found["process.name"] == "nginx"
    assert found["process.unit"] == "nginx.service"
    assert found["process.container"] == "none"
    assert (found["process.descriptors.used"], found["process.descriptors.limit"]) == (140, 1024)


def test_a_process_that_holds_nothing_of_interest_has_exact_zeros():
    found = of_process()
    assert found["close_wait.owned"] == found["fin_wait_2.owned"] == 0
    assert found["close_wait.owned_ages"] == Ages((), (), None)
    assert found["close_wait.oldest_owned_age"] == 0
    assert found["close_wait.peers"] == found["close_wait.descriptors"] == "none"


def test_close_wait_is_told_apart_by_what_is_left_to_read():
    found = of_process(
        *several(5, LEAKED),
        *several(3, LEAKED._replace(receive_queue=1), 20),
        *several(2, LEAKED._replace(receive_queue=517), 30),
    )
    assert found["close_wait.owned"] == 10
    assert found["close_wait.eof_read"] == 5
    assert found["close_wait.eof_unread"] == 3
    assert found["close_wait.unread_data"] == 2


def test_sockets_without_a_file_are_no_process_fault():
    not_accepted = LEAKED._replace(inode=0, owner=NotHeld())
    in_kernel = LEAKED._replace(owner=NotHeld(), cookie=8)
    orphan = not_accepted._replace(state=TcpState.FIN_WAIT_2)
    found = of_process(*several(23, LEAKED), not_accepted, in_kernel, orphan)
    assert found["close_wait.owned"] == 23
    assert found["fin_wait_2.owned"] == 0


def test_fin_wait_2_is_counted_apart():
    found = of_process(*several(7, LEAKED), *several(5, HALF_CLOSED))
    assert (found["close_wait.owned"], found["fin_wait_2.owned"]) == (7, 5)


def test_descriptors_and_peers_are_named_up_to_three():
    found = of_process(*several(140, LEAKED))
    assert found["close_wait.descriptors"] == "fd 6, 7, 8 and 137 more"
    assert found["close_wait.peers"] == "10.0.0.7 (140)"
    assert of_process(*several(4, LEAKED))["close_wait.descriptors"] == "fd 6, 7, 8 and 9"
    assert of_process(LEAKED)["close_wait.descriptors"] == "fd 6"


def test_a_server_among_the_peers_has_its_port():
    client = [
        row._replace(local=Endpoint("10.0.0.1", 40000 + place), remote=Endpoint("10.0.0.9", 5432))
        for place, row in enumerate(several(23, LEAKED))
    ]
    assert of_process(*client)["close_wait.peers"] == "10.0.0.9:5432 (23)"


def test_a_shared_socket_counts_for_the_lowest_pid_only():
    shared = LEAKED._replace(owner=Held((Holder(811, "nginx", 6, 33), Holder(812, "nginx", 9, 33)), True))
    worker = NGINX._replace(pid=812)
    found = {
        subject.label: subject.facts["close_wait.owned"]
        for subject in subjects(
            once(snapshot(several(23, shared), processes={811: NGINX, 812: worker})), Scope.PROCESS
        )
    }
    assert found == {"nginx (811)": 23, "nginx (812)": 0}


def test_a_holder_that_ended_meanwhile_keeps_its_sockets():
    found = facts(once(snapshot(several(23, LEAKED))), Scope.PROCESS)
    assert found["close_wait.owned"] == 23
    assert found["process.name"] == "nginx"
    assert found["process.descriptors.limit"] == Missing("the process ended while it was looked at")


def test_ages_run_from_the_last_ack_to_the_last_data():
    old = LEAKED._replace(info=INFO._replace(last_ack_recv=600.0, last_data_recv=700.0))
    young = LEAKED._replace(cookie=2, info=INFO._replace(last_ack_recv=5.0, last_data_recv=30.0))
    found = of_process(old, young)
    ages = found["close_wait.owned_ages"]
    assert ages.at_least == (5.0, 600.0)
    assert ages.at_most == pytest.approx((30.0, 700.0), abs=0.02)
    assert found["close_wait.oldest_owned_age"] == Range(600.0, ages.at_most[-1], ages.reason)


# hidden owners


def all_of(*connections, **changes):
    return subjects(once(snapshot(connections, processes={811: NGINX}, **changes)), Scope.PROCESS)


def test_nothing_hidden_means_no_hidden_subject():
    assert [subject.hidden for subject in all_of(*several(23, LEAKED))] == [False]


def test_a_visible_process_may_hold_the_hidden_sockets_as_well():
    nginx, _ = all_of(*several(23, LEAKED), *several(17, UNSEEN, 50))
    assert nginx.facts["close_wait.owned"] == Range(23, 40, HIDDEN.reason)
    assert nginx.facts["close_wait.eof_read"] == Range(23, 40, HIDDEN.reason)
    assert nginx.facts["close_wait.unread_data"] == 0, "the unread bytes of hidden sockets are known"
    assert nginx.facts["fin_wait_2.owned"] == 0, "no socket in that state is hidden"
    assert nginx.facts["close_wait.peers"] == "10.0.0.7 (23)"


def test_one_subject_stands_for_all_the_processes_that_cannot_be_seen():
    hidden = all_of(*several(23, LEAKED), *several(17, UNSEEN, 50))[-1]
    assert hidden.hidden
    assert hidden.label == HIDDEN_LABEL
    assert dict(hidden.identity) == {"pid": None, "name": None}
    assert hidden.facts["close_wait.owned"] == Range(0, 17, HIDDEN.reason)
    ages = hidden.facts["close_wait.owned_ages"]
    assert (ages.at_least, len(ages.at_most), ages.reason) == ((), 17, HIDDEN.reason)
    assert hidden.facts["close_wait.oldest_owned_age"].low == 0
    for name in ("process.pid", "process.name", "process.descriptors.used", "close_wait.peers"):
        assert hidden.facts[name] == Missing(HIDDEN.reason)
    assert hidden.facts["close_wait.descriptors"] == Missing(HIDDEN.reason)


def test_a_hidden_socket_without_a_file_hides_nobody():
    odd = UNSEEN._replace(inode=0)
    assert [subject.hidden for subject in all_of(odd)] == [False]


def test_a_hidden_owner_in_another_state_hides_nobody_here():
    syn_sent = UNSEEN._replace(state=TcpState.SYN_SENT)
    assert [subject.hidden for subject in all_of(syn_sent)] == [False]


def test_an_exhausted_time_budget_hides_owners_just_so():
    hidden = all_of(*several(3, UNSEEN), *several(2, UNSEEN._replace(owner=BUDGET), 30))[-1]
    assert hidden.facts["close_wait.owned"] == Range(0, 5, f"{HIDDEN.reason}; {BUDGET.reason}")


def test_a_sample_of_many_leaves_the_rest_open_to_everybody():
    rows = details(several(23, LEAKED), CLOSE_WAIT=1023)
    nginx, hidden = subjects(once(snapshot(detail=rows, processes={811: NGINX})), Scope.PROCESS)
    reason = "only 23 of 1,023 sockets in CLOSE_WAIT were looked at"
    assert nginx.facts["close_wait.owned"] == Range(23, 1023, reason)
    ages = nginx.facts["close_wait.owned_ages"]
    assert (len(ages.at_least), len(ages.at_most), ages.at_most[-1]) == (23, 1023, math.inf)
    assert ages.reason.startswith(reason)
    assert hidden.hidden
    assert hidden.facts["close_wait.owned"] == Range(0, 1000, reason)


def test_unreadable_sockets_leave_no_subject_to_ask():
    lost = Missing("sock_diag is not there")
    assert subjects_of(once(snapshot(detail=lost)), Scope.PROCESS) is lost


def test_a_state_that_was_not_read_is_missing_and_not_zero():
    found = of_process(detail={})
    assert isinstance(found["close_wait.owned"], Missing)
    assert isinstance(found["close_wait.oldest_owned_age"], Missing)
    assert isinstance(found["close_wait.owned_ages"], Missing)
    assert isinstance(found["fin_wait_2.peers"], Missing)
    assert isinstance(found["fin_wait_2.descriptors"], Missing)


def test_two_thousand_sockets_cost_nothing_before_they_are_asked_for():
    found = of_process(*several(2000, LEAKED))
    assert found["close_wait.owned_ages"] is found["close_wait.owned_ages"], "computed once"


# --- descriptors of connections that are over, and data left unread ---


def dead(*fds, every=1, looked_at=40, complete=True, pid=811):
    rows = tuple(DeadSocket(fd, 7000 + fd, 9.0) for fd in fds)
    return DeadUse({pid: DeadSockets(rows, looked_at, every)}, complete)


def of_dead(before, after):
    look = snapshot([LEAKED], processes={811: NGINX})
    return facts(twice(look._replace(dead=before), look._replace(dead=after)), Scope.PROCESS)


def test_descriptors_that_were_over_in_both_looks_count():
    found = of_dead(dead(6, 7, 8), dead(7, 8, 9))
    assert (found["descriptors.dead_sockets"], found["descriptors.dead"]) == (2, "fd 7 and 8")


def test_the_peers_of_those_that_are_over_are_named():
    ends = [Endpoint("198.51.100.7", 443)] * 2 + [Endpoint("::ffff:198.51.100.9", 5000 + n) for n in range(3)]
    rows = tuple(DeadSocket(fd, 7000 + fd, 9.0, end) for fd, end in enumerate([*ends, None]))
    use = DeadUse({811: DeadSockets(rows, 40, 1)}, complete=True)
    assert of_dead(use, use)["descriptors.dead_peers"] == "198.51.100.9 (3) and 198.51.100.7:443 (2)"
    assert of_dead(dead(7), dead(7))["descriptors.dead_peers"] == "none"


def test_from_one_look_at_most_those_that_are_over_count():
    found = of_dead(Missing("one look"), dead(7, 8, 9))
    assert found["descriptors.dead_sockets"] == Range(0, 3, "needs two samples")


def test_of_a_sample_the_number_is_a_range_around_its_share():
    numbers = range(0, 800, 8)
    look = snapshot([LEAKED], processes={811: NGINX._replace(descriptors=1600)})
    use = dead(*numbers, every=8, looked_at=200)
    many = facts(twice(look._replace(dead=use), look._replace(dead=use)), Scope.PROCESS)
    found = many["descriptors.dead_sockets"]
    assert 600 < found.low < 800 < found.high < 1000


def test_a_process_that_was_not_asked_may_hold_as_many_as_it_has_descriptors():
    found = of_dead(dead(6, pid=7), dead(6, pid=7, complete=BUDGET))["descriptors.dead_sockets"]
    assert found == Range(0, 140, BUDGET.reason)
    assert of_dead(dead(6, pid=7), dead(6, pid=7))["descriptors.dead_sockets"] == 0


def test_descriptors_that_nobody_asked_are_unknown():
    assert of_dead(Missing("old"), Missing("not recorded"))["descriptors.dead_sockets"] == Missing(
        "not recorded"
    )
    assert of_dead(Missing("old"), Missing("not recorded"))["descriptors.dead"] == Missing("not recorded")


UNREAD_ROW = CONNECTION._replace(
    state=TcpState.ESTABLISHED,
    receive_queue=500,
    owner=held_by(811, 6),
    info=INFO._replace(last_data_recv=75.0),
)


def left(*rows):
    established = Established(0, 0, 0, 0, *[Detail((), 0)] * 5, Detail(rows, len(rows)))
    look = snapshot([LEAKED], processes={811: NGINX}, census=census(established=established))
    return facts(once(look), Scope.PROCESS)


def test_data_left_unread_is_as_old_as_the_last_that_came():
    found = left(*several(12, UNREAD_ROW))
    assert found["unread.owned"] == 12
    assert found["unread.owned_ages"] == Ages((75.0,) * 12, (75.0,) * 12, None)
    assert (found["unread.oldest_owned_age"], found["unread.owned_bytes"]) == (75.0, 6000)
    assert found["unread.descriptors"] == "fd 6, 7, 8 and 9 more"


def test_what_was_read_by_now_or_not_accepted_or_is_little_in_a_clients_pool_does_not_count():
    client = UNREAD_ROW._replace(local=Endpoint("10.0.0.1", 40001))
    assert left(UNREAD_ROW._replace(receive_queue=0))["unread.owned"] == 0
    assert left(UNREAD_ROW._replace(inode=0))["unread.owned"] == 0
    assert left(UNREAD_ROW._replace(owner=NOT_LOOKED_UP))["unread.owned"] == 0
    assert left(client)["unread.owned"] == 0
    assert left(client._replace(receive_queue=16384))["unread.owned"] == 1


def test_unread_data_is_unknown_without_a_census_or_from_an_old_recording():
    look = snapshot([LEAKED], processes={811: NGINX}, census=Missing("not counted"))
    assert facts(once(look), Scope.PROCESS)["unread.owned_ages"] == Missing("not counted")
    assert facts(once(look), Scope.PROCESS)["unread.oldest_owned_age"] == Missing("not counted")

"""Owners on demand: what is clear without them stays clear, and what they could change is asked for."""

import random

import pytest

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose, owners_wanted
from tcpdoctor.diagnosis.finding import Diagnosis, Unchecked
from tcpdoctor.kernel.snapshot import Detail, Endpoint, Held, Holder, NotHeld, Owned
from tcpdoctor.kernel.sock_diag_rows import NOT_LOOKED_UP
from tcpdoctor.kernel.states import TcpState, Timer
from tests.facts.samples import CONNECTION, INFO, NGINX, details, once, snapshot

RULES = load_rules().rules
BY_ID = {rule.id: rule for rule in RULES}


def crowd(seed):
    """Processes with limits large and small that hold sockets old and young, in one look with all owners."""
    chosen = random.Random(seed)
    processes = {}
    for pid in range(100, 100 + chosen.randrange(1, 6)):
        limit = chosen.choice((64, 256, 1024))
        processes[pid] = NGINX._replace(
            pid=pid,
            descriptor_limit=limit,
            descriptors=int(limit * chosen.choice((0.1, 0.4, 0.6, 0.85, 0.99))),
            sockets=limit // 2,
        )
    rows = []
    for number in range(chosen.choice((0, 15, 150, 400))):
        pid = chosen.choice(list(processes))
        last = chosen.choice((0.5, 45.0, 70.0, 600.0))
        rows.append(
            CONNECTION._replace(
                state=chosen.choice((TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2, TcpState.SYN_SENT)),
                timer=Timer.NONE,
                cookie=number + 1,
                inode=number + 1,
                remote=Endpoint("10.0.0.7", 1024 + number),
                receive_queue=chosen.choice((0, 1, 700)),
                info=INFO._replace(last_ack_recv=last, last_data_recv=last + chosen.choice((0, 90.0))),
                owner=chosen.choice((Held((Holder(pid, "nginx", 6 + number, 33),)), NotHeld())),
            )
        )
    return processes, rows


def with_owners_hidden(processes, rows):
    """The same look without owners: only processes that use half of their descriptors are known."""
    share = {pid: each.descriptors / each.descriptor_limit for pid, each in processes.items()}
    heavy = {pid: processes[pid] for pid in processes if share[pid] >= 0.5}
    most = max((share[pid] for pid in processes if pid not in heavy), default=0.0)
    hidden = [row._replace(owner=NOT_LOOKED_UP) for row in rows]
    return once(snapshot(hidden, processes=heavy, passed_over=most))


def fired(diagnosis):
    return {(each.rule, each.label, each.severity, each.summary) for each in diagnosis.findings}


@pytest.mark.parametrize("seed", range(150))
def test_what_owners_could_change_is_asked_for_and_the_rest_is_the_same(seed):
    processes, rows = crowd(seed)
    full = diagnose(RULES, once(snapshot(rows, processes=processes, passed_over=0.0)))
    scarce = diagnose(RULES, with_owners_hidden(processes, rows))
    wanted = owners_wanted(RULES, scarce)
    by_owner = {state for state in ("close_wait", "fin_wait_2") if Owned(state) not in wanted}
    for rule in {each.rule for each in full.findings}:
        text = BY_ID[rule].text
        assert not any(f"{state}.owned" in text for state in by_owner), "it fired unseen"
    if not wanted:
        assert fired(scarce) == fired(full)


@pytest.mark.parametrize(("descriptors", "wanted"), [(0.3, frozenset()), (0.9, {Owned.CLOSE_WAIT})])
def test_a_process_near_its_limit_is_looked_into_and_others_are_not(descriptors, wanted):
    """Too few and too young for a leak: only a process that is nearly full could be wrong."""
    rows = [CONNECTION._replace(cookie=n, inode=n, owner=NOT_LOOKED_UP, info=YOUNG) for n in range(1, 24)]
    found = diagnose(RULES, once(snapshot(rows, processes={}, passed_over=descriptors)))
    assert owners_wanted(RULES, found) & {Owned.CLOSE_WAIT, Owned.FIN_WAIT_2} == wanted


YOUNG = INFO._replace(last_ack_recv=0.5, last_data_recv=0.6)


def test_without_knowing_the_other_processes_shares_owners_are_wanted():
    rows = [CONNECTION._replace(cookie=n, inode=n, owner=NOT_LOOKED_UP, info=YOUNG) for n in range(1, 24)]
    assert Owned.CLOSE_WAIT in owners_wanted(RULES, diagnose(RULES, once(snapshot(rows))))


def test_a_sample_of_many_sockets_hides_the_others_whoever_holds_them():
    rows = [CONNECTION._replace(cookie=n, inode=n, owner=NOT_LOOKED_UP, info=YOUNG) for n in range(1, 24)]
    detail = details(rows) | {TcpState.CLOSE_WAIT: Detail(tuple(rows), 5000)}
    found = diagnose(RULES, once(snapshot(detail=detail, passed_over=0.1)))
    assert Owned.CLOSE_WAIT in owners_wanted(RULES, found)


def test_a_rule_that_cannot_be_answered_for_another_reason_wants_what_its_condition_reads():
    unknown = Diagnosis((), (Unchecked("close-wait-leak", "because"), Unchecked("syn-cookies", "so")), 2)
    assert owners_wanted(RULES, unknown) == {Owned.CLOSE_WAIT}
    assert owners_wanted(RULES, Diagnosis((), (), 2)) == frozenset()

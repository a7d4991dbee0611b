"""Which facts hang on owners: found out by taking the owners away, and none may be forgotten."""

from tcpdoctor.facts.subject import OWNED_FACTS, Scope
from tcpdoctor.facts.vocabulary import find_fact, own_facts
from tcpdoctor.kernel.closer_look import PENDING
from tcpdoctor.kernel.snapshot import Census, Destination, DestinationUse, Detail, Endpoint, Owned
from tcpdoctor.kernel.sock_diag_rows import NOT_LOOKED_UP
from tcpdoctor.kernel.states import TcpState, Timer
from tests.facts.samples import (
    CONNECTION,
    LISTENER,
    NGINX,
    census,
    details,
    held_by,
    once,
    several,
    snapshot,
    subjects,
)
from tests.facts.test_established import HEALTHY, LIVING, OUTGOING, UNANSWERED

LARGE = 1 << 25
IDLE = LIVING._replace(
    info=LIVING.info._replace(last_data_sent=9000.0, last_data_recv=9000.0), remote=Endpoint("10.0.0.7", 4000)
)
ENDED = CONNECTION._replace(owner=held_by(811, 6))
HALF_CLOSED = CONNECTION._replace(owner=held_by(811, 60), state=TcpState.FIN_WAIT_2, receive_queue=LARGE)
TRIED = OUTGOING._replace(
    state=TcpState.SYN_SENT,
    timer=Timer.RETRANSMIT,
    retransmits=4,
    receive_queue=LARGE,
    owner=held_by(811, 80),
)
BOUND = CONNECTION._replace(
    state=TcpState.BOUND, local=Endpoint("10.0.0.1", 40001), owner=held_by(811, 99), receive_queue=0
)
KINDS = {
    Owned.CLOSE_WAIT: [
        row._replace(receive_queue=queue)
        for row, queue in zip(several(5, ENDED), (0, 1, 1, 2, LARGE), strict=True)
    ],
    Owned.FIN_WAIT_2: several(3, HALF_CLOSED, 100),
    Owned.SYN_SENT: several(4, TRIED, 200),
    Owned.BOUND: several(2, BOUND, 300),
}
OUTGOING_UNANSWERED = UNANSWERED._replace(cookie=2, local=OUTGOING.local, remote=OUTGOING.remote)
LOST_BY_SIZE = UNANSWERED._replace(
    cookie=3, timer=Timer.RETRANSMIT, send_queue=9000, info=UNANSWERED.info._replace(mss=1448, sacked=1)
)
SUSPECTS = {
    "unanswered": [UNANSWERED, OUTGOING_UNANSWERED, LOST_BY_SIZE],
    "closed_window": [LIVING._replace(timer=Timer.PROBE, expires=0.4, send_queue=5000)],
    "self_connected": [LIVING._replace(remote=LIVING.local)],
    "large": [LIVING._replace(receive_queue=LARGE)],
    "sample": [IDLE],
    "unread": [LIVING._replace(receive_queue=LARGE, owner=held_by(811, 70))],
}


def look(unknown=frozenset()):
    """Every kind of socket that has an owner; of these kinds the owners are not looked up."""

    def rows(kind, known):
        owner = PENDING if kind is Owned.SUSPECT else NOT_LOOKED_UP
        return [row._replace(owner=owner) if kind in unknown else row for row in known]

    suspects = {
        name: Detail(tuple(rows(Owned.SUSPECT, found)), len(found)) for name, found in SUSPECTS.items()
    }
    counted: Census = census(
        established=HEALTHY._replace(**suspects),
        by_destination={Destination("10.0.0.1", "10.0.0.9", 5432): DestinationUse(9, 0)},
    )
    connections = [row for kind, found in KINDS.items() for row in rows(kind, found)]
    listeners = tuple(rows(Owned.LISTENER, [LISTENER]))
    parts = {"detail": details(connections), "listeners": listeners, "census": counted}
    return once(snapshot(processes={811: NGINX}, passed_over=0.1, **parts))


def values(samples):
    return {
        (scope, subject.label, fact.name): subject.facts[fact.name]
        for scope in Scope
        for subject in subjects(samples, scope)
        if not subject.hidden
        for fact in own_facts(scope)
    }


def test_every_fact_that_owners_change_is_listed_with_the_kinds_that_change_it():
    known = values(look())
    found: dict[str, set[Owned]] = {}
    for kind in Owned:
        for (_, _, name), _value in values(look({kind})).items() - known.items():
            found.setdefault(name, set()).add(kind)
    assert found == OWNED_FACTS


def test_every_fact_that_is_listed_exists():
    assert [name for name in OWNED_FACTS if find_fact(name) is None] == []

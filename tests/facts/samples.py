"""Literal snapshots, as the kernel floor would hand them up."""

import random
from collections.abc import Iterable, Mapping
from typing import Any

from tcpdoctor.facts.host import subjects_of
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import (
    Census,
    Connection,
    Destination,
    DestinationUse,
    Detail,
    Endpoint,
    Established,
    Held,
    Holder,
    Listener,
    NotHeld,
    Process,
    Samples,
    Snapshot,
    TcpInfo,
)
from tcpdoctor.kernel.states import TcpState, Timer

HIDDEN = Missing("owners of sockets are hidden: run as root or with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE")
BUDGET = Missing("the time budget of 1 s was used up")

INFO = TcpInfo(
    rto=0.2,
    rtt=0.001,
    backoff=0,
    probes=0,
    total_retrans=0,
    unacked=0,
    notsent=0,
    last_data_sent=700.0,
    last_data_recv=700.0,
    last_ack_recv=600.0,
)

CONNECTION = Connection(
    state=TcpState.CLOSE_WAIT,
    family=4,
    local=Endpoint("10.0.0.1", 8080),
    remote=Endpoint("10.0.0.7", 51000),
    device=0,
    cookie=1,
    inode=100,
    uid=33,
    timer=Timer.NONE,
    expires=0.0,
    retransmits=0,
    receive_queue=1,
    send_queue=0,
    cgroup=Missing("no cgroup"),
    v6only=None,
    info=INFO,
    owner=NotHeld(),
)

LISTENER = Listener(
    family=4,
    local=Endpoint("0.0.0.0", 8080),
    device=0,
    cookie=900,
    inode=90,
    uid=33,
    accept_queue=0,
    accept_limit=128,
    drops=0,
    cgroup=Missing("no cgroup"),
    v6only=None,
    owner=Held((Holder(811, "nginx", 6, 33),)),
)

NGINX = Process(
    pid=811,
    name="nginx",
    uid=33,
    parent=1,
    executable="/usr/sbin/nginx",
    command="nginx: worker",
    descriptors=140,
    descriptor_limit=1024,
    unit="nginx.service",
    container=None,
)

SYSCTLS = {
    "net.ipv4.ip_local_port_range": (32768, 60999),
    "net.ipv4.ip_local_reserved_ports": (),
    "net.ipv4.tcp_fin_timeout": 60,
    "net.ipv4.tcp_tw_reuse": 2,
    "net.ipv4.tcp_timestamps": 1,
}


def held_by(pid: int, fd: int, name: str = "nginx") -> Held:
    return Held((Holder(pid, name, fd, 33),))


def several(number: int, like: Connection, first: int = 1) -> list[Connection]:
    """Sockets that differ in cookie, inode, peer's port and (where held) descriptor."""
    found = []
    for place in range(first, first + number):
        owner = like.owner
        if isinstance(owner, Held):
            owner = Held(tuple(h._replace(fd=h.fd + place - first) for h in owner.holders), owner.complete)
        found.append(
            like._replace(
                cookie=place,
                inode=like.inode and 1000 + place,
                remote=like.remote._replace(port=50000 + place),
                owner=owner,
            )
        )
    return found


def details(connections: Iterable[Connection], **totals: int) -> dict[TcpState, Detail]:
    """Every detailed state; a total above what is given makes a sample of it."""
    states = [state for state in TcpState if state not in (TcpState.ESTABLISHED, TcpState.TIME_WAIT)]
    rows = list(connections)
    found = {}
    for state in states:
        mine = tuple(row for row in rows if row.state is state)
        found[state] = Detail(mine, totals.get(state.name, len(mine)))
    return found


def census(**changes: Any) -> Census:
    empty = Census(by_state={}, bound=0, by_port={}, by_destination={}, source="sock_diag", complete=True)
    return empty._replace(**changes)


def snapshot(connections: Iterable[Connection] = (), **changes: Any) -> Snapshot:
    plain = Snapshot(
        taken_at=1795176000.0,
        clock=1000.0,
        host="web1",
        kernel="6.18.44",
        namespace=4026531840,
        namespace_name=None,
        initial_namespace=True,
        euid=0,
        sysctls=SYSCTLS,
        counters={},
        sockstat={},
        census=census(),
        listeners=(),
        detail=details(connections),
        processes={},
        page_size=4096,
    )
    return plain._replace(**changes)


def once(after: Snapshot) -> Samples:
    return Samples(None, after)


def twice(before: Snapshot, after: Snapshot, seconds: float = 1.0) -> Samples:
    return Samples(before, after._replace(clock=before.clock + seconds))


def subjects(samples: Samples, scope: Scope) -> list[Subject]:
    found = subjects_of(samples, scope)
    assert not isinstance(found, Missing), found
    return list(found)


def facts(samples: Samples, scope: Scope = Scope.HOST) -> Mapping[str, Any]:
    """The facts of the only subject that is not hidden."""
    (subject,) = [subject for subject in subjects(samples, scope) if not subject.hidden]
    return subject.facts


def many_listeners(chance: random.Random) -> Samples:
    """Listeners of few kinds in two looks, with connections at some of their places."""

    def one(number: int) -> Listener:
        return LISTENER._replace(
            local=Endpoint(chance.choice(("0.0.0.0", "127.0.0.1")), 32760 + chance.randrange(13)),
            cookie=number + 1,
            accept_queue=chance.choice((0, 0, 0, 3)),
            accept_limit=chance.choice((5, 128)),
            drops=chance.choice((0, 7)),
        )

    after = [one(number) for number in range(61)]
    before = [
        row._replace(accept_queue=chance.choice((0, 2)), drops=0) for row in after if chance.random() < 0.7
    ]
    waiting = [
        CONNECTION._replace(
            inode=0, owner=NotHeld(), local=Endpoint("127.0.0.1", 32760 + chance.randrange(13)), state=state
        )
        for state in (TcpState.CLOSE_WAIT, TcpState.SYN_RECV)
        for _ in range(3)
    ]
    looks = [snapshot(waiting, listeners=tuple(rows), sysctls=SYSCTLS) for rows in (before, after)]
    return twice(*looks, 2.0) if chance.random() < 0.5 else once(looks[1])


def many_destinations(chance: random.Random) -> Samples:
    """Destinations of few kinds, attempts to some and connections without answer to others."""

    def one(kind: int) -> Destination:
        source = chance.choice(("10.0.0.1", "127.0.0.1"))
        return Destination(source, source[:-1] + str(kind), 5432)

    found = {
        one(kind): DestinationUse(chance.choice((1, 1, 27100)), 1, chance.choice((0, 0, 0, 3)))
        for kind in range(2, 63)
    }
    rows = [
        CONNECTION._replace(
            state=state,
            local=Endpoint(to.source, chance.choice((40000, 2049))),
            remote=Endpoint(to.address, to.port),
            timer=Timer.RETRANSMIT,
            retransmits=4,
            expires=0.5,
        )
        for state in (TcpState.SYN_SENT, TcpState.ESTABLISHED)
        for to in map(one, range(60, 67))
    ]
    none = Detail((), 0)
    lost = [row for row in rows if row.state is TcpState.ESTABLISHED]
    established = Established(53, 7, 0, 0, Detail(tuple(lost), len(lost) + 1), none, none, none, none)
    counted = census(by_destination=found, established=established)
    unanswered = [row for row in rows if row.state is TcpState.SYN_SENT]
    reuse = {"net.ipv4.tcp_tw_reuse": chance.choice((0, 1, 2))}
    return once(snapshot(unanswered, census=counted, sysctls=SYSCTLS | reuse))

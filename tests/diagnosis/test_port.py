"""The whole answer about a port, from evidence made by hand."""

import pytest

from tcpdoctor.diagnosis.custody import custody_of
from tcpdoctor.diagnosis.port import BindAnswer, Target, answer, with_probes
from tcpdoctor.diagnosis.port_advice import advise, conclude
from tcpdoctor.diagnosis.port_verdict import verdict, why
from tcpdoctor.kernel.addresses import LocalAddresses, LocalPrefix
from tcpdoctor.kernel.bind_rules import BindRules, Probe
from tcpdoctor.kernel.cgroups import place_of
from tcpdoctor.kernel.port_evidence import CONNECTION_STATES, PortEvidence
from tcpdoctor.kernel.processes import Lineage
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import (
    Connection,
    Detail,
    Endpoint,
    Held,
    Holder,
    Listener,
    NotHeld,
    Process,
    TcpBytes,
    TcpInfo,
)
from tcpdoctor.kernel.standing import Kin, Standing
from tcpdoctor.kernel.states import TcpState, Timer

PORT = 8080
NGINX = Holder(811, "nginx", 6, 33)
NO_INFO = Missing("no tcp_info")
INFO = TcpInfo(0.2, 0.001, 0, 0, 0, 0, 0, 1.0, 1.0, 1.0)
SETTINGS = {
    "net.ipv4.ip_local_port_range": (32768, 60999),
    "net.ipv4.ip_local_reserved_ports": ((41000, 41009),),
    "net.ipv4.tcp_fin_timeout": 60,
    "net.ipv4.tcp_orphan_retries": 0,
    "net.ipv4.tcp_rto_max_ms": 120_000,
}


def connection(state: TcpState, *, port: int = PORT, remote="10.0.0.7:51000", **changes) -> Connection:
    address, _, number = remote.rpartition(":")
    plain = Connection(
        state, 4, Endpoint("127.0.0.1", port), Endpoint(address, int(number)), 0, 1, 0, 0, Timer.NONE, 0.0,
        0, 0, 0, 1, None, NO_INFO, NotHeld(),
    )  # fmt: skip
    return plain._replace(**changes)


def time_wait(expires: float, **changes) -> Connection:
    return connection(TcpState.TIME_WAIT, timer=Timer.TIME_WAIT, expires=expires, **changes)


def held(state: TcpState, inode: int = 77, **changes) -> Connection:
    return connection(state, **{"inode": inode, "owner": Held((NGINX,)), **changes})


def listener(address="0.0.0.0", owner=None, **changes) -> Listener:
    family = 6 if ":" in address else 4
    plain = Listener(
        family, Endpoint(address, PORT), 0, 5, 55, 33, 0, 128, 0, 1, False if family == 6 else None,
        owner or Held((NGINX,)),
    )  # fmt: skip
    return plain._replace(**changes)


def evidence(*rows: Connection | Listener, **changes) -> PortEvidence:
    listeners = tuple(row for row in rows if isinstance(row, Listener))
    connections = [row for row in rows if isinstance(row, Connection)]
    local = {}
    for state in CONNECTION_STATES:
        mine = tuple(row for row in connections if row.state is state)
        local[state] = Detail(mine, len(mine))
    plain = PortEvidence(
        port=PORT,
        uid=0,
        listeners=listeners,
        listening=frozenset(row.local for row in listeners),
        local=local,
        remote={},
        options={},
        processes={},
        lineages={},
        rules=BindRules(
            LocalAddresses((LocalPrefix(0x7F000000, 8, False),), ()),
            False,
            False,
            False,
            1024,
            True,
            keeps_reuseaddr=False,
        ),
        sysctls=SETTINGS,
    )
    return plain._replace(**changes)


def explain(*rows: Connection | Listener, port: int = PORT, **changes) -> BindAnswer:
    return answer(Target(4, "0.0.0.0", 0, port), evidence(*rows, port=port, **changes))


def options(reuseaddr: bool, reuseport: bool = False) -> dict[str, object]:
    return {"SO_REUSEADDR": reuseaddr, "SO_REUSEPORT": reuseport, "IPV6_V6ONLY": Missing("IPv4")}


def test_of_several_causes_the_first_in_the_contracts_order_is_named_and_the_others_counted():
    found = explain(time_wait(3.0), held(TcpState.CLOSE_WAIT), listener(), time_wait(4.0))
    assert found.cause == "listener"
    assert found.by_cause == (("listener", 1), ("live-connections", 1), ("time-wait", 2))
    assert "nginx (pid 811) listens on 0.0.0.0:8080" in verdict(found)
    assert "one live connection and 2 TIME_WAIT connections besides" in verdict(found)


def test_where_not_every_process_was_read_somebody_else_may_hold_the_port():
    reason = "the time budget of 1 s for finding owners ran out after 23 of 97 processes"
    told = f"other processes may hold the port as well: {reason}"
    found = explain(listener(), unread=reason)
    concluded = conclude([found], found.evidence)
    assert concluded.doubts == (told,)
    assert f"Ask again afterwards: {told}." in concluded.advice.do
    free = explain(unread=reason)
    assert "Ask again" not in " ".join(conclude([free], free.evidence).advice.do)
    assert conclude([explain(listener())], evidence(listener())).doubts == ()


def test_the_port_is_free_when_the_last_blocker_has_gone():
    found = explain(time_wait(3.0), time_wait(41.3), time_wait(17.0))
    assert found.free_in == 41.3
    assert verdict(found).startswith(
        "TCP port 8080 cannot be bound for another 42 s: 3 TIME_WAIT connections"
    )


def test_a_blocker_that_stays_leaves_no_deadline():
    found = explain(time_wait(3.0), held(TcpState.FIN_WAIT_2))
    assert found.free_in is None
    assert found.blockers[0].state is TcpState.FIN_WAIT_2


def test_twenty_blockers_are_listed_the_longest_lived_first_and_all_are_counted():
    found = explain(*(time_wait(float(age)) for age in range(23)), held(TcpState.ESTABLISHED))
    assert found.blockers_total == 24
    assert len(found.blockers) == 20
    assert [b.row.expires for b in found.blockers[1:4]] == [22.0, 21.0, 20.0]


def test_a_sampled_state_is_counted_whole_and_leaves_doubt_where_nothing_blocks():
    rows = tuple(time_wait(5.0) for _ in range(7))
    local = dict(evidence().local) | {TcpState.TIME_WAIT: Detail(rows, 700)}
    found = explain(local=local)
    assert found.by_cause == (("time-wait", 700),)
    assert found.attempts[0].certain
    elsewhere = tuple(row._replace(local=Endpoint("10.0.0.1", PORT)) for row in rows)
    local[TcpState.TIME_WAIT] = Detail(elsewhere, 700)
    found = answer(Target(4, "127.0.0.1", 0, PORT), evidence(local=local))
    assert (found.attempts[0].bind, found.attempts[0].certain) == ("ok", False)
    assert "not certain" in verdict(found)


def test_a_kernel_that_lists_no_bound_sockets_leaves_a_free_port_uncertain():
    local = {state: detail for state, detail in evidence().local.items() if state is not TcpState.BOUND}
    found = explain(local=local, bound_seen=Missing("processes hide their descriptors"))
    assert [attempt.certain for attempt in found.attempts] == [False] * 4
    assert "bound" in found.unknowns[0]


def test_an_ipv6_leftover_that_may_let_ipv4_in_leaves_a_doubt_that_is_named():
    found = explain(
        listener("::1", v6only=True),
        time_wait(9.0, family=6, local=Endpoint("::1", PORT), remote="::1:51000"),
        options={55: {"SO_REUSEADDR": False, "SO_REUSEPORT": False, "IPV6_V6ONLY": True}},
    )
    assert (found.attempts[0].bind, found.attempts[0].certain) == ("ok", False)
    assert verdict(found).startswith(
        "TCP port 8080 looks free, but that is not certain: whether an IPv6 socket"
    )
    assert "IPV6_V6ONLY" in verdict(found)


def test_sockets_that_could_not_be_read_never_look_like_a_free_port():
    found = explain(local=Missing("sock_diag: refused"), listeners=Missing("sock_diag: refused"))
    assert not found.attempts[0].certain
    assert "sock_diag: refused" in verdict(found)


def test_leftovers_are_guessed_to_have_what_their_listener_has():
    found = explain(
        listener(),
        connection(TcpState.ESTABLISHED),
        options={55: options(reuseaddr=True, reuseport=True)},
        uid=33,
    )
    by_options = {attempt.options: attempt for attempt in found.attempts}
    assert by_options[("SO_REUSEPORT",)].bind == "EADDRINUSE", "its uid is 0, and it may be no minisocket"
    found = explain(
        listener(),
        time_wait(9.0),
        options={55: options(reuseaddr=True, reuseport=True)},
        uid=33,
    )
    shared = found.attempts[2]
    assert (shared.bind, shared.certain) == ("ok", False)


def test_a_live_socket_that_can_be_asked_leaves_no_doubt():
    found = explain(held(TcpState.CLOSE_WAIT), options={77: options(reuseaddr=True)})
    assert [(a.bind, a.certain) for a in found.attempts[:2]] == [("EADDRINUSE", True), ("ok", True)]
    assert "With SO_REUSEADDR it can be bound at once" in verdict(found)


def test_a_socket_that_may_not_be_asked_leaves_doubt_where_its_flags_matter():
    hidden = Missing("not permitted; run as root")
    row = held(TcpState.CLOSE_WAIT, owner=hidden)
    found = explain(row, options={77: hidden})
    assert [a.certain for a in found.attempts] == [True, False, False, False]
    assert "whose holder is hidden" in verdict(found)


def test_an_orphan_of_fin_wait_2_above_a_minute_is_followed_by_a_minisocket():
    orphan = connection(TcpState.FIN_WAIT_2, timer=Timer.KEEPALIVE, expires=20.0)
    found = explain(orphan, sysctls=SETTINGS | {"net.ipv4.tcp_fin_timeout": 90})
    assert found.cause == "fin-wait-2-orphan"
    assert found.free_in == 50.0


def test_an_orphan_that_still_sends_ends_by_its_retries():
    info = TcpInfo(0.408, 0.0001, 1, 0, 1, 1, 0, 0.1, 0.1, 0.1)
    orphan = connection(TcpState.LAST_ACK, timer=Timer.RETRANSMIT, expires=0.3, info=info)
    found = explain(orphan)
    assert found.cause == "live-connections"
    assert found.free_in is not None
    assert 90 < found.free_in < 110


@pytest.mark.parametrize(
    ("port", "remote", "reuseaddr", "cause"),
    [
        (40_000, "10.0.0.7:443", None, "outgoing-connection"),
        (40_000, "10.0.0.7:50051", False, "outgoing-connection"),
        (40_000, "10.0.0.7:50051", True, "live-connections"),
        (40_000, "10.0.0.7:50051", None, "live-connections"),
        (41_005, "10.0.0.7:443", None, "outgoing-connection"),  # reserved: a client bound it itself
        (8080, "10.0.0.7:443", None, "outgoing-connection"),
        (8080, "10.0.0.7:9443", None, "live-connections"),
        (443, "10.0.0.7:51000", None, "live-connections"),
        (443, "10.0.0.7:2001", None, "live-connections"),
    ],
)
def test_who_began_a_connection_is_told_by_ports_and_options(port, remote, reuseaddr, cause):
    asked = {} if reuseaddr is None else {77: options(reuseaddr)}
    found = explain(held(TcpState.ESTABLISHED, port=port, remote=remote), port=port, options=asked)
    assert found.cause == cause


@pytest.mark.parametrize(("acked", "cause"), [(1, "outgoing-connection"), (0, "live-connections")])
@pytest.mark.parametrize("remote", ["10.0.0.7:443", "10.0.0.7:2001", "10.0.0.7:51000"])
def test_what_the_kernel_counted_goes_before_what_ports_look_like(remote, acked, cause):
    info = INFO._replace(bytes=TcpBytes(acked, 0, 0, 0))
    row = held(TcpState.ESTABLISHED, port=50_051, remote=remote, info=info)
    assert explain(row, port=50_051).cause == cause


def test_leftovers_beside_connections_that_were_accepted_are_the_old_servers_too():
    info = INFO._replace(bytes=TcpBytes(0, 0, 0, 0))
    row = held(TcpState.CLOSE_WAIT, port=50_051, remote="10.0.0.7:2001", info=info)
    left = time_wait(9.0, port=50_051, remote="10.0.0.8:443")
    found = explain(row, left, port=50_051)
    assert dict(found.by_cause) == {"live-connections": 1, "time-wait": 1}


def test_of_a_leftover_whose_ports_tell_nothing_no_server_is_invented():
    sentence = verdict(explain(time_wait(9.0, port=5000, remote="10.0.0.8:2001"), port=5000))
    assert "one TIME_WAIT connection, which closed first, still holds it" in sentence


def test_a_closed_mptcp_connection_ends_a_minute_after_the_peers_last_word():
    info = INFO._replace(last_ack_recv=17.0)
    row = connection(TcpState.ESTABLISHED, inode=77, info=info, mptcp=True, owner=NotHeld())
    assert explain(row).free_in == 43.0
    assert explain(row._replace(owner=Held((NGINX,)))).free_in is None
    assert explain(row._replace(mptcp=False)).free_in is None


@pytest.mark.parametrize(
    ("timeout", "left", "passed", "end"),
    [
        (60, 29.0, 1.0, 59.0),  # TCP_LINGER2 90: thirty seconds twice
        (60, 40.0, 20.0, 40.0),  # the whole of tcp_fin_timeout, once
        (90, 29.0, 1.0, 59.0),  # tcp_fin_timeout 90
        (90, 59.0, 1.0, 119.0),  # TCP_LINGER2 120 above it
    ],
)
def test_a_whole_orphan_in_fin_wait_2_may_be_followed_by_as_long_a_minisocket(timeout, left, passed, end):
    info = INFO._replace(last_ack_recv=passed)
    row = connection(TcpState.FIN_WAIT_2, timer=Timer.KEEPALIVE, expires=left, info=info)
    settings = {**SETTINGS, "net.ipv4.tcp_fin_timeout": timeout}
    assert explain(row, sysctls=settings).free_in == end


def test_a_connection_to_a_listener_of_this_host_was_begun_here():
    row = held(TcpState.ESTABLISHED, remote="127.0.0.1:5432")
    found = explain(row, listening=frozenset({Endpoint("0.0.0.0", 5432)}))
    assert found.cause == "outgoing-connection"


def test_a_listener_of_systemd_is_a_socket_unit_and_pid_1_of_a_container_is_not():
    systemd = listener(owner=Held((Holder(1, "systemd", 40, 0), NGINX)))
    found = explain(systemd)
    assert "a systemd socket unit (pid 1 systemd) listens" in verdict(found)
    assert "systemctl stop NAME.socket" in advise(found).do[0]
    assert "nginx (pid 1) listens" in verdict(explain(listener(owner=Held((Holder(1, "nginx", 6, 0),)))))


def standing(cgroup: str, **changes) -> Standing:
    kin = Kin(811, "nginx", 1, 500.0, ("nginx: master process /usr/sbin/nginx",), 0, cgroup)
    return Standing(kin, 1_700_000_000.0, place_of(cgroup), unit_members=(kin,))._replace(**changes)


def test_the_unit_or_the_container_is_what_has_to_be_stopped():
    process = Process(811, "nginx", 33, 1, "/usr/sbin/nginx", "nginx", 9, 1024, "nginx.service", None)
    unit = standing("/system.slice/nginx.service")
    found = explain(listener(), processes={811: process}, standings={811: unit})
    assert "nginx (pid 811, nginx.service) listens" in verdict(found)
    assert "systemctl stop nginx.service" in advise(found).do[0]
    assert "since 2023-11-14 22:13 UTC, as nginx: master process /usr/sbin/nginx" in advise(found).do[0]
    box = standing(f"/docker/{'0123456789ab' + 'c' * 52}")
    found = explain(listener(), processes={811: process}, standings={811: box})
    assert "docker stop 0123456789ab" in advise(found).do[0]


def test_what_ends_with_the_holder_is_counted():
    others = held(TcpState.ESTABLISHED, owner=Held((Holder(99, "sleep", 3, 0),)))
    rows = [held(TcpState.ESTABLISHED, inode=number) for number in range(100, 237)]
    found = explain(listener(), connection(TcpState.ESTABLISHED), *rows, others)
    assert "That ends 138 connections" in advise(found).do[0], "137 accepted and one in the queue"


def lineage(**changes) -> Lineage:
    plain = Lineage(1, 500, 500, 1, close_on_exec=False, waits=("hrtimer_nanosleep",))
    return plain._replace(**changes)


@pytest.mark.parametrize(
    ("name", "traces", "heir"),
    [
        ("helper", lineage(), True),
        ("helper", lineage(close_on_exec=True), False),
        ("helper", lineage(waits=("ep_poll",)), False),
        ("helper", lineage(waits=("0",)), False),
        ("helper", lineage(waits=("futex_do_wait", "0")), False),  # a thread runs, for which others wait
        ("helper", lineage(waits=Missing("hidden")), False),
        ("helper", lineage(session=900), False),  # leads its own session: a daemon
        ("helper", lineage(parent=300, parent_session=500), False),  # its parent lives
        ("helper", lineage(parent=300, parent_session=2), True),  # a subreaper has it
        ("helper", lineage(parent_session=500), False),  # process 1 is the script that began it
        ("helper", lineage(parent_session=Missing("hidden")), True),
        ("sleep", lineage(session=900), True),
        ("sleep", lineage(close_on_exec=True), False),
        ("helper", Missing("hidden"), False),
    ],
)
def test_an_heir_is_told_by_its_traces(name, traces, heir):
    holder = Holder(900, name, 3, 0)
    row = listener(owner=Held((holder,)))
    assert custody_of(row, evidence(row, lineages={holder: traces})).inherited is heir


def test_a_listener_that_its_server_still_holds_is_not_inherited():
    child, server = Holder(900, "sleep", 3, 0), Holder(811, "nginx", 6, 33)
    row = listener(owner=Held((server, child)))
    traces = {child: lineage(), server: lineage(close_on_exec=True)}
    assert not custody_of(row, evidence(row, lineages=traces)).inherited


def test_what_the_kernel_said_replaces_the_prediction_and_its_cause():
    found = explain(time_wait(9.0))
    free = with_probes(found, [Probe("ok", None)] * 4)
    assert (free.cause, free.free_in) == (None, None)
    assert [(a.bind, a.listen, a.certain, a.probed) for a in free.attempts] == [("ok", "ok", True, True)] * 4
    refused = with_probes(explain(), [Probe("EACCES", None)] * 4)
    assert refused.cause is None
    assert "EACCES" in verdict(refused)
    kept = with_probes(found, [Missing("no socket")] * 4)
    assert kept == found


def test_a_privileged_port_is_explained_to_the_user_who_lacks_the_privilege():
    rules = evidence().rules._replace(privileged=False)
    found = explain(port=80, rules=rules, uid=1000)
    assert (found.cause, found.attempts[0].bind) == ("privileged-port", "EACCES")
    assert verdict(found).startswith("TCP port 80 cannot be bound by uid 1000")
    assert "ip_unprivileged_port_start=80" in advise(found).do[1]


def test_a_free_port_in_the_ephemeral_range_comes_with_a_remark_unless_it_is_reserved():
    assert "ip_local_reserved_ports" in advise(explain(port=40_000)).do[0]
    assert advise(explain(port=41_000)).do == ()


def explain_at(address: str, *rows: Connection | Listener, **changes) -> BindAnswer:
    return answer(Target(6 if ":" in address else 4, address, 0, PORT), evidence(*rows, **changes))


def test_a_listener_on_all_ipv6_addresses_is_dual_stack_only_to_who_wants_ipv4():
    assert explain_at("0.0.0.0", listener("::")).cause == "dual-stack-listener"
    assert explain_at("127.0.0.1", listener("::")).cause == "dual-stack-listener"
    wanted = explain_at("::", listener("::"))
    assert wanted.cause == "listener"
    assert not any("IPV6_V6ONLY" in advice for advice in advise(wanted).do), "it would not help here"


@pytest.mark.parametrize("leftover", [time_wait(41.0), connection(TcpState.FIN_WAIT_2, expires=9.0)])
def test_what_a_client_left_behind_is_not_called_the_previous_servers(leftover):
    row = leftover._replace(local=Endpoint("127.0.0.1", 40_000), remote=Endpoint("10.0.0.7", 443))
    found = explain(row, port=40_000)
    assert "of a client here" in verdict(found)
    assert "previous server" not in verdict(found)
    assert any("ip_local_reserved_ports" in advice for advice in advise(found).do)
    assert not any("old server" in advice for advice in advise(found).do)


def test_a_client_that_bound_its_port_is_not_said_to_have_been_given_it():
    row = held(TcpState.SYN_SENT)
    found = explain(row)
    assert found.cause == "outgoing-connection"
    assert "has it as its own port" in verdict(found)
    assert "was given" not in why(found.blockers[0], found.evidence)
    assert "ip_local_reserved_ports" in advise(found).avoid[0], "bind() does not heed it"


def test_process_1_that_is_not_systemd_may_be_a_socket_unit_and_is_not_to_be_killed():
    found = explain(listener(owner=Held((Holder(1, "runit", 3, 0), Holder(77, "httpd", 3, 0)))))
    assert "socket unit" in verdict(found)
    assert not any("kill" in advice for advice in advise(found).do)


def test_all_who_share_a_listener_have_to_end():
    found = explain(listener(owner=Held((NGINX, Holder(812, "nginx", 6, 33), Holder(813, "nginx", 6, 33)))))
    assert (
        "(`kill 811`). 2 other processes share the socket (pids 812, 813) and have to end too"
        in advise(found).do[0]
    )


def test_only_a_privileged_port_is_a_matter_of_the_user():
    foreign = answer(Target(4, "192.0.2.1", 0, PORT), evidence())
    assert "by uid" not in verdict(foreign)

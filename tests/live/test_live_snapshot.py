"""Whole looks at real namespaces: what is in them, what is left out, and what they leave behind."""

import contextlib
import ctypes
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tcpdoctor.kernel import live
from tcpdoctor.kernel.cgroups import find_cgroup_paths
from tcpdoctor.kernel.counters import read_counters, read_sockstat
from tcpdoctor.kernel.live import DETAILED_STATES, EARLIER_STATES, take_samples, take_snapshot
from tcpdoctor.kernel.namespaces import network_namespace, read_identity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Detail, Held, NotHeld
from tcpdoctor.kernel.sockets import read_connections
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.sysctl import (
    MACHINE_WIDE,
    WANTED,
    is_machine_wide,
    read_sysctl,
    read_sysctls,
    sysctl_names,
)
from tcpdoctor.lab.namespace import write_sysctl

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
NOT_LOOKED_UP = Missing("owner was not looked up")


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


@contextlib.contextmanager
def close_wait(number, port=8080):
    """Hold `number` sockets in CLOSE_WAIT, their peers orphans in FIN_WAIT_2."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=number))
        for _ in range(number):
            client = socket.create_connection(("127.0.0.1", port))
            stack.enter_context(server.accept()[0])
            client.close()
        states = TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2
        until(lambda: {rows.total for rows in read_connections(states).values()} == {number})
        yield server


@pytest.mark.parametrize("number", [0, 1, 37])
def test_bound_sockets_are_known_one_by_one_with_the_census_and_without(in_namespace, number):
    def look():
        with contextlib.ExitStack() as stack:
            for _ in range(number):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", 0))
            return take_snapshot(), take_snapshot(census=False)

    counted, uncounted = in_namespace(look)
    if isinstance(counted.census.bound, Missing):
        pytest.skip("this kernel lacks the listing of bound sockets")
    assert counted.census.bound == number
    for snapshot in (counted, uncounted):
        bound = snapshot.detail[TcpState.BOUND]
        assert (len(bound.connections), bound.total) == (number, number)


def test_an_idle_namespace(in_namespace):
    def look():
        return take_snapshot(), os.uname(), os.geteuid(), network_namespace()

    snapshot, system, euid, namespace = in_namespace(look)
    assert (snapshot.host, snapshot.kernel) == (system.nodename, system.release)
    assert (snapshot.namespace, snapshot.namespace_name, snapshot.euid) == (namespace, None, euid)
    assert snapshot.initial_namespace is False
    assert snapshot.listeners == ()
    assert set(snapshot.detail) | {TcpState.BOUND} == set(DETAILED_STATES)
    assert snapshot.processes == {}
    assert snapshot.counters["Tcp.RetransSegs"] == 0
    assert snapshot.sockstat["TCP.inuse"] == 0
    assert snapshot.page_size == os.sysconf("SC_PAGE_SIZE")
    assert abs(snapshot.taken_at - time.time()) < 60
    for name in ("net.ipv4.tcp_mem", "net.ipv4.tcp_max_orphans", "net.core.netdev_max_backlog"):
        assert snapshot.sysctls[name] == Missing(f"{name} exists in the initial network namespace only")


def test_the_owner_of_leaking_sockets_is_known_with_his_limits(in_namespace):
    def look():
        with close_wait(23):
            return take_snapshot(), os.getpid(), len(os.listdir("/proc/self/fd")) - 1

    snapshot, pid, descriptors = in_namespace(look)
    rows = snapshot.detail[TcpState.CLOSE_WAIT].connections
    assert len(rows) == 23
    assert {row.owner.holders[0].pid for row in rows} == {pid}
    assert len({row.owner.holders[0].fd for row in rows}) == 23
    assert snapshot.processes[pid].descriptors == descriptors
    assert snapshot.processes[pid].descriptor_limit > descriptors
    assert {row.owner for row in snapshot.detail[TcpState.FIN_WAIT_2].connections} == {NotHeld()}
    assert snapshot.census.by_state[TcpState.CLOSE_WAIT] == 23


def test_only_listeners_of_interest_are_looked_up(in_namespace):
    def look():
        write_sysctl("net.ipv4.ip_local_port_range", "40000 40100")
        with contextlib.ExitStack() as stack:
            for port in (80, 81, 40007):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            stack.enter_context(socket.create_connection(("127.0.0.1", 81)))
            until(lambda: any(row.accept_queue for row in take_snapshot(owners=False).listeners))
            return take_snapshot(), take_snapshot(every_listener=True), os.getpid()

    some, every, pid = in_namespace(look)
    owners = {row.local.port: row.owner for row in some.listeners}
    assert owners[80] == NOT_LOOKED_UP
    assert [owners[port].holders[0].pid for port in (81, 40007)] == [pid, pid]
    assert {row.owner.holders[0].pid for row in every.listeners} == {pid}
    assert set(every.processes) == {pid}


def test_a_listener_with_connections_closed_before_accept_is_of_interest(in_namespace):
    def look():
        with socket.create_server(("127.0.0.1", 80)):
            socket.create_connection(("127.0.0.1", 80)).close()
            until(lambda: read_connections([TcpState.CLOSE_WAIT])[TcpState.CLOSE_WAIT].total == 1)
            return take_snapshot()

    snapshot = in_namespace(look)
    assert isinstance(snapshot.listeners[0].owner, Held)
    assert snapshot.detail[TcpState.CLOSE_WAIT].connections[0].owner == NotHeld()


def test_established_sockets_alone_start_no_search(in_namespace):
    def look():
        with (
            socket.create_server(("127.0.0.1", 80)) as server,
            socket.create_connection(("127.0.0.1", 80)),
            server.accept()[0],
        ):
            return take_snapshot()

    snapshot = in_namespace(look)
    assert snapshot.listeners[0].owner == NOT_LOOKED_UP
    assert snapshot.processes == {}
    assert snapshot.census.by_state[TcpState.ESTABLISHED] == 2


def test_a_look_without_owners_and_census(in_namespace):
    def look():
        with close_wait(3):
            return take_snapshot(owners=False, census=False)

    snapshot = in_namespace(look)
    assert {row.owner for row in snapshot.detail[TcpState.CLOSE_WAIT].connections} == {NOT_LOOKED_UP}
    assert isinstance(snapshot.census, Missing)


def test_past_the_time_budget_owners_are_missing_and_the_rest_is_there(in_namespace):
    def look():
        with close_wait(3):
            return take_snapshot(owner_seconds=0)

    snapshot = in_namespace(look)
    for row in snapshot.detail[TcpState.CLOSE_WAIT].connections:
        assert "time budget of 0 s" in row.owner.reason
    assert snapshot.census.by_state[TcpState.CLOSE_WAIT] == 3
    assert snapshot.processes == {}


def test_two_looks_are_the_window_apart_and_count_what_happened_between(in_namespace):
    def look():
        refused = threading.Timer(0.1, refuse)
        refused.start()
        return take_samples(0.5)

    def refuse():
        for _ in range(23):
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", 9)).close()

    before, after = in_namespace(look)
    assert 0.5 <= after.clock - before.clock < 13, "a slow machine looks for long itself"
    assert after.counters["Tcp.AttemptFails"] - before.counters["Tcp.AttemptFails"] == 23
    assert set(before.detail) == set(EARLIER_STATES)
    assert before.sysctls == {}
    assert isinstance(before.census, Missing)


def test_the_first_look_finds_sockets_that_wait_for_close(in_namespace):
    def look():
        with close_wait(23):
            return take_samples(0.1)

    before, after = in_namespace(look)
    for state in (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2):
        cookies = [{row.cookie for row in look.detail[state].connections} for look in (before, after)]
        assert len(cookies[0]) == 23
        assert cookies[0] == cookies[1]


def test_a_state_may_have_a_bound_of_its_own(in_namespace):
    def look():
        with close_wait(23):
            return read_connections(
                [TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2], bound={TcpState.CLOSE_WAIT: 7}
            )

    detail = in_namespace(look)
    sizes = {state: (len(rows.connections), rows.total) for state, rows in detail.items()}
    assert sizes == {TcpState.CLOSE_WAIT: (7, 23), TcpState.FIN_WAIT_2: (23, 23)}


def test_without_a_window_there_is_one_look(in_namespace):
    assert in_namespace(lambda: take_samples(0).before) is None


def test_a_socket_closed_while_its_owner_was_searched_is_not_called_unheld(in_namespace):
    def look():
        with close_wait(5):
            detail = read_connections([TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2])
        inodes = {row.inode for row in detail[TcpState.CLOSE_WAIT].connections}
        return live._still_there(detail, inodes), len(inodes)

    detail, inodes = in_namespace(look)
    assert inodes == 5
    assert detail[TcpState.CLOSE_WAIT] == Detail((), 0)
    assert detail[TcpState.FIN_WAIT_2].total == 5, "states without such sockets stay as they were seen"


def test_an_owned_fin_wait_2_that_became_an_orphan_is_one(in_namespace):
    def look():
        write_sysctl("net.ipv4.tcp_fin_timeout", 120)  # above 60 s the orphan stays a full socket at first
        with socket.create_server(("127.0.0.1", 80)) as server:
            client = socket.create_connection(("127.0.0.1", 80))
            with server.accept()[0]:
                client.shutdown(socket.SHUT_WR)
                until(lambda: read_connections([TcpState.FIN_WAIT_2])[TcpState.FIN_WAIT_2].total == 1)
                detail = read_connections([TcpState.FIN_WAIT_2])
                client.close()
                inode = detail[TcpState.FIN_WAIT_2].connections[0].inode
                return inode, live._still_there(detail, {inode})

    inode, detail = in_namespace(look)
    (row,) = detail[TcpState.FIN_WAIT_2].connections
    assert inode != 0
    assert (row.inode, row.owner) == (0, NotHeld())


def test_a_look_leaves_no_descriptor_and_changes_no_setting(in_namespace):
    def look():
        take_snapshot()
        before = sorted(os.listdir("/proc/self/fd")), settings()
        with close_wait(3):
            take_samples(0.01)
        until(lambda: not read_connections([TcpState.CLOSE_WAIT])[TcpState.CLOSE_WAIT].total)
        return before, (sorted(os.listdir("/proc/self/fd")), settings())

    def settings():
        return {name: value for name, value in read_sysctls().items() if name.startswith("net.")}

    before, after = in_namespace(look)
    assert before == after


@as_root
def test_an_ordinary_user_sees_all_sockets_and_is_told_whose_are_hidden(in_namespace):
    def look():
        with close_wait(7):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.closerange(3, writer)  # the inherited sockets, which it would hold itself
                os.closerange(writer + 1, 1_024)
                os.setgroups([])
                os.setuid(1234)
                snapshot = take_snapshot()
                rows = snapshot.detail[TcpState.CLOSE_WAIT].connections
                reasons = {row.owner.reason for row in rows}
                missing = {name for name, value in snapshot.sysctls.items() if isinstance(value, Missing)}
                missing = {name for name in missing if os.path.exists("/proc/sys/" + name.replace(".", "/"))}
                answer = len(rows), reasons, missing, snapshot.census.by_state[TcpState.CLOSE_WAIT]
                os.write(writer, repr(answer).encode())
                os._exit(0)
            os.close(writer)
            os.waitpid(child, 0)
            with os.fdopen(reader) as stream:
                return stream.read()

    rows, reasons, missing, counted = eval(in_namespace(look))  # noqa: S307 - repr of our own child
    assert (rows, counted) == (7, 7)
    (reason,) = reasons
    assert all(word in reason for word in ("run as root", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"))
    assert missing <= MACHINE_WIDE | {"net.ipv4.tcp_fastopen_key", "net.ipv6.bindv6only"}


def settings_of_the_network():
    """Places below /proc/sys of what is no interface's."""
    found = {
        str(path.relative_to("/proc/sys")) for path in Path("/proc/sys/net").rglob("*") if path.is_file()
    }
    return {path for path in found if not re.search("/(?:conf|neigh)/(?!all/|default/)", path)}


OF_EACH_NAMESPACE_LATER = {
    *(f"net/core/{name}" for name in ("optmem_max", "tstamp_allow_data")),
    *(f"net/core/{side}mem_{which}" for side in "rw" for which in ("default", "max")),
    *(f"net/ipv4/icmp_msgs_{name}" for name in ("burst", "per_sec")),
    *(f"net/ipv4/route/{name}" for name in ("min_adv_mss", "min_pmtu", "mtu_expires")),
}
"""What Linux 5.10, 6.1 or 6.12 keep to the machine, and a later kernel gives to each network namespace."""


def test_settings_of_the_machine_are_those_that_a_fresh_namespace_lacks(in_namespace, hosts_network):
    inside = in_namespace(settings_of_the_network)
    assert [path for path in sorted(inside) if is_machine_wide(path)] == []
    lacking = settings_of_the_network() - inside  # none, where this is no initial namespace itself
    lacking -= OF_EACH_NAMESPACE_LATER
    assert [path for path in sorted(lacking) if not is_machine_wide(path)] == []


def test_a_thread_in_another_namespace_reads_its_own_files(in_namespace):
    def look():
        found = []

        def move():
            assert ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET, for this thread only
            found.append(
                (
                    network_namespace(),
                    read_counters().counters["Tcp.ActiveOpens"],
                    read_sockstat()["TCP.inuse"],
                )
            )
            found.append(read_sysctl("net.ipv4.tcp_fin_timeout"))

        write_sysctl("net.ipv4.tcp_fin_timeout", 17)
        with (
            socket.create_server(("127.0.0.1", 80)),
            socket.create_connection(("127.0.0.1", 80)),
        ):
            thread = threading.Thread(target=move)
            thread.start()
            thread.join()
            here = (
                network_namespace(),
                read_counters().counters["Tcp.ActiveOpens"],
                read_sockstat()["TCP.inuse"],
            )
        return here, *found

    here, there, fin_timeout = in_namespace(look)
    assert here[1:] == (1, 3)
    assert there[0] != here[0]
    assert there[1:] == (0, 0)
    assert fin_timeout == 60


def test_counters_agree_with_nstat(in_namespace, tmp_path):
    def look():
        with socket.create_server(("127.0.0.1", 80)) as server:
            for _ in range(23):
                socket.create_connection(("127.0.0.1", 80)).close()
                server.accept()[0].close()
        until(lambda: read_counters() == read_counters())
        # -s and a history of its own: otherwise it leaves a file in /tmp
        command, history = ["nstat", "-azs"], {**os.environ, "NSTAT_HISTORY": str(tmp_path / "history")}
        table = subprocess.run(
            command, env=history, capture_output=True, text=True, check=True, timeout=120
        ).stdout
        return read_counters().counters, table

    counters, table = in_namespace(look)
    theirs = {line.split()[0]: int(line.split()[1]) for line in table.splitlines() if line[:1].isalpha()}
    ours = {name.replace(".", ""): value for name, value in counters.items()}
    assert counters["Tcp.ActiveOpens"] == 23
    assert set(theirs) <= set(ours)
    assert {name: ours[name] for name in theirs} == theirs


def test_every_tcp_setting_of_this_kernel_is_typed(in_namespace):
    values = in_namespace(read_sysctls)
    present = {entry for entry in os.listdir("/proc/sys/net/ipv4") if entry.startswith("tcp_")}
    assert {f"net.ipv4.{entry}" for entry in present} <= set(sysctl_names())
    assert set(WANTED) <= set(values)
    texts = {name for name, value in values.items() if isinstance(value, str)}
    assert texts <= {
        "net.ipv4.tcp_congestion_control",
        "net.ipv4.tcp_available_congestion_control",
        "net.ipv4.tcp_allowed_congestion_control",
        "net.ipv4.tcp_available_ulp",
    }
    for name, value in values.items():
        if isinstance(value, int):
            assert str(value) == Path("/proc/sys", *name.split(".")).read_text().strip() or name.startswith(
                "net."
            )


def test_a_long_list_of_reserved_ports_is_read_whole(in_namespace):
    """The kernel takes at most a page at a time and gives what fits into the first read."""
    ports = range(20_000, 32_000, 2)

    def look():
        target = os.open("/proc/sys/net/ipv4/ip_local_reserved_ports", os.O_WRONLY)
        for at in range(0, len(ports), 500):
            os.write(target, ",".join(map(str, ports[at : at + 500])).encode() + b"\n")
        os.close(target)
        return read_sysctl("net.ipv4.ip_local_reserved_ports")

    assert in_namespace(look) == tuple((port, port) for port in ports)


def test_the_identity_is_that_of_the_machine_outside(hosts_network):
    identity = read_identity()
    assert f"net:[{identity.namespace}]" == os.readlink("/proc/thread-self/ns/net")
    assert identity.initial_namespace is os.path.exists("/proc/sys/net/ipv4/tcp_mem")


def test_the_cgroup_id_of_a_socket_leads_to_the_group_of_its_maker(in_namespace):
    def look():
        with socket.create_server(("127.0.0.1", 80)):
            return take_snapshot().listeners[0].cgroup

    (line,) = [line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    group = in_namespace(look)
    paths = {} if isinstance(group, Missing) else find_cgroup_paths([group])
    if not paths:
        pytest.skip("cgroup2 is not mounted, or sockets do not tell their group")
    assert paths == {group: line.removeprefix("0::")}

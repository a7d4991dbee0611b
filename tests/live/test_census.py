"""Real sockets: three ways that agree with each other, with ss and with what was made."""

import contextlib
import ctypes
import os
import socket
import threading
from collections import Counter

import pytest

from tcpdoctor.kernel import listing, sock_diag, sockets
from tcpdoctor.kernel import listing as bound_support
from tcpdoctor.kernel.listing import WAYS, Way
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Destination, DestinationUse, Listener, NotHeld
from tcpdoctor.kernel.sock_diag import Dump, Request
from tcpdoctor.kernel.sockets import count_states, read_connections, read_listeners, take_census
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tests.live import crowd
from tests.live.refusal import needs_known_machine, refuse_netlink

EPHEMERAL = (32768, 60999)
NETLINK = (Way.BOTH_FAMILIES, Way.BY_FAMILY)
LASTING = tuple(state for state in COUNTED_STATES if state is not TcpState.LISTEN)
CLONE_NEWNET = 0x40000000
UNTOLD = Missing(
    "netlink gave no answer (refused by a sandbox, or no tcp_diag), and /proc/net/tcp does not tell it"
)
LISTS_BOUND = bound_support.lists_bound_sockets()
needs_bound = pytest.mark.skipif(not LISTS_BOUND, reason="this kernel lacks the listing of bound sockets")


def listening_ports():
    return [row.local.port for row in read_listeners()]


def count_zoo_every_way():
    expected = crowd.zoo()
    counts = {way: count_states(ways=(way,)) for way in WAYS}
    censuses = {way: take_census(EPHEMERAL, listening_ports(), ways=(way,)) for way in WAYS}
    return expected, counts, censuses, crowd.ss_counts()


def test_every_way_counts_what_was_made_and_what_ss_sees(in_namespace):
    expected, counts, censuses, from_ss = in_namespace(count_zoo_every_way)
    bound = expected.pop(TcpState.BOUND)
    assert from_ss == expected
    for way in WAYS:
        for found in (counts[way], censuses[way]):
            assert +Counter(found.by_state) == expected, way
            assert found.complete is True
            assert found.source == way.source
            if way is Way.PROC or not LISTS_BOUND:
                assert isinstance(found.bound, Missing)
            else:
                assert found.bound == bound
    assert list(counts[Way.BOTH_FAMILIES].readings()) == list(COUNTED_STATES)
    assert censuses[Way.BOTH_FAMILIES][:5] == censuses[Way.BY_FAMILY][:5]


def test_every_way_groups_alike(in_namespace):
    _, _, censuses, _ = in_namespace(count_zoo_every_way)
    ours = censuses[Way.BOTH_FAMILIES]
    without_bound = {key: count for key, count in ours.by_port.items() if key[0] is not TcpState.BOUND}
    assert censuses[Way.PROC].by_port == without_bound
    assert censuses[Way.PROC].by_destination == ours.by_destination
    assert censuses[Way.PROC].unlisted == ours.unlisted == 0


def those_that_wait_by_way():
    """Seven clients in each family: two are accepted, and one that waits has sent something."""
    found = {}
    with contextlib.ExitStack() as stack:
        for address in ("127.0.0.1", "::1"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            server = stack.enter_context(socket.create_server((address, 7001), family=family, backlog=13))
            clients = [stack.enter_context(socket.create_connection((address, 7001))) for _ in range(7)]
            for _ in range(2):
                stack.enter_context(server.accept()[0])
            clients[-1].sendall(b"GET /")
        for way in WAYS:
            for waiting in (False, True):
                census = take_census(EPHEMERAL, [7001], established=True, waiting=waiting, ways=(way,))
                found[way, waiting] = census.established.unread
    return found


def test_every_way_finds_those_that_wait_to_be_accepted_where_it_is_asked_to(in_namespace):
    found = in_namespace(those_that_wait_by_way)
    for way in WAYS:
        assert [row.receive_queue for row in found[way, False].connections] == [5, 5]
        waiting = [(row.inode, row.local.port) for row in found[way, True].connections]
        assert waiting == [(0, 7001)] * 10, way
        assert sorted(row.receive_queue for row in found[way, True].connections) == [0] * 8 + [5, 5]


def take_census_of_three_servers():
    servers = crowd.serve(), crowd.serve("::1"), crowd.serve("::", reach="::ffff:127.0.0.1")
    for server in servers:
        crowd.connect(server, 5)
        crowd.finish(server, 11)
    crowd.bind(7)
    return [server.port for server in servers], take_census(EPHEMERAL, listening_ports())


def test_destinations_are_counted_with_their_time_wait_share_and_mapped_addresses_as_ipv4(in_namespace):
    (four, six, mapped), census = in_namespace(take_census_of_three_servers)
    use = DestinationUse(16, 11, 0)
    assert census.by_destination == {
        Destination("127.0.0.1", "127.0.0.1", four): use,
        Destination("::1", "::1", six): use,
        Destination("127.0.0.1", "127.0.0.1", mapped): use,
    }
    assert census.by_port[TcpState.TIME_WAIT, 0] == 33
    assert census.by_port[TcpState.ESTABLISHED, 0] == 15
    assert census.by_port[TcpState.ESTABLISHED, four] == 5
    assert census.by_port[TcpState.LISTEN, four] == 1
    assert census.by_port.get((TcpState.BOUND, 0), 0) == (7 if LISTS_BOUND else 0)


def take_census_without_a_range():
    crowd.connect(crowd.serve(), 3)
    return take_census(Missing("hidden"), [])


def test_without_the_port_range_the_census_says_that_destinations_are_not_counted(in_namespace):
    census = in_namespace(take_census_without_a_range)
    assert census.by_destination == {}
    assert census.complete == Missing("destinations were not counted: hidden")
    assert census.by_state[TcpState.ESTABLISHED] == 6


def read_zoo_every_way():
    expected = crowd.zoo()
    return expected, {way: read_connections(LASTING, ways=(way,)) for way in WAYS}


def essence(row):
    """What every way tells of a socket, without what moves while it is read."""
    return (row.state, row.family, row.local, row.remote, row.inode, row.uid, row.timer, row.owner)


def test_every_way_tells_the_same_of_each_socket(in_namespace):
    expected, details = in_namespace(read_zoo_every_way)
    for way in WAYS:
        for state in LASTING:
            if state is TcpState.BOUND and (way is Way.PROC or not LISTS_BOUND):
                assert state not in details[way]
                continue
            found = details[way][state]
            assert found.total == len(found.connections) == expected.get(state, 0), (way, state)
            reference = details[Way.BOTH_FAMILIES][state].connections
            assert Counter(map(essence, found.connections)) == Counter(map(essence, reference))


def test_detail_tells_minisockets_from_sockets_that_a_process_holds(in_namespace):
    _, details = in_namespace(read_zoo_every_way)
    for way in WAYS:
        halves = details[way][TcpState.FIN_WAIT_2].connections
        assert Counter(row.minisocket for row in halves) == {True: 21, False: 9}
        assert all((row.inode == 0) == row.minisocket == (row.owner == NotHeld()) for row in halves)
        assert all(isinstance(row.info, Missing) for row in halves if row.minisocket)
    held = [row for row in details[Way.BOTH_FAMILIES][TcpState.FIN_WAIT_2].connections if row.inode]
    assert all(row.info.last_ack_recv < 10 for row in held)
    assert len({row.cookie for row in held}) == 9


def read_listeners_every_way():
    server = crowd.serve("::1", backlog=11)
    crowd.serve()
    for _ in range(3):
        crowd.HELD.append(socket.create_connection((server.address, server.port)))
    crowd.wait_until(lambda: any(row.accept_queue == 3 for row in read_listeners()))
    everything = {way: read_listeners(ways=(way,)) for way in WAYS}
    return server.port, everything, {way: read_listeners(local_port=server.port, ways=(way,)) for way in WAYS}


def test_listeners_have_their_queue_and_limit_where_the_way_tells_them(in_namespace):
    port, everything, on_one_port = in_namespace(read_listeners_every_way)
    for way in WAYS:
        assert len(everything[way]) == 2
        (found,) = on_one_port[way]
        assert isinstance(found, Listener)
        assert (found.local.port, found.local.address, found.accept_queue) == (port, "::1", 3)
        assert found.accept_limit == (UNTOLD if way is Way.PROC else 11)
        assert found.drops == (UNTOLD if way is Way.PROC else 0)
        assert found.v6only is (None if way is Way.PROC else True)


def read_one_port_every_way():
    server = crowd.serve()
    crowd.half_close(server, 3)
    crowd.finish(server, 5)
    other = crowd.serve()
    crowd.connect(other, 23)
    bound = crowd.bind(7)
    as_local = {way: read_connections(LASTING, local_port=server.port, ways=(way,)) for way in WAYS}
    as_remote = {way: read_connections(LASTING, remote_port=server.port, ways=(way,)) for way in WAYS}
    merely_bound = {way: read_connections(LASTING, local_port=bound[3], ways=(way,)) for way in NETLINK}
    sent = Counter()
    for request in (Request(0x3F7E, local_port=server.port), Request(0x3F7E, local_port=bound[3])):
        for rows in Dump(request):
            sent[request.local_port] += len(rows.offsets) or rows.end // rows.stride
    return server.port, bound[3], as_local, as_remote, merely_bound, sent


def totals(details):
    return {state: found.total for state, found in details.items() if found.total}


def test_one_port_is_read_in_every_state_and_the_kernel_filters(in_namespace):
    port, bound, as_local, as_remote, merely_bound, sent = in_namespace(read_one_port_every_way)
    for way in WAYS:
        assert totals(as_local[way]) == {TcpState.CLOSE_WAIT: 3}
        assert totals(as_remote[way]) == {TcpState.FIN_WAIT_2: 3, TcpState.TIME_WAIT: 5}
    for way in NETLINK:
        assert totals(merely_bound[way]) == ({TcpState.BOUND: 1} if LISTS_BOUND else {})
    assert +sent == Counter({port: 4, bound: int(LISTS_BOUND)}) + Counter()  # 4: with the listener


def read_a_port_without_filter_programs():
    sock_diag._LOCAL_PORT_IS = 200  # an operation that no kernel knows: it refuses the program
    server = crowd.serve()
    crowd.half_close(server, 3)
    crowd.connect(crowd.serve(), 5)
    ports = crowd.bind(7)
    with contextlib.suppress(sock_diag.DumpRefusedError):
        list(Dump(Request(0x3F7E, local_port=ports[0])))
        return None
    return (
        {way: read_connections(LASTING, local_port=server.port, ways=(way,)) for way in NETLINK},
        {way: read_connections(LASTING, local_port=ports[0], ways=(way,)) for way in NETLINK},
    )


def test_a_kernel_that_refuses_filter_programs_is_asked_without(in_namespace):
    connected, merely_bound = in_namespace(read_a_port_without_filter_programs)
    for way in NETLINK:
        assert totals(connected[way]) == {TcpState.CLOSE_WAIT: 3}
        assert totals(merely_bound[way]) == ({TcpState.BOUND: 1} if LISTS_BOUND else {})


def read_only_minisockets():
    server = crowd.serve()
    crowd.connect(server, 5)
    crowd.abandon(server, 7)
    crowd.finish(server, 11)
    crowd.wait_until(lambda: crowd.ss_counts()[TcpState.FIN_WAIT_2] == 7)
    mask = 1 << TcpState.FIN_WAIT_2 | 1 << TcpState.TIME_WAIT
    lengths = set()
    for rows in Dump(Request(mask)):
        lengths.add(rows.stride)
    return lengths, read_connections([TcpState.FIN_WAIT_2, TcpState.TIME_WAIT])


def test_a_mask_of_minisockets_lists_them_and_nothing_else(in_namespace):
    lengths, details = in_namespace(read_only_minisockets)
    assert len(lengths) == 1  # all alike
    assert lengths != {0}
    assert totals(details) == {TcpState.FIN_WAIT_2: 7, TcpState.TIME_WAIT: 11}
    assert all(row.minisocket for found in details.values() for row in found.connections)


def read_beyond_the_bound():
    crowd.half_close(crowd.serve(), 101)
    return {way: read_connections([TcpState.CLOSE_WAIT], bound=11, ways=(way,)) for way in WAYS}


def test_beyond_the_bound_there_is_a_sample_and_the_true_total(in_namespace):
    for details in in_namespace(read_beyond_the_bound).values():
        found = details[TcpState.CLOSE_WAIT]
        assert found.total == 101
        assert len({row.remote.port for row in found.connections}) == 11
        assert all(isinstance(row, Connection) for row in found.connections)


def half_of_a_full_sample(connections):
    sockets.DETAIL_BOUND = 11
    crowd.half_close(crowd.serve(), connections)
    detail = read_connections([TcpState.CLOSE_WAIT], bound={})
    return len(detail[TcpState.CLOSE_WAIT].connections), detail[TcpState.CLOSE_WAIT].total


@pytest.mark.parametrize(("connections", "known"), [(11, 11), (23, 5)])
def test_of_more_than_can_be_known_half_as_many_are(connections, known, in_namespace):
    assert in_namespace(half_of_a_full_sample, connections) == (known, connections)


def count_as_nobody():
    crowd.connect(crowd.serve(), 5)
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
    return count_states(), read_connections([TcpState.ESTABLISHED]), read_listeners()


def test_an_ordinary_user_sees_every_socket(in_namespace):
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    counts, details, listeners = in_namespace(count_as_nobody)
    assert counts.by_state[TcpState.ESTABLISHED] == 10
    found = details[TcpState.ESTABLISHED].connections
    assert all(row.info.rto > 0 and row.cgroup > 0 and row.inode for row in found)
    assert len(listeners) == 1


def look_where_netlink_is_refused():
    crowd.connect(crowd.serve(), 5)
    crowd.bind(3)
    refuse_netlink()
    return count_states(), count_states(ways=NETLINK), read_listeners(), read_connections(LASTING)


@needs_known_machine
def test_where_netlink_is_refused_proc_answers_and_says_what_it_lacks(in_namespace):
    counts, netlink, listeners, details = in_namespace(look_where_netlink_is_refused)
    assert counts.source == "/proc/net/tcp"
    assert counts.by_state[TcpState.ESTABLISHED] == 10
    assert counts.bound == Missing(
        "netlink gave no answer (refused by a sandbox, or no tcp_diag), "
        "and /proc/net/tcp does not list bound sockets"
    )
    assert isinstance(netlink, Missing)
    assert netlink.reason == "sock_diag: EPROTONOSUPPORT (Protocol not supported)"
    assert isinstance(listeners[0].accept_limit, Missing)
    assert TcpState.BOUND not in details
    assert details[TcpState.ESTABLISHED].total == 10


def count_in_another_thread():
    """This thread keeps its namespace with 10 sockets; another one enters an empty one of its own."""
    crowd.connect(crowd.serve(), 5)
    found = {}

    def enter_and_count():
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0:
            found.update((way, count_states(ways=(way,))) for way in WAYS)

    thread = threading.Thread(target=enter_and_count)
    thread.start()
    thread.join()
    return found, {way: count_states(ways=(way,)) for way in WAYS}


def test_every_way_looks_at_the_namespace_of_the_calling_thread(in_namespace):
    there, here = in_namespace(count_in_another_thread)
    for way in WAYS:
        assert here[way].by_state[TcpState.ESTABLISHED] == 10
        assert sum(there[way].by_state.values()) == 0


def count_in_an_empty_namespace():
    return count_states(), read_connections(LASTING), read_listeners()


def test_nothing_is_zero_and_not_missing(in_namespace):
    counts, details, listeners = in_namespace(count_in_an_empty_namespace)
    assert set(counts.by_state.values()) == {0}
    assert counts.complete is True
    assert all(found.total == 0 for found in details.values())
    assert listeners == ()


def test_listeners_are_not_connections():
    with pytest.raises(ValueError, match="read_listeners"):
        read_connections([TcpState.LISTEN])


def forget_a_bound_kernel():
    listing.lists_bound_sockets = bool  # as on a kernel of before Linux 6.8: False
    mask = [TcpState.BOUND, TcpState.TIME_WAIT]
    before = count_states(), read_connections(mask)
    crowd.bind(3)
    return before, (count_states(), read_connections(mask))


@needs_bound
def test_no_rows_from_a_kernel_that_knows_no_bound_sockets_are_not_zero(in_namespace):
    (counts, details), (later, more) = in_namespace(forget_a_bound_kernel)
    assert counts.bound == Missing("this kernel does not list bound sockets")
    assert list(details) == [TcpState.TIME_WAIT]
    assert later.bound == more[TcpState.BOUND].total == 3  # rows are proof


@needs_bound
@pytest.mark.skipif(
    not os.path.exists("/sys/kernel/btf/vmlinux"), reason="this kernel has no type information"
)
def test_this_kernels_own_types_name_the_state_of_bound_sockets():
    assert bound_support.names_the_state("/sys/kernel/btf/vmlinux")

"""The rules about packets that do not arrive; the kernel's own counts are those of nstat."""

import os
import re
import socket

import pytest

from tcpdoctor.lab.keepalive import dead_server, wait_for_retries
from tcpdoctor.lab.loss import (
    ELSEWHERE,
    HERE,
    asymmetric_route,
    black_hole,
    damaged_segments,
    filter_reverse_path,
    narrow_way_out,
    refused,
    shrunk_buffers,
)
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import (
    Endpoints,
    add_address_to_loopback,
    send_from_the_wrong_side,
    send_stray_segments,
)
from tcpdoctor.lab.pairs import again_and_again, steady_traffic

from .checks import check, evidence, findings, output_of, reason_unchecked, severities, the_finding
from .slow_pages import reading_into_late_pages
from .traffic import unread_data

CHECKSUMS, RESETS, STUCK = "checksum-errors", "reset-burst", "packets-stuck-in-host-queues"
BACKLOG = "socket-backlog-drops"
REVERSE, DROPPED = "reverse-path-filter-drops", "received-data-dropped"


def counted(name):
    """A counter since the namespace was made, as nstat says."""
    return int(output_of(f"nstat -az {name}").split()[-2])


def damaged(count):
    with damaged_segments(count):
        report = check()
    return report, counted("TcpInCsumErrors")


def test_segments_that_arrive_damaged_are_found_and_counted(in_namespace):
    report, errors = in_namespace(damaged, 7)
    finding = the_finding(report, CHECKSUMS)
    assert finding["severity"] == "warning"
    assert 7 <= evidence(finding, "rate(Tcp.InCsumErrors)") <= errors
    assert errors % 7 == 0


def damaged_among_many():
    with steady_traffic(23, lost_of_256=0), damaged_segments(1):
        return check(limits={CHECKSUMS: {"min_share": 10}})


def test_a_small_share_of_damaged_segments_is_below_the_limit(in_namespace):
    report = in_namespace(damaged_among_many)
    assert findings(report, CHECKSUMS) == []
    assert reason_unchecked(report, CHECKSUMS) is None


def knocking():
    with refused(7):
        return check(), counted("TcpOutRsts")


def test_clients_that_are_refused_again_and_again_are_told_of_and_no_more(in_namespace):
    report, resets = in_namespace(knocking)
    finding = the_finding(report, RESETS)
    assert (finding["severity"], report["exit_code"]) == ("info", 0)
    assert 20 <= evidence(finding, "rate(Tcp.OutRsts)") <= resets


def stuck():
    with narrow_way_out(211):
        return check(), counted("TcpExtTCPSpuriousRtxHostQueues")


def test_packets_that_wait_in_a_shaper_for_seconds_are_told_of(in_namespace):
    report, times = in_namespace(stuck)
    finding = the_finding(report, STUCK)
    assert finding["severity"] == "info"
    assert 10 <= evidence(finding, "rate(TcpExt.TCPSpuriousRtxHostQueues)") <= times


def filtered(value):
    filter_reverse_path(value)
    with asymmetric_route(7):
        return check(), counted("TcpExtIPReversePathFilter")


@pytest.mark.parametrize(("value", "expected"), [(0, []), (1, ["warning"]), (2, [])])
def test_the_reverse_path_filter_drops_where_it_is_strict(in_namespace, value, expected):
    report, drops = in_namespace(filtered, value)
    assert severities(report, REVERSE) == expected
    assert (drops > 0) is bool(expected)
    for finding in findings(report, REVERSE):
        assert 20 <= evidence(finding, "rate(TcpExt.IPReversePathFilter)") <= drops


def one_client_locked_out():
    filter_reverse_path(1)
    with asymmetric_route(1):
        pass  # the route stays
    with again_and_again(one_syn, every=0.9):
        return check("--window", "4"), check("--window", "0.3")


def one_syn():
    send_from_the_wrong_side(1, Endpoints(ELSEWHERE, 40_000, HERE, 80))


def test_one_client_that_tries_again_and_again_is_told_of_in_a_longer_look(in_namespace):
    long, short = in_namespace(one_client_locked_out)
    finding = the_finding(long, REVERSE)
    assert finding["severity"] == "info"
    assert 2 <= evidence(finding, "delta(TcpExt.IPReversePathFilter)") <= 6
    assert findings(short, REVERSE) == []


def filtered_by_both(of_all, of_interface):
    write_sysctl("net.ipv4.conf.all.rp_filter", of_all)
    filter_reverse_path(of_interface)
    with asymmetric_route(7):  # seven have come when it begins
        return counted("TcpExtIPReversePathFilter") >= 7


@pytest.mark.parametrize(
    ("of_all", "of_interface", "drops"), [(1, 0, True), (1, 2, False), (2, 1, False), (0, 1, True)]
)
def test_the_larger_value_of_all_and_of_the_interface_holds(in_namespace, of_all, of_interface, drops):
    assert in_namespace(filtered_by_both, of_all, of_interface) is drops


def without_a_route():
    add_address_to_loopback(HERE)
    filter_reverse_path(2)
    ends = Endpoints(ELSEWHERE, 40_000, HERE, 80)
    with again_and_again(lambda: send_from_the_wrong_side(1, ends), every=0.2):
        return check()


def test_a_loose_filter_drops_what_no_route_leads_to_and_a_few_packets_are_only_told_of(in_namespace):
    assert severities(in_namespace(without_a_route), REVERSE) == ["info"]


def dropped():
    with shrunk_buffers(7):
        return check(), counted("TcpExtRcvPruned")


def test_data_that_is_dropped_for_lack_of_room_is_found(in_namespace):
    report, pruned = in_namespace(dropped)
    finding = the_finding(report, DROPPED)
    assert finding["severity"] == "warning"
    assert 7 <= evidence(finding, "rate(TcpExt.RcvPruned)") <= pruned


def unread():
    with unread_data(7):
        return check()


def test_readers_that_do_not_read_lose_nothing_as_long_as_their_windows_hold(in_namespace):
    report = in_namespace(unread)
    assert findings(report, DROPPED) == []
    assert reason_unchecked(report, DROPPED) is None


def busy_socket(number):
    """Every tenth of a second a byte, and `number` strays, for a socket that is locked most of the time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    for option in (
        socket.SO_RCVBUF,
        socket.SO_SNDBUF,
    ):  # a short queue: twice the one, half the other, 64 KiB
        accepted.setsockopt(socket.SOL_SOCKET, option, 1)
    ends = Endpoints(*client.getsockname(), *accepted.getsockname())

    def send():
        client.send(b"x")
        send_stray_segments(number, ends)

    with again_and_again(send, every=0.1), reading_into_late_pages(accepted, 0.3):
        report = check()
        rows = output_of("ss -tanmp | grep -B1 -E 'skmem:.*,d[1-9]'")
    return report, counted("TcpExtTCPBacklogDrop"), accepted.getsockname()[1], rows


@pytest.mark.skipif(os.geteuid() != 0, reason="page faults of the kernel are root's to answer: run as root")
def test_segments_for_a_socket_whose_process_is_stuck_in_recv_are_dropped(in_namespace):
    report, drops, port, rows = in_namespace(busy_socket, 311)
    finding = the_finding(report, BACKLOG)
    assert finding["severity"] == "warning"
    assert 5 <= evidence(finding, "rate(TcpExt.TCPBacklogDrop)") <= drops
    assert re.search(rf"127.0.0.1:{port} ", rows)


@pytest.mark.skipif(os.geteuid() != 0, reason="page faults of the kernel are root's to answer: run as root")
def test_a_queue_in_front_of_a_busy_socket_that_has_room_drops_nothing(in_namespace):
    report, drops, *_ = in_namespace(busy_socket, 3)
    assert drops == 0
    assert findings(report, BACKLOG) == []
    assert reason_unchecked(report, BACKLOG) is None


# --- packets that are too large for the path ---

LARGE = "large-packets-lost"


def in_a_black_hole(segments, tail):
    with black_hole(7, segments=segments, tail=tail) as pairs:
        wait_for_retries([sender for sender, _ in pairs], 4)
        report = check(limits={LARGE: {"min_age": 1}, "clients-stopped-answering": {"min_age": 1}})
        shown = output_of("ss -Htnoi state established")
    return report, shown.count("sacked:")


@pytest.mark.parametrize(("segments", "tail", "acknowledged"), [(8, b"the end", 7), (20, b"", 0)])
def test_full_segments_that_never_arrive_are_told_from_peers_that_are_gone(
    in_namespace, segments, tail, acknowledged
):
    report, sacked = in_namespace(in_a_black_hole, segments, tail)
    finding = the_finding(report, LARGE)
    assert (finding["severity"], sacked) == ("warning", acknowledged)
    assert evidence(finding, "older(unanswered.by_size_ages, 1 s)") == 7
    assert "segment (up to 1.4 KiB of data)" in finding["summary"]
    others = ("clients-stopped-answering", "destination-stopped-answering")
    assert [rule for rule in others if findings(report, rule)] == []


def peers_that_are_gone():
    with dead_server(7):
        return check(limits={LARGE: {"min_age": 0.5}})


def test_a_peer_that_is_gone_is_no_black_hole(in_namespace):
    report = in_namespace(peers_that_are_gone)
    assert findings(report, LARGE) == []
    assert reason_unchecked(report, LARGE) is None

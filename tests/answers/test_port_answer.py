"""The record of `explain --port`, from evidence made by hand: what is not known is null, never free."""

import pytest

from tcpdoctor.answers.finding import told_finding
from tcpdoctor.answers.port import PortQuestion, finish
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.port import Target, answer, with_probes
from tcpdoctor.kernel.bind_rules import Probe
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, UdpSocket
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.report.document import as_json
from tcpdoctor.report.page import page_text
from tcpdoctor.report.port_text import port_page
from tcpdoctor.report.style import PLAIN
from tests.diagnosis.test_port import NGINX, PORT, connection, evidence, listener, time_wait
from tests.report.examples import FINDING
from tests.schemas import assert_described

WHO = Identity("box", "6.18.44", 4026531840, None, True, 0)
BLIND = Missing("netlink: EPERM; /proc/net/tcp: Permission denied")
ASKED = PortQuestion(PORT)
NOON = 1_795_348_800.0


def told(*rows, question=ASKED, probes=None, **changes):
    seen = evidence(*rows, **{"udp": (), **changes})
    addresses = ((4, "0.0.0.0"), (6, "::")) if question.address is None else ((4, question.address),)
    found = [
        answer(Target(family, address, 0, PORT, protocol=question.protocol), seen)
        for family, address in addresses
    ]
    if probes:
        found = [with_probes(one, probes) for one in found]
    record = finish(question, found, seen, Diagnosis((), (), 0), WHO, NOON)
    return record, assert_described(as_json(record))


def test_where_no_socket_can_be_listed_bind_is_null_and_the_first_line_cannot_tell():
    record, document = told(local=BLIND, remote=BLIND, listeners=BLIND)
    assert document["bind"] is None
    assert document["bind_ipv6"] is None
    assert document["verdict"] == "unknown"
    assert "EPERM" in document["missing"]["bind"]
    assert document["states"]["time_wait"] is None
    first = page_text(port_page(record, PLAIN, long=False), PLAIN)
    assert first.startswith("UNKNOWN  TCP port 8080: cannot tell: netlink: EPERM")
    assert page_text(port_page(record, PLAIN, long=True), PLAIN).startswith(
        "UNKNOWN  TCP port 8080: cannot tell"
    )


def test_a_probe_knows_what_a_listing_would_have_told():
    probes = [Probe("ok", None)] * 4
    _, document = told(local=BLIND, remote=BLIND, listeners=BLIND, probes=probes)
    assert document["bind"]["probed"] is True
    assert document["verdict"] == "free"


def test_without_ipv6_only_ipv4_is_asked_about():
    seen = evidence()
    record, document = told(rules=seen.rules._replace(ipv6=False))
    assert document["bind_ipv6"] is None
    assert "IPv6 is off" in document["missing"]["bind_ipv6"]
    assert document["verdict"] == "free"
    assert page_text(port_page(record, PLAIN, long=False), PLAIN).startswith(
        "FREE  TCP port 8080 (0.0.0.0), UDP free"
    )


@pytest.mark.parametrize(
    ("rows", "verdict", "bind", "ipv6"),
    [
        ((), "free", "free", "free"),
        ((listener("0.0.0.0"),), "busy", "busy", "busy"),
        ((listener("::1", v6only=True),), "partly", "free", "busy"),
        ((listener("::", v6only=False),), "busy", "busy", "busy"),
        ((time_wait(9.0),), "busy", "busy", "busy"),
    ],
)
def test_the_verdict_is_of_both_addresses(rows, verdict, bind, ipv6):
    _, document = told(*rows)
    assert document["verdict"] == verdict
    assert (document["bind"]["verdict"], document["bind_ipv6"]["verdict"]) == (bind, ipv6)


def test_bound_sockets_that_may_be_hidden_make_a_free_port_unknown():
    record, document = told(bound_seen=Missing("processes hide their descriptors"))
    assert document["verdict"] == "unknown"
    assert document["states"]["bound"] is None
    assert "processes hide their descriptors" in page_text(
        port_page(record, PLAIN, long=False), PLAIN
    ).replace("\n      ", " ")


def test_when_it_is_free_again_is_told_as_a_time_of_day():
    record, document = told(time_wait(41.3))
    assert document["bind"]["free_in_s"] == 41.3
    assert document["bind"]["free_at"] == "2026-11-22T12:00:42Z"
    assert "in 42 s, at 12:00:42Z, by itself" in page_text(port_page(record, PLAIN, long=False), PLAIN)


def test_what_may_become_time_wait_is_free_at_the_earliest():
    orphan = connection(TcpState.FIN_WAIT_2, timer=Timer.TIME_WAIT, expires=41.3)
    record, _ = told(orphan)
    text = page_text(port_page(record, PLAIN, long=False), PLAIN)
    assert "in 42 s at the earliest, at 12:00:42Z, by itself" in text
    assert "Wait 42 s at least" in text
    assert "at the earliest" not in page_text(port_page(told(time_wait(41.3))[0], PLAIN, long=False), PLAIN)


def test_many_sockets_that_are_alike_are_one_line_with_all_of_them_counted():
    rows = [time_wait(40.0 + n / 100, remote=f"10.0.0.7:{51_000 + n}") for n in range(67)]
    record, _ = told(*rows)
    assert " who   67 TIME_WAIT 127.0.0.1:8080, closed here first" in page_text(
        port_page(record, PLAIN, long=False), PLAIN
    )
    few, _ = told(*rows[:7])
    assert " <- 10.0.0.7:51000..51006, closed here first" in page_text(
        port_page(few, PLAIN, long=False), PLAIN
    )


def test_what_check_finds_at_the_port_has_its_numbers_and_the_command_that_tells_more():
    record, _ = told(listener("0.0.0.0"))
    found = told_finding(FINDING._replace(headline="120 FIN_WAIT_2 held open"))
    page = port_page(record._replace(findings=(found,)), PLAIN._replace(netns="blue"), long=False)
    assert (
        f" check WARNING {FINDING.label}: 120 FIN_WAIT_2 held open\n"
        f"       tcpdoctor check {FINDING.rule} --netns blue\n"
    ) in page_text(page, PLAIN)
    narrow = PLAIN._replace(width=40, recorded=("/srv/a-case-of-the-database-server.txt",))
    page = port_page(record._replace(findings=(found,)), narrow, long=False)
    assert (
        "       tcpdoctor check \\\n"
        f"         {FINDING.rule} --from \\\n"
        "         /srv/a-case-of-the-database-server.txt\n"
    ) in page_text(page, narrow)


def test_a_udp_question_is_about_udp_sockets_only():
    taken = UdpSocket(4, Endpoint("0.0.0.0", PORT), Endpoint("0.0.0.0", 0), 91, 33, 0, 0, 0, Held((NGINX,)))
    _, document = told(listener(), question=PortQuestion(PORT, protocol="udp"), udp=(taken,))
    assert (document["protocol"], document["bind"]["cause"]) == ("udp", "udp-socket")
    assert document["headline"] == "BUSY  UDP port 8080: nginx (811) has 0.0.0.0:8080"
    assert {attempt["listen"] for attempt in document["bind"]["attempts"]} == {None}
    _, other = told(listener(), question=PortQuestion(PORT, protocol="udp"))
    assert other["verdict"] == "free"
    _, blind = told(question=PortQuestion(PORT, protocol="udp"), udp=Missing("no /proc/net/udp"))
    assert blind["bind"] is None

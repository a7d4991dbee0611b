"""Messages of the kernel lead to an answer that there is."""

import pytest

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.answers.words import meaning_of
from tcpdoctor.knowledge.error_pages import find_error
from tcpdoctor.knowledge.log_lines import LOG_LINES, log_line_of
from tcpdoctor.knowledge.sysctl_pages import find_sysctl
from tests.cli.command import complaint, tcpdoctor

RULES = {rule.id for rule in load_rules().rules}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("possible SYN flooding", "syn-queue-full"),
        (
            "TCP: request_sock_TCP: Possible SYN flooding on port 0.0.0.0:80. Sending cookies.",
            "syn-queue-full",
        ),
        (
            "[12.3] TCP: request_sock_TCP: Possible SYN flooding on port 80. Dropping request.",
            "syn-queue-full",
        ),
        ("TCP: too many orphaned sockets", "orphans-near-limit"),
        ("TCP: out of memory -- consider tuning tcp_mem", "tcp-memory-nearly-full"),
        ("out of memory -- consider\ntuning tcp_mem", "tcp-memory-nearly-full"),
        ("consider tuning tcp_mem", "tcp-memory-nearly-full"),
        ("nf_conntrack: nf_conntrack: table full, dropping packet", "conntrack-table-overflows"),
        ("nf_conntrack: table full", "conntrack-table-overflows"),
        ("table full", "conntrack-table-overflows"),
        ("TCP: time wait bucket table overflow", "time-wait-table-nearly-full"),
        ("time wait bucket table overflow (CT100)", "time-wait-table-nearly-full"),
        ("neighbour: arp_cache: neighbor table overflow!", "net.ipv4.neigh.default.gc_thresh3"),
        ("neighbour: ndisc_cache: neighbor table overflow!", "net.ipv6.neigh.default.gc_thresh3"),
        ("IPv4: martian source 10.0.0.1 from 10.0.0.2, on dev eth0", "reverse-path-filter-drops"),
        (
            "TCP: Peer 10.0.0.1:1234/80 unexpectedly shrunk window 1:9",
            "net.ipv4.tcp_shrink_window",
        ),
        ("[261081.351126] MPTCP: out of memory: force closing socket", "orphans-near-limit"),
        ("TCP: drop open request from 10.0.0.1/1234", "syn-queue-drops"),
        ("NETDEV WATCHDOG: eth0 (e1000): transmit queue 0 timed out", "packets-stuck-in-host-queues"),
    ],
)
def test_a_message_of_the_kernel_leads_to_a_page(text, name):
    line = log_line_of(text)
    assert line is not None
    assert line.name == name
    assert line.means.endswith(".")


@pytest.mark.parametrize("text", ["", "full", "EADDRINUSE", "8080", "nginx", "table", "Connection refused"])
def test_other_words_are_no_message(text):
    assert log_line_of(text) is None


@pytest.mark.parametrize("line", LOG_LINES, ids=lambda line: line.words)
def test_every_page_that_is_named_exists(line):
    finders = {"--sysctl": find_sysctl, "--error": find_error}
    assert line.name in RULES if line.flag == "--rule" else finders[line.flag](line.name).name == line.name


def test_asked_as_an_error_it_says_where_the_answer_is():
    said = complaint(tcpdoctor("explain", "--error", "Possible SYN flooding"))
    assert "tcpdoctor explain --rule syn-queue-full" in said
    told = tcpdoctor("explain", "--rule", "syn-queue-full")
    assert told.returncode == 0


@pytest.mark.parametrize(
    ("text", "question", "name"),
    [
        ("possible SYN flooding", "rule", "syn-queue-full"),
        (
            "TCP: request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.",
            "rule",
            "syn-queue-full",
        ),
        ("TCP: out of memory -- consider tuning tcp_mem", "rule", "tcp-memory-nearly-full"),
        ("nf_conntrack: table full, dropping packet", "rule", "conntrack-table-overflows"),
        ("TCP: too many orphaned sockets", "rule", "orphans-near-limit"),
        ("TCP: time wait bucket table overflow", "rule", "time-wait-table-nearly-full"),
    ],
)
def test_asked_as_words_it_is_the_answer(text, question, name):
    first, _ = meaning_of(text.split(" "))
    assert (first.question, first.value) == (question, name)

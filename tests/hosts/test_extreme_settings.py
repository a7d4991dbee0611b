"""Settings that the kernel takes and nobody means: no finding says nonsense beside them."""

import re

import pytest

from tcpdoctor.answers.rule_checks import recorded_hosts
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.kernel.states import TcpState

RULES = load_rules().rules
RANGE, RESERVED = "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"
EXTREMES = {
    "no time-wait at all": {"net.ipv4.tcp_max_tw_buckets": 0},
    "a negative table": {"net.ipv4.tcp_max_tw_buckets": -5},
    "no memory": {"net.ipv4.tcp_mem": (0, 0, 0), "net.ipv4.tcp_max_orphans": 0},
    "no files": {"fs.file-nr": (100, 0, 0), "fs.file-max": 0},
    "no tracking": {"net.netfilter.nf_conntrack_max": 0, "net.netfilter.nf_conntrack_count": 9},
    "a reversed range": {RANGE: (60999, 32768)},
    "an enormous range": {RANGE: (1, 99_999_999)},
    "one port": {RANGE: (40000, 40000)},
    "every port reserved": {RESERVED: ((32768, 60999),)},
    "a short queue": {"net.core.somaxconn": 0, "net.ipv4.tcp_max_syn_backlog": 0},
}
NONSENSE = re.compile(r"division by|-[0-9,]+ (ports|connections|sockets|of)|\\binf|\\bnan\\b|infinite")


def texts(finding):
    yield from (finding.headline or "", finding.summary, finding.explanation, finding.impact)
    for fix in finding.fixes:
        yield from (fix.title, fix.do, fix.risk, *fix.commands, *fix.verify)


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("host", sorted(recorded_hosts()))
def test_no_text_of_a_finding_is_nonsense_where_a_setting_is_extreme(host, extreme):
    samples = recorded_hosts()[host]
    after = samples.after
    bound = {**after.census.by_state, TcpState.TIME_WAIT: 30_000}
    after = after._replace(
        sysctls={**after.sysctls, **EXTREMES[extreme]},
        census=after.census._replace(bound=5000, by_state=bound),
        sockstat={**after.sockstat, "TCP.tw": 30_000, "TCP.orphan": 9000, "TCP.mem": 900_000},
    )
    found = diagnose(RULES, samples._replace(after=after)).findings
    assert [text for finding in found for text in texts(finding) if NONSENSE.search(text)] == []

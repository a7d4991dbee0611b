"""Every shipped rule on every recorded healthy host: nothing above info; with the defaults, nothing."""

import re
from pathlib import Path

import pytest

import tcpdoctor
from tcpdoctor.answers.rule_checks import recorded_hosts
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.facts.rates import growth
from tcpdoctor.kernel.states import TcpState

from .servers import HOSTS

RECORDED = recorded_hosts()
DEFAULTS = "defaults"
RULES = load_rules().rules
BUSY = sorted(set(RECORDED) - {DEFAULTS})


def test_every_host_is_recorded_and_small():
    assert set(RECORDED) == set(HOSTS)
    folder = Path(tcpdoctor.__file__).parent / "knowledge" / "recordings"
    assert all(path.stat().st_size <= 65_536 for path in folder.iterdir())


@pytest.mark.parametrize("host", BUSY)
def test_a_busy_host_was_busy_and_was_looked_at_whole(host):
    samples = RECORDED[host]
    assert growth("Tcp.InSegs", samples).delta > 10_000
    assert growth("Tcp.PassiveOpens", samples).delta > 50
    assert samples.after.census.by_state[TcpState.ESTABLISHED] >= 23
    assert samples.after.census.by_state[TcpState.TIME_WAIT] > 50
    assert samples.after.namespace_name is None
    assert re.fullmatch("host-[0-9a-f]{6}", samples.after.host)


@pytest.mark.parametrize("host", BUSY)
def test_every_rule_leaves_a_healthy_busy_host_in_peace(host):
    loud = [f for f in diagnose(RULES, RECORDED[host]).findings if f.severity > Severity.INFO]
    assert loud == []


def test_no_rule_says_anything_of_a_host_with_the_defaults():
    assert diagnose(RULES, RECORDED[DEFAULTS]).findings == ()


OF_THE_RECORDING_MACHINE = "process 1 hides its descriptors"
"""Why the owner of a socket that nobody holds any more is not certain where these were recorded."""


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.initial_only], ids=lambda rule: rule.id)
def test_a_rule_is_answered_on_a_busy_host_and_not_just_silent_for_want_of_facts(rule):
    reasons = [[item.reason for item in diagnose([rule], RECORDED[host]).unchecked] for host in BUSY]
    assert any(all(OF_THE_RECORDING_MACHINE in reason for reason in found) for found in reasons), reasons

"""Whether connect() may take over TIME_WAIT: tcp_twsk_unique() in words."""

import pytest

from tcpdoctor.facts.ports import port_reuse
from tcpdoctor.kernel.reading import Missing
from tests.facts.samples import snapshot

REUSE, STAMPS = "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_timestamps"
DELAY = "net.ipv4.tcp_tw_reuse_delay"


@pytest.mark.parametrize(
    ("reuse", "timestamps", "source", "peer", "allowed"),
    [
        (0, 1, "10.0.0.1", "10.0.0.5", False),
        (0, 1, "127.0.0.1", "127.0.0.1", False),
        (1, 1, "10.0.0.1", "10.0.0.5", True),
        (1, 0, "10.0.0.1", "10.0.0.5", False),
        (2, 1, "10.0.0.1", "10.0.0.5", False),
        (2, 1, "127.0.0.1", "127.0.0.2", True),
        (2, 1, "::1", "::1", True),
        (2, 1, "::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        (2, 0, "127.0.0.1", "127.0.0.1", False),
    ],
)
def test_reuse_follows_the_two_settings_and_loopback(reuse, timestamps, source, peer, allowed):
    found = port_reuse(snapshot(sysctls={REUSE: reuse, STAMPS: timestamps}), source, peer)
    assert not isinstance(found, Missing)
    assert found.allowed is allowed
    assert ("take them over" in str(found)) is allowed


def test_the_delay_is_the_kernel_s_or_its_fixed_second():
    settings = {REUSE: 1, STAMPS: 1}
    found = port_reuse(snapshot(sysctls=settings), "10.0.0.1", "10.0.0.5")
    assert not isinstance(found, Missing)
    assert found.after == 1.0
    found = port_reuse(snapshot(sysctls=settings | {DELAY: 200}), "10.0.0.1", "10.0.0.5")
    assert not isinstance(found, Missing)
    assert found.after == 0.2


@pytest.mark.parametrize("lost", [REUSE, STAMPS])
def test_without_either_setting_it_is_not_known(lost):
    sysctls = {REUSE: 1, STAMPS: 1} | {lost: Missing("gone")}
    assert port_reuse(snapshot(sysctls=sysctls), "10.0.0.1", "10.0.0.5") == Missing("gone")
    sysctls = {REUSE: 1, STAMPS: 1} | {lost: "text"}
    assert isinstance(port_reuse(snapshot(sysctls=sysctls), "10.0.0.1", "10.0.0.5"), Missing)

"""Every scenario there is, by name."""

from collections.abc import Mapping

from tcpdoctor.lab import (
    binding,
    close_wait,
    closing,
    config,
    connecting,
    ending,
    keepalive,
    limits,
    listening,
    loss,
)
from tcpdoctor.lab.scenario import Scenario

_FAMILIES = (
    closing.SCENARIOS,
    close_wait.SCENARIOS,
    ending.SCENARIOS,
    binding.SCENARIOS,
    connecting.SCENARIOS,
    keepalive.SCENARIOS,
    limits.SCENARIOS,
    close_wait.PROXIED,
    config.SCENARIOS,
    listening.SCENARIOS,
    loss.SCENARIOS,
    ending.TRACED,
)

LAB: Mapping[str, Scenario] = {scenario.name: scenario for family in _FAMILIES for scenario in family}
"""In the order in which they are told."""

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
    proxying,
    tracing,
)
from tcpdoctor.lab.scenario import Scenario

_FAMILIES = (
    closing,
    close_wait,
    ending,
    binding,
    connecting,
    keepalive,
    limits,
    proxying,
    config,
    listening,
    loss,
    tracing,
)

LAB: Mapping[str, Scenario] = {
    scenario.name: scenario for family in _FAMILIES for scenario in family.SCENARIOS
}
"""In the order in which they are told."""

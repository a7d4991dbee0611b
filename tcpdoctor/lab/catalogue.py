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
    meeting,
    proxying,
    restarting,
    tracing,
)
from tcpdoctor.lab import receiving as memory
from tcpdoctor.lab.scenario import Scenario

_FAMILIES = (
    closing,
    close_wait,
    ending,
    restarting,
    binding,
    connecting,
    meeting,
    keepalive,
    limits,
    proxying,
    config,
    listening,
    loss,
    memory,
    tracing,
)

LAB: Mapping[str, Scenario] = {
    scenario.name: scenario for family in _FAMILIES for scenario in family.SCENARIOS
}
"""In the order in which they are told."""

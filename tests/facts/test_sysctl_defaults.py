"""Defaults that follow from the size of the machine."""

import pytest

from tcpdoctor.facts.sysctl_value import fewest_sockets

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory", "sockets"),
    [(GIB, 4096), (GIB - 1, 2048), (4 * GIB, 16384), (24 * GIB, 65536), (1024 * GIB, 262144), (0, 0)],
)
def test_the_least_default_of_a_machine_follows_from_its_memory(memory, sockets):
    assert fewest_sockets(memory) == sockets

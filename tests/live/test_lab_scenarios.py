"""Every scenario of the lab, on this kernel: what it breaks is found, and gone once it is fixed."""

import pytest

from tcpdoctor.cli.lab import prove
from tcpdoctor.lab.catalogue import LAB
from tests.conftest import children_get_a_small_table


@pytest.mark.parametrize("name", LAB)
def test_a_scenario_is_found_while_it_is_broken_and_clear_once_it_is_fixed(in_namespace, name):
    with children_get_a_small_table():
        (proven,) = prove([LAB[name]], ()).scenarios
    assert proven.holds, [*proven.falls_short]

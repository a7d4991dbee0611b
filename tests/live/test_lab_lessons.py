"""Every scenario as a person reads it: complete, 80 columns wide, and in words."""

import pytest

from tcpdoctor.lab.catalogue import LAB
from tests.cli.command import tcpdoctor

pytestmark = pytest.mark.slow  # a minute and a half on four workers


@pytest.mark.parametrize("name", LAB)
def test_a_lesson_can_be_read(in_namespace, name):
    told = tcpdoctor("lab", "run", name)
    assert (told.returncode, told.stderr) == (0, ""), told.stdout[-2000:]
    lines = told.stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    asked = [line for line in lines if line.startswith("$ tcpdoctor ")]
    assert asked, "something is looked at"
    if LAB[name].rules:
        assert any("explain" in line for line in asked)
        assert any(line.startswith("$ tcpdoctor check") for line in asked)
    assert "Traceback" not in told.stdout
    assert "(see tcpdoctor" not in told.stdout, "a command of the story is misspelt"

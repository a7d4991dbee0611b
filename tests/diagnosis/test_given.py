"""The facts that rules' own tests are given."""

import math

import pytest

from tcpdoctor.diagnosis.rule import read_body
from tcpdoctor.facts.value import Ages, Growth, Range
from tcpdoctor.kernel.reading import Missing
from tests.diagnosis.examples import RULE, rule

FIRST = '"leak.ages" = { count = 100, each = 120 }'
BOUNDS = "the test gives bounds only"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ('"leak.owned" = 120', "leak.owned", 120),
        ('"leak.owned" = 2.5', "leak.owned", 2.5),
        ('"sysctl.net.ipv4.timeout" = -1', "sysctl.net.ipv4.timeout", -1),
        ('"leak.owned" = { at_least = 3 }', "leak.owned", Range(3, math.inf, BOUNDS)),
        ('"leak.owned" = { at_least = 3, at_most = 4 }', "leak.owned", Range(3, 4, BOUNDS)),
        ('"leak.owned" = "missing: run as root"', "leak.owned", Missing("run as root")),
        ('"leak.owned" = "missing:"', "leak.owned", Missing("no reason given")),
        ('"process.name" = "nginx"', "process.name", "nginx"),
        ('"process.name" = "missing: it is gone"', "process.name", Missing("it is gone")),
        ('"Tcp.Out" = { delta = 10, seconds = 4 }', "Tcp.Out", Growth(10, 4.0)),
        ('"Tcp.Out" = { rate = 10 }', "Tcp.Out", Growth(10, 1.0)),
        ('"leak.ages" = { count = 2, each = 60 }', "leak.ages", Ages((60, 60), (60, 60), None)),
        (
            '"leak.ages" = [{ count = 1, each = 60 }, { count = 2, each = 5 }]',
            "leak.ages",
            Ages((5, 5, 60), (5, 5, 60), None),
        ),
        (
            '"leak.ages" = { count = 1, each = { at_least = 60 } }',
            "leak.ages",
            Ages((60,), (math.inf,), BOUNDS),
        ),
        (
            '"leak.ages" = { count = 1, each = 60, hidden = 2 }',
            "leak.ages",
            Ages((60,), (60, math.inf, math.inf), "the owners of some sockets are hidden: run as root"),
        ),
    ],
)
def test_every_form(text, name, value):
    body = read_body(rule(RULE.replace(FIRST, text, 1)))
    assert body.tests[0].given == {name: value}

"""What can be said of a checked tree without evaluating it."""

from tcpdoctor.diagnosis.closure import Constant, facts_of, walk
from tcpdoctor.diagnosis.expression import parse_condition
from tests.diagnosis.examples import CONTEXT

TEXT = """
not (min(leak.owned, 3) > -sockets.open / 2)
and older(leak.ages, queue.age + 60 * second) > delta(Tcp.Out)
or leak.owned == sockets.free and 1 * KiB < queue.bytes
"""


def test_facts_come_in_the_order_of_the_text_and_once():
    tree = parse_condition(TEXT, "test", CONTEXT)
    assert [fact.name for fact in facts_of(tree)] == [
        "leak.owned",
        "sockets.open",
        "leak.ages",
        "queue.age",
        "Tcp.Out",
        "sockets.free",
        "queue.bytes",
    ]


def test_a_walk_meets_every_node():
    tree = parse_condition(TEXT, "test", CONTEXT)
    numbers = [node.value for node in walk(tree) if isinstance(node, Constant)]
    assert numbers == [3.0, 2.0, 60.0, 1.0, 1.0, 1024.0]

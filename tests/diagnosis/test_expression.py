"""What the language accepts, and what it says of the rest."""

import pytest

from tcpdoctor.diagnosis.closure import Comparison, Constant, Every, Gauge, Text
from tcpdoctor.diagnosis.expression import MAX_LENGTH, Context, parse_condition, parse_quantity
from tcpdoctor.errors import RuleError
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import BYTE, COUNT, PER_SECOND, RATIO, SECOND, Dimension
from tests.diagnosis.examples import CONTEXT, LIMITS, VOCABULARY

WHERE = "rules/close/x.toml: fires.warning"


def complaint(text: str, context: Context = CONTEXT) -> str:
    with pytest.raises(RuleError) as caught:
        parse_condition(text, WHERE, context)
    message = str(caught.value)
    assert message.startswith(f"{WHERE}: "), message
    assert "\n" not in message
    return message.removeprefix(f"{WHERE}: ")


@pytest.mark.parametrize(
    "text",
    [
        "sockets.open >= 100",
        "sockets.open >= limit.min_sockets",
        "sockets.open / sockets.free >= 80 * percent",
        "sockets.open >= limit.share * sockets.free",
        "queue.age > 2 * minute and queue.age < 1 * day + 3 * hour",
        "queue.bytes > 4 * MiB or queue.bytes >= limit.size or queue.bytes > 1 * GiB - 10 * KiB",
        "memory.pages >= sysctl.net.ipv4.mem.max",
        "sysctl.net.ipv4.switch == 0",
        "sysctl.net.ipv4.switch != 1",
        "rate(Tcp.Out) >= 10 * per_second",
        "delta(Tcp.Out) > 0",
        "rate(Tcp.Out) * 10 * second >= 5",
        "rate(Tcp.Again) / rate(Tcp.Out) >= 1 * percent",
        "older(leak.ages, limit.min_age) >= limit.min_sockets",
        "older(leak.ages, max(queue.age, 60 * second)) >= 10",
        "min(sockets.open, 5, sockets.free) == 5",
        "not (leak.owned < 3)",
        "-leak.owned <= -3",
        "leak.owned\n>= 3\n  and leak.owned\t<= 5",
        "1 < 2",
        "(1 + 2) * 3 >= leak.owned",
        "leak.owned * 2 * 3 > 1_000.5e2",
        "1 / queue.age >= 2 / (3 * second)",
    ],
)
def test_accepts(text):
    assert parse_condition(text, WHERE, CONTEXT)


def test_the_tree_says_what_the_text_says():
    tree = parse_condition("leak.owned >= 3 and leak.owned < 5", WHERE, CONTEXT)
    fact = VOCABULARY.find_fact("leak.owned")
    assert tree == Every(
        (Comparison(">=", Gauge(fact), Constant(3.0)), Comparison("<", Gauge(fact), Constant(5.0)))
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("leak.owend >= 3", "`leak.owend`: there is no such fact; did you mean leak.owned?"),
        ("sysctl.net.ipv4.range >= 3", "did you mean sysctl.net.ipv4.range.low?"),
        ("xyzzy >= 3", "there is no such fact; see `tcpdoctor facts`"),
        ("leak.owned >= limit.min_socket", "there is no such limit; did you mean min_sockets?"),
        ("leak.owned >= limit.xyzzy", "there is no such limit; see [limits]"),
        (
            "listener.port == 80",
            'scope is process; set scope = "listener" or use a fact of the process or the host',
        ),
        ("Tcp.Out > 500", "says nothing about today; use rate(Tcp.Out) or delta(Tcp.Out)"),
        ("leak.ages > 500", "is a set of ages; use older(leak.ages, limit.min_age)"),
        ("process.name == 3", "is a text; texts belong into prose"),
        ("rate(leak.owned) > 3 * per_second", "is no counter, so it has no rate(); use it as it is"),
        ("older(leak.owned, 3 * second) > 3", "is no set of ages"),
    ],
)
def test_names_that_do_not_fit(text, says):
    assert says in complaint(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("queue.age > queue.bytes", "seconds compared with bytes; both sides need the same dimension"),
        ("memory.pages > queue.bytes", "pages compared with bytes"),
        ("queue.age + sockets.open > 3", "seconds added to count"),
        ("queue.age - rate(Tcp.Out) > 3", "seconds reduced by count per second"),
        ("min(queue.age, queue.bytes) > 3", "seconds put into min() with bytes"),
        ("queue.age * queue.age > queue.age", "seconds to the power of 2 compared with seconds"),
        ("1 / queue.age > queue.age", "1 per second compared with seconds"),
        ("sockets.open / sockets.free > queue.age", "a pure number compared with seconds"),
        ("queue.bytes / queue.age / queue.age > queue.age", "bytes per second to the power of 2"),
        ("queue.age > 10", "a bare number is compared with seconds; give it a unit (`10 * second`"),
        ("3 + queue.bytes > 4 * KiB", "a bare number is added to bytes"),
        ("rate(Tcp.Out) > 5", "a bare number is compared with count per second"),
        ("max(memory.pages, 5) > 5", "a bare number is put into max() with pages"),
        ("older(leak.ages, 60) > 5", "a bare number where seconds are needed; write `60 * second`"),
        ("older(leak.ages, queue.bytes) > 5", "bytes where seconds are needed"),
    ],
)
def test_dimensions_that_do_not_agree_are_named_in_words(text, says):
    assert says in complaint(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 < leak.owned < 3", "compares twice; write `a < b and b < c`"),
        ("leak.owned in sockets", "`in` and `is` are not part of the language"),
        ("leak.owned is 3", "`in` and `is` are not part of the language"),
        ("leak.owned", "is a quantity and neither true nor false; compare it with something"),
        ("leak.owned and leak.owned > 3", "is a quantity and neither true nor false"),
        ("True", "is no decimal number"),
        ("leak.owned > True", "is no decimal number"),
        ("leak.owned > None", "is no decimal number"),
        ("leak.owned > 3j", "is no decimal number"),
        ("leak.owned > ...", "is no decimal number"),
        ("(leak.owned > 3) + 1 > 0", "is true or false where a quantity is needed"),
        ("(not leak.owned > 3) > 1", "is true or false where a quantity is needed"),
        ("(leak.owned > 3 and 1 > 2) > 1", "is true or false where a quantity is needed"),
        ("leak.owned // 2 > 1", "this operator is not part of the language; use + - * /"),
        ("9 ** 9 ** 9 > leak.owned", "this operator is not part of the language"),
        ("+leak.owned > 1", "is not part of the language"),
        ("(leak.owned, 2) > 1", "is not part of the language"),
        ("lambda: 3 > 2", "':' is not part of the language"),
        ("leak.owned if 1 > 2 else 3", "is not part of the language; use names"),
        ("(leak.owned if 1 > 2 else 3) > 2", "is not part of the language"),
        ("leak['owned'] > 3", "'[' is not part of the language; there is no indexing"),
        ('process.name == "x"', "is not part of the language"),
        ("leak.owned % 2 == 0", "a share is written `80 * percent`"),
        ("leak.owned > 3 & leak.owned < 5", "write `and`"),
        ("leak.owned > 3 | leak.owned < 5", "write `or`"),
        ("leak.owned > 3 # many", "comments belong beside the key"),
        ("{leak.owned} > 3", "braces belong into prose"),
        ("leak.öwned > 3", "'\\xf6' is not part of the language"),
        ("leak.owned > 3\0", "'\\x00' is not part of the language"),
        ("leak.owned >", "not an expression ("),
        ("", "not an expression ("),
        ("a) or (b", "not an expression ("),
        ("leak.owned = 3", "not an expression ("),
        ("5or leak.owned", "not an expression ("),
        ("007 > leak.owned", "not an expression ("),
        ("leak.owned >= 1e999", "a number is too large"),
        ("leak.owned >= " + "9" * 1000, "a number is too large"),
        ("leak.owned >= 1e18 * 2 + 2e18", "a number is too large"),
    ],
)
def test_what_python_knows_and_the_language_does_not(text, says):
    assert says in complaint(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("open(leak.owned) > 3", "no such call; there are rate, delta, older, min, max"),
        ("leak.owned() > 3", "no such call"),
        ("rate(rate)(leak) > 3", "no such call"),
        ("rate(Tcp.Out, Tcp.Out) > 3", "wrong arguments; write rate(COUNTER)"),
        ("delta() > 3", "wrong arguments; write delta(COUNTER)"),
        ("rate(3) > 3", "wrong arguments; write rate(COUNTER)"),
        ("older(leak.ages) > 3", "wrong arguments; write older(AGES, SECONDS)"),
        ("older(3, 3 * second) > 3", "wrong arguments; write older(AGES, SECONDS)"),
        ("min(leak.owned) > 3", "wrong arguments; write min(A, B)"),
        ("max() > 3", "wrong arguments; write max(A, B)"),
        ("max(leak.owned, key=3) > 3", "max() takes plain arguments only"),
        ("max(*leak.owned) > 3", "max() takes plain arguments only"),
        ("min(1, 2).real > 3", "a dot belongs into the name of a fact"),
        ("rate(min(1, 2).real) > 3", "a dot belongs into the name of a fact"),
        ("older(min(1, 2).real, 1 * second) > 3", "a dot belongs into the name of a fact"),
    ],
)
def test_calls_that_do_not_fit(text, says):
    assert says in complaint(text)


def test_length_and_depth_have_limits():
    assert f"at most {MAX_LENGTH}" in complaint("1 > 2" + " " * MAX_LENGTH)
    assert "levels deep" in complaint("-" * 100 + "leak.owned > 3")
    assert "levels deep" in complaint("not " * 100 + "leak.owned > 3")
    assert "levels deep" in complaint("leak.owned" + " + 1" * 100 + " > 3")
    assert "not an expression" in complaint("(" * 900 + "1" + ")" * 900 + " > 2")
    assert "levels deep" in complaint("-" * 1900 + "1 > 2")
    assert "did you mean" not in complaint("a" + ".a" * 990 + " > 2")


def test_many_conditions_side_by_side_are_not_deep():
    assert isinstance(parse_condition(" and ".join(["leak.owned > 3"] * 100), WHERE, CONTEXT), Every)


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("leak.owned", COUNT),
        ("leak.owned / queue.age", PER_SECOND),
        ("rate(Tcp.Out)", PER_SECOND),
        ("delta(Tcp.Out)", COUNT),
        ("older(leak.ages, 1 * minute)", COUNT),
        ("limit.min_age", SECOND),
        ("80 * percent", RATIO),
        ("4 * KiB", BYTE),
        ("leak.owned * leak.owned", Dimension(number=2)),
        ("3 * 4", None),
        ("process.name", None),
    ],
)
def test_a_quantity_knows_its_dimension(text, dimension):
    assert parse_quantity(text, WHERE, CONTEXT).dimension == dimension


def test_a_text_fact_alone_is_a_text():
    fact = VOCABULARY.find_fact("process.name")
    assert parse_quantity("process.name", WHERE, CONTEXT).tree == Text(fact)


def test_a_rule_about_the_host_sees_no_process():
    host = Context(Scope.HOST, {name: limit[1] for name, limit in LIMITS.items()}, VOCABULARY)
    assert "is a fact of the scope process" in complaint("leak.owned > 3", host)

"""Whatever a rule or configuration file holds: it is accepted, or there is a one-line complaint."""

import functools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcpdoctor.diagnosis.body import parse_template
from tcpdoctor.diagnosis.expression import parse_condition, parse_quantity
from tcpdoctor.diagnosis.library import parse_config
from tcpdoctor.diagnosis.lint import lint_rule
from tcpdoctor.diagnosis.rule import read_body
from tcpdoctor.errors import ConfigError, RuleError
from tests.diagnosis.examples import CONTEXT, RULE, rule

NAMES = """
leak.owned leak.ages Tcp.Out process.name limit.min_age limit.x second percent rate( delta( older( min( max( (
) , . + - * / ** // % & | ~ == != < <= > >= = := and or not in is if else lambda for await yield 1 0 60 1e999
1e-999 0x1f 1_0 007 1j 9999999999999999999 None True ... [ ] { } : ; @ ' " # \\
"""
WORDS = st.sampled_from([*NAMES.split(), "\n", "\t", "\0", "\xe9"])
SOUP = st.one_of(
    st.lists(WORDS, max_size=30).map(" ".join), st.lists(WORDS, max_size=30).map("".join), st.text()
)


def complaint_of(attempt, error):
    """What an attempt complains of, None if it succeeds; anything but `error` ends the test."""
    try:
        attempt()
    except error as complaint:
        return str(complaint)
    return None


def is_fine(complaint, source="x.toml: "):
    return complaint is None or (
        complaint.startswith(source) and "\n" not in complaint and len(complaint) < 1000
    )


@settings(max_examples=2000, deadline=None)
@given(SOUP)
@example("(" * 1000 + "1" + ")" * 1000)
@example("-" * 1999 + "1")
@example("not " * 499 + "1>2")
@example("a" + ".a" * 999)
@example("1" + "+1" * 999)
@example("9" * 2000)
@example("1if 2else 3")
@example("\ud800")
def test_no_expression_raises_anything_else(text):
    for parse in (parse_condition, parse_quantity):
        attempt = functools.partial(parse, text, "x.toml: fires.info", CONTEXT)
        assert is_fine(complaint_of(attempt, RuleError))


@settings(max_examples=1000, deadline=None)
@given(SOUP)
@example("{" * 5000)
@example("{a" * 5000 + "}" * 5000)
def test_no_prose_raises_anything_else(text):
    attempt = functools.partial(parse_template, text, "x.toml: prose.summary", CONTEXT)
    assert is_fine(complaint_of(attempt, RuleError))


LINES = RULE.splitlines(keepends=True)
VALUES = st.sampled_from(
    [
        *(
            "0",
            "-1",
            "nan",
            "inf",
            "-inf",
            "1e400",
            "9" * 5000,
            "true",
            '""',
            '"x"',
            '" "',
            '"{"',
            '"{leak.owned}"',
        ),
        *(
            "[]",
            "{}",
            '[""]',
            "[1]",
            "[[]]",
            "[{}]",
            "{ a = 1 }",
            "1979-05-27T07:32:00Z",
            "07:32:00",
            "'''\n'''",
        ),
        *('"\\u0000"', '"\\u202e"', "[" * 500 + "]" * 500, '"missing:"', "{ count = 1e9, each = 1 }"),
        *(
            "{ count = 3, each = nan }",
            "{ delta = 1.5, seconds = 1 }",
            "{ at_least = 3, at_most = 2 }",
            "{ rate = 1 }",
        ),
    ]
)

KEYS = st.sampled_from(["id", "x", '"a\\nb"', '"\\u202e"', "a.b", "name", "limits"])


@st.composite
def damaged_rules(draw):
    """The good rule with a few lines lost, doubled, moved, or with other values and keys."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[place].partition("=")
        match draw(st.integers(0, 5)):
            case 0:
                del lines[place]
            case 1:
                lines.insert(draw(st.integers(0, len(lines))), lines[place])
            case 2 if equals:
                lines[place] = f"{key}= {draw(VALUES)}\n"
            case 3 if equals:
                lines[place] = f"{draw(KEYS)} = {draw(VALUES)}\n"
            case 4:
                lines[place] = draw(st.text(max_size=30)) + "\n"
            case _:
                text = lines[place]
                cut = draw(st.integers(0, len(text)))
                lines[place] = text[:cut] + draw(WORDS) + text[cut:]
        if not lines:
            break
    return "".join(lines)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(damaged_rules(), st.text()))
@example("a = " + "[" * 5000)
@example("a." * 5000 + "b = 1")
@example("a = " + "9" * 5000)
@example("x" * 70_000)
def test_no_rule_file_raises_anything_else(text):
    for whole in (True, False):
        complaint = complaint_of(lambda whole=whole: _read_and_lint(text, whole=whole), RuleError)
        assert is_fine(complaint, "rules/close/sockets-leak.toml: ")


def _read_and_lint(text, *, whole):
    """What can be read can be linted; a good head may stand above a broken body."""
    read = rule(text, whole=whole)
    list(lint_rule(read, read_body(read), "sockets-leak"))


CONFIG = """\
[rules.close-wait-leak]
enabled = false
severity = "info"
[rules."close/close-wait-leak".limits]
min_sockets = 50
"""


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_no_configuration_raises_anything_but_config_errors(data):
    lines = CONFIG.splitlines(keepends=True)
    place = data.draw(st.integers(0, len(lines) - 1))
    key, equals, _ = lines[place].partition("=")
    lines[place] = data.draw(
        st.one_of(
            st.text(max_size=40),
            WORDS,
            VALUES.map(lambda value: f"{key}= {value}" if equals else f"rules = {value}"),
        )
    )
    attempt = functools.partial(parse_config, "\n".join(lines), "c.toml")
    assert is_fine(complaint_of(attempt, ConfigError), "c.toml: ")

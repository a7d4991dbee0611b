"""Texts with blanks."""

import math
import shlex

import pytest

from tcpdoctor.diagnosis.body import (
    bare,
    blanks_of,
    fill,
    fill_command,
    fill_headline,
    parse_template,
    unfilled,
)
from tcpdoctor.errors import RuleError
from tcpdoctor.facts.value import Ages, Growth, Range
from tcpdoctor.kernel.reading import Missing
from tests.diagnosis.examples import CONTEXT, LIMIT_VALUES, VOCABULARY

WHERE = "x.toml: prose.summary"
FACTS = {
    "process.name": "nginx",
    "leak.owned": 120,
    "leak.ages": Ages((90.0, 600.0), (90.0, 600.0), None),
    "queue.age": Range(60, 900, "no clock"),
    "queue.bytes": 4 * 1024 * 1024,
    "sockets.open": Missing("owners are hidden: run as root"),
    "sysctl.net.ipv4.switch": 1,
    "sysctl.net.ipv4.timeout": 60,
    "Tcp.Out": Growth(10, 4.0),
    "host.words": Missing("no file"),
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("nothing to fill", "nothing to fill"),
        ("{process.name} holds {leak.owned}", "nginx holds 120"),
        ("{process.name:n}", "nginx"),
        ("for {limit.min_age}", "for 60 s"),
        ("{older(leak.ages, limit.min_age)} of them", "2 of them"),
        ("{queue.bytes}", "4 MiB"),
        ("{queue.bytes:n}", "4194304"),
        ("{queue.age}", "between 60 s and 15 min"),
        ("at least {queue.age:low}", "at least 60 s"),
        ("{leak.owned:low}", "120"),
        ("{queue.age:n}", "60"),
        ("{rate(Tcp.Out)}", "2.5 /s"),
        ("{rate(Tcp.Out):n}", "2.5"),
        ("{sysctl.net.ipv4.switch}", "1"),
        ("{leak.owned / 240}", "0.5"),
        ("{leak.owned / (leak.owned * 2)}", "50 %"),
        ("{sysctl.net.ipv4.timeout:n}", "60"),
        ("{sockets.open}", "(unknown: owners are hidden: run as root)"),
        (
            "0.0.0.0:80 ({sockets.open}) listens",
            "0.0.0.0:80 (unknown: owners are hidden: run as root) listens",
        ),
        ("{sockets.open:n}", "(unknown: owners are hidden: run as root)"),
        ("{sockets.open + 1}", "(unknown: owners are hidden: run as root)"),
        ("{host.words}", "(unknown: no file)"),
        ("{memory.pages}", "(unknown: it was not read on this host)"),
        ("awk '{{print $1}}' {{{leak.owned}}}", "awk '{print $1}' {120}"),
        ("\n  two\nlines\n", "  two\nlines"),
        ("\n{leak.owned}\n", "120"),
    ],
)
def test_blanks_are_filled_with_values_of_this_host(text, filled):
    assert fill(parse_template(text, WHERE, CONTEXT), FACTS, LIMIT_VALUES) == filled


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (119, "119 s+"),
        (120, "2 min+"),
        (337, "5 min+"),
        (599.9, "9 min+"),
        (600, "10 min+"),
        (1055, "17 min+"),
    ],
)
def test_a_least_age_in_a_headline_has_no_seconds_beyond_two_minutes_and_is_not_above_the_true_one(
    seconds, shown
):
    facts = {**FACTS, "queue.age": Range(seconds, math.inf, "no clock")}
    told = fill_headline(parse_template("{queue.age}", WHERE, CONTEXT), facts, LIMIT_VALUES)
    assert told == shown


def test_a_least_number_that_stands_for_a_command_has_no_unit_in_a_headline_either():
    facts = {**FACTS, "queue.age": Range(337, math.inf, "no clock")}
    told = fill_headline(parse_template("{queue.age:n}", WHERE, CONTEXT), facts, LIMIT_VALUES)
    assert told == "337+"


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{leak.owned} left open {queue.age}", "120 left open 60 s+"),
        ("{sockets.open} open", "? open"),
        ("{process.name}", "nginx"),
        ("{queue.wait}", "<15 min"),
        ("{queue.bytes}", "?"),
    ],
)
def test_a_headline_is_short_about_what_is_not_certain(text, filled):
    facts = {**FACTS, "queue.wait": Range(0, 900, "no clock"), "queue.bytes": Range(0, math.inf, "no clock")}
    assert fill_headline(parse_template(text, WHERE, CONTEXT), facts, LIMIT_VALUES) == filled


@pytest.mark.parametrize("name", ["811", "[::1]:80", "a b; rm -r 'x'", "$(reboot)", "", "a'b"])
def test_a_text_in_a_command_is_one_word_of_the_shell(name):
    template = parse_template("kill {process.name}", WHERE, CONTEXT)
    assert shlex.split(fill_command(template, {"process.name": name}, {})) == ["kill", name]


def test_a_command_that_cannot_be_filled_says_why():
    template = parse_template("kill {process.name}", WHERE, CONTEXT)
    assert fill_command(template, {"process.name": Missing("hidden")}, {}) == Missing("hidden")


def test_a_number_in_a_command_is_bare():
    template = parse_template("grep -c {leak.owned:n} {queue.age:n}", WHERE, CONTEXT)
    assert fill_command(template, FACTS, {}) == "grep -c 120 60"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{leak.owend}", "in {}: `leak.owend`: there is no such fact; did you mean leak.owned?"),
        ("{listener.port}", "is a fact of the scope listener"),
        ("{Tcp.Out}", "use rate(Tcp.Out)"),
        ("{}", "not an expression"),
        ("{leak.owned", "a lone '{'; write {{ and }} for braces that are meant as such"),
        ("leak.owned}", "a lone '}'"),
        ("{{leak.owned}", "a lone '}'"),
        ("{a{b}", "a lone '{'"),
        ("{leak.owned:x}", "`{leak.owned:x}`: the forms are :n (bare) and :low (lower end)"),
        ("{leak.owned:\nx}", "`{leak.owned:\\nx}`: the forms are :n (bare) and :low (lower end)"),
        ("{leak.owned > 3}", "is true or false where a quantity is needed"),
    ],
)
def test_blanks_that_cannot_be_filled_are_refused_at_load(text, says):
    with pytest.raises(RuleError) as caught:
        parse_template(text, WHERE, CONTEXT)
    assert str(caught.value).startswith(WHERE)
    assert says in str(caught.value)


def test_a_page_shows_blanks_as_they_are():
    template = parse_template("{process.name} holds {leak.owned:n}", WHERE, CONTEXT)
    assert unfilled(template) == "{process.name} holds {leak.owned:n}"
    assert blanks_of(template) == [VOCABULARY.find_fact("process.name"), VOCABULARY.find_fact("leak.owned")]


def test_a_bare_number_of_a_range_is_the_end_that_is_known():
    assert bare(Range(-math.inf, 7, "x")) == "7"
    assert bare(Range(5, math.inf, "x")) == "5"
    assert bare(1 / 3) == "0.333333"


def test_what_is_no_number_has_no_bare_form():
    with pytest.raises(TypeError):
        bare("many")

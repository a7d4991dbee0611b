"""Every page fits the screen, whatever is known of this host."""

import json

import pytest

from tcpdoctor.answers.knowledge import (
    ListenerOption,
    OptionHere,
    answer_of,
    here_of,
    option_answer,
    who_sets,
)
from tcpdoctor.facts.deadlines import NEVER, Life
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.knowledge.error_pages import error_names, find_error
from tcpdoctor.knowledge.option_pages import find_option, option_names, read_runtimes
from tcpdoctor.report.document import as_json
from tcpdoctor.report.knowledge_text import error_page, option_page
from tcpdoctor.report.page import page_text
from tcpdoctor.report.style import PLAIN

IDENTITY = Identity("box", "6.18.44", 4026531840, None, True, 0)
RUNTIMES = read_runtimes()


def option_here(name, **changes):
    here = OptionHere(
        fresh=False,
        sysctls={name: Missing("this kernel does not have it") for name in find_option(name).sysctls},
        listeners=(),
    )
    return option_answer(find_option(name), IDENTITY, 0.0, here._replace(**changes))


@pytest.mark.parametrize("name", option_names())
def test_an_option_s_page_fits_80_columns_and_two_screens(name):
    lines = page_text(option_page(option_here(name), PLAIN), PLAIN).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 75
    assert json.dumps(as_json(option_here(name)), allow_nan=False)


@pytest.mark.parametrize("name", error_names())
def test_an_error_s_page_fits_80_columns_and_two_screens(name):
    page = find_error(name)
    here = tuple(here_of(look.says, Missing("this kernel does not have it"), ()) for look in page.here)
    answer = answer_of(page, IDENTITY, 0.0, here)
    lines = page_text(error_page(answer, PLAIN), PLAIN).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 60
    assert json.dumps(as_json(answer), allow_nan=False)


def test_listeners_are_grouped_by_value_and_what_is_hidden_is_said():
    listeners = (
        ListenerOption("0.0.0.0:80", "nginx (811)", True),
        ListenerOption("0.0.0.0:81", "own (812)", False),
        ListenerOption("0.0.0.0:82", None, Missing("run as root")),
    )
    text = page_text(option_page(option_here("SO_REUSEADDR", listeners=listeners), PLAIN), PLAIN)
    assert "on: 1 of 3 listeners: nginx (811) 0.0.0.0:80." in text
    assert "off: 1 of 3 listeners: own (812) 0.0.0.0:81." in text
    assert "not known for 1 of 3 listeners: run as root." in text


def test_listeners_that_cannot_be_listed_are_unknown_and_not_none():
    answer = option_here("SO_REUSEADDR", listeners=Missing("no list"), fresh=Missing("no socket"))
    text = page_text(option_page(answer, PLAIN), PLAIN)
    assert "which listeners have it is not known: no list." in text
    assert "SO_REUSEADDR: not on this kernel (no socket)" in text
    told = as_json(answer)
    assert told["listeners"] is None
    assert told["missing"]["listeners"] == "no list"


def test_ipv6_v6only_is_told_of_listeners_only():
    assert list(who_sets("IPV6_V6ONLY", RUNTIMES)) == ["listener"]


def test_what_to_type_and_to_do_stands_before_the_causes():
    text = page_text(error_page(answer_of(find_error("EADDRINUSE"), IDENTITY, 0.0, ()), PLAIN), PLAIN)
    first = text.index("tcpdoctor explain --port N")
    assert first < text.index("What to do") < text.index("From bind()")
    assert text[:first].count("\n") < 10, "in view on any terminal"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NEVER, "x: never by itself."),
        (Life(130.0, 139.0), "x: 130 to 140 s."),
        (1024, "x: 1024."),
        ((1, 2, 3), "x: 1 2 3."),
        ((), "x: empty."),
        (Missing("why"), "x: not known here: why."),
    ],
)
def test_what_is_here_is_told_with_its_unit_or_its_reason(value, text):
    answer = answer_of(find_error("EMFILE"), IDENTITY, 0.0, (here_of("x", value, ()),))
    assert f"  {text}\n" in page_text(error_page(answer, PLAIN), PLAIN)

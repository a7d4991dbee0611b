"""The short form of every page: what it means, how it stands here, what to do, in 24 lines at most."""

import re

import pytest

from tcpdoctor.answers.knowledge import ProcessCount, Whose, answer_of, here_of
from tcpdoctor.answers.rule import FoundHere, RuleAnswer, RuleHere, show_one_rule
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.settings_rules import Warned
from tcpdoctor.facts.deadlines import Life
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.knowledge.error_pages import error_names, find_error
from tcpdoctor.knowledge.option_pages import option_names
from tcpdoctor.knowledge.state_pages import state_keys
from tcpdoctor.knowledge.sysctl_pages import sysctl_names
from tcpdoctor.report.knowledge_text import error_page, option_page, state_page
from tcpdoctor.report.page import MOST_LINES, Block, as_far_as, page_text
from tcpdoctor.report.rules_text import rule_page
from tcpdoctor.report.style import PLAIN
from tcpdoctor.report.sysctl_text import sysctl_page
from tests.report.test_option_error_text import IDENTITY, option_here
from tests.report.test_state_answer import answer as state_here
from tests.report.test_sysctl_answer import answer as sysctl_here

HOLDERS = Whose(tuple(ProcessCount(100 + number, "worker", 23) for number in range(7)), held=161, not_held=3)
WRONG = Warned(
    "fin-timeout-short", Severity.WARNING, "It is 7, and slow peers are cut off within seconds of our close."
)
FOUND = FoundHere(
    "critical",
    "payments (27687)",
    "long",
    "accept queue 6 of 5 on :9443, clients time out",
    ("gdb -p 27687",),
)


def laid_out(blocks: list[Block]) -> str:
    """The text of a page, which every short one has in common what is asserted here."""
    text = page_text(blocks, PLAIN)
    lines = text.splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 80
    assert text.isascii()
    assert " more  --long: " in text
    return text


@pytest.mark.parametrize("key", state_keys())
@pytest.mark.parametrize("whose", [Whose(), HOLDERS, Missing("sock_diag: permission denied")])
def test_a_state_is_what_it_means_what_ends_it_here_and_what_to_do(key, whose):
    text = laid_out(state_page(state_here(key, number=164, whose=whose), PLAIN, long=False))
    assert "\n do    " in text
    assert "\n see   " in text


@pytest.mark.parametrize("name", option_names())
def test_an_option_is_what_it_does_who_has_it_here_and_how_it_is_set(name):
    text = laid_out(option_page(option_here(name), PLAIN, long=False))
    assert "\n here  " in text
    assert "\n c     " in text
    assert "\n py    " in text
    when = text.partition("\n when  ")[2].partition("\n ")[0]
    assert not re.search(r"\. [a-z]", when), "a sentence begins with a capital"


@pytest.mark.parametrize("name", error_names())
def test_an_error_is_what_to_type_what_to_do_and_the_likeliest_reasons(name):
    page = find_error(name)
    here = tuple(here_of(look.says, Life(60.0, 63.0), ("net.ipv4.tcp_fin_timeout",)) for look in page.here)
    text = laid_out(error_page(answer_of(page, IDENTITY, 0.0, here), PLAIN, long=False))
    assert "\n type  " in text
    assert "\n do    " in text
    assert "\n from  " in text


@pytest.mark.parametrize("name", sysctl_names())
def test_a_setting_is_what_it_means_and_whether_its_value_is_wrong(name):
    laid_out(sysctl_page(sysctl_here(name, 7), PLAIN, long=False))
    wrong = laid_out(sysctl_page(sysctl_here(name, 7, warnings=(WRONG, WRONG)), PLAIN, long=False))
    assert "WARNING It is 7, and slow peers" in wrong
    assert "tcpdoctor check fin-timeout-short" in wrong
    laid_out(sysctl_page(sysctl_here(name, Missing("not here"), exists=False), PLAIN, long=False))


def test_a_setting_says_the_way_back_to_its_default():
    assert "sysctl -w net.ipv4.tcp_fin_timeout=60" in page_text(
        sysctl_page(sysctl_here(value=30), PLAIN, long=False), PLAIN
    )
    assert "sysctl -w" not in page_text(sysctl_page(sysctl_here(value=60), PLAIN, long=False), PLAIN)


RULES = [rule.id for rule in load_rules().rules]


def rule_here(name: str, *found: FoundHere) -> RuleAnswer:
    return show_one_rule(name, (), None)._replace(here=RuleHere(found, ()))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_what_it_finds_here_and_what_to_do_first(name):
    clear = laid_out(rule_page(rule_here(name), PLAIN, long=False))
    assert " now   It does not fire." in clear
    assert not re.search(r"\{\w+\.\w", clear), "blanks are words"
    firing = laid_out(rule_page(rule_here(name, *[FOUND] * 5), PLAIN, long=False))
    assert "CRITICAL payments (27687): accept queue 6 of 5 on :9443, clients time out" in firing
    assert "and 2 more" in firing
    assert "\n       gdb -p 27687\n" in firing
    assert f" whole tcpdoctor check {name}" in firing


def test_a_text_is_cut_between_sentences():
    assert as_far_as("One two. Three (4.5 s) four. Five.", 30) == "One two. Three (4.5 s) four."
    assert as_far_as("One two three four; five", 4) == "One two three four; five."

"""`check` as Markdown: read by a CommonMark parser, nothing in it is what a stranger wants it to be."""

from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from tcpdoctor.report.check_markdown import check_markdown
from tcpdoctor.report.page_markdown import code, escaped
from tests.report.examples import CRITICAL, FINDING, HIDDEN, check
from tests.report.hostile import NASTY_FINDING

PARSER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


def tokens(text):
    found = []
    for token in PARSER.parse(text):
        found += [token, *(token.children or ())]
    return found


def test_verdict_findings_and_what_was_looked_at_are_headings():
    text = check_markdown(check(CRITICAL, FINDING, unchecked=[HIDDEN]))
    found = tokens(text)
    headings = [after.content for token, after in pairwise(found) if token.type == "heading_open"]
    assert headings[0].startswith("CRITICAL: web1: 2 findings (1 critical, 1 warning)")
    assert headings[1].startswith("CRITICAL: Process keeps")
    assert headings[-1] == "What was looked at"
    assert HIDDEN.reason in text.replace("\\", "")


def test_commands_are_blocks_of_code_and_evidence_is_a_table():
    found = tokens(check_markdown(check(FINDING)))
    commands = [token.content for token in found if token.type == "fence"]
    assert "ss -tnp state fin-wait-2 | grep -c pid=811   # falls\n" in commands
    assert "sysctl -w net.ipv4.tcp_fin_timeout=30\n" in commands
    cells = [after.content for token, after in pairwise(found) if token.type == "td_open"]
    assert cells[:3] == ["`fin_wait_2.owned`", "120", "`sock_diag`"]


def test_subjects_of_one_rule_share_its_advice():
    other = FINDING._replace(label="php (9)")
    text = check_markdown(check(FINDING, other))
    assert text.count("### What to do") == 1
    assert "as for `nginx (811)` above" in text


def test_only_some_findings_are_all_that_is_said():
    text = check_markdown(check(CRITICAL, FINDING), (FINDING,))
    assert text.startswith("## WARNING: Process keeps")
    assert "What was looked at" not in text


def test_what_strangers_choose_is_text():
    found = tokens(check_markdown(check(NASTY_FINDING)))
    assert not [token for token in found if token.type in ("html_block", "html_inline", "link_open", "image")]
    assert not [token for token in found if "\x1b" in token.content or "\x00" in token.content]


@pytest.mark.parametrize(
    "text",
    [
        "*bold* _it_ `code` [a](http://x) ![i](x) <b> &amp; ~~x~~ | # - + 1. \\ $x$ @you http://x.y",
        "# heading",
        "- item",
        "+ item",
        "1. item",
        "> quote",
        "=====",
        "    code",
        "```",
        "| a | b |",
        "[x]: http://evil.test",
        "tcp_fin_timeout _a_b_ __init__ snake_case*",
    ],
)
def test_escaped_text_is_read_as_it_was(text):
    parsed = PARSER.parse(f"x {escaped(text)}")
    (inline,) = [token for token in parsed if token.type == "inline"]
    assert "".join(child.content for child in inline.children) == "x " + " ".join(text.split())
    assert {child.type for child in inline.children} <= {"text", "text_special"}


@pytest.mark.parametrize("text", ["plain", "`", "``a`", "a`b``c", " ", "x\ny", "`` ` ``"])
def test_code_is_read_as_it_was(text):
    parsed = PARSER.parse(f"x{code(text)}y")
    spans = [
        child.content for token in parsed for child in token.children or () if child.type == "code_inline"
    ]
    assert [span.strip() for span in spans] == [" ".join(text.split())]

"""An explanation is blocks, and text, Markdown and HTML lay out the same ones: none says more, or less."""

import re
from html import unescape

import pytest

from tcpdoctor.report import page, page_html, page_markdown
from tcpdoctor.report.knowledge_text import option_page
from tcpdoctor.report.page import (
    Bar,
    Bars,
    Entries,
    Fields,
    Found,
    Heading,
    Inset,
    Item,
    Lines,
    OneOf,
    Prose,
    Section,
    Table,
    Title,
    Verdict,
    page_text,
)
from tcpdoctor.report.page_html import blocks_as_file
from tcpdoctor.report.page_html import page_html as as_html
from tcpdoctor.report.page_markdown import page_markdown as as_markdown
from tcpdoctor.report.port_text import port_page
from tcpdoctor.report.style import PLAIN
from tcpdoctor.report.table import Column
from tests.answers.test_port_answer import told
from tests.cli.command import tcpdoctor
from tests.diagnosis.test_port import listener, time_wait
from tests.report.test_option_error_text import option_here

WIDE = PLAIN._replace(width=4000, columns=4000)


def words(text):
    """What it says, without what lays it out."""
    return re.sub(r"[^\w]+", " ", text).split()


def words_of_html(text):
    return words(unescape(re.sub(r"<[^>]*>", " ", text)))


PAGES = {
    "free": lambda: port_page(told()[0], PLAIN, long=False),
    "busy": lambda: port_page(told(listener(), time_wait(42.0))[0], PLAIN, long=False),
    "long": lambda: port_page(told(listener(), time_wait(42.0))[0], PLAIN, long=True),
    "option": lambda: option_page(option_here("SO_LINGER"), PLAIN),
}


@pytest.mark.parametrize("name", PAGES)
def test_every_word_of_the_text_stands_in_markdown_and_in_html(name):
    blocks = PAGES[name]()
    said = set(words(page_text(blocks, WIDE)))
    assert len(said) > 20
    assert said - set(words(as_markdown(blocks))) <= {"not"}  # "not certain" in a column that is empty
    assert said - set(words_of_html(as_html(blocks))) <= {"not"}


def test_every_kind_of_block_has_a_layout_in_every_format():
    assert page._LAYOUTS.keys() == page_markdown._LAYOUTS.keys() == page_html._LAYOUTS.keys()


BLOCKS = (
    Heading("network namespace blue"),
    Verdict("BUSY", "TCP port 80", "critical"),
    Title(" = 60", "net.ipv4.tcp_fin_timeout"),
    Inset(
        (Fields((("now", "in 43 s"), ("", "by itself")), 6), Found("warning", "nginx (811): <b>", "x | y"))
    ),
    Section("Who", (Entries((Item("pid 811", blocks=(Entries((Item("it listens"),)),)),)),)),
    Table((Column("A|B"), Column("N", right=True), Column("EMPTY")), (("a|b", "7", ""),)),
    Bars((Bar("close_wait", 23, "whose: explain"), Bar("listen", 1)), 14),
)


FIELDS = Fields((("see", Lines(("ss -tn", "  state listen"))), ("", "or ask"), ("In", OneOf("connect()"))))


def test_what_keeps_its_lines_keeps_them_in_every_format():
    assert page_text([FIELDS], PLAIN).splitlines() == [
        "see  ss -tn",
        "       state listen",
        "     or ask",
        "In   - connect()",
    ]
    assert as_markdown([FIELDS]).split("\n\n") == [
        "*see:*",
        "```\nss -tn\n  state listen\n```",
        "or ask",
        "*In:* connect()",
    ]
    assert "ss -tn\n  state listen" in as_html([FIELDS])


def test_a_click_takes_a_command_in_a_sentence_whole_and_its_signs_stay_signs():
    page = as_html(
        [Prose("Or end it (`kill 811 | tee <x>`); `one` word is none."), Fields((("do", "`ss -tn`"),))]
    )
    assert '(<code class="typed">kill 811 | tee &lt;x&gt;</code>); `one` word is none.' in page
    assert '<dd><code class="typed">ss -tn</code></dd>' in page


def test_a_command_within_a_sentence_is_code_in_markdown():
    page = as_markdown([Prose("Ends it (`kill 811 | tee <x>`), *not* one word: `one`.")])
    assert page == r"Ends it (`kill 811 | tee <x>`), \*not\* one word: \`one\`."


def test_text_lays_out_a_verdict_what_belongs_to_it_and_numbers():
    assert page_text(BLOCKS, PLAIN).splitlines() == [
        "=== network namespace blue",
        "BUSY  TCP port 80",
        "net.ipv4.tcp_fin_timeout = 60",
        " now   in 43 s",
        "       by itself",
        " WARNING nginx (811): <b>",
        "      x | y",
        "",
        "Who",
        "  pid 811",
        "    it listens",
        "A|B  N",
        "a|b  7",
        "close_wait    23  ##############################  whose: explain",
        "listen         1  #",
    ]


def test_markdown_makes_a_table_and_a_list_of_them_and_nothing_of_their_signs():
    assert as_markdown(BLOCKS) == (
        "# network namespace blue\n\n"
        "## BUSY: TCP port 80\n\n"
        "## net.ipv4.tcp_fin_timeout = 60\n\n"
        "- *now:* in 43 s\n- by itself\n\n"
        "- **WARNING** nginx (811): \\<b\\> (`x | y`)\n\n"
        "### Who\n\n"
        "- pid 811\n\n  - it listens\n\n"
        "| A\\|B | N |\n| --- | ---: |\n| a\\|b | 7 |\n\n"
        "- close_wait: 23 (whose: explain)\n- listen: 1"
    )


def test_html_is_one_file_named_after_its_first_line_and_runs_nothing():
    page = blocks_as_file(BLOCKS)
    assert "<title>network namespace blue - tcpdoctor</title>" in page
    assert "nginx (811): &lt;b&gt;" in page
    assert "<script" not in page
    assert page.isascii()


@pytest.mark.parametrize("everywhere", [(), ("--netns", "all")])
def test_explain_prints_a_page_in_every_format_of_all_namespaces_too(everywhere):
    asked = ("explain", "--error", "EADDRINUSE", *everywhere)
    markdown = tcpdoctor(*asked, "--format", "markdown").stdout
    assert markdown.startswith("# network namespace" if everywhere else "## EADDRINUSE (98, Address already")
    html = tcpdoctor(*asked, "--format", "html").stdout
    assert html.startswith("<!DOCTYPE html>")
    assert html.endswith("</html>\n")


def test_what_else_a_word_may_mean_stands_in_markdown_as_well():
    markdown = tcpdoctor("explain", "98", "--format", "markdown").stdout
    assert "98 is also EADDRINUSE:\n\n```sh\ntcpdoctor explain --error EADDRINUSE\n```\n" in markdown

"""Wrapping: 80 columns, paragraphs kept, commands whole."""

import re
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.report.style import PLAIN, Style

COLORED = Style(color=True, width=80)


def test_paragraphs_are_filled_and_kept_apart():
    assert PLAIN.wrap("one\ntwo\n\nthree", "  ") == "  one two\n\n  three"


def test_a_line_that_begins_with_four_spaces_is_an_example_and_stays():
    assert PLAIN.wrap("as in\n    ss -tn   # this\nthen", "  ") == "  as in\n      ss -tn   # this\n  then"


def test_an_example_that_is_too_long_is_continued_like_a_command():
    wrapped = PLAIN.wrap("as in\n    " + "ss -Htn " * 12 + "  # seen", "  ")
    assert wrapped.splitlines()[1] == "      # seen"
    assert wrapped.splitlines()[2].endswith(" \\")
    assert max(map(len, wrapped.splitlines())) <= 80


def test_a_command_in_prose_stays_on_one_line():
    for length in range(40, 80):
        text = "x" * length + " or end it (`kill -CONT 27687`); it runs"
        lines = PLAIN.wrap(text, "  ", "").splitlines()
        assert any("(`kill -CONT 27687`);" in line for line in lines)
        assert max(map(len, lines)) <= 80
        assert " ".join(" ".join(lines).split()) == text


def test_a_command_in_prose_that_is_longer_than_a_line_has_lines_of_its_own():
    pids = " ".join(map(str, range(27000, 27017)))
    wrapped = PLAIN.wrap(f"Or end all of them (`kill {pids}`); they run since noon.", "   ").splitlines()
    assert wrapped[0] == "   Or end all of them"
    assert wrapped[-1] == "   they run since noon."
    typed = " ".join(line.removesuffix("\\").strip() for line in wrapped[1:-1])
    assert shlex.split(typed) == ["kill", *pids.split()]
    assert [line.endswith(" \\") for line in wrapped[1:-1]] == [True, False]


def test_the_first_line_may_have_a_lead_of_its_own():
    assert PLAIN.wrap("word " * 20, "      ", "    - ").startswith("    - word")
    assert PLAIN.wrap("word " * 20, "      ", "    - ").splitlines()[1].startswith("      word")


def test_a_word_longer_than_the_line_is_cut_and_not_hidden():
    lines = PLAIN.wrap("x" * 200, "  ").splitlines()
    assert max(map(len, lines)) == 80
    assert "".join(line.strip() for line in lines) == "x" * 200


@pytest.mark.parametrize(
    "amount", ["5.8 %", "12 min", "2 min 5 s", "700 ms", "4.2 MiB", "3 B", "512 pages", "9 /s"]
)
def test_a_number_and_its_unit_stay_on_one_line_whatever_stands_before_them(amount):
    number, unit = amount.rsplit(" ", 1)
    for length in range(60, 80):
        lines = PLAIN.wrap("x" * length + f" {amount}, and so on").splitlines()
        assert any(f"{number.split()[-1]} {unit}," in line for line in lines)
        assert "\u00a0" not in "".join(lines)


def test_other_words_after_a_number_may_begin_a_line():
    assert PLAIN.wrap("x" * 76 + " 12 sockets").splitlines()[1] == "sockets"


@pytest.mark.parametrize("text", ["", "\n", " "])
def test_nothing_wraps_to_an_empty_line(text):
    assert PLAIN.wrap(text, "  ").strip() == ""


def test_colour_stands_beside_the_word_and_never_instead_of_it():
    assert PLAIN.severity("critical") == "critical"
    assert COLORED.severity("critical") == "\x1b[31mcritical\x1b[0m"
    assert COLORED.bold("") == ""


def test_colour_takes_no_room_and_ends_where_a_line_does():
    text = COLORED.bold("word " * 20) + COLORED.severity("critical") + ", and on"
    plain = "word " * 20 + "critical, and on"
    wrapped = COLORED.wrap(text, "  ", f"{COLORED.cyan('1.')} ")
    assert re.sub(r"\x1b\[\d+m", "", wrapped) == PLAIN.wrap(plain, "  ", "1. ")
    for line in wrapped.splitlines():
        begun = re.findall(r"\x1b\[(\d+)m", line)
        assert [code == "0" for code in begun] == [False, True] * (len(begun) // 2)
    assert "\x1b[31mcritical\x1b[0m, and on" in wrapped


def test_what_is_painted_after_it_was_wrapped_is_painted_line_by_line():
    painted = COLORED.bold(COLORED.wrap("word " * 20))
    assert [line[:4] + line[-4:] for line in painted.splitlines()] == ["\x1b[1m\x1b[0m"] * 2


def test_a_command_that_fits_stays_as_it_is():
    assert PLAIN.command("ss -tn   # falls", "    ") == "    ss -tn   # falls"


def test_the_comment_of_a_long_command_moves_above_it():
    command = "ss -tnp state fin-wait-2 | grep -c pid=811 | sort | uniq -c | sort -rn | head"
    assert PLAIN.command(f"{command}   # falls", "  ").splitlines() == ["  # falls", f"  {command}"]


def test_a_command_is_continued_outside_its_quotes():
    command = "gdb -p 811 -batch -ex 'thread apply all bt full and then some more words' -ex 'info threads'"
    lines = PLAIN.command(command, "    ").splitlines()
    assert lines[0].endswith(" \\")
    assert max(map(len, lines)) <= 80
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(command)


def test_a_real_shell_reads_a_continued_command_as_one():
    words = [f"word-{number}" for number in range(23)]
    wrapped = PLAIN.command("printf '%s\\n' " + " ".join(words), "    ")
    assert len(wrapped.splitlines()) > 2
    answer = subprocess.run(["sh", "-c", wrapped], capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.split() == words


def test_a_number_sign_inside_quotes_begins_no_comment():
    command = "sed -n 's/ # a/b/p' " + "file " * 20
    assert not PLAIN.command(command).startswith("#")


WORD = st.one_of(
    st.from_regex(r"[a-z0-9=/.-]{1,30}", fullmatch=True),
    st.from_regex(r"'[a-z |#-]{1,40}'", fullmatch=True),
    st.from_regex(r'"[a-z |#-]{1,40}"', fullmatch=True),
)


@given(words=st.lists(WORD, min_size=1, max_size=20), comment=st.from_regex(r"[a-z ]{0,90}", fullmatch=True))
def test_a_shell_reads_a_wrapped_command_as_the_command(words, comment):
    command = " ".join(words)
    wrapped = PLAIN.command(f"{command}   # {comment}" if comment.strip() else command, "    ")
    joined = wrapped.replace("\\\n", "")  # as a shell does
    assert shlex.split(joined, comments=True) == shlex.split(command)

"""What the lab leaves out of long outputs, and that it says so."""

from tcpdoctor.cli.lab_look import cut_lines


def test_lines_beyond_the_wanted_number_are_counted():
    text = "\n".join(f"line {number}" for number in range(40))
    assert cut_lines(text, 3) == "line 0\nline 1\nline 2\n[... 37 more lines]"
    assert cut_lines("one\ntwo\n", None) == "one\ntwo"


def test_without_a_number_the_cut_is_between_paragraphs():
    text = "\n".join([*("head" for _ in range(6)), "", *("body" for _ in range(30))])
    assert cut_lines(text, None) == "\n".join(["head"] * 6 + ["[... 31 more lines]"])

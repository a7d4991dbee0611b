"""What the lab leaves out of long outputs, and that it says so."""

from tcpdoctor.cli.lab_look import cut_lines


def test_lines_that_are_left_out_are_counted():
    lines = [f"line {number}" for number in range(61)]
    assert cut_lines("\n".join(lines)) == "\n".join([*lines[:24], "[... 37 more lines]"])
    assert cut_lines("one\ntwo\n") == "one\ntwo"


def test_the_cut_is_between_paragraphs():
    text = "\n".join([*("head" for _ in range(6)), "", *("body" for _ in range(30))])
    assert cut_lines(text) == "\n".join(["head"] * 6 + ["[... 31 more lines]"])

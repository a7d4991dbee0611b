"""What the lab leaves out of long outputs, and that it says so."""

from tcpdoctor.cli.lab_look import cut_finding, cut_lines

FINDING = """\
WARNING: web1: 1 finding (1 warning)
2026-11-20T03:00:00Z, one sample

WARNING  orders-api (811)
  Process does not close
  orders-api holds 137 sockets.

  Why: CLOSE_WAIT means that the other end has finished.

  How far the program got: no further.

  Cost: descriptors.

  Evidence
    close_wait.owned  137

  What to do
    1. Close each connection
       Look for it:

           gdb -p 811

       Risk: none
    2. Restart
       Risk: some

  What does not help
    - Raise the limit: it fills.

  Normal when
    - a pool is idle

  More: tcpdoctor explain --rule close-wait-leak --long

Sockets: 137 close_wait.

Checked the one rule in force.
"""


def test_a_finding_keeps_what_the_story_does_not_say():
    text = cut_finding(FINDING, again=False)
    kept = ("orders-api holds 137", "Evidence", "gdb -p 811", "Risk: none", "What does not help")
    assert [words for words in kept if words not in text] == []
    left_out = ("Why:", "How far", "Cost:", "2. Restart", "Normal when", "More:", "Sockets:", "Checked")
    assert [words for words in left_out if words in text] == []
    assert text.count("[...]") == 3


def test_a_finding_that_was_told_before_is_only_named():
    text = cut_finding(FINDING, again=True)
    assert text.endswith("orders-api holds 137 sockets.\n\n  [...]")


def test_colour_does_not_change_what_is_cut():
    colored = FINDING.replace("  Evidence", "\x1b[1m  Evidence\x1b[0m").replace(
        "WARNING  orders", "\x1b[33mWARNING\x1b[0m  orders"
    )
    assert cut_finding(colored, again=False).replace("\x1b[1m", "").replace("\x1b[0m", "").replace(
        "\x1b[33m", ""
    ) == cut_finding(FINDING, again=False)


def test_an_answer_without_findings_stays_whole():
    text = "OK: web1: nothing wrong was found\n\nSockets: none.\n\nChecked the one rule in force.\n"
    assert cut_finding(text, again=False) == text.rstrip()


def test_lines_beyond_the_wanted_number_are_counted():
    text = "\n".join(f"line {number}" for number in range(40))
    assert cut_lines(text, 3) == "line 0\nline 1\nline 2\n[... 37 more lines]"
    assert cut_lines("one\ntwo\n", None) == "one\ntwo"


def test_without_a_number_the_cut_is_between_paragraphs():
    text = "\n".join([*("head" for _ in range(6)), "", *("body" for _ in range(30))])
    assert cut_lines(text, None) == "\n".join(["head"] * 6 + ["[... 31 more lines]"])

"""What a tired person reads: verdict, worst first, evidence, what to do and what not."""

import re

import pytest

from tcpdoctor.diagnosis.finding import Evidence, Severity, SysctlFix, Untold
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.check_html import check_html
from tcpdoctor.report.check_markdown import check_markdown
from tcpdoctor.report.check_nagios import check_nagios
from tcpdoctor.report.check_text import check_text, finding_text, lesson_text
from tcpdoctor.report.finding_page import MOST_ALIKE, how_to_keep
from tcpdoctor.report.style import PLAIN, Style
from tests.report.examples import CENSUS, CRITICAL, FINDING, HIDDEN, INAPPLICABLE, INFO, SNAPSHOT, check


def text_of(*findings, style=PLAIN, **options):
    return check_text(check(*findings, **options), style)


def test_a_healthy_host_hears_so_and_what_was_looked_at():
    assert text_of().splitlines() == [
        "OK: web1: nothing wrong was found",
        "2026-11-20T12:00:00Z, two samples 1 s apart, Linux 6.18.44, network namespace",
        "4026531840, the host's own",
        "",
        "Sockets: 12 established, 120 fin_wait_2, 4 listen. Not known: bound (this kernel",
        "does not list bound sockets).",
        "",
        "Checked all 20 rules.",
    ]


def test_an_information_does_not_hide_in_the_first_line_that_rules_are_open():
    text = text_of(INFO, unchecked=[HIDDEN], window=0.0)
    assert text.startswith("OK: web1: 1 finding (1 info); 1 rule could not be answered\n")


def test_what_could_not_be_checked_is_said_before_anybody_feels_safe():
    text = text_of(unchecked=[HIDDEN, INAPPLICABLE], window=0.0)
    assert text.startswith("OK: web1: nothing wrong was found, but 1 rule could not be answered\n")
    assert "one sample" in text
    assert text.splitlines()[-5:] == [
        "Checked 18 of 20 rules. No full answer from 2 rules:",
        "  - owners of 7 sockets are hidden: run as root",
        "    close-wait-leak",
        "  - does not apply here: tcp_mem is the whole machine's",
        "    tcp-memory-nearly-full",
    ]


def test_a_rule_that_does_not_apply_here_worries_nobody():
    assert text_of(unchecked=[INAPPLICABLE]).startswith("OK: web1: nothing wrong was found\n")


def test_rules_with_one_reason_share_a_line():
    text = text_of(unchecked=[HIDDEN, HIDDEN._replace(rule="other")])
    assert text.count("run as root") == 1
    assert "close-wait-leak, other" in text


def test_too_little_checked_is_unknown_and_not_ok():
    assert text_of(unchecked=[HIDDEN], rules=1).startswith("UNKNOWN: web1: too little could be checked")


def test_the_verdict_counts_findings_by_severity():
    text = text_of(CRITICAL, FINDING, INFO)
    assert text.startswith("CRITICAL: web1: 3 findings (1 critical, 1 warning, 1 info)\n")


def test_a_finding_holds_everything_needed_to_act():
    text = finding_text(FINDING, PLAIN)
    for words in (
        "WARNING  nginx (811)\n  Process keeps half-closed sockets open\n",
        "Why: It has sent its FIN",
        "Cost: Each takes a descriptor",
        "    fin_wait_2.owned                     120  sock_diag\n",
        "    1. Close the socket, or bound the wait for the peer's FIN [code]\n",
        "       Verify: ss -tnp state fin-wait-2 | grep -c pid=811   # falls\n",
        "       net.ipv4.tcp_fin_timeout: 60 here, set 30 (this network namespace only)\n",
        "         sysctl -w net.ipv4.tcp_fin_timeout=30\n",
        "       Undo: sysctl -w net.ipv4.tcp_fin_timeout=60\n",
        "  What does not help\n    - Lower net.ipv4.tcp_fin_timeout: It ends orphans only",
        "  Normal when\n    - a protocol that half-closes",
        "  More: tcpdoctor explain --rule fin-wait-2-held-open --long",
    ):
        assert words in text


def test_a_sysctl_of_several_numbers_is_quoted_for_the_shell():
    change = SysctlFix(
        "net.ipv4.tcp_rmem",
        [],
        [4096, 131072, 6291456],
        "net.ipv4.tcp_rmem = 4096 131072 6291456",
        "host",
        "sysctl -w net.ipv4.tcp_rmem='4096 131072 6291456'",
    )
    text = finding_text(FINDING._replace(fixes=(FINDING.fixes[1]._replace(sysctl=change),)), PLAIN)
    assert "sysctl -w net.ipv4.tcp_rmem='4096 131072 6291456'" in text
    assert "empty here, set 4096 131072 6291456 (the whole machine)" in " ".join(text.split())


def test_a_value_that_could_not_be_computed_gives_no_command_to_copy():
    change = SysctlFix("net.ipv4.tcp_rmem", None, None, "# not known", "namespace")
    fix = FINDING.fixes[1]._replace(sysctl=change, commands=(), undo=None)
    text = finding_text(FINDING._replace(fixes=(fix,)), PLAIN)
    assert "not known here; which value to set could not be computed" in " ".join(text.split())
    assert "sysctl -w" not in text
    assert "None" not in text


def test_a_command_that_the_rule_spells_out_is_printed_once():
    fix = FINDING.fixes[1]._replace(undo=None)
    text = finding_text(FINDING._replace(fixes=(fix,)), PLAIN)
    assert text.count("sysctl -w net.ipv4.tcp_fin_timeout=30") == 1


def test_a_second_subject_of_a_rule_does_not_repeat_the_prose():
    other = FINDING._replace(label="nginx (999)", summary="nginx (pid 999) holds 400 sockets.")
    text = text_of(FINDING, other)
    assert text.count("Why:") == 1
    assert "nginx (pid 999) holds 400 sockets." in text
    assert "as for nginx (811) above" in text


def test_hundreds_of_subjects_are_counted_and_not_printed():
    findings = [FINDING._replace(label=f"nginx ({pid})") for pid in range(230)]
    text = text_of(*findings)
    assert text.count("WARNING  nginx") == MOST_ALIKE
    assert "... and 220 findings more of fin-wait-2-held-open" in text
    assert "230 findings (230 warning)" in text


def test_without_a_census_the_sockets_are_unknown_and_not_none():
    text = text_of(snapshot=SNAPSHOT._replace(census=Missing("sock_diag: EPERM")))
    assert "Sockets: unknown. Not known: all of them (sock_diag: EPERM)." in text


def test_a_partial_census_says_that_there_may_be_more():
    census = CENSUS._replace(complete=Missing("the kernel's tables changed"))
    assert "There may be more sockets than counted: the kernel's tables changed." in text_of(
        snapshot=SNAPSHOT._replace(census=census)
    )


LONG = "a-process-with-a-very-long-name/" * 6


@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_line_is_wider_than_the_terminal_whatever_the_names(width):
    finding = FINDING._replace(
        label=LONG,
        summary=f"{LONG} holds 120 sockets",
        evidence=(
            Evidence("fin_wait_2.owned", 120, "count", "sock_diag, " * 12, "120"),
            Evidence("fin_wait_2.peers", LONG, "text", "sock_diag", f"{LONG} (12), 10.0.0.7:443 (3)"),
        ),
    )
    hidden = HIDDEN._replace(reason=f"{LONG} hides from us")
    snapshot = SNAPSHOT._replace(host=LONG, namespace_name=LONG)
    text = text_of(finding, unchecked=[hidden], snapshot=snapshot, style=Style(color=False, width=width))
    copied = ("sysctl -w", "net.ipv4.tcp_fin_timeout = 30")  # a single word is not cut
    wide = [line for line in text.splitlines() if len(line) > width and not line.strip().startswith(copied)]
    assert wide == []


def test_colour_says_nothing_that_words_do_not():
    colored = text_of(CRITICAL, INFO, unchecked=[HIDDEN], style=Style(color=True, width=80))
    assert "\x1b[31mCRITICAL\x1b[0m: web1" in colored
    assert re.sub(r"\x1b\[\d+m", "", colored) == text_of(CRITICAL, INFO, unchecked=[HIDDEN])


def test_a_host_named_like_a_verdict_keeps_its_name_uncoloured():
    text = text_of(snapshot=SNAPSHOT._replace(host="OK"), style=Style(color=True, width=80))
    assert text.startswith("\x1b[32mOK\x1b[0m: OK: nothing wrong was found\n")


def test_prose_after_an_example_is_set_apart_from_it():
    (fix, _) = FINDING.fixes
    shown = finding_text(
        FINDING._replace(
            fixes=(
                fix._replace(prose="Look:", commands=("ss -tn",)),
                fix._replace(prose="Look.", commands=()),
            )
        ),
        PLAIN,
    )
    assert "           ss -tn\n\n       Risk:" in shown
    assert "       Look.\n       Risk:" in shown


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (0, "There was no rule to check: all are switched off."),
        (1, "Checked the one rule in force."),
        (20, "Checked all 20 rules."),
    ],
)
def test_the_last_line_says_how_many_rules_were_checked(rules, said):
    assert check_text(check(rules=rules), PLAIN).splitlines()[-1] == said


def test_what_a_bound_leaves_out_is_counted_too():
    text = check_text(check(FINDING, untold=[Untold(FINDING.rule, Severity.WARNING, 1233)]), PLAIN)
    assert "1234 findings (1234 warning)" in text
    assert (
        f"... and 1233 findings more of {FINDING.rule}; --format json has the 1 worst (most_subjects in man"
        in " ".join(text.split())
    )


@pytest.mark.parametrize("render", [check_markdown, check_html, check_nagios])
def test_every_form_for_people_says_how_many_are_left_out(render):
    text = render(check(FINDING, untold=[Untold(FINDING.rule, Severity.WARNING, 1233)]))
    assert "1234 findings" in text
    assert f"and 1233 findings more of {FINDING.rule}" in text


def test_who_keeps_a_setting_hears_which_files_come_later_and_of_its_module():
    plain, tracked = how_to_keep("net.ipv4.tcp_fin_timeout"), how_to_keep("net.netfilter.nf_conntrack_max")
    assert "60-tcpdoctor.conf, which comes before 99-sysctl.conf and /etc/sysctl.conf" in plain
    assert "modules-load.d" not in plain
    assert "name its module in /etc/modules-load.d" in tracked
    assert plain.endswith(":")
    assert tracked.endswith(":")


def lesson(*findings, again=False, style=PLAIN):
    return lesson_text(check(*findings), style, again=again)


def test_a_lesson_keeps_what_its_story_does_not_say():
    text = lesson(FINDING)
    kept = (FINDING.summary[:40], "Evidence", "1. Close the socket", "What does not help")
    assert [words for words in kept if words not in text] == []
    left_out = ("Why:", "Cost:", "2. Shorten", "Normal when", "More:", "Sockets:", "Checked", "Not known")
    assert [words for words in left_out if words in text] == []
    assert text.endswith("\n\n  [...]\n")
    assert [line for line in text.splitlines() if "[...]" in line] == ["    [...]", "  [...]"]


def test_a_finding_that_was_told_before_is_only_named():
    text = lesson(FINDING, again=True)
    assert text.endswith("in FIN_WAIT_2, the oldest for at least\n  10 min.\n\n  [...]\n")
    assert "Evidence" not in text


def test_what_is_like_a_finding_above_is_not_told_to_who_knows_it():
    again = FINDING._replace(label="redis (7)", summary="redis (pid 7) holds 23 sockets.")
    assert "as for nginx (811) above" in lesson(FINDING, again)
    assert lesson(FINDING, again, again=True).count("  [...]") == 2
    assert lesson(FINDING, again).splitlines()[-1].startswith("WARNING: nginx (811)")


def test_colour_does_not_change_what_a_lesson_leaves_out():
    colored = lesson(FINDING, style=PLAIN._replace(color=True))
    assert re.sub("\x1b\\[[0-9;]*m", "", colored) == lesson(FINDING)


def test_a_lesson_without_findings_is_the_whole_answer():
    assert lesson() == text_of()

"""The short form: found in five seconds, with what to type, at 80 columns and at any other width."""

import shlex

import pytest

from tcpdoctor.diagnosis.finding import Finding, Severity, Untold
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.check_short import check_short, unanswered_text
from tcpdoctor.report.style import PLAIN, Style
from tcpdoctor.report.table import cut
from tests.report.examples import CENSUS, CRITICAL, FINDING, HIDDEN, INAPPLICABLE, INFO, SNAPSHOT, check

CLOSE = FINDING._replace(
    rule="close-wait-leak",
    label="orders-api (27685)",
    whom="orders-api (27685)",
    headline="137 CLOSE_WAIT left open 17 min+, fds 143/1024",
    fixes=(FINDING.fixes[0]._replace(commands=("ss -Htnp state close-wait | grep 'pid=27685,'",)),),
)
WORST = CLOSE._replace(
    rule="accept-queue-full",
    severity=Severity.CRITICAL,
    label="127.0.0.1:9443",
    whom="payments (27687)",
    headline="accept queue 6 of 5 on :9443, clients wait",
)
FIVE = (
    WORST,
    *(CLOSE._replace(label=f"worker-with-a-long-name ({pid})", whom="") for pid in range(1001, 1005)),
)


def short(*findings: Finding, width: int = 80, terminal: bool = False, **options: object) -> list[str]:
    style = Style(color=False, width=width, terminal=terminal)
    return check_short(check(*findings, **options), style).splitlines()


def test_a_healthy_host_is_told_in_five_lines_where_to_go_on():
    assert short(terminal=True) == [
        "OK  web1: nothing wrong                                     12:00:00Z, 1 s apart",
        "    12 established  120 fin_wait_2  4 listen    20 of 20 rules answered",
        "    A service fails anyway?  tcpdoctor explain 8080        it cannot bind a port",
        "                             tcpdoctor explain db:5432     it cannot connect",
        "                             tcpdoctor explain ECONNRESET  it shows an error",
    ]


def test_a_number_stays_with_its_state_however_narrow_the_terminal_is():
    lines = short(width=40)[2:4]
    assert lines == ["    12 established  120 fin_wait_2", "    4 listen    20 of 20 rules answered"]


def test_where_the_output_is_no_terminal_the_date_is_told():
    assert short()[0].endswith("2026-11-20T12:00:00Z, 1 s apart")


def test_a_namespace_that_is_not_the_hosts_is_named():
    elsewhere = SNAPSHOT._replace(initial_namespace=False, namespace_name="blue")
    assert "netns blue" in short(snapshot=elsewhere)[0]


def test_five_findings_fit_24_lines_and_the_worst_is_first_and_last():
    lines = short(*FIVE)
    assert len(lines) <= 24
    assert lines[0].startswith("CRITICAL  web1: 1 critical, 4 warning")
    assert lines[2] == " CRITICAL payments (27687)     accept queue 6 of 5 on :9443, clients wait"
    assert lines[3] == "          -> ss -Htnp state close-wait | grep 'pid=27685,'     accept-queue-full"
    assert lines[-1] == "CRITICAL: payments (27687) accept queue 6 of 5 on :9443, clients wait"
    assert " Each in full: tcpdoctor check RULE" in lines[-2]


def test_a_long_name_is_cut_before_its_pid():
    assert cut("worker-with-a-long-name (1001)", 20) == "worker-with-~ (1001)"
    assert cut("nginx (811)", 20) == "nginx (811)"
    assert len(cut("x" * 50, 20)) == 20


def test_one_finding_says_what_to_do_and_what_not():
    lines = short(CLOSE)
    text = "\n".join(lines)
    assert lines[2].startswith(" WARNING  orders-api (27685): ")
    assert "   do     close the socket, or bound the wait for the peer's FIN" in text
    assert "            ss -Htnp state close-wait | grep 'pid=27685,'" in text
    assert "   not    lower net.ipv4.tcp_fin_timeout: It ends orphans only" in text
    assert "   more   tcpdoctor check close-wait-leak" in text
    assert len(lines) <= 14


def test_the_last_command_of_one_finding_is_never_cut_within_a_word():
    recording = "/srv/a-case-of-the-database-server/ss-tanoempi.txt"
    style = Style(color=False, width=40, recorded=(recording,))
    text = check_short(check(CLOSE), style)
    assert (
        f"   more   tcpdoctor check \\\n            close-wait-leak --from \\\n            {recording}\n"
    ) in text + "\n"


def test_more_than_ten_are_counted_by_severity():
    many = [CLOSE._replace(label=f"x ({pid})") for pid in range(7)] + [INFO] * 5
    assert " and 2 more (2 info): --long" in short(*many)


def test_what_names_those_beyond_ten_is_told():
    """--long names ten of a rule."""
    many = [CLOSE._replace(label=f"x ({pid})") for pid in range(13)] + [INFO] * 11
    text = "\n".join(short(*many))
    assert " and 14 more (3 warning, 11 info): --format json\n" in text
    assert text.count("close-wait-leak") == 10
    counted = " ".join(short(*many, untold=[Untold(CLOSE.rule, Severity.WARNING, 17)])).split()
    assert (
        "and 31 more (20 warning, 11 info): --format json; 17 counted only: most_subjects in man "
        "tcpdoctor-rules is how many are named"
    ) in " ".join(counted)


def test_unanswered_rules_are_told_with_the_first_reason_before_the_last_line():
    lines = short(*FIVE, unchecked=[HIDDEN, INAPPLICABLE])
    told = next(line for line in lines if "--unanswered" in line)
    assert told == " 18 of 20 rules answered; 1 not (owners of 7 sockets are...): --unanswered"
    assert lines.index(told) < len(lines) - 1
    assert "18 of 20 rules answered; 1 not" in "\n".join(short(unchecked=[HIDDEN, INAPPLICABLE]))


def test_a_rule_that_does_not_apply_is_not_told():
    assert not [line for line in short(unchecked=[INAPPLICABLE]) if "--unanswered" in line]


def test_unanswered_tells_every_reason():
    text = unanswered_text(check(unchecked=[HIDDEN, INAPPLICABLE]), PLAIN)
    assert "18 of 20 rules answered; not answered:" in text
    assert "owners of 7 sockets are hidden: run as root" in text
    assert "does not apply here: tcp_mem is the whole machine's" in text


def test_sockets_that_could_not_be_counted_are_unknown_and_not_none():
    blind = SNAPSHOT._replace(census=Missing("no netlink here"))
    assert "sockets unknown" in "\n".join(short(snapshot=blind))
    assert "no TCP socket" not in "\n".join(short(snapshot=blind))
    assert CENSUS.bound not in short()


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("findings", [(), (CLOSE,), FIVE, (CRITICAL, FINDING, INFO)])
def test_no_line_is_wider_than_the_terminal(width, findings):
    lines = short(*findings, width=width, unchecked=[HIDDEN])
    wide = [line for line in lines if len(line) > width]
    assert [line for line in wide if "state close-wait" not in line] == []
    assert not [line for line in lines if line != line.rstrip()]
    assert "\n".join(lines).isascii()


def test_colour_is_never_the_only_sign():
    plain = check_short(check(*FIVE), PLAIN)
    colored = check_short(check(*FIVE), Style(color=True, width=80))
    for code in ("0", "1", "2", "31", "33", "36"):
        colored = colored.replace(f"\x1b[{code}m", "")
    assert colored == plain


def test_what_a_bound_leaves_out_is_counted_too():
    untold = [Untold(WORST.rule, Severity.CRITICAL, 1230), Untold(WORST.rule, Severity.WARNING, 4)]
    lines = short(WORST, CLOSE, untold=untold)
    assert "web1: 1,231 critical, 5 warning" in lines[0]
    assert (
        "and 1,234 more (1,230 critical, 4 warning): counted only: most_subjects in man tcpdoctor-rules is "
        "how many are named"
    ) in " ".join("\n".join(lines).split())


def test_a_command_of_two_lines_can_be_copied_as_it_stands():
    typed = "ss -Htn state syn-recv | awk '{print $3}' | sort | uniq -c | sort -rn | head -20"
    long = CLOSE._replace(fixes=(CLOSE.fixes[0]._replace(commands=(typed,)),))
    lines = short(WORST, long)
    place = next(number for number, line in enumerate(lines) if "syn-recv" in line)
    shown = " ".join([lines[place].partition("-> ")[2].removesuffix("\\"), lines[place + 1].strip()])
    assert shlex.split(shown)[: len(shlex.split(typed))] == shlex.split(typed)

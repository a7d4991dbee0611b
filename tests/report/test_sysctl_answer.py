"""`explain --sysctl` as text and JSON, from literals."""

import json

import pytest

from tcpdoctor.answers.sysctl import SysctlAnswer, SysctlHere, sysctl_answer
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.settings_rules import Warned
from tcpdoctor.diagnosis.sysctl_look import Origin, Source
from tcpdoctor.facts.deadlines import TICK_SECONDS
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.knowledge.sysctl_pages import find_sysctl, sysctl_names, unknown_sysctl
from tcpdoctor.report.document import as_json
from tcpdoctor.report.page import page_text
from tcpdoctor.report.style import PLAIN
from tcpdoctor.report.sysctl_text import sysctl_page
from tests.facts.test_state_deadlines import DEFAULTS
from tests.report.test_state_answer import WHO
from tests.schemas import described


def answer(name: str = "tcp_fin_timeout", value: object = 60, page=None, **changed) -> SysctlAnswer:
    page = page or find_sysctl(name)
    here = SysctlHere(
        value=value,
        exists=True,
        writable=True,
        bounds=(-8589934, 8589934),
        sysctls=DEFAULTS | ({page.name: value} if page.name in DEFAULTS else {}),
        tick=TICK_SECONDS,
        page_size=4096,
    )
    return sysctl_answer(page, WHO, 1_795_000_000.0, here._replace(**changed))


def flat(given: SysctlAnswer) -> str:
    return " ".join(page_text(sysctl_page(given, PLAIN), PLAIN).split())


@pytest.mark.parametrize("name", sysctl_names())
@pytest.mark.parametrize("exists", [True, False])
def test_every_page_fits_80_columns_and_is_plain_text(name, exists):
    text = page_text(
        sysctl_page(answer(name, 7 if exists else Missing("not here"), exists=exists), PLAIN), PLAIN
    )
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.isascii()
    assert "None" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_the_first_line_is_the_value_here_and_whether_it_is_the_default():
    assert flat(answer()).startswith("net.ipv4.tcp_fin_timeout = 60 (60 s; the default)")
    changed = answer(value=30)
    assert flat(changed).startswith("net.ipv4.tcp_fin_timeout = 30 (30 s; changed: the default is 60)")


def test_what_it_does_not_do_comes_before_all_particulars():
    lines = page_text(sysctl_page(answer(), PLAIN), PLAIN).splitlines()
    assert lines.index("What it does not do") < 6
    assert "It does not shorten TIME_WAIT" in " ".join(lines[:8])


def test_what_the_value_comes_to_is_computed():
    assert "FIN_WAIT_2, orphan: 10 to 11 s (above 60: 2 x (65 - 60) s)" in flat(answer(value=65))
    zero = flat(answer("tcp_orphan_retries", 0))
    assert "net.ipv4.tcp_orphan_retries = 0 (means 8; the default)" in zero
    assert "FIN_WAIT_1, CLOSING, LAST_ACK, orphan: 100 to 110 s" in zero


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("tcp_keepalive_time", 7200, "= 7200 (2 h; the default)"),
        ("tcp_rto_min_us", 200_000, "= 200000 (200 ms; the default)"),
        ("tcp_rmem", (4096, 131072, 33554432), "= 4096 131072 33554432 (4 KiB, 128 KiB, 32 MiB)"),
        ("tcp_mem", (287898, 383867, 575796), "(1.1 GiB, 1.5 GiB, 2.2 GiB)"),
        ("ip_local_port_range", (32768, 60999), "= 32768 60999 (28,232 ports; the default)"),
        ("ip_local_reserved_ports", (), "= empty (the default)"),
        ("ip_local_reserved_ports", ((8080, 8080), (9000, 9010)), "= 8080,9000-9010 (12 ports; changed"),
        ("tcp_tw_reuse", 1, "= 1 (for every destination; changed: the default is 2)"),
        ("tcp_notsent_lowat", 4294967295, "= 4294967295 (no limit; the default)"),
        ("tcp_congestion_control", "cubic", "net.ipv4.tcp_congestion_control = cubic How"),
        ("tcp_retries2", 15, "= 15 (the default)"),
    ],
)
def test_a_value_is_said_in_words(name, value, words):
    said = flat(answer(name, value))
    assert words.removesuffix(" How") in said


def test_a_sysctl_that_is_gone_says_since_when_and_what_instead():
    said = flat(answer("tcp_tw_recycle", Missing("no such file"), exists=False, writable=False))
    assert said.startswith("net.ipv4.tcp_tw_recycle: not on this kernel (6.18.44) Gone since Linux 4.12.")
    assert "Instead: for connect() that runs out of ports: tcp_tw_reuse" in said


def test_a_sysctl_that_is_too_young_for_this_kernel_says_since_when_it_is_there():
    said = flat(answer("tcp_rto_max_ms", Missing("no such file"), exists=False))
    assert "not on this kernel" in said
    assert "since Linux 6.15" in said
    assert "What that means here" not in said


def test_one_that_only_the_initial_namespace_shows_says_so():
    reason = "net.ipv4.tcp_mem exists in the initial network namespace only"
    said = flat(answer("tcp_mem", Missing(reason), writable=False))
    assert said.startswith(f"net.ipv4.tcp_mem: not known here: {reason}")
    assert "Scope one for the machine; only the initial network namespace shows it" in said


def test_one_that_is_not_known_at_all_has_its_value():
    said = flat(answer(value=5, page=unknown_sysctl("net.ipv4.tcp_new"), bounds=None))
    assert said.startswith("net.ipv4.tcp_new = 5 ")


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0, 255), "Accepts 0 to 255"),
        ((1, 2**31 - 1), "Accepts 1 or more"),
        ((-(2**31), 2**31 - 1), "the kernel does not check its sense"),
    ],
)
def test_the_range_is_said_without_the_limits_of_the_type(bounds, words):
    assert words in flat(answer("tcp_retries2", 15, bounds=bounds))


KEYS = (
    "schema sysctl file host taken_at exists writable value printed in_words is_default missing unit meaning "
    "governs does_not beware default default_is accepts accepts_is values scope since removed instead "
    "deadlines assumed_rto_s see_also findings rules set_by not_set_by"
)


@pytest.mark.parametrize("name", sysctl_names())
def test_json_says_the_same_in_named_fields(name):
    said = as_json(answer(name, 7))
    assert " ".join(said) == KEYS
    assert said["schema"] == "tcpdoctor.sysctl/1"
    assert described(json.dumps(said, allow_nan=False)) == said


def test_json_has_numbers_and_what_is_missing():
    said = as_json(answer(value=65))
    assert (said["value"], said["printed"], said["is_default"]) == (65, "65", False)
    (deadline,) = said["deadlines"]
    assert (deadline["states"], deadline["low_s"]) == (["fin_wait_2"], 10.0)
    missing = as_json(answer("tcp_tw_recycle", Missing("no such sysctl"), exists=False))
    assert (missing["value"], missing["exists"]) == (None, False)
    assert missing["missing"] == dict.fromkeys(
        ("value", "printed", "in_words", "is_default"), "no such sysctl"
    )
    assert as_json(answer("ip_local_reserved_ports", ((1, 2),)))["value"] == [[1, 2]]


FILE = Source("file", "/etc/sysctl.d/60-x.conf", 3, "30")


def test_what_set_the_value_is_said_where_that_can_be_seen():
    assert "Set by /etc/sysctl.d/60-x.conf line 3" in flat(answer(value=30, origin=Origin(FILE, None)))
    differs = flat(answer(value=60, origin=Origin(None, FILE)))
    assert "Differs /etc/sysctl.d/60-x.conf line 3 says 30: not applied, or changed since" in differs
    assert "Set by nothing that can be seen" in flat(answer(value=30))
    assert "Set by" not in flat(answer())
    assert as_json(answer(value=30, origin=Origin(FILE, None)))["set_by"]["line"] == 3


def test_what_rules_say_of_the_value_stands_before_everything_else():
    warned = Warned("tcp-buffers-tiny", Severity.WARNING, "It is 4 87 6144.")
    told = answer("tcp_rmem", (4, 87, 6144), warnings=(warned,), rules=("tcp-buffers-tiny",))
    text = page_text(sysctl_page(told, PLAIN), PLAIN)
    words = " ".join(text.split())
    assert "warning: It is 4 87 6144. (`tcpdoctor explain --rule tcp-buffers-tiny`)" in words
    assert text.index("tcp-buffers-tiny") < text.index("What it does not do")
    said = as_json(told)
    assert said["findings"] == [
        {"rule": "tcp-buffers-tiny", "severity": "warning", "summary": "It is 4 87 6144."}
    ]
    assert said["rules"] == ["tcp-buffers-tiny"]


def test_a_value_that_the_kernel_computed_is_the_default():
    value = (4096, 131072, 6291456)
    assert "the default" in flat(answer("tcp_rmem", value, is_computed=True))
    assert "changed: the default is 4096, 131072, and by memory" in flat(
        answer("tcp_rmem", value, is_computed=False)
    )
    assert "default" not in flat(answer("tcp_rmem", value)).splitlines()[0]

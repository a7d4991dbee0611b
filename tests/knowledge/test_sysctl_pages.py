"""Every sysctl has a page that is complete, and both sources of words know the same names."""

import os
import re

import pytest

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.sysctl_facts import SYSCTL_FACTS
from tcpdoctor.kernel.sysctl import MACHINE_WIDE
from tcpdoctor.knowledge.resource import list_names, parse_toml, read_text
from tcpdoctor.knowledge.sysctl_pages import FOLDER, dotted, find_sysctl, sysctl_names
from tests.cli.command import complaint, tcpdoctor

NAMES = sysctl_names()
PAGES = [find_sysctl(name) for name in NAMES]

GONE = (
    "tcp_tw_recycle tcp_prequeue tcp_thin_dupack tcp_frto_response tcp_max_ssthresh tcp_abc "
    "tcp_dma_copybreak tcp_cookie_size tcp_tw_len ip_conntrack_max rt_cache_rebuild_count tcp_bic "
    "tcp_westwood tcp_vegas_cong_avoid"
)


def test_every_sysctl_that_is_a_fact_has_a_page():
    assert set(SYSCTL_FACTS) <= set(NAMES)


def test_unit_and_meaning_are_told_once():
    own = {name for name in NAMES if "meaning" in table_of(name)}
    assert own == set(NAMES) - set(SYSCTL_FACTS)


def table_of(name: str):
    texts = [read_text(f"{FOLDER}/{file}") for file in list_names(FOLDER)]
    return next(parse_toml(text)[name] for text in texts if f'\n["{name}"]' in text)


def test_every_sysctl_of_tcp_on_this_kernel_has_a_page():
    here = {f"net.ipv4.{name}" for name in os.listdir("/proc/sys/net/ipv4") if name.startswith("tcp_")}
    assert here <= set(NAMES)


def test_no_sysctl_has_two_pages():
    assert len(NAMES) == len(set(NAMES))
    assert len(NAMES) > 130


@pytest.mark.parametrize("name", [f"net.ipv4.{name}" for name in GONE.split()])
def test_what_old_advice_mentions_is_told_to_be_gone(name):
    page = find_sysctl(name)
    assert page.removed is not None
    assert page.instead is not None


@pytest.mark.parametrize(
    "asked",
    [
        "tcp_fin_timeout",
        "TCP_FIN_TIMEOUT",
        "net.ipv4.tcp_fin_timeout",
        "ipv4.tcp_fin_timeout",
        "net/ipv4/tcp_fin_timeout",
        "/proc/sys/net/ipv4/tcp_fin_timeout",
        "proc/sys/net/ipv4/tcp_fin_timeout",
        "net.ipv4.tcp_fin_timeout = 30",
        "tcp-fin-timeout",
    ],
)
def test_every_usual_spelling_is_understood(asked):
    assert find_sysctl(asked).name == "net.ipv4.tcp_fin_timeout"


def test_a_name_without_its_prefix_and_what_people_say_instead_are_understood_unless_an_option_is_called_so():
    assert find_sysctl("window scaling").name == "net.ipv4.tcp_window_scaling"
    assert find_sysctl("conntrack").name == "net.netfilter.nf_conntrack_max"
    for option in ("user timeout", "congestion control", "keepalive time", "fastopen"):
        with pytest.raises(QuestionError):
            find_sysctl(option)


def test_of_two_with_the_same_last_part_the_ipv4_one_is_meant():
    assert find_sysctl("ip_nonlocal_bind").name == "net.ipv4.ip_nonlocal_bind"
    assert find_sysctl("ipv6.ip_nonlocal_bind").name == "net.ipv6.ip_nonlocal_bind"


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("tcp_fin_timout", "net.ipv4.tcp_fin_timeout"), ("tcp_sincookie", "net.ipv4.tcp_syncookies")],
)
def test_an_unknown_sysctl_gets_the_nearest(asked, nearest):
    with pytest.raises(QuestionError, match=f"did you mean {nearest}\\?"):
        find_sysctl(asked)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("tcp_new", "net.ipv4.tcp_new"),
        ("net/ipv4/tcp_new", "net.ipv4.tcp_new"),
        ("/proc/sys/net/ipv4/tcp_new", "net.ipv4.tcp_new"),
        ("../../etc/passwd", "etc.passwd"),
        ("a b", None),
        ("", None),
    ],
)
def test_a_name_is_brought_into_one_form_without_ways_out_of_proc_sys(asked, name):
    assert dotted(asked) == name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_complete_and_refers_to_pages_that_are_there(page):
    for sentence in filter(None, (page.meaning, page.governs, page.does_not, page.beware)):
        assert sentence.endswith(".")
        assert sentence[0].isupper() or sentence[0].isdigit() or sentence.startswith(("connect()", "bind()"))
    assert set(page.see) <= set(NAMES) - {page.name}
    assert page.scope in ("namespace", "initial", "shared", "machine")
    if page.removed is None:
        assert (page.default is None) != (page.default_is is None)


def test_what_only_the_initial_namespace_has_is_what_the_reader_takes_for_machine_wide():
    initial = {page.name for page in PAGES if page.scope == "initial"}
    assert initial == MACHINE_WIDE & set(NAMES)


@pytest.mark.parametrize("page", [page for page in PAGES if page.limits], ids=lambda page: page.name)
def test_limits_are_in_order_and_hold_the_default(page):
    numbers = [limit for limit in page.limits or () if isinstance(limit, int)]
    assert numbers == sorted(numbers)
    if page.default and len(numbers) == 2:
        assert all(numbers[0] <= int(part) <= numbers[1] for part in page.default.split())


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("rp_filter", "net.ipv4.conf.all.rp_filter"),
        ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.all.rp_filter"),
        ("net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.all.rp_filter"),
        ("net/ipv4/conf/eth0/rp_filter", "net.ipv4.conf.all.rp_filter"),
        ("net.ipv4.tcp_mem.pressure", "net.ipv4.tcp_mem"),
        ("tcp_mem.pressure", "net.ipv4.tcp_mem"),
        ("sysctl.net.ipv4.tcp_mem.max", "net.ipv4.tcp_mem"),
        ("default.net.ipv4.tcp_rmem.max", "net.ipv4.tcp_rmem"),
        ("tcp_rmem.max", "net.ipv4.tcp_rmem"),
        ("ip_local_port_range.low", "net.ipv4.ip_local_port_range"),
        ("net.nf_conntrack_max", "net.netfilter.nf_conntrack_max"),
        ("net.ipv4.conf.all.forwarding", "net.ipv4.ip_forward"),
        ("udp_mem", "net.ipv4.udp_mem"),
    ],
)
def test_second_names_parts_and_interfaces_lead_to_the_page(asked, name):
    assert find_sysctl(asked).name == name


@pytest.mark.parametrize("asked", ["TCP_USER_TIMEOUT", "tcp_nodelay", "net.ipv4.tcp_nodelay", "SO_LINGER"])
def test_a_socket_option_leads_to_its_page(asked):
    option = asked.rpartition(".")[2].upper()
    with pytest.raises(QuestionError, match=f"tcpdoctor explain --option {option}$"):
        find_sysctl(asked)


def test_every_setting_that_a_rule_names_has_a_page():
    names = set()
    for rule in load_rules().rules:
        names |= set(re.findall(r"\b(?:net|fs)\.[a-z0-9_]+(?:\.[a-z0-9_-]+)+", rule.text))
    assert len(names) > 40
    lost = [name for name in sorted(names) if not _has_page(name)]
    assert lost == []


def _has_page(name: str) -> bool:
    if name.endswith(("_", "-")) or name in ("net.ipv4.conf", "net.ipv4.neigh.default"):
        return True  # a part of a sentence, or of a pattern
    try:
        return bool(find_sysctl(name).name)
    except QuestionError:
        return False


@pytest.mark.parametrize("asked", ["tcp_timeout", "tcp_tw_timeouts", "tcp_tw_time"])
def test_a_name_that_no_kernel_ever_had_is_never_suggested(asked):
    with pytest.raises(QuestionError) as told:
        find_sysctl(asked)
    assert "tcp_tw_timeout?" not in str(told.value)
    said = complaint(tcpdoctor("explain", asked))
    assert "tcp_tw_timeout" not in said.replace(asked, "")
    assert find_sysctl("tcp_tw_timeout").removed == "never there"

"""`sysctl show` as text and JSON, from literals."""

import pytest

from tcpdoctor.answers.record import host_of, utc
from tcpdoctor.answers.settings import SettingsAnswer, Shown, is_default, told_setting
from tcpdoctor.diagnosis.sysctl_look import Origin, Source
from tcpdoctor.facts.sysctl_value import computed_defaults
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.knowledge.sysctl_pages import all_pages, find_sysctl
from tcpdoctor.report.document import as_json
from tcpdoctor.report.page import page_text
from tcpdoctor.report.style import PLAIN
from tcpdoctor.report.sysctl_text import settings_page
from tests.report.test_state_answer import WHO

NOBODY = Origin(None, None)
FILE = Source("file", "/etc/sysctl.d/60-x.conf", 3, "30")
TUNED = Source("tuned", "/usr/lib/tuned/x/tuned.conf", 7, "31", "x")


def row(name: str = "tcp_fin_timeout", value: object = 60, **changed) -> Shown:
    return Shown(find_sysctl(name), value, exists=True, computed=(), origin=NOBODY)._replace(**changed)


def listed(*rows: Shown, **changed) -> SettingsAnswer:
    plain = SettingsAnswer(
        schema="tcpdoctor.sysctls/1",
        host=host_of(WHO),
        taken_at=utc(1_795_000_000.0),
        only_changed=False,
        sysctls=tuple(told_setting(row, 4096) for row in rows),
        not_compared=(),
        unseen=(),
        named=True,
    )
    return plain._replace(**changed)


def flat(*rows: Shown, **changed) -> str:
    return " ".join(page_text(settings_page(listed(*rows, **changed), PLAIN), PLAIN).split())


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (row(), "net.ipv4.tcp_fin_timeout = 60 (60 s; the default)"),
        (row(value=30), "= 30 (30 s; changed: the default is 60)"),
        (row(value=30), "Nothing that can be seen sets it"),
        (row(value=30, origin=Origin(FILE, None)), "Set by /etc/sysctl.d/60-x.conf line 3."),
        (
            row(value=31, origin=Origin(TUNED, None)),
            "Set by TuneD's profile x (/usr/lib/tuned/x/tuned.conf line 7).",
        ),
        (row(value=30, origin=Origin(FILE, TUNED)), "line 7) says 31 and has not set it."),
        (row(value=9, origin=Origin(None, FILE)), "line 3 says 30: not applied, or changed since."),
        (
            row(value=30, origin=Origin(Source("command line", "/proc/cmdline", None, "30"), None)),
            "command line.",
        ),
        (row("tcp_mem", (1, 2, 3)), "Pages; default: from memory at boot"),
        (row("tcp_max_orphans", 5, computed=("9",)), "= 5 (changed: the default is 9)"),
        (row("rmem_max", 212992), "= 212992 (208 KiB; the default)"),
        (row("rmem_max", 16777216), "changed: the default is 4194304 since 6.18, 212992 before"),
        (row("ip_local_reserved_ports", ()), "= empty (the default)"),
        (row("tcp_tw_recycle", Missing("x"), exists=False), "Gone since Linux 4.12. Instead:"),
        (row("tcp_tw_len", Missing("x"), exists=False), "No kernel of kernel.org has it. Instead: nothing"),
        (row("tcp_rto_max_ms", Missing("x"), exists=False), "It came with Linux 6.15."),
        (
            row(value=Missing("net.ipv4.tcp_fin_timeout: only root may read it")),
            "net.ipv4.tcp_fin_timeout: only root may read it",
        ),
    ],
)
def test_what_is_said_of_a_setting(shown, words):
    assert words in flat(shown)


def test_of_changed_ones_it_is_said_how_many_and_how_much_is_not_known():
    said = flat(row(value=30), only_changed=True, not_compared=("a", "b"))
    rest = "Of 2 others the value or the default is not known here (--format json names them)."
    assert said.endswith(f"1 setting changed. {rest}")
    assert flat(only_changed=True, not_compared=("a", "b")) == f"No setting is changed. {rest}"


def test_without_names_what_this_kernel_lacks_is_one_line():
    gone = row("tcp_rto_max_ms", Missing("x"), exists=False)
    assert flat(row(), gone, named=False).endswith("Not on this kernel: net.ipv4.tcp_rto_max_ms.")


def test_sources_that_could_not_be_read_are_said():
    assert flat(row(), unseen=("/etc/sysctl.d/a.conf: permission denied",)).endswith(
        "Not seen: /etc/sysctl.d/a.conf: permission denied."
    )


@pytest.mark.parametrize("page", all_pages().values(), ids=lambda page: page.name)
def test_every_page_fits_80_columns(page):
    for exists, value in ((True, 7), (False, Missing("this kernel does not have it"))):
        text = page_text(
            settings_page(listed(Shown(page, value, exists, (), Origin(FILE, TUNED))), PLAIN), PLAIN
        )
        assert max(map(len, text.splitlines())) <= 80
        assert "None" not in text


def test_json_keeps_unknown_apart_from_equal():
    said = as_json(listed(row(), row("tcp_mem", (1, 2, 3)), row("tcp_sack", Missing("hidden"))))
    first, memory, hidden = said["sysctls"]
    assert (first["default"], first["is_default"], first["set_by"]) == ("60", True, None)
    assert (memory["default"], memory["is_default"], memory["value"]) == (None, None, [1, 2, 3])
    assert memory["missing"] == {"is_default": "its default is not known here"}
    assert (hidden["value"], hidden["is_default"]) == (None, None)
    assert hidden["missing"] == dict.fromkeys(("value", "printed", "in_words", "is_default"), "hidden")
    (set_by,) = [each["set_by"] for each in as_json(listed(row(origin=Origin(TUNED, None))))["sysctls"]]
    assert (set_by["kind"], set_by["profile"], set_by["line"]) == ("tuned", "x", 7)


@pytest.mark.parametrize(
    ("sysctls", "expected"),
    [
        ({"net.ipv4.tcp_ehash_entries": 262144}, ("131072", "131072", "2048")),
        ({"net.ipv4.tcp_ehash_entries": -262144}, ("131072", "131072", "2048")),
        ({"net.ipv4.tcp_ehash_entries": 4096}, ("2048", "2048", "128")),
        ({"net.ipv4.tcp_ehash_entries": Missing("older kernel")}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_defaults_that_follow_from_the_table_of_connections(sysctls, expected):
    found = computed_defaults(sysctls)
    names = ("tcp_max_orphans", "tcp_max_tw_buckets", "tcp_max_syn_backlog")
    assert tuple((found.get(f"net.ipv4.{name}") or (None,))[0] for name in names) == expected


def test_conntrack_has_the_default_of_either_time():
    found = computed_defaults({"net.netfilter.nf_conntrack_buckets": 65536})
    assert found["net.netfilter.nf_conntrack_max"] == ("65536", "262144")
    assert is_default(row("nf_conntrack_max", 262144, computed=("65536", "262144"))) is True
    assert is_default(row("nf_conntrack_max", 131072, computed=("65536", "262144"))) is False

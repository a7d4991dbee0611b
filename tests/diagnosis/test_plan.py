"""One value a setting: who asks for what, who gets it, and what is said of the others."""

from pathlib import Path

import pytest
import tomllib

from tcpdoctor.diagnosis.finding import Finding, Fix, Severity, SysctlFix
from tcpdoctor.diagnosis.plan import (
    NODE_PORTS,
    ORPHANS_END_AFTER,
    PORT_RANGE,
    RESERVED_PORTS,
    PlanGround,
    make_plan,
)
from tcpdoctor.diagnosis.rule import parse_rule, read_body
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.finding_page import risk_words

RULES = Path(__file__).resolve().parents[2] / "rules"
GROUND = PlanGround(servers=frozenset(), reserved="", kubernetes=False, initial=True)
RANGE_NOW = [32768, 60999]


def asking(rule, key, value, now, severity=Severity.WARNING, *, alternative=False, applies_to="namespace"):
    """A fix of a rule: what it wants a setting to be that holds `now`."""
    sysctl = SysctlFix(
        key, now, value, f"{key} = {value_as_printed(value)}", applies_to, "sysctl -w", "", alternative
    )
    return rule, severity, Fix("sysctl", f"Set {key}", "", f"risk of {rule}", "", None, sysctl)


def found(*fixes, code=()):
    """One finding with all these fixes of its rule; those that ask for what is there hold."""
    rule, severity = fixes[0][:2]
    settings = [fix for _, _, fix in fixes]
    holding = tuple(fix for fix in settings if fix.sysctl.value == fix.sysctl.current)
    others = tuple(Fix("code", title, "", "", "", None, None, f"do {title}") for title in code)
    return Finding(
        rule, severity, Scope.HOST, "this host", {}, rule, rule, "", "", "", (),
        (*[fix for fix in settings if fix not in holding], *others), (), (), (), holding=holding,
    )  # fmt: skip


def values(plan):
    return {change.key: value_as_printed(change.value) for change in plan.changes}


FIN = "net.ipv4.tcp_fin_timeout"
REUSE = "net.ipv4.tcp_tw_reuse"


def test_a_short_timeout_and_orphans_that_pile_up_meet_where_both_are_served():
    plan = make_plan(
        [
            found(asking("fin-timeout-short", FIN, 60, 5)),
            found(asking("fin-wait-2-orphans-pile-up", FIN, 5, 5)),
        ],
        GROUND,
    )
    assert values(plan) == {FIN: "30"}
    (change,) = plan.changes
    assert change.rules == ("fin-timeout-short", "fin-wait-2-orphans-pile-up")
    assert "fin-timeout-short for 60" in change.conflict
    assert "fin-wait-2-orphans-pile-up for 5" in change.conflict
    assert plan.left == ()


def test_where_they_meet_is_what_the_rules_say():
    with open(RULES / "close/fin-wait-2-orphans-pile-up.toml", "rb") as file:
        fixes = tomllib.load(file)["fix"]
    (value,) = (fix["value"] for fix in fixes if fix.get("name") == FIN)
    assert value == f"min(sysctl.{FIN}, {ORPHANS_END_AFTER} * second)"
    with open(RULES / "config/fin-timeout-short.toml", "rb") as file:
        assert tomllib.load(file)["limits"]["min_timeout"]["default"] <= ORPHANS_END_AFTER


def test_the_worse_finding_decides_also_where_it_asks_for_what_is_there():
    client = found(
        asking("ephemeral-ports-nearly-exhausted", PORT_RANGE, [16384, 60999], RANGE_NOW, Severity.CRITICAL),
        asking("ephemeral-ports-nearly-exhausted", REUSE, 1, 1, Severity.CRITICAL),
    )
    server = found(asking("tw-reuse-for-a-server", REUSE, 2, 1, Severity.INFO))
    plan = make_plan([client, server], GROUND)
    assert values(plan) == {PORT_RANGE: "16384 60999"}
    (left,) = plan.left
    assert left.rule == "tw-reuse-for-a-server"
    assert left.why.startswith(f"{REUSE} 2: the worse finding decides")
    assert make_plan([client, server], GROUND, frozenset({"tw-reuse-for-a-server"})).changes == ()
    assert values(make_plan([server], GROUND)) == {REUSE: "2"}


def test_of_two_ranges_the_widest_is_taken_and_servers_in_it_are_reserved_first():
    ground = GROUND._replace(servers=frozenset({80, 8080, 20011, 20012, 40009}), reserved="9000-9010")
    plan = make_plan(
        [
            found(asking("ephemeral-range-narrow", PORT_RANGE, [32768, 60999], [40000, 41000])),
            found(asking("ephemeral-ports-bound", PORT_RANGE, [16384, 60999], [40000, 41000])),
        ],
        ground,
    )
    assert [change.key for change in plan.changes] == [RESERVED_PORTS, PORT_RANGE]
    assert values(plan) == {RESERVED_PORTS: "9000-9010,20011-20012", PORT_RANGE: "16384 60999"}
    assert plan.changes[1].needs == RESERVED_PORTS
    assert "the widest range" in plan.changes[1].conflict


def test_a_list_is_extended_and_never_shortened():
    listed = "8080,9000-9010"
    ask = found(
        asking("listener-port-in-ephemeral-range", RESERVED_PORTS, f"{listed},40009", listed, Severity.INFO)
    )
    wider = found(asking("ephemeral-ports-bound", PORT_RANGE, [16384, 60999], RANGE_NOW))
    ground = GROUND._replace(servers=frozenset({20011}), reserved=listed)
    assert values(make_plan([ask, wider], ground))[RESERVED_PORTS] == "8080,9000-9010,20011,40009"


@pytest.mark.parametrize(
    ("now", "start", "becomes"),
    [
        ([50021, 50503], 40009, "40009 60999"),
        ([32768, 60999], 32768, None),
        ([50021, 50503], 1024, "16384 60999"),
    ],
)
def test_a_range_begins_no_earlier_than_the_kernel_takes(now, start, becomes):
    ground = GROUND._replace(unprivileged_from=start)
    plan = make_plan([found(asking("wide", PORT_RANGE, [16384, 60999], now))], ground)
    assert values(plan) == ({PORT_RANGE: becomes} if becomes else {})
    assert ["ip_unprivileged_port_start" in each.why for each in plan.left] == ([] if becomes else [True])


def test_buckets_are_whole_pages_so_that_they_read_back_as_written():
    (change,) = make_plan([found(asking("few", BUCKETS, 25_000, 16_384))], GROUND).changes
    assert (change.value, change.rules) == (32_768, ("few",))
    assert make_plan([found(asking("few", BUCKETS, 16_384, 16_384))], GROUND).changes == ()


BUCKETS = "net.netfilter.nf_conntrack_buckets"


def test_a_range_is_not_widened_where_servers_are_not_known():
    wider = found(asking("ephemeral-ports-bound", PORT_RANGE, [16384, 60999], RANGE_NOW))
    plan = make_plan([wider], GROUND._replace(servers=Missing("netlink is refused here")))
    assert plan.changes == ()
    assert "netlink is refused here" in plan.left[0].why


def test_where_udp_was_not_looked_at_the_risk_says_so():
    wider = found(asking("ephemeral-ports-bound", PORT_RANGE, [16384, 60999], RANGE_NOW))
    (change,) = make_plan([wider], GROUND._replace(udp=False)).changes
    assert "UDP servers" in change.risk
    (change,) = make_plan([wider], GROUND).changes
    assert "UDP servers" not in change.risk


def test_the_ports_of_services_are_reserved_on_a_node_of_kubernetes():
    wider = found(asking("ephemeral-ports-bound", PORT_RANGE, [16384, 60999], RANGE_NOW))
    plan = make_plan([wider], GROUND._replace(kubernetes=True))
    assert values(plan)[RESERVED_PORTS] == f"{NODE_PORTS[0]}-{NODE_PORTS[1]}"
    narrow = found(asking("ephemeral-range-narrow", PORT_RANGE, [33000, 60999], [50000, 60999]))
    assert RESERVED_PORTS not in values(make_plan([narrow], GROUND._replace(kubernetes=True)))


@pytest.mark.parametrize(
    ("key", "asked", "now", "becomes"),
    [
        ("net.core.somaxconn", (4096, 256), 128, "4096"),
        ("net.ipv4.tcp_rmem", ([4096, 131072, 6291456], [4096, 6291456, 33554432]), [4096, 6291456, 131072],
         "4096 131072 33554432"),
        ("net.ipv4.tcp_mem", ([40000, 50000, 60000], [200, 100, 160]), [100, 50, 80], "40000 50000 60000"),
        ("net.ipv4.tcp_mem", ([40000, 50000, 60000], [8000, 16000, 99999999]), [4000, 8000, 99999999],
         "40000 50000 60000"),
        ("net.ipv4.tcp_keepalive_time", (7200, 240), 3600, "7200" if abs(7200 - 3600) < abs(240 - 3600)
         else "240"),
    ],
)  # fmt: skip
def test_who_asks_for_less_of_a_limit_is_served_by_more(key, asked, now, becomes):
    findings = [found(asking(f"rule-{number}", key, value, now)) for number, value in enumerate(asked)]
    for some in (findings, findings[::-1]):
        assert values(make_plan(some, GROUND)) == {key: becomes}


def test_of_fixes_that_stand_for_each_other_the_first_is_taken():
    fixes = (
        asking("tw-reuse-without-timestamps", "net.ipv4.tcp_timestamps", 1, 0),
        asking("tw-reuse-without-timestamps", REUSE, 2, 1, alternative=True),
    )
    assert values(make_plan([found(*fixes)], GROUND)) == {"net.ipv4.tcp_timestamps": "1"}
    assert values(make_plan([found(fixes[1])], GROUND)) == {REUSE: "2"}


def test_a_setting_of_the_machine_is_left_to_the_host():
    wish = found(asking("orphans-near-limit", "net.ipv4.tcp_max_orphans", 8192, 4096, applies_to="host"))
    assert values(make_plan([wish], GROUND)) == {"net.ipv4.tcp_max_orphans": "8192"}
    plan = make_plan([wish], GROUND._replace(initial=False))
    assert plan.changes == ()
    assert "set it on the host" in plan.left[0].why


TABLE = "net.netfilter.nf_conntrack_max"
MEMORY, TRACKED = "net.ipv4.tcp_mem", "net.netfilter.nf_conntrack_tcp_timeout_established"
NOT_NOW = [
    (MEMORY, [300, 400, 600], [900, 900, 900], {"tcp_pages": 401}, "TCP holds 401 pages"),
    (MEMORY, [300, 400, 600], [900, 900, 900], {"tcp_pages": 400}, None),
    (MEMORY, [300, 400, 600], [90, 90, 90], {"tcp_pages": 401}, None),
    (TRACKED, 86400, 600, {"tracked": 0.62}, "the table is full to 62%"),
    (TRACKED, 86400, 600, {"tracked": 0.13}, None),
    (TRACKED, 86400, 432000, {"tracked": 0.62}, None),
    ("net.core.somaxconn", 8192, 4096, {"longest_queue": 511}, "no listener asks for more than 511"),
    ("net.core.somaxconn", 8192, 4096, {"longest_queue": 4096}, None),
    ("net.core.somaxconn", 4096, 128, {"longest_queue": 5}, None),
    ("net.core.somaxconn", 8192, 4096, {"longest_queue": Missing("not seen")}, None),
    (
        TABLE,
        524288,
        262144,
        {"memory": 1 << 30},
        "524,288 may take 160 MiB that cannot be swapped out, of 1,024",
    ),
    (TABLE, 524288, 262144, {"memory": 1 << 31}, None),
    (TABLE, 262144, 524288, {"memory": 1 << 27}, None),
    ("net.ipv4.tcp_max_orphans", 16384, 8192, {"memory": 1 << 30}, "16,384 may take 1,024 MiB"),
    ("net.ipv4.tcp_max_orphans", 16384, 8192, {"memory": 1 << 31}, None),
]


@pytest.mark.parametrize(("key", "value", "now", "ground", "why"), NOT_NOW)
def test_what_would_harm_or_help_nobody_at_this_moment_is_left_and_said(key, value, now, ground, why):
    plan = make_plan([found(asking("a-rule", key, value, now))], GROUND._replace(**ground))
    assert [change.key for change in plan.changes] == ([] if why else [key])
    assert [each.why.startswith(f"{key}: {why}") for each in plan.left] == ([True] if why else [])


def test_what_is_to_be_done_in_programs_is_advice():
    plan = make_plan([found(asking("a", FIN, 60, 5), code=("Close it",))], GROUND)
    assert [(each.rule, each.title, each.do) for each in plan.advice] == [("a", "Close it", "do Close it")]


def test_one_rule_alone_changes_what_it_asks_for():
    findings = [found(asking("a", FIN, 60, 5)), found(asking("b", "net.ipv4.tcp_sack", 1, 0))]
    assert values(make_plan(findings, GROUND, frozenset({"b"}))) == {"net.ipv4.tcp_sack": "1"}


def test_the_same_risk_is_told_once_and_none_only_where_nobody_knows_one():
    one, other, third = asking("a", FIN, 60, 5), asking("b", FIN, 60, 5), asking("c", FIN, 60, 5)
    none = ("c", third[1], third[2]._replace(risk="none: it is the default", harmless=True))
    same = ("b", other[1], other[2]._replace(risk="risk of a"))
    (change,) = make_plan([found(none), found(one), found(same)], GROUND).changes
    assert change.risk == "risk of a."
    (alone,) = make_plan([found(none)], GROUND).changes
    assert (alone.harmless, risk_words(alone.risk, harmless=alone.harmless)) == (True, "none")


def test_the_risk_of_every_setting_begins_with_few_words():
    """A plan shows the first sentence of it, beside which there has to be room."""
    risks = [
        (fix["risk"], told.harmless)
        for path in RULES.rglob("*.toml")
        for text in [path.read_text(encoding="utf-8")]
        for fix, told in zip(
            tomllib.loads(text).get("fix", []),
            read_body(parse_rule(text, str(path), path.parent.name)).fixes,
            strict=True,
        )
        if fix["kind"] == "sysctl"
    ]
    assert len(risks) > LEAST_FIXES
    assert {risk.lower().startswith("none") for risk, harmless in risks if harmless} == {True}
    words = [risk_words(risk, harmless=harmless) for risk, harmless in risks]
    assert [risk for risk in words if len(risk) > MOST_WORDS or risk[:1].isspace()] == []


LEAST_FIXES, MOST_WORDS = 50, 72

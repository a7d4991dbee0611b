"""Rules and subjects become findings and the list of what could not be checked."""

import json
import math
from collections import Counter

import pytest

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.changes import compare, told_after
from tcpdoctor.diagnosis.evaluate import diagnose_subjects
from tcpdoctor.diagnosis.finding import Evidence, Severity, SysctlFix, Unchecked, Untold, Whereabouts
from tcpdoctor.diagnosis.library import RuleText, load_library, parse_config
from tcpdoctor.diagnosis.rule import read_body
from tcpdoctor.diagnosis.tell import value_text
from tcpdoctor.errors import ConfigError
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.value import Ages, Growth, NamedText, Range
from tcpdoctor.kernel.reading import Missing, Refused
from tcpdoctor.kernel.snapshot import Endpoint
from tests.diagnosis.examples import RULE, VOCABULARY, process, rule
from tests.diagnosis.snapshots import snapshot
from tests.facts.samples import LISTENER, NGINX, held_by

HIDDEN = Missing("socket owners are hidden: run as root")


def ages(number: int, age: float = 600.0) -> Ages:
    return Ages((age,) * number, (age,) * number, None)


def leak(number: int, label: str = "nginx (811)", **facts):
    values = {name.replace("__", "."): value for name, value in facts.items()}
    return process(
        {"process.name": "nginx", "leak.owned": number, "leak.ages": ages(number), **values}, label
    )


def look(*subjects, rules=None, most=1000, **fields):
    asked = {Scope.PROCESS: list(subjects)}
    return diagnose_subjects(
        [rule()] if rules is None else rules, snapshot(**fields), asked.__getitem__, most
    )


def test_a_finding_says_whom_what_and_with_which_numbers():
    (finding,) = look(leak(120)).findings
    assert (finding.rule, finding.severity, finding.scope) == (
        "sockets-leak",
        Severity.WARNING,
        Scope.PROCESS,
    )
    assert (finding.label, finding.identity) == ("nginx (811)", {"pid": 811, "name": "nginx"})
    assert finding.title == "Process leaks sockets"
    assert finding.summary == "nginx holds 120 sockets, 120 for 2 min."
    assert finding.explanation == "The kernel waits.\n\nIt has {no} timer."
    assert finding.normal_when == ("a pool that is never full",)
    assert finding.wrong_fixes[0].why == "It comes back."
    assert finding.references[0].source == "RFC 9293, section 3.3.2"
    assert finding.fixes[0].verify == "ss -tn | grep -c 120"


def test_a_finding_knows_the_processes_and_peers_that_it_is_about_or_names():
    database, cache = Endpoint("10.0.0.5", 5432), Endpoint("10.0.0.6", 6379)
    named = leak(120, process__name=NamedText("nginx", pids=(97, 98), peers=[cache]))
    (finding,) = look(named).findings
    assert (finding.pids, finding.peers) == ({811, 97, 98}, {cache})
    assert type(finding.summary) is str
    identity = {"source": "10.0.0.9", "address": "10.0.0.5", "port": 5432}
    towards = leak(120)._replace(scope=Scope.DESTINATION, identity=identity)
    (finding,) = look(towards).findings
    assert (finding.pids, finding.peers) == (frozenset(), {database})


def served(pid: int, port: int):
    return LISTENER._replace(local=Endpoint("0.0.0.0", port), owner=held_by(pid, 3))


def test_a_finding_about_a_process_says_its_unit_and_where_it_listens():
    listeners = [served(811, 443), served(97, 22), served(811, 80), served(811, 80)]
    (finding,) = look(leak(120), listeners=listeners, processes={811: NGINX}).findings
    assert finding.whereabouts == Whereabouts("nginx", "nginx.service", None, (80, 443))


def test_of_a_process_that_could_not_be_read_the_name_is_known():
    (finding,) = look(leak(120), processes={}).findings
    assert finding.whereabouts == Whereabouts("nginx")
    hidden = NGINX._replace(unit=Missing("gone"), container=Missing("gone"))
    (finding,) = look(leak(120), processes={811: hidden}).findings
    assert finding.whereabouts == Whereabouts("nginx")


@pytest.mark.parametrize(
    ("owner", "whereabouts"),
    [
        (
            NamedText("nginx (811) and 1 more process", pids=(811, 97_000)),
            Whereabouts("nginx", "nginx.service", None, (80,)),
        ),
        (Missing("hidden"), Whereabouts(ports=(80,))),
    ],
)
def test_a_finding_about_a_listener_says_who_holds_it(owner, whereabouts):
    listener = leak(120, listener__owner=owner)._replace(
        scope=Scope.LISTENER, label="0.0.0.0:80", identity={"address": "0.0.0.0", "port": 80}
    )
    (finding,) = look(listener, processes={811: NGINX}).findings
    assert finding.whereabouts == whereabouts


def test_a_finding_has_a_headline_what_to_type_and_how_far_it_has_gone():
    (finding,) = look(leak(120)).findings
    assert finding.headline == "120 sockets left open"
    assert (finding.value, finding.limit) == (120, 100)
    code, setting = finding.fixes
    assert (code.prose, code.commands) == ("Call close().", ("ss -tnp | grep -c 120",))
    assert code.do == "Call close().\n\n    ss -tnp | grep -c 120"
    assert (code.verify_commands, code.undo_commands) == ((), ())
    assert setting.commands == ()  # the timeout of this host is not known


def test_a_sysctl_fix_is_typed_as_its_value_says():
    facts = {"sysctl__net__ipv4__timeout": 60}
    (finding,) = look(leak(120, **facts), sysctls={"net.ipv4.timeout": 60}).findings
    assert finding.fixes[1].commands == ("sysctl -w net.ipv4.timeout=30",)


@pytest.mark.parametrize(
    ("initial", "remark"), [(True, ""), (False, "   # on the host: in this namespace it is read only")]
)
def test_what_a_namespace_shows_and_may_not_write_is_written_on_the_host(initial, remark):
    about = next(one for one in load_rules().rules if one.id == "conntrack-table-nearly-full")
    facts = {
        "conntrack.entries": 65000,
        "conntrack.limit": 65536,
        "sysctl.net.netfilter.nf_conntrack_max": 65536,
    }
    here = snapshot(sysctls={"net.netfilter.nf_conntrack_max": 65536}, initial_namespace=initial)
    hosts = {Scope.HOST: [Subject(Scope.HOST, "web1", {}, facts)]}
    (finding,) = diagnose_subjects([about], here, hosts.__getitem__).findings
    typed = [command for fix in finding.fixes for command in fix.commands if "nf_conntrack_max=" in command]
    assert typed == [f"sysctl -w net.netfilter.nf_conntrack_max=131072{remark}"]


ADD_PORT = """
[[fix]]
kind       = "sysctl"
title      = "Reserve it"
name       = "net.ipv4.timeout"
value      = { add = "leak.owned" }
applies_to = "namespace"
risk       = "it is not free for others"
verify     = "sysctl net.ipv4.timeout"
undo       = "sysctl -w net.ipv4.timeout=1"
"""


def test_what_a_fix_would_write_is_a_text_or_missing():
    known = rule(RULE + ADD_PORT)
    half, port = (fix.sysctl for fix in read_body(known).fixes if fix.sysctl is not None)
    assert value_text(half, known, {"sysctl.net.ipv4.timeout": 60}) == "30"
    unread = value_text(half, known, {"sysctl.net.ipv4.timeout": Missing("hidden")})
    assert unread == Missing("the value could not be computed: hidden")
    assert isinstance(value_text(port, known, {"leak.owned": 8080}), Missing)


def test_a_command_that_needs_what_could_not_be_read_is_left_out():
    text = RULE.replace(
        '["ss -tnp | grep -c {leak.owned:n}"]', '["ss -tn", "ss -tn sport = :{queue.bytes:n}"]'
    )
    (finding,) = look(leak(120), rules=[rule(text)]).findings
    assert finding.fixes[0].commands == ("ss -tn",)


def test_lists_of_commands_are_texts_as_well():
    text = RULE.replace(
        'verify = "ss -tn | grep -c {leak.owned:n}"',
        'verify = ["ss -tn   # falls", "ss -s"]\nundo = ["kill {leak.owned:n}"]',
    )
    (finding,) = look(leak(120), rules=[rule(text)]).findings
    fix = finding.fixes[0]
    assert (fix.verify, fix.verify_commands) == ("ss -tn   # falls\nss -s", ("ss -tn   # falls", "ss -s"))
    assert (fix.undo, fix.undo_commands) == ("kill 120", ("kill 120",))


def test_commands_alone_say_what_to_do():
    text = RULE.replace('do     = "Call close()."\n', "")
    (finding,) = look(leak(120), rules=[rule(text)]).findings
    assert (finding.fixes[0].prose, finding.fixes[0].do) == ("", "ss -tnp | grep -c 120")


def test_a_rule_without_a_headline_has_its_title_for_one():
    text = RULE.replace('headline    = "{leak.owned} sockets left open"\n', "")
    (finding,) = look(leak(120), rules=[rule(text)]).findings
    assert finding.headline == "Process leaks sockets"


def test_evidence_is_what_the_condition_that_holds_has_read():
    (finding,) = look(leak(120)).findings
    assert finding.evidence == (
        Evidence("older(leak.ages, 2 min)", 120, "count", "/proc/leak.ages", "120", "leak.ages"),
    )


def test_the_worst_that_holds_is_the_severity():
    (finding,) = look(leak(1000)).findings
    assert finding.severity is Severity.CRITICAL


def test_a_lesser_one_fires_where_the_worse_cannot_be_told():
    some = Ages((600.0,) * 120, (600.0,) * 120 + (math.inf,) * 5000, HIDDEN.reason)
    diagnosis = look(leak(120, leak__ages=some))
    assert [finding.severity for finding in diagnosis.findings] == [Severity.WARNING]
    assert diagnosis.unchecked == ()
    (evidence,) = diagnosis.findings[0].evidence
    assert evidence.value == {"at_least": 120, "at_most": 5120}


def test_what_is_clear_leaves_no_trace():
    diagnosis = look(leak(3))
    assert (diagnosis.findings, diagnosis.unchecked, diagnosis.rules) == ((), (), 1)


def test_a_scope_without_subjects_is_clear():
    assert look().unchecked == ()


def test_a_scope_that_could_not_be_read_is_unchecked():
    diagnosis = diagnose_subjects([rule()], snapshot(), {Scope.PROCESS: HIDDEN}.__getitem__)
    assert diagnosis.unchecked == (Unchecked("sockets-leak", HIDDEN.reason),)


def test_a_missing_fact_is_unchecked_with_its_reason():
    assert look(leak(3, leak__ages=HIDDEN)).unchecked == (Unchecked("sockets-leak", HIDDEN.reason),)


def test_some_subjects_fire_and_others_cannot_be_told():
    diagnosis = look(leak(120), leak(3, "mysqld (9)", leak__ages=HIDDEN), leak(1, "ssh (5)"))
    assert [finding.label for finding in diagnosis.findings] == ["nginx (811)"]
    assert diagnosis.unchecked == (Unchecked("sockets-leak", f"{HIDDEN.reason} (mysqld (9))"),)


def test_many_unknown_subjects_are_summed_up():
    subjects = [leak(3, f"p{pid} ({pid})", leak__ages=Missing(f"reason {pid % 5}")) for pid in range(20)]
    (unchecked,) = look(*subjects).unchecked
    assert unchecked.reason == (
        "reason 0 (p0 (0), p5 (5), p10 (10) and 1 more); reason 1 (p1 (1), p6 (6), p11 (11) and 1 more); "
        "reason 2 (p2 (2), p7 (7), p12 (12) and 1 more); and 2 more reasons"
    )


@pytest.mark.parametrize("number", [120, 5000])
def test_processes_that_cannot_be_seen_are_never_a_finding_and_never_clear(number):
    unseen = Ages((), (math.inf,) * number, HIDDEN.reason)
    hidden = process({"leak.ages": unseen}, "processes that are hidden", hidden=True)
    diagnosis = look(hidden, leak(1))
    assert diagnosis.findings == ()
    assert diagnosis.unchecked == (Unchecked("sockets-leak", f"{HIDDEN.reason} (processes that are hidden)"),)


def test_hidden_sockets_too_few_to_fire_are_clear():
    unseen = Ages((), (math.inf,) * 99, HIDDEN.reason)
    assert look(process({"leak.ages": unseen}, "hidden", hidden=True)).unchecked == ()


def test_a_hidden_subject_that_fires_is_unchecked():
    certain = process({"leak.ages": ages(120)}, "hidden", hidden=True)
    assert look(certain).unchecked == (Unchecked("sockets-leak", "hidden cannot be seen"),)
    either = rule(RULE.replace('warning  = "', 'warning  = "leak.owned > 3 or ', 1))
    roughly = process({"leak.owned": Range(5, 9, HIDDEN.reason), "leak.ages": HIDDEN}, "hidden", hidden=True)
    assert look(roughly, rules=[either]).unchecked == (Unchecked("sockets-leak", HIDDEN.reason),)


def test_a_rule_about_the_machine_does_not_apply_in_a_child_namespace():
    machine = rule(RULE.replace("[limits]", 'namespace = "initial"\n[limits]', 1))
    (unchecked,) = look(leak(120), rules=[machine], initial_namespace=False).unchecked
    assert not unchecked.applies
    assert "initial network namespace" in unchecked.reason
    assert len(look(leak(120), rules=[machine], initial_namespace=True).findings) == 1
    assert len(look(leak(120), rules=[machine], initial_namespace=Missing("no /proc")).findings) == 1


def test_a_rule_about_tracked_connections_does_not_apply_where_none_is_tracked():
    tracking = rule(RULE.replace("[limits]", 'needs = "connection-tracking"\n[limits]', 1))
    name = "net.netfilter.nf_conntrack_count"
    masked = {name: Refused(f"{name}: it is hidden here")}
    assert len(look(leak(120), rules=[tracking], sysctls=masked).findings) == 1  # it may well be tracked
    absent = {name: Missing(f"{name}: nf_conntrack is not loaded")}
    (unchecked,) = look(leak(120), rules=[tracking], sysctls=absent).unchecked
    assert (unchecked.applies, unchecked.reason) == (False, f"{name}: nf_conntrack is not loaded")
    assert len(look(leak(120), rules=[tracking], sysctls={name: 3}).findings) == 1
    assert len(look(leak(120), rules=[tracking]).findings) == 1  # nobody looked


def test_findings_come_worst_first_then_by_rule_and_label():
    text = RULE.replace('"sockets-leak"', '"another-leak"', 1).replace(
        '"Process leaks', '"Process also leaks'
    )
    rules = load_library(
        [RuleText("a.toml", "close", RULE), RuleText("b.toml", "close", text)], vocabulary=VOCABULARY
    ).rules
    diagnosis = look(leak(120, "b (2)"), leak(120, "a (1)"), leak(1000, "c (3)"), rules=rules)
    assert [(finding.severity.key, finding.rule, finding.label) for finding in diagnosis.findings] == [
        ("critical", "another-leak", "c (3)"),
        ("critical", "sockets-leak", "c (3)"),
        ("warning", "another-leak", "a (1)"),
        ("warning", "another-leak", "b (2)"),
        ("warning", "sockets-leak", "a (1)"),
        ("warning", "sockets-leak", "b (2)"),
    ]


def test_of_a_rules_subjects_the_one_with_most_comes_first_and_counts_as_what_is_certain():
    unsure = Ages((600.0,) * 150, (600.0,) * 900, HIDDEN.reason)
    subjects = leak(120, "a (1)"), leak(900, "b (2)"), leak(900, "c (3)", leak__ages=unsure)
    assert [finding.label for finding in look(*subjects).findings] == ["b (2)", "c (3)", "a (1)"]


def test_a_fingerprint_is_stable_and_of_one_subject_namespace_and_rule():
    first = look(leak(120)).findings[0].fingerprint
    assert look(leak(999)).findings[0].fingerprint == first
    assert look(leak(120, "nginx (812)")).findings[0].fingerprint != first
    assert look(leak(120), namespace=7).findings[0].fingerprint != first
    assert len(first) == 16


def test_the_configuration_changes_severity_and_limits():
    config = parse_config('[rules.sockets-leak]\nseverity = "info"\nlimits = { min_sockets = 5 }', "c.toml")
    library = load_library([RuleText("a.toml", "close", RULE)], config, vocabulary=VOCABULARY)
    (finding,) = look(leak(5), rules=library.rules).findings
    assert finding.severity is Severity.INFO


def test_scopes_that_no_rule_needs_are_not_asked_for():
    asked = []
    diagnose_subjects([rule(), rule()], snapshot(), lambda scope: asked.append(scope) or [])
    assert asked == [Scope.PROCESS]


# fixes


def test_a_sysctl_fix_has_the_current_the_new_and_the_persistent_value():
    sysctls = {"net.ipv4.timeout": 60}
    (finding,) = look(leak(120, sysctl__net__ipv4__timeout=60), sysctls=sysctls).findings
    fix = finding.fixes[1]
    command = "sysctl -w net.ipv4.timeout=30"
    assert fix.sysctl == SysctlFix(
        "net.ipv4.timeout", 60, 30, "net.ipv4.timeout = 30", "namespace", command, "net.ipv4.timeout / 2"
    )
    assert fix.do == "sysctl -w net.ipv4.timeout=30"
    assert fix.undo == "sysctl -w net.ipv4.timeout=60"


def test_a_sysctl_fix_whose_value_cannot_be_computed_says_why():
    for value in (Missing("only root may read it"), Range(3, 9, "only root may read it")):
        (finding,) = look(leak(120, sysctl__net__ipv4__timeout=value)).findings
        fix = finding.fixes[1]
        why_not = "the value could not be computed: only root may read it"
        reason = f"# net.ipv4.timeout: {why_not}"
        assert fix.sysctl == SysctlFix(
            "net.ipv4.timeout", None, None, reason, "namespace", None, "net.ipv4.timeout / 2", why_not=why_not
        )
        assert fix.do == reason


def with_value(name: str, value: str):
    text = RULE.replace('"net.ipv4.timeout"', f'"{name}"', 1)
    return rule(text.replace('"sysctl.net.ipv4.timeout / 2"', value, 1))


def test_a_pair_is_written_as_a_pair():
    pair = with_value("net.ipv4.range", '["sysctl.net.ipv4.range.low - 1000", 65000]')
    facts = {"sysctl__net__ipv4__range__low": 32768}
    sysctls = {"net.ipv4.range": (32768, 60999)}
    (finding,) = look(leak(120, **facts), rules=[pair], sysctls=sysctls).findings
    assert finding.fixes[1].sysctl == SysctlFix(
        "net.ipv4.range",
        [32768, 60999],
        [31768, 65000],
        "net.ipv4.range = 31768 65000",
        "namespace",
        "sysctl -w net.ipv4.range='31768 65000'",
        "net.ipv4.range.low - 1000, 65000",
    )
    assert finding.fixes[1].do == "sysctl -w net.ipv4.range='31768 65000'"


def test_a_fix_that_asks_for_what_is_there_is_told_apart():
    there = with_value("net.ipv4.timeout", "30")
    (finding,) = look(
        leak(120, sysctl__net__ipv4__timeout=30), rules=[there], sysctls={"net.ipv4.timeout": 30}
    ).findings
    assert [fix.kind for fix in finding.fixes] == ["code"]
    assert [fix.sysctl.value for fix in finding.holding if fix.sysctl] == [30]


def test_a_fix_may_stand_for_another():
    text = RULE.replace('applies_to = "namespace"', 'applies_to = "namespace"\nalternative = true', 1)
    (finding,) = look(leak(120, sysctl__net__ipv4__timeout=60), rules=[rule(text)]).findings
    assert [fix.sysctl.alternative for fix in finding.fixes if fix.sysctl] == [True]


def test_a_triple_has_three_numbers():
    triple = with_value("net.ipv4.mem", "[1, 2, 3]")
    (finding,) = look(leak(120), rules=[triple]).findings
    assert finding.fixes[1].sysctl.value == [1, 2, 3]


def test_a_setting_that_has_its_value_already_is_no_fix():
    pair = with_value("net.ipv4.range", "[1024, 65000]")
    (same,) = look(leak(120), rules=[pair], sysctls={"net.ipv4.range": (1024, 65000)}).findings
    (other,) = look(leak(120), rules=[pair], sysctls={"net.ipv4.range": (1025, 65000)}).findings
    assert [fix.sysctl is None for fix in same.fixes] == [True]
    assert [fix.sysctl is None for fix in other.fixes] == [True, False]


@pytest.mark.parametrize(
    ("held", "value"),
    [
        ((), "8080"),
        (((8080, 8080),), "8080"),
        (((8079, 8079), (8081, 9000)), "8079-9000"),
        (((9000, 9010), (53, 53)), "53,8080,9000-9010"),
        (((8000, 9000),), "8000-9000"),
    ],
)
def test_a_port_is_added_to_what_is_reserved_already(held, value):
    reserve = with_value("net.ipv4.timeout", '{ add = "leak.owned * 0 + 8080" }')
    (finding,) = look(leak(120), rules=[reserve], sysctls={"net.ipv4.timeout": held}).findings
    assert finding.fixes[1].sysctl.value == value
    assert finding.fixes[1].sysctl.persist == f"net.ipv4.timeout = {value}"


def test_one_command_adds_the_ports_of_all_for_whom_the_rule_fired():
    reserve = with_value("net.ipv4.timeout", '{ add = "leak.owned" }')
    subjects = [leak(number, f"nginx ({number})") for number in (811, 120, 3)]
    diagnosis = look(*subjects, rules=[reserve], sysctls={"net.ipv4.timeout": ((53, 53),)})
    assert [finding.fixes[1].sysctl.value for finding in diagnosis.findings] == ["53,120,811"] * 2


def test_the_ports_of_hundreds_do_not_stand_in_each_of_hundreds_of_findings():
    reserve = with_value("net.ipv4.timeout", '{ add = "leak.owned" }')
    subjects = [leak(2 * number, f"nginx ({number})") for number in range(100, 400)]
    values = [
        finding.fixes[1].sysctl.value
        for finding in look(*subjects, rules=[reserve], sysctls={"net.ipv4.timeout": ()}).findings
    ]
    assert max(value.count(",") for value in values) <= 50
    assert {value.rpartition(",")[2] for value in values} >= {str(2 * number) for number in range(150, 400)}


@pytest.mark.parametrize("held", [60, Missing("only root may read it")])
def test_a_port_cannot_be_added_to_what_is_no_list(held):
    reserve = with_value("net.ipv4.timeout", '{ add = "8080" }')
    (finding,) = look(leak(120), rules=[reserve], sysctls={"net.ipv4.timeout": held}).findings
    assert finding.fixes[1].sysctl.value is None


def test_current_values_of_every_kind_are_json():
    text = with_value("net.ipv4.timeout", "30")
    for current in (60, "cubic", (1, 2), ((1, 2), (5, 5)), ()):
        (finding,) = look(leak(120), rules=[text], sysctls={"net.ipv4.timeout": current}).findings
        assert json.dumps(finding.fixes[1].sysctl.current)
    (finding,) = look(leak(120), rules=[text], sysctls={"net.ipv4.timeout": ((1, 2), (5, 5))}).findings
    assert finding.fixes[1].sysctl.current == "1-2,5"


# evidence


@pytest.mark.parametrize(
    ("condition", "facts", "evidence"),
    [
        ("leak.owned > 3", {"leak.owned": 5}, ("leak.owned", 5, "count", "5")),
        ("leak.owned > 3", {"leak.owned": 5.25}, ("leak.owned", 5.25, "count", "5.2")),
        (
            "leak.owned > 3",
            {"leak.owned": Range(5, math.inf, "hidden")},
            ("leak.owned", {"at_least": 5, "at_most": None}, "count", "at least 5"),
        ),
        (
            "sysctl.net.ipv4.switch == 1",
            {"sysctl.net.ipv4.switch": 1},
            ("sysctl.net.ipv4.switch", 1, "ratio", "1"),
        ),
        (
            "rate(Tcp.Out) > 1 * per_second",
            {"Tcp.Out": Growth(10, 3.0)},
            ("rate(Tcp.Out)", 3.333333, "per_second", "3.3 /s"),
        ),
        ("delta(Tcp.Out) > 1", {"Tcp.Out": Growth(10, 3.0)}, ("delta(Tcp.Out)", 10, "count", "10")),
        (
            "leak.owned > 3 or sockets.open > 3",
            {"leak.owned": Missing("run as root"), "sockets.open": 5},
            ("leak.owned", None, "count", "unknown: run as root"),
        ),
    ],
)
def test_evidence_shows_each_kind_of_value(condition, facts, evidence):
    warns = rule(
        RULE.replace("older(leak.ages, limit.min_age) >= limit.min_sockets", condition, 1).replace(
            "older(leak.ages, limit.min_age) >= limit.worse", "1 > 2", 1
        )
    )
    (finding,) = look(process(facts), rules=[warns]).findings
    seen = finding.evidence[0]
    assert (seen.fact, seen.value, seen.unit, seen.shown) == evidence


def test_a_fact_read_twice_is_evidence_once():
    twice = rule(
        RULE.replace(
            "older(leak.ages, limit.min_age) >= limit.min_sockets",
            "leak.owned > 3 and leak.owned < 9 and leak.owned != 7",
            1,
        )
    )
    (finding,) = look(process({"leak.owned": 5}), rules=[twice]).findings
    assert [seen.fact for seen in finding.evidence] == ["leak.owned"]


UPPER = RULE.replace(
    "[prose]",
    'warning_upper = "older(leak.ages, limit.min_age) >= limit.min_sockets"\n\n[prose]\n'
    'summary_upper = "{older(leak.ages, limit.min_age)} quiet, {leak.ages}"',
    1,
)


def test_ages_behind_probes_warn_with_a_summary_of_their_own():
    probed = Ages((15.0,) * 101, (130.0,) * 101, "bounds", (125.0,) * 101)
    asked = [rule(UPPER.replace("{leak.ages}", "{leak.owned} in all"))]
    (finding,) = look(leak(101, leak__ages=probed), rules=asked).findings
    assert (finding.severity, finding.summary) == (Severity.WARNING, "101 quiet, 101 in all")
    assert finding.evidence[0].fact == "perhaps_older(leak.ages, 2 min)"
    assert look(leak(99, leak__ages=Ages((15.0,), (130.0,), "bounds")), rules=asked).findings == ()


def test_a_rule_may_warn_by_upper_ends_in_the_words_of_its_summary():
    probed = Ages((15.0,) * 101, (130.0,) * 101, "bounds", (125.0,) * 101)
    asked = [
        rule(UPPER.replace('summary_upper = "{older(leak.ages, limit.min_age)} quiet, {leak.ages}"', ""))
    ]
    (finding,) = look(leak(101, leak__ages=probed), rules=asked).findings
    assert finding.summary == "nginx holds 101 sockets, at most 101 for 2 min."


def test_what_another_finding_explains_is_not_told_of_the_same_subject():
    other = RULE.replace('"sockets-leak"', '"pairs-wait"').replace(
        "[limits]", 'explains = ["sockets-leak"]\n[limits]', 1
    )
    asked = [rule(), rule(other.replace("limit.min_sockets", "limit.min_sockets + 50"))]
    found = look(leak(120, "proxy (1)"), leak(160, "proxy (2)"), rules=asked).findings
    assert [(finding.rule, finding.label) for finding in found] == [
        ("pairs-wait", "proxy (2)"),
        ("sockets-leak", "proxy (1)"),
    ]


# a rule that fires for very many


def crowd(number):
    """Processes that leak from 101 sockets on, the worst in the middle."""
    return [leak(101 + place * 37 % number, f"p{place} ({1000 + place})") for place in range(number)]


@pytest.mark.parametrize("most", [1, 7, 22])
def test_of_very_many_subjects_the_worst_are_told_and_the_rest_is_counted(most):
    found = look(*crowd(23), most=most)
    told = [finding.evidence[0].value for finding in found.findings]
    assert told == sorted(range(101, 124), reverse=True)[:most]
    assert found.untold == (Untold("sockets-leak", Severity.WARNING, 23 - most),)


def test_what_is_few_is_told_whole():
    found = look(*crowd(23), most=23)
    assert (len(found.findings), found.untold) == (23, ())


def test_the_worst_severity_is_told_first_and_the_others_are_counted_by_severity():
    found = look(*crowd(23), rules=[rule(RULE.replace("default = 1000", "default = 120"))], most=3)
    assert [finding.severity for finding in found.findings] == [Severity.CRITICAL] * 3
    assert found.untold == (
        Untold("sockets-leak", Severity.CRITICAL, 1),
        Untold("sockets-leak", Severity.WARNING, 19),
    )


def test_where_several_rules_fire_for_crowds_fewer_of_each_are_told_and_all_are_counted():
    rules = [rule(RULE.replace('"sockets-leak"', f'"leak-{name}"')) for name in "abc"]
    found = look(*crowd(101), rules=rules, most=50)
    told = Counter(finding.rule for finding in found.findings)
    assert told == {one.id: 25 for one in rules}
    assert found.untold == tuple(Untold(one.id, Severity.WARNING, 76) for one in rules)


def test_the_configuration_says_how_many_are_told():
    config = parse_config("[check]\nmost_subjects = 3\n", "config.toml")
    assert load_library((), config).most == 3
    assert load_library(()).most == 100


@pytest.mark.parametrize("given", ["0", "-1", "2.5", '"many"'])
def test_a_number_of_subjects_that_is_none_is_refused(given):
    with pytest.raises(ConfigError, match="most_subjects"):
        parse_config(f"[check]\nmost_subjects = {given}\n", "config.toml")


def test_a_finding_that_may_be_among_the_untold_has_not_gone():
    whole = look(*crowd(23))
    before = told_after((), whole, compare((), None, whole, ["sockets-leak"]), 5.0)
    few = look(*crowd(23), most=3)
    changes = compare(before, 5.0, few, ["sockets-leak"])
    assert not changes.any()
    assert {told.fingerprint for told in told_after(before, few, changes, 6.0)} == {
        told.fingerprint for told in before
    }

"""What lint demands of a rule; each complaint has a name and a remedy."""

import pytest

from tcpdoctor.answers.rule_checks import recorded_hosts
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.lint import lint_facts, lint_rule, lint_together, recorded_complaints
from tcpdoctor.diagnosis.rule import parse_rule, read_body
from tcpdoctor.diagnosis.trial import failures
from tcpdoctor.facts.subject import Fact, Scope
from tcpdoctor.facts.value import COUNT
from tests.diagnosis.examples import RULE, rule
from tests.facts.samples import snapshot, twice

RECORDED = recorded_hosts()


def lint(text, stem="sockets-leak"):
    read = rule(text)
    return {complaint.name: complaint.what for complaint in lint_rule(read, read_body(read), stem)}


def test_a_good_rule_has_no_complaint():
    assert lint(RULE) == {}


def replaced(*pairs):
    text = RULE
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def without(*tables):
    parts = RULE.split("\n[[")
    return "\n[[".join(part for part in parts if not part.startswith(tables))


WARNING = "older(leak.ages, limit.min_age) >= limit.min_sockets"


@pytest.mark.parametrize(
    ("text", "name", "what"),
    [
        (replaced(('"Process leaks', '"Lower the')), "title-is-an-instruction", "'Lower' begins a cure"),
        (replaced(('"Process leaks sockets"', f'"{"a" * 73}"')), "title-too-long", "at most 72 characters"),
        (replaced(('"Process leaks sockets"', '"Sockets leak."')), "title-too-long", "final full stop"),
        (replaced(('["a pool that is never full"]', '["none"]')), "no-normal-when", "names no case"),
        (replaced(('["a pool that is never full"]', "[]")), "no-normal-when", "there always is one"),
        (replaced(('"A descriptor may be in use."', '"N/A"')), "empty-words", "fix[1].risk says nothing"),
        (
            replaced(('undo       = "sysctl -w net.ipv4.timeout={sysctl.net.ipv4.timeout:n}"', 'undo = "-"')),
            "empty-words",
            "fix[2].undo says nothing",
        ),
        (without("reference"), "no-reference", "add a [[reference]]"),
        (replaced(('headline    = "{leak.owned} sockets left open"\n', "")), "no-headline", "is missing"),
        (
            replaced(("sockets left open", "sockets that this process has left open for long")),
            "headline-too-long",
            "'1234 sockets that this process has left open for long' (test 'fires at",
        ),
        (replaced(("left open", "left open.")), "headline-too-long", "ends in a full stop"),
        (replaced(("{leak.owned} sockets left", "Sockets left")), "headline-without-number", "name the one"),
        (replaced(("ss -tnp |", "Look at ss |")), "no-command", "fix[1].commands: 'Look' is no program"),
        (replaced(('{leak.owned:n}"]', 'PEER"]')), "no-command", "PEER is a placeholder"),
        (replaced(('{leak.owned:n}"]', 'x."]')), "no-command", "ends in a full stop"),
        (replaced(('{leak.owned:n}"]', 'x   # falls"]')), "no-command", "has a comment; move it to `do`"),
        (replaced(('{leak.owned:n}"]', 'x; Then see what"]')), "no-command", "reads like a sentence"),
        (replaced(('{leak.owned:n}"]', '{leak.owned}"]')), "no-command", "write {leak.owned:n}"),
        (replaced(('{leak.owned:n}"]', '{process.name}"]')), "no-command", "is chosen by strangers"),
        (replaced(('{leak.owned:n}"]', "'{host.words}'\"]")), "no-command", "is quoted already"),
        (
            replaced(("ss -tnp |", f"ss -tnp {'-n ' * 20}|")),
            "first-command-too-long",
            "the first command has 84 characters; let one of at most 67 come first",
        ),
        (
            replaced(('commands = ["ss -tnp | grep -c {leak.owned:n}"]\n', "")).partition(
                "[[fix]]\nkind       ="
            )[0]
            + "[[wrong_fix]]"
            + RULE.partition("[[wrong_fix]]")[2],
            "no-command",
            "no fix has a command; write what shows the disease",
        ),
        (
            replaced(('"Call close()."', '"""\nSee:\n\n    ss -tn"""')),
            "command-in-prose",
            "fix[1].do has lines that are indented; move them to commands",
        ),
        (
            replaced(('measure       = "older(leak.ages, limit.min_age)"\n', "")),
            "no-measure",
            "write the expression that its limits are about",
        ),
        (
            replaced(('measure_limit = { warning = "min_sockets", critical = "worse" }\n', "")),
            "no-measure-limit",
            "name the limit that measure is compared with",
        ),
        (
            replaced(('{ warning = "min_sockets", critical', "{ critical")),
            "no-measure-limit",
            "measure_limit leaves out warning",
        ),
        (
            replaced(
                ('warning = "min_sockets", critical = "worse"', 'warning = "worse", critical = "worse"')
            ),
            "measure-does-not-reach",
            "test 'fires at the limits' fires and measure is 100.0, which does not reach worse (1000)",
        ),
        (
            replaced(('"older(leak.ages, limit.min_age)"\nmeasure_limit', '"leak.owned"\nmeasure_limit')),
            "measure-does-not-reach",
            "not given in this test",
        ),
        (without("wrong_fix"), "no-wrong-fix", "add a [[wrong_fix]]"),
        (without("fix"), "no-fix", "add a [[fix]]"),
        (without("test"), "no-test-that-fires", "no [[test]] expects "),
        (without("test"), "no-test-that-is-clear", "no [[test]] expects clear; add one"),
        (without("test"), "no-test-that-is-unknown", "no [[test]] expects unknown; add one"),
        (replaced(('"is silent below"', '"cannot tell"')), "two-tests-of-one-name", "'cannot tell'"),
        (
            replaced(("count = 99", "count = 100")),
            "test-fails",
            "test 'is silent below' expects clear and the answer is warning",
        ),
        (
            replaced(('"missing: owners are hidden: run as root"', "{ count = 1, each = 1 }")),
            "test-fails",
            "expects unknown and the answer is clear",
        ),
        (replaced(('"leak.owned" = 1000', '"queue.age" = 5')), "given-and-not-read", "gives queue.age"),
        (
            replaced(("[fires]", 'x = { default = 1, unit = "count", reason = "why" }\n[fires]')),
            "limit-not-used",
            "limits.x is used nowhere",
        ),
        (
            replaced((WARNING, f"{WARNING} and leak.owned >= 0 * limit.worse or leak.owned > 1e9")),
            "limit-without-effect",
            "limits.worse just below and just above",
        ),
        (
            replaced((WARNING, f"{WARNING} or rate(Tcp.Again) / rate(Tcp.Out) > 1")),
            "ratio-without-floor",
            "add `rate(Tcp.Out) >= limit.min_traffic and`",
        ),
        (
            replaced(("older(leak.ages, limit.min_age) >= limit.worse", "sysctl.net.ipv4.switch == 1")),
            "critical-for-a-setting",
            "critical is for what hurts now",
        ),
    ],
)
def test_each_complaint_has_a_name_and_a_remedy(text, name, what):
    complaints = lint(text)
    assert what in complaints[name]
    assert ";" in complaints[name]


def test_a_ratio_with_a_floor_is_no_complaint():
    floor = "rate(Tcp.Out) >= 100 * per_second and rate(Tcp.Again) / rate(Tcp.Out) > 1"
    assert "ratio-without-floor" not in lint(replaced((WARNING, f"{WARNING} or {floor}")))


def test_the_id_is_the_files_name():
    assert lint(RULE, stem="other")["id-is-not-the-file-name"] == (
        "id is sockets-leak and the file other.toml; make them equal"
    )


def test_a_limit_may_serve_the_prose_or_a_fix_alone():
    limit = 'x = { default = 1, unit = "ratio", reason = "why" }\n[fires]'
    for old, new in (("Descriptors run out.", "{limit.x}"), ("timeout / 2", "timeout / limit.x")):
        assert "limit-not-used" not in lint(replaced(("[fires]", limit), (old, new)))


def test_a_test_may_set_limits():
    text = replaced(
        ("count = 99, each = 120 } }", "count = 99, each = 120 } }\nlimits = { min_sockets = 99 }")
    )
    read = rule(text)
    (failure,) = failures(read, read_body(read))
    assert (failure.test.name, failure.answer) == ("is silent below", "warning")


def test_rules_with_one_id_or_the_same_conditions_are_told_apart():
    renamed = rule(replaced(('"sockets-leak"', '"other"'), ("limit.min_age)", "limit.min_age )")))
    other_limit = rule(replaced(('"sockets-leak"', '"third"'), ("default = 100", "default = 101")))
    assert [complaint.name for complaint in lint_together([rule(), rule()])] == ["duplicate-id"]
    assert list(lint_together([rule(), other_limit])) == []
    same = rule(replaced(('"sockets-leak"', '"other"'), (">= limit.min", ">=\\n limit.min")))
    (complaint,) = lint_together([rule(), same])
    assert (complaint.name, complaint.what) == (
        "same-conditions",
        "it fires exactly when sockets-leak does; keep one of them",
    )
    assert renamed.id == "other"


# with the real vocabulary

REAL = """\
id = "x"
title = "X"
status = "stable"
since = "0.1"
scope = "{scope}"
{namespace}
[fires]
{level} = "{condition}"
[prose]
summary = "s"
explanation = "e"
impact = "i"
normal_when = ["always"]
"""


def lint_real(condition, level="warning", scope="host", namespace=""):
    text = REAL.format(condition=condition, level=level, scope=scope, namespace=namespace)
    read = parse_rule(text, "rules/local/x.toml", "local")
    found = lint_rule(read, read_body(read), "x", RECORDED)
    return {complaint.name: complaint.what for complaint in found}


def test_a_rule_that_fires_on_kernel_defaults_is_refused():
    assert (
        "fires.info holds on the recorded host defaults"
        in (lint_real("sysctl.net.ipv4.tcp_syncookies == 1", "info")["fires-on-defaults"])
    )


def test_a_rule_above_info_on_a_busy_host_is_refused():
    condition = "sockets.time_wait > 5000"
    assert "fires.warning holds on the recorded host" in lint_real(condition)["fires-when-healthy"]
    assert "fires-when-healthy" not in lint_real(condition, "info")


@pytest.mark.parametrize(
    ("scope", "condition"),
    [
        ("process", "process.descriptors.used >= 5"),
        ("listener", "accept_queue.length >= 1"),
        ("port", "port.established >= 53"),
        ("destination", "ports.used >= 100"),
    ],
)
def test_every_scope_has_healthy_examples(scope, condition):
    assert "fires-when-healthy" in lint_real(condition, scope=scope)


def test_machine_wide_facts_need_the_initial_namespace():
    condition = "sockstat.TCP.orphan > 1000"
    assert 'add `namespace = "initial"`' in lint_real(condition)["machine-wide-fact"]
    assert "machine-wide-fact" not in lint_real(condition, namespace='namespace = "initial"')


def test_a_rule_in_no_familys_folder_is_told_so():
    assert "put it into one, such as close/" in lint_real("sockets.listen > 99")["no-family"]


def test_a_rule_that_fires_on_a_recorded_healthy_host_is_complained_about_with_its_name():
    off = next(rule for rule in load_rules().rules if rule.id == "syncookies-off")
    sick = snapshot()._replace(sysctls={"net.ipv4.tcp_syncookies": 0})
    hosts = {"web": twice(sick, sick), "defaults": twice(snapshot(), snapshot())}
    found = list(recorded_complaints(off, hosts))
    assert [name for name, _ in found] == ["fires-when-healthy"]
    assert "on the recorded host web" in found[0][1]


def test_a_warning_by_upper_ends_needs_a_summary_of_its_own():
    upper = 'warning_upper = "older(leak.ages, limit.min_age) >= limit.min_sockets"\nwarning  ='
    text = replaced(("warning  =", upper))
    assert "with both bounds" in lint(text)["no-summary-upper"]
    assert "no-summary-upper" not in lint(text.replace("[prose]", '[prose]\nsummary_upper = "{leak.owned}"'))


@pytest.mark.parametrize(
    ("explains", "scope", "name"),
    [
        ("no-such-rule", "process", "explains-no-rule"),
        ("sockets-leak", "process", "explains-other-subjects"),
        ("other", "host", "explains-other-subjects"),
        ("other", "process", "explains-in-a-circle"),
    ],
)
def test_a_rule_explains_only_rules_about_the_same_subjects(explains, scope, name):
    text = replaced(("[limits]", f'explains = ["{explains}"]\n[limits]'))
    other = rule(
        replaced(('"sockets-leak"', '"other"'), ("[limits]", 'explains = ["sockets-leak"]\n[limits]'))
    )
    found = [complaint.name for complaint in lint_together([rule(text), other._replace(scope=Scope(scope))])]
    assert name in found


@pytest.mark.parametrize(
    ("divisor", "complains"),
    [
        ("sockets.free", True),
        ("max(sockets.free, 1)", False),
        ("min(sockets.free, 1)", True),
        ("(sockets.free + 1)", False),
        ("(2 * sockets.free)", True),
        ("(2 * limit.worse)", False),
        ("limit.worse", False),
        ("older(leak.ages, limit.min_age)", False),  # the conditions keep it above 0
    ],
)
def test_a_text_divides_only_by_what_cannot_be_zero(divisor, complains):
    found = lint(replaced(("{leak.owned} sockets", f"{{leak.owned / {divisor}}} sockets")))
    assert ("division-by-what-may-be-zero" in found) is complains


def test_a_comparison_with_zero_keeps_a_divisor_above_it():
    divides = ("{leak.owned} sockets", "{leak.owned / sockets.free} sockets")
    guard = "sockets.free > 0 and older(leak.ages, limit.min_age) >= limit."
    both = replaced(divides, (f'"{WARNING}"', f'"{guard}min_sockets"'))
    assert "division-by-what-may-be-zero" in lint(both)  # critical may fire without
    both = both.replace('"older(leak.ages, limit.min_age) >= limit.worse"', f'"{guard}worse"')
    assert "division-by-what-may-be-zero" not in lint(both)


GOOD_FACT = Fact("leak.owned", COUNT, Scope.PROCESS, "gauge", "Sockets that are kept.", "/proc/PID/fd")


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"meaning": "sockets that are kept."}, "no sentence on one line"),
        ({"meaning": "Sockets that are kept"}, "write one, with a full stop"),
        ({"meaning": "Sockets\nthat are kept."}, "no sentence on one line"),
        ({"meaning": f"S{'o' * 240}."}, "has 242 characters; shorten it to 240"),
        ({"source": " "}, "it has no source; name the file or command"),
        ({"kind": "text"}, "a text with this dimension makes no sense"),
        ({"dimension": None}, "a gauge with this dimension makes no sense"),
        ({"kind": "number"}, "a number with this dimension makes no sense"),
    ],
)
def test_the_words_of_a_fact_are_looked_at_as_well(changed, what):
    (found,) = lint_facts([GOOD_FACT, GOOD_FACT._replace(**changed)])
    assert found.name == "fact-words"
    assert found.what.startswith("leak.owned: ")
    assert what in found.what

"""Every fix by a setting that the rules have: the kernel takes the planned value, in two forms."""

import subprocess
from collections.abc import Iterator

from tcpdoctor.answers.plan import planned_answer, told_plan
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.diagnosis.plan import Plan, PlanGround, make_plan
from tcpdoctor.diagnosis.rule import Trigger, read_body
from tcpdoctor.diagnosis.tell import tell
from tcpdoctor.diagnosis.trial import facts_given, rule_under_test, verdict_of
from tcpdoctor.facts.subject import Subject
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.fix_journal import held_text, write_setting
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl import look_at
from tcpdoctor.report.fix_text import fix_shell, fix_sysctl_d
from tests.diagnosis.snapshots import snapshot

PARTS = ("min", "default", "pressure", "low", "high", "max")
LEAST_PLANS, LEAST_SETTINGS = 40, 20
"""Far fewer than there are: else this has tried nothing."""


def sysctls_of(given) -> dict[str, object]:
    """The settings that facts of a test stand for; one that has several numbers of which all are given."""
    found: dict[str, dict[str, int]] = {}
    for name, value in given.items():
        if name.startswith("sysctl.") and isinstance(value, int | float):
            key, _, part = name.removeprefix("sysctl.").rpartition(".")
            whole = (key, part) if part in PARTS else (name.removeprefix("sysctl."), "")
            found.setdefault(whole[0], {})[whole[1]] = int(value)
    return {
        key: parts[""] if "" in parts else tuple(parts[part] for part in PARTS if part in parts)
        for key, parts in found.items()
    }


def findings() -> Iterator[tuple[Finding, object]]:
    for rule in load_rules().rules:
        body = read_body(rule)
        if not any(fix.sysctl is not None for fix in body.fixes):
            continue
        for test in body.tests:
            trigger = verdict_of(rule, test)
            if not isinstance(trigger, Trigger):
                continue
            look = snapshot(sysctls={"net.ipv4.ip_local_reserved_ports": (), **sysctls_of(test.given)})
            subject = Subject(rule.scope, "this", {"address": "10.0.0.5", "port": 5432}, facts_given(test))
            yield tell(rule_under_test(rule, test), body, trigger, subject, look, [subject]), look


def plans() -> Iterator[tuple[Plan, object]]:
    ground = PlanGround(servers=frozenset({20011}), reserved="", kubernetes=False, initial=True)
    for finding, look in findings():
        plan = make_plan([finding], ground)
        if plan.changes:
            yield plan, look


def tried(plan: Plan, look) -> dict[str, tuple[str, str, str]]:
    """By setting that can be written here, what was planned and what the two forms have left of it."""
    here = [change for change in plan.changes if look_at(change.key.replace(".", "/")).writable]
    here = [change for change in here if change.key.startswith("net.") and _begins(change)]
    answer = planned_answer(told_plan(plan._replace(changes=tuple(here)), {}, {}, look), look, None)
    results = {}
    before = {change.key: held_text(change.key) for change in here}
    by = {}
    for form, command in ((fix_shell(answer), ["sh", "-eu"]), (fix_sysctl_d(answer), ["sysctl", "-p", "-"])):
        done = subprocess.run(command, input=form, text=True, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, (form, done.stderr)
        by[command[0]] = {key: held_text(key) for key in before}
        for key, value in reversed(before.items()):
            assert write_setting(key, str(value)) is None
    for change in here:
        results[change.key] = (value_as_printed(change.value), by["sh"][change.key], by["sysctl"][change.key])
    return results


def _begins(change) -> bool:
    """Let a setting hold what the plan says that it holds; False where this kernel does not take that."""
    refused = write_setting(change.key, value_as_printed(change.now))
    return refused is None and not isinstance(held_text(change.key), Missing)


def every_plan():
    return [tried(plan, look) for plan, look in plans()]


def test_the_kernel_takes_what_every_rule_plans(in_namespace):
    results = in_namespace(every_plan)
    told = [(key, values) for result in results for key, values in result.items()]
    assert [(key, values) for key, values in told if len(set(values)) > 1] == []
    assert len([result for result in results if result]) >= LEAST_PLANS
    assert len({key for key, _ in told}) >= LEAST_SETTINGS

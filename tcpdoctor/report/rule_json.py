"""Rules, complaints and test results as JSON."""

from collections.abc import Sequence

from tcpdoctor.diagnosis.body import Body, FixText, unfilled
from tcpdoctor.diagnosis.finding import Diagnosis, JsonValue
from tcpdoctor.diagnosis.lint import Complaint
from tcpdoctor.diagnosis.rule import Limit, Rule
from tcpdoctor.facts.dimension import unit_name
from tcpdoctor.facts.fact import Fact
from tcpdoctor.report.rule_text import facts_read, list_entry

Json = dict[str, JsonValue]


def rule_list_json(rules: Sequence[tuple[Rule, str | None]]) -> Json:
    """``tcpdoctor.rules/1``: every rule with what switched it off, or null."""
    return {"schema": "tcpdoctor.rules/1", "rules": [_summary(rule, off) for rule, off in rules]}


def _summary(rule: Rule, off: str | None) -> Json:
    return {
        "id": rule.id,
        "family": rule.family,
        "title": rule.title,
        "status": rule.status,
        "since": rule.since,
        "scope": rule.scope.value,
        "namespace": "initial" if rule.initial_only else "any",
        "tags": list[JsonValue](rule.tags),
        "severities": list[JsonValue](list_entry(rule, off).severities),
        "enabled": off is None,
        "switched_off_by": off,
        "shipped": rule.shipped,
        "source": rule.source,
    }


def rule_json(rule: Rule, off: str | None, body: Body, here: Diagnosis | None = None) -> Json:
    """``tcpdoctor.rule/1``: one rule, texts with their blanks as ``{...}``; `here` is what it found."""
    return {
        "schema": "tcpdoctor.rule/1",
        **_summary(rule, off),
        "here": None if here is None else _here(here),
        "fires": {trigger.key: " ".join(trigger.text.split()) for trigger in rule.fires},
        "limits": [_limit(name, limit) for name, limit in rule.limits.items()],
        "facts": [_fact(fact) for fact in facts_read(rule)],
        "summary": unfilled(body.summary),
        "explanation": unfilled(body.explanation),
        "impact": unfilled(body.impact),
        "normal_when": [unfilled(case) for case in body.normal_when],
        "headline": None if body.headline is None else unfilled(body.headline),
        "measure": rule.measure,
        "measure_limits": {severity.key: name for severity, name in rule.measure_limits.items()},
        "measure_falls": rule.measure_falls,
        "fixes": [_fix(fix) for fix in body.fixes],
        "wrong_fixes": [
            {"title": unfilled(wrong.title), "why": unfilled(wrong.why)} for wrong in body.wrong_fixes
        ],
        "references": [{"claim": ref.claim, "source": ref.source} for ref in body.references],
        "tests": [{"name": test.name, "expect": test.expect} for test in body.tests],
        "explains": list[JsonValue](rule.explains),
        "no_scenario": rule.no_scenario,
        "needs": rule.needs,
    }


def _here(here: Diagnosis) -> Json:
    return {
        "findings": [
            {"severity": finding.severity.key, "subject": finding.label, "summary": finding.summary}
            for finding in here.findings
        ],
        "unchecked": [
            {"reason": unchecked.reason, "applies": unchecked.applies} for unchecked in here.unchecked
        ],
    }


def _limit(name: str, limit: Limit) -> Json:
    return {
        "name": name,
        "value": limit.given,
        "default": limit.default,
        "unit": limit.unit,
        "reason": limit.reason,
    }


def _fact(fact: Fact) -> Json:
    return {
        "fact": fact.name,
        "kind": fact.kind,
        "unit": unit_name(fact.dimension),
        "scope": fact.scope.value,
        "meaning": fact.meaning,
        "source": fact.source,
    }


def _fix(fix: FixText) -> Json:
    return {
        "kind": fix.kind,
        "title": unfilled(fix.title),
        "do": None if fix.do is None else unfilled(fix.do),
        "risk": unfilled(fix.risk),
        "verify": unfilled(fix.verify),
        "undo": None if fix.undo is None else unfilled(fix.undo),
        "sysctl": None
        if fix.sysctl is None
        else {"name": fix.sysctl.name, "applies_to": fix.sysctl.applies_to},
        "commands": [unfilled(command) for command in fix.commands],
        "verify_commands": [unfilled(command) for command in fix.verify_commands],
        "undo_commands": [unfilled(command) for command in fix.undo_commands],
    }


def lint_json(rules: int, complaints: Sequence[Complaint]) -> Json:
    """``tcpdoctor.lint/1``: how many rules were looked at, and every complaint."""
    return {
        "schema": "tcpdoctor.lint/1",
        "rules": rules,
        "complaints": [
            {"source": complaint.source, "name": complaint.name, "what": complaint.what}
            for complaint in complaints
        ],
    }


def rule_tests_json(tests: int, complaints: Sequence[Complaint]) -> Json:
    """``tcpdoctor.ruletests/1``: how many tests were run, and each that failed."""
    return {
        "schema": "tcpdoctor.ruletests/1",
        "tests": tests,
        "failures": [{"source": complaint.source, "what": complaint.what} for complaint in complaints],
    }

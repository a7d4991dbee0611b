"""What a rule must satisfy beyond being readable; each complaint has a name and a remedy."""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from tcpdoctor.diagnosis.body import Body, FixText, RuleTest
from tcpdoctor.diagnosis.lint_conditions import condition_complaints
from tcpdoctor.diagnosis.lint_hosts import host_complaints, recorded_complaints
from tcpdoctor.diagnosis.lint_limits import limit_complaints
from tcpdoctor.diagnosis.prose import Template, blanks_of
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.diagnosis.tree import facts_of
from tcpdoctor.diagnosis.trial import failures
from tcpdoctor.kernel.snapshot import Samples

LONGEST_TITLE = 72
NO_HOSTS: Mapping[str, Samples] = MappingProxyType({})
_INSTRUCTIONS = frozenset(
    {
        "add",
        "adjust",
        "allow",
        "avoid",
        "change",
        "check",
        "close",
        "configure",
        "consider",
        "decrease",
        "disable",
        "enable",
        "ensure",
        "fix",
        "increase",
        "kill",
        "look",
        "lower",
        "make",
        "never",
        "raise",
        "reduce",
        "remove",
        "replace",
        "reserve",
        "restart",
        "restore",
        "set",
        "stop",
        "switch",
        "tune",
        "turn",
        "upgrade",
        "use",
        "wait",
        "widen",
    }
)
_NOTHING = re.compile(r"\W*(none|nothing|never|n/?a|-|unknown|no risk|not known|tbd)?\W*", re.IGNORECASE)


class Complaint(NamedTuple):
    """One thing that is wrong with a rule."""

    source: str
    """The file."""
    name: str
    """Short and stable: ``test-fails``."""
    what: str
    """What is wrong; after a semicolon, what to do."""


def lint_rule(
    rule: Rule, body: Body, stem: str, recorded: Mapping[str, Samples] = NO_HOSTS
) -> Iterator[Complaint]:
    """Look for what is wrong with one rule.

    Args:
        rule: The rule, which could be read.
        body: The rest of it.
        stem: Its file's name without ``.toml``.
        recorded: Hosts that were recorded while they were well, by name.
    """
    parts = (
        _identity(rule, stem),
        _prose(body),
        _tests(rule, body),
        condition_complaints(rule),
        limit_complaints(rule, body),
        host_complaints(rule),
        recorded_complaints(rule, recorded),
    )
    for part in parts:
        for name, what in part:
            yield Complaint(rule.source, name, what)


def _identity(rule: Rule, stem: str) -> Iterator[tuple[str, str]]:
    if rule.id != stem:
        yield "id-is-not-the-file-name", f"id is {rule.id} and the file {stem}.toml; make them equal"
    word = rule.title.split()[0]
    if word.lower() in _INSTRUCTIONS:
        yield "title-is-an-instruction", f"{word!r} begins a cure; the title names the symptom"
    if len(rule.title) > LONGEST_TITLE or rule.title.endswith("."):
        yield (
            "title-too-long",
            f"a title is at most {LONGEST_TITLE} characters without a final full stop; shorten it",
        )
    if rule.no_scenario is not None and _NOTHING.fullmatch(rule.no_scenario):
        yield "empty-words", "no_scenario says nothing; write why one machine cannot have the disease"
    if rule.family == "local":
        yield "no-family", "the file lies in no family's folder; put it into one, such as close/"


def _prose(body: Body) -> Iterator[tuple[str, str]]:
    if not body.normal_when or any(_says_nothing(case) for case in body.normal_when):
        yield "no-normal-when", "normal_when names no case; say when this is no fault (there always is one)"
    if not body.references:
        yield "no-reference", "nothing backs the rule; add a [[reference]] with claim and source"
    if not body.fixes:
        yield "no-fix", "it names no way out; add a [[fix]]"
    if not body.wrong_fixes:
        yield "no-wrong-fix", "it warns of no bad advice; add a [[wrong_fix]] with title and why"
    for number, fix in enumerate(body.fixes, 1):
        yield from _fix(number, fix)


def _fix(number: int, fix: FixText) -> Iterator[tuple[str, str]]:
    for key, template in (("risk", fix.risk), ("verify", fix.verify), ("undo", fix.undo)):
        if template is not None and _says_nothing(template):
            yield "empty-words", f"fix[{number}].{key} says nothing; write a sentence or a command"


def _says_nothing(template: Template) -> bool:
    return (
        _NOTHING.fullmatch("".join(part if isinstance(part, str) else "x" * 9 for part in template.parts))
        is not None
    )


def _tests(rule: Rule, body: Body) -> Iterator[tuple[str, str]]:
    expected = {test.expect for test in body.tests}
    for trigger in rule.fires:
        if trigger.severity.key not in expected:
            yield "no-test-that-fires", f"no [[test]] expects {trigger.severity.key}; add one"
    for answer in ("clear", "unknown"):
        if answer not in expected:
            yield f"no-test-that-is-{answer}", f"no [[test]] expects {answer}; add one"
    names = [test.name for test in body.tests]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "two-tests-of-one-name", f"two tests are called {name!r}; say how they differ"
    for failure in failures(rule, body):
        wanted = f"test {failure.test.name!r} expects {failure.test.expect}"
        yield "test-fails", f"{wanted} and the answer is {failure.answer}; correct the rule or the test"
    for test in body.tests:
        yield from _unread(rule, body, test)


def _unread(rule: Rule, body: Body, test: RuleTest) -> Iterator[tuple[str, str]]:
    read = {fact.name for trigger in rule.fires for fact in facts_of(trigger.tree)}
    read |= {fact.name for template in templates_of(body) for fact in blanks_of(template)}
    for name in test.given:
        if name not in read:
            yield (
                "given-and-not-read",
                f"test {test.name!r} gives {name}, which the rule never reads; leave it out",
            )


def templates_of(body: Body) -> Iterator[Template]:
    """Every text of a rule that may have blanks."""
    yield from (body.summary, body.explanation, body.impact, *body.normal_when)
    for fix in body.fixes:
        yield from (part for part in (fix.title, fix.do, fix.risk, fix.verify, fix.undo) if part is not None)
    for wrong in body.wrong_fixes:
        yield from wrong


def lint_together(rules: Sequence[Rule]) -> Iterator[Complaint]:
    """Look for what is wrong with rules beside each other: ids and conditions that occur twice."""
    by_id: dict[str, Rule] = {}
    by_conditions: dict[tuple[object, ...], Rule] = {}
    for rule in rules:
        other = by_id.setdefault(rule.id, rule)
        if other is not rule:
            yield Complaint(
                rule.source, "duplicate-id", f"{rule.id} is the id of {other.source} as well; choose another"
            )
            continue
        same = by_conditions.setdefault(_conditions(rule), rule)
        if same is not rule:
            yield Complaint(
                rule.source, "same-conditions", f"it fires exactly when {same.id} does; keep one of them"
            )


def _conditions(rule: Rule) -> tuple[object, ...]:
    """What decides, in a form that compares: spaces do not matter, the limits' values do."""
    triggers = tuple((trigger.severity, _squeezed(trigger.text, rule)) for trigger in rule.fires)
    return (rule.scope, triggers)


def _squeezed(text: str, rule: Rule) -> str:
    words = " ".join(text.split())
    return re.sub(r"limit\.([a-z0-9_]+)", lambda match: repr(rule.limits[match[1]].value), words)

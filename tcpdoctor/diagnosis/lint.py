"""What a rule must satisfy beyond being readable; each complaint has a name and a remedy."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from tcpdoctor.diagnosis.body import (
    Blank,
    Body,
    FixText,
    RuleTest,
    SysctlChange,
    Template,
    blanks_of,
)
from tcpdoctor.diagnosis.closure import (
    Arithmetic,
    Calculation,
    Comparison,
    Condition,
    Constant,
    Every,
    Extreme,
    Grown,
    Limit,
    Node,
    Text,
    Truth,
    compile_condition,
    facts_of,
    walk,
)
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.lint_keys import key_complaints
from tcpdoctor.diagnosis.rule import Rule, Trigger
from tcpdoctor.diagnosis.trial import facts_given, failures, rule_under_test
from tcpdoctor.facts.subject import AGES, COUNTER, GAUGE, TEXT, Fact
from tcpdoctor.kernel.snapshot import Samples

# What lint demands of a rule's conditions.


MACHINE_WIDE = (
    "sysctl.net.ipv4.tcp_mem.",
    "sysctl.net.ipv4.tcp_max_orphans",
    "sockstat.TCP.orphan",
    "sockstat.TCP.alloc",
    "sockstat.TCP.mem",
)
"""Beginnings of facts that are about the machine, or are not there in a child network namespace."""


def condition_complaints(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield (name, what) for each condition that could mislead."""
    for trigger in rule.fires:
        yield from _machine_wide(rule, trigger)
        yield from _ratios(trigger)
        if trigger.severity is Severity.CRITICAL and _is_about_settings_only(trigger):
            yield (
                "critical-for-a-setting",
                "fires.critical reads sysctls only; critical is for what hurts now, use warning",
            )


def _machine_wide(rule: Rule, trigger: Trigger) -> Iterator[tuple[str, str]]:
    if rule.initial_only:
        return
    for fact in facts_of(trigger.tree):
        if fact.name.startswith(MACHINE_WIDE):
            yield (
                "machine-wide-fact",
                f'{fact.name} is about the whole machine; add `namespace = "initial"`',
            )
            return


def _is_about_settings_only(trigger: Trigger) -> bool:
    return all(fact.name.startswith("sysctl.") for fact in facts_of(trigger.tree))


def _ratios(trigger: Trigger) -> Iterator[tuple[str, str]]:
    """One retransmission out of two segments is 50 %: a ratio of rates means something from a floor on."""
    sides = [
        side
        for node in walk(trigger.tree)
        if isinstance(node, Comparison)
        for side in (node.left, node.right)
    ]
    floors = {side.fact.name for side in sides if isinstance(side, Grown)}
    for node in walk(trigger.tree):
        if not (isinstance(node, Arithmetic) and node.operator == "/" and _growths(node.left)):
            continue
        if node.right in sides:
            continue  # the divisor itself, as it is, has a floor
        for name in sorted(_growths(node.right) - floors):
            floor = f"`rate({name}) >= limit.min_traffic and`"
            yield "ratio-without-floor", f"a ratio of rates says nothing of a trickle; add {floor}"


def _growths(node: Node) -> set[str]:
    return {part.fact.name for part in walk(node) if isinstance(part, Grown)}


# Whether a rule leaves healthy hosts in peace.


def recorded_complaints(rule: Rule, hosts: Mapping[str, Samples]) -> Iterator[tuple[str, str]]:
    """Yield (name, what) for each host of that name, recorded while it was well, on which the rule fires.

    On one that is called ``defaults`` nothing may fire at all, on the others nothing above info.
    """
    for host, samples in hosts.items():
        allowed = 0 if host == "defaults" else Severity.INFO
        for finding in diagnose([rule], samples).findings:
            if finding.severity > allowed:
                name = "fires-when-healthy" if allowed else "fires-on-defaults"
                fired = f"fires.{finding.severity.key} holds on the recorded host {host} for {finding.label}"
                yield name, f"{fired}; raise a limit or narrow the condition"
                break


# Whether each limit of a rule decides anything: evaluated just below and just above, on the rule's tests.


_LARGEST = 1e18
_STEPS = 200
"""Halvings until two floating-point neighbours are left: 64 bits and some to spare."""


def limit_complaints(rule: Rule, body: Body) -> Iterator[tuple[str, str]]:
    """Yield (name, what) for each limit that does nothing, or that no test shows to do something."""
    for name in rule.limits:
        triggers = [trigger for trigger in rule.fires if name in _limits_in(trigger.tree)]
        if not triggers and not _tells(body, name):
            yield "limit-not-used", f"limits.{name} is used nowhere; take it out"
        for trigger in triggers:
            if not any(_decides(rule, trigger, name, test) for test in body.tests):
                what = f"limits.{name} just below and just above what the tests give changes no answer of"
                level = trigger.key
                yield "limit-without-effect", f"{what} fires.{level}; add a test in which it decides"


def _limits_in(node: Node) -> set[str]:
    return {part.name for part in walk(node) if isinstance(part, Limit)}


def _tells(body: Body, name: str) -> bool:

    trees: list[Node] = [
        part.quantity.tree
        for template in templates_of(body)
        for part in template.parts
        if isinstance(part, Blank)
    ]
    for fix in body.fixes:
        trees += _value_trees(fix.sysctl)
    return any(name in _limits_in(tree) for tree in trees)


def _value_trees(change: SysctlChange | None) -> list[Node]:
    if change is None:
        return []
    return list(change.value)


def _decides(rule: Rule, trigger: Trigger, name: str, test: RuleTest) -> bool:
    """Whether there is a value of the limit just below which the condition answers otherwise than just above.

    The limit is moved across the test's facts, which is the same as moving the facts across the limit and
    works for every condition. The place where the answer changes is found by halving.
    """
    limits = rule_under_test(rule, test).limit_values
    facts = facts_given(test)

    def at(value: float) -> Truth:
        return compile_condition(trigger.tree, {**limits, name: value}, at_most=trigger.at_most)(facts)

    low, high = 0.0, _LARGEST
    below, above = at(low), at(high)
    if {below, above} != {True, False}:
        return False
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if at(middle) == below:
            low = middle
        else:
            high = middle
    return at(high) == above


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
        division_complaints(rule, body),
        key_complaints(rule, body),
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
        if trigger.at_most and body.summary_upper is None:
            yield (
                "no-summary-upper",
                "fires.warning_upper has no summary of its own; add prose.summary_upper, with both bounds",
            )
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
    if body.summary_upper is not None:
        yield body.summary_upper
    if body.headline is not None:
        yield body.headline
    for fix in body.fixes:
        yield from fix.commands
        yield from (part for part in (fix.title, fix.do, fix.risk, fix.verify, fix.undo) if part is not None)
    for wrong in body.wrong_fixes:
        yield from wrong


def division_complaints(rule: Rule, body: Body) -> Iterator[tuple[str, str]]:
    """Yield (name, what) for each text that divides by what may be 0 while the rule fires.

    It would read "(unknown: a division by zero)" beside the finding. Facts are taken not to be negative.
    """
    proven = [_proven_above_zero(trigger.tree, rule) for trigger in rule.fires]
    for template in templates_of(body):
        for blank in template.parts:
            if isinstance(blank, str):
                continue
            for node in walk(blank.quantity.tree):
                if not (isinstance(node, Arithmetic) and node.operator == "/"):
                    continue
                if not all(_is_above_zero(node.right, rule, known) for known in proven):
                    yield (
                        "division-by-what-may-be-zero",
                        (
                            f"{{{blank.text}}} divides by what no condition keeps above 0; write "
                            "max(..., 1), compare it with 0 in [fires], or do without the quotient"
                        ),
                    )


def _proven_above_zero(condition: Condition, rule: Rule) -> frozenset[str]:
    """What a condition keeps above 0, by its form: named tuples of different types may be equal."""
    match condition:
        case Every():
            return frozenset().union(*(_proven_above_zero(item, rule) for item in condition.items))
        case Comparison(operator=">", left=left, right=Constant(value=value)) if value >= 0:
            return frozenset({repr(left)})
        case Comparison(operator=">=", left=left, right=right) if _is_above_zero(right, rule, frozenset()):
            return frozenset({repr(left)})
        case _:
            return frozenset()


def _is_above_zero(tree: Calculation | Text, rule: Rule, known: frozenset[str]) -> bool:
    if repr(tree) in known:
        return True
    match tree:
        case Constant():
            return tree.value > 0
        case Limit():
            return rule.limits[tree.name].value > 0
        case Extreme():
            found = [_is_above_zero(item, rule, known) for item in tree.items]
            return any(found) if tree.call == "max" else all(found)
        case Arithmetic(operator="+"):
            return _is_above_zero(tree.left, rule, known) or _is_above_zero(tree.right, rule, known)
        case Arithmetic(operator="*" | "/"):
            return _is_above_zero(tree.left, rule, known) and _is_above_zero(tree.right, rule, known)
        case _:
            return False


def lint_together(rules: Sequence[Rule], others: Iterable[Rule] = ()) -> Iterator[Complaint]:
    """Look for what is wrong with rules beside each other: ids and conditions that occur twice, `explains`.

    Args:
        rules: What is looked at.
        others: Further rules that these may name.
    """
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
    by_id = {other.id: other for other in others} | by_id
    for rule in rules:
        yield from (Complaint(rule.source, *found) for found in _explanations(rule, by_id))


def _explanations(rule: Rule, by_id: Mapping[str, Rule]) -> Iterator[tuple[str, str]]:
    """Complaints about `explains`: it can take sockets only out of rules about the same subjects."""
    for id_ in rule.explains:
        other = by_id.get(id_)
        if other is None:
            yield "explains-no-rule", f"explains names {id_}, which is no rule; correct or remove it"
        elif other.scope is not rule.scope or other is rule:
            yield "explains-other-subjects", f"explains names {id_}, which is not about the same subjects"
        elif rule.id in other.explains:
            yield "explains-in-a-circle", f"it and {id_} explain each other; keep the one that knows more"


def _conditions(rule: Rule) -> tuple[object, ...]:
    """What decides, in a form that compares: spaces do not matter, the limits' values do."""
    triggers = tuple((trigger.key, _squeezed(trigger.text, rule)) for trigger in rule.fires)
    return (rule.scope, triggers)


def _squeezed(text: str, rule: Rule) -> str:
    words = " ".join(text.split())
    return re.sub(r"limit\.([a-z0-9_]+)", lambda match: repr(rule.limits[match[1]].value), words)


# The words of facts, which rules, reports and `tcpdoctor facts` show.

LONGEST_MEANING = 240
FACTS_SOURCE = "tcpdoctor/facts"
_KINDS = (GAUGE, COUNTER, AGES, TEXT)


def lint_facts(facts: Iterable[Fact]) -> Iterator[Complaint]:
    """Look for facts whose words say too little, or too much."""
    for fact in facts:
        what = _wrong_words(fact)
        if what is not None:
            yield Complaint(FACTS_SOURCE, "fact-words", f"{fact.name}: {what}")


def _wrong_words(fact: Fact) -> str | None:
    meaning = fact.meaning
    if not meaning.endswith(".") or "\n" in meaning or _begins_in_the_middle(meaning):
        return "its meaning is no sentence on one line; write one, with a full stop"
    if len(meaning) > LONGEST_MEANING:
        return f"its meaning has {len(meaning)} characters; shorten it to {LONGEST_MEANING}"
    if not fact.source.strip():
        return "it has no source; name the file or command that shows it without this program"
    if fact.kind not in _KINDS or (fact.kind == TEXT) is not (fact.dimension is None):
        return f"a {fact.kind} with this dimension makes no sense; a text has none, all others one"
    return None


def _begins_in_the_middle(meaning: str) -> bool:
    # systemd is written so even there
    return not (meaning[0].isupper() or meaning[0].isdigit() or meaning.startswith("systemd"))

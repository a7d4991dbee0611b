"""What lint demands of a rule's short words: its headline, its commands, and what it measures."""

import re
from collections.abc import Iterator, Mapping

from tcpdoctor.diagnosis.body import Blank, Body, FixText, RuleTest, Template, blanks_of, fill_headline
from tcpdoctor.diagnosis.measure import first_limit, reaches, value_of
from tcpdoctor.diagnosis.rule import Rule, Trigger
from tcpdoctor.diagnosis.trial import answer, facts_given, rule_under_test, verdict_of
from tcpdoctor.facts.subject import Fact
from tcpdoctor.facts.value import BYTE, COUNT, PAGE, PER_SECOND, SECOND, Ages, Dimension, Growth, Value

LONGEST_HEADLINE = 49
"""Beside severity and subject, in 80 columns."""
LONGEST_FIRST_COMMAND = 67
"""Behind the arrow below a headline, in 80 columns."""
_USUAL_BLANK = 6
"""Characters of a pid or a port, and some to spare."""
LONGEST_NAME = 15
"""Characters of a process' name, as the kernel keeps it."""
PROGRAMS = frozenset(
    {
        "awk",
        "cat",
        "conntrack",
        "crictl",
        "curl",
        "dig",
        "dmesg",
        "docker",
        "ethtool",
        "for",
        "free",
        "gdb",
        "getent",
        "grep",
        "head",
        "ip",
        "iptables",
        "iptables-save",
        "journalctl",
        "jstack",
        "kubectl",
        "ls",
        "lsns",
        "lsof",
        "mpstat",
        "nft",
        "nginx",
        "nsenter",
        "nstat",
        "perf",
        "pgrep",
        "ping",
        "podman",
        "prlimit",
        "ps",
        "py-spy",
        "resolvectl",
        "sed",
        "sort",
        "ss",
        "strace",
        "sysctl",
        "systemctl",
        "tail",
        "tc",
        "tcpdoctor",
        "tcpdump",
        "test",
        "timeout",
        "top",
        "tracepath",
        "uniq",
        "vmstat",
        "wc",
    }
)
"""What a command may begin with, beside a path."""
_USUAL: Mapping[Dimension, float] = {
    COUNT: 1234,
    SECOND: 1020.0,
    BYTE: 4_404_019,
    PAGE: 61_234,
    PER_SECOND: 123.0,
}
"""Values of a usual size for facts that no test gives."""
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_PLACEHOLDER = re.compile(r"(?<![\w$/=-])[A-Z]{3,}(?![\w/=])")
_SENTENCE = re.compile(r"[.;:!?] +[A-Z][a-z]+ [a-z]|^[A-Z][a-z]+ [a-z]+ [a-z]")
_CHOSEN_BY_STRANGERS = ("process.name", "process.command")


def key_complaints(rule: Rule, body: Body) -> Iterator[tuple[str, str]]:
    """Yield (name, what) for each short word that is missing, too long, or not what it says."""
    yield from _headline_complaints(rule, body)
    for number, fix in enumerate(body.fixes, 1):
        yield from _command_complaints(number, fix)
    yield from _first_command_complaints(body)
    yield from _measure_complaints(rule, body)


def _headline_complaints(rule: Rule, body: Body) -> Iterator[tuple[str, str]]:
    if body.headline is None:
        yield "no-headline", "prose.headline is missing; write one line with the numbers that matter"
        return
    for test in _firing(body):
        facts = _filled_up(body.headline, test)
        line = fill_headline(body.headline, facts, rule_under_test(rule, test).limit_values)
        if len(line) > LONGEST_HEADLINE:
            what = f"{line!r} (test {test.name!r}) has {len(line)} characters"
            yield "headline-too-long", f"{what}; shorten it to {LONGEST_HEADLINE}"
            return
        if not re.search(r"\d", line):
            yield "headline-without-number", f"{line!r} has no number; name the one that matters"
            return
        if line.endswith("."):
            yield "headline-too-long", f"{line!r} ends in a full stop; take it out"
            return


def _firing(body: Body) -> list[RuleTest]:
    return [test for test in body.tests if test.expect not in ("clear", "unknown")]


def _filled_up(template: Template, test: RuleTest) -> Mapping[str, Value]:
    """The facts of a test, and for what it leaves out a value of the usual size."""
    usual = {fact.name: _usual(fact) for fact in blanks_of(template)}
    return {**usual, **facts_given(test)}


def _usual(fact: Fact) -> Value:
    if fact.kind == "text":
        return "x" * LONGEST_NAME
    if fact.kind == "counter":
        return Growth(123, 1.0)
    if fact.kind == "ages":
        return Ages((1020.0,) * 1234, (1020.0,) * 1234, None)
    return _USUAL.get(fact.dimension, 1) if fact.dimension is not None else 1


# commands


def _command_complaints(number: int, fix: FixText) -> Iterator[tuple[str, str]]:
    for key, commands in (
        ("commands", fix.commands),
        ("verify", fix.verify_commands),
        ("undo", fix.undo_commands),
    ):
        for command in commands:
            what = _why_no_command(command, may_comment=key != "commands")
            if what is not None:
                yield "no-command", f"fix[{number}].{key}: {what}"
    if fix.do is not None and re.search(r"^(\t|    )", "".join(map(str, fix.do.parts)), re.MULTILINE):
        yield "command-in-prose", f"fix[{number}].do has lines that are indented; move them to commands"


def _first_command_complaints(body: Body) -> Iterator[tuple[str, str]]:
    """The first command stands in the short form of `check`, on one line of 80 columns."""
    typed = next((fix for fix in body.fixes if fix.commands or fix.sysctl is not None), None)
    if typed is None:
        yield "no-command", "no fix has a command; write what shows the disease, if nothing cures it"
        return
    if typed.sysctl is not None:
        return
    command = typed.commands[0]
    length = sum(len(part) if isinstance(part, str) else _USUAL_BLANK for part in command.parts)
    if length > LONGEST_FIRST_COMMAND:
        what = f"the first command has {length} characters"
        yield "first-command-too-long", f"{what}; let one of at most {LONGEST_FIRST_COMMAND} come first"


def _why_no_command(template: Template, *, may_comment: bool) -> str | None:
    """What makes a text something that nobody can type; None where it is a command."""
    for place, part in enumerate(template.parts):
        if isinstance(part, Blank):
            before = "".join(p if isinstance(p, str) else "1" for p in template.parts[:place])
            if (reason := _why_no_blank(part, before)) is not None:
                return reason
    text = "".join(part if isinstance(part, str) else "1" for part in template.parts)
    typed, mark, _ = text.partition("   # ")
    if mark and not may_comment:
        return f"{text!r} has a comment; move it to `do`"
    words = typed.split()
    if words[0] not in PROGRAMS and not words[0].startswith(("/", "./")):
        return f"{words[0]!r} is no program that is known; begin with one, or write prose into `do`"
    bare = _QUOTED.sub("''", typed)
    if typed.rstrip().endswith("."):
        return f"{typed!r} ends in a full stop; take it out"
    if (found := _PLACEHOLDER.search(bare)) is not None:
        return f"{found[0]} is a placeholder and would be typed as it is; fill it in, or write prose"
    if _SENTENCE.search(bare) is not None:
        return f"{typed!r} reads like a sentence; write that into `do`"
    return None


def _why_no_blank(blank: Blank, before: str) -> str | None:
    texts = [fact.name for fact in blanks_of(Template((blank,))) if fact.kind == "text"]
    for name in texts:
        if name in _CHOSEN_BY_STRANGERS:
            return f"{{{name}}} is chosen by strangers; a command names the pid"
        if not name.endswith(".pid") and (before.count("'") % 2 or before.count('"') % 2):
            return f"{{{name}}} stands in quotes and is quoted already; take them out"
    if not texts and not blank.form:
        return f"{{{blank.text}}} is printed with separators or a unit; write {{{blank.text}:n}}"
    return None


# what it measures


def _measure_complaints(rule: Rule, body: Body) -> Iterator[tuple[str, str]]:
    if rule.measure is None:
        yield "no-measure", "measure is missing; write the expression that its limits are about"
        return
    if rule.limits and not rule.measure_limits:
        yield "no-measure-limit", "measure_limit is missing; name the limit that measure is compared with"
        return
    levels = [trigger.severity for trigger in rule.fires]
    if rule.measure_limits and min(rule.measure_limits) is not min(levels):
        yield (
            "no-measure-limit",
            f"measure_limit leaves out {min(levels).key}; name the limit where it begins",
        )
    for test in _firing(body):
        tried = rule_under_test(rule, test)
        # a test that fails is a complaint of its own
        if answer(tried, test) == test.expect and (short := _not_reached(tried, test)) is not None:
            yield "measure-does-not-reach", short
            return


def _not_reached(rule: Rule, test: RuleTest) -> str | None:
    """How a test fires although what is measured is not where its limit says; None where it is."""
    fired = verdict_of(rule, test)
    value = value_of(rule, facts_given(test), at_most=isinstance(fired, Trigger) and fired.at_most)
    for severity, name in rule.measure_limits.items():
        limit = rule.limit_values[name]
        asked = severity.key == test.expect or limit == first_limit(rule)
        if asked and reaches(rule, value, limit) is not True:
            what = f"test {test.name!r} fires and measure is {value}, which does not reach {name}"
            return f"{what} ({limit:g}); correct measure or name another limit"
    return None

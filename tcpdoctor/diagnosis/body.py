"""What a rule tells: prose, fixes, what not to do, where its claims come from, and its tests."""

import math
import re
from collections.abc import Mapping
from itertools import chain
from typing import Literal, TypeAlias, get_args

from tcpdoctor.diagnosis.closure import (
    NOT_READ,
    Calculation,
    Constant,
    Context,
    Facts,
    Gauge,
    Quantity,
    Text,
    compile_number,
    dimension_words,
    facts_of,
)
from tcpdoctor.diagnosis.finding import FixKind, Reach, Reference
from tcpdoctor.diagnosis.table import Table, nearest, shown, suggest
from tcpdoctor.errors import RuleError
from tcpdoctor.facts.subject import Fact, Scope
from tcpdoctor.facts.value import SECOND, Ages, Growth, Range, Value, show, show_number
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.named_tuples import NamedTuple

# Texts of a rule with ``{...}`` in them, filled with what was read on this host.


_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PLAIN_WORD = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
FORMS = ("n", "low")
"""``{...:n}``: the bare number, for command lines; of a range the end that is known. ``{...:low}``: with
its unit, and of a range the lower end, for sentences that say "at least"."""
_REMEDY = "write {{ and }} for braces that are meant as such"


class Blank(NamedTuple):
    """One ``{...}``."""

    quantity: Quantity
    text: str
    """What stands between the braces."""
    form: str
    """One of `FORMS`, or nothing."""


class Template(NamedTuple):
    """A text with blanks."""

    parts: tuple[str | Blank, ...]


def parse_template(text: str, where: str, context: Context) -> Template:
    """Find the blanks of a text and check what they ask for.

    Raises:
        RuleError: A blank holds no fact or expression that this rule may use, or a brace is alone.
    """
    if "{" not in text and "}" not in text:
        return Template((text.strip("\n"),))
    parts: list[str | Blank] = []
    place = 0
    stripped = text.strip("\n")
    for match in _PIECE.finditer(stripped):
        parts.append(stripped[place : match.start()])
        place = match.end()
        parts.append(_piece(match, where, context))
    parts.append(stripped[place:])
    return Template(tuple(part for part in parts if part))


def _piece(match: re.Match[str], where: str, context: Context) -> str | Blank:
    if match[0] in ("{{", "}}"):
        return match[0][0]
    if match[1] is None:
        raise RuleError(f"{where}: a lone {match[0]!r}; {_REMEDY}")
    expression, colon, form = match[1].partition(":")
    if colon and form not in FORMS:
        forms = "the forms are :n (bare) and :low (lower end)"
        raise RuleError(f"{where}: `{shown(match[0])}`: {forms}; {_REMEDY}")
    quantity = _read_quantity(expression, f"{where}: in {{}}", context)
    return Blank(quantity, match[1], form)


def _read_quantity(text: str, where: str, context: Context) -> Quantity:
    from tcpdoctor.diagnosis.expression import parse_quantity  # a body that was compiled needs no parser

    return parse_quantity(text, where, context)


def unfilled(template: Template) -> str:
    """The text with its blanks as the rule has them: ``{process.name}``."""
    return "".join(part if isinstance(part, str) else f"{{{part.text}}}" for part in template.parts)


def fill(template: Template, facts: Facts, limits: Mapping[str, float], *, at_most: bool = False) -> str:
    """The text with every blank filled; what is `Missing` reads ``(unknown: reason)``, parentheses once.

    With `at_most` ``older()`` counts as it does in `warning_upper`.
    """
    words, parts = [], template.parts
    for before, part, after in zip(("", *parts), parts, (*parts[1:], ""), strict=False):
        if isinstance(part, str):
            words.append(part)
            continue
        value = _value(part, facts, limits, at_most=at_most)
        if isinstance(value, Missing):
            enclosed = str(before)[-1:] == "(" and str(after)[:1] == ")"
            words.append(f"unknown: {value.reason}" if enclosed else f"(unknown: {value.reason})")
        else:
            words.append(_printed(value, part))
    return "".join(words)


def fill_headline(
    template: Template, facts: Facts, limits: Mapping[str, float], *, at_most: bool = False
) -> str:
    """The same for a line that has to be short: a lower bound is ``17 min+``, what is not known ``?``."""
    return "".join(
        part if isinstance(part, str) else _shortened(part, facts, limits, at_most=at_most)
        for part in template.parts
    )


def _shortened(blank: Blank, facts: Facts, limits: Mapping[str, float], *, at_most: bool) -> str:
    value = _value(blank, facts, limits, at_most=at_most)
    if isinstance(value, Missing):
        return "?"
    if not isinstance(value, Range):
        return _printed(value, blank)
    if math.isfinite(value.low) and value.low > 0:
        return f"{_least(value.low, blank)}+"
    if not math.isfinite(value.high):
        return "?"
    most = _printed(value.high, blank)
    return f"<{most if blank.form else show_number(value.high, blank.quantity.dimension, math.ceil)}"


def _least(low: float, blank: Blank) -> str:
    """A lower bound in few letters, rounded down so that it stays one; beyond two minutes without seconds."""
    if blank.form:
        return _printed(low, blank)
    if blank.quantity.dimension == SECOND and _TWO_MINUTES <= low < _TEN_MINUTES:
        low -= low % 60
    return show_number(low, blank.quantity.dimension, math.floor)


_TWO_MINUTES, _TEN_MINUTES = 120.0, 600.0
"""Seconds; from ten minutes on they are not shown anyway."""


def fill_command(template: Template, facts: Facts, limits: Mapping[str, float]) -> str | Missing:
    """A text to be typed: texts are quoted for the shell; `Missing` where a blank could not be read."""
    words = []
    for part in template.parts:
        if isinstance(part, str):
            words.append(part)
            continue
        value = _value(part, facts, limits, at_most=False)
        if isinstance(value, Missing):
            return value
        words.append(_quoted(value) if isinstance(value, str) else _printed(value, part))
    return "".join(words)


def _quoted(text: str) -> str:
    """The text as one word of a shell; most need no quotes."""
    return text if _PLAIN_WORD.fullmatch(text) else "'" + text.replace("'", "'\\''") + "'"


def _value(blank: Blank, facts: Facts, limits: Mapping[str, float], *, at_most: bool) -> Value:
    tree = blank.quantity.tree
    # a fact shows as it was read: the whole number 1 is a switch, the share 1.0 is 100 %
    if isinstance(tree, Gauge | Text):
        return facts.get(tree.fact.name, NOT_READ)
    return compile_number(tree, limits, at_most=at_most)(facts)


def _printed(value: Value, blank: Blank) -> str:
    if blank.form == "n" and not isinstance(value, str):
        return bare(value)
    if blank.form == "low" and isinstance(value, Range):
        value = value.low
    return show(value, blank.quantity.dimension)


def bare(value: Value) -> str:
    """A number without unit or separators, as a command line wants it; of a range the end that is known."""
    number = next(end for end in value[:2] if math.isfinite(end)) if isinstance(value, Range) else value
    if not isinstance(number, int | float):
        raise TypeError(f"{value!r} is no number")
    return str(int(number)) if number == int(number) else f"{number:.6g}"


def blanks_of(template: Template) -> list[Fact]:
    """The facts that a text asks for."""
    trees = [part.quantity.tree for part in template.parts if isinstance(part, Blank)]
    return list(dict.fromkeys(fact for tree in trees for fact in facts_of(tree)))


# The facts that a rule's own test is given, written as TOML.


NOT_GIVEN = Missing("not given in this test")
_MISSING = "missing:"
_ONLY_BOUNDS = "the test gives bounds only"
_HIDDEN = "the owners of some sockets are hidden: run as root"
_MAX_SOCKETS = 1_000_000
_FORMS = {
    "gauge": "120, { at_least = 120 } or { at_least = 120, at_most = 300 }",
    "counter": "{ delta = 10, seconds = 1 } or { rate = 10 }",
    "ages": "{ count = 120, each = 600 }",
    "text": '"some text"',
}


def parse_given(test: Table, context: Context) -> Mapping[str, Value]:
    """Read ``given`` of one [[test]].

    Raises:
        RuleError: It names no fact of this scope, or a value does not fit the fact's kind.
    """
    given = test.open_table("given")
    return {name: _given_value(given, name, _fact(given, name, context)) for name in given.values}


def _fact(given: Table, name: str, context: Context) -> Fact:
    fact = context.vocabulary.find_fact(name)
    if fact is None or fact.scope not in (context.scope, Scope.HOST):
        hint = suggest(name, context.vocabulary.fact_names(context.scope))
        raise given.complaint(name, f"is no fact of the scope {context.scope.value}; {hint}")
    return fact


def _given_value(given: Table, name: str, fact: Fact) -> Value:
    value = given.values[name]
    if isinstance(value, str):
        if value.startswith(_MISSING):
            return Missing(value.removeprefix(_MISSING).strip() or "no reason given")
        if fact.kind == "text":
            return value
    elif fact.kind == "ages":
        return _ages(given, name)
    elif fact.kind == "counter" and isinstance(value, dict):
        return _growth(given.table(name, ("delta", "seconds", "rate")))
    elif fact.kind == "gauge":
        return _gauge(given, name)
    form = _FORMS[fact.kind]
    raise given.complaint(name, f'does not fit a fact of kind {fact.kind}; write {form} or "missing: why"')


def _gauge(given: Table, name: str) -> Value:
    if not isinstance(given.values[name], dict):
        return given.signed_number(name) if name.startswith("sysctl.") else given.number(name)
    low, high = _bounds(given.table(name, ("at_least", "at_most")))
    return Range(low, high, _ONLY_BOUNDS)


def _bounds(table: Table) -> tuple[float, float]:
    low = table.number("at_least")
    high = table.number("at_most") if table.has("at_most") else math.inf
    if high < low:
        raise table.complaint("at_most", "is below at_least; exchange them")
    return low, high


def _growth(table: Table) -> Growth:
    if table.has("rate"):
        return Growth(_whole(table, "rate"), 1.0)
    seconds = table.number("seconds")
    if seconds == 0:
        raise table.complaint("seconds", "0 is no time between two samples; write 1")
    return Growth(_whole(table, "delta"), float(seconds))


def _ages(given: Table, name: str) -> Ages:
    known = ("count", "each", "hidden", "quiet")
    is_list = isinstance(given.values[name], list)
    groups = given.tables(name, known) if is_list else [given.table(name, known)]
    lows: list[list[float]] = []
    highs: list[list[float]] = []
    quiet: list[list[float]] = []
    hidden = 0
    for group in groups:
        number = _whole(group, "count", _MAX_SOCKETS)
        low, high = _each(group)
        lows.append([low] * number)
        highs.append([high] * number)
        quiet.append([max(low, group.number("quiet")) if group.has("quiet") else low] * number)
        hidden += _whole(group, "hidden", _MAX_SOCKETS) if group.has("hidden") else 0
    at_least = tuple(sorted(chain.from_iterable(lows)))
    at_most = tuple(sorted([*chain.from_iterable(highs), *[math.inf] * hidden]))
    reason = _HIDDEN if hidden else None if at_least == at_most else _ONLY_BOUNDS
    quietest = tuple(sorted(chain.from_iterable(quiet)))
    return Ages(at_least, at_most, reason, () if quietest == at_least else quietest)


def _each(group: Table) -> tuple[float, float]:
    if isinstance(group.values.get("each"), dict):
        return _bounds(group.table("each", ("at_least", "at_most")))
    age = group.number("each")
    return age, age


def _whole(table: Table, key: str, largest: float = math.inf) -> int:
    number = table.number(key)
    if number != int(number) or number > largest:
        raise table.complaint(
            key, f"write a whole number{'' if math.isinf(largest) else f' up to {largest}'}"
        )
    return int(number)


Expected: TypeAlias = Literal["info", "warning", "critical", "clear", "unknown"]
_SYSCTL_KEYS = ("name", "value", "applies_to", "alternative")


class AddPort(NamedTuple):
    """A value that is what the sysctl holds now, and this port as well."""

    port: Calculation


class SysctlChange(NamedTuple):
    """What a sysctl fix writes."""

    name: str
    value: tuple[Calculation, ...] | AddPort
    """One calculation per number of the sysctl."""
    applies_to: Reach
    formula: str = ""
    """What the file has for the value, where it is not a plain number."""
    alternative: bool = False
    """Whether it is instead of a sysctl fix above it, so that a plan has the first of them only."""


class FixText(NamedTuple):
    """One ``[[fix]]``."""

    kind: FixKind
    title: Template
    do: Template | None
    """None: the commands say all; those of a sysctl fix are written from the value."""
    risk: Template
    verify: Template
    undo: Template | None
    sysctl: SysctlChange | None
    commands: tuple[Template, ...]
    verify_commands: tuple[Template, ...]
    """`verify` as commands; none where it is prose."""
    undo_commands: tuple[Template, ...]
    harmless: bool = False
    """Whether its risk is none, in the file's word for that."""


class WrongFixText(NamedTuple):
    """One ``[[wrong_fix]]``."""

    title: Template
    why: Template


class RuleTest(NamedTuple):
    """One ``[[test]]``."""

    name: str
    given: Mapping[str, Value]
    limits: Mapping[str, float]
    """Limits that differ from the rule's, in the unit of the limit."""
    expect: Expected


class Body(NamedTuple):
    """All that is not needed to decide."""

    headline: Template | None
    """None: a rule of somebody else that has none."""
    summary: Template
    summary_upper: Template | None
    """The summary of a finding by `warning_upper`; None where the rule has no such condition."""
    explanation: Template
    impact: Template
    normal_when: tuple[Template, ...]
    fixes: tuple[FixText, ...]
    wrong_fixes: tuple[WrongFixText, ...]
    references: tuple[Reference, ...]
    tests: tuple[RuleTest, ...]


def parse_body(table: Table, context: Context) -> Body:
    """Read the tables that tell.

    Raises:
        RuleError: Anything in them is wrong.
    """
    prose = table.table(
        "prose", ("headline", "summary", "summary_upper", "explanation", "impact", "normal_when")
    )
    return Body(
        headline=_headline(prose, context) if prose.has("headline") else None,
        summary=_template(prose, "summary", context),
        summary_upper=_template(prose, "summary_upper", context) if prose.has("summary_upper") else None,
        explanation=_template(prose, "explanation", context),
        impact=_template(prose, "impact", context),
        normal_when=tuple(
            parse_template(text, prose.where("normal_when"), context) for text in prose.texts("normal_when")
        ),
        fixes=_fixes(table, context),
        wrong_fixes=tuple(
            WrongFixText(_template(part, "title", context), _template(part, "why", context))
            for part in table.tables("wrong_fix", ("title", "why"))
        ),
        references=tuple(
            Reference(part.text("claim"), part.text("source"))
            for part in table.tables("reference", ("claim", "source"))
        ),
        tests=tuple(
            _test(part, context) for part in table.tables("test", ("name", "given", "limits", "expect"))
        ),
    )


def _template(table: Table, key: str, context: Context) -> Template:
    return parse_template(table.text(key), table.where(key), context)


def _headline(prose: Table, context: Context) -> Template:
    return parse_template(prose.line("headline"), prose.where("headline"), context)


def _fixes(table: Table, context: Context) -> tuple[FixText, ...]:
    known = ("kind", "title", "do", "commands", "risk", "verify", "undo", *_SYSCTL_KEYS)
    return tuple(_fix(part, context) for part in table.tables("fix", known))


_NO_RISK = "none"
"""How a risk begins where there is none."""


def _fix(table: Table, context: Context) -> FixText:
    kind = table.choice("kind", get_args(FixKind))
    if kind != "sysctl":
        for key in _SYSCTL_KEYS:
            if table.has(key):
                raise table.complaint(
                    key, f'belongs to a sysctl fix and this is a {kind} fix; write kind = "sysctl"'
                )
    if kind == "sysctl" and table.has("commands"):
        raise table.complaint("commands", "of a sysctl fix are made from name and value; take them out")
    commands = _commands(table, "commands", context) if table.has("commands") else ()
    do_needed = table.has("do") or not (commands or kind == "sysctl")
    verify, verify_commands = _prose_or_commands(table, "verify", context)
    undo_needed = kind == "sysctl" or table.has("undo")
    undo, undo_commands = _prose_or_commands(table, "undo", context) if undo_needed else (None, ())
    return FixText(
        kind=kind,
        title=_template(table, "title", context),
        do=_template(table, "do", context) if do_needed else None,
        risk=_template(table, "risk", context),
        verify=verify,
        undo=undo,
        sysctl=_sysctl(table, context) if kind == "sysctl" else None,
        commands=commands,
        verify_commands=verify_commands,
        undo_commands=undo_commands,
        harmless=table.text("risk").lower().startswith(_NO_RISK),
    )


def _commands(table: Table, key: str, context: Context) -> tuple[Template, ...]:
    for text in table.texts(key):
        if "\n" in text:
            raise table.complaint(key, "a command has more than one line; write one text for each")
    return tuple(parse_template(text, table.where(key), context) for text in table.texts(key))


def _prose_or_commands(table: Table, key: str, context: Context) -> tuple[Template, tuple[Template, ...]]:
    """The whole as one text, and its commands where the file has a list of them."""
    if not isinstance(table.required(key), list):
        return _template(table, key, context), ()
    commands = _commands(table, key, context)
    if not commands:
        raise table.complaint(key, "is an empty list; write a command")
    return _joined(commands), commands


def _joined(templates: tuple[Template, ...]) -> Template:
    parts: list[str | Blank] = []
    for template in templates:
        parts += ["\n", *template.parts] if parts else template.parts
    return Template(tuple(parts))


def _sysctl(table: Table, context: Context) -> SysctlChange:
    name = table.line("name")
    value = table.required("value")
    if isinstance(value, dict):
        add = table.table("value", ("add",))
        port = _calculation(add, "add", add.line("add"), context)
        change: tuple[Calculation, ...] | AddPort = AddPort(port)
    else:
        items = value if isinstance(value, list) else [value]
        change = tuple(_sysctl_number(table, name, item, place, context) for place, item in enumerate(items))
        _check_parts(table, name, len(change), context)
    applies_to = table.choice("applies_to", get_args(Reach))
    alternative = table.flag("alternative") if table.has("alternative") else False
    return SysctlChange(name, change, applies_to, _formula(value), alternative)


def _formula(value: object) -> str:
    """The expressions of a value as the file has them, ``sysctl.`` left out; nothing for plain numbers."""
    items = value if isinstance(value, list) else [value]
    if not any(isinstance(item, str) for item in items):
        return ""
    return ", ".join(str(item) for item in items).replace("sysctl.", "")


def _sysctl_number(table: Table, name: str, item: object, place: int, context: Context) -> Calculation:
    if not isinstance(item, str):
        return Constant(float(table.checked_number("value", item)))
    quantity = _read_quantity(item, table.where("value"), context)
    fact = context.vocabulary.find_fact(f"sysctl.{name}")
    wanted = fact.dimension if fact is not None else None
    if isinstance(quantity.tree, Text):
        raise table.complaint("value", f"`{shown(item)}` is a text; write a number or an expression")
    if None not in (wanted, quantity.dimension) and quantity.dimension != wanted:
        assert wanted is not None and quantity.dimension is not None  # noqa: S101, PT018 - just compared
        raise table.complaint(
            "value",
            f"number {place + 1} is in {dimension_words(quantity.dimension)} and {name} "
            f"in {dimension_words(wanted)}; both need the same dimension",
        )
    return quantity.tree


def _check_parts(table: Table, name: str, numbers: int, context: Context) -> None:
    find = context.vocabulary.find_fact
    if find(f"sysctl.{name}") is not None:
        wanted = 1
    elif find(f"sysctl.{name}.low") is not None:
        wanted = 2
    elif find(f"sysctl.{name}.max") is not None:
        wanted = 3
    else:
        facts = context.vocabulary.fact_names(context.scope)
        names = [fact.removeprefix("sysctl.") for fact in facts if fact.startswith("sysctl.")]
        hint = f"did you mean {close}?" if (close := nearest(name, names)) else "see `tcpdoctor facts`"
        raise table.complaint("name", f"{name[:80]!r} is no sysctl that is read; {hint}")
    if numbers != wanted:
        raise table.complaint("value", f"has {numbers} numbers and {name} {wanted}; write {wanted}")


def _calculation(table: Table, key: str, text: str, context: Context) -> Calculation:
    quantity = _read_quantity(text, table.where(key), context)
    if isinstance(quantity.tree, Text):
        raise table.complaint(key, f"`{shown(text)}` is a text; write a number or an expression")
    return quantity.tree


def _test(table: Table, context: Context) -> RuleTest:
    limits = table.table("limits", tuple(context.limits))
    return RuleTest(
        name=table.line("name"),
        given=parse_given(table, context),
        limits={name: limits.number(name) for name in limits.values},
        expect=table.choice("expect", get_args(Expected)),
    )

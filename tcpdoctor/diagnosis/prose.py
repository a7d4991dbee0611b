"""Texts of a rule with ``{...}`` in them, filled with what was read on this host."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.closure import NOT_READ, Facts, compile_number
from tcpdoctor.diagnosis.expression import Context, parse_quantity
from tcpdoctor.diagnosis.tree import Gauge, Quantity, Text, facts_of
from tcpdoctor.errors import RuleError
from tcpdoctor.facts.dimension import show
from tcpdoctor.facts.value import Range, Value
from tcpdoctor.facts.vocabulary import Fact
from tcpdoctor.kernel.reading import Missing

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
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
        raise RuleError(f"{where}: `{match[0]}`: the forms are :n (bare) and :low (lower end); {_REMEDY}")
    quantity = parse_quantity(expression, f"{where}: in {{}}", context)
    return Blank(quantity, match[1], form)


def unfilled(template: Template) -> str:
    """The text with its blanks as the rule has them: ``{process.name}``."""
    return "".join(part if isinstance(part, str) else f"{{{part.text}}}" for part in template.parts)


def fill(template: Template, facts: Facts, limits: Mapping[str, float]) -> str:
    """The text with every blank filled; what is `Missing` reads ``(unknown: reason)``."""
    return "".join(part if isinstance(part, str) else _filled(part, facts, limits) for part in template.parts)


def _filled(blank: Blank, facts: Facts, limits: Mapping[str, float]) -> str:
    tree = blank.quantity.tree
    # a fact shows as it was read: the whole number 1 is a switch, the share 1.0 is 100 %
    value: Value = (
        facts.get(tree.fact.name, NOT_READ)
        if isinstance(tree, Gauge | Text)
        else compile_number(tree, limits)(facts)
    )
    if isinstance(value, Missing):
        return f"(unknown: {value.reason})"
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

"""The language of a rule's conditions: a small, typed part of Python's expressions.

Text becomes a checked tree (`tree`), or a `RuleError` that names the place, what is wrong and what
to write. Python's own parser reads the text; whatever it knows beyond this language is refused.
Dimensions are checked here, so that an expression that loads can be evaluated for any host.
"""

import ast
import math
import re
import warnings
from collections.abc import Collection, Mapping
from enum import Enum
from typing import TypeAlias, cast

from tcpdoctor.diagnosis.closure import (
    UNITS,
    Arithmetic,
    Calculation,
    Comparison,
    Condition,
    Constant,
    Context,
    Every,
    Extreme,
    Gauge,
    Grown,
    Limit,
    Negative,
    Not,
    Older,
    Quantity,
    Some,
    Text,
    dimension_words,
)
from tcpdoctor.diagnosis.table import nearest, shown
from tcpdoctor.errors import RuleError
from tcpdoctor.facts.subject import Fact, Scope
from tcpdoctor.facts.value import COUNT, PER_SECOND, RATIO, SECOND, Dimension

# The text of an expression, from what a file holds to the tree of Python's own parser.


MAX_LENGTH = 2000
"""Characters of one expression."""
MAX_DEPTH = 40
"""Levels of nesting; ``a + b + c`` is two levels deep, ``a and b and c`` one."""
MAX_NUMBER = 1e18

_FOREIGN = re.compile(r"[^A-Za-z0-9_.,()+\-*/<>=! \t\r\n]")
_HINTS = {
    "%": "a share is written `80 * percent`",
    "&": "write `and`",
    "|": "write `or`",
    "#": "comments belong beside the key, outside the quotes",
    "[": "there is no indexing",
    "{": "braces belong into prose",
}


def one_line(text: str, where: str) -> str:
    """The text with single spaces for all white space.

    Raises:
        RuleError: It is too long, or holds a character that the language has no use for.
    """
    if len(text) > MAX_LENGTH:
        raise RuleError(f"{where}: {len(text)} characters; an expression has at most {MAX_LENGTH}")
    foreign = _FOREIGN.search(text)
    if foreign is not None:
        hint = _HINTS.get(foreign[0], "use names, numbers, + - * /, comparisons, and, or, not, parentheses")
        raise RuleError(f"{where}: {foreign[0]!a} is not part of the language; {hint}")
    return " ".join(text.split())


def python_tree(line: str, where: str) -> ast.expr:
    """Let Python's parser read a line.

    Raises:
        RuleError: It is no expression of Python's, whatever the parser raises or warns of.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python only warns of (`5or x`) is no rule
            return ast.parse(line, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, Warning) as error:
        why = error.msg if isinstance(error, SyntaxError) else "too deeply nested"
        raise RuleError(f"{where}: `{shown(line)}`: not an expression ({why}); check it") from None


CALLS = ("rate", "delta", "older", "min", "max")
_ARITHMETIC: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARISONS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


class _Kind(Enum):
    """What an expression is where it has no dimension."""

    BARE = "a bare number"
    TEXT = "a text"


_Type: TypeAlias = Dimension | _Kind


def parse_condition(text: str, where: str, context: Context) -> Condition:
    """Read a text that is true or false.

    Args:
        text: For example ``close_wait.owned >= limit.min_sockets``.
        where: File and key, for complaints: ``rules/close/x.toml: fires.warning``.
        context: The scope's facts and the rule's limits.

    Raises:
        RuleError: It is no condition of this language.
    """
    line = one_line(text, where)
    return _Checker(line, where, context).condition(python_tree(line, where), 0)


def parse_quantity(text: str, where: str, context: Context) -> Quantity:
    """Read a text that is a quantity, or the name of a text fact.

    Raises:
        RuleError: It is neither.
    """
    line = one_line(text, where)
    tree, kind = _Checker(line, where, context).value(python_tree(line, where), 0)
    return Quantity(tree, kind if isinstance(kind, Dimension) else None)


def _adopt(left: _Type, right: _Type) -> _Type | None:
    """The common type of two operands of + - min max or a comparison; None where there is none."""
    if left == right:
        return left
    for bare, other in ((left, right), (right, left)):
        if bare is _Kind.BARE and other in (COUNT, RATIO):
            return other
    return None


def _factor(kind: _Type) -> Dimension:
    return kind if isinstance(kind, Dimension) else RATIO


class _Checker:
    """Turns Python's tree into ours, and complains about one place in one file."""

    def __init__(self, line: str, where: str, context: Context) -> None:
        self._line = line
        self._where = where
        self._context = context

    def _complaint(self, node: ast.expr, what: str) -> RuleError:
        # the text is ASCII and one line, so that columns are characters
        text = self._line[node.col_offset : node.end_col_offset]
        return RuleError(f"{self._where}: `{shown(text)}`: {what}")

    def _deeper(self, depth: int) -> int:
        if depth >= MAX_DEPTH:
            raise RuleError(f"{self._where}: nested more than {MAX_DEPTH} levels deep; write it more simply")
        return depth + 1

    # what is true or false

    def condition(self, node: ast.expr, depth: int) -> Condition:
        """Check a node that must be true or false."""
        deeper = self._deeper(depth)
        match node:
            case ast.BoolOp():
                items = tuple(self.condition(item, deeper) for item in node.values)
                return Every(items) if isinstance(node.op, ast.And) else Some(items)
            case ast.UnaryOp(op=ast.Not()):
                return Not(self.condition(node.operand, deeper))
            case ast.Compare():
                return self._comparison(node, deeper)
            case _:
                self.value(node, depth)  # what is not even a quantity is told so
                raise self._complaint(
                    node, "is a quantity and neither true nor false; compare it with something"
                )

    def _comparison(self, node: ast.Compare, depth: int) -> Comparison:
        if len(node.ops) > 1:
            raise self._complaint(node, "compares twice; write `a < b and b < c`")
        operator = _COMPARISONS.get(type(node.ops[0]))
        if operator is None:
            raise self._complaint(node, "`in` and `is` are not part of the language; use == != < <= > >=")
        left, left_kind = self.number(node.left, depth)
        right, right_kind = self.number(node.comparators[0], depth)
        self._agree(node, "compared with", left_kind, right_kind)
        return Comparison(operator, left, right)

    # what is a quantity

    def value(self, node: ast.expr, depth: int) -> tuple[Calculation | Text, _Type]:
        """Check a node that must be a quantity or a text fact."""
        deeper = self._deeper(depth)
        match node:
            case ast.Constant():
                return self._constant(node), _Kind.BARE
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.BinOp():
                return self._arithmetic(node, deeper)
            case ast.UnaryOp(op=ast.USub()):
                item, kind = self.number(node.operand, deeper)
                return Negative(item), kind
            case ast.Call():
                return self._call(node, deeper)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                raise self._complaint(node, "is true or false where a quantity is needed; take it out")
            case _:
                raise self._complaint(
                    node, f"is not part of the language; use names, numbers and calls of {', '.join(CALLS)}"
                )

    def number(self, node: ast.expr, depth: int) -> tuple[Calculation, _Type]:
        """Check a node that must be a quantity."""
        tree, kind = self.value(node, depth)
        if isinstance(tree, Text):
            raise self._complaint(node, "is a text; texts belong into prose, conditions need a quantity")
        return tree, kind

    def _constant(self, node: ast.Constant) -> Constant:
        value = node.value
        if type(value) not in (int, float):
            raise self._complaint(node, "is no decimal number; write one, or the name of a fact")
        number = cast("int | float", value)
        if not (isinstance(number, int) or math.isfinite(number)) or number > MAX_NUMBER:
            raise RuleError(f"{self._where}: a number is too large; the largest is {MAX_NUMBER:g}")
        return Constant(float(number))

    def _arithmetic(self, node: ast.BinOp, depth: int) -> tuple[Calculation, _Type]:
        operator = _ARITHMETIC.get(type(node.op))
        if operator is None:
            raise self._complaint(node, "this operator is not part of the language; use + - * /")
        left, left_kind = self.number(node.left, depth)
        right, right_kind = self.number(node.right, depth)
        tree = Arithmetic(operator, left, right)
        if operator in "+-":
            word = "added to" if operator == "+" else "reduced by"
            return tree, self._agree(node, word, left_kind, right_kind)
        if left_kind is _Kind.BARE and right_kind is _Kind.BARE:
            return tree, _Kind.BARE
        sign = 1 if operator == "*" else -1
        pairs = zip(_factor(left_kind), _factor(right_kind), strict=True)
        return tree, Dimension(*(a + sign * b for a, b in pairs))

    def _agree(self, node: ast.expr, word: str, left: _Type, right: _Type) -> _Type:
        common = _adopt(left, right)
        if common is not None:
            return common
        if _Kind.BARE in (left, right):
            other = cast("Dimension", right if left is _Kind.BARE else left)
            raise self._complaint(
                node,
                f"a bare number is {word} {dimension_words(other)}; give it a unit (`10 * second`, "
                f"`4 * MiB`, `5 * per_second`) or make it a limit with one",
            )
        names = [dimension_words(cast("Dimension", kind)) for kind in (left, right)]
        raise self._complaint(node, f"{names[0]} {word} {names[1]}; both sides need the same dimension")

    # names and calls

    def _name(self, node: ast.Name | ast.Attribute) -> tuple[Calculation | Text, _Type]:
        name = self._dotted(node)
        if name in UNITS:
            size, dimension = UNITS[name]
            return Constant(size), dimension
        if name.startswith("limit."):
            return self._limit(node, name.removeprefix("limit."))
        fact = self._fact(node, name)
        if fact.kind == "counter":
            raise self._complaint(
                node,
                "has only grown since boot, so its size says nothing about today; "
                f"use rate({name}) or delta({name})",
            )
        if fact.kind == "ages":
            raise self._complaint(node, f"is a set of ages; use older({name}, limit.min_age)")
        if fact.dimension is None:
            return Text(fact), _Kind.TEXT
        return Gauge(fact), fact.dimension

    def _limit(self, node: ast.expr, name: str) -> tuple[Calculation, _Type]:
        if name not in self._context.limits:
            raise self._complaint(
                node, f"there is no such limit; {self._instead(name, self._context.limits, '[limits]')}"
            )
        return Limit(name), self._context.limits[name]

    def _dotted(self, node: ast.expr) -> str:
        parts: list[str] = []
        part = node
        while isinstance(part, ast.Attribute):
            parts.append(part.attr)
            part = part.value
        if not isinstance(part, ast.Name):
            raise self._complaint(node, "a dot belongs into the name of a fact; write the whole name")
        return ".".join([part.id, *reversed(parts)])

    def _fact(self, node: ast.expr, name: str) -> Fact:
        scope, vocabulary = self._context.scope, self._context.vocabulary
        fact = vocabulary.find_fact(name)
        if fact is None:
            names = vocabulary.fact_names(scope)
            raise self._complaint(
                node, f"there is no such fact; {self._instead(name, names, '`tcpdoctor facts`')}"
            )
        if fact.scope not in (scope, Scope.HOST):
            raise self._complaint(
                node,
                f"is a fact of the scope {fact.scope.value}, and this rule's scope is {scope.value}; "
                f'set scope = "{fact.scope.value}" or use a fact of the {scope.value} or the host',
            )
        return fact

    @staticmethod
    def _instead(name: str, known: Collection[str], where: str) -> str:
        close = nearest(name, known)
        return f"did you mean {close}?" if close else f"see {where}"

    def _call(self, node: ast.Call, depth: int) -> tuple[Calculation, _Type]:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in CALLS:
            raise self._complaint(node, f"no such call; there are {', '.join(CALLS)}")
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self._complaint(node, f"{name}() takes plain arguments only; write them without = and *")
        match name, node.args:
            case (("rate" | "delta"), [ast.Name() | ast.Attribute() as counter]):
                return self._grown(name, counter)
            case "older", [ast.Name() | ast.Attribute() as ages, seconds]:
                return self._older(node, ages, seconds, depth)
            case (("min" | "max"), [_, _, *_]):
                return self._extreme(node, name, depth)
            case _:
                usage = {"older": "older(AGES, SECONDS)", "min": "min(A, B)", "max": "max(A, B)"}
                raise self._complaint(node, f"wrong arguments; write {usage.get(name, f'{name}(COUNTER)')}")

    def _grown(self, call: str, node: ast.expr) -> tuple[Calculation, _Type]:
        name = self._dotted(node)
        fact = self._fact(node, name)
        if fact.kind != "counter":
            raise self._complaint(node, f"is no counter, so it has no {call}(); use it as it is")
        return Grown(call, fact), PER_SECOND if call == "rate" else COUNT

    def _older(
        self, node: ast.expr, ages: ast.expr, seconds: ast.expr, depth: int
    ) -> tuple[Calculation, _Type]:
        name = self._dotted(ages)
        fact = self._fact(ages, name)
        if fact.kind != "ages":
            raise self._complaint(ages, "is no set of ages; older() takes one, such as close_wait.owned_ages")
        limit, kind = self.number(seconds, depth)
        if kind != SECOND:
            words = "a bare number" if kind is _Kind.BARE else dimension_words(_factor(kind))
            raise self._complaint(
                node, f"{words} where seconds are needed; write `60 * second` or a limit in seconds"
            )
        return Older(fact, limit), COUNT

    def _extreme(self, node: ast.Call, call: str, depth: int) -> tuple[Calculation, _Type]:
        first, kind = self.number(node.args[0], depth)
        items = [first]
        for argument in node.args[1:]:
            item, next_kind = self.number(argument, depth)
            kind = self._agree(node, f"put into {call}() with", kind, next_kind)
            items.append(item)
        return Extreme(call, tuple(items)), kind

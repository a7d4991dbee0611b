"""The text of an expression, from what a file holds to the tree of Python's own parser."""

import ast
import re
import warnings

from tcpdoctor.errors import RuleError

MAX_LENGTH = 2000
"""Characters of one expression."""
MAX_DEPTH = 40
"""Levels of nesting; ``a + b + c`` is two levels deep, ``a and b and c`` one."""
MAX_NUMBER = 1e18
MAX_SHOWN = 120
"""Characters of an expression that a complaint repeats."""

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


def shown(text: str) -> str:
    """A text as a complaint repeats it."""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."

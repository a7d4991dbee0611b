"""Both ends of a connection of a lesson, drawn side by side: what passes between them, and their states."""

from typing import NamedTuple

from tcpdoctor.facts.dimension import BYTE, show
from tcpdoctor.lab.overheard import ELSEWHERE, Pair, Passed
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

_STATE = 11
"""Columns of the longest state, ESTABLISHED."""
_INDENT = "  "
_SHORTEST, _LONGEST = 12, 28
_MOST_OTHERS = 3


class Strokes(NamedTuple):
    """What an arrow is made of."""

    line: str
    right: str
    left: str


ASCII = Strokes("-", ">", "<")
UNICODE = Strokes("\u2500", "\u25b6", "\u25c0")


def pair_lines(pair: Pair, style: Style, strokes: Strokes) -> list[str]:
    """Return the drawing, a line a segment; each line has the state of both ends behind it.

    The last line is what the kernel says of them at the scene.
    """
    arrow = max(_SHORTEST, min(_LONGEST, style.width - len(_INDENT) - 2 * _STATE - 2))
    last = _shown(pair.before, pair)
    lines = [*_heads(pair, style, arrow), _line(last, last, " " * arrow, style)]
    for passed in pair.passed:
        states = _shown((passed.client, passed.server), pair)
        lines.append(_line(states, last, _arrow(passed, arrow, strokes), style))
        last = states
    lines.append(_line(pair.states, last, f"{'(the kernel)':^{arrow}}", style))
    told = [f"{plural(pair.alike, 'connection')} in these states"] if pair.alike > 1 else []
    told += [f"{number} {client} - {server}" for client, server, number in pair.others[:_MOST_OTHERS]]
    if told:
        lines.append(style.dim(style.wrap("; ".join(told), _INDENT)))
    return lines


def _heads(pair: Pair, style: Style, arrow: int) -> list[str]:
    """Who is who; below each other where both do not fit beside each other."""
    client, server = f"client {pair.client}", f"server {pair.server}"
    column = len(_INDENT) + _STATE + arrow + 2
    if len(_INDENT) + len(client) < column and column + len(server) <= style.width:
        return [style.bold(f"{_INDENT}{client:<{column - len(_INDENT)}}{server}")]
    return [
        style.bold(style.wrap(f"{client} (left)", _INDENT)),
        style.bold(style.wrap(f"{server} (right)", _INDENT)),
    ]


def _shown(states: tuple[str, str], pair: Pair) -> tuple[str, str]:
    """Of an end that is elsewhere nothing is claimed."""
    client, server = (
        ELSEWHERE if at_last == ELSEWHERE else state
        for state, at_last in zip(states, pair.states, strict=True)
    )
    return client, server


def _line(states: tuple[str, str], before: tuple[str, str], between: str, style: Style) -> str:
    """One line; a state that has changed is bold, as is said by its being another word, too."""
    client, server = (
        style.bold(f"{state:<{_STATE}}") if state != old else f"{state:<{_STATE}}"
        for state, old in zip(states, before, strict=True)
    )
    return f"{_INDENT}{client} {between} {server}".rstrip()


def _arrow(passed: Passed, width: int, strokes: Strokes) -> str:
    label = passed.what
    if "data" in label:
        label = label.replace("data", show(passed.data, BYTE))
    if passed.number > 1 and "data" not in passed.what:
        label = f"{label} x{passed.number}"
    shaft = f"{f' {label} ':{strokes.line}^{width - 1}}"
    return shaft + strokes.right if passed.by_client else strokes.left + shaft

"""The short form of a page that explains: what it means, how it stands here, what to do, where the rest is.

A page of a state, a setting, an option, an error or a rule has 60 to 110 lines, its short form 24 at most.
"""

import re
from collections.abc import Iterable

from tcpdoctor.report.page import Block, Fields, Inset, Prose, Title
from tcpdoctor.report.style import Style

MOST_LINES = 24
"""Lines of a short form on 80 columns; a test lays out every page."""

_LABEL = 6
"""Columns of the labels."""
_ENDS = re.compile(r"(?<=[.;!]) (?=[A-Z0-9\"`-])")
"""Between two sentences."""


def short_form(title: str, means: str, rows: Iterable[tuple[str, str]], more: str) -> list[Block]:
    """Return the page: a title, what the thing is, labelled lines, and what `--long` tells besides."""
    return [
        Title(title),
        Prose(means),
        Inset((Fields((*rows, ("more", f"--long: {more}")), _LABEL),)),
    ]


def labelled(label: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return texts as rows, the label before the first of them."""
    return [("" if place else label, text) for place, text in enumerate(texts)]


def typed(commands: Iterable[str], style: Style) -> str:
    """Return commands as a row that keeps its lines; a long one goes on below, its comment stands above."""
    beside = style._replace(width=style.width - _LABEL - 1, color=False)
    lines = (line for command in commands for line in beside.command(command).splitlines())
    return "\n".join(f"    {line}" for line in lines)


def as_far_as(text: str, columns: int) -> str:
    """Return whole sentences of a text, as many as have room in so many columns, and the first at least."""
    sentences = _ENDS.split(" ".join(text.split()))
    kept = sentences[0]
    for sentence in sentences[1:]:
        if len(kept) + 1 + len(sentence) > columns:
            break
        kept += f" {sentence}"
    return kept if kept.endswith((".", ".)")) else f"{kept.rstrip(';')}."

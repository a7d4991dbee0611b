"""Blocks: what an answer says, as headings, prose, lists and tables; here they are laid out as text.

A finding, a fix and an explanation are blocks before they are anything else. `page_markdown` and `page_html`
lay out the same ones, so that a format cannot say more, or less, than another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import AS_WIDE_AS_IT_IS, Column, table, table_width


class Title(NamedTuple):
    """What an explanation begins with: the answer in one line."""

    text: str
    name: str = ""
    """What it is about, where that alone stands out; the text goes on behind it."""
    whole: bool = False
    """Whether it is the name of a file, of which no line is broken."""


class Heading(NamedTuple):
    """Where the answer below was found, where several are told: a network namespace."""

    text: str


class Verdict(NamedTuple):
    """What an answer begins with: the verdict in a word, and what it is about."""

    word: str
    """In capitals: ``BUSY``."""
    text: str
    severity: str = ""
    """Whose colour the word has; without one the whole line stands out."""


class Headline(NamedTuple):
    """What a finding begins with."""

    severity: str
    whom: str
    title: str
    short: str = ""
    """The finding in one line with its numbers, where the title has none."""


class Prose(NamedTuple):
    """Paragraphs, parted by empty lines; a line that begins with four spaces is a command."""

    text: str
    label: str = ""
    """``Risk``, ``Verify``, ``Undo``: what it is for."""
    quoted: str = ""
    """A name in it that somebody else chose."""
    apart: bool = False
    """Whether an empty line parts it from what is above it."""
    faint: bool = False


class Command(NamedTuple):
    """What is to be typed, one command or more."""

    lines: tuple[str, ...]
    label: str = ""
    close: bool = False
    """Whether it ends the sentence above it."""


class Item(NamedTuple):
    """One of several."""

    text: str
    lead: str = ""
    """What it is about, in the words it begins with."""
    kind: str = ""
    """Of a fix: ``code``, ``sysctl`` or ``operational``."""
    blocks: tuple[Block, ...] = ()
    severity: str = ""
    """Where it tells of a finding; it begins with this word."""


class Items(NamedTuple):
    """A list."""

    items: tuple[Item, ...]
    numbered: bool = False


class Entries(NamedTuple):
    """Several things that are told one below the other; what belongs to one stands deeper."""

    items: tuple[Item, ...]
    deeper: int = 4
    """Columns that the further lines of each stand in."""


class Found(NamedTuple):
    """A finding of `check` in a line, where another question is answered, and the way to all of it."""

    severity: str
    text: str
    command: str = ""


class Lines(NamedTuple):
    """What keeps its lines, whatever their width: commands, code."""

    lines: tuple[str, ...]


class OneOf(NamedTuple):
    """One of several that stand below each other, with a dash before it."""

    text: str


Said: TypeAlias = "str | Lines | OneOf"
Row: TypeAlias = tuple[str, Said]
"""A label, and what it stands for."""


class Fields(NamedTuple):
    """Short labels, each with what it stands for; an empty label goes on with the one above."""

    rows: tuple[Row, ...]
    room: int = 0
    """Columns that the labels have; 0: as many as the longest needs."""
    faint: bool = False


class Table(NamedTuple):
    """Rows below a header; on a narrow terminal less of it, or otherwise."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    whole: bool = False
    """Whether it is as wide as it is, whatever the terminal: its columns were asked for by name."""
    otherwise: tuple[Block, ...] = ()
    """What tells the same where it does not fit the terminal."""
    above: str = ""
    """What is said above the header of a terminal's table."""


class Bar(NamedTuple):
    """How many there are of something."""

    label: str
    number: int
    hint: str = ""
    """How to see more of it."""


class Bars(NamedTuple):
    """Numbers that are compared, each with a bar as long as its share of the largest."""

    rows: tuple[Bar, ...]
    room: int
    """Columns that the labels have."""


class Evidence(NamedTuple):
    """What was measured: what, how much, and where one can see it."""

    rows: tuple[tuple[str, str, str], ...]


class Picture(NamedTuple):
    """Lines that stay as they are, and are left out where they do not fit; `marked` stands out in them."""

    text: str
    marked: str = ""


class Section(NamedTuple):
    """A part that stands apart."""

    title: str
    """May be empty."""
    blocks: tuple[Block, ...]
    run_in: bool = False
    """Whether the title is short enough to stand in the first line of what it is above."""
    folded: bool = False
    """Whether a page that can unfold shows the title alone at first."""


class Inset(NamedTuple):
    """What stands below a verdict or a title and belongs to it: so many columns in."""

    blocks: tuple[Block, ...]
    columns: int = 1


class More(NamedTuple):
    """The command that tells more."""

    command: str


Block: TypeAlias = (
    "Title | Heading | Verdict | Headline | Prose | Command | Item | Items | Entries | Found | Fields | Table"
    " | Bars | Evidence | Picture | Section | Inset | More"
)


def paragraphs(text: str) -> list[Prose | Command]:
    """Split prose: empty lines part paragraphs, lines that are indented are commands."""
    blocks: list[Prose | Command] = []
    joinable = False
    for line in text.strip("\n").splitlines():
        last = blocks[-1] if blocks and joinable else None
        if line.startswith(("    ", "\t")):
            if isinstance(last, Command):
                blocks[-1] = Command((*last.lines, line.strip()))
            else:
                blocks.append(Command((line.strip(),)))
        elif line.strip() and isinstance(last, Prose):
            blocks[-1] = Prose(f"{last.text} {line.strip()}")
        elif line.strip():
            blocks.append(Prose(line.strip()))
        joinable = bool(line.strip())
    return blocks


def listed(title: str, texts: Iterable[str]) -> tuple[Section, ...]:
    """Return a section of these as a list; none where there are none."""
    items = tuple(map(Item, texts))
    return (Section(title, (Items(items),)),) if items else ()


def mistaken(claims: Iterable[tuple[str, str]]) -> tuple[Section, ...]:
    """Return what is often believed, each with the truth."""
    return listed("Often taken for something else", (f'"{claim}": {truth}.' for claim, truth in claims))


def titled(title: str, text: str | None) -> tuple[Section, ...]:
    """Return a section of this prose; none where there is none."""
    return (Section(title, (Prose(text),)),) if text else ()


# as text


def page_text(blocks: Iterable[Block], style: Style, margin: str = "") -> str:
    """Return blocks as text, without a line's end at its own; sections stand apart, lists do not."""
    lines: list[str] = []
    for block in blocks:
        lines += _LAYOUTS[type(block)](block, style, margin)
    kept = [line for place, line in enumerate(lines) if line or (place and lines[place - 1])]
    return "\n".join(kept).strip("\n")


def _title(block: Title, style: Style, margin: str) -> list[str]:
    if block.name:
        return [style.wrap(style.bold(block.name) + block.text, f"{margin}    ", margin)]
    return [margin + style.bold(block.text) if block.whole else style.wrap(style.bold(block.text), margin)]


def _heading(block: Heading, style: Style, margin: str) -> list[str]:
    return [style.bold(style.wrap(f"=== {block.text}", f"{margin}    ", margin))]


def _verdict(block: Verdict, style: Style, margin: str) -> list[str]:
    if not block.severity:
        return [style.bold(style.wrap(f"{block.word}  {block.text}", margin))]
    word = style.severity(block.severity, block.word)
    return [style.wrap(f"{word}  {style.bold(block.text)}", margin.ljust(_DEEP), margin)]


def _headline(block: Headline, style: Style, margin: str) -> list[str]:
    head = f"{block.severity.upper()}  {block.whom}"
    return [
        style.wrap(style.severity(block.severity, head), f"{margin}  ", margin.removesuffix("  ")),
        style.wrap(style.bold(block.title), margin),
    ]


def _prose(block: Prose, style: Style, margin: str) -> list[str]:
    if not block.text.strip():
        return []
    text = f"{block.label}: {block.text}" if block.label else block.text
    wrapped = style.wrap(text, margin)
    return [*([""] if block.apart else []), style.dim(wrapped) if block.faint else wrapped]


def _command(block: Command, style: Style, margin: str) -> list[str]:
    if block.close:
        return [style.command(line, f"{margin}  ") for line in block.lines]
    if not block.label:
        return ["", *(style.command(line, f"{margin}    ") for line in block.lines), ""]
    one = f"{margin}{block.label}: {block.lines[0]}"
    if len(block.lines) == 1 and len(one) <= style.width:
        return [one]
    return [f"{margin}{block.label}:", *(style.command(line, f"{margin}  ") for line in block.lines)]


def _items(block: Items, style: Style, margin: str) -> list[str]:
    lines: list[str] = []
    for number, item in enumerate(block.items, 1):
        lines += _item(item, style, margin, f"{number}. " if block.numbered else "- ")
    return lines


def _item(item: Item, style: Style, margin: str, mark: str = "") -> list[str]:
    inner = margin + " " * len(mark)
    severity = style.severity(item.severity) if item.severity else ""
    text = ": ".join(filter(None, (item.lead, severity, item.text)))
    text += f" [{item.kind}]" if item.kind else ""
    lines = [style.wrap(text, inner, margin + mark)]
    return lines + ([page_text(item.blocks, style, inner)] if item.blocks else [])


def _entries(block: Entries, style: Style, margin: str) -> list[str]:
    lines: list[str] = []
    for item in block.items:
        lines.append(style.wrap(item.text, margin + " " * block.deeper, margin))
        lines += [page_text(item.blocks, style, f"{margin}  ")] if item.blocks else []
    return lines


def _found(block: Found, style: Style, margin: str) -> list[str]:
    deep = margin.ljust(_DEEP)
    word = style.severity(block.severity, block.severity.upper())
    said = style.wrap(f"{word} {block.text}", deep, margin)
    return [said, *([style.command(block.command, deep)] if block.command else [])]


def _fields(block: Fields, style: Style, margin: str) -> list[str]:
    """Labels beside their texts where half of the width is left for these, else above them."""
    room = block.room or max((len(label) for label, _ in block.rows), default=0) + 2
    beside = 2 * (len(margin) + room) <= style.width
    indent = margin + " " * (room if beside else 2)
    lines: list[str] = []
    for label, said in block.rows:
        lead = f"{margin}{label:<{room}}" if beside else indent
        lines += [style.wrap(label, margin)] if label and not beside else []
        match said:
            case Lines((first, *others)):
                lines += [f"{lead}{first}".rstrip(), *(f"{indent}{line}".rstrip() for line in others)]
            case OneOf(text):
                lines.append(style.wrap(f"- {text}", f"{indent}  ", lead))
            case str():
                lines.append(style.wrap(said, indent, lead))
    return [style.dim(line) for line in lines] if block.faint else lines


def _table(block: Table, style: Style, margin: str) -> list[str]:
    if block.whole:
        style = style._replace(columns=AS_WIDE_AS_IT_IS)
    elif block.otherwise and table_width(block.columns, block.rows) > style.room - len(margin):
        return [page_text(block.otherwise, style, margin)]
    above = [style.wrap(block.above, margin)] if block.above else []
    return [*above, *table(block.columns, block.rows, style, margin)]


def _bars(block: Bars, style: Style, margin: str) -> list[str]:
    """Without room for bars the numbers alone, and hints on lines of their own."""
    most = max((row.number for row in block.rows), default=0)
    numbers = max((len(f"{row.number:,}") for row in block.rows), default=0)
    widest = max((len(row.hint) for row in block.rows), default=0)
    room = min(_LONGEST_BAR, style.width - len(margin) - block.room - numbers - widest - 4)
    lines = []
    for row in block.rows:
        line = f"{margin}{row.label:<{block.room}}{row.number:>{numbers},}"
        if room < _SHORTEST_BAR:
            lines += [line, *([style.wrap(style.dim(row.hint), margin.ljust(_DEEP))] if row.hint else [])]
            continue
        bar = "#" * max(1, round(row.number / most * room))
        hint = f"  {style.dim(row.hint)}" if row.hint else ""
        lines.append(f"{line}  {bar:<{room}}{hint}".rstrip())
    return lines


def _evidence(block: Evidence, style: Style, margin: str) -> list[str]:
    """What, how much and where in columns where they fit, else where on a line of its own."""
    facts = max((len(fact) for fact, _, _ in block.rows), default=0)
    values = max((len(value) for _, value, _ in block.rows), default=0)
    lines = []
    for fact, value, source in block.rows:
        short = f"{margin}{fact:<{facts}}  {value:>{values}}"
        if len(short) + 2 + len(source) <= style.width:
            lines.append(f"{short}  {source}")
            continue
        fits = len(short) <= style.width
        lines.append(short if fits else style.wrap(f"{fact}: {value}", f"{margin}  ", margin))
        lines.append(style.wrap(source, f"{margin}  "))
    return lines


def _picture(block: Picture, style: Style, margin: str) -> list[str]:
    lines = block.text.splitlines()
    if len(margin) + max(map(len, lines), default=0) > style.width:
        return []
    if block.marked:
        lines = [line.replace(block.marked, style.bold(block.marked)) for line in lines]
    return [f"{margin}{line}".rstrip() for line in lines]


def _section(block: Section, style: Style, margin: str) -> list[str]:
    if block.run_in and isinstance(first := next(iter(block.blocks), None), Prose):
        said = style.wrap(f"{style.bold(f'{block.title}:')} {first.text.strip()}", margin)
        rest = page_text(block.blocks[1:], style, margin)
        return ["", said, *([rest] if rest else [])]
    if not block.title:
        return ["", page_text(block.blocks, style, margin)]
    inside = page_text(block.blocks, style, f"{margin}  ")
    return ["", style.wrap(style.bold(block.title), margin), inside] if inside else []


def _inset(block: Inset, style: Style, margin: str) -> list[str]:
    inside = page_text(block.blocks, style, margin + " " * block.columns)
    return [inside] if inside else []


def _more(block: More, style: Style, margin: str) -> list[str]:
    return ["", style.dim(style.wrap(f"More: {block.command}", margin))]


_LONGEST_BAR, _SHORTEST_BAR = 30, 8
_DEEP = 6
"""Where the further lines of a verdict or a finding begin."""

_LAYOUTS: Mapping[type, Callable[..., list[str]]] = {
    Title: _title,
    Heading: _heading,
    Verdict: _verdict,
    Headline: _headline,
    Prose: _prose,
    Command: _command,
    Item: _item,
    Items: _items,
    Entries: _entries,
    Found: _found,
    Fields: _fields,
    Table: _table,
    Bars: _bars,
    Evidence: _evidence,
    Picture: _picture,
    Section: _section,
    Inset: _inset,
    More: _more,
}


MOST_LINES = 24
"""Lines of a short form on 80 columns; a test lays out every page."""

LABEL = 6
"""Columns of the labels."""
COMMAND_IN_PROSE = re.compile(r"`([^`\s]+ [^`]+)`")
"""Several words between backquotes."""
_ENDS = re.compile(r"(?<=[.;!]) (?=[A-Z0-9\"`-])")
"""Between two sentences."""


def short_form(title: str, means: str, rows: Iterable[Row], more: str) -> list[Block]:
    """Return the page: a title, what the thing is, labelled lines, and what `--long` tells besides."""
    return [
        Title(title),
        Prose(means),
        Inset((Fields((*rows, ("more", f"--long: {more}")), LABEL),)),
    ]


def labelled(label: str, texts: Iterable[Said]) -> list[Row]:
    """Return texts as rows, the label before the first of them."""
    return [("" if place else label, text) for place, text in enumerate(texts)]


def typed(commands: Iterable[str], style: Style) -> Lines:
    """Return commands as a row that keeps its lines; a long one goes on below, its comment stands above."""
    beside = style._replace(width=style.width - LABEL - 1, color=False)
    return Lines(tuple(line for command in commands for line in beside.command(command).splitlines()))


def as_far_as(text: str, columns: int) -> str:
    """Return whole sentences of a text, as many as have room in so many columns, and the first at least."""
    sentences = _ENDS.split(" ".join(text.split()))
    kept = sentences[0]
    for sentence in sentences[1:]:
        if len(kept) + 1 + len(sentence) > columns:
            break
        kept += f" {sentence}"
    return kept if kept.endswith((".", ".)")) else f"{kept.rstrip(';')}."

"""Blocks: what an answer says, as headings, prose, commands and lists; here they are laid out as text.

A finding, a fix and an explanation are blocks before they are anything else. `page_markdown` and `page_html`
lay out the same ones, so that a format cannot say more, or less, than another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.style import Style


class Title(NamedTuple):
    """What an explanation begins with: the answer in one line."""

    text: str


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


class Fields(NamedTuple):
    """Short labels, each with what it stands for; an empty label goes on with the one above.

    A text that begins with a dash is one of several; one whose lines begin with four spaces is code.
    """

    rows: tuple[tuple[str, str], ...]


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


class More(NamedTuple):
    """The command that tells more."""

    command: str


Block: TypeAlias = (
    "Title | Headline | Prose | Command | Item | Items | Fields | Evidence | Picture | Section | More"
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
    return [style.wrap(style.bold(block.text), margin)]


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
    text = ": ".join(filter(None, (severity, item.lead, item.text)))
    text += f" [{item.kind}]" if item.kind else ""
    lines = [style.wrap(text, inner, margin + mark)]
    return lines + ([page_text(item.blocks, style, inner)] if item.blocks else [])


def _fields(block: Fields, style: Style, margin: str) -> list[str]:
    """Labels beside their texts where half of the width is left for these, else above them."""
    room = max((len(label) for label, _ in block.rows), default=0) + 2
    beside = 2 * (len(margin) + room) <= style.width
    indent = margin + " " * (room if beside else 2)
    lines: list[str] = []
    for label, text in block.rows:
        lead = f"{margin}{label:<{room}}" if beside else indent
        lines += [style.wrap(label, margin)] if label and not beside else []
        if text.startswith("    "):
            code = [f"{indent}{line[4:]}".rstrip() for line in text.splitlines()]
            lines += [lead + code[0][len(indent) :], *code[1:]]
        else:
            lines.append(style.wrap(text, indent + ("  " if text.startswith("- ") else ""), lead))
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


def _more(block: More, style: Style, margin: str) -> list[str]:
    return ["", style.dim(style.wrap(f"More: {block.command}", margin))]


_LAYOUTS: Mapping[type, Callable[..., list[str]]] = {
    Title: _title,
    Headline: _headline,
    Prose: _prose,
    Command: _command,
    Item: _item,
    Items: _items,
    Fields: _fields,
    Evidence: _evidence,
    Picture: _picture,
    Section: _section,
    More: _more,
}

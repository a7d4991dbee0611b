"""Blocks as Markdown: CommonMark, with the tables of GitHub and GitLab, for tickets and chats."""

import re
from collections.abc import Callable, Iterable, Mapping

from tcpdoctor.report.page import (
    COMMAND_IN_PROSE,
    Bars,
    Block,
    Command,
    Entries,
    Evidence,
    Fields,
    Found,
    Heading,
    Headline,
    Inset,
    Item,
    Items,
    Lines,
    More,
    Picture,
    Prose,
    Said,
    Section,
    Table,
    Title,
    Verdict,
    paragraphs,
)

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@$:-])")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def page_markdown(blocks: Iterable[Block]) -> str:
    """Return blocks as Markdown, without a line's end at its own; findings begin with headings of level 2."""
    parts: list[str] = []
    for block in blocks:
        parts += _LAYOUTS[type(block)](block)
    return "\n\n".join(filter(None, parts))


def _title(block: Title) -> list[str]:
    return [f"## {escaped(block.name + block.text)}"]


def _heading(block: Heading) -> list[str]:
    return [f"# {escaped(block.text)}"]


def _verdict(block: Verdict) -> list[str]:
    return [f"## {escaped(block.word)}: {escaped(block.text)}"]


def _headline(block: Headline) -> list[str]:
    return [f"## {block.severity.upper()}: {escaped(block.title)}: {code(block.whom)}"]


def _prose(block: Prose) -> list[str]:
    label = f"*{block.label}:* " if block.label else ""
    if block.quoted:
        before, name, after = block.text.partition(block.quoted)
        return [f"{label}{escaped(before)} {code(name)} {escaped(after)}".strip()]
    parts = [
        fenced("\n".join(part.lines)) if isinstance(part, Command) else sentences(part.text)
        for part in paragraphs(block.text)
    ]
    return [label + parts[0], *parts[1:]] if parts and not parts[0].startswith("```") else [label, *parts]


def _command(block: Command) -> list[str]:
    return [f"*{block.label}:*" if block.label else "", fenced("\n".join(block.lines))]


def _items(block: Items) -> list[str]:
    items = [
        _item(item, f"{number}. " if block.numbered else "- ") for number, item in enumerate(block.items, 1)
    ]
    loose = any(item.blocks for item in block.items)
    return items if loose else ["\n".join(items)]


def _item(item: Item, mark: str = "") -> str:
    lead = f"**{escaped(item.lead)}**" if item.lead else ""
    text = ": ".join(filter(None, (lead, item.severity, sentences(item.text)))) + (
        f" ({escaped(item.kind)})" if item.kind else ""
    )
    lines = "\n\n".join(filter(None, (text, page_markdown(item.blocks)))).splitlines()
    return mark + "\n".join(line and " " * len(mark) + line for line in lines)[len(mark) :]


def _entries(block: Entries) -> list[str]:
    return _items(Items(block.items))


def _found(block: Found) -> list[str]:
    command = f" ({code(block.command)})" if block.command else ""
    return [f"- **{block.severity.upper()}** {sentences(block.text)}{command}"]


def _fields(block: Fields) -> list[str]:
    if any(isinstance(said, Lines) for _, said in block.rows):
        return [part for label, said in block.rows for part in _coded(label, said)]
    return ["\n".join(f"- {_led(label)}{_told(said)}" for label, said in block.rows)]


def _led(label: str) -> str:
    return f"*{escaped(label)}:* " if label else ""


def _told(said: Said) -> str:
    """In a line; one of several stands on a line of its own anyway."""
    if isinstance(said, Lines):
        return code(" ".join(said.lines))
    return sentences(said if isinstance(said, str) else said.text)


def _coded(label: str, said: Said) -> list[str]:
    """Code keeps its lines; in place of it a sentence may say that there is none."""
    if isinstance(said, Lines):
        return [*([_led(label).rstrip()] if label else []), fenced("\n".join(said.lines), "")]
    return [f"{_led(label)}{_told(said)}"]


def _table(block: Table) -> list[str]:
    filled = [place for place in range(len(block.columns)) if any(row[place] for row in block.rows)]
    if not filled:
        return []
    head = " | ".join(escaped(block.columns[place].name) or " " for place in filled)
    rule = " | ".join("---:" if block.columns[place].right else "---" for place in filled)
    rows = [" | ".join(escaped(row[place]) for place in filled) for row in block.rows]
    return ["\n".join(f"| {line} |" for line in (head, rule, *rows))]


def _bars(block: Bars) -> list[str]:
    lines = [f"- {escaped(row.label)}: {row.number:,}" for row in block.rows]
    hints = [f" ({escaped(row.hint)})" if row.hint else "" for row in block.rows]
    return ["\n".join(map("".join, zip(lines, hints, strict=True)))] if lines else []


def _evidence(block: Evidence) -> list[str]:
    rows = [
        f"| {code(fact, in_table=True)} | {escaped(value)} | {code(source, in_table=True)} |"
        for fact, value, source in block.rows
    ]
    return ["\n".join(["| What | Value | Where to see it |", "| --- | ---: | --- |", *rows])]


def _picture(block: Picture) -> list[str]:
    return [fenced(block.text, "")]


def _section(block: Section) -> list[str]:
    inside = page_markdown(block.blocks)
    if block.run_in and not inside.startswith("```"):
        return [f"**{block.title}:** {inside}"]
    return [f"### {escaped(block.title)}" if block.title else "", inside] if inside else []


def _inset(block: Inset) -> list[str]:
    return [page_markdown(block.blocks)]


def _more(block: More) -> list[str]:
    return [f"More: {code(block.command)}"]


_LAYOUTS: Mapping[type, Callable[..., list[str]]] = {
    Title: _title,
    Heading: _heading,
    Verdict: _verdict,
    Headline: _headline,
    Prose: _prose,
    Command: _command,
    Item: lambda item: [_item(item)],
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


# text that others wrote


def escaped(text: str) -> str:
    """Return text, on one line, of which nothing is taken for Markdown, HTML or a mention."""
    line = " ".join(visible(text).split())
    return _SPECIAL.sub(_escape, line)


def sentences(prose: str) -> str:
    """Return prose as `escaped` does, but commands between its backquotes as code: they can be copied."""
    parts = COMMAND_IN_PROSE.split(" ".join(prose.split()))
    return "".join(code(part) if place % 2 else _inside(part) for place, part in enumerate(parts))


def _inside(part: str) -> str:
    """Return what stands between two commands, with the blanks at its ends."""
    left, right = part[: len(part) - len(part.lstrip())], part[len(part.rstrip()) :]
    return left + escaped(part) + right if part.strip() else part


def _escape(match: "re.Match[str]") -> str:
    char, text, place = match[0], match.string, match.start()
    if char in "(){}+:$":
        return char  # special only beside what is escaped
    if char in "#-" and place > 0 and text[place - 1] != " ":
        return char
    if char == "_" and 0 < place < len(text) - 1 and text[place - 1].isalnum() and text[place + 1].isalnum():
        return char
    return f"\\{char}"


def code(text: str, *, in_table: bool = False) -> str:
    """Return text as a code span, whatever backticks it holds."""
    line = " ".join(visible(text).split()) or " "
    if in_table:
        line = line.replace("|", "\\|")
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def fenced(text: str, language: str = "sh") -> str:
    """Return a command as a block of code, whatever backticks it holds."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


def visible(text: str) -> str:
    """Return text with control characters shown as escapes."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)

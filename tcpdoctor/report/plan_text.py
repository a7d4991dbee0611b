"""What a plan says of one setting, as blocks: in `fix`, and in the pages of `check`."""

import re
from typing import TYPE_CHECKING

from tcpdoctor.report.finding_page import setting_words
from tcpdoctor.report.page import Block, Command, Fields, Inset, Prose, Section, Title

if TYPE_CHECKING:
    from tcpdoctor.answers.planned import PlannedChange


def change_lines(change: "PlannedChange", *, lasts: bool = True) -> list[Block]:
    """Return a change in two lines: from what to what, who asks for it, and what it risks in a few words.

    Args:
        change: One of a plan.
        lasts: Whether it outlives what else sets it at the next boot; without that it is not applied.
    """
    said = [Prose(change.set_by, "set by")] if change.set_by and change.owned else []
    said += [Prose(risk_words(change.risk), "risk")] if change.risk else []
    if not lasts:
        said.append(Prose(f"{change.conflict}; --runtime-only sets it until then", "not applied"))
    elif change.conflict and change.overridden:
        said.append(Prose(change.conflict, "next boot"))
    elif change.conflict:
        said.append(Prose(change.conflict.rpartition(": ")[2], "settled"))
    if change.boot and lasts:
        said.append(Prose(change.boot, "next boot"))
    key, _, values = change_words(change).partition(": ")
    return [Title(f": {values} ({', '.join(change.rules)})", key), Inset(tuple(said), 2)]


_SENTENCE_ENDS = re.compile(r"(?<=[.!?]) (?=[A-Z0-9])")


def risk_words(risk: str) -> str:
    """Return a risk in a few words: its first sentence; of none that it is none."""
    if risk.startswith("none"):
        return "none"
    return _SENTENCE_ENDS.split(risk, maxsplit=1)[0].rstrip(".")


_LONGEST_VALUE = 60


def change_words(change: "PlannedChange") -> str:
    """Say what a setting holds and shall hold; of a long list its beginning."""
    now, value = value_words(change.now), value_words(change.value)
    added = [each for each in value.split(",") if each not in set(now.split(","))]
    if len(now) > _LONGEST_VALUE and len(added) < value.count(","):
        return f"{change.key}: {now.count(',') + 1:,} entries -> these and {_beginning(','.join(added))}"
    return f"{change.key}: {_beginning(now)} -> {_beginning(value)}"


def _beginning(text: str) -> str:
    if len(text) <= _LONGEST_VALUE:
        return text
    kept = text[:_LONGEST_VALUE].rpartition(",")[0] or text[:_LONGEST_VALUE]
    return f"{kept},... ({text.count(',') + 1} in all)"


def change_blocks(change: "PlannedChange") -> list[Block]:
    """Return a change of a setting: why, how it was computed, what it risks, how to verify and to undo it."""
    rows = [
        ("why", ", ".join(change.rules)),
        ("computed", change.computed),
        *([("set by", change.set_by)] if change.set_by else []),
        *([("conflict", change.conflict)] if change.conflict else []),
        *([("next boot", change.boot)] if change.boot else []),
        ("risk", change.risk),
    ]
    title = f"{change.key}: {value_words(change.now)} -> {value_words(change.value)}"
    return [
        Section(
            title,
            (
                Fields(tuple(rows), room=11),
                Command(change.verify, "verify"),
                Command((change.undo[-1],), "undo"),
            ),
        )
    ]


def value_words(value: object) -> str:
    """Return the value of a setting for people."""
    return setting_words(list(value) if isinstance(value, tuple) else value)

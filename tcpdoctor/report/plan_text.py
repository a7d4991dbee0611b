"""What a plan says of one setting, as blocks: in `fix`, and in the pages of `check`."""

from typing import TYPE_CHECKING

from tcpdoctor.report.finding_page import setting_words
from tcpdoctor.report.page import Block, Command, Fields, Section

if TYPE_CHECKING:
    from tcpdoctor.answers.planned import PlannedChange


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

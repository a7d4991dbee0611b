"""`explain --error` for people: what it means, which call gives it and why, and how it stands here."""

from tcpdoctor.answers.error import ErrorAnswer, Here
from tcpdoctor.report.page import (
    Block,
    Command,
    Fields,
    Item,
    Prose,
    Section,
    Title,
    listed,
    mistaken,
)
from tcpdoctor.report.style import Style


def error_page(answer: ErrorAnswer, style: Style) -> list[Block]:
    """Return the page."""
    here: tuple[Block, ...] = (
        Command(
            tuple(style.asks(one) if one.startswith("tcpdoctor ") else one for one in answer.ask), close=True
        ),
        *(Item(_here(one)) for one in answer.here),
    )
    see = ((("See also", ", ".join(answer.see_also)),),) if answer.see_also else ()
    return [
        Title(f"{answer.error} ({answer.number}, {answer.text})"),
        Prose(answer.means),
        Section("Here", here),
        *listed("What to do", answer.remedy),
        *(section for call in answer.calls for section in listed(f"From {call.call}", call.why)),
        *mistaken((wrong.claim, wrong.truth) for wrong in answer.mistaken_for),
        *(Section("", (Fields(rows),)) for rows in see),
    ]


def _here(here: Here) -> str:
    if here.missing is not None:
        return f"{here.says}: not known here: {here.missing}."
    source = f" ({', '.join(here.source)})" if here.source else ""
    never = " by itself" if here.unit == "second" and here.value is None else ""
    return f"{here.says}: {here.text}{never}{source}."

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
    as_far_as,
    labelled,
    listed,
    mistaken,
    short_form,
    typed,
)
from tcpdoctor.report.style import Style

_SHOWN = 3
"""Reasons of all calls together in the short form."""


def error_page(answer: ErrorAnswer, style: Style, *, long: bool = True) -> list[Block]:
    """Return the page, or its short form."""
    return _long(answer, style) if long else _short(answer, style)


def _short(answer: ErrorAnswer, style: Style) -> list[Block]:
    """What it means, what to type, what to do, and the likeliest reasons of the calls that give it."""
    ask = [style.asks(one) for one in answer.ask[:2]]
    each = max(1, _SHOWN // max(1, len(answer.calls)))
    reasons = [f"{call.call}: {why}" for call in answer.calls for why in call.why[:each]]
    rows = [
        ("type", typed(ask, style)),
        *labelled("here", map(_here, answer.here[:2])),
        *labelled("do", [as_far_as(text, 150) for text in answer.remedy[:2]]),
        *labelled("from", [as_far_as(text, 120) for text in reasons[:_SHOWN]]),
        *(("not", as_far_as(f'"{one.claim}": {one.truth}', 150)) for one in answer.mistaken_for[:1]),
    ]
    more = "every reason of every call, all that is mistaken about it"
    return short_form(_headline(answer), as_far_as(answer.means, 200), rows, more)


def _headline(answer: ErrorAnswer) -> str:
    return f"{answer.error} ({answer.number}, {answer.text})"


def _long(answer: ErrorAnswer, style: Style) -> list[Block]:
    here: tuple[Block, ...] = (
        Command(tuple(map(style.asks, answer.ask)), close=True),
        *(Item(_here(one)) for one in answer.here),
    )
    see = ((("See also", ", ".join(answer.see_also)),),) if answer.see_also else ()
    return [
        Title(_headline(answer)),
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

"""`explain --error` for people: what it means, which call gives it and why, and how it stands here."""

from tcpdoctor.answers.error import ErrorAnswer, Here
from tcpdoctor.report.style import Style


def error_text(answer: ErrorAnswer, style: Style) -> str:
    """Return the page, at most as wide as the style says."""
    lines = [
        style.bold(style.wrap(f"{answer.error} ({answer.number}, {answer.text})")),
        style.wrap(answer.means),
        "",
    ]
    for call in answer.calls:
        lines.append(style.bold(f"From {call.call}"))
        lines += [style.wrap(why, "    ", "  - ") for why in call.why]
    lines += ["", style.bold("Here"), *[style.wrap(_here(one), "    ", "  ") for one in answer.here]]
    lines += [style.command(command, "  ") for command in answer.ask]
    lines += ["", style.bold("Often taken for something else")]
    lines += [style.wrap(f'"{wrong.claim}": {wrong.truth}.', "    ", "  - ") for wrong in answer.mistaken_for]
    lines += ["", style.bold("What to do")]
    lines += [style.wrap(remedy, "    ", "  - ") for remedy in answer.remedy]
    if answer.see_also:
        lines += ["", style.wrap(", ".join(answer.see_also), "          ", "See also  ")]
    return "\n".join(lines) + "\n"


def _here(here: Here) -> str:
    if here.missing is not None:
        return f"{here.says}: not known here: {here.missing}."
    source = f" ({', '.join(here.source)})" if here.source else ""
    never = " by itself" if here.unit == "second" and here.value is None else ""
    return f"{here.says}: {here.text}{never}{source}."

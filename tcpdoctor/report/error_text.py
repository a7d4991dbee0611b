"""`explain --error` for people: what it means, which call gives it and why, and how it stands here."""

from tcpdoctor.answers.error import ErrorAnswer, Here
from tcpdoctor.facts.deadlines import NEVER, Life, show_life
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.style import Style


def error_text(answer: ErrorAnswer, style: Style) -> str:
    """Return the page, at most as wide as the style says."""
    page = answer.page
    lines = [
        style.bold(style.wrap(f"{page.name} ({page.number}, {page.text})")),
        style.wrap(page.means),
        "",
    ]
    for call in page.calls:
        lines.append(style.bold(f"From {call.call}"))
        lines += [style.wrap(why, "    ", "  - ") for why in call.why]
    lines += ["", style.bold("Here"), *[style.wrap(_here(one), "    ", "  ") for one in answer.here]]
    lines += [style.command(command, "  ") for command in page.ask]
    lines += ["", style.bold("Often taken for something else")]
    lines += [style.wrap(f'"{wrong.claim}": {wrong.truth}.', "    ", "  - ") for wrong in page.mistaken]
    lines += ["", style.bold("What to do")]
    lines += [style.wrap(remedy, "    ", "  - ") for remedy in page.remedy]
    if page.see:
        lines += ["", style.wrap(", ".join(page.see), "          ", "See also  ")]
    return "\n".join(lines) + "\n"


def _here(here: Here) -> str:
    source = f" ({', '.join(here.source)})" if here.source else ""
    match here.value:
        case Missing(reason):
            return f"{here.says}: not known here: {reason}."
        case Life():
            text = "never by itself" if here.value == NEVER else show_life(here.value)
        case value:
            text = value_as_printed(value) or "empty"
    return f"{here.says}: {text}{source}."

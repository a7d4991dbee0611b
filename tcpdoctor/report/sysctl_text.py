"""`explain --sysctl` for people: the value here, and what it does not do, in the first lines."""

from tcpdoctor.answers.settings import origin_words
from tcpdoctor.answers.sysctl import SysctlAnswer, in_words, is_default, printed
from tcpdoctor.facts.deadlines import NEVER, show_life
from tcpdoctor.facts.state_deadlines import Deadline
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.style import Style

_UNITS = {
    "second": "seconds",
    "millisecond": "milliseconds",
    "microsecond": "microseconds",
    "nanosecond": "nanoseconds",
    "count": "a count",
    "byte": "bytes",
    "page": "pages of memory",
    "percent": "percent",
    "per_second": "per second",
    "switch": "a switch or a code",
    "ratio": "a plain number",
    "ports": "ports and ranges of ports, separated by commas",
    "text": "text",
}

_SCOPES = {
    "namespace": "each network namespace has its own, so a container's may differ from its host's",
    "initial": "one for the machine; only the initial network namespace shows it",
    "shared": "one for the machine; other network namespaces may only read it",
    "machine": "one for the machine",
}

_LABEL = 10
_HUGE = 2**31 - 1


def sysctl_text(answer: SysctlAnswer, style: Style) -> str:
    """Return the page, at most as wide as the style says."""
    page = answer.page
    lines = [
        style.bold(style.wrap(_headline(answer))),
        *([style.wrap(_gone(answer))] if not answer.exists else []),
        style.wrap(page.meaning),
        *_warnings(answer, style),
        "",
        style.bold("What it does not do"),
        style.wrap(page.does_not, "  "),
        *_deadlines(answer, style),
        "",
    ]
    for label, text in _entries(answer):
        lines.append(style.wrap(text, " " * _LABEL, f"{label:<{_LABEL}}"))
    return "\n".join(lines) + "\n"


def _headline(answer: SysctlAnswer) -> str:
    page, value = answer.page, printed(answer)
    if value is None:
        if not answer.exists:
            return f"{page.name}: not on this kernel ({answer.who.kernel})"
        reason = answer.value.reason if isinstance(answer.value, Missing) else ""
        return f"{page.name}: not known here: {reason}"
    remarks = [words for words in (in_words(answer),) if words]
    match is_default(answer):
        case True:
            remarks.append("the default")
        case False:
            default = page.default_is if page.default is None else page.default or "empty"
            remarks.append(f"changed: the default is {default}")
    tail = f" ({'; '.join(remarks)})" if remarks else ""
    return f"{page.name} = {value or 'empty'}{tail}"


def _warnings(answer: SysctlAnswer, style: Style) -> list[str]:
    """What the rules say of the value here, the worst first."""
    lines: list[str] = []
    for one in answer.warnings:
        word = style.severity(one.severity.key)
        told = style.wrap(
            f"{one.severity.key}: {one.summary} (tcpdoctor explain --rule {one.rule})", "  ", "  "
        )
        lines.append(told.replace(one.severity.key, word, 1))
    return ["", style.bold("What is wrong with it here"), *lines] if lines else []


def _gone(answer: SysctlAnswer) -> str:
    page = answer.page
    if page.removed == "never there":
        text = "No kernel of kernel.org has it."
    elif page.removed is not None:
        text = f"Gone since Linux {page.removed}."
    elif page.since is not None:
        text = f"History: {_history(page.since)}."
    else:
        text = "It may belong to a module or a kernel option that is not there."
    return text + (f" Instead: {page.instead}." if page.instead else "")


def _deadlines(answer: SysctlAnswer, style: Style) -> list[str]:
    if not answer.deadlines or not answer.exists:
        return []
    lines = ["", style.bold("What that means here")]
    for keys, deadline in answer.deadlines:
        what = f"{', '.join(key.upper() for key in keys)}, {deadline.case}:"
        lines.append(style.wrap(f"{what} {_life(answer, deadline)}", "      ", "  "))
    if answer.page.name.endswith(("retries2", "orphan_retries", "rto_max_ms")):
        supposed = f"for a near peer, with a retransmission timeout of {answer.rto * 1000:.0f} ms"
        lines.append(style.dim(style.wrap(f"({supposed}; a longer one makes it longer)", "  ")))
    return lines


def _life(answer: SysctlAnswer, deadline: Deadline) -> str:
    if isinstance(deadline.life, Missing):
        return f"unknown ({deadline.life.reason})"
    text = "never by itself" if deadline.life == NEVER else show_life(deadline.life)
    others = [name for name in deadline.sysctls if name != answer.page.name]
    values = [f"{name.rpartition('.')[2]} = {answer.sysctls[name]}" for name in others]
    if deadline.remark:
        values.insert(0, deadline.remark)
    return f"{text} ({', '.join(values)})" if values else text


def _entries(answer: SysctlAnswer) -> list[tuple[str, str]]:
    page = answer.page
    entries = [("Governs" if answer.exists else "Governed", page.governs)]
    if page.beware:
        entries.append(("Beware", page.beware))
    label = "Values"
    for value, words in page.values.items():
        entries.append((label, f"{value}: {words}"))
        label = ""
    if answer.exists:
        entries += _particulars(answer)
    if page.see:
        entries.append(("See also", ", ".join(page.see)))
    return entries


def _particulars(answer: SysctlAnswer) -> list[tuple[str, str]]:
    page = answer.page
    entries = [("Unit", _UNITS[page.unit])]
    default = page.default_is if page.default is None else page.default or "empty"
    if default is not None:
        entries.append(("Default", default))
    accepts = page.limits_are or _range(answer.bounds)
    if accepts is not None:
        entries.append(("Accepts", accepts))
    entries.append(("Scope", _SCOPES[page.scope]))
    if page.since is not None:
        entries.append(("History", _history(page.since)))
    entries.append(("File", f"/proc/sys/{page.name.replace('.', '/')}" + _not_writable(answer)))
    origin = origin_words(answer.origin)
    if origin is not None:
        label = "Differs" if answer.origin.by is None else "Set by"
        entries.append((label, clean(origin.removeprefix("set by "), 1000)))
    elif is_default(answer) is False:
        entries.append(("Set by", "nothing that can be seen: a program or a person did"))
    return entries


def _history(since: str) -> str:
    return f"since Linux {since}" if since.replace(".", "").isdigit() else since


def _not_writable(answer: SysctlAnswer) -> str:
    return " (read only)" if answer.exists and not answer.writable and printed(answer) is not None else ""


def _range(bounds: tuple[int, int] | None) -> str | None:
    if bounds is None:
        return None
    low, high = bounds
    if low < -1000 and high > 10**6:
        return f"any whole number from {low} to {high}; the kernel does not check its sense"
    return f"{low} or more" if high >= _HUGE else f"{low} to {high}"

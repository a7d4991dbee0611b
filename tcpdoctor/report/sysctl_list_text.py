"""`sysctl show` for people: one setting after the other, its value first."""

from tcpdoctor.answers.settings import (
    SettingsList,
    Shown,
    default_words,
    in_words,
    is_default,
    origin_words,
    printed,
)
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

_MARGIN = "  "
_UNITS = {
    "second": "seconds",
    "millisecond": "milliseconds",
    "microsecond": "microseconds",
    "nanosecond": "nanoseconds",
    "byte": "bytes",
    "page": "pages",
    "percent": "percent",
    "per_second": "per second",
}
_SCOPES = {
    "namespace": "each network namespace has its own",
    "initial": "the machine's, shown in its first network namespace only",
    "shared": "the machine's",
    "machine": "the machine's",
}


def sysctl_list_text(found: SettingsList, style: Style) -> str:
    """Return every setting with its meaning; of changed ones the number as well."""
    lines: list[str] = []
    for row in found.rows:
        if row.exists or found.asked:
            lines += [""] if lines else []
            lines += _row(row, found, style)
    absent = [row.page.name for row in found.rows if not row.exists]
    if absent and not found.asked:
        lines += ["", style.wrap(f"Not on this kernel: {', '.join(absent)}.", _MARGIN, "")]
    if lines and found.unseen:
        lines += ["", *(style.wrap(f"Not seen: {each}.", _MARGIN, "") for each in found.unseen)]
    if found.only_changed:
        lines += [*([""] if lines else []), style.wrap(_summary(found), _MARGIN, "")]
    return "\n".join(lines) + "\n" if lines else ""


def _summary(found: SettingsList) -> str:
    text = f"{plural(len(found.rows), 'setting')} changed." if found.rows else "No setting is changed."
    if found.not_compared:
        number = plural(len(found.not_compared), "other")
        text += f" Of {number} the value or the default is not known here (--format json names them)."
    return text


def _row(row: Shown, found: SettingsList, style: Style) -> list[str]:
    lines = [style.wrap(_headline(row, found), _MARGIN * 2, "")]
    name, rest = row.page.name, lines[0].removeprefix(row.page.name)
    lines[0] = style.bold(name) + rest
    lines.append(style.wrap(row.page.meaning, _MARGIN, _MARGIN))
    lines.append(style.wrap(_particulars(row), _MARGIN, _MARGIN))
    origin = origin_words(row.origin) if row.exists else None
    if origin is not None:
        lines.append(style.wrap(f"{clean(origin[:1].upper() + origin[1:], 1000)}.", _MARGIN, _MARGIN))
    elif is_default(row) is False:
        lines.append(
            style.wrap("Nothing that can be seen sets it: a program or a person did.", _MARGIN, _MARGIN)
        )
    return lines


def _headline(row: Shown, found: SettingsList) -> str:
    value = printed(row)
    if value is None:
        if not row.exists:
            return f"{row.page.name}: not on this kernel ({found.who.kernel})"
        reason = row.value.reason if isinstance(row.value, Missing) else ""
        return reason if reason.startswith(row.page.name) else f"{row.page.name}: {reason}"
    words = in_words(row, found.page_size)
    remark = {True: "the default", False: f"changed: the default is {default_words(row)}", None: None}[
        is_default(row)
    ]
    tail = "; ".join(filter(None, (words, remark)))
    return f"{row.page.name} = {clean(value, 4096) or 'empty'}{f' ({tail})' if tail else ''}"


def _particulars(row: Shown) -> str:
    if not row.exists:
        return _absence(row)
    parts = [_UNITS[row.page.unit]] if row.page.unit in _UNITS else []
    default = default_words(row)
    if is_default(row) is None and default is not None:
        parts.append(f"default: {default}")
    parts += [_SCOPES[row.page.scope]] if row.page.scope in _SCOPES else []
    text = "; ".join(parts) or "Unit, default and scope are not known"
    return f"{text[:1].upper()}{text[1:]}."


def _absence(row: Shown) -> str:
    page = row.page
    if page.removed == "never there":
        return f"No kernel of kernel.org has it. Instead: {page.instead or 'nothing'}."
    if page.removed is not None:
        return f"Gone since Linux {page.removed}. Instead: {page.instead or 'nothing'}."
    if page.since is not None and page.since.replace(".", "").isdigit():
        return f"It came with Linux {page.since}."
    return "A module or an option of the kernel that has it is not there."

"""`sysctl show` for people: all settings as a table, those that were named one after the other in full."""

from tcpdoctor.answers.settings import SettingsAnswer, ToldSetting
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style
from tcpdoctor.report.sysctl_text import default_words, origin_words
from tcpdoctor.report.table import Column, table

_MARGIN = "  "
_WIDEST, _NARROWEST = 28, 12
"""Of a value in the table; a longer one is whole below its row."""
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


def sysctl_list_text(found: SettingsAnswer, style: Style) -> str:
    """Return every setting with its meaning; of changed ones the number as well."""
    lines: list[str] = []
    if found.named:
        for row in found.sysctls:
            lines += [""] if lines else []
            lines += _page(row, found, style)
    else:
        lines += table(_COLUMNS, [_row(row) for row in found.sysctls if row.exists], style)
    absent = [row.sysctl for row in found.sysctls if not row.exists]
    if absent and not found.named:
        lines += ["", style.wrap(f"Not on this kernel: {', '.join(absent)}.", _MARGIN, "")]
    if lines and found.unseen:
        lines += ["", *(style.wrap(f"Not seen: {each}.", _MARGIN, "") for each in found.unseen)]
    if found.only_changed:
        lines += [*([""] if lines else []), style.wrap(_summary(found), _MARGIN, "")]
    return "\n".join(lines) + "\n" if lines else ""


def _summary(found: SettingsAnswer) -> str:
    text = f"{plural(len(found.sysctls), 'setting')} changed." if found.sysctls else "No setting is changed."
    if found.not_compared:
        number = plural(len(found.not_compared), "other")
        text += f" Of {number} the value or the default is not known here (--format json names them)."
    return text


_COLUMNS = (
    Column("SETTING"),
    Column("VALUE", most=_WIDEST, least=_NARROWEST),
    Column("IN WORDS", most=_WIDEST, goes=1),
    Column("CHANGED FROM", most=_WIDEST, least=_NARROWEST),
    *(Column("MEANING", below=True), Column("SET BY", below=True)),
)


def _row(row: ToldSetting) -> list[str]:
    """Name, value, default where it differs, meaning, who set it; or why the value is not known."""
    if isinstance(row.printed, Missing):
        return [row.sysctl, f"unknown: {row.printed.reason}", "", "", row.meaning or "", ""]
    words = "" if isinstance(row.in_words, Missing) else row.in_words or ""
    shown = clean(row.printed, 4096) or "empty"
    changed = (default_words(row.default, row.default_is) or "") if row.is_default is False else ""
    return [row.sysctl, shown, words, changed, row.meaning or "", _set_by(row)]


def _set_by(row: ToldSetting) -> str:
    """Say what set it; empty where it is as the kernel made it, or that is not known."""
    origin = origin_words(row.set_by, row.not_set_by)
    if origin is not None:
        return f"{clean(origin[:1].upper() + origin[1:], 1000)}."
    return "Nothing that can be seen sets it: a program or a person did." if row.is_default is False else ""


def _page(row: ToldSetting, found: SettingsAnswer, style: Style) -> list[str]:
    lines = [style.wrap(_headline(row, found), _MARGIN * 2, "")]
    name, rest = row.sysctl, lines[0].removeprefix(row.sysctl)
    lines[0] = style.bold(name) + rest
    lines.append(style.wrap(row.meaning or "", _MARGIN, _MARGIN))
    lines.append(style.wrap(_particulars(row), _MARGIN, _MARGIN))
    origin = _set_by(row) if row.exists else ""
    return [*lines, style.wrap(origin, _MARGIN, _MARGIN)] if origin else lines


def _headline(row: ToldSetting, found: SettingsAnswer) -> str:
    if isinstance(row.printed, Missing):
        return row.printed.reason if row.exists else f"{row.sysctl}: not on this kernel ({found.host.kernel})"
    words = None if isinstance(row.in_words, Missing) else row.in_words
    remark = None
    if not isinstance(row.is_default, Missing):
        default = default_words(row.default, row.default_is)
        remark = "the default" if row.is_default else f"changed: the default is {default}"
    tail = "; ".join(filter(None, (words, remark)))
    return f"{row.sysctl} = {clean(row.printed, 4096) or 'empty'}{f' ({tail})' if tail else ''}"


def _particulars(row: ToldSetting) -> str:
    if not row.exists:
        return _absence(row)
    parts = [_UNITS[row.unit]] if row.unit in _UNITS else []
    default = default_words(row.default, row.default_is)
    if isinstance(row.is_default, Missing) and default is not None:
        parts.append(f"default: {default}")
    parts += [_SCOPES[row.scope]] if row.scope in _SCOPES else []
    text = "; ".join(parts) or "Unit, default and scope are not known"
    return f"{text[:1].upper()}{text[1:]}."


def _absence(row: ToldSetting) -> str:
    if row.removed == "never there":
        return f"No kernel of kernel.org has it. Instead: {row.instead or 'nothing'}."
    if row.removed is not None:
        return f"Gone since Linux {row.removed}. Instead: {row.instead or 'nothing'}."
    if row.since is not None and row.since.replace(".", "").isdigit():
        return f"It came with Linux {row.since}."
    return "A module or an option of the kernel that has it is not there."

"""`sysctl show` for people: all settings as a table, those that were named one after the other in full."""

from tcpdoctor.answers.settings import SettingsAnswer, ToldSetting
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Entries, Inset, Item, Prose, Section, Table, Title
from tcpdoctor.report.style import Style
from tcpdoctor.report.sysctl_text import default_words, origin_words
from tcpdoctor.report.table import Column

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


def settings_page(found: SettingsAnswer, _style: Style) -> list[Block]:
    """Return every setting with its meaning; of changed ones the number as well."""
    blocks: list[Block] = []
    if found.named:
        blocks += [Section("", tuple(_page(row, found))) for row in found.sysctls]
    else:
        rows = tuple(_row(row) for row in found.sysctls if row.exists)
        blocks += [Table(_COLUMNS, rows)] if rows else []
    absent = [row.sysctl for row in found.sysctls if not row.exists]
    if absent and not found.named:
        blocks.append(_remarks(f"Not on this kernel: {', '.join(absent)}."))
    if blocks and found.unseen:
        blocks.append(_remarks(*(f"Not seen: {each}." for each in found.unseen)))
    return [*blocks, *([_remarks(_summary(found))] if found.only_changed else [])]


def _remarks(*texts: str) -> Section:
    return Section("", (Entries(tuple(map(Item, texts)), deeper=2),))


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


def _row(row: ToldSetting) -> tuple[str, ...]:
    """Name, value, default where it differs, meaning, who set it; or why the value is not known."""
    if isinstance(row.printed, Missing):
        return row.sysctl, f"unknown: {row.printed.reason}", "", "", row.meaning or "", ""
    words = "" if isinstance(row.in_words, Missing) else row.in_words or ""
    shown = clean(row.printed, 4096) or "empty"
    changed = (default_words(row.default, row.default_is) or "") if row.is_default is False else ""
    return row.sysctl, shown, words, changed, row.meaning or "", _set_by(row)


def _set_by(row: ToldSetting) -> str:
    """Say what set it; empty where it is as the kernel made it, or that is not known."""
    origin = origin_words(row.set_by, row.not_set_by)
    if origin is not None:
        return f"{clean(origin[:1].upper() + origin[1:], 1000)}."
    return "Nothing that can be seen sets it: a program or a person did." if row.is_default is False else ""


def _page(row: ToldSetting, found: SettingsAnswer) -> list[Block]:
    origin = _set_by(row) if row.exists else ""
    said = (row.meaning or "", _particulars(row), origin)
    return [_headline(row, found), Inset(tuple(map(Prose, said)), 2)]


def _headline(row: ToldSetting, found: SettingsAnswer) -> Title:
    if isinstance(row.printed, Missing):
        if row.exists:
            return Title("", row.printed.reason)
        return Title(f": not on this kernel ({found.host.kernel})", row.sysctl)
    words = None if isinstance(row.in_words, Missing) else row.in_words
    remark = None
    if not isinstance(row.is_default, Missing):
        default = default_words(row.default, row.default_is)
        remark = "the default" if row.is_default else f"changed: the default is {default}"
    tail = "; ".join(filter(None, (words, remark)))
    return Title(f" = {clean(row.printed, 4096) or 'empty'}{f' ({tail})' if tail else ''}", row.sysctl)


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

"""`explain --sysctl` and `sysctl show` for people: what is here, and what it does not do, comes first."""

from tcpdoctor.answers.settings import SettingsAnswer, ToldSetting, ToldSource
from tcpdoctor.answers.sysctl import Accepted, SettingDeadline, SysctlAnswer
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import (
    Block,
    Entries,
    Fields,
    Inset,
    Item,
    Prose,
    Said,
    Section,
    Table,
    Title,
    as_far_as,
    labelled,
    short_form,
    titled,
    typed,
)
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column

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

_HUGE = 2**31 - 1


def sysctl_page(answer: SysctlAnswer, style: Style, *, long: bool = True) -> list[Block]:
    """Return the page, or its short form."""
    return _long(answer, style) if long else _short(answer, style)


def _short(answer: SysctlAnswer, style: Style) -> list[Block]:
    """What it governs, what is wrong with the value here, what to do about it, what it does not do."""
    gone = [("here", _gone(answer))] if not answer.exists else []
    said = [
        line
        for one in answer.findings[:2]
        for line in (
            as_far_as(f"{one.severity.upper()} {one.summary}", 180),
            typed([style.asks(f"tcpdoctor check {one.rule}")], style),
        )
    ]
    ends = [
        f"{', '.join(key.upper() for key in one.states)}, {one.case}: {_life(answer, one)}"
        for one in answer.deadlines[:_SHOWN_ENDS]
        if answer.exists
    ]
    particulars = dict(_particulars(answer)) if answer.exists else {}
    rows = [
        *gone,
        *labelled("check", said),
        *labelled("here", ends),
        *labelled("do", _to_do(answer, style)),
        *(("not", as_far_as(answer.does_not, 200)) for _ in [0] if answer.does_not),
        *(("but", as_far_as(answer.beware, 200)) for _ in [0] if answer.beware),
        *(("take", particulars[name]) for name in ["Accepts"] if name in particulars and not said),
        *(("by", as_far_as(particulars[name], 160)) for name in ["Set by", "Differs"] if name in particulars),
        *(("where", _SCOPES[answer.scope]) for _ in [0] if answer.exists and not said),
    ]
    more = "all that it governs, what single values stand for, its history"
    return short_form(_headline(answer), as_far_as(answer.meaning, 240), rows, more)


def _to_do(answer: SysctlAnswer, style: Style) -> list[Said]:
    """Nothing where the default runs; else the way back, which no rule may ask for."""
    if not answer.exists or isinstance(answer.printed, Missing) or isinstance(answer.is_default, Missing):
        return []
    if answer.is_default:
        return [] if answer.findings else ["nothing: no rule has anything against the default"]
    if answer.default is None or not answer.writable:
        return []
    why = (
        "back to the default, until the next boot; that check tells its risk"
        if answer.findings
        else _NO_FAULT
    )
    value = f"'{answer.default}'" if " " in answer.default or not answer.default else answer.default
    return [f"{why}:", typed([style.asks(f"sysctl -w {answer.sysctl}={value}")], style)]


_NO_FAULT = (
    "nothing: no rule has anything against the value. The way back to the default, should it be wanted"
)
_SHOWN_ENDS = 3
"""Deadlines in the short form."""


def _long(answer: SysctlAnswer, style: Style) -> list[Block]:
    gone = [] if answer.exists else [Prose(_gone(answer))]
    warnings = tuple(
        Item(f"{one.summary} (`{style.asks(f'tcpdoctor explain --rule {one.rule}')}`)", severity=one.severity)
        for one in answer.findings
    )
    return [
        Title(_headline(answer)),
        *gone,
        Prose(answer.meaning),
        *([Section("What is wrong with it here", warnings)] if warnings else []),
        *titled("What it does not do", answer.does_not),
        *_deadlines(answer),
        Section("", (Fields(tuple(_entries(answer))),)),
    ]


def _headline(answer: SysctlAnswer) -> str:
    value = answer.printed
    if isinstance(value, Missing):
        if not answer.exists:
            return f"{answer.sysctl}: not on this kernel ({answer.host.kernel})"
        return f"{answer.sysctl}: not known here: {value.reason}"
    remarks = [answer.in_words] if answer.in_words and not isinstance(answer.in_words, Missing) else []
    if not isinstance(answer.is_default, Missing):
        default = default_words(answer.default, answer.default_is)
        remarks.append("the default" if answer.is_default else f"changed: the default is {default}")
    tail = f" ({'; '.join(remarks)})" if remarks else ""
    return f"{answer.sysctl} = {value or 'empty'}{tail}"


def default_words(default: str | None, default_is: str | None) -> str | None:
    """Say what the default is: a value, how it is computed, or None where nothing is known."""
    return default_is if default is None else default or "empty"


def origin_words(by: ToldSource | None, later: ToldSource | None) -> str | None:
    """Say what set a value; None where nothing that can be seen sets the setting at all."""
    if by is None:
        return (
            None
            if later is None
            else f"{_source(later)} says {later.value or 'nothing'}: not applied, or changed since"
        )
    if later is None:
        return _source(by)
    return f"{_source(by)}; {_source(later)} says {later.value or 'nothing'} and has not set it"


def _source(source: ToldSource) -> str:
    if source.kind == "tuned":
        return f"TuneD's profile {source.profile} ({source.file} line {source.line})"
    if source.kind == "command line":
        return "the kernel's command line"
    return f"{source.file} line {source.line}"


def _gone(answer: SysctlAnswer) -> str:
    page = answer
    if page.removed == "never there":
        text = "No kernel of kernel.org has it."
    elif page.removed is not None:
        text = f"Gone since Linux {page.removed}."
    elif page.since is not None:
        text = f"History: {_history(page.since)}."
    else:
        text = "It may belong to a module or a kernel option that is not there."
    return text + (f" Instead: {page.instead}." if page.instead else "")


def _deadlines(answer: SysctlAnswer) -> list[Section]:
    if not answer.deadlines or not answer.exists:
        return []
    blocks: list[Block] = [
        Item(f"{', '.join(key.upper() for key in one.states)}, {one.case}: {_life(answer, one)}")
        for one in answer.deadlines
    ]
    if answer.sysctl.endswith(("retries2", "orphan_retries", "rto_max_ms")):
        supposed = f"for a near peer, with a retransmission timeout of {answer.assumed_rto_s * 1000:.0f} ms"
        blocks.append(Prose(f"({supposed}; a longer one makes it longer)", faint=True))
    return [Section("What that means here", tuple(blocks))]


def _life(answer: SysctlAnswer, deadline: SettingDeadline) -> str:
    if isinstance(deadline.ends, Missing):
        return f"unknown ({deadline.text})"
    text = deadline.text if deadline.ends else "never by itself"
    others = [name for name in deadline.sysctls if name != answer.sysctl]
    values = [f"{name.rpartition('.')[2]} = {deadline.values[name]}" for name in others]
    if deadline.remark:
        values.insert(0, deadline.remark)
    return f"{text} ({', '.join(values)})" if values else text


def _entries(answer: SysctlAnswer) -> list[tuple[str, str]]:
    entries = [("Governs" if answer.exists else "Governed", answer.governs)]
    if answer.beware:
        entries.append(("Beware", answer.beware))
    label = "Values"
    for value, words in answer.values.items():
        entries.append((label, f"{value}: {words}"))
        label = ""
    if answer.exists:
        entries += _particulars(answer)
    if answer.see_also:
        entries.append(("See also", ", ".join(answer.see_also)))
    return entries


def _particulars(answer: SysctlAnswer) -> list[tuple[str, str]]:
    entries = [("Unit", _UNITS[answer.unit])]
    default = default_words(answer.default, answer.default_is)
    if default is not None:
        entries.append(("Default", default))
    accepts = answer.accepts_is or _range(answer.accepts)
    if accepts is not None:
        entries.append(("Accepts", accepts))
    entries.append(("Scope", _SCOPES[answer.scope]))
    if answer.since is not None:
        entries.append(("History", _history(answer.since)))
    entries.append(("File", answer.file + _not_writable(answer)))
    origin = origin_words(answer.set_by, answer.not_set_by)
    if origin is not None:
        label = "Differs" if answer.set_by is None else "Set by"
        entries.append((label, clean(origin, 1000)))
    elif answer.is_default is False:
        entries.append(("Set by", "nothing that can be seen: a program or a person did"))
    return entries


def _history(since: str) -> str:
    return f"since Linux {since}" if since.replace(".", "").isdigit() else since


def _not_writable(answer: SysctlAnswer) -> str:
    unknown = isinstance(answer.printed, Missing)
    return " (read only)" if answer.exists and not answer.writable and not unknown else ""


def _range(bounds: Accepted | None) -> str | None:
    if bounds is None or bounds.low is None or bounds.high is None:
        return None
    low, high = bounds.low, bounds.high
    if low < -1000 and high > 10**6:
        return f"any whole number from {low} to {high}; the kernel does not check its sense"
    return f"{low} or more" if high >= _HUGE else f"{low} to {high}"


_WIDEST, _NARROWEST = 28, 12
"""Of a value in the table; a longer one is whole below its row."""
_UNITS_IN_FULL = {
    "second": "seconds",
    "millisecond": "milliseconds",
    "microsecond": "microseconds",
    "nanosecond": "nanoseconds",
    "byte": "bytes",
    "page": "pages",
    "percent": "percent",
    "per_second": "per second",
}
_LISTED_SCOPES = {
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
        lead = "" if row.set_by is None else "Set by "
        return f"{lead}{clean(origin, 1000)}."
    return "Nothing that can be seen sets it: a program or a person did." if row.is_default is False else ""


def _page(row: ToldSetting, found: SettingsAnswer) -> list[Block]:
    origin = _set_by(row) if row.exists else ""
    said = (row.meaning or "", _listed_particulars(row), origin)
    return [_list_headline(row, found), Inset(tuple(map(Prose, said)), 2)]


def _list_headline(row: ToldSetting, found: SettingsAnswer) -> Title:
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


def _listed_particulars(row: ToldSetting) -> str:
    if not row.exists:
        return _absence(row)
    parts = [_UNITS_IN_FULL[row.unit]] if row.unit in _UNITS_IN_FULL else []
    default = default_words(row.default, row.default_is)
    if isinstance(row.is_default, Missing) and default is not None:
        parts.append(f"default: {default}")
    parts += [_LISTED_SCOPES[row.scope]] if row.scope in _LISTED_SCOPES else []
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

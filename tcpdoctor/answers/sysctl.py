"""The answer to `explain --sysctl`: a page of the encyclopaedia, and the value here beside it."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.finding import SysctlNumber
from tcpdoctor.answers.knowledge import told_deadline
from tcpdoctor.answers.record import NO_REASONS, Host, Is, Reasons, Seconds, Time, host_of, utc
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.answers.settings import NO_DEFAULT, ToldSource, is_computed_here, told_source, words_of
from tcpdoctor.answers.settings_files import bounds_of, origin_here, read_sources
from tcpdoctor.diagnosis.finding import SeverityName
from tcpdoctor.diagnosis.settings_rules import Warned, only_settings, rules_about, warnings_of
from tcpdoctor.diagnosis.sysctl_look import Origin
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.deadlines import DEADLINE_SYSCTLS, Sysctls, assumed_rto, deadlines_of_sysctl
from tcpdoctor.facts.sysctl_value import NEEDED, value_as_printed
from tcpdoctor.kernel.namespaces import (
    Identity,
    bytes_of_page,
    is_recording,
    moment,
    pages_of_memory,
    read_identity,
)
from tcpdoctor.kernel.reading import Missing, Reading, read_tick
from tcpdoctor.kernel.snapshot import Snapshot, SysctlValue
from tcpdoctor.kernel.sysctl import MACHINE_WIDE, is_setting, may_be_written, read_sysctl, read_sysctls
from tcpdoctor.knowledge.sysctl_pages import SysctlPage, dotted, find_sysctl, unknown_sysctl


class Accepted(NamedTuple):
    """Smallest and largest number that the kernel takes."""

    low: int | None
    high: int | None


class SettingDeadline(NamedTuple):
    """When states end by themselves, as far as this setting has a part in it."""

    states: tuple[str, ...]
    case: str
    ends: Annotated[Reading[bool], Is("false: it never ends by itself; null: that is not known.")]
    low_s: Annotated[Reading[float | None], Is("null as well where it never ends.", minimum=0)]
    high_s: Annotated[Reading[float | None], Is("null as well where it may never end.", minimum=0)]
    text: str
    remark: Annotated[str | None, Is("What a sysctl's value means, where it does not mean what it says.")]
    sysctls: Annotated[tuple[str, ...], Is("What it is computed from.")]
    values: Annotated[Mapping[str, Reading[int]], Is("Those of the sysctls.")]


class RuleSays(NamedTuple):
    """What a rule says of the value that runs."""

    rule: str
    severity: SeverityName
    summary: str


class SysctlAnswer(NamedTuple):
    """What `tcpdoctor explain --sysctl NAME --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.sysctl/1"]
    sysctl: str
    file: str
    host: Host
    taken_at: Time
    exists: Annotated[bool, Is("This kernel has it, in this network namespace or in the initial one.")]
    writable: Annotated[bool | None, Is("Root may write it here.")]
    value: Reading[SysctlNumber]
    printed: Annotated[Reading[str], Is("As the kernel prints it.")]
    in_words: Annotated[Reading[str | None], Is("What it stands for; null where the number says it.")]
    is_default: Reading[bool]
    missing: Reasons
    unit: str
    meaning: str
    governs: str
    does_not: Annotated[str, Is("What it is wrongly expected to do.")]
    beware: str | None
    default: Annotated[str | None, Is("As the kernel prints it; null: computed, or not known.")]
    default_is: Annotated[str | None, Is("How it is computed, or where it differs.")]
    accepts: Annotated[Accepted | None, Is("null: it is no number, or that is not known.")]
    accepts_is: Annotated[str | None, Is("The limits in words, where two numbers do not say it.")]
    values: Annotated[Mapping[str, str], Is("What single values stand for.")]
    scope: str
    since: str | None
    removed: str | None
    instead: str | None
    deadlines: tuple[SettingDeadline, ...]
    assumed_rto_s: Seconds
    see_also: tuple[str, ...]
    findings: Annotated[tuple[RuleSays, ...], Is("What rules say of the value that runs, the worst first.")]
    rules: Annotated[tuple[str, ...], Is("The rules that judge this setting, alone or with others.")]
    set_by: Annotated[ToldSource | None, Is("What sets the value that runs, as far as can be seen.")]
    not_set_by: Annotated[ToldSource | None, Is("What says something else, and has not set it.")]


class SysctlHere(NamedTuple):
    """What was read of one setting here and now."""

    value: Reading[SysctlValue]
    exists: bool
    """Whether this kernel has it, in this namespace or in the initial one."""
    writable: bool | None
    """Whether root may write it here; None where a recording does not tell it."""
    bounds: tuple[int, int] | None
    """Smallest and largest number that the kernel takes, computed for this one."""
    sysctls: Sysctls
    """Those of the deadlines."""
    tick: float
    """Length of a jiffy in seconds."""
    page_size: int
    origin: Origin = Origin(None, None)
    """What set the value, as far as that can be seen."""
    is_computed: bool | None = None
    """Whether the value is what the kernel computes from memory; None where that cannot be told."""
    warnings: tuple[Warned, ...] = ()
    """What rules say of the values that run, the worst first."""
    rules: tuple[str, ...] = ()
    """The rules that judge this setting alone or with others."""


# `tcpdoctor explain --sysctl`: a setting of the kernel, and its value here.


def look_at_sysctl(name: str) -> SysctlAnswer:
    """Return the page of a sysctl and its value here.

    Raises:
        QuestionError: There is no such sysctl.
    """
    page = _find(name)
    rules = load_rules().rules
    below = page.name.replace(".", "/")
    who = read_identity()
    value = read_sysctl(page.name)
    tick = read_tick()
    present = is_setting(below)
    here = SysctlHere(
        value=value,
        exists=present or page.name in MACHINE_WIDE or is_recording(),
        writable=may_be_written(below),
        bounds=bounds_of(page, tick),
        sysctls=read_sysctls(DEADLINE_SYSCTLS),
        tick=tick,
        page_size=bytes_of_page(),
        origin=origin_here(below, value, read_sources()[0], who),
        is_computed=is_computed_here(page.name, value, read_sysctls(NEEDED)),
        warnings=warnings_of(rules, page.name, _running(who)),
        rules=tuple(rule.id for rule in rules_about(rules, page.name)),
    )
    return sysctl_answer(page, who, moment(), here)


def sysctl_answer(page: SysctlPage, who: Identity, taken_at: float, here: SysctlHere) -> SysctlAnswer:
    """Return the answer of a page and what was read on one host."""
    value = here.value
    return SysctlAnswer(
        schema="tcpdoctor.sysctl/1",
        sysctl=page.name,
        file=f"/proc/sys/{page.name.replace('.', '/')}",
        host=host_of(who),
        taken_at=utc(taken_at),
        exists=here.exists,
        writable=here.writable,
        value=value,
        printed=value if isinstance(value, Missing) else value_as_printed(value),
        in_words=words_of(page, value, here.page_size),
        is_default=_is_default(page, here),
        missing=NO_REASONS,
        unit=page.unit,
        meaning=page.meaning,
        governs=page.governs,
        does_not=page.does_not,
        beware=page.beware,
        default=page.default,
        default_is=page.default_is,
        accepts=None if here.bounds is None else Accepted(*here.bounds),
        accepts_is=page.limits_are,
        values=page.values,
        scope=page.scope,
        since=page.since,
        removed=page.removed,
        instead=page.instead,
        deadlines=_deadlines(page.name, here),
        assumed_rto_s=round(assumed_rto(here.sysctls, here.tick), 6),
        see_also=page.see,
        findings=tuple(RuleSays(one.rule, one.severity.key, one.summary) for one in here.warnings),
        rules=here.rules,
        set_by=told_source(here.origin.by),
        not_set_by=told_source(here.origin.later),
    )


def _is_default(page: SysctlPage, here: SysctlHere) -> Reading[bool]:
    if isinstance(here.value, Missing):
        return here.value
    if page.default is not None:
        return value_as_printed(here.value) == page.default
    return NO_DEFAULT if here.is_computed is None else here.is_computed


def _deadlines(name: str, here: SysctlHere) -> tuple[SettingDeadline, ...]:
    found = []
    for states, deadline in deadlines_of_sysctl(name, here.sysctls, here.tick):
        told = told_deadline(deadline, here.sysctls)
        found.append(
            SettingDeadline(
                states=states,
                case=told.case,
                ends=told.ends,
                low_s=told.low_s,
                high_s=told.high_s,
                text=told.text,
                remark=told.remark,
                sysctls=deadline.sysctls,
                values=told.sysctls,
            )
        )
    return tuple(found)


def _running(who: Identity) -> Snapshot:
    """The settings of this kernel, for rules."""
    values, memory = read_sysctls(), pages_of_memory()
    found = only_settings(values, None if isinstance(memory, Missing) else memory, bytes_of_page())
    return found._replace(initial_namespace=who.initial_namespace)


def _find(asked: str) -> SysctlPage:
    """The page; a bare one for a setting of TCP that this kernel has and we do not know."""
    try:
        return find_sysctl(asked)
    except QuestionError:
        name = dotted(asked)
        if name is None or not name.startswith("net.ipv4.tcp_") or isinstance(read_sysctl(name), Missing):
            raise
        return unknown_sysctl(name)

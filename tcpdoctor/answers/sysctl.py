"""The answer to `explain --sysctl`: a page of the encyclopaedia, and the value here beside it."""

import os
import time
from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.answers.settings import is_computed_here
from tcpdoctor.answers.settings_files import bounds_of
from tcpdoctor.diagnosis.settings_rules import Warned, only_settings, rules_about, warnings_of
from tcpdoctor.diagnosis.sysctl_look import Origin
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.state_deadlines import DEADLINE_SYSCTLS, Deadline, assumed_rto, deadlines_of_sysctl
from tcpdoctor.facts.sysctl_value import value_as_printed, value_in_words
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.procfile import read_tick
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Snapshot, SysctlValue
from tcpdoctor.kernel.sysctl import MACHINE_WIDE, PROC_SYS, is_read_only, read_sysctl, read_sysctls
from tcpdoctor.knowledge.sysctl_pages import SysctlPage, dotted, find_sysctl, unknown_sysctl


class SysctlAnswer(NamedTuple):
    """Everything that `explain --sysctl` says."""

    page: SysctlPage
    who: Identity
    taken_at: float
    """Seconds since 1970."""
    value: Reading[SysctlValue]
    exists: bool
    """Whether this kernel has it, in this namespace or in the initial one."""
    writable: bool
    """Whether root may write it here."""
    bounds: tuple[int, int] | None
    """Smallest and largest number that the kernel takes, computed for this one."""
    deadlines: tuple[tuple[tuple[str, ...], Deadline], ...]
    """What it ends here, and when; with the keys of the states."""
    sysctls: Mapping[str, Reading[SysctlValue]]
    """Those of the deadlines."""
    rto: float
    page_size: int
    origin: Origin = Origin(None, None)
    """What set the value, as far as that can be seen."""
    is_computed: bool | None = None
    """Whether the value is what the kernel computes from memory; None where that cannot be told."""
    warnings: tuple[Warned, ...] = ()
    """What rules say of the values that run, the worst first."""
    rules: tuple[str, ...] = ()
    """The rules that judge this setting alone or with others."""


def printed(answer: SysctlAnswer) -> str | None:
    """Return the value as the kernel prints it; None where it was not read."""
    return None if isinstance(answer.value, Missing) else value_as_printed(answer.value)


def in_words(answer: SysctlAnswer) -> str | None:
    """Return what the value stands for; None where the number says it."""
    if isinstance(answer.value, Missing):
        return None
    named = answer.page.values.get(str(answer.value))
    if named is not None:
        return named
    return value_in_words(answer.page.name, answer.page.unit, answer.value, answer.page_size)


def is_default(answer: SysctlAnswer) -> bool | None:
    """Return whether the value is the kernel's default; None where that is computed or not known."""
    if isinstance(answer.value, Missing):
        return None
    if answer.page.default is None:
        return answer.is_computed
    return printed(answer) == answer.page.default


# `tcpdoctor explain --sysctl`: a setting of the kernel, and its value here.


def look_at_sysctl(name: str) -> SysctlAnswer:
    """Return the page of a sysctl and its value here.

    Raises:
        QuestionError: There is no such sysctl.
    """
    from tcpdoctor.answers.settings_files import origin_here, read_sources  # which imports this module

    page = _find(name)
    rules = load_rules().rules
    below = page.name.replace(".", "/")
    path = os.path.join(PROC_SYS, below)
    who = read_identity()
    value = read_sysctl(page.name)
    sysctls = read_sysctls(DEADLINE_SYSCTLS)
    tick = read_tick()
    present = os.path.exists(path)
    return SysctlAnswer(
        page=page,
        who=who,
        taken_at=time.time(),
        value=value,
        exists=present or page.name in MACHINE_WIDE,
        writable=present and bool(os.stat(path).st_mode & 0o222) and not is_read_only(),
        bounds=bounds_of(page, tick),
        deadlines=tuple(deadlines_of_sysctl(page.name, sysctls, tick)),
        sysctls=sysctls,
        rto=assumed_rto(sysctls, tick),
        page_size=os.sysconf("SC_PAGE_SIZE"),
        origin=origin_here(below, value, read_sources()[0], who),
        is_computed=is_computed_here(page.name, value),
        warnings=warnings_of(rules, page.name, _running(who)),
        rules=tuple(rule.id for rule in rules_about(rules, page.name)),
    )


def _running(who: Identity) -> Snapshot:
    """The settings of this kernel, for rules."""
    values = read_sysctls()
    found = only_settings(values, os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE"))
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

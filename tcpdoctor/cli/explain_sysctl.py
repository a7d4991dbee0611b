"""`tcpdoctor explain --sysctl`: a setting of the kernel, and its value here."""

import os
import struct
import time

from tcpdoctor.cli.output import Output, emit, style_of
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.state_deadlines import DEADLINE_SYSCTLS, assumed_rto, deadlines_of_sysctl
from tcpdoctor.kernel.live import read_identity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl import MACHINE_WIDE, PROC_SYS, read_sysctl, read_sysctls
from tcpdoctor.kernel.tick import read_tick
from tcpdoctor.knowledge.sysctl_pages import Bound, SysctlPage, dotted, find_sysctl, unknown_sysctl
from tcpdoctor.report.sysctl import SysctlAnswer

_LIMITS: dict[str, int] = {
    "INT_MIN": -(2**31),
    "INT_MAX": 2**31 - 1,
    "UINT_MAX": 2**32 - 1,
    "ULONG_MAX": (1 << 8 * struct.calcsize("L")) - 1,
}


def answer_sysctl(name: str, output: Output) -> None:
    """Explain the sysctl that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such sysctl.
    """
    answer = look_at_sysctl(name)
    if output.format == "json":
        import json

        from tcpdoctor.report.sysctl_json import sysctl_json

        emit(json.dumps(sysctl_json(answer), indent=1, allow_nan=False), output)
    else:
        from tcpdoctor.report.sysctl_text import sysctl_text

        emit(sysctl_text(answer, style_of(output)), output)


def look_at_sysctl(name: str) -> SysctlAnswer:
    """Return the page of a sysctl and its value here.

    Raises:
        QuestionError: There is no such sysctl.
    """
    from tcpdoctor.cli.sysctl_sources import origin_here, read_sources  # which imports this module

    page = _find(name)
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
        writable=present and bool(os.stat(path).st_mode & 0o222),
        bounds=bounds_of(page, tick),
        deadlines=tuple(deadlines_of_sysctl(page.name, sysctls, tick)),
        sysctls=sysctls,
        rto=assumed_rto(sysctls, tick),
        page_size=os.sysconf("SC_PAGE_SIZE"),
        origin=origin_here(below, value, read_sources()[0], who),
    )


def _find(asked: str) -> SysctlPage:
    """The page; a bare one for a setting of TCP that this kernel has and we do not know."""
    try:
        return find_sysctl(asked)
    except QuestionError:
        name = dotted(asked)
        if name is None or not name.startswith("net.ipv4.tcp_") or isinstance(read_sysctl(name), Missing):
            raise
        return unknown_sysctl(name)


def bounds_of(page: SysctlPage, tick: float) -> tuple[int, int] | None:
    """Return the smallest and largest number that the kernel takes, computed for this one.

    Args:
        page: Of the sysctl.
        tick: Seconds between two ticks of the kernel.
    """
    if page.limits is None:
        return None
    low, high = (_bound(limit, round(1 / tick)) for limit in page.limits)
    return None if low is None or high is None else (low, high)


def _bound(limit: Bound, jiffies_per_second: int) -> int | None:
    if isinstance(limit, int):
        return limit
    negative, text = limit.startswith("-"), limit.removeprefix("-")
    name, slash, _ = text.partition("/")
    if name in _LIMITS:
        number = _LIMITS[name] // jiffies_per_second if slash else _LIMITS[name]
        return -number if negative else number
    value = read_sysctl(text)
    return value if isinstance(value, int) else None

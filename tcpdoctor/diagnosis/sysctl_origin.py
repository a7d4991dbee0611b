"""Who set a running value: a line of a file of settings, TuneD's profile, the kernel's command line.

In the order of a boot: the kernel's command line (``sysctl.net.ipv4.x=1``), then the files, then TuneD, then
with its ``reapply_sysctl`` the files of /run, /etc and /etc/sysctl.conf once more. The last one that says
what runs is taken for the owner.

Source: Linux Documentation/admin-guide/kernel-parameters.txt (sysctl.*=); TuneD 2.20, plugin_sysctl.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.diagnosis.sysctl_order import Write
from tcpdoctor.facts.sysctl_value import is_same, printed_numbers
from tcpdoctor.kernel.tuned import Tuned


class Source(NamedTuple):
    """One place that sets a value."""

    kind: str
    """``file``, ``tuned`` or ``command line``."""
    file: str
    line: int | None
    value: str
    profile: str | None = None
    """TuneD's active profile."""


class Origin(NamedTuple):
    """Where a running value comes from, as far as can be seen."""

    by: Source | None
    """The source that says what runs; None where none does."""
    later: Source | None
    """A source that comes after it (or, without one, the last there is) and says something else."""


class Sources(NamedTuple):
    """All places that set values, in the order of a boot."""

    command_line: Mapping[str, str]
    """By place below /proc/sys."""
    files: Sequence[Mapping[str, Write]]
    """What stays of the files, by reader: systemd-sysctl, then procps."""
    tuned: Tuned | None
    reapplied: Mapping[str, Source]
    """What TuneD applies again of the files, by place below /proc/sys."""


def origin(path: str, running: str, sources: Sources) -> Origin:
    """Return where the running value of a setting comes from.

    Args:
        path: Below /proc/sys.
        running: What it holds.
        sources: All that set something.
    """
    later: Source | None = None
    for alternatives in reversed(tuple(_stages(path, running, sources))):
        agreeing = next((source for source in alternatives if is_same(source.value, running)), None)
        if agreeing is not None:
            return Origin(agreeing, later)
        later = later or next(iter(alternatives), None)
    return Origin(None, later)


def _stages(path: str, running: str, sources: Sources) -> Iterable[tuple[Source, ...]]:
    if path in sources.command_line:
        yield (Source("command line", "/proc/cmdline", None, sources.command_line[path]),)
    writes = [last[path] for last in sources.files if path in last]
    if writes:
        yield tuple(Source("file", write.by.file, write.by.line.number, write.value) for write in writes)
    tuned = sources.tuned
    if tuned is None:
        return
    setting = tuned.settings.get(path)
    if setting is not None and _is_written(setting.bound, setting.value, running):
        yield (Source("tuned", setting.file, setting.line, setting.value, tuned.profile),)
    if tuned.reapplies and path in sources.reapplied:
        yield (sources.reapplied[path],)


def _is_written(bound: str, value: str, running: str) -> bool:
    """Whether a bounded setting (``>2048``) can have been written: then it is what runs, or nothing was."""
    if not bound or is_same(value, running):
        return True
    wanted, held = printed_numbers(value), printed_numbers(running)
    if wanted is None or held is None:
        return True
    return held < wanted if bound == ">" else held > wanted

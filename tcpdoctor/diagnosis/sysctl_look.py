"""Everything that the lint of settings judges: files as both readers take them, and this kernel's values."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.facts.sysctl_value import is_same, printed_numbers
from tcpdoctor.facts.value import Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sysctl import Held
from tcpdoctor.kernel.sysctl_files import Line, Lines, Reader, SettingsFile, Skipped
from tcpdoctor.kernel.tuned import Tuned

# What is known of a setting whatever this host holds: from the encyclopaedia, for pure judgements.


class Known(NamedTuple):
    """One setting that has a page; the plain one stands for all that have none."""

    unit: str | None = None
    """As `facts.sysctl_facts` has it; None for a setting that this program knows nothing of."""
    bounds: tuple[int, int] | None = None
    """Smallest and largest number that the kernel takes; None where that is not known."""
    size: int | None = None
    """How many numbers it holds; None where it is no number or that is not known."""
    scope: str = "namespace"
    """As `knowledge.sysctl_pages` has it: ``namespace``, ``initial``, ``shared`` or ``machine``."""
    removed: str | None = None
    """The first kernel without it; ``never there`` for a name that kernel.org never had."""
    instead: str | None = None
    since: str | None = None
    """The kernel that brought it, ``6.15``; None where it was always there or that is not known."""
    modes: frozenset[int] = frozenset()
    """Numbers that stand for something, where the kernel takes others and is asked for one; else empty."""
    acts_as: str | None = None
    """What another positive one acts as: ``2, loose: back by any interface``."""
    harms: Mapping[str, str] = {}
    """As `knowledge.sysctl_pages` has it."""


UNKNOWN = Known()


# What each setting is in the end, of several files that set it: as a reader of files applies them.
#
# Both readers collect all files first and write afterwards, in the order of the lines; a glob writes to
# what it stands for except to what some line names exactly, wherever that line is. They differ in what they
# keep:
#
# - systemd-sysctl keeps one line for each key, the last; if the kernel refuses its value, nothing is
# written. An exclusion (``-key``) takes the place of an assignment of the same key, and the other way
# round. - procps writes every line in turn, so a value that the kernel takes stays where a later one is
# refused. An exclusion only keeps globs away.
#
# Source: systemd 252, src/sysctl/sysctl.c (parse_file, apply_all); procps 4.0.2, src/sysctl.c
# (write_setting_list, settinglist_findpath).


Accepts = Callable[[str, str], bool]
"""Whether the kernel takes a value for a place below /proc/sys."""


class Placed(NamedTuple):
    """A line, and the file that it is in."""

    file: str
    line: Line


class Write(NamedTuple):
    """One value that a reader writes."""

    path: str
    """The place below /proc/sys, in one form."""
    value: str
    by: Placed


def writes(
    lines: Iterable[Placed], reader: Reader, matches: Mapping[str, Sequence[str]]
) -> dict[str, list[Write]]:
    """Return what a reader writes to each place below /proc/sys, in order; the last comes last.

    Args:
        lines: All lines of all its files, in its order.
        reader: Whose rules count.
        matches: For each glob, the places that it stands for.
    """
    kept = _one_each(lines) if reader is Reader.SYSTEMD else tuple(lines)
    named = {placed.line.path for placed in kept}
    done: dict[str, list[Write]] = {}
    for placed in kept:
        line = placed.line
        if line.path is None or line.value is None or line.refused:
            continue
        places = [line.target]
        if line.is_glob:
            places = [place for place in matches.get(line.path, ()) if place not in named]
        for place in places:
            done.setdefault(place, []).append(Write(place, line.value, placed))
    return done


def winner(all_writes: Sequence[Write], accepts: Accepts) -> Write | None:
    """Return the write whose value stays; None where the kernel refuses every one."""
    return next((write for write in reversed(all_writes) if accepts(write.path, write.value)), None)


def winners(done: Mapping[str, Sequence[Write]], accepts: Accepts) -> dict[str, Write]:
    """Return for each place the write whose value stays; places where all are refused are left out."""
    found = {path: winner(all_writes, accepts) for path, all_writes in done.items()}
    return {path: write for path, write in found.items() if write is not None}


def _one_each(lines: Iterable[Placed]) -> tuple[Placed, ...]:
    """systemd-sysctl's table: the last line of each key, but an equal one does not move to the end."""
    table: dict[str, Placed] = {}
    for placed in lines:
        line = placed.line
        if line.path is None:
            continue
        before = table.get(line.path)
        if before is not None and before.line.value == line.value:
            continue
        table.pop(line.path, None)
        table[line.path] = placed
    return tuple(table.values())


class Fault(NamedTuple):
    """One thing that is wrong, or worth knowing, at one place."""

    check: str
    """The name of the check: one of `sysctl_checks.CHECKS`, or a rule's."""
    severity: Severity
    file: str
    line: int | None
    """None where the file as a whole is meant."""
    key: str | None
    """The setting, dotted; None where the line has none."""
    what: str
    """What is wrong, in one sentence or two."""
    do: str
    """What to do about it."""
    sources: tuple[str, ...] = ()
    """What the check rests on."""


class Listening(NamedTuple):
    """A port of this host that a program listens on."""

    port: int
    local: str
    """The address and port: ``0.0.0.0:40000``."""


ALIASES = {
    "net/ipv4/ip_forward": "net/ipv4/conf/all/forwarding",
    "net/nf_conntrack_max": "net/netfilter/nf_conntrack_max",
}
"""Two names of one variable of the kernel.

Source: Linux net/ipv4/devinet.c (ctl_forward_entry), net/netfilter/nf_conntrack_standalone.c.
"""


class Look(NamedTuple):
    """What was read, by reader where the two differ."""

    files: tuple[SettingsFile, ...]
    """Every file, each once."""
    lines: Mapping[Reader, Mapping[str, Lines]]
    """By reader, then by the path of the file."""
    done: Mapping[Reader, Mapping[str, list[Write]]]
    """By reader, then by place below /proc/sys: what is written, in order."""
    last: Mapping[Reader, Mapping[str, Write]]
    """By reader, then by place below /proc/sys: the write whose value stays."""
    matches: Mapping[str, tuple[str, ...]] = {}
    """For each glob, the places that it stands for."""
    known: Mapping[str, Known] = {}
    """By place below /proc/sys."""
    held: Mapping[str, Held] = {}
    """What this kernel holds, by place below /proc/sys; nothing where the files are another system's."""
    is_here: bool = True
    """Whether the files are this system's, so that the kernel's values belong to them."""
    is_initial: bool = True
    """Whether this network namespace is the one that files of settings are applied to at boot."""
    not_applied: frozenset[str] = frozenset()
    """Files that were named and that nothing applies at boot."""
    unread_last: bool = False
    """Whether /etc/sysctl.conf is there and systemd-sysctl does not read it."""
    last_path: str = ""
    skipped: tuple[Skipped, ...] = ()
    listeners: Reading[tuple[Listening, ...]] = ()
    memory_pages: int | None = None
    """Pages of memory of the machine; None where that is not known."""
    page_size: int = 4096
    options: frozenset[str] = frozenset()
    """Names of socket options, in lower case: people take them for settings."""
    is_read_only: bool = False
    """Whether settings are mounted read-only here, so that nothing can be applied from inside."""
    running: Mapping[str, Reading[SysctlValue]] = {}
    """What settings of TCP hold, by dotted name; of another system, the kernel's defaults."""
    fresh: Mapping[str, Value] = {}
    """Defaults of this kernel as facts (``default.net.core.somaxconn``), as a fresh namespace has them."""
    rules: tuple[Rule, ...] = ()
    """All that are in force; those about settings are judged on what files would set."""

    def settings(self) -> Iterator[Write]:
        """Every write that stays for at least one of the readers, each line once for each place."""
        seen: set[Write] = set()
        for reader in Reader:
            for write in self.last.get(reader, {}).values():
                if write not in seen:
                    seen.add(write)
                    yield write

    def place_of(self, write: Write) -> tuple[int, int]:
        """Where a write stands among all: the number of its file, and of its line."""
        numbers = {file.path: number for number, file in enumerate(self.files)}
        return numbers.get(write.by.file, len(numbers)), write.by.line.number

    def every_line(self) -> Iterator[tuple[str, Line]]:
        """Every line that means something, with its file; what both readers read alike comes once."""
        for file in self.files:
            seen: set[tuple[int, str, str | None]] = set()
            for reader in Reader:
                for line in self.lines.get(reader, {}).get(file.path, Lines(())).lines:
                    key = (line.number, line.target if line.path is not None else "", line.value)
                    if key not in seen:
                        seen.add(key)
                        yield file.path, line

    def will_be(self, path: str) -> str | None:
        """What a setting is after boot: as files say, else what it holds; None where that is not known."""
        for reader in Reader:
            write = self.last.get(reader, {}).get(path)
            if write is not None:
                return write.value
        value = self.held[path].value if path in self.held else None
        return None if isinstance(value, Missing) else value

    def known_of(self, path: str) -> Known:
        """What is known of a setting."""
        return self.known.get(re.sub("(?<=/conf/)[^/]+(?=/(?:rp_filter|arp_ignore)$)", "all", path), UNKNOWN)


# Who set a running value: a line of a file of settings, TuneD's profile, the kernel's command line.
#
# In the order of a boot: the kernel's command line (``sysctl.net.ipv4.x=1``), then the files, then TuneD,
# then with its ``reapply_sysctl`` the files of /run, /etc and /etc/sysctl.conf once more. The last one that
# says what runs is taken for the owner.
#
# Source: Linux Documentation/admin-guide/kernel-parameters.txt (sysctl.*=); TuneD 2.20, plugin_sysctl.py.


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
    computed: Source | None = None
    for alternatives in reversed(tuple(_stages(path, running, sources))):
        agreeing = next((source for source in alternatives if is_same(source.value, running)), None)
        if agreeing is not None:
            return Origin(agreeing, later)
        later = later or next(iter(alternatives), None)
        computed = computed or next((source for source in alternatives if "${" in source.value), None)
    return Origin(computed, later)  # TuneD alone knows what it makes of that, and nobody else says what runs


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

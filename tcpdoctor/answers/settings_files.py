"""The answer to `sysctl lint`, and what `sysctl show` reads too: files of settings as both readers do."""

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.record import Count, Host, Is, Time, host_of, utc
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.finding import Severity, SeverityName
from tcpdoctor.diagnosis.settings_rules import checks_of
from tcpdoctor.diagnosis.sysctl_checks import CHECKS, Check, refusal
from tcpdoctor.diagnosis.sysctl_lint import Linted, lint_settings, worst
from tcpdoctor.diagnosis.sysctl_look import (
    UNKNOWN,
    Fault,
    Known,
    Listening,
    Look,
    Origin,
    Placed,
    Source,
    Sources,
    Write,
    origin,
    winners,
    writes,
)
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.sysctl_value import printed_numbers, value_as_printed
from tcpdoctor.facts.value import Value
from tcpdoctor.kernel.namespaces import Identity, is_initial_namespace, is_recording, moment, read_identity
from tcpdoctor.kernel.reading import Missing, Reading, Refused, read_tick
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sockets import read_listeners
from tcpdoctor.kernel.sysctl import (
    Held,
    is_read_only,
    look_at,
    matching,
    parse_sysctl,
    read_fresh,
    read_sysctl,
    read_sysctls,
)
from tcpdoctor.kernel.sysctl_files import (
    Lines,
    Reader,
    SettingsFile,
    Tree,
    dotted,
    read_boot_settings,
    read_given,
    read_lines,
    read_own_tree,
    read_tree,
)
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.tuned import read_reapplied, read_tuned
from tcpdoctor.knowledge.option_pages import option_names
from tcpdoctor.knowledge.sysctl_pages import Bound, SysctlPage, all_pages

# `tcpdoctor explain --sysctl`: a setting of the kernel, and its value here.


_LIMITS: dict[str, int] = {
    "INT_MIN": -(2**31),
    "INT_MAX": 2**31 - 1,
    "UINT_MAX": 2**32 - 1,
    "ULONG_MAX": (1 << 8 * struct.calcsize("L")) - 1,
}


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


_TRIPLES = ("net.ipv4.tcp_mem", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.udp_mem")


class Applied(NamedTuple):
    """Files of settings as both readers apply them."""

    lines: Mapping[Reader, Mapping[str, Lines]]
    matches: Mapping[str, tuple[str, ...]]
    done: Mapping[Reader, Mapping[str, list[Write]]]
    last: Mapping[Reader, Mapping[str, Write]]
    held: Mapping[str, Held]
    known: Mapping[str, Known]


def look_at_tree(root: str = "/") -> Look:
    """Read the files of a system, and this kernel where the system is this one.

    Raises:
        QuestionError: The root is no folder.
    """
    tree = read_tree(root)
    is_here = os.path.realpath(root) == "/"
    return _look_at(tree, root, is_here=is_here, links_last=tree.links_last())


def _look_at_recorded() -> Look:
    """Read the files of a recording, whose values say too little of what its kernel has to judge them by.

    Raises:
        QuestionError: It has none.
    """
    tree = read_own_tree()
    if isinstance(tree, Missing):
        raise QuestionError(
            f"files of settings: {tree.reason}, only a sosreport has them; "
            "check --from judges values, sysctl show --changed --from lists them"
        )
    if tree.last is not None and any(file.content == tree.last.content for file in tree.files):
        tree = tree._replace(last=None)  # the folder's file is a link to it, as Debian has it
    return _look_at(tree, "/", is_here=False, links_last=False)


def _look_at(tree: Tree, root: str, *, is_here: bool, links_last: bool) -> Look:
    files = tree.files if tree.last is None or links_last else (*tree.files, tree.last)
    applied = apply_files({reader: tree.of(reader) for reader in Reader}, is_here=is_here)
    return _look(files, applied, is_here=is_here)._replace(
        unread_last=not links_last and _is_unread(tree, applied),
        last_path=os.path.join(root, "etc/sysctl.conf"),
        skipped=tree.skipped,
    )


def look_at_files(paths: Sequence[str]) -> Look:
    """Read files that the user named, in that order, and this kernel.

    Raises:
        QuestionError: One cannot be read.
    """
    files = read_given(paths)
    return _look(files, apply_files(dict.fromkeys(Reader, files)))._replace(not_applied=_not_applied(files))


def _not_applied(files: Sequence[SettingsFile]) -> frozenset[str]:
    """Those of the files that are none of this system's."""
    try:
        tree = read_tree()
    except QuestionError:
        return frozenset()
    own = {os.path.realpath(file.path) for file in tree.of(Reader.PROCPS)}
    return frozenset(file.path for file in files if os.path.realpath(file.path) not in own)


def apply_files(order: Mapping[Reader, Sequence[SettingsFile]], *, is_here: bool = True) -> Applied:
    """Return what both readers make of their files; globs and refusals only count on this kernel."""
    lines = {
        reader: {
            file.path: read_lines(file.content, reader) for file in files if isinstance(file.content, bytes)
        }
        for reader, files in order.items()
    }
    placed = {
        reader: [
            Placed(file.path, line)
            for file in files
            for line in lines[reader].get(file.path, Lines(())).lines
        ]
        for reader, files in order.items()
    }
    every = [item.line for items in placed.values() for item in items if item.line.path is not None]
    globs = {line.path for line in every if line.is_glob and not line.leads_out}
    matches = {glob: matching(glob) for glob in globs if glob is not None} if is_here else {}
    done = {reader: writes(items, reader, matches) for reader, items in placed.items()}
    paths = {path for each in done.values() for path in each}
    paths |= {line.target for line in every if not line.leads_out}
    known = known_settings({*paths, *_RELATED})
    held = {path: look_at(path) for path in paths} if is_here else {}

    def accepts(path: str, value: str) -> bool:
        reading: Reading[str] = held[path].value if path in held else Missing("not looked at")
        return refusal(path, value, known.get(path, UNKNOWN), reading) is None

    last = {reader: winners(each, accepts) for reader, each in done.items()}
    return Applied(lines, matches, done, last, held, known)


def known_settings(paths: Iterable[str]) -> Mapping[str, Known]:
    """Return what the encyclopaedia has of settings, by place below /proc/sys; the others are left out."""
    pages, tick = all_pages(), read_tick()
    names = {path: dotted(path) for path in paths}
    return {path: _known(pages[name], tick) for path, name in names.items() if name in pages}


def _known(page: SysctlPage, tick: float) -> Known:
    numbers = printed_numbers(page.default or "")
    size = len(numbers) if numbers else 3 if page.name in _TRIPLES else 1 if page.limits else None
    since = page.since if page.since and page.since.replace(".", "").isdigit() else None
    known = Known(page.unit, bounds_of(page, tick), size, page.scope, page.removed, page.instead, since)
    known = known._replace(harms=page.harms)
    if page.others is None:
        return known
    acts_as = f"{page.others}, {page.values[page.others]}"
    return known._replace(modes=frozenset(map(int, page.values)), acts_as=acts_as)


def _look(files: tuple[SettingsFile, ...], applied: Applied, *, is_here: bool = True) -> Look:
    initial = is_initial_namespace()
    return Look(
        files=files,
        lines=applied.lines,
        done=applied.done,
        last=applied.last,
        matches=applied.matches,
        known=applied.known,
        held=_with_related(applied.held) if is_here else {},
        is_here=is_here,
        is_initial=initial if isinstance(initial, bool) else True,
        listeners=_listening() if is_here else (),
        memory_pages=os.sysconf("SC_PHYS_PAGES") if is_here else None,
        page_size=os.sysconf("SC_PAGE_SIZE"),
        options=frozenset(name.lower() for name in option_names()),
        is_read_only=is_here and is_read_only(),
        running=read_sysctls() if is_here else _usual_values(),
        fresh=fresh_defaults() if is_here else {},
        rules=load_rules().rules,
    )


def fresh_defaults() -> Mapping[str, Value]:
    """Return defaults of this kernel as facts, where a fresh namespace tells them."""
    found = read_fresh(_OWN_OF_EACH)
    return {f"default.{name}": value for name, value in found.items() if isinstance(value, int)}


_OWN_OF_EACH = (
    "net.core.somaxconn",
    "net.core.optmem_max",
    "net.ipv4.tcp_limit_output_bytes",
    "net.ipv4.tcp_max_tw_buckets",
)
"""Settings with a default of interest that a new namespace does not take over from the initial one."""


def _usual_values() -> Mapping[str, Reading[SysctlValue]]:
    """Return what settings hold where nobody has changed them, as far as that is the same everywhere."""
    return {
        name: parse_sysctl(name, page.default, "the page of it")
        for name, page in all_pages().items()
        if page.default is not None and page.removed is None
    }


_RELATED = (
    "net/ipv4/tcp_syncookies",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/tcp_available_congestion_control",
)
"""What a setting's sense hangs on, whether or not a file names it."""


def _with_related(held: Mapping[str, Held]) -> Mapping[str, Held]:
    return {**{path: look_at(path) for path in _RELATED if path not in held}, **held}


def _listening() -> Reading[tuple[Listening, ...]]:
    found = read_listeners()
    if isinstance(found, Missing):
        return found
    return tuple(Listening(listener.local.port, str(listener.local)) for listener in found)


def _is_unread(tree: Tree, applied: Applied) -> bool:
    """Whether /etc/sysctl.conf sets something, and systemd-sysctl does not read it."""
    if tree.last is None:
        return False
    lines = applied.lines[Reader.PROCPS].get(tree.last.path, Lines(())).lines
    return any(line.path is not None and line.value is not None for line in lines)


def nearby_names(look: Look) -> tuple[str, ...]:
    """Return the dotted names that a misspelt one may have meant: all pages', and this kernel's beside it."""
    names = {name: None for name, page in all_pages().items() if page.removed is None}
    folders = {os.path.dirname(path) for path, held in look.held.items() if not held.exists}
    for folder in sorted(folders):
        names.update(dict.fromkeys(dotted(path) for path in matching(f"{folder}/*")))
    return tuple(names)


# What sets values of sysctls on this host: files of settings, TuneD's profile, the kernel's command line.


_NOT_RECORDED = "what TuneD and the kernel's command line set: it is not in the recording"


def read_sources() -> tuple[Sources, tuple[str, ...]]:
    """Return all that sets values on this host, and what of it could not be looked at."""
    tree = read_own_tree()
    if isinstance(tree, Missing):
        return Sources({}, [{} for _ in Reader], None, {}), (f"the files that set values: {tree.reason}",)
    applied = apply_files({reader: tree.of(reader) for reader in Reader}, is_here=not is_recording())
    files = [applied.last[reader] for reader in Reader]
    if is_recording():
        return Sources({}, files, None, {}), (_NOT_RECORDED,)
    tuned = read_tuned()
    unseen = [
        f"{clean(file.path, 300)}: {file.content.reason}"
        for file in tree.of(Reader.PROCPS)
        if isinstance(file.content, Refused)
    ]
    reapplied = {}
    if isinstance(tuned, Missing):
        unseen.append(f"TuneD's profile: {tuned.reason}")
        tuned = None
    elif tuned is not None:
        unseen += [f"TuneD's profile {each}" for each in tuned.missing]
        reapplied = {each.path: Source("file", each.file, each.line, each.value) for each in read_reapplied()}
    return Sources(read_boot_settings(), files, tuned, reapplied), tuple(unseen)


def origin_here(path: str, value: Reading[SysctlValue], sources: Sources, who: Identity) -> Origin:
    """Return what set a value at a place below /proc/sys, as far as that can be seen."""
    if isinstance(value, Missing):
        return Origin(None, None)
    found = origin(path, value_as_printed(value), sources)
    if found.by is None and who.initial_namespace is False:
        return Origin(None, None)  # files are applied to the initial namespace: there is no wonder
    return found


_LONGEST = 4096


class FaultCounts(NamedTuple):
    """How many faults there are of each severity."""

    info: Count
    warning: Count
    critical: Count


class LintedFile(NamedTuple):
    """One file that was looked at."""

    path: str
    read: bool
    missing: Annotated[str | None, Is("Why nothing was read from it.")]
    mask: Annotated[bool, Is("Whether it is a link to /dev/null, which hides files of its name.")]
    hides: Annotated[tuple[str, ...], Is("Files of the same name in later folders, which nobody reads.")]


class LintFault(NamedTuple):
    """One thing that is wrong, or worth knowing, at one place."""

    check: str
    severity: SeverityName
    file: str
    line: Annotated[int | None, Is("Null where the file as a whole is meant.", minimum=0)]
    sysctl: str | None
    what: str
    do: str
    sources: Annotated[tuple[str, ...], Is("What the check rests on.")]


class NotLinted(NamedTuple):
    """Something that could not be looked at."""

    what: str
    reason: str


class SettingsLint(NamedTuple):
    """Everything that `sysctl lint` says."""

    schema: Literal["tcpdoctor.sysctl-lint/1"]
    host: Host
    taken_at: Time
    exit_code: Literal[0, 1, 2, 3]
    summary: FaultCounts
    files: tuple[LintedFile, ...]
    faults: tuple[LintFault, ...]
    unchecked: tuple[NotLinted, ...]


def lint_these(
    files: Sequence[str], root: str | None, fail_on: Severity | None
) -> tuple[SettingsLint, tuple[Check, ...]]:
    """Judge these files, or those of a system; with every check that there is.

    Args:
        files: That the user named; none for those of a system.
        root: Of the system; None for this one, or that of the recording that is asked.
        fail_on: The least severity that changes the exit code; None for none.

    Raises:
        QuestionError: A file or the root cannot be read, or both were given.
    """
    if files and root is not None:
        raise QuestionError(
            "--root takes no files: it looks at those of a whole system; leave one of the two out"
        )
    if is_recording():
        if files or root is not None:
            raise QuestionError("--from is asked about the recording's own files; leave FILE and --root out")
        look = _look_at_recorded()
    else:
        look = look_at_files(files) if files else look_at_tree(root or "/")
    linted = lint_settings(look, nearby_names(look))
    answer = settings_lint(linted, look, read_identity(), moment(), fail_on)
    return answer, (*CHECKS.values(), *checks_of(look.rules).values())


def settings_lint(
    linted: Linted, look: Look, who: Identity, taken_at: float, fail_on: Severity | None
) -> SettingsLint:
    """Return the finished answer; names of files and settings are safe to show."""
    counts = [sum(fault.severity is severity for fault in linted.faults) for severity in Severity]
    return SettingsLint(
        schema="tcpdoctor.sysctl-lint/1",
        host=host_of(who),
        taken_at=utc(taken_at),
        exit_code=_exit_code(linted, fail_on),
        summary=FaultCounts(*counts),
        files=tuple(map(_linted_file, look.files)),
        faults=tuple(map(_lint_fault, linted.faults)),
        unchecked=tuple(NotLinted(clean(each.what, _LONGEST), each.reason) for each in linted.unchecked),
    )


def _exit_code(linted: Linted, fail_on: Severity | None) -> Literal[0, 1, 2]:
    """The codes of the monitoring plugins, as those of `check`."""
    found = worst(linted)
    if fail_on is None or found is None or found < max(fail_on, Severity.WARNING):
        return 0
    return 2 if found is Severity.CRITICAL else 1


def _linted_file(file: SettingsFile) -> LintedFile:
    return LintedFile(
        path=clean(file.path, _LONGEST),
        read=not isinstance(file.content, Missing),
        missing=file.content.reason if isinstance(file.content, Missing) else None,
        mask=file.mask,
        hides=tuple(clean(path, _LONGEST) for path in file.hides),
    )


def _lint_fault(fault: Fault) -> LintFault:
    return LintFault(
        check=fault.check,
        severity=fault.severity.key,
        file=clean(fault.file, _LONGEST),
        line=fault.line,
        sysctl=None if fault.key is None else clean(fault.key, _LONGEST),
        what=fault.what,
        do=fault.do,
        sources=fault.sources,
    )

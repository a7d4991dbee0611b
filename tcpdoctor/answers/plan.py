"""The plan of `tcpdoctor fix` as every answer has it, and the look at what sets the settings of it."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated

from tcpdoctor.answers.finding import SysctlNumber
from tcpdoctor.answers.record import Is
from tcpdoctor.answers.settings import ToldSetting, look_at_settings
from tcpdoctor.answers.settings_files import apply_files
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.diagnosis.plan import (
    RESERVED_PORTS,
    Plan,
    PlanGround,
    SettingChange,
    make_plan,
    setting_text,
)
from tcpdoctor.diagnosis.sysctl_look import Source, Sources, origin
from tcpdoctor.facts.sysctl_value import is_same, value_as_printed
from tcpdoctor.kernel.boot_lines import BootLine, boot_line, put_lines
from tcpdoctor.kernel.cgroups import runs_pods
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.kernel.sysctl_files import FOLDERS, Reader, SettingsFile, Tree, read_boot_settings, read_tree
from tcpdoctor.kernel.tuned import Tuned, read_reapplied, read_tuned
from tcpdoctor.kernel.udp import read_udp_sockets
from tcpdoctor.named_tuples import NamedTuple

SYSCTL_FOLDER = "/etc/sysctl.d"
BOOT_FILE = "60-tcpdoctor.conf"


class PlannedChange(NamedTuple):
    """One setting that is to be changed."""

    key: str
    now: Annotated[SysctlNumber, Is("What it holds.")]
    value: Annotated[SysctlNumber, Is("What it shall hold.")]
    rules: Annotated[tuple[str, ...], Is("Those that ask for it.")]
    computed: Annotated[str, Is("How the value came about, in one sentence.")]
    persist: Annotated[str, Is("A line for a file of /etc/sysctl.d.")]
    set_by: Annotated[
        str | None, Is("What set the value that runs; null: the kernel's default, or it cannot be seen.")
    ]
    conflict: Annotated[
        str | None, Is("Which rules ask for something else, or what would win at the next boot.")
    ]
    risk: str
    verify: tuple[str, ...]
    undo: tuple[str, ...]
    boot: Annotated[str | None, Is("What becomes of it at the next boot, where that is not the line alone.")]
    overridden: Annotated[
        bool, Is("Something else would win at the next boot, so that it is not applied but for this boot.")
    ]
    applied: Annotated[bool, Is("tcpdoctor fix has made this change, or taken it back.")] = False


class PlannedAdvice(NamedTuple):
    """What is to be done about a finding in a program, or by hand."""

    rule: str
    subject: str
    title: str
    do: str


class LeftUndone(NamedTuple):
    """What is not in the plan, or is still found after it, and why."""

    rule: str | None
    subject: str
    why: str


class ToldPlan(NamedTuple):
    """A plan as it is told."""

    changes: tuple[PlannedChange, ...]
    advice: tuple[PlannedAdvice, ...]
    left: tuple[LeftUndone, ...]
    needs: Mapping[str, str]
    """By setting, the one without whose change it must not be changed."""


def asks_for_settings(findings: Sequence[Finding]) -> bool:
    """Whether a plan may have changes: at least one finding has a fix that writes a setting."""
    return any(fix.sysctl is not None for finding in findings for fix in finding.fixes)


def plan_of(
    findings: Sequence[Finding],
    snapshot: Snapshot,
    *,
    here: bool,
    only: frozenset[str] | None = None,
    folder: str | None = SYSCTL_FOLDER,
) -> ToldPlan:
    """Make a plan for findings, and look what sets its settings on this host and at its next boot.

    Args:
        findings: Of one network namespace.
        snapshot: The same.
        here: Whether that is the namespace of the calling thread: else nothing more is looked at.
        only: As `make_plan`.
        folder: Where the lines for the next boot would go; None: nowhere.
    """
    plan = make_plan(findings, _ground(snapshot, here=here), only)
    if not here:
        return told_plan(plan, {}, {}, snapshot)
    names = [change.key for change in plan.changes]
    settings = (
        {each.sysctl: each for each in look_at_settings(names, only_changed=False).sysctls} if names else {}
    )
    wins = overrides_at_boot(plan.changes, folder) if folder is not None and names else {}
    return told_plan(plan, settings, wins, snapshot)


def _ground(snapshot: Snapshot, *, here: bool) -> PlanGround:
    reserved = snapshot.sysctls.get(RESERVED_PORTS, Missing(f"{RESERVED_PORTS} was not read"))
    return PlanGround(
        servers=_servers(snapshot, here=here),
        reserved=reserved
        if isinstance(reserved, Missing)
        else value_as_printed(reserved)
        if reserved
        else "",
        kubernetes=here and runs_pods(),
        initial=snapshot.initial_namespace,
    )


def _servers(snapshot: Snapshot, *, here: bool) -> Reading[frozenset[int]]:
    """Local ports of servers: TCP listeners, and where that can be asked UDP sockets without a peer."""
    if isinstance(snapshot.listeners, Missing):
        return snapshot.listeners
    ports = {listener.local.port for listener in snapshot.listeners}
    if here:
        sockets = read_udp_sockets()
        if isinstance(sockets, Missing):
            return sockets
        ports |= {socket.local.port for socket in sockets if not socket.remote.port}
    return frozenset(ports)


def told_plan(
    plan: Plan, settings: Mapping[str, ToldSetting], wins: Mapping[str, str], snapshot: Snapshot
) -> ToldPlan:
    """Return a plan as it is told.

    Args:
        plan: What is to be done.
        settings: What is known of its settings, by name.
        wins: By setting, what sets it to something else at the next boot.
        snapshot: Of the host.
    """
    changes = tuple(
        _told_change(change, settings.get(change.key), wins.get(change.key), snapshot)
        for change in plan.changes
    )
    return ToldPlan(
        changes,
        tuple(PlannedAdvice(*each) for each in plan.advice),
        tuple(LeftUndone(each.rule, each.subject, each.why) for each in plan.left),
        {change.key: change.needs for change in plan.changes if change.needs is not None},
    )


def _told_change(
    change: SettingChange, setting: ToldSetting | None, wins: str | None, snapshot: Snapshot
) -> PlannedChange:
    value = setting_text(change.value)
    before = setting_text(change.now)
    rules = " ".join(change.rules)
    conflict = "; ".join(part for part in (change.conflict, wins) if part)
    return PlannedChange(
        key=change.key,
        now=change.now,  # type: ignore[arg-type]  # JSON's values of settings
        value=change.value,  # type: ignore[arg-type]
        rules=change.rules,
        computed=change.computed,
        persist=boot_line(change.key, value),
        set_by=None if setting is None else _setter(setting),
        conflict=conflict or None,
        risk=change.risk,
        verify=(f"sysctl -n {change.key}   # {value}", f"tcpdoctor check {rules}"),
        undo=("tcpdoctor fix --undo", write_command(change.key, before)),
        boot=_at_boot(change.key, snapshot),
        overridden=wins is not None,
    )


def write_command(key: str, value: str) -> str:
    """Return the command that writes a setting; an empty list of ports is one blank for sysctl(8)."""
    return f"sysctl -w {key}={value}" if value and " " not in value else f"sysctl -w {key}='{value or ' '}'"


def _setter(setting: ToldSetting) -> str | None:
    by = setting.set_by
    if by is None:
        is_other = setting.is_default is False
        return "no file that is read at boot: a program, or somebody by hand" if is_other else None
    where = by.file or ""
    where += f" line {by.line}" if by.line is not None else ""
    if by.kind == "tuned":
        return f"TuneD's profile {by.profile} ({where})"
    return "the kernel's command line" if by.kind == "command line" else where


def _at_boot(key: str, snapshot: Snapshot) -> str | None:
    if key.startswith("net.netfilter.") and snapshot.initial_namespace is not False:
        return (
            "Its module is mostly loaded after the files are read, and the line then does nothing: "
            "echo nf_conntrack >> /etc/modules-load.d/tcpdoctor.conf"
        )
    return None


# who wins at the next boot


def overrides_at_boot(changes: Sequence[SettingChange], folder: str) -> Mapping[str, str]:
    """Return, by setting, what would set it to something else at the next boot than our line.

    Args:
        changes: Whose lines go into our file of `folder`.
        folder: Where our file is; of one that is not read at boot nothing is said.
    """
    if folder.strip("/") not in FOLDERS:
        return {}
    ours = os.path.join(folder, BOOT_FILE)
    lines = [BootLine(each.key, boot_line(each.key, setting_text(each.value))) for each in changes]
    tree = _with_ours(read_tree(), ours, lines)
    applied = apply_files({reader: tree.of(reader) for reader in Reader})
    tuned = read_tuned()
    tuned = None if isinstance(tuned, Missing) else tuned
    files = [applied.last[reader] for reader in Reader]
    sources = Sources(read_boot_settings(), files, tuned, _reapplied(tuned, ours, changes))
    found: dict[str, str] = {}
    for change in changes:
        path, value = change.key.replace(".", "/"), setting_text(change.value)
        winner = _other_winner(path, value, sources)
        if winner is not None:
            found[change.key] = f"at the next boot {_called(winner)} sets it to {winner.value}"
    return found


def _other_winner(path: str, value: str, sources: Sources) -> Source | None:
    """What sets something else in the end: by one of the readers of files, or after them."""
    for last in sources.files:
        write = last.get(path)
        if write is not None and not is_same(write.value, value):
            return Source("file", write.by.file, write.by.line.number, write.value)
    return origin(path, value, sources).later


def _called(source: Source) -> str:
    where = source.file if source.line is None else f"{source.file} line {source.line}"
    return f"TuneD's profile {source.profile} ({where})" if source.kind == "tuned" else where


def _with_ours(tree: Tree, path: str, lines: Sequence[BootLine]) -> Tree:
    """The files as they will be once our lines are among them."""
    before = next((file for file in tree.files if file.path == path), None)
    content = before.content if before is not None and isinstance(before.content, bytes) else b""
    ours = SettingsFile(path, BOOT_FILE, put_lines(content, lines))
    others = [file for file in tree.files if file.name != BOOT_FILE]
    return tree._replace(files=tuple(sorted([*others, ours], key=lambda file: os.fsencode(file.name))))


def _reapplied(tuned: Tuned | None, ours: str, changes: Sequence[SettingChange]) -> Mapping[str, Source]:
    """What TuneD applies of the files after its own settings, our lines among them."""
    if tuned is None:
        return {}
    found: dict[str, Source] = {}
    own = {
        each.key.replace(".", "/"): Source("file", ours, None, setting_text(each.value)) for each in changes
    }
    placed = False
    for each in read_reapplied():
        if each.file == ours:
            continue
        if not placed and (each.file == "/etc/sysctl.conf" or os.path.basename(each.file) > BOOT_FILE):
            found |= own
            placed = True
        found[each.path] = Source("file", each.file, each.line, each.value)
    return found if placed else found | own

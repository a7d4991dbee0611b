"""What `fix` answers, and its plan: with what sets its settings now, and what would win at the next boot."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from tcpdoctor.answers.planned import (
    LeftUndone,
    PlannedAdvice,
    PlannedChange,
    ToldPlan,
    bare_plan,
    write_command,
)
from tcpdoctor.answers.record import Host, Is, Time, utc
from tcpdoctor.answers.settings import ToldSetting, look_at_settings
from tcpdoctor.answers.settings_files import Applied, apply_files
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.diagnosis.plan import RESERVED_PORTS, Plan, SettingChange
from tcpdoctor.diagnosis.sysctl_look import ALIASES, Source, Sources, Write, origin
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.sysctl_value import is_same, value_as_printed
from tcpdoctor.kernel.fix_journal import BootLine, boot_line, put_lines
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.kernel.sysctl import is_read_only
from tcpdoctor.kernel.sysctl_files import FOLDERS, Reader, SettingsFile, Tree, read_boot_settings, read_tree
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.tuned import Tuned, read_reapplied, read_tuned
from tcpdoctor.named_tuples import NamedTuple

SYSCTL_FOLDER = "/etc/sysctl.d"
BOOT_FILE = "60-tcpdoctor.conf"


class FixAnswer(NamedTuple):
    """What `tcpdoctor fix --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.fix/1"]
    host: Host
    state: Annotated[
        Literal["planned", "pending", "kept", "undone", "failed"],
        Is("planned: nothing was changed; pending: changed, and undone unless somebody confirms."),
    ]
    changes: Annotated[tuple[PlannedChange, ...], Is("In the order in which they are made.")]
    advice: tuple[PlannedAdvice, ...]
    left: Annotated[tuple[LeftUndone, ...], Is("What was not done, or is still found, and why.")]
    taken_at: Time
    reason: Annotated[str | None, Is("Why it is in this state, in one sentence; null: as was asked.")]
    file: Annotated[str | None, Is("Where the lines for the next boot are, or would go; null: nowhere.")]


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
    plan = bare_plan(findings, snapshot, here=here, only=only)
    if not here:
        return told_plan(plan, {}, {}, snapshot)
    names = [change.key for change in plan.changes]
    settings = (
        {each.sysctl: each for each in look_at_settings(names, only_changed=False).sysctls} if names else {}
    )
    wins = overrides_at_boot(plan.changes, folder) if folder is not None and names else {}
    return told_plan(plan, settings, wins, snapshot)


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
    value = value_as_printed(change.value)
    before = value_as_printed(change.now)
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
        owned=None if setting is None else setting.set_by is not None,
        settled=change.settled,
        harmless=change.harmless,
    )


def setter_of(key: str) -> str | None:
    """Say what has set the value that a setting holds; None where that cannot be seen."""
    try:
        (setting,) = look_at_settings([key], only_changed=False).sysctls
    except (QuestionError, ValueError):
        return None  # it is gone
    return _setter(setting)


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
    lines = [BootLine(each.key, boot_line(each.key, value_as_printed(each.value))) for each in changes]
    tree = _with_ours(read_tree(), ours, lines)
    order = {reader: tree.of(reader) for reader in Reader}
    applied = apply_files(order)
    tuned = read_tuned()
    tuned = None if isinstance(tuned, Missing) else tuned
    files = [applied.last[reader] for reader in Reader]
    sources = Sources(read_boot_settings(), files, tuned, _reapplied(tuned, ours, changes))
    found: dict[str, str] = {}
    for change in changes:
        path, value = change.key.replace(".", "/"), value_as_printed(change.value)
        for reader in Reader:
            why = _kept_from(path, value, order[reader], applied, reader)
            if why is not None:
                found.setdefault(change.key, f"{_WHEN[reader]} {why}")
        winner = origin(path, value, sources).later
        if winner is not None:
            shown = clean(winner.value, 100)
            found.setdefault(change.key, f"at the next boot {_called(winner)} sets it to {shown}")
    return found


_WHEN = {Reader.SYSTEMD: "at the next boot", Reader.PROCPS: "at the next boot, or by sysctl --system,"}


def _kept_from(
    path: str, value: str, files: Sequence[SettingsFile], applied: Applied, reader: Reader
) -> str | None:
    """What of the files one reader applies instead of our line; None where ours counts."""
    write = applied.last[reader].get(path)
    names = {path, *(alias for pair in ALIASES.items() if path in pair for alias in pair)}
    for other in names - {path}:
        write = _later(write, applied.last[reader].get(other), files)
    if write is not None:
        if is_same(write.value, value):
            return None
        return f"{clean(write.by.file, 300)} line {write.by.line.number} sets it to {clean(write.value, 100)}"
    lines = applied.lines[reader]
    for file in reversed(files):
        for line in reversed(lines[file.path].lines if file.path in lines else ()):
            if line.path is not None and line.target in names:
                what = "keeps it from being set" if line.value is None else "has a value that is refused"
                return f"{clean(file.path, 300)} line {line.number} {what}"
    return None


def _later(one: Write | None, other: Write | None, files: Sequence[SettingsFile]) -> Write | None:
    """Which of two writes comes last."""
    places = {file.path: number for number, file in enumerate(files)}
    found = [write for write in (one, other) if write is not None]
    return max(found, key=lambda write: (places[write.by.file], write.by.line.number), default=None)


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
        each.key.replace(".", "/"): Source("file", ours, None, value_as_printed(each.value))
        for each in changes
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


# as `fix` tells it


def planned_answer(
    plan: ToldPlan, snapshot: Snapshot, file: str | None, untold: Mapping[str, int] | None = None
) -> FixAnswer:
    """Return a plan as an answer; nothing is changed.

    Args:
        plan: What is to be done.
        snapshot: Of the host.
        file: Where the lines for the next boot go.
        untold: By rule, how many findings there are besides those that the plan is made for.
    """
    return FixAnswer(
        schema="tcpdoctor.fix/1",
        host=Host(snapshot.host, snapshot.kernel, str(snapshot.namespace), snapshot.namespace_name),
        state="planned",
        changes=plan.changes,
        advice=plan.advice,
        left=(*plan.left, *_beyond(plan, untold or {})),
        taken_at=utc(snapshot.taken_at),
        reason=None,
        file=file,
    )


READ_ONLY = "/proc/sys is mounted read-only here, as in most containers; do it on the host"


def _beyond(plan: ToldPlan, untold: Mapping[str, int]) -> list[LeftUndone]:
    """What cannot be done from here, or yet: findings of one rule are told up to a number."""
    if plan.changes and is_read_only():
        return [LeftUndone(None, "--apply", READ_ONLY)]
    rules = {rule for change in plan.changes if change.key == RESERVED_PORTS for rule in change.rules}
    return [
        LeftUndone(rule, "", f"{number:,} more ports: run it again once these are reserved")
        for rule, number in untold.items()
        if rule in rules
    ]

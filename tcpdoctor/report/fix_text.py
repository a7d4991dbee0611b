"""`fix` for people, and as what a shell, sysctl.d and Ansible take."""

import json
from collections.abc import Iterable, Sequence

from tcpdoctor.answers.plan import FixAnswer
from tcpdoctor.answers.planned import PlannedAdvice, PlannedChange, write_command
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.finding_page import change_blocks, change_lines, change_words, setting_words
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import (
    LABEL,
    Block,
    Command,
    Fields,
    Item,
    Items,
    Prose,
    Row,
    Section,
    Verdict,
    typed,
)
from tcpdoctor.report.style import Style

_STATES = {
    "planned": "PLAN",
    "pending": "PENDING",
    "kept": "KEPT",
    "undone": "UNDONE",
    "failed": "FAILED",
}


class FixWords(NamedTuple):
    """What has to be typed to do, or to undo, what an answer tells of."""

    apply: str = "tcpdoctor fix --apply"
    """Empty where that is being asked already."""
    undo: str = "tcpdoctor fix --undo"
    long: bool = False
    """Whether all is told of each change."""


def fix_page(answer: FixAnswer, style: Style, words: FixWords) -> list[Block]:
    """Return the plan, or what became of it, as blocks: what changes, what else to do, how it is undone."""
    blocks: list[Block] = [Verdict(_STATES[answer.state], _verdict(answer))]
    if answer.reason:
        blocks.append(Prose(answer.reason))
    if answer.state == "planned" and answer.reason:
        return blocks
    if answer.state == "planned" and words.long:
        blocks += [block for change in answer.changes for block in change_blocks(change, style)]
    elif answer.changes and answer.state == "planned":
        blocks.append(
            Section(
                "",
                tuple(
                    block
                    for change in answer.changes
                    for block in change_lines(change, lasts=not _would_not_last(change, answer))
                ),
            )
        )
    elif answer.changes:
        blocks.append(Section("", (Items(tuple(_made(change, answer) for change in answer.changes)),)))
    blocks += _advice(answer, style, long=words.long)
    if answer.left:
        items = tuple(Item(each.why, each.rule or each.subject) for each in answer.left)
        blocks.append(Section("Not done", (Items(items),)))
    return blocks + _ending(answer, style, words)


def _verdict(answer: FixAnswer) -> str:
    whole = len(answer.changes)
    lasting = sum(not _would_not_last(change, answer) for change in answer.changes)
    made = sum(change.applied for change in answer.changes)
    said = {
        "planned": f"{plural(lasting, 'setting')} to change; nothing is changed yet"
        if answer.changes
        else "no setting to change",
        "pending": f"{plural(whole, 'setting')} changed, and undone unless somebody confirms",
        "kept": f"{plural(whole, 'setting')} changed"
        if made == whole
        else f"{made} of {whole} settings changed",
        "undone": "as it was before, but for what is named below"
        if answer.left
        else "all is as it was before",
        "failed": "not all is undone" if made else "nothing of it is kept",
    }[answer.state]
    return f"{answer.host.name}: {said}"


def _would_not_last(change: PlannedChange, answer: FixAnswer) -> bool:
    """Whether it is not applied, because something else wins at the next boot, which is to be survived."""
    return change.overridden and answer.file is not None


def _made(change: PlannedChange, answer: FixAnswer) -> Item:
    """A change and whether it is in force."""
    kept = answer.state == "kept" and change.applied
    lost = answer.state == "kept" and not change.applied
    lost = lost or (answer.state == "failed" and not change.applied)
    lost = lost or (answer.state == "undone" and any(each.setting == change.key for each in answer.left))
    boot = (Prose(change.boot, "next boot"),) if kept and answer.file is not None and change.boot else ()
    taken_back = answer.state == "undone" and not change.applied and not lost
    how = " (undone)" if taken_back else " (not changed)" if lost else ""
    return Item(f"{change_words(change)}{how}", blocks=boot)


_MOST_ALIKE = 3


def _advice(answer: FixAnswer, style: Style, *, long: bool) -> list[Block]:
    """What is to be done in programs; the same for several subjects is said once, in short one of a rule."""
    planned = {rule for change in answer.changes for rule in change.rules}
    alike: dict[tuple[str, str], list[PlannedAdvice]] = {}
    for each in answer.advice:
        alike.setdefault((each.rule, each.title), []).append(each)
    items: dict[str, list[Item]] = {_ALONE: [], _BESIDES: []}
    told: set[str] = set()
    for (rule, title), group in alike.items():
        if rule in told and not long:
            continue
        told.add(rule)
        named = ", ".join(dict.fromkeys(each.whom or each.subject for each in group[:_MOST_ALIKE]))
        more = f" and {len(group) - _MOST_ALIKE:,} more" if len(group) > _MOST_ALIKE else ""
        lines = tuple(map(style.asks, group[0].commands[: None if long else 1]))
        said = Item(
            f"{title} ({rule})", f"{named}{more}", blocks=(Command(lines, close=True),) if lines else ()
        )
        items[_BESIDES if rule in planned else _ALONE].append(said)
    return [Section(title, (Items(tuple(each)),)) for title, each in items.items() if each]


_ALONE, _BESIDES = "What no setting mends", "Better still, in programs"

NO_FILE = "They end with this boot, or with their network namespace: nothing is written to a file."


def _ending(answer: FixAnswer, style: Style, words: FixWords) -> list[Block]:
    """How it is done, and undone."""
    rows: list[Row] = []
    planned, kept = (bool(answer.changes) and answer.state == state for state in ("planned", "kept"))
    for_now = planned and all(_would_not_last(change, answer) for change in answer.changes)
    if planned:
        apply = f"{words.apply} --runtime-only" if for_now else words.apply
        rows += [("apply", typed([style.asks(apply)], style))] if words.apply else []
        rows.append(("then", "it looks again, asks, and undoes all of it unless you say y"))
    if planned or kept:
        rows.append(("undo", typed([style.asks(words.undo)], style)))
        later = ", written once you confirm" if planned else ""
        rows.append(("lasts", _NOWHERE if answer.file is None or for_now else f"by {answer.file}{later}"))
    if planned and not words.long:
        rows.append(("more", "--long: how each was computed, what set it, how to verify it"))
    if answer.advice:
        more = f"{style.asks('tcpdoctor check RULE')}: a finding and its remedies in full"
        rows.append(("" if rows and rows[-1][0] == "more" else "more", more))
    return [Section("", (Fields(tuple(rows), LABEL),))] if rows else []


_NOWHERE = "until the next boot or the namespace's end; no file is written"


# as others take it


def fix_shell(answer: FixAnswer) -> str:
    """Return the plan as a script of sh, which sets the values at once."""
    lines = ["#!/bin/sh", *_head(answer), "set -eu", ""]
    for change in answer.changes:
        lines += [*_remarks(change), write_command(change.key, value_as_printed(change.value))]
        lines += [f"# undo: {change.undo[-1]}", ""]
    if answer.changes and answer.file is not None:
        lines += ["# To keep it, these lines go into /etc/sysctl.d/60-tcpdoctor.conf:"]
        lines += [f"# {change.persist}" for change in answer.changes]
    return _text(lines)


def fix_sysctl_d(answer: FixAnswer) -> str:
    """Return the plan as a file of settings, for /etc/sysctl.d/60-tcpdoctor.conf."""
    lines = [*_head(answer), ""]
    for change in answer.changes:
        lines += [*_remarks(change), change.persist, ""]
    return _text(lines)


def fix_ansible(answer: FixAnswer) -> str:
    """Return the plan as tasks of Ansible; ansible.posix is needed."""
    lines = ["---", *_head(answer), ""]
    for change in answer.changes:
        lines += [
            *_remarks(change),
            f"- name: {json.dumps(f'Set {change.key}')}",
            "  ansible.posix.sysctl:",
            f"    name: {json.dumps(change.key)}",
            f"    value: {json.dumps(value_as_printed(change.value))}",
            "    sysctl_file: /etc/sysctl.d/60-tcpdoctor.conf",
            "    sysctl_set: true",
            "    reload: false",
            "    state: present",
            "  become: true",
            "",
        ]
    return _text(lines if answer.changes else [*lines, "[]"])


def _head(answer: FixAnswer) -> list[str]:
    number = plural(len(answer.changes), "setting")
    inside = [f"# {line}" for line in _filled(NO_FILE)] if answer.file is None else []
    return [f"# tcpdoctor fix: {number} of {answer.host.name}, {answer.taken_at}", *inside]


def _remarks(change: PlannedChange) -> list[str]:
    """What somebody has to know who reads the lines alone, as comments of one line each."""
    said = [
        f"{change.key}: {setting_words(change.now)} here; {', '.join(change.rules)}",
        *([f"set by {change.set_by}"] if change.set_by else []),
        *([f"conflict: {change.conflict}"] if change.conflict else []),
        *([f"next boot: {change.boot}"] if change.boot else []),
        f"risk: {change.risk}",
    ]
    return [f"# {line}" for part in said for line in _filled(part)]


def _filled(text: str) -> Iterable[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > _COMMENT:
            yield line
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    yield line


_COMMENT = 78


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


FORMS = {"shell": fix_shell, "sysctl.d": fix_sysctl_d, "ansible": fix_ansible}
"""What `--as` knows besides text."""

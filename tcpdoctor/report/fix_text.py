"""`fix` for people, and as what a shell, sysctl.d and Ansible take."""

import json
from collections.abc import Iterable, Sequence

from tcpdoctor.answers.fix import FixAnswer
from tcpdoctor.answers.planned import PlannedAdvice, PlannedChange, write_command
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Command, Item, Items, Prose, Section, Verdict
from tcpdoctor.report.plan_text import change_blocks, value_words
from tcpdoctor.report.style import Style

_STATES = {
    "planned": "PLAN",
    "pending": "PENDING",
    "kept": "KEPT",
    "undone": "UNDONE",
    "failed": "FAILED",
}


def fix_page(answer: FixAnswer, style: Style) -> list[Block]:
    """Return the plan, or what became of it, as blocks."""
    blocks: list[Block] = [Verdict(_STATES[answer.state], _verdict(answer))]
    if answer.reason:
        blocks.append(Prose(answer.reason))
    if answer.state == "planned" and answer.reason:
        return blocks
    if answer.state == "planned":
        blocks += [block for change in answer.changes for block in change_blocks(change)]
    elif answer.changes:
        blocks.append(Section("", (Items(tuple(_made(change, answer) for change in answer.changes)),)))
    blocks += _advice(answer.advice)
    if answer.left:
        items = tuple(Item(each.why, each.rule or each.subject) for each in answer.left)
        blocks.append(Section("Left", (Items(items),)))
    return blocks + _ending(answer, style)


def _verdict(answer: FixAnswer) -> str:
    number = plural(len(answer.changes), "setting")
    said = {
        "planned": f"{number} to change; nothing is changed yet"
        if answer.changes
        else "no setting to change",
        "pending": f"{number} changed, and undone unless somebody confirms",
        "kept": f"{number} changed",
        "undone": "all is as it was before",
        "failed": "not all was changed",
    }[answer.state]
    return f"{answer.host.name}: {said}"


def _made(change: PlannedChange, answer: FixAnswer) -> Item:
    """A change and whether it is in force."""
    not_made = " (not changed)" if answer.state == "kept" and not change.applied else ""
    return Item(f"{change.key}: {value_words(change.now)} -> {value_words(change.value)}{not_made}")


_MOST_ALIKE = 3


def _advice(advice: Sequence[PlannedAdvice]) -> list[Block]:
    """What is to be done in programs; the same for several subjects is said once."""
    alike: dict[tuple[str, str], list[PlannedAdvice]] = {}
    for each in advice:
        alike.setdefault((each.rule, each.title), []).append(each)
    items = []
    for (rule, title), group in alike.items():
        named = ", ".join(dict.fromkeys(each.subject for each in group[:_MOST_ALIKE]))
        more = f" and {len(group) - _MOST_ALIKE:,} more" if len(group) > _MOST_ALIKE else ""
        items.append(Item(f"{title} ({rule})", f"{named}{more}"))
    return [Section("In programs, or by hand", (Items(tuple(items)),))] if items else []


NO_FILE = "They end with this boot, or with their network namespace: nothing is written to a file."


def _ending(answer: FixAnswer, style: Style) -> list[Block]:
    blocks: list[Block] = []
    if answer.changes and answer.file is None and answer.state != "undone":
        blocks.append(Section("", (Prose(NO_FILE),)))
    command = {"planned": "tcpdoctor fix --apply", "kept": "tcpdoctor fix --undo"}.get(answer.state)
    if answer.changes and command is not None:
        what = {
            "planned": "Sets them, looks again, and undoes them unless somebody confirms:",
            "kept": "Takes them back, at any later time:",
        }[answer.state]
        blocks += [Section("", (Prose(what), Command((style.asks(command),), close=True)))]
    return blocks


# as others take it


def fix_shell(answer: FixAnswer) -> str:
    """Return the plan as a script of sh, which sets the values at once."""
    lines = ["#!/bin/sh", *_head(answer), "set -eu", ""]
    for change in answer.changes:
        lines += [*_remarks(change), write_command(change.key, _plain(change.value))]
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
            f"    value: {json.dumps(_plain(change.value))}",
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
        f"{change.key}: {value_words(change.now)} here; {', '.join(change.rules)}",
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


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


FORMS = {"shell": fix_shell, "sysctl.d": fix_sysctl_d, "ansible": fix_ansible}
"""What `--as` knows besides text."""

"""What a finding says, as paragraphs and commands: the same in every format that can show both."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Finding, Fix, SysctlFix, Unchecked
from tcpdoctor.report.check_text import MOST_ALIKE, how_to_keep, setting_words


class Block(NamedTuple):
    """A paragraph, or a command to be copied whole."""

    text: str
    is_command: bool = False
    label: str = ""
    """``Risk``, ``Verify``, ``Undo``: what it is for."""


class Alike(NamedTuple):
    """The findings of one rule: they share what the rule has to say."""

    shown: Sequence[Finding]
    """At least one, at most MOST_ALIKE."""
    more: int


def blocks_of(text: str) -> list[Block]:
    """Split prose: empty lines part paragraphs, lines that are indented are commands."""
    blocks: list[Block] = []
    joinable = False
    for line in text.strip("\n").splitlines():
        if line.startswith(("    ", "\t")):
            before = blocks[-1] if blocks and blocks[-1].is_command and joinable else None
            if before is None:
                blocks.append(Block(line.strip(), is_command=True))
            else:
                blocks[-1] = before._replace(text=f"{before.text}\n{line.strip()}")
            joinable = True
        elif line.strip() and joinable and not blocks[-1].is_command:
            blocks[-1] = blocks[-1]._replace(text=f"{blocks[-1].text} {line.strip()}")
        elif line.strip():
            blocks.append(Block(line.strip()))
            joinable = True
        else:
            joinable = False
    return blocks


def fix_blocks(fix: Fix) -> list[Block]:
    """Return what to do, its risk, how to verify it and how to undo it."""
    blocks = blocks_of(fix.prose)
    blocks += command_blocks(fix.commands) if fix.sysctl is None else _setting_blocks(fix.sysctl)
    blocks.append(Block(fix.risk, label="Risk"))
    blocks += command_blocks(fix.verify_commands, "Verify") or [Block(fix.verify.strip(), label="Verify")]
    if fix.undo:
        blocks += command_blocks(fix.undo_commands, "Undo") or [Block(fix.undo.strip(), label="Undo")]
    return blocks


def command_blocks(commands: Sequence[str], label: str = "") -> list[Block]:
    """Return one block of all these commands; none where there are none."""
    return [Block("\n".join(commands), is_command=True, label=label)] if commands else []


def _setting_blocks(sysctl: SysctlFix) -> list[Block]:
    where = "this network namespace only" if sysctl.applies_to == "namespace" else "the whole machine"
    here = f"{sysctl.name}: {setting_words(sysctl.current)} here"
    if sysctl.command is None:
        return [Block(f"{here}; which value to set could not be computed ({where})")]
    return [
        Block(f"{here}, set {setting_words(sysctl.value)} ({where})"),
        Block(sysctl.command, is_command=True),
        Block(how_to_keep(sysctl.name)),
        Block(sysctl.persist, is_command=True),
    ]


def grouped(findings: Iterable[Finding]) -> Iterator[Alike]:
    """Group findings by rule, in the order of the worst of each."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.rule, []).append(finding)
    for group in groups.values():
        yield Alike(group[:MOST_ALIKE], max(0, len(group) - MOST_ALIKE))


def reasons_of(unchecked: Iterable[Unchecked]) -> Mapping[str, Sequence[str]]:
    """Return the rules that were not answered by the reason; those that do not apply come last."""
    groups: dict[tuple[bool, str], list[str]] = {}
    for rule in unchecked:
        groups.setdefault((not rule.applies, rule.reason), []).append(rule.rule)
    return {
        ("does not apply here: " if inapplicable else "") + reason: list(dict.fromkeys(rules))
        for (inapplicable, reason), rules in sorted(groups.items(), key=lambda group: group[0][0])
    }

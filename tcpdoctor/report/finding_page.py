"""What a finding, a fix and a plan for one setting say, as blocks: the same in text, Markdown and HTML."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tcpdoctor.diagnosis.finding import Finding, Fix, SysctlFix, Unchecked
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.facts.value import SECOND, show
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import (
    Block,
    Command,
    Evidence,
    Fields,
    Headline,
    Inset,
    Item,
    Items,
    More,
    Prose,
    Section,
    Title,
    listed,
)
from tcpdoctor.report.style import PLAIN, Style

if TYPE_CHECKING:  # most hosts have none
    from tcpdoctor.answers.ages import TooEarly
    from tcpdoctor.answers.planned import PlannedChange

MOST_ALIKE = 10
"""Findings of one rule that are shown one by one."""


class FindingPage(NamedTuple):
    """A finding, in the order in which somebody needs it who has to act."""

    act: tuple[Block, ...]
    """What it is, what was measured, what to do and what does not help."""
    know: tuple[Block, ...]
    """Why, what it costs, when it is normal, where to read on."""


class Alike(NamedTuple):
    """The findings of one rule: they share what the rule has to say."""

    shown: Sequence[Finding]
    """At least one, at most MOST_ALIKE."""
    more: int
    """How many there are besides."""
    untold: int = 0
    """How many of these the diagnosis holds no more of than their number."""


def grouped(findings: Iterable[Finding], untold: Mapping[str, int] | None = None) -> list[Alike]:
    """Group findings by rule, in the order of the worst of each; of a rule there may be `untold` more."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.rule, []).append(finding)
    beyond = untold or {}
    return [
        Alike(group[:MOST_ALIKE], max(0, len(group) - MOST_ALIKE) + beyond.get(rule, 0), beyond.get(rule, 0))
        for rule, group in groups.items()
    ]


def pages_of(alike: Alike, style: Style = PLAIN) -> list[FindingPage]:
    """Return a page per finding that is shown; the prose that they share stands in the first one only."""
    first, *others = alike.shown
    return [finding_page(first, style=style), *(finding_page(one, first, style) for one in others)]


def more_words(alike: Alike) -> str:
    """Say how many findings of a rule are not shown, and where they are; empty where there are none."""
    if not alike.more:
        return ""
    told = len(alike.shown) + alike.more - alike.untold
    where = "--format json has them all"
    if alike.untold:
        where = f"--format json has the {told} worst (most_subjects in man tcpdoctor-rules is how many)"
    return f"... and {plural(alike.more, 'finding')} more of {alike.shown[0].rule}; {where}"


def finding_page(finding: Finding, like: Finding | None = None, style: Style = PLAIN) -> FindingPage:
    """Return one finding; `like` is an earlier one of the same rule that already explained it.

    Of the style only the network namespace matters that hints have to ask.
    """
    act: list[Block] = [
        Headline(finding.severity.key, finding.label, finding.title, finding.headline),
        Prose(finding.summary),
    ]
    if finding.evidence:
        rows = tuple((item.fact, item.shown, item.source) for item in finding.evidence)
        act.append(Section("Evidence", (Evidence(rows),), folded=like is not None))
    as_above = like is not None and [fix.title for fix in finding.fixes] == [fix.title for fix in like.fixes]
    if as_above and like is not None:
        above = f"What to do, and what does not help: as for {like.label} above."
        act.append(Prose(above, quoted=like.label, apart=True))
    else:
        act += _advice(finding, style)
    know: list[Block] = []
    if like is None or finding.explanation != like.explanation:
        know.append(Section("Why", (Prose(finding.explanation),), run_in=True))
    if like is None or finding.impact != like.impact:
        know.append(Section("Cost", (Prose(finding.impact),), run_in=True))
    if not as_above:
        know += [block._replace(folded=True) for block in listed("Normal when", finding.normal_when)]
        know.append(More(style.asks(f"tcpdoctor explain --rule {finding.rule} --long")))
    return FindingPage(tuple(act), tuple(know))


def sources(finding: Finding) -> tuple[Section, ...]:
    """Return where the claims of a finding come from."""
    return tuple(
        block._replace(folded=True)
        for block in listed(
            "Where this comes from", (f"{one.claim}: {one.source}" for one in finding.references)
        )
    )


def _advice(finding: Finding, style: Style) -> list[Block]:
    fixes = tuple(Item("", fix.title, fix.kind, tuple(fix_blocks(fix, style))) for fix in finding.fixes)
    wrong = tuple(Item(item.why, item.title) for item in finding.wrong_fixes)
    return [
        *([Section("What to do", (Items(fixes, numbered=True),))] if fixes else []),
        *([Section("What does not help", (Items(wrong),))] if wrong else []),
    ]


def fix_blocks(fix: Fix, style: Style) -> list[Block]:
    """Return what to do, its risk, how to verify it and how to undo it."""
    commands, verify, undo = (
        tuple(map(style.asks, each)) for each in (fix.commands, fix.verify_commands, fix.undo_commands)
    )
    blocks: list[Block] = [Prose(fix.prose)] if fix.prose else []
    blocks += [Command(commands)] if fix.sysctl is None and commands else []
    blocks += [] if fix.sysctl is None else _setting_blocks(fix.sysctl, style)
    blocks.append(Prose(fix.risk, "Risk"))
    blocks += instruction("Verify", fix.verify, verify)
    return blocks + (instruction("Undo", fix.undo, undo) if fix.undo else [])


def instruction(label: str, text: str, commands: Sequence[str]) -> list[Block]:
    """Return what is to be typed, or else what is to be done; nothing where nothing is known."""
    if commands:
        return [Command(tuple(commands), label)]
    return [Prose(text.strip(), label)] if text.strip() else []


def _setting_blocks(sysctl: SysctlFix, style: Style) -> list[Block]:
    """Return what a sysctl is and what it shall be; no command where the value could not be computed."""
    where = "this network namespace only" if sysctl.applies_to == "namespace" else "the whole machine"
    here = f"{sysctl.name}: {setting_words(sysctl.current)} here"
    if sysctl.command is None:
        return [Prose(f"{here}; which value to set could not be computed ({where})")]
    return [
        Prose(f"{here}, set {setting_words(sysctl.value)} ({where})"),
        Command((style.asks(sysctl.command),), close=True),
        *(
            keeping(sysctl.name, sysctl.persist)
            if style.is_host or sysctl.applies_to != "namespace"
            else [Prose(_NO_FILE_SETS_IT)]
        ),
    ]


_NO_FILE_SETS_IT = (
    "It lasts as long as this namespace. Files of sysctl.d are the host's: to keep it, whoever makes the "
    "namespace sets it (docker run --sysctl, sysctls: of Compose, securityContext.sysctls of a pod)."
)


def keeping(name: str, line: str) -> list[Block]:
    """Return where the line of a setting has to stand to be there after a boot."""
    return [Prose(how_to_keep(name)), Command((line,), close=True)]


_OF_MODULES = ("net.netfilter.", "net.nf_conntrack", "net.bridge.")
"""Settings that appear with a module, which is mostly loaded after the files are read at boot."""


def how_to_keep(name: str) -> str:
    """Say where the line of a setting goes that stands behind this, and what may undo it there."""
    text = (
        "To keep it, a line for /etc/sysctl.d/60-tcpdoctor.conf, which comes before 99-sysctl.conf and "
        "/etc/sysctl.conf: take the setting out of them (tcpdoctor sysctl lint names such lines)"
    )
    if name.startswith(_OF_MODULES):
        text += "; name its module in /etc/modules-load.d, else the line is read before the setting is there"
    return f"{text}:"


def setting_words(value: object) -> str:
    """Return a sysctl's value for people."""
    if value is None:
        return "not known"
    return value_as_printed(value) or "empty"


def unanswered_by_reason(unchecked: Iterable[Unchecked]) -> Mapping[str, Sequence[str]]:
    """Return the rules that were not answered by the reason; those that do not apply come last."""
    groups: dict[tuple[bool, str], list[str]] = {}
    for rule in unchecked:
        groups.setdefault((not rule.applies, rule.reason), []).append(rule.rule)
    return {
        ("does not apply here: " if inapplicable else "") + reason: list(dict.fromkeys(rules))
        for (inapplicable, reason), rules in sorted(groups.items(), key=lambda group: group[0][0])
    }


def change_lines(change: "PlannedChange", *, lasts: bool = True) -> list[Block]:
    """Return a change in two lines: from what to what, who asks for it, and what it risks in a few words.

    Args:
        change: One of a plan.
        lasts: Whether it outlives what else sets it at the next boot; without that it is not applied.
    """
    said = [Prose(change.set_by, "set by")] if change.set_by and change.owned else []
    said += [Prose(risk_words(change.risk, harmless=change.harmless), "risk")] if change.risk else []
    if not lasts:
        said.append(Prose(f"{change.conflict}; --runtime-only sets it until then", "not applied"))
    elif change.conflict and change.overridden:
        said.append(Prose(change.conflict, "next boot"))
    elif change.settled:
        said.append(Prose(change.settled, "settled"))
    if change.boot and lasts:
        said.append(Prose(change.boot, "next boot"))
    title = f": {_values(change)} ({', '.join(change.rules)})"
    return [Title(title, change.key), Inset(tuple(said), 2)]


_SENTENCE_ENDS = re.compile(r"(?<=[.!?]) (?=[A-Z0-9])")


def first_sentence(text: str) -> str:
    """Return the beginning of a text, without the full stop."""
    return _SENTENCE_ENDS.split(" ".join(text.split()), maxsplit=1)[0].rstrip(".")


def risk_words(risk: str, *, harmless: bool) -> str:
    """Return a risk in a few words: its first sentence; of none that it is none."""
    return "none" if harmless else first_sentence(risk)


_LONGEST_VALUE = 60


def change_words(change: "PlannedChange") -> str:
    """Say what a setting holds and shall hold; of a long list its beginning."""
    return f"{change.key}: {_values(change)}"


def _values(change: "PlannedChange") -> str:
    now, value = setting_words(change.now), setting_words(change.value)
    added = [each for each in value.split(",") if each not in set(now.split(","))]
    if len(now) > _LONGEST_VALUE and len(added) < value.count(","):
        return f"{now.count(',') + 1:,} entries -> these and {_beginning(','.join(added))}"
    return f"{_beginning(now)} -> {_beginning(value)}"


def _beginning(text: str) -> str:
    if len(text) <= _LONGEST_VALUE:
        return text
    kept = text[:_LONGEST_VALUE].rpartition(",")[0] or text[:_LONGEST_VALUE]
    return f"{kept},... ({text.count(',') + 1} in all)"


def change_blocks(change: "PlannedChange", style: Style) -> list[Block]:
    """Return a change of a setting: why, how it was computed, what it risks, how to verify and to undo it."""
    rows = [
        ("why", ", ".join(change.rules)),
        ("computed", change.computed),
        *([("set by", change.set_by)] if change.set_by else []),
        *([("conflict", change.conflict)] if change.conflict else []),
        *([("next boot", change.boot)] if change.boot else []),
        ("risk", change.risk),
    ]
    title = f"{change.key}: {setting_words(change.now)} -> {setting_words(change.value)}"
    return [
        Section(
            title,
            (
                Fields(tuple(rows), room=11),
                Command(tuple(map(style.asks, change.verify)), "verify"),
                Command((style.asks(change.undo[-1]),), "undo"),
            ),
        )
    ]


def early_words(one: "TooEarly") -> str:
    """Say of a leak that only its age hides how many there are, and when to look again."""
    return (
        f"{one.sockets:,} in {one.state.upper()}, but not {one.least:,} of them for "
        f"{show(one.age_s, SECOND)} yet: too early to tell; look again then ({one.rule})"
    )

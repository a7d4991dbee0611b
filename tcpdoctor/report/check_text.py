"""`check` in its long form: the worst first, each with its evidence, what to do and not to do, and why."""

from collections.abc import Iterable, Mapping, Sequence

from tcpdoctor.answers.check import (
    Check,
    Checks,
    checked,
    count_of,
    crowd_words,
    list_rows,
    status,
    unchecked_rules,
    unjudged,
    untold_by_rule,
)
from tcpdoctor.answers.record import utc
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Diagnosis, Finding, Severity, Unchecked
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.finding_page import (
    early_words,
    finding_page,
    grouped,
    more_words,
    pages_of,
    unanswered_by_reason,
)
from tcpdoctor.report.host import plural, samples_words, source_words, states_sentence, where_words
from tcpdoctor.report.page import Block, Items, More, Prose, Section, page_text
from tcpdoctor.report.style import Style

_TOO_LITTLE = "too little could be checked to say that TCP is well"


def check_text(check: Check, style: Style) -> str:
    """Return the whole answer: a verdict, the findings, and what was looked at and what not."""
    findings, style = check.diagnosis.findings, style_there(check, style)
    texts = finding_texts(findings, style, untold_by_rule(check.diagnosis))
    parts = [_header(check, style), *texts, style.told("", _tail(check, style))]
    if len(findings) > 1:  # what stays in view when the prompt is back
        parts.append(worst_line(findings[0], style))
    return "\n\n".join(parts) + "\n"


_CUT = Prose("[...]", apart=True)
"""What stands for what is left out."""


def lesson_text(check: Check, style: Style, *, again: bool) -> str:
    """Return the answer as a lesson shows it: without what its story tells itself.

    Args:
        check: The answer; without findings it is told whole.
        style: How.
        again: Whether the reader knows the findings already: then they are only named.
    """
    findings, style = check.diagnosis.findings, style_there(check, style)
    if not findings:
        return check_text(check, style)
    parts = [_header(check, style)]
    last: Block | None = None
    for alike in grouped(findings, untold_by_rule(check.diagnosis)):
        for page in pages_of(alike, style):
            blocks = _of_lesson((*page.act, *page.know), again=again)
            parts.append(page_text(blocks, style, "  "))
            last = blocks[-1]
        if alike.more:
            parts.append(style.wrap(more_words(alike)))
            last = None
    told = closing(check)
    if told.unsure:
        unsure = (style.wrap(words, "  ", "") for words in told.unsure)
        parts.append("\n".join([*unsure, *map(style.wrap, told.sockets)]))
    if told.unsure or not _is_cut(last):
        parts.append(page_text([_CUT], style, "  "))
    if len(findings) > 1:
        parts.append(worst_line(findings[0], style))
    return "\n\n".join(parts) + "\n"


def _of_lesson(blocks: Iterable[Block], *, again: bool) -> list[Block]:
    """What a finding is, what was measured, the first thing to do, and what does not help."""
    kept: list[Block] = []
    for block in blocks:
        match block:
            case Section(title="What to do", blocks=(Items(items=(first, _, *_)) as fixes,)) if not again:
                kept.append(block._replace(blocks=(fixes._replace(items=(first,)), Prose("[...]"))))
            case Section(title="Evidence" | "What to do" | "What does not help") if not again:
                kept.append(block)
            case Section() | More():
                kept += [] if _is_cut(kept[-1]) else [_CUT]
            case Prose(apart=True) if again:
                kept += [] if _is_cut(kept[-1]) else [_CUT]
            case _:
                kept.append(block)
    return kept


def _is_cut(block: "Block | None") -> bool:
    """Whether it says already that something is left out below it."""
    last = block.blocks[-1] if isinstance(block, Section) and block.blocks else block
    return isinstance(last, Prose) and last.text == _CUT.text


def style_there(check: Check, style: Style) -> Style:
    """The style in which commands are told that are to be run where was looked."""
    own = check.samples.after.initial_namespace is not False
    return style._replace(netns=check.netns or style.netns, way=check.way or "", is_host=own)


def worst_line(finding: Finding, style: Style) -> str:
    """Return the worst finding in one line."""
    word = style.severity(finding.severity.key, finding.severity.key.upper())
    said = f"{finding.whom or finding.label} {finding.headline or finding.title}"
    return style.told(finding.severity.key, style.wrap(f"{word}: {said}", "  ", ""))


def finding_texts(
    findings: Iterable[Finding], style: Style, untold: Mapping[str, int] | None = None
) -> list[str]:
    """Return one block of text per finding, by rule, the rule of the worst first.

    Where a rule fired for several subjects, the prose they share stands under the first one only, and
    beyond MOST_ALIKE of them only their number is said. `untold` is by rule how many more there are.
    """
    texts = []
    for alike in grouped(findings, untold):
        texts += [
            style.told(one.severity.key, page_text((*page.act, *page.know), style, "  "))
            for one, page in zip(alike.shown, pages_of(alike, style), strict=True)
        ]
        texts += [style.told("", style.wrap(more_words(alike)))] if alike.more else []
    return texts


def finding_text(finding: Finding, style: Style) -> str:
    """Return one finding."""
    page = finding_page(finding, style=style)
    return page_text((*page.act, *page.know), style, "  ")


def unchecked_lines(unchecked: Iterable[Unchecked], style: Style) -> list[str]:
    """Return which rules could not be answered, grouped by reason; those that do not apply come last."""
    lines = []
    for reason, rules in unanswered_by_reason(unchecked).items():
        lines.append(style.wrap(reason, "    ", "  - "))
        lines.append(style.dim(style.wrap(", ".join(rules), "    ", whole=True)))
    return lines


class Opening(NamedTuple):
    """What stands above the findings wherever all is told: in text, Markdown and HTML."""

    verdict: str
    host: str
    said: str
    """What was found, in half a sentence."""
    circumstances: str
    """When and where was looked, and how often."""
    read: str
    """The recordings that were read; empty: it was a look at this host."""


def opening(check: Check) -> Opening:
    """Return what is said above the findings."""
    snapshot, verdict = check.samples.after, status(check)
    when = f"{utc(snapshot.taken_at)}, {samples_words(check.window)}"
    where = where_words(when, snapshot.kernel, snapshot.namespace, snapshot.namespace_name)
    return Opening(
        verdict,
        check.title,
        verdict_sentence(check, verdict),
        where + _whose_namespace(snapshot),
        "" if check.source is None else source_words(check.source),
    )


def _header(check: Check, style: Style) -> str:
    told = opening(check)
    found = f"{style.severity(told.verdict, told.verdict.upper())}: {told.host}: {told.said}"
    read = f"\n{style.wrap(told.read)}" if told.read else ""
    where = style.told("", style.wrap(told.circumstances) + read)
    return f"{style.told(told.verdict, style.wrap(found))}\n{where}"


def rules_checked(diagnosis: Diagnosis) -> str:
    """Say how many rules gave a full answer: ``17 of 20 rules``."""
    return f"{checked(diagnosis)} of {plural(diagnosis.rules, 'rule')}"


def verdict_sentence(check: Check, verdict: str) -> str:
    """Say in half a sentence what was found, and that something could not be answered."""
    diagnosis = check.diagnosis
    if diagnosis.findings:
        kinds = [(count_of(diagnosis, severity), severity.key) for severity in reversed(Severity)]
        found = ", ".join(f"{number} {key}" for number, key in kinds if number)
        total = plural(sum(number for number, _ in kinds), "finding")
        return f"{total} ({found}){_but_unanswered(diagnosis, '; ')}"
    if verdict == "unknown":
        return blindness(check)
    return f"nothing wrong was found{_but_unanswered(diagnosis, ', but ')}"


def blindness(check: Check) -> str:
    """Say in half a sentence why nobody can tell whether the host is well."""
    crowds = unjudged(check.diagnosis, check.samples.after)
    return crowd_words((one.number, one.state) for one in crowds) if crowds else _TOO_LITTLE


def unjudged_lines(check: Check, style: Style, indent: str) -> list[str]:
    """Return for each crowd of sockets that was not judged which rule could not, and why."""
    return [style.wrap(words, f"{indent}  ", indent) for words in _unjudged_words(check)]


def _unjudged_words(check: Check) -> list[str]:
    return [
        f"{one.number:,} in {one.state.name} not judged by {one.rule}: {one.reason}"
        for one in unjudged(check.diagnosis, check.samples.after)
    ]


def too_early_lines(check: Check, style: Style, indent: str) -> list[str]:
    """Return for each leak that only its age hides how long to wait before it can be told."""
    return [style.wrap(early_words(one), f"{indent}  ", indent) for one in check.early]


def at_once_words(settings: int, style: Style) -> str:
    """Say what changes settings together, and that it takes them back unless somebody confirms."""
    how = "1 setting, undone unless you keep it"
    if settings != 1:
        how = f"{settings} settings at once, undone unless you keep them"
    return f"{how}: {style.asks('tcpdoctor fix')}"


def _but_unanswered(diagnosis: Diagnosis, joined: str) -> str:
    open_questions = len({rule.rule for rule in diagnosis.unchecked if rule.applies})
    return f"{joined}{plural(open_questions, 'rule')} could not be answered" if open_questions else ""


def verdicts_counted(checks: Checks) -> str:
    """Say how many namespaces have which verdict: ``5 network namespaces: 1 warning, 1 unknown, 3 ok``."""
    rows = [row.verdict for row in list_rows(checks)]
    counted = [(rows.count(word), word) for word in ("critical", "warning", "unknown", "ok")]
    return f"{plural(len(rows), 'network namespace')}: " + ", ".join(
        f"{n} {word}" for n, word in counted if n
    )


def _whose_namespace(snapshot: Snapshot) -> str:
    if isinstance(snapshot.initial_namespace, Missing):
        return ""
    return ", the host's own" if snapshot.initial_namespace else ", not the host's own"


class Closing(NamedTuple):
    """What stands below the findings wherever all is told: in text, Markdown and HTML."""

    unsure: tuple[str, ...]
    """What was not judged, and what only its age keeps from being told."""
    sockets: tuple[str, ...]
    """How many are in which state; and why there may be more."""
    answered: str
    unanswered: Mapping[str, Sequence[str]]
    """The rules without a full answer, by reason; those that do not apply come last."""


def closing(check: Check) -> Closing:
    """Return what is said below the findings."""
    diagnosis, census = check.diagnosis, check.samples.after.census
    sockets = [states_sentence(state_readings(census))]
    if not isinstance(census, Missing) and isinstance(census.complete, Missing):
        sockets.append(f"There may be more sockets than counted: {census.complete.reason}.")
    skipped = len(unchecked_rules(diagnosis))
    answered = f"Checked {rules_checked(diagnosis)}."
    if not skipped:
        every = {0: "There was no rule to check: all are switched off.", 1: "Checked the one rule in force."}
        answered = every.get(diagnosis.rules, f"Checked all {diagnosis.rules} rules.")
    return Closing(
        (*_unjudged_words(check), *map(early_words, check.early)),
        tuple(sockets),
        f"{answered} No full answer from {plural(skipped, 'rule')}:" if skipped else answered,
        unanswered_by_reason(diagnosis.unchecked),
    )


def _tail(check: Check, style: Style) -> str:
    told = closing(check)
    lines = [*(style.wrap(words, "  ", "") for words in told.unsure), *map(style.wrap, told.sockets), ""]
    lines.append(style.wrap(told.answered))
    return "\n".join(lines + unchecked_lines(check.diagnosis.unchecked, style))

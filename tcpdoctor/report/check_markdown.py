"""`check` as Markdown (CommonMark, with the tables of GitHub and GitLab), for tickets and chats."""

import re
from collections.abc import Sequence

from tcpdoctor.answers.check import Check, checked, status
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.report.check_blocks import Alike, Block, blocks_of, fix_blocks, grouped, reasons_of
from tcpdoctor.report.check_text import namespace_words, verdict_sentence
from tcpdoctor.report.host import plural, samples_words, states_sentence, utc

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@$:-])")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_markdown(check: Check, only: Sequence[Finding] | None = None) -> str:
    """Return the document: a verdict, the findings, what was looked at; or `only` some findings."""
    findings = check.diagnosis.findings if only is None else only
    parts = [part for alike in grouped(findings) for part in _alike(alike)]
    if only is None:
        parts = [*_head(check), *parts, *_tail(check)]
    return "\n\n".join(parts) + "\n"


def _head(check: Check) -> list[str]:
    snapshot = check.samples.after
    verdict = status(check)
    looked = samples_words(check.window)
    said = f"{snapshot.host}: {verdict_sentence(check.diagnosis, verdict)}"
    where = f"Linux {snapshot.kernel}, network namespace {namespace_words(check)}, tcpdoctor {check.version}"
    return [f"# {verdict.upper()}: {escaped(said)}", f"{utc(snapshot.taken_at)}, {looked}, {escaped(where)}"]


def _alike(alike: Alike) -> list[str]:
    first = alike.shown[0]
    parts = []
    for finding in alike.shown:
        parts.append(f"## {finding.severity.key.upper()}: {escaped(finding.title)}: {code(finding.label)}")
        parts.append(escaped(finding.summary))
        if finding is first or finding.explanation != first.explanation:
            parts += [f"**Why:** {blocks_shown(blocks_of(finding.explanation))}"]
        if finding is first or finding.impact != first.impact:
            parts += [f"**Cost:** {blocks_shown(blocks_of(finding.impact))}"]
        parts.append(_evidence(finding))
        if finding is first or [fix.title for fix in finding.fixes] != [fix.title for fix in first.fixes]:
            parts += _advice(finding)
        else:
            parts.append(f"What to do, and what does not help: as for {code(first.label)} above.")
    if alike.more:
        parts.append(f"... and {plural(alike.more, 'finding')} more of {code(first.rule)}.")
    return parts


def _evidence(finding: Finding) -> str:
    rows = [
        f"| {code(item.fact, in_table=True)} | {escaped(item.shown)} | {code(item.source, in_table=True)} |"
        for item in finding.evidence
    ]
    return "\n".join(["| Evidence | Value | Where to see it |", "| --- | ---: | --- |", *rows])


def _advice(finding: Finding) -> list[str]:
    parts = ["### What to do"]
    for number, fix in enumerate(finding.fixes, 1):
        lead = f"{number}. "
        body = f"**{escaped(fix.title)}** ({fix.kind})\n\n{blocks_shown(fix_blocks(fix))}"
        parts.append(
            lead + body.replace("\n", "\n" + " " * len(lead)).replace("\n" + " " * len(lead) + "\n", "\n\n")
        )
    if finding.wrong_fixes:
        wrong = "\n".join(f"- **{escaped(item.title)}**: {escaped(item.why)}" for item in finding.wrong_fixes)
        parts += ["### What does not help", wrong]
    if finding.normal_when:
        parts += ["### Normal when", "\n".join(f"- {escaped(item)}" for item in finding.normal_when)]
    return [*parts, f"More: `tcpdoctor explain --rule {finding.rule}`"]


def blocks_shown(blocks: Sequence[Block]) -> str:
    """Return paragraphs, and commands as blocks of code."""
    parts = []
    for block in blocks:
        label = f"*{block.label}:*" if block.label else ""
        if block.is_command:
            parts += [label] if label else []
            parts.append(fenced(block.text))
        else:
            parts.append(f"{label} {escaped(block.text)}".strip())
    return "\n\n".join(parts)


def _tail(check: Check) -> list[str]:
    diagnosis = check.diagnosis
    parts = ["## What was looked at", escaped(states_sentence(state_readings(check.samples.after.census)))]
    parts.append(f"{checked(diagnosis)} of {plural(diagnosis.rules, 'rule')} checked.")
    reasons = reasons_of(diagnosis.unchecked)
    if reasons:
        parts.append("No full answer from:")
        parts.append(
            "\n".join(f"- {', '.join(map(code, rules))}: {escaped(why)}" for why, rules in reasons.items())
        )
    return parts


# text that others wrote


def escaped(text: str) -> str:
    """Return text, on one line, of which nothing is taken for Markdown, HTML or a mention."""
    line = " ".join(visible(text).split())
    return _SPECIAL.sub(_escape, line)


def _escape(match: "re.Match[str]") -> str:
    char, text, place = match[0], match.string, match.start()
    if char in "(){}+:$":
        return char  # special only beside what is escaped
    if char in "#-" and place > 0 and text[place - 1] != " ":
        return char
    if char == "_" and 0 < place < len(text) - 1 and text[place - 1].isalnum() and text[place + 1].isalnum():
        return char
    return f"\\{char}"


def code(text: str, *, in_table: bool = False) -> str:
    """Return text as a code span, whatever backticks it holds."""
    line = " ".join(visible(text).split()) or " "
    if in_table:
        line = line.replace("|", "\\|")
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def fenced(text: str) -> str:
    """Return a command as a block of code, whatever backticks it holds."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}sh\n{visible(text)}\n{fence}"


def visible(text: str) -> str:
    """Return text with control characters shown as escapes."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)

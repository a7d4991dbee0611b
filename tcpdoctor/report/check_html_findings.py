"""The findings of the HTML page."""

from collections.abc import Iterable

from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.report.check_blocks import Alike, Block, blocks_of, fix_blocks
from tcpdoctor.report.check_html_parts import pill, text
from tcpdoctor.report.host import plural


def anchor(finding: Finding) -> str:
    """Return the name by which a finding is linked to."""
    return f"rule-{text(finding.rule)}"


def finding_article(alike: Alike, *, folded: bool = False) -> str:
    """Return what one rule found: the worst subject first, the others with what differs.

    What to do stands before why; `folded`, all but the heading is there once it is asked for.
    """
    first = alike.shown[0]
    others = "".join(_also(finding, first) for finding in alike.shown[1:])
    if alike.more:
        others += f'<p class="also">... and {plural(alike.more, "finding")} more of this rule.</p>'
    heading = (
        f'{pill(first.severity)} <span class="whom">{text(first.label)}</span>'
        f'<h2>{text(first.title)}</h2><p class="headline">{text(first.headline)}</p>'
    )
    body = (
        f'<p class="summary">{text(first.summary)}</p>'
        f'<h3>What to do</h3><ol class="fixes">{"".join(_fixes(first))}</ol>'
        f"<h3>Evidence</h3>{_evidence(first)}{others}"
        f"<h3>Why</h3>{blocks_shown(blocks_of(first.explanation))}"
        f"<h3>Cost</h3>{blocks_shown(blocks_of(first.impact))}{_more(first)}"
        f'<p class="note">More: <code>tcpdoctor check {text(first.rule)}</code></p>'
    )
    kind = f'class="finding is-{first.severity.key}" id="{anchor(first)}"'
    if folded:
        return f"<details {kind}><summary>{heading}</summary>{body}</details>\n"
    return f"<article {kind}>{heading}{body}</article>\n"


def _also(finding: Finding, first: Finding) -> str:
    differing = "" if finding.impact == first.impact else blocks_shown(blocks_of(finding.impact))
    return (
        f'<div class="also">{pill(finding.severity)} '
        f'<span class="whom">{text(finding.label)}</span><p>{text(finding.summary)}</p>{differing}'
        f"<details><summary>Evidence</summary>{_evidence(finding)}</details></div>"
    )


def _evidence(finding: Finding) -> str:
    rows = "".join(
        f"<tr><td><code>{text(item.fact)}</code></td><td class='num'>{text(item.shown)}</td>"
        f"<td><code>{text(item.source)}</code></td></tr>"
        for item in finding.evidence
    )
    return (
        '<table class="evidence"><thead><tr><th scope="col">Fact</th><th scope="col" class="num">Value</th>'
        f'<th scope="col">Where to see it</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _fixes(finding: Finding) -> Iterable[str]:
    for fix in finding.fixes:
        title = f"<h4>{text(fix.title)} <span class='kind'>{text(fix.kind)}</span></h4>"
        yield f"<li>{title}{blocks_shown(fix_blocks(fix))}</li>"


def _more(finding: Finding) -> str:
    wrong = [f"<b>{text(item.title)}.</b> {text(item.why)}" for item in finding.wrong_fixes]
    sources = [
        f"{text(item.claim)} <span class='label'>{text(item.source)}</span>" for item in finding.references
    ]
    return (
        _list("What does not help", wrong, "open")
        + _list("Normal when", [text(case) for case in finding.normal_when])
        + _list("Where this comes from", sources)
    )


def _list(title: str, items: list[str], state: str = "") -> str:
    if not items:
        return ""
    lines = "".join(f"<li>{item}</li>" for item in items)
    return f"<details {state}><summary>{title}</summary><ul>{lines}</ul></details>"


def blocks_shown(blocks: Iterable[Block]) -> str:
    """Return paragraphs, and commands that can be copied."""
    parts = []
    for block in blocks:
        label = f'<span class="label">{block.label}:</span> ' if block.label else ""
        if block.is_command:
            parts.append((f"<p>{label}</p>" if label else "") + f"<pre><code>{text(block.text)}</code></pre>")
        else:
            parts.append(f"<p>{label}{text(block.text)}</p>")
    return "".join(parts)

"""`check` in its long form: the worst first, each with its evidence, what to do and not to do, and why."""

from collections.abc import Iterable, Mapping, Sequence

from tcpdoctor.answers.check import Check, checked, count_of, status, unchecked_rules, untold_by_rule
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Diagnosis, Evidence, Finding, Fix, Severity, SysctlFix, Unchecked
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural, samples_words, states_sentence, utc
from tcpdoctor.report.style import Style

MOST_ALIKE = 10
"""Findings of one rule that are shown one by one."""


def check_text(check: Check, style: Style) -> str:
    """Return the whole answer: a verdict, the findings, and what was looked at and what not."""
    findings = check.diagnosis.findings
    texts = finding_texts(findings, style, untold_by_rule(check.diagnosis))
    parts = [_header(check, style), *texts, _tail(check, style)]
    if len(findings) > 1:  # what stays in view when the prompt is back
        parts.append(worst_line(findings[0], style))
    return "\n\n".join(parts) + "\n"


def worst_line(finding: Finding, style: Style) -> str:
    """Return the worst finding in one line."""
    word = finding.severity.key.upper()
    text = style.wrap(f"{word}: {finding.label} {finding.headline or finding.title}", "  ", "")
    return style.severity(finding.severity.key, word) + text[len(word) :]


def finding_texts(
    findings: Iterable[Finding], style: Style, untold: Mapping[str, int] | None = None
) -> list[str]:
    """Return one block of text per finding, in the given order.

    Where a rule fired for several subjects, the prose they share stands under the first one only, and
    beyond MOST_ALIKE of them only their number is said. `untold` is by rule how many more there are.
    """
    texts = []
    seen: dict[str, list[Finding]] = {}
    for finding in findings:
        alike = seen.setdefault(finding.rule, [])
        alike.append(finding)
        if len(alike) <= MOST_ALIKE:
            texts.append(finding_text(finding, style, like=alike[0] if len(alike) > 1 else None))
    for rule, alike in seen.items():
        rest = (untold or {}).get(rule, 0)
        more = max(0, len(alike) - MOST_ALIKE) + rest
        if more:
            where = f"--format json has the {len(alike)} worst" if rest else "--format json has them all"
            texts.append(style.wrap(f"... and {plural(more, 'finding')} more of {rule}; {where}"))
    return texts


def finding_text(finding: Finding, style: Style, like: Finding | None = None) -> str:
    """Return one finding; `like` is an earlier one of the same rule that already explained it."""
    lines = [
        style.severity(finding.severity.key, style.wrap(heading(finding), "    ", "")),
        style.bold(style.wrap(finding.title, "  ")),
        style.wrap(finding.summary, "  "),
    ]
    lines += _section("Evidence", _evidence(finding.evidence, style), style)
    as_above = like is not None and [fix.title for fix in finding.fixes] == [fix.title for fix in like.fixes]
    if as_above and like is not None:
        lines += ["", style.wrap(f"What to do, and what does not help: as for {like.label} above.", "  ")]
    else:
        wrong = [style.wrap(f"{item.title}: {item.why}", "      ", "    - ") for item in finding.wrong_fixes]
        lines += _section("What to do", _fixes(finding.fixes, style), style)
        lines += _section("What does not help", wrong, style)
    if like is None or finding.explanation != like.explanation:
        lines += ["", _labelled("Why", finding.explanation, style)]
    if like is None or finding.impact != like.impact:
        lines += ["", _labelled("Cost", finding.impact, style)]
    if as_above:
        return "\n".join(lines)
    normal = [style.wrap(item, "      ", "    - ") for item in finding.normal_when]
    lines += _section("Normal when", normal, style)
    lines += ["", style.dim(style.wrap(f"More: tcpdoctor explain --rule {finding.rule}", "  "))]
    return "\n".join(lines)


def heading(finding: Finding) -> str:
    """Return the line that a finding begins with: ``WARNING  nginx (811)``."""
    return f"{finding.severity.key.upper()}  {finding.label}"


def unchecked_lines(unchecked: Iterable[Unchecked], style: Style) -> list[str]:
    """Return which rules could not be answered, grouped by reason; those that do not apply come last."""
    groups: dict[tuple[bool, str], list[str]] = {}
    for rule in unchecked:
        groups.setdefault((not rule.applies, rule.reason), []).append(rule.rule)
    lines = []
    for (inapplicable, reason), rules in sorted(groups.items(), key=lambda group: group[0][0]):
        lead = "does not apply here: " if inapplicable else ""
        names = ", ".join(dict.fromkeys(rules))
        lines.append(style.wrap(f"{lead}{reason}", "    ", "  - "))
        lines.append(style.dim(style.wrap(names, "    ")))
    return lines


def _header(check: Check, style: Style) -> str:
    snapshot = check.samples.after
    verdict = status(check)
    looked = samples_words(check.window)
    word = verdict.upper()
    found = style.wrap(f"{word}: {snapshot.host}: {verdict_sentence(check.diagnosis, verdict)}")
    where = f"network namespace {namespace_words(check)}"
    circumstances = f"{utc(snapshot.taken_at)}, {looked}, Linux {snapshot.kernel}, {where}"
    return style.severity(verdict, word) + found[len(word) :] + "\n" + style.wrap(circumstances)


def verdict_sentence(diagnosis: Diagnosis, verdict: str) -> str:
    """Say in half a sentence what was found, and that something could not be answered."""
    if diagnosis.findings:
        kinds = [(count_of(diagnosis, severity), severity.key) for severity in reversed(Severity)]
        found = ", ".join(f"{number} {key}" for number, key in kinds if number)
        total = plural(sum(number for number, _ in kinds), "finding")
        return f"{total} ({found}){_but_unanswered(diagnosis, '; ')}"
    if verdict == "unknown":
        return "too little could be checked to say that TCP is well"
    return f"nothing wrong was found{_but_unanswered(diagnosis, ', but ')}"


def _but_unanswered(diagnosis: Diagnosis, joined: str) -> str:
    open_questions = len({rule.rule for rule in diagnosis.unchecked if rule.applies})
    return f"{joined}{plural(open_questions, 'rule')} could not be answered" if open_questions else ""


def namespace_words(check: Check) -> str:
    """Say which network namespace it was: ``4026532177 (blue), not the host's own``."""
    snapshot = check.samples.after
    name = f" ({snapshot.namespace_name})" if snapshot.namespace_name else ""
    kind = ""
    if not isinstance(snapshot.initial_namespace, Missing):
        kind = ", the host's own" if snapshot.initial_namespace else ", not the host's own"
    return f"{snapshot.namespace}{name}{kind}"


def _tail(check: Check, style: Style) -> str:
    diagnosis, census = check.diagnosis, check.samples.after.census
    lines = [style.wrap(states_sentence(state_readings(census)))]
    if not isinstance(census, Missing) and isinstance(census.complete, Missing):
        lines.append(style.wrap(f"There may be more sockets than counted: {census.complete.reason}."))
    lines.append("")
    skipped = len(unchecked_rules(diagnosis))
    if not skipped:
        every = {0: "There was no rule to check: all are switched off.", 1: "Checked the one rule in force."}
        lines.append(every.get(diagnosis.rules, f"Checked all {diagnosis.rules} rules."))
        return "\n".join(lines)
    answered = f"Checked {checked(diagnosis)} of {plural(diagnosis.rules, 'rule')}."
    lines.append(style.wrap(f"{answered} No full answer from {plural(skipped, 'rule')}:"))
    return "\n".join(lines + unchecked_lines(diagnosis.unchecked, style))


def _labelled(label: str, text: str, style: Style) -> str:
    wrapped = style.wrap(f"{label}: {text.strip()}", "  ")
    return wrapped.replace(f"{label}:", style.bold(f"{label}:"), 1)


def _section(title: str, lines: list[str], style: Style) -> list[str]:
    return ["", style.bold(f"  {title}"), *lines] if lines else []


def _evidence(evidence: tuple[Evidence, ...], style: Style) -> list[str]:
    """Return ``fact   value   source``, in columns where they fit, else the source on a line of its own."""
    facts = max((len(item.fact) for item in evidence), default=0)
    values = max((len(item.shown) for item in evidence), default=0)
    lines = []
    for item in evidence:
        line = f"    {item.fact:<{facts}}  {item.shown:>{values}}  {item.source}"
        if len(line) <= style.width:
            lines.append(line)
            continue
        short = f"    {item.fact:<{facts}}  {item.shown:>{values}}"
        fits = len(short) <= style.width
        lines.append(short if fits else style.wrap(f"{item.fact}: {item.shown}", "      ", "    "))
        lines.append(style.wrap(item.source, "      "))
    return lines


def _fixes(fixes: tuple[Fix, ...], style: Style) -> list[str]:
    lines = []
    for number, fix in enumerate(fixes, 1):
        lead = f"    {number}. "
        lines.append(style.wrap(f"{fix.title} [{fix.kind}]", " " * len(lead), lead))
        lines += _fix_body(fix, " " * len(lead), style)
    return lines


def _fix_body(fix: Fix, indent: str, style: Style) -> list[str]:
    lines = [style.wrap(fix.prose, indent)] if fix.prose else []
    if fix.sysctl is not None:
        lines += _setting_lines(fix.sysctl, indent, style)
    elif fix.commands:
        lines += ["", *(style.command(command, indent + "    ") for command in fix.commands), ""]
    lines.append(style.wrap(f"Risk: {fix.risk}", indent))
    lines += _instruction("Verify", fix.verify, fix.verify_commands, indent, style)
    if fix.undo:
        lines += _instruction("Undo", fix.undo, fix.undo_commands, indent, style)
    return lines


def _setting_lines(sysctl: SysctlFix, indent: str, style: Style) -> list[str]:
    """Return what a sysctl is and what it shall be; no command where the value could not be computed."""
    where = "this network namespace only" if sysctl.applies_to == "namespace" else "the whole machine"
    here = f"{sysctl.name}: {setting_words(sysctl.current)} here"
    if sysctl.command is None:
        return [style.wrap(f"{here}; which value to set could not be computed ({where})", indent)]
    return [
        style.wrap(f"{here}, set {setting_words(sysctl.value)} ({where})", indent),
        style.command(sysctl.command, indent + "  "),
        style.wrap(how_to_keep(sysctl.name), indent),
        style.command(sysctl.persist, indent + "  "),
    ]


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


def _instruction(label: str, text: str, commands: Sequence[str], indent: str, style: Style) -> list[str]:
    """Return commands on lines of their own, a short one or prose behind its label."""
    if not commands:
        return [style.wrap(f"{label}: {text}", indent)]
    one = f"{indent}{label}: {commands[0]}"
    if len(commands) == 1 and len(one) <= style.width:
        return [one]
    return [f"{indent}{label}:", *(style.command(command, indent + "  ") for command in commands)]


def setting_words(value: object) -> str:
    """Return a sysctl's value for people."""
    if value is None:
        return "not known"
    return _setting(value) or "empty"


def _setting(value: object) -> str:
    """Return a sysctl's value as sysctl(8) prints it."""
    return " ".join(str(item) for item in value) if isinstance(value, list) else str(value)

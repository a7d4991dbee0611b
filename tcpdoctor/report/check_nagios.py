r"""`check` for Nagios and its kin: one short line, performance data, details.

The form is that of the Monitoring Plugins Development Guidelines: performance data after a ``|`` on the
first line (the states), and after a second ``|`` at the end of the details (one value per rule), so that a
short buffer cuts the least. There is no way to escape ``|`` there, so text has it as ``\x7c``; straight
quotes become typographic ones, because a notification command may put the text between quotes.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from tcpdoctor.answers.check import (
    Check,
    Checks,
    checked,
    exit_code,
    exit_code_of_all,
    unjudged,
    untold_by_rule,
)
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.diagnosis.measure import Measure
from tcpdoctor.facts.value import BYTE, SECOND
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import PLAIN, shorten

WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
"""By exit code."""
_WIDTH = 120
"""Characters of the first line before its performance data."""
_MOST_ALIKE = 10
_UNITS = {SECOND: "s", BYTE: "B"}
_QUOTES = str.maketrans({"'": "\u02bc", '"': "\u2033", "|": "\\x7c"})
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def check_nagios(check: Check) -> str:
    """Return what a plugin prints; its first word is that of the exit code."""
    lines = [f"{_headline(check)} | {' '.join(_state_data(check))}", *_details(check)]
    rules = [_datum(measure) for measure in _measures(check)]
    if rules:
        lines[-1] += f" | {' '.join(rules)}"
    return "\n".join(lines) + "\n"


def checks_nagios(checks: Checks) -> str:
    """Return the same of many network namespaces: the worst decides the word; of those that are well a line.

    The states of all together are the performance data of the first line; after the details each namespace
    has its own, with its name before their label. So a short buffer cuts what matters least.
    """
    ill = [check for check in checks.checks if exit_code(check)]
    spaces = plural(len(checks.checks) + len(checks.unseen), "network namespace")
    names = [_short(check) for check in ill] + [one.place.short for one in checks.unseen]
    shown = ", ".join(names[:_MOST_NAMED]) + (
        f", {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )
    said = f"{len(names)} of {spaces} not OK: {shown}" if names else f"{spaces}, all OK"
    if ill and ill[0].diagnosis.findings:
        worst = ill[0].diagnosis.findings[0]
        said += f"; {_short(ill[0])}: {worst.whom or worst.label} {worst.headline or worst.title}"
    first = f"TCPDOCTOR {WORDS[exit_code_of_all(checks)]} - {plain(said)}"
    details: list[str] = []
    data: list[str] = []
    labels = _labels(checks)
    for check, label in zip(checks.checks, labels, strict=True):
        name = check.place.label if check.place else label
        details.append(f"{plain(name)}: {_headline(check)}")
        if exit_code(check):
            details += [f"  {line}" for line in _details(check)]
        data += _state_data(check, f"{label}/")
        data += [_datum(measure, f"{label}/") for measure in _measures(check)]
    details += [f"{plain(one.place.label)}: TCPDOCTOR UNKNOWN - {plain(one.reason)}" for one in checks.unseen]
    if checks.checks:
        first += f" | {' '.join(_sums(checks))}"
        details[-1] += f" | {' '.join(data)}"
    return "\n".join([first, *details]) + "\n"


_MOST_NAMED = 5
_PLAIN_NAME = re.compile(r"[\w.:-]+", re.ASCII)


def _short(check: Check) -> str:
    """A name for a label, unless it could be taken for another namespace's number."""
    name = check.place.name if check.place else None
    if name and not name.isdecimal() and _PLAIN_NAME.fullmatch(name):
        return name
    return str(check.samples.after.namespace)


def _labels(checks: Checks) -> list[str]:
    """What stands before each namespace's data: its name, with its number where two are called alike."""
    names = [_short(check) for check in checks.checks]
    return [
        name if name not in names[:place] else f"{name}@{check.samples.after.namespace}"
        for place, (check, name) in enumerate(zip(checks.checks, names, strict=True))
    ]


def _state_data(check: Check, before: str = "") -> list[str]:
    return [
        f"'{before}{state.key}'={'U' if isinstance(reading, Missing) else reading};;;0"
        for state, reading in state_readings(check.samples.after.census).items()
    ]


def _sums(checks: Checks) -> list[str]:
    """The states of all namespaces together; a sum with an unknown in it is unknown."""
    every = [state_readings(check.samples.after.census) for check in checks.checks]
    data = []
    for state in every[0]:
        numbers = [readings[state] for readings in every]
        known = [number for number in numbers if not isinstance(number, Missing)]
        data.append(f"'{state.key}'={sum(known) if len(known) == len(numbers) else 'U'};;;0")
    return data


def unknown_nagios(reason: str) -> str:
    """Return the one line of a plugin that could not look."""
    return f"TCPDOCTOR UNKNOWN - {shorten(plain(reason))}\n"


def plain(text: str) -> str:
    """One line without what ends a text, or a quotation, for those who read plugins."""
    return _STEERING.sub(" ", text).translate(_QUOTES).strip()


def _headline(check: Check) -> str:
    diagnosis = check.diagnosis
    head = f"TCPDOCTOR {WORDS[exit_code(check)]} - "
    asked = len({rule.rule for rule in diagnosis.unchecked if rule.applies})
    unanswered = f"; {plural(asked, 'rule')} not answered" if asked else ""
    if not diagnosis.findings:
        left = unjudged(diagnosis, check.samples.after)
        crowds = "".join(f"{one.number:,} in {one.state.name} not judged, " for one in left)
        return f"{head}no findings, {crowds}{plural(checked(diagnosis), 'rule')} checked{unanswered}"
    total = len(diagnosis.findings) + sum(each.number for each in diagnosis.untold)
    found = f"{head}{plural(total, 'finding')}: "
    worst, *others = diagnosis.findings
    numbers = f"{worst.whom or worst.label} {worst.headline or worst.title}"
    alike = Counter(finding.rule for finding in others)
    alike.update(untold_by_rule(diagnosis))
    room = _WIDTH - len(found) - len(numbers) - len(unanswered)
    rest = f", {_first_that_fit(alike, room)}" if alike else ""
    return found + plain(numbers) + rest + unanswered


def _first_that_fit(alike: Mapping[str, int], room: int) -> str:
    """The first rules, those of several findings with their number, and how many more findings there are."""
    names = [f"{rule} ({number})" if number > 1 else rule for rule, number in alike.items()]
    numbers = list(alike.values())
    for shown in range(len(names), 0, -1):
        left = sum(numbers[shown:])
        text = ", ".join([*names[:shown], *([f"{left} more"] if left else [])])
        if len(text) <= room and (shown > 1 or not left):
            return text
    return f"{sum(numbers)} more"


def _details(check: Check) -> list[str]:
    lines = []
    seen: dict[str, int] = {}
    for finding in check.diagnosis.findings:
        seen[finding.rule] = seen.get(finding.rule, 0) + 1
        if seen[finding.rule] <= _MOST_ALIKE:
            lines.append(_detail(finding))
    untold = untold_by_rule(check.diagnosis)
    for rule, number in seen.items():
        more = max(0, number - _MOST_ALIKE) + untold.get(rule, 0)
        if more:
            lines.append(f"... and {plural(more, 'finding')} more of {rule}")
    reasons: dict[str, list[str]] = {}
    for unchecked in check.diagnosis.unchecked:
        if unchecked.applies:
            reasons.setdefault(unchecked.reason, []).append(unchecked.rule)
    lines += [plain(f"not answered: {', '.join(rules)}: {reason}") for reason, rules in reasons.items()]
    counted = f"{checked(check.diagnosis)} of {plural(check.diagnosis.rules, 'rule')} checked"
    command = PLAIN._replace(netns=check.netns).asks("tcpdoctor check")
    return [*lines, f"{counted}; what to do: {plain(command)}"]


def _detail(finding: Finding) -> str:
    said = finding.headline or f"{finding.title}: {finding.summary}"
    whom = finding.whom or finding.label
    return plain(f"{finding.severity.key.upper()} {whom} {said} ({finding.rule})")


# performance data


def _measures(check: Check) -> Sequence[Measure]:
    return () if check.measured is None else check.measured.rules


def _datum(measure: Measure, before: str = "") -> str:
    """``'close-wait-leak'=137;100;;0``: label, value with unit, warning, critical, least."""
    scale, unit = (100.0, "%") if measure.is_share else (1.0, _UNITS.get(measure.dimension, ""))
    if isinstance(measure.value, Missing) or not math.isfinite(measure.value):
        value = "U"
    else:
        value = _number(measure.value * scale) + unit
    warning, critical = (
        _range(limit, scale, falls=measure.falls) for limit in (measure.warning, measure.critical)
    )
    least = "" if not isinstance(measure.value, Missing) and measure.value < 0 else "0"
    return f"'{before}{measure.rule}'={value};{warning};{critical};{least}"


def _range(limit: float | None, scale: float, *, falls: bool) -> str:
    """The range whose outside alerts, as the guidelines write it; empty where there is no limit."""
    if limit is None:
        return ""
    return _number(limit * scale) + (":" if falls else "")


def _number(value: float) -> str:
    """Digits and perhaps a point: no exponent, no separators."""
    return str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0").rstrip(".")

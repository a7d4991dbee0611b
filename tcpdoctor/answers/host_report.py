"""What a host's report says, for a fleet: checked, cleaned and cut to what a merged report needs.

A report comes from another host, perhaps from another version or from somebody hostile. A part that is
not what `check --format json` writes makes the whole report unreadable, with the part and the reason;
nothing is guessed.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Literal, NoReturn, TypeAlias

from tcpdoctor.answers.check import CROWD, JUDGES, crowd_words
from tcpdoctor.answers.record import Time
from tcpdoctor.diagnosis.finding import Severity, WrongFix
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple

Status: TypeAlias = Literal["ok", "unknown", "warning", "critical"]
STATUSES: tuple[Status, ...] = ("ok", "unknown", "warning", "critical")
"""Of a host; the worst last."""
MOST_ITEMS = 6
"""Fixes, and things that do not help, that are kept of a finding."""
MOST_IN_A_LIST = 10_000
"""Reports in one JSON list; more of them go on lines of their own."""
_MOST_LINES = 40
_MOST_BEYOND = 2**32
_MOST_COMMANDS = 6
_SEVERITIES: Mapping[str, Severity] = {severity.key: severity for severity in Severity}


class FailedHost(NamedTuple):
    """Which host it was."""

    name: str


class HostFailure(NamedTuple):
    """What stands for a report where a host could not be looked at."""

    schema: Literal["tcpdoctor.failure/1"]
    host: FailedHost
    taken_at: Time
    reason: str


class FleetSetting(NamedTuple):
    """The sysctl that a fix sets."""

    name: str
    persist: str
    """The line for a file of /etc/sysctl.d."""


class FleetFix(NamedTuple):
    """One fix of a finding, as the host told it."""

    kind: str
    title: str
    do: str
    risk: str
    verify: str
    undo: str | None
    sysctl: FleetSetting | None
    prose: str
    """`do` without its commands; all of it where the report is of a version that does not part them."""
    commands: tuple[str, ...]
    verify_commands: tuple[str, ...]
    undo_commands: tuple[str, ...]


class ToldFinding(NamedTuple):
    """One finding of one host: what is the same on every host, and what was seen on this one."""

    rule: str
    severity: Severity
    label: str
    """Of the subject: ``nginx (811)``."""
    title: str
    headline: str
    """What was seen, in a line; empty where the report is of a version without it."""
    summary: str
    explanation: str
    impact: str
    fixes: tuple[FleetFix, ...]
    wrong_fixes: tuple[WrongFix, ...]
    whom: str = ""
    """The label, or the server of a listener: whom the headline is about."""
    within: str = ""
    """How its network namespace is called; empty where it has no name, as the host's own."""


class HostLook(NamedTuple):
    """What was seen in one network namespace of one host, or why nothing was."""

    host: str | None
    """None where the report does not even say whose it is."""
    namespace: str
    """Its number and its name, where it has one; empty where nothing was seen."""
    taken_at: float
    """Seconds since 1970; 0 where the report does not say."""
    status: Status
    reason: str | None
    """Why the status is unknown."""
    findings: tuple[ToldFinding, ...]
    unanswered: int
    """Rules that could not be answered."""
    beyond: tuple[tuple[str, Severity, int], ...] = ()
    """Rule, severity and number of findings that the host counted and did not tell."""
    complete_since: float = 0.0
    """Where the report was of every namespace of the host: older reports of it say nothing any more."""


class _Wrong(Exception):  # noqa: N818 - it never leaves this module
    """A part of a report is not what it should be; the text names it."""


def looks_of(value: Reading[object]) -> Iterator[HostLook]:
    """Give what one document says, namespace by namespace; one of status unknown where it says nothing."""
    if isinstance(value, Missing):
        yield unseen(None, value.reason)
        return
    if isinstance(value, list) and not 0 < len(value) <= MOST_IN_A_LIST:
        yield unseen(None, f"it is a list of {len(value)}, where one to {MOST_IN_A_LIST} reports may be")
        return
    for document in value if isinstance(value, list) else [value]:
        try:
            looks = [*_read(document)]
        except _Wrong as problem:
            looks = [unseen(_host_name(document), str(problem))]
        yield from looks


def unseen(host: str | None, reason: str, taken_at: float = 0.0) -> HostLook:
    """Return the look of a host that nothing is known of."""
    return HostLook(host, "", taken_at, "unknown", reason, (), 0)


def _read(document: object) -> Iterator[HostLook]:
    if not isinstance(document, dict):
        _refuse("the report", document, "an object")
    schema = document.get("schema")
    match schema:
        case "tcpdoctor.check/1":
            yield _check(document)
        case "tcpdoctor.checks/1":
            yield from _checks(document)
        case "tcpdoctor.failure/1":
            reason = _text(document, "reason", 300) or "it does not say why"
            yield unseen(_need_host(document), reason, _taken_at(document))
        case None:
            raise _Wrong("it has no `schema`: is it of `tcpdoctor check --format json`?")
        case _:
            raise _Wrong(_foreign(clean(str(schema), 60)))


def _foreign(schema: str) -> str:
    kind, _, version = schema.partition("/")
    if kind in ("tcpdoctor.check", "tcpdoctor.checks", "tcpdoctor.failure"):
        return f"its schema is {schema}, and this tcpdoctor reads {kind}/1: use the newer of the two"
    if kind == "tcpdoctor.fleet":
        return "it is a merged report: give the reports that it was made of"
    return f"its schema is {schema or version!r}: it is not of `tcpdoctor check --format json`"


def _checks(document: dict[str, object]) -> Iterator[HostLook]:
    looks = [_check(_object(one, "checks")) for one in _list(document, "checks")]
    since = min((look.taken_at for look in looks), default=0.0)
    host = next((look.host for look in looks), None)
    for number, one in enumerate(_list(document, "failed", optional=True)):
        failed = _object(one, f"failed[{number}]")
        reason = _text(failed, "reason", 300)
        where = _text(failed, "namespace_name", 64) or _text(failed, "namespace", 64)
        looks.append(unseen(host, f"network namespace {where}: {reason}", since)._replace(namespace=where))
    if not looks:
        raise _Wrong("it holds no check of any namespace")
    for look in looks:
        yield look._replace(complete_since=since)


def _check(document: dict[str, object]) -> HostLook:
    host = _need_host(document)
    said = document.get("status")
    if said not in STATUSES:
        _refuse("status", said, f"one of {', '.join(STATUSES)}")
    place = _object(document.get("host"), "host")
    names = [_text(place, key, 64) for key in ("namespace", "namespace_name")]
    findings = tuple(
        _finding(one, number)._replace(within=names[1])
        for number, one in enumerate(_list(document, "findings"))
    )
    unchecked = _list(document, "unchecked")
    found = {"ok", said, *(finding.severity.key for finding in findings)}
    status = max((one for one in STATUSES if one in found), key=STATUSES.index)
    return HostLook(
        host=host,
        namespace=" ".join(name for name in names if name),
        taken_at=_taken_at(document),
        status=status,
        reason=_blindness(unchecked, document.get("states")) if status == "unknown" else None,
        findings=findings,
        unanswered=len({_text(_object(one, "unchecked"), "rule", 80) for one in unchecked}),
        beyond=tuple(_beyond(_object(one, "untold")) for one in _list(document, "untold", optional=True)),
    )


def _blindness(unchecked: list[object], states: object) -> str:
    """Return why nobody can tell: sockets that were not judged, else the reason that most rules give."""
    rules = {_text(_object(one, "unchecked"), "rule", 80) for one in unchecked}
    counted = states if isinstance(states, dict) else {}
    for rule, state in JUDGES.items():
        number = counted.get(state.key)
        if rule in rules and type(number) is int and number >= CROWD:
            return crowd_words([(number, state)])
    reasons = [_text(_object(one, "unchecked"), "reason", 200) for one in unchecked]
    if not reasons:
        return "too little could be checked there"
    often = max(dict.fromkeys(reasons), key=reasons.count) if len(reasons) < 1000 else reasons[0]
    return f"too little could be checked there: {often}"


def _finding(value: object, number: int) -> ToldFinding:
    finding = _object(value, f"findings[{number}]")
    severity = _SEVERITIES.get(str(finding.get("severity")))
    if severity is None:
        _refuse(f"findings[{number}].severity", finding.get("severity"), f"one of {', '.join(_SEVERITIES)}")
    rule = _text(finding, "rule", 80)
    if not rule:
        _refuse(f"findings[{number}].rule", finding.get("rule"), "a rule's id")
    wrong = [_object(one, "wrong_fixes") for one in _list(finding, "wrong_fixes", optional=True)[:MOST_ITEMS]]
    fixes = _list(finding, "fixes", optional=True)[:MOST_ITEMS]
    subject = finding.get("subject")
    label, process = (
        _text(subject, key, 120) if isinstance(subject, dict) else "" for key in ("label", "process")
    )
    return ToldFinding(
        rule=rule,
        severity=severity,
        label=label,
        title=_text(finding, "title", 160) or rule,
        headline=_text(finding, "headline", 160),
        summary=_block(finding, "summary", 600),
        explanation=_block(finding, "explanation", 2400),
        impact=_block(finding, "impact", 1200),
        fixes=tuple(_fix(_object(one, "fixes")) for one in fixes),
        wrong_fixes=tuple(WrongFix(_text(one, "title", 160), _block(one, "why", 800)) for one in wrong),
        whom=process if process and finding.get("scope") == "listener" else label,
    )


def _beyond(untold: dict[str, object]) -> tuple[str, Severity, int]:
    severity, number = _SEVERITIES.get(str(untold.get("severity"))), untold.get("number")
    if severity is None:
        _refuse("untold.severity", untold.get("severity"), f"one of {', '.join(_SEVERITIES)}")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        _refuse("untold.number", number, "a number")
    return _text(untold, "rule", 80), severity, min(number, _MOST_BEYOND)


def _fix(fix: dict[str, object]) -> FleetFix:
    sysctl = fix.get("sysctl")
    setting = None
    if isinstance(sysctl, dict):
        setting = FleetSetting(_text(sysctl, "name", 120), _text(sysctl, "persist", 240))
    return FleetFix(
        kind=_text(fix, "kind", 20),
        title=_text(fix, "title", 160),
        do=_block(fix, "do", 1600),
        risk=_block(fix, "risk", 800),
        verify=_block(fix, "verify", 600),
        undo=_block(fix, "undo", 600) or None,
        sysctl=setting,
        prose=_block(fix, "prose" if "prose" in fix else "do", 1600),
        commands=_commands(fix, "commands"),
        verify_commands=_commands(fix, "verify_commands"),
        undo_commands=_commands(fix, "undo_commands"),
    )


def _commands(fix: dict[str, object], key: str) -> tuple[str, ...]:
    found = fix.get(key)
    texts = found if isinstance(found, list) else []
    return tuple(clean(text, 600) for text in texts[:_MOST_COMMANDS] if isinstance(text, str))


def _need_host(document: dict[str, object]) -> str:
    name = _host_name(document)
    if name is None:
        raise _Wrong("host.name is missing: it does not say whose report it is")
    return name


def _host_name(document: object) -> str | None:
    """Return whose report it is, where at least that can be read."""
    host = document.get("host") if isinstance(document, dict) else None
    name = host.get("name") if isinstance(host, dict) else None
    return clean(name, 120).strip() or None if isinstance(name, str) else None


def _taken_at(document: dict[str, object]) -> float:
    written = document.get("taken_at")
    text = str(written)
    if text.endswith(("Z", "z")):  # Python 3.10 does not read it
        text = text[:-1] + "+00:00"
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        _refuse("taken_at", written, "a time such as 2026-11-20T12:00:00Z")
    return seconds


def _object(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        _refuse(place, value, "an object")
    return value


def _list(document: dict[str, object], key: str, *, optional: bool = False) -> list[object]:
    value = document.get(key)
    if value is None and optional:
        return []
    if not isinstance(value, list):
        _refuse(key, value, "a list")
    return value


def _text(document: dict[str, object], key: str, limit: int) -> str:
    """Return one line; empty where there is none, or it is null."""
    return clean(_string(document, key), limit).strip()


def _block(document: dict[str, object], key: str, limit: int) -> str:
    """Return lines, each of them cleaned; the indentation of commands stays."""
    told = _string(document, key)[: limit * 4].split("\n")[:_MOST_LINES]
    lines = [clean(line, limit).rstrip() for line in told]
    text = "\n".join(lines).strip("\n")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _string(document: dict[str, object], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        _refuse(key, value, "text")
    return value


def _refuse(place: str, value: object, expected: str) -> NoReturn:
    kinds = {dict: "an object", list: "a list", type(None): "missing", bool: "true or false"}
    shown = kinds.get(type(value)) or repr(clean(str(value), 40))
    raise _Wrong(f"{place} is {shown}, where {expected} is expected")

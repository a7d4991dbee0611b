"""The answers of several network namespaces as one answer of the same format: ``--netns all``."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias


class Answer(NamedTuple):
    """What one command line said from inside one network namespace."""

    label: str
    """For people: ``network namespace blue (4026532177)``."""
    namespace: int
    """Inode of the network namespace."""
    name: str | None
    own: bool
    """Whether it is the namespace that the command was started in."""
    code: int
    """Exit code."""
    text: str
    """What went to standard output; empty where it could not look."""
    complaints: tuple[str, ...]
    """What went to standard error, line by line."""


_Joined: TypeAlias = Callable[[Sequence[Answer], str, int], str]
_UNKNOWN = 3
_MOST_NAMED = 5
_LABEL = re.compile("'([^']*)'=")
_COUNT = re.compile(r"'([^']*)'=(U|\d+);;;0(?:\s|$)")
_PLAIN_NAME = re.compile(r"[\w.:-]+", re.ASCII)
_SILENT = "it gave no answer"


def join(kind: str, answers: Sequence[Answer], command: str, *, hidden: int, quiet: bool = False) -> str:
    """Return one answer in the format `kind`, one of `JOINS`; "" where with `quiet` there is none.

    Args:
        kind: The format of every answer and of the result.
        answers: One for each namespace, in the order in which they shall be told.
        command: ``check``, ``states`` ...
        hidden: Processes that did not let us see their namespace: there may be more namespaces.
        quiet: Whether a namespace without an answer is one of which there is nothing to tell.
    """
    if quiet:
        answers = [answer for answer in answers if answer.text or answer.code == _UNKNOWN]
        if not answers:
            return ""
    return JOINS[kind](answers, command, hidden)


def _as_text(answers: Sequence[Answer], _command: str, _hidden: int) -> str:
    parts = []
    for answer in answers:
        here = ", where this was started" if answer.own else ""
        heading = f"=== {answer.label}{here}"
        body = answer.text.rstrip("\n") or "\n".join(answer.complaints)
        if body:
            parts.append(f"{heading}\n{body}\n")
    return "\n".join(parts)


def _as_markdown(answers: Sequence[Answer], _command: str, _hidden: int) -> str:
    from tcpdoctor.report.page_markdown import escaped

    parts = []
    for answer in answers:
        body = answer.text.rstrip("\n") or "\n".join(answer.complaints)
        label = answer.label[0].upper() + answer.label[1:]
        parts.append(f"# {escaped(label)}\n\n{body if answer.text else escaped(body)}\n")
    return "\n".join(parts)


def _as_json(answers: Sequence[Answer], command: str, hidden: int) -> str:
    told = [json.loads(answer.text) for answer in answers if answer.text]
    failed = [
        {
            "namespace": str(answer.namespace),
            "namespace_name": answer.name,
            "reason": _reason(answer),
        }
        for answer in answers
        if not answer.text
    ]
    schema, key = (
        ("tcpdoctor.checks/1", "checks") if command == "check" else ("tcpdoctor.namespaces/1", "answers")
    )
    document: dict[str, Any] = {"schema": schema, key: told, "failed": failed, "hidden_processes": hidden}
    return json.dumps(document, indent=1, allow_nan=False)


def _as_prometheus(answers: Sequence[Answer], _command: str, _hidden: int) -> str:
    """Samples of one metric have to stand together, below one HELP and one TYPE.

    A series that is there twice would make the collector refuse the whole file. Two namespaces have the same
    label where somebody has named one as the other is numbered; then the first, which is the worst, stays.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, dict[str, str]] = {}
    for answer in answers:
        name = ""
        for line in answer.text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                heads.setdefault(name, [])
                samples.setdefault(name, {})
            if not line.startswith("#"):
                samples[name].setdefault(line.rpartition(" ")[0], line)
            elif line not in heads[name]:
                heads[name].append(line)
    return "".join("\n".join([*head, *samples[name].values(), ""]) for name, head in heads.items())


def _as_junit(answers: Sequence[Answer], command: str, _hidden: int) -> str:
    """One test suite for each namespace; one that could not be looked at is a suite with an error."""
    import xml.etree.ElementTree as ET

    joined = ET.Element("testsuites")
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for answer in answers:
        if answer.text:
            suites = list(ET.fromstring(answer.text))  # noqa: S314 - as above
        else:
            suites = [ET.Element("testsuite", tests="1", failures="0", errors="1", skipped="0")]
            case = ET.SubElement(suites[0], "testcase", classname="tcpdoctor", name=command)
            ET.SubElement(case, "error", message=_reason(answer))
        for suite in suites:
            suite.set("name", f"tcpdoctor {command}, {answer.label}")
            joined.append(suite)
            for name in totals:
                totals[name] += int(suite.get(name, "0"))
    joined.attrib |= {name: str(number) for name, number in totals.items()}
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(joined, encoding="unicode") + "\n"


def _as_nagios(answers: Sequence[Answer], _command: str, _hidden: int) -> str:
    """The worst namespace decides the word, and those that are well get one line.

    The states of all together are the performance data of the first line; after the details each namespace
    has its own, with its name before their label. So a short buffer cuts what matters least.
    """
    from tcpdoctor.report.check_nagios import WORDS, plain

    ill = [answer for answer in answers if answer.code]
    names = ", ".join(_short(answer) for answer in ill[:_MOST_NAMED])
    names += f", {len(ill) - _MOST_NAMED} more" if len(ill) > _MOST_NAMED else ""
    spaces = f"{len(answers)} network namespace{'s' if len(answers) > 1 else ''}"
    state = f"{len(ill)} of {spaces} not OK: {names}" if ill else f"{spaces}, all OK"
    first, details, data = f"TCPDOCTOR {WORDS[ill[0].code if ill else 0]} - {state}", [], []
    sums: dict[str, int | None] = {}
    for answer in answers:
        told = answer.text.splitlines() or [f"TCPDOCTOR UNKNOWN - {plain(_reason(answer))}"]
        for number, line in enumerate(told):
            text, _, values = line.partition(" | ")
            if number == 0:
                details.append(f"{plain(answer.label)}: {text}")
                _add(sums, values)
            elif answer.code:
                details.append(f"  {text}")
            data.append(_LABEL.sub(rf"'{_short(answer)}/\1'=", values))
    first += f" | {_summed(sums)}" if sums else ""
    details[-1] += f" | {' '.join(value for value in data if value)}" if any(data) else ""
    return "\n".join([first, *details]) + "\n"


def _add(sums: dict[str, int | None], values: str) -> None:
    """Add the performance data of one namespace's states; a sum with an unknown in it is unknown."""
    for label, value in _COUNT.findall(values):
        before = sums.get(label, 0)
        sums[label] = None if before is None or value == "U" else before + int(value)


def _summed(sums: dict[str, int | None]) -> str:
    return " ".join(f"'{label}'={'U' if value is None else value};;;0" for label, value in sums.items())


def _short(answer: Answer) -> str:
    """A name for labels, unless it could be taken for another namespace's number."""
    name = answer.name
    return name if name and not name.isdecimal() and _PLAIN_NAME.fullmatch(name) else str(answer.namespace)


def _reason(answer: Answer) -> str:
    return "; ".join(answer.complaints) or _SILENT


JOINS: dict[str, _Joined] = {
    "text": _as_text,
    "json": _as_json,
    "markdown": _as_markdown,
    "prometheus": _as_prometheus,
    "junit": _as_junit,
    "nagios": _as_nagios,
}
"""The formats that can hold several namespaces."""

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


def join(kind: str, answers: Sequence[Answer], command: str, *, hidden: int) -> str:
    """Return one answer in the format `kind`, one of `JOINS`.

    Args:
        kind: The format of every answer and of the result.
        answers: One for each namespace, in the order in which they shall be told.
        command: ``check``, ``states`` ...
        hidden: Processes that did not let us see their namespace: there may be more namespaces.
    """
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
    parts = []
    for answer in answers:
        body = answer.text.rstrip("\n") or "\n".join(answer.complaints)
        label = answer.label[0].upper() + answer.label[1:]
        parts.append(f"# {label}\n\n{body}\n")
    return "\n".join(parts)


def _as_json(answers: Sequence[Answer], command: str, hidden: int) -> str:
    told = [json.loads(answer.text) for answer in answers if answer.text]
    failed = [
        {
            "namespace": str(answer.namespace),
            "namespace_name": answer.name,
            "reason": "; ".join(answer.complaints) or "it gave no answer",
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
    """Samples of one metric have to stand together, below one HELP and one TYPE."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, dict[str, None]] = {}
    for answer in answers:
        name = ""
        for line in answer.text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                heads.setdefault(name, [])
                samples.setdefault(name, {})
            if not line.startswith("#"):
                samples[name][line] = None
            elif line not in heads[name]:
                heads[name].append(line)
    return "".join("\n".join([*head, *samples[name], ""]) for name, head in heads.items())


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
            ET.SubElement(case, "error", message="; ".join(answer.complaints) or "it gave no answer")
        for suite in suites:
            suite.set("name", f"tcpdoctor {command}, {answer.label}")
            joined.append(suite)
            for name in totals:
                totals[name] += int(suite.get(name, "0"))
    joined.attrib |= {name: str(number) for name, number in totals.items()}
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(joined, encoding="unicode") + "\n"


def _as_nagios(answers: Sequence[Answer], _command: str, _hidden: int) -> str:
    """The worst namespace decides the word; performance data carry the namespace before their label."""
    words = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN"}
    ill = [answer for answer in answers if answer.code]
    word = words[ill[0].code if ill else 0]
    names = ", ".join(_short(answer) for answer in ill[:5]) + (
        f", {len(ill) - 5} more" if len(ill) > 5 else ""
    )
    spaces = f"{len(answers)} network namespace{'s' if len(answers) > 1 else ''}"
    state = f"{len(ill)} of {spaces} not OK: {names}" if ill else f"{spaces}, all OK"
    lines, data = [f"TCPDOCTOR {word} - {state}"], []
    for answer in answers:
        reason = "; ".join(answer.complaints) or "it gave no answer"
        told = answer.text.splitlines() or [f"TCPDOCTOR UNKNOWN - {reason.replace('|', '/')}"]
        for number, line in enumerate(told):
            text, _, values = line.partition(" | ")
            lines.append(f"{answer.label}: {text}" if number == 0 else f"  {text}")
            data.append(re.sub(r"'([^']*)'=", rf"'{_short(answer)}/\1'=", values))
    lines[-1] += f" | {' '.join(value for value in data if value)}" if any(data) else ""
    return "\n".join(lines) + "\n"


def _short(answer: Answer) -> str:
    return answer.name if answer.name and re.fullmatch(r"[\w.:-]+", answer.name) else str(answer.namespace)


JOINS: dict[str, _Joined] = {
    "text": _as_text,
    "json": _as_json,
    "markdown": _as_markdown,
    "prometheus": _as_prometheus,
    "junit": _as_junit,
    "nagios": _as_nagios,
}
"""The formats that can hold several namespaces."""

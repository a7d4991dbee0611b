"""The answers of several network namespaces as one answer of the same format: ``--netns all``."""

import json
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


def _reason(answer: Answer) -> str:
    return "; ".join(answer.complaints) or _SILENT


JOINS: dict[str, _Joined] = {
    "text": _as_text,
    "json": _as_json,
}
"""The formats that can hold several namespaces."""

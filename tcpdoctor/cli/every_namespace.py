"""`--netns all`: one command line, answered from inside every network namespace of this host.

Each namespace gets a forked child of its own, so that their windows run at the same time; what the children
print is joined into one answer of the same format (`tcpdoctor.report.joined`).
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tcpdoctor.cli.complaint import complain
from tcpdoctor.cli.netns import EVERY, for_one
from tcpdoctor.cli.output import Output, emit
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.namespace_entry import NamespacePlace, NamespacesFound, find_namespaces
from tcpdoctor.report.host import plural
from tcpdoctor.report.joined import JOINS, Answer, join

_AT_ONCE = 8
"""Children that look at the same time: more would make each other's windows longer than was asked for."""
_REFUSED = {
    "--since-last": "the sample in FILE is of one namespace: run tcpdoctor once for each",
    "--timeout": "it bounds one look: put `timeout` before tcpdoctor, or run it once for each",
}

Run = Callable[[Sequence[str]], int]
"""Runs one command line in this process and returns its exit code."""


def answer_everywhere(arguments: Sequence[str], run: Run) -> int:
    """Run a command line once in every namespace and print one answer; return the worst exit code.

    Raises:
        QuestionError: An option that makes no sense for several namespaces at once.
    """
    _refuse_what_is_for_one(arguments)
    kind = _value_of(arguments, "--format") or "text"
    if kind not in JOINS:
        raise QuestionError(
            f"--format {kind}: cannot hold several namespaces; with --netns {EVERY} choose {', '.join(JOINS)}"
        )
    found = find_namespaces()
    answers = sorted(_ask_all(arguments, found, run), key=lambda answer: (_rank(answer.code), not answer.own))
    for answer in answers:
        for line in answer.complaints:
            complain(f"{answer.label}: {line}")
    if found.hidden:
        remedy = "" if os.geteuid() == 0 else "; run as root"
        who = plural(found.hidden, "process", "processes")
        complain(f"tcpdoctor: {who} did not show a network namespace: there may be more{remedy}")
    file = _value_of(arguments, "--output")
    color = _value_of(arguments, "--color") or "auto"
    text = join(kind, answers, arguments[0], hidden=found.hidden)
    emit(text, Output(kind, Path(file) if file else None, color))
    return max((answer.code for answer in answers), key=_rank_of_worst)


def _refuse_what_is_for_one(arguments: Sequence[str]) -> None:
    for option, reason in _REFUSED.items():
        if _value_of(arguments, option) is not None:
            raise QuestionError(f"{option} with --netns {EVERY}: {reason}")


def _rank_of_worst(code: int) -> int:
    """Critical before warning before what could not be looked at before well."""
    return {2: 3, 1: 2, 3: 1}.get(code, 0)


def _rank(code: int) -> int:
    return -_rank_of_worst(code)


def _value_of(arguments: Sequence[str], option: str) -> str | None:
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == option:
            return after
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _without(arguments: Sequence[str], option: str) -> list[str]:
    words = []
    skipping = False
    for word in arguments:
        if skipping:
            skipping = False
        elif word == option:
            skipping = True
        elif not word.startswith(f"{option}="):
            words.append(word)
    return words


def _ask_all(arguments: Sequence[str], found: NamespacesFound, run: Run) -> Iterator[Answer]:
    base = _without(arguments, "--output")
    for start in range(0, len(found.places), _AT_ONCE):
        group = found.places[start : start + _AT_ONCE]
        asked = [(place, *_ask(for_one(base, place.path), run)) for place in group]
        for number, (place, child, out, err) in enumerate(asked):
            own = start == 0 and number == 0
            yield _answer(place, child, out, err, own=own)


def _ask(arguments: list[str], run: Run) -> tuple[int, BinaryIO, BinaryIO]:
    """Start a child that answers into memory."""
    out, err = (open(os.memfd_create(name), "r+b") for name in ("answer", "complaints"))  # noqa: SIM115
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        code = 3
        try:
            code = run(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return child, out, err


def _answer(place: NamespacePlace, child: int, out: BinaryIO, err: BinaryIO, *, own: bool) -> Answer:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    texts = []
    for stream in (out, err):
        with stream:
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    complaints = [line for line in texts[1].splitlines() if line]
    if code not in (0, 1, 2, 3):
        complaints.append(f"the look ended with {'signal' if code < 0 else 'exit code'} {abs(code)}")
        code = 3
    return Answer(_label(place), place.inode, place.name, own, code, texts[0], tuple(complaints))


def _label(place: NamespacePlace) -> str:
    if place.name is not None:
        return f"network namespace {place.name} ({place.inode})"
    if place.pid is not None:
        return f"network namespace {place.inode} of process {place.pid}"
    return f"network namespace {place.inode}"

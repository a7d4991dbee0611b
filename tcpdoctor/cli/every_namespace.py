"""`--netns all`: one command line, answered from inside every network namespace of this host.

Each namespace gets a forked child of its own, so that their windows run at the same time; what the children
print is joined into one answer of the same format (`tcpdoctor.report.joined`).
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tcpdoctor.cli.options import EVERY, for_one
from tcpdoctor.cli.output import UNKNOWN, Output, complain, emit, is_journal, refuse_hopeless_file, style_of
from tcpdoctor.errors import QuestionError, TcpdoctorError
from tcpdoctor.kernel.namespace_entry import (
    HeldPlace,
    NamespacePlace,
    enter_held,
    find_namespaces,
    hold,
    who_is_inside,
)
from tcpdoctor.kernel.namespaces import call_namespace
from tcpdoctor.report.host import plural
from tcpdoctor.report.joined import JOINS, Answer, join

_AT_ONCE = 64
"""Children that look at the same time, so that they wait for their windows together; what they need is
imported and read before they are forked."""
_HERE = "/proc/thread-self/ns/net"
_LAST = "--since-last"
Run = Callable[[Sequence[str]], int]
"""Runs one command line in this process and returns its exit code."""


def answer_everywhere(arguments: Sequence[str], run: Run) -> int:
    """Run a command line once in every namespace and print one answer; return the worst exit code.

    Raises:
        QuestionError: An option that makes no sense for several namespaces at once.
        TcpdoctorError: The answer could not be written, or was not there in time.
    """
    file = _value_of(arguments, "--output")
    kind = _value_of(arguments, "--format") or "text"
    target = Output(kind, Path(file) if file else None, _value_of(arguments, "--color") or "auto")
    try:
        return _answer_in(target, arguments, run)
    except TcpdoctorError as error:
        if kind != "nagios":
            raise
        # a monitoring system shows what is on stdout
        from tcpdoctor.report.check_nagios import unknown_nagios

        emit(unknown_nagios(str(error)), Output(kind))
        return UNKNOWN


def _answer_in(target: Output, arguments: Sequence[str], run: Run) -> int:
    _refuse_what_is_for_one(arguments, target.format)
    refuse_hopeless_file(target)
    colored = style_of(target).color
    arguments, tell_stage = _bounded(arguments)
    tell_stage("looking for network namespaces")
    found = find_namespaces()
    own = os.stat(_HERE).st_ino
    places = [place if place.inode == own else who_is_inside(place) for place in found.places]
    tell_stage(f"looking into {plural(len(places), 'network namespace')}")
    answers = sorted(
        _ask_all(arguments, places, run, colored=colored),
        key=lambda answer: (_rank(answer.code), not answer.own),
    )
    if _is_refused(answers):  # and not because of a namespace: once is enough
        for line in answers[0].complaints:
            complain(line)
        emit(answers[0].text, Output(target.format))
        return UNKNOWN
    quiet = "--quiet" in arguments
    _complain_of(answers, 0 if quiet else found.hidden)
    tell_stage("writing the answer")
    text = join(target.format, answers, arguments[0], hidden=found.hidden, quiet=quiet)
    emit(text, target._replace(color="always" if colored else "never"))
    return max((answer.code for answer in answers), key=_rank_of_worst)


def _bounded(arguments: Sequence[str]) -> tuple[Sequence[str], Callable[[str], None]]:
    """Bound all looks together by `--timeout`; return the rest of the command line."""
    try:
        seconds = float(_value_of(arguments, "--timeout") or "")
    except ValueError:  # none, or the command says what is wrong with it
        return arguments, lambda _stage: None
    from tcpdoctor.cli.deadline import end_within, refuse_bad_timeout

    refuse_bad_timeout(seconds, 0)
    return _without(arguments, "--timeout"), end_within(seconds)


def _is_refused(answers: Sequence[Answer]) -> bool:
    """Whether all refuse the question, for the same reason: usage, a rule, the configuration."""
    first = answers[0]
    silent = not first.text or (len(first.text.splitlines()) == 1 and first.text.startswith("TCPDOCTOR"))
    told = {(answer.code, answer.text, answer.complaints) for answer in answers}
    return first.code == UNKNOWN and silent and len(told) == 1


def _complain_of(answers: Sequence[Answer], hidden: int) -> None:
    for answer in answers:
        for line in answer.complaints:
            complain(f"{answer.label}: {line}")
    if hidden:
        remedy = "" if os.geteuid() == 0 else "; run as root"
        who = plural(hidden, "process", "processes")
        complain(f"tcpdoctor: {who} did not show a network namespace: there may be more{remedy}")


def _refuse_what_is_for_one(arguments: Sequence[str], kind: str) -> None:
    if _value_of(arguments, _LAST) is not None:
        reason = "the sample in FILE is of one namespace: run tcpdoctor once for each"
        raise QuestionError(f"{_LAST} with --netns {EVERY}: {reason}")
    if kind not in JOINS:
        raise QuestionError(
            f"--format {kind}: cannot hold several namespaces; with --netns {EVERY} choose {', '.join(JOINS)}"
        )


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


def _ask_all(
    arguments: Sequence[str], places: Sequence[NamespacePlace], run: Run, *, colored: bool
) -> Iterator[Answer]:
    """One answer for each place that is still there when its turn comes."""
    words = for_one(_without(arguments, "--output"), _HERE)
    own = os.stat(_HERE).st_ino
    for start in range(0, len(places), _AT_ONCE):
        held = [(place, hold(place)) for place in places[start : start + _AT_ONCE]]
        asked = []
        for place, descriptor in held:
            if isinstance(descriptor, HeldPlace):
                namespace = descriptor.descriptor
                asked.append((place, *_ask(words, namespace, run, colored=colored, name=place.called())))
                os.close(namespace)
        for place, child, out, err in asked:
            yield _answer(place, child, out, err, own=place.inode == own)


def _ask(
    words: Sequence[str], namespace: int, run: Run, *, colored: bool, name: str | None
) -> tuple[int, BinaryIO, BinaryIO]:
    """Start a child that enters a namespace and answers into memory."""
    out, err = (open(os.memfd_create(name), "r+b") for name in ("answer", "complaints"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    left = signal.getitimer(signal.ITIMER_REAL)[0]  # a deadline's last resort is not inherited
    child = os.fork()
    if child == 0:
        code = UNKNOWN
        try:
            signal.setitimer(signal.ITIMER_REAL, left)
            _speak_into(out, err, colored=colored)
            call_namespace(name)
            code = _run_inside(words, namespace, run)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return child, out, err


def _speak_into(out: BinaryIO, err: BinaryIO, *, colored: bool) -> None:
    """Let what this process prints go there, in UTF-8 whatever the locale: the parent prints for people."""
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    is_journal.cache_clear()  # these are not
    if colored:
        os.environ["CLICOLOR_FORCE"] = "1"


def _run_inside(words: Sequence[str], namespace: int, run: Run) -> int:
    try:
        enter_held(namespace, "--netns")
    except QuestionError as error:
        complain(f"tcpdoctor {words[0]}: {error}")
        return UNKNOWN
    return run(words)


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
        code = UNKNOWN
    return Answer(_label(place, own=own), place.inode, place.called(), own, code, texts[0], tuple(complaints))


def _label(place: NamespacePlace, *, own: bool) -> str:
    if place.name is not None:
        within = f": {place.words()}" if place.inside else ""
        return f"network namespace {place.name} ({place.inode}){within}"
    if own:
        return f"network namespace {place.inode}"
    who = place.words() or (f"process {place.pid}" if place.pid is not None else "")
    return f"network namespace {place.inode} of {who}" if who else f"network namespace {place.inode}"

"""`tcpdoctor check`: look, judge, print, and say it with the exit code."""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tcpdoctor import __version__
from tcpdoctor.answers.check import (
    Check,
    check_everywhere,
    diagnose_on_demand,
    exit_code,
    exit_code_of_all,
    is_blind,
    unchecked_rules,
    with_measures,
)
from tcpdoctor.answers.states import are_many_closing
from tcpdoctor.cli.options import (
    CONFIG,
    EVERY,
    FROM,
    NETNS,
    RULES,
    WINDOW,
    Path,
    duration,
    recording_from,
    refuse_bad_window,
    takes,
)
from tcpdoctor.cli.output import (
    COLOR,
    JSON,
    LONG,
    NO_PAGER,
    OUTPUT,
    UNKNOWN,
    Output,
    complain,
    emit,
    format_of,
    is_journal,
    quoted_files,
    quoted_netns,
    refuse_hopeless_file,
    style_of,
)
from tcpdoctor.cli.waiting import ends_with_what_is_known, said_to_take, was_cut_short
from tcpdoctor.diagnosis.finding import Diagnosis, Severity
from tcpdoctor.errors import OutputError, QuestionError, SnapshotError, TcpdoctorError, UnknownRuleError
from tcpdoctor.kernel.reading import UNDERWAY, Missing
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.check_formats import (
    MEASURING_FORMATS,
    QUIET_FORMATS,
    CheckFormat,
    render,
    render_everywhere,
)
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style, TextForm

if TYPE_CHECKING:  # the memory of earlier runs is only for those who ask for it
    from tcpdoctor.cli.since_last import SinceLast
    from tcpdoctor.diagnosis.library import Library
    from tcpdoctor.kernel.snapshot import Samples
    from tcpdoctor.recordings.recording import Recording

_FAIL_ON = {
    "info": Severity.INFO,
    "warning": Severity.WARNING,
    "critical": Severity.CRITICAL,
    "never": None,
}


_WINDOW = 1.0
"""Seconds between the two samples where nothing else is asked for."""
_MOST_RUNS = 1000
_MOST_DESTINATIONS = 1000


class Request(NamedTuple):
    """What the user asks for: each field is an option."""

    rule: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RULE]...", help="Check these rules only, and print them in full."),
    ] = None
    fail_on: Annotated[
        Literal["info", "warning", "critical", "never"],
        typer.Option("--fail-on", help="The least severity that changes the exit code (info never does)."),
    ] = "warning"
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 3 if a rule that applies here could not be answered.")
    ] = False
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ID", help="Check these rules only; repeat, or separate by commas."),
    ] = None
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="ID", help="Leave these rules out; repeat, or separate by commas."),
    ] = None
    window: WINDOW = _WINDOW
    long: LONG = False
    unanswered: Annotated[
        bool, typer.Option("--unanswered", help="Print the rules that could not be answered, and why.")
    ] = False
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print findings at or above --fail-on only, else nothing.")
    ] = False
    rules: RULES = None
    config: CONFIG = None
    since_last: Annotated[
        Path | None,
        typer.Option(
            "--since-last",
            metavar="FILE",
            help="Compare with what the run before has left in FILE, without waiting for a window.",
        ),
    ] = None
    only_changes: Annotated[
        bool,
        typer.Option(
            "--only-changes", help="With --since-last: print what appeared and what went, else nothing."
        ),
    ] = False
    after: Annotated[
        int,
        typer.Option(
            "--after",
            metavar="N",
            min=1,
            max=_MOST_RUNS,
            help="With --only-changes: print what N runs behind each other have found, so not what flaps.",
        ),
    ] = 1
    netns: NETNS = None
    from_: FROM = None
    timeout: Annotated[
        float | None,
        typer.Option(
            "-t",
            "--timeout",
            metavar="TIME",
            parser=duration,
            help="Exit 3 if there is no answer after so long.",
        ),
    ] = None
    output_format: Annotated[
        CheckFormat, typer.Option("--format", help="For people, or for machines (jsonl: a host on one line).")
    ] = "text"
    as_json: JSON = False
    prometheus_destinations: Annotated[
        int,
        typer.Option(
            "--prometheus-destinations",
            metavar="N",
            min=0,
            max=_MOST_DESTINATIONS,
            help="Destinations of --format prometheus, those with the fewest ports left; 0: none.",
        ),
    ] = 10
    output: OUTPUT = None
    color: COLOR = "auto"
    no_pager: NO_PAGER = False
    lesson: Annotated[Literal["lesson", "again"] | None, typer.Option("--as", hidden=True)] = None
    """As the lab shows it: without what its story tells, or what was told before."""

    @property
    def form(self) -> TextForm:
        """How much of it the text has."""
        if self.lesson is not None:
            return self.lesson
        return "unanswered" if self.unanswered else "long" if self.long or self.rule else "short"

    @property
    def to_stdout(self) -> bool:
        """Nothing is to be left in a file that is not complete."""
        return self.output is None


@takes(Request)
def check(request: Request) -> None:
    """Say what is wrong with TCP here, why, and what to do.

    The short form has the verdict, what each finding is and what to type; tcpdoctor check RULE tells one of
    them in full, --long all.

    Exits 0 if nothing at or above --fail-on was found, 1 for a warning, 2 if it is critical, and 3 if it
    could not look: wrong usage, a bad rule or configuration, too little that could be answered.
    """
    kind = format_of(request.output_format, request.as_json)
    target = Output(kind, request.output, request.color, pager=not request.no_pager, netns=request.netns)
    raise typer.Exit(_answer_or_complain(request, kind, target))


def _answer_or_complain(request: Request, kind: CheckFormat, target: Output) -> int:
    """Return the exit code; what a monitoring system shows is on standard output, complaints included.

    Raises:
        TcpdoctorError: It could not look, or nothing could be written, and the format is another.
    """
    words = request.rule or []
    try:
        _refuse_questions(words)
        try:
            return _answer(request, kind, target)
        except UnknownRuleError as error:
            raise QuestionError(f"{error}{_other_question(words, error.name)}") from error
    except TcpdoctorError as error:
        if kind != "nagios" or (isinstance(error, OutputError) and target.file is None):
            raise
        from tcpdoctor.report.check_nagios import unknown_nagios

        emit(unknown_nagios(str(error)), Output(kind))
        return UNKNOWN


def _answer(request: Request, kind: CheckFormat, target: Output) -> int:
    """Look, judge and print; return the exit code."""
    started = time.monotonic()
    _refuse_contradictions(request, kind)
    refuse_hopeless_file(target)
    target = target._replace(netns=None) if request.from_ else target  # a recording's is none of ours
    style = style_of(target)._replace(netns=quoted_netns(request.netns))
    tell_stage: Callable[[str], None] = _ignore_stage
    if request.timeout is not None:
        from tcpdoctor.cli.deadline import end_within

        tell_stage = end_within(request.timeout)
        # what prints here is no terminal, and what it is printed to was asked before
        target = target._replace(color="always" if style.color else "never")
    if request.netns == EVERY:
        return _answer_everywhere(request, kind, target, style, tell_stage)
    with ends_with_what_is_known(wanted=kind == "text" and request.to_stdout, divisible=False):
        recording = recording_from(
            request.from_, request.netns, None if request.window == _WINDOW else request.window
        )
    if request.since_last is not None:
        tell_stage("waiting for the file of --since-last")
    with _memory(request) as memory:
        if recording is None:
            answer = _look(request, memory, kind, tell_stage)
        else:
            answer = _look_at_recording(request, recording, kind)
            style = style._replace(recorded=quoted_files(recording.source))
        answer = answer._replace(duration=time.monotonic() - started, way=_way_of(request), netns=style.netns)
        tell_stage("writing the answer")
        head = _incomplete(answer)
        if head:
            answer = answer._replace(window=_seconds_between(answer))
        if not _told_the_journal((answer,), memory, request, kind, target):
            kind, target, style = _as_the_journal_reads(kind, target, style)
            text = _rendered(answer, memory, request, kind, style)
            emit(style.told("unknown", head) + text, target)
        if memory is not None:
            _keep(memory, answer)
    if request.quiet:
        _admit_blindness((answer,))
    return exit_code(answer)


def _way_of(request: Request) -> str | None:
    if request.netns is None:
        return None
    if request.from_:
        return f"ip netns exec {quoted_netns(request.netns)}"  # a sosreport has those with a name
    from tcpdoctor.answers.everywhere import way_into

    return way_into(request.netns)


def _answer_everywhere(
    request: Request, kind: CheckFormat, target: Output, style: Style, tell_stage: Callable[[str], None]
) -> int:
    """The same for every network namespace of this host."""
    from tcpdoctor.cli.everywhere import complain_of

    started = time.monotonic()
    tell_stage("reading the rules and the configuration")
    library = _library(request)
    tell_stage("looking into the network namespaces")
    cut: list[bool] = []
    answer = check_everywhere(
        partial(_finished, request, library),
        library.rules,
        request.window,
        library.most,
        every_owner=kind in MEASURING_FORMATS,
        waiting=said_to_take(request.window),
        interrupted=(lambda: cut.append(True)) if kind == "text" and request.to_stdout else None,
    )
    taken = time.monotonic() - started
    told = [
        _with_all_that_is_told(check._replace(duration=taken, interrupted=bool(cut)), kind, here=False)
        for check in answer.checks
    ]
    answer = answer._replace(checks=tuple(told))
    complain_of(answer.unseen, 0 if request.quiet else answer.hidden)
    tell_stage("writing the answer")
    if not _told_the_journal(answer.checks, None, request, kind, target):
        kind, target, style = _as_the_journal_reads(kind, target, style)
        text = render_everywhere(answer, kind, style, quiet=request.quiet, form=request.form)
        emit(style.told("unknown", _incomplete(told[0]) if told else "") + text, target)
    if request.quiet:
        _admit_blindness(answer.checks)
    return exit_code_of_all(answer)


def _incomplete(answer: Check) -> str:
    """What stands above an answer that somebody did not wait for."""
    if not answer.interrupted:
        return ""
    if UNDERWAY.is_interrupted:
        return "INCOMPLETE: interrupted before all was read\n"
    return f"INCOMPLETE: interrupted after {_seconds_between(answer):.0f} s of {answer.window:g} s\n"


def _seconds_between(answer: Check) -> float:
    before = answer.samples.before or answer.samples.after
    return round(answer.samples.after.clock - before.clock, 1)


def _keep(memory: "SinceLast", answer: Check) -> None:
    """Leave this run for the next one; where that fails, what was found is told and stays the result."""
    try:
        memory.keep(answer)
    except SnapshotError as error:
        complain(f"tcpdoctor check: not kept for the next run: {error}")


@contextmanager
def _memory(request: Request) -> "Iterator[SinceLast | None]":
    """Open the file of --since-last, before a look that it could not keep; None without that option."""
    if request.since_last is None:
        yield None
        return
    from tcpdoctor.cli.since_last import since_last

    with since_last(request.since_last, request.after) as memory:
        yield memory


def _told_the_journal(
    answers: Sequence[Check],
    memory: "SinceLast | None",
    request: Request,
    kind: CheckFormat,
    target: Output,
) -> bool:
    """Send one entry a finding where standard output is the journal; False where text is to be printed."""
    prints = target.file is None or str(target.file) == "-"
    if not prints or not (kind == "journal" or (kind == "text" and is_journal(1))):
        return False
    if request.form != "short" and kind == "text":
        return False
    from tcpdoctor.cli.since_last import told_to_the_journal

    return told_to_the_journal(answers, memory, only_changes=request.only_changes, quiet=request.quiet)


def _as_the_journal_reads(
    kind: CheckFormat, target: Output, style: Style
) -> tuple[CheckFormat, Output, Style]:
    """Text to the journal has the priority of each line before it, as where entries cannot be sent."""
    prints = target.file is None or str(target.file) == "-"
    if kind != "journal" and not (kind == "text" and prints and is_journal(1)):
        return kind, target, style
    return "journal", target._replace(format="journal"), style._replace(journal=True, color=False)


def _rendered(
    answer: Check, memory: "SinceLast | None", request: Request, kind: CheckFormat, style: Style
) -> str:
    if memory is None or not request.only_changes:
        return render(answer, kind, style, quiet=request.quiet, form=request.form)
    from tcpdoctor.cli.since_last import render_changes

    return render_changes(answer, memory.changes(answer), kind, style, quiet=request.quiet, form=request.form)


def _refuse_contradictions(request: Request, kind: CheckFormat) -> None:
    """Refuse what cannot be meant.

    Raises:
        typer.BadParameter: With what may be given instead.
    """
    refuse_bad_window(request.window)
    if request.from_ and request.netns == EVERY:
        text = f"{EVERY} does not go with --from; give the name of one in a sosreport"
        raise typer.BadParameter(text, param_hint="--netns")
    if request.from_ and request.since_last is not None:
        text = "does not go with --from; give --from twice, the earlier recording and the later"
        raise typer.BadParameter(text, param_hint="--since-last")
    if request.after > 1 and not request.only_changes:
        raise typer.BadParameter(
            "needs --only-changes: what is printed else is not held back", param_hint="--after"
        )
    if request.since_last is not None and request.netns == EVERY:
        text = f"goes without --netns {EVERY}: the sample in FILE is of one namespace; run it once for each"
        raise typer.BadParameter(text, param_hint="--since-last")
    if request.since_last is not None or request.only_changes:
        _refuse_bad_memory(request, kind)
    if request.quiet and kind not in QUIET_FORMATS:
        raise typer.BadParameter(
            f"leaves out what readers of {kind} need; it goes with {', '.join(QUIET_FORMATS)}",
            param_hint="--quiet",
        )
    if request.timeout is not None:
        from tcpdoctor.cli.deadline import refuse_bad_timeout

        refuse_bad_timeout(request.timeout, 0 if request.since_last else request.window)


def _refuse_bad_memory(request: Request, kind: CheckFormat) -> None:
    if request.since_last is None:
        raise typer.BadParameter("needs --since-last FILE to compare with", param_hint="--only-changes")
    if request.window not in (0, _WINDOW):
        text = "goes without --window: the window is the time since the run before"
        raise typer.BadParameter(text, param_hint="--since-last")
    if request.only_changes and kind not in ("text", "json", "jsonl", "journal"):
        raise typer.BadParameter(
            "goes with --format text, json, jsonl and journal", param_hint="--only-changes"
        )


def _ignore_stage(_stage: str) -> None:
    """Nobody waits for us."""


def _refuse_questions(words: list[str]) -> None:
    """Refuse words that are no rule, but another question.

    Raises:
        QuestionError: With the command that answers it.
    """
    for word in words:
        if not re.fullmatch(r"[a-z][a-z0-9,-]*", word):
            raise QuestionError(f"no rule is called {word!r}; did you mean: tcpdoctor {_meant(word)}")


def _other_question(words: list[str], unknown: str) -> str:
    """What is said behind the complaint that a word is no rule, where it is something else."""
    if unknown not in words:
        return ""
    if unknown in ("all", "localhost", "host"):
        return "; check alone asks every rule of this host"
    from tcpdoctor.answers.words import meaning_of  # only a mistake pays for it

    with suppress(QuestionError):
        meaning, _ = meaning_of([unknown])
        return f"; or is it {meaning.name}? tcpdoctor explain {unknown}"
    return ""


def _meant(word: str) -> str:
    """The command that answers a word that is no rule's id, but perhaps a rule in another spelling."""
    from tcpdoctor.answers.words import meaning_of  # only a mistake pays for it

    if word == "-" or os.path.isfile(word):
        import shlex

        return f"check --from {shlex.quote(word)}"
    try:
        meaning, _ = meaning_of([word])
    except QuestionError:
        return f"explain {word}"
    return f"check {meaning.value}" if meaning.question == "rule" else f"explain {word}"


def _ids(*options: list[str] | None) -> frozenset[str] | None:
    """Return the ids of repeatable, comma-separated options; None where none was given."""
    given = [text for option in options for text in option or ()]
    if not given:
        return None
    return frozenset(name.strip() for text in given for name in text.split(",") if name.strip())


def _library(request: Request) -> "Library":
    """Load the rules: before a look, so that a mistake in them is told before the window has passed."""
    from tcpdoctor.answers.rules import load_rules

    return load_rules(
        request.rules or (), request.config, _ids(request.rule, request.only), _ids(request.skip)
    )


def _finished(request: Request, library: "Library", diagnosis: Diagnosis, samples: "Samples") -> Check:
    """Return the check that was asked for, of what was seen and found."""
    return Check(
        diagnosis,
        samples,
        window=request.window,
        fail_on=_FAIL_ON[request.fail_on],
        strict=request.strict,
        version=__version__,
        rules=library.rules,
        most_destinations=request.prometheus_destinations,
    )


def _look(
    request: Request, memory: "SinceLast | None", kind: CheckFormat, tell_stage: Callable[[str], None]
) -> Check:
    from tcpdoctor.kernel.live import take_samples

    on_demand = memory is None and kind not in MEASURING_FORMATS
    tell_stage("reading the rules and the configuration")
    library = _library(request)
    tell_stage("asking the kernel for sockets, counters and settings")
    in_part = kind == "text" and request.to_stdout and memory is None
    with said_to_take(request.window if memory is None else 0), ends_with_what_is_known(wanted=in_part):
        if memory is None:
            samples = take_samples(request.window, owners=None if on_demand else True)
        else:
            samples = memory.take_samples()
        tell_stage("comparing what it saw with the rules")
        if on_demand:
            diagnosis, samples = diagnose_on_demand(library.rules, samples, library.most)
        else:
            from tcpdoctor.diagnosis.evaluate import diagnose

            diagnosis = diagnose(library.rules, samples, library.most)
    answer = _finished(request, library, diagnosis, samples)._replace(interrupted=was_cut_short())
    answer = _with_all_that_is_told(answer, kind, here=True)
    return answer if memory is None else answer._replace(window=memory.window)


_TELLING_FORMATS = ("json", "jsonl", "html")
"""Formats that tell the whole plan; the text says how many settings it has."""


def _with_all_that_is_told(answer: Check, kind: CheckFormat, *, here: bool) -> Check:
    """Add what the format tells besides findings, and what `tcpdoctor fix` would change.

    `here` says whether that is the namespace of this process.
    """
    tells = kind in (*MEASURING_FORMATS, "html")
    if tells or (kind in ("text", "journal") and are_many_closing(answer.samples.after.census)):
        answer = with_measures(answer, kind)
    findings, look = answer.diagnosis.findings, answer.samples.after
    if kind not in ("text", *_TELLING_FORMATS) or not any(
        fix.sysctl for each in findings for fix in each.fixes
    ):
        return answer
    if kind == "text":
        from tcpdoctor.answers.planned import bare_plan

        return answer._replace(settable=len(bare_plan(findings, look, here=here).changes))
    from tcpdoctor.answers.plan import SYSCTL_FOLDER, plan_of

    folder = None if look.initial_namespace is False else SYSCTL_FOLDER
    plan = plan_of(findings, look, here=here, folder=folder)
    return answer._replace(plan=plan.changes, settable=len(plan.changes))


def _look_at_recording(request: Request, recording: "Recording", kind: CheckFormat) -> Check:
    """Judge what somebody else saw."""
    from tcpdoctor.diagnosis.evaluate import diagnose
    from tcpdoctor.facts.rates import elapsed

    library = _library(request)
    diagnosis = diagnose(library.rules, recording.samples, library.most)
    apart = elapsed(recording.samples)
    window = 0.0 if isinstance(apart, Missing) else round(apart, 1)
    answer = _finished(request, library, diagnosis, recording.samples)
    answer = answer._replace(window=window, source=recording.source, interrupted=was_cut_short())
    answer = _with_all_that_is_told(answer, kind, here=False)
    return answer._replace(settable=0)  # nothing can be applied from here


def _admit_blindness(answers: Sequence[Check]) -> None:
    """Say on stderr why the exit code is 3 where `--quiet` has printed nothing that tells."""
    for answer in answers:
        if exit_code(answer) == UNKNOWN and is_blind(answer):
            rules = plural(len(unchecked_rules(answer.diagnosis)), "rule")
            where = f"{answer.place.label}: " if answer.place else ""
            complain(f"tcpdoctor check: {where}{rules} could not be answered; without --quiet it says why")

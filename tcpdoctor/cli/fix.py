"""`tcpdoctor fix`: a plan for what check found; settings are applied, confirmed, kept or undone."""

import os
import shlex
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tcpdoctor.answers.check import diagnose_on_demand, saw_too_little, untold_by_rule
from tcpdoctor.answers.fix import (
    Consent,
    FixPlace,
    applicable,
    apply_fix,
    fix_exit_code,
    look_for_pending,
    refuse_to_apply,
    undo_exit_code,
    undo_fix,
)
from tcpdoctor.answers.plan import BOOT_FILE, SYSCTL_FOLDER, FixAnswer, plan_of, planned_answer
from tcpdoctor.answers.planned import ToldPlan
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.cli.options import (
    CONFIG,
    EVERY,
    NETNS,
    RULES,
    WINDOW,
    Path,
    duration,
    look_from,
    refuse_bad_window,
    takes,
)
from tcpdoctor.cli.output import (
    COLOR,
    FORMAT,
    JSON,
    LONG,
    OUTPUT,
    Output,
    complain,
    emit,
    format_of,
    laid_out,
    say,
    style_of,
)
from tcpdoctor.cli.waiting import said_to_take
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.fix_ending import watch_journal
from tcpdoctor.kernel.fix_journal import JOURNAL
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.kernel.namespaces import is_initial_namespace
from tcpdoctor.kernel.reading import boottime, is_ready
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.fix_text import FORMS, FixWords, fix_page
from tcpdoctor.report.host import plural

if TYPE_CHECKING:
    from tcpdoctor.diagnosis.finding import Diagnosis, Finding
    from tcpdoctor.diagnosis.library import Library
    from tcpdoctor.kernel.snapshot import Samples
    from tcpdoctor.report.page import Block
    from tcpdoctor.report.style import Style


_Form = Literal["text", "shell", "sysctl.d", "ansible"]
_LONGEST_CONFIRM = 3600.0


class Request(NamedTuple):
    """What the user asks for: each field is an option."""

    rule: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RULE]...", help="Plan for what these rules have found only."),
    ] = None
    form: Annotated[
        _Form, typer.Option("--as", help="For people, or as what sh, sysctl.d or Ansible takes.")
    ] = "text"
    apply: Annotated[
        bool, typer.Option("--apply", help="Change the settings, look again, ask, and keep or undo them.")
    ] = False
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="With --apply: ask nobody; keep it unless something is worse.")
    ] = False
    confirm: Annotated[
        float,
        typer.Option(
            "--confirm",
            metavar="TIME",
            parser=duration,
            help="With --apply: undone unless somebody confirms within so long.",
        ),
    ] = 60.0
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back what was kept, at any later time; all of it.")
    ] = False
    runtime_only: Annotated[
        bool, typer.Option("--runtime-only", help="With --apply: until the next boot; no file is written.")
    ] = False
    journal: Annotated[
        Path | None,
        typer.Option("--journal", metavar="FILE", help=f"Where it is noted down, instead of {JOURNAL}."),
    ] = None
    sysctl_d: Annotated[
        Path | None,
        typer.Option(
            "--sysctl-d", metavar="DIR", help=f"Where {BOOT_FILE} goes, instead of {SYSCTL_FOLDER}."
        ),
    ] = None
    window: WINDOW = 1.0
    rules: RULES = None
    config: CONFIG = None
    netns: NETNS = None
    long: LONG = False
    guard: Annotated[str | None, typer.Option("--guard", metavar="RUN", hidden=True)] = None
    output_format: FORMAT = "text"
    as_json: JSON = False
    output: OUTPUT = None
    color: COLOR = "auto"

    @property
    def only(self) -> frozenset[str] | None:
        """The rules that it is about; None: all."""
        return frozenset(self.rule) if self.rule else None


class _Wanted(NamedTuple):
    """What is asked for, where, by which rules, and what is typed to go on."""

    asked: Request
    place: FixPlace
    library: "Library"
    words: FixWords


@takes(Request)
def fix(asked: Request) -> None:
    """Plan what to do about it; apply settings that undo themselves.

    One value a setting, conflicts between rules settled and said, each with its risk; nothing is changed
    without --apply. That notes down what was there, changes the settings, looks again, and undoes them at
    once where something is worse, by itself where nobody confirms. The file for the next boot is written
    last, so a reboot before that is an undo as well.

    Exits 0 where it is planned, kept, or with --undo undone; 1 where a change did not take, waits to be
    confirmed, or was undone; 3 where it could not look or may not.
    """
    target = Output(
        format_of(asked.output_format, asked.as_json), asked.output, asked.color, netns=asked.netns
    )
    _refuse_contradictions(asked, target)
    refuse_bad_window(asked.window)
    look_from(asked.netns)
    where = os.path.abspath(JOURNAL if asked.journal is None else asked.journal)
    place = FixPlace(where, _boot_file(asked), asked.netns)
    if asked.guard is not None:
        watch_journal(where, asked.guard)
        return
    if asked.undo:
        undone = undo_fix(place)
        say(undone, _page(FixWords(long=asked.long)), target)
        raise typer.Exit(undo_exit_code(undone))
    library = _library(asked)
    words = FixWords(_typed("--apply", *(asked.rule or []), *_where(asked)), _undo_words(asked), asked.long)
    answer = _answer(_Wanted(asked, place, library, words), target)
    if asked.form == "text":
        say(answer, _page(words), target)
    else:
        emit(FORMS[asked.form](answer), target._replace(format="plan"))
    raise typer.Exit(fix_exit_code(answer))


def _page(words: FixWords) -> "Callable[[FixAnswer, Style], list[Block]]":
    return lambda answer, style: fix_page(answer, style, words)


def _typed(*words: str) -> str:
    return shlex.join(("tcpdoctor", "fix", *words))


def _where(asked: Request) -> list[str]:
    """What has to be said again, so that the same is applied."""
    named = (("--journal", asked.journal), ("--sysctl-d", asked.sysctl_d), ("--config", asked.config))
    words = [word for option, path in named if path is not None for word in (option, str(path))]
    words += [word for path in asked.rules or () for word in ("--rules", str(path))]
    return [*words, *(["--runtime-only"] if asked.runtime_only else [])]


def _undo_words(asked: Request) -> str:
    return _typed("--undo", *([] if asked.journal is None else ["--journal", str(asked.journal)]))


def _boot_file(asked: Request) -> str | None:
    """Where lines for the next boot go: only what is named, in a network namespace of its own."""
    folder = asked.sysctl_d
    if asked.runtime_only or (folder is None and is_initial_namespace() is False):
        return None
    return os.path.abspath(os.path.join(SYSCTL_FOLDER if folder is None else folder, BOOT_FILE))


def _refuse_contradictions(asked: Request, target: Output) -> None:
    """Refuse what cannot be meant.

    Raises:
        typer.BadParameter: With what may be given instead.
    """
    if asked.form != "text" and target.format == "json":
        text = f"goes without --as {asked.form}: that is another form"
        raise typer.BadParameter(text, param_hint="--format")
    if target.everywhere:
        text = f"one namespace at a time: a name or a process id, not {EVERY}"
        raise typer.BadParameter(text, param_hint="--netns")
    if asked.form != "text" and (asked.apply or asked.undo):
        raise typer.BadParameter("prints a plan; it goes without --apply and --undo", param_hint="--as")
    if asked.undo and (asked.apply or asked.rule):
        text = "undoes all that was kept; it goes without --apply and RULE"
        raise typer.BadParameter(text, param_hint="--undo")
    if asked.yes and not asked.apply:
        raise typer.BadParameter("needs --apply", param_hint="--yes")
    if not 0 < asked.confirm <= _LONGEST_CONFIRM:
        text = f"more than 0 and at most {_LONGEST_CONFIRM:g} seconds"
        raise typer.BadParameter(text, param_hint="--confirm")
    if asked.apply and not asked.yes and not has_terminal():
        text = "there is no terminal to ask on; give --yes, or look without --apply"
        raise typer.BadParameter(text, param_hint="--apply")


def _answer(wanted: _Wanted, target: Output) -> FixAnswer:
    """Look and plan; with --apply change, ask and keep."""
    place = wanted.place
    if wanted.asked.apply:
        refuse_to_apply(place)
    else:
        pending = look_for_pending(place.journal)
        if pending is not None:
            return pending
    diagnosis, samples = _look(wanted)
    plan = _plan(wanted, diagnosis, samples)
    planned = planned_answer(plan, samples.after, place.file, untold_by_rule(diagnosis))
    if not planned.changes and not planned.advice:
        _refuse_blindness(wanted.asked.only, diagnosis, samples)
    if not wanted.asked.apply or not planned.changes:
        return planned
    number = len(applicable(planned.changes, plan.needs, place))
    if number and not wanted.asked.yes and not _wants_it(planned, number, wanted.words, target):
        return planned._replace(reason="Nothing was changed.")
    consent = Consent(
        seconds=wanted.asked.confirm,
        confirmed=(lambda _seconds: True) if wanted.asked.yes else ask_to_keep,
        look_again=lambda: _found(wanted),
        window=wanted.asked.window,
        tell=say_meanwhile,
    )
    return apply_fix(planned, plan.needs, diagnosis.findings, place, consent)


def _refuse_blindness(only: frozenset[str] | None, diagnosis: "Diagnosis", samples: "Samples") -> None:
    """Call it no empty plan where what would fill one could not be looked at.

    Raises:
        QuestionError: With how much was not answered, and why.
    """
    asked = [each for each in diagnosis.unchecked if each.applies and (only is None or each.rule in only)]
    if asked and (only is not None or saw_too_little(diagnosis, samples.after)):
        rules = plural(len({each.rule for each in asked}), "rule")
        raise QuestionError(f"no plan: {rules} could not be answered ({asked[0].reason})")


def _wants_it(planned: FixAnswer, number: int, words: FixWords, target: Output) -> bool:
    """Show the plan where the question is asked, and ask."""
    text = target._replace(format="text", file=None)
    page = fix_page(planned, style_of(text), words._replace(apply=""))
    return ask_to_apply(laid_out(page, text), number)


def _plan(wanted: _Wanted, diagnosis: "Diagnosis", samples: "Samples") -> ToldPlan:
    file = wanted.place.file
    inside = samples.after.initial_namespace is False
    folder = os.path.dirname(file) if file is not None else None if inside else SYSCTL_FOLDER
    return plan_of(diagnosis.findings, samples.after, here=True, only=wanted.asked.only, folder=folder)


def _found(wanted: _Wanted) -> "Sequence[Finding]":
    return _look(wanted)[0].findings


def _look(wanted: _Wanted) -> "tuple[Diagnosis, Samples]":
    with said_to_take(wanted.asked.window):
        samples = take_samples(wanted.asked.window, owners=None)
        return diagnose_on_demand(wanted.library.rules, samples, wanted.library.most)


def _library(asked: Request) -> "Library":
    """Load all rules: what the others ask of the same settings counts as well.

    Raises:
        ConfigError: One that is asked about is none.
    """
    folders, only = asked.rules or (), asked.only
    library = load_rules(folders, asked.config)
    if only is not None and only - {rule.id for rule in library.rules}:
        load_rules(folders, asked.config, only)  # says what is nearest
    return library


def has_terminal() -> bool:
    """Whether there is somebody to ask: standard input and standard error are terminals."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def say_meanwhile(text: str) -> None:
    """Say on stderr what is being done; without a stderr there is nobody to tell."""
    complain(f"tcpdoctor fix: {text}")


def ask_to_apply(plan: str, settings: int) -> bool:
    """Show a plan and ask whether it shall be applied; only a y says so."""
    _write(f"{plan}\n\nChange {plural(settings, 'setting')}? [y/N] ")
    answer = _key(None)
    _write("\n")
    return answer == "y"


def ask_to_keep(seconds: float) -> bool:
    """Ask whether what was changed shall stay; whatever is no y, and silence, says no."""
    _write(f"Keep it? y keeps it; any other key, or {seconds:g} s without one, undoes it. ")
    answer = _key(seconds)
    _write("\n")
    return answer == "y"


def _key(seconds: float | None) -> str:
    """One key that is pressed from now on, in lower case; nothing where none is, or the terminal is gone."""
    descriptor = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(descriptor)
        termios.tcflush(descriptor, termios.TCIFLUSH)  # what was typed before the question is no answer
        tty.setcbreak(descriptor)
    except (OSError, termios.error):
        return ""
    try:
        ready = _is_pressed_within(descriptor, seconds)
        return os.read(descriptor, 1).decode("ascii", "replace").lower() if ready else ""
    except OSError:
        return ""
    finally:
        _restore(descriptor, before)


def _restore(descriptor: int, before: list[object]) -> None:
    try:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)  # type: ignore[arg-type]
    except (OSError, termios.error):
        return  # the terminal is gone


def _is_pressed_within(descriptor: int, seconds: float | None) -> bool:
    """Whether a key is pressed; time passes in suspension as well, as for the guard."""
    if seconds is None:
        return is_ready(descriptor, None)
    end = boottime() + seconds
    while (left := end - boottime()) > 0:
        if is_ready(descriptor, min(left, 1.0)):
            return True
    return False


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        return  # nobody reads it any more; the guard is there

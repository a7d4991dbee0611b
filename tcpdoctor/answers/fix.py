"""`tcpdoctor fix`: what check found becomes a plan; its settings are applied, confirmed, kept or undone.

The order is what makes it safe: the journal says what was there before anything changes, a guard that
outlives us undoes it unless somebody confirms, and the file that makes it last is written at the very end. A
restart at any moment before that is an undo.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from tcpdoctor.answers.plan import READ_ONLY, FixAnswer, setter_of
from tcpdoctor.answers.planned import LeftUndone, PlannedChange, write_command
from tcpdoctor.answers.record import host_of, utc
from tcpdoctor.diagnosis.finding import Finding, Severity
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.sysctl_value import is_same
from tcpdoctor.kernel.fix_ending import (
    InterruptedFixError,
    arm_guard,
    arm_timer,
    end_journal,
    ends_by_signal,
    is_here,
    is_of_this_boot,
    is_under_way,
    lasts_in_file,
    leads_there,
    read_boot_file,
    roll_back,
    roll_forward,
    together,
    unsignalled,
)
from tcpdoctor.kernel.fix_journal import (
    BootLine,
    Changed,
    FixJournal,
    FixState,
    JournalFolder,
    NotUndone,
    boot_id,
    boot_line,
    close_journal,
    held_text,
    lines_replaced,
    locked_journal,
    namespace_cookie,
    own_process,
    read_journal,
    sweep_folder,
    write_journal,
    write_setting,
)
from tcpdoctor.kernel.namespaces import (
    is_initial_namespace,
    network_namespace,
    read_identity,
)
from tcpdoctor.kernel.reading import Missing, boottime
from tcpdoctor.kernel.sysctl import is_read_only
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple


class FixPlace(NamedTuple):
    """Where a change of settings is written down."""

    journal: str
    file: str | None
    """Of the lines for the next boot; None: it is for this boot only."""
    netns: str | None = None
    """What leads into the network namespace, where it is not that of the command."""


class Consent(NamedTuple):
    """Who says that what was changed is to be kept."""

    seconds: float
    """So long somebody may take."""
    confirmed: Callable[[float], bool]
    """Asks, for so many seconds at most; False: nobody has confirmed."""
    look_again: Callable[[], Sequence[Finding]]
    """What is found once settings are changed, over a window."""
    window: float
    """Seconds that this takes."""
    tell: Callable[[str], None]
    """Says what is being done."""


def fix_exit_code(answer: FixAnswer) -> int:
    """Return 0 where all is as was asked, 1 where a change did not take, is pending, or was undone."""
    if answer.state == "planned":
        return 0
    return 0 if answer.state == "kept" and all(change.applied for change in answer.changes) else 1


# apply


def refuse_to_apply(place: FixPlace) -> None:
    """Say before a look what would stop a change of settings; end what an earlier run has left behind.

    Raises:
        QuestionError: We are not root, settings or files are read-only here, or another change is under way.
    """
    if os.geteuid() != 0:
        raise QuestionError("only root may change settings; run as root")
    if is_read_only():
        raise QuestionError(READ_ONLY)
    if place.file is not None:
        folder = os.path.dirname(place.file)
        above = folder if os.path.isdir(folder) else os.path.dirname(folder)
        if os.statvfs(above).f_flag & os.ST_RDONLY:
            raise QuestionError(
                f"{clean(folder, 300)}: it is mounted read-only; for this boot: --runtime-only"
            )
        try:
            read_boot_file(place.file)
        except OSError as error:
            why = "a link" if error.errno == _ELOOP else (error.strerror or str(error)).lower()
            raise QuestionError(f"{clean(place.file, 300)}: {why}; move it away") from None
    with locked_journal(place.journal, make=True) as folder_of_journal:
        try:
            _end_earlier(folder_of_journal)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise QuestionError(f"{clean(place.journal, 300)}: {why}") from None


_ELOOP = errno.ELOOP


def _end_earlier(folder: JournalFolder) -> FixJournal | None:
    """Return what is to be undone of earlier runs, once those that nobody ends are ended.

    Raises:
        QuestionError: Another run is under way, or what it left belongs to another network namespace.
        OSError: The journal could not be written.
    """
    journal = read_journal(folder)
    if journal is None:
        sweep_folder(folder.descriptor)
        return None
    if is_under_way(journal):
        raise QuestionError(
            f"another tcpdoctor fix --apply is under way (pid {journal.applier[0]}); wait for it"
        )
    if not is_of_this_boot(journal) and journal.state == "pending":
        return end_journal(folder, journal)
    if journal.state in ("pending", "keeping", "kept") and not is_here(journal):
        return _of_elsewhere(folder, journal)
    return end_journal(folder, journal)


def _of_elsewhere(folder: JournalFolder, journal: FixJournal) -> FixJournal:
    """Forget what was changed in a network namespace that is gone, and nowhere else.

    Raises:
        QuestionError: It is still there, or its lines are in a file.
        OSError: The journal could not be written.
    """
    where = leads_there(journal)
    if where is None and not lasts_in_file(journal):
        gone = journal._replace(state="undone", changes=(), earlier=())
        close_journal(folder, gone)
        return gone
    netns = "NAME" if isinstance(where, Missing) else where
    how = "first (tcpdoctor fix --undo)" if netns is None else f"there (tcpdoctor fix --undo --netns {netns})"
    raise QuestionError(
        f"{clean(folder.path, 300)} is of network namespace {journal.namespace}; "
        f"undo it {how}, or give another --journal"
    )


def apply_fix(
    planned: FixAnswer, needs: Mapping[str, str], before: Sequence[Finding], place: FixPlace, consent: Consent
) -> FixAnswer:
    """Change the settings of a plan, look again, ask, and keep them or go back.

    Args:
        planned: What is to be done.
        needs: By setting, the one without whose change it must not be changed.
        before: What was found.
        place: Where it is written down.
        consent: Who decides.

    Raises:
        QuestionError: Nothing was changed: another run is under way, a setting is no more what was looked at,
            or the journal cannot be written.
    """
    chosen = applicable(planned.changes, needs, place)
    if not chosen:
        return _told(planned, chosen, Ended("failed", "Nothing was changed: nothing of it would last."))
    run = os.urandom(8).hex()
    with ends_by_signal():
        try:
            _begin(run, chosen, place, consent)
            ended = _guarded(run, chosen, before, place, consent)
        except InterruptedFixError as signal:
            ended = _back(run, place, f"Undone: {signal} has ended it.")
        except QuestionError:
            raise
        except BaseException:  # whatever it is, nothing half-done stays
            _back(run, place, "")
            raise
    return _told(planned, chosen, ended)


def _guarded(
    run: str, chosen: Sequence[PlannedChange], before: Sequence[Finding], place: FixPlace, consent: Consent
) -> "Ended":
    guard = arm_guard(place.journal, run)
    try:
        timer = arm_timer(place.journal, run, _allowed(consent), place.netns)
        if timer is not None:
            consent.tell(f"the guard is a process of this session alone: {timer.reason}")
        return _change_and_ask(run, chosen, before, place, consent)
    finally:
        os.close(guard)


class Ended(NamedTuple):
    """How a change came out."""

    state: Literal["kept", "undone", "failed"]
    reason: str | None
    said: tuple[NotUndone, ...] = ()
    """What could not be undone."""
    after: tuple[Finding, ...] = ()
    """What is found afterwards, of what was kept."""


def applicable(
    changes: Sequence[PlannedChange], needs: Mapping[str, str], place: FixPlace
) -> tuple[PlannedChange, ...]:
    """Return what of a plan lasts as long as it is meant to, without what lacks the change that it needs."""
    lasting = [change for change in changes if place.file is None or not change.overridden]
    keys = {change.key for change in lasting}
    return tuple(change for change in lasting if needs.get(change.key, change.key) in keys)


_SLACK = 30.0
"""Seconds that looking and setting may take besides the window."""


def _allowed(consent: Consent) -> float:
    return consent.window + consent.seconds + _SLACK


def _begin(run: str, chosen: Sequence[PlannedChange], place: FixPlace, consent: Consent) -> None:
    """Write down what is there, before anything is changed."""
    content = b"" if place.file is None else read_boot_file(place.file)
    changes = tuple(_noted(change, content, place) for change in chosen)
    with unsignalled(), locked_journal(place.journal, make=True) as folder:
        try:
            earlier = _end_earlier(folder)
            kept = earlier.changes if earlier is not None and earlier.state == "kept" else ()
            own = earlier.file if kept and earlier is not None else None
            if own is not None and place.file not in (own, None):
                raise QuestionError(
                    f"earlier lines are in {clean(own, 300)}: undo them first, or leave --sysctl-d"
                )
            journal = FixJournal(
                state="pending",
                run=run,
                boot=boot_id(),
                namespace=network_namespace(),
                initial=is_initial_namespace() is True,
                until=boottime() + _allowed(consent),
                applier=own_process(),
                file=place.file or own,
                changes=changes,
                earlier=kept,
                cookie=namespace_cookie(),
            )
            write_journal(folder, journal)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise QuestionError(f"{clean(place.journal, 300)}: {why}: nothing was changed") from None


def _noted(change: PlannedChange, content: bytes, place: FixPlace) -> Changed:
    """What a setting holds at this moment.

    Raises:
        QuestionError: It is no more what was looked at.
    """
    now, text = held_text(change.key), _value_text(change.value)
    if isinstance(now, Missing):
        raise QuestionError(f"{change.key}: {now.reason}: nothing was changed")
    if not is_same(_value_text(change.now), now):
        shown = clean(now, 60)
        raise QuestionError(f"{change.key} has become {shown} meanwhile: nothing was changed; look again")
    line = None
    if place.file is not None:
        line = BootLine(change.key, change.persist, lines_replaced(content, change.key, change.persist))
    return Changed(change.key, now, text, line)


def _value_text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _change_and_ask(
    run: str, chosen: Sequence[PlannedChange], before: Sequence[Finding], place: FixPlace, consent: Consent
) -> Ended:
    """Change, look, ask, and keep; or go back where it does not go well."""
    refused = _set_all(run, place)
    if refused is not None:
        return _back(run, place, f"Undone at once: {refused.reason}.", "failed")
    consent.tell(f"{len(chosen)} set; looking what that does")
    after = tuple(consent.look_again())
    worse = _new_above_info(before, after)
    if worse is not None:
        what = f"{worse.rule} ({worse.severity.key}), {worse.headline or worse.title}"
        return _back(run, place, f"Undone at once: it is found since: {what}.")
    if not _extend(run, place, consent.seconds):
        return Ended("undone", "Undone by its guard: the time was over.")
    if not consent.confirmed(consent.seconds):
        return _back(run, place, "Undone: nobody has confirmed.")
    return _keep(run, place)._replace(after=after)


def _mine(folder: JournalFolder, run: str) -> FixJournal | None:
    """The journal while it is ours and pending; None once somebody else has ended it."""
    journal = read_journal(folder)
    return journal if journal is not None and journal.run == run and journal.state == "pending" else None


def _set_all(run: str, place: FixPlace) -> Missing | None:
    """Write every value and read it back; stop at the first that did not take."""
    with unsignalled(), locked_journal(place.journal) as folder:
        journal = _mine(folder, run)
        if journal is None:
            return Missing("the guard has ended it")
        for change in journal.changes:
            refused = write_setting(change.key, change.after)
            now = held_text(change.key)
            if refused is not None:
                return refused
            if isinstance(now, Missing) or not is_same(change.after, now):
                shown = clean(now.reason if isinstance(now, Missing) else now, 200)
                return Missing(f"{change.key} is {shown} after writing {clean(change.after, 200)}")
    return None


def _new_above_info(before: Sequence[Finding], after: Sequence[Finding]) -> Finding | None:
    """The worst finding that was not there, or less bad, before."""
    known = {finding.fingerprint: finding.severity for finding in before}
    new = [
        finding
        for finding in after
        if finding.severity > Severity.INFO
        and finding.severity > known.get(finding.fingerprint, Severity.INFO)
    ]
    return max(new, key=lambda finding: finding.severity, default=None)


def _extend(run: str, place: FixPlace, seconds: float) -> bool:
    """Give who is asked all of his time, whatever the look has taken; False where it is over."""
    with unsignalled(), locked_journal(place.journal) as folder:
        journal = _mine(folder, run)
        if journal is None:
            return False
        try:
            write_journal(folder, journal._replace(until=boottime() + seconds + 1))
        except OSError:
            return True  # the time that was given first is still there
    return True


def _back(run: str, place: FixPlace, reason: str, state: Literal["undone", "failed"] = "undone") -> Ended:
    with unsignalled(), locked_journal(place.journal) as folder:
        journal = _mine(folder, run)
        return Ended(state, reason) if journal is None else _gone_back(folder, journal, reason, state)


def _gone_back(
    folder: JournalFolder, journal: FixJournal, reason: str, state: Literal["undone", "failed"] = "undone"
) -> Ended:
    try:
        ended = roll_back(folder, journal, state)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return Ended(state, f"{reason} {clean(folder.path, 300)} could not be written: {why}.")
    return Ended("failed" if ended.state == "failed" else state, reason, ended.said)


def _set_by_others(journal: FixJournal) -> str | None:
    """Say which setting somebody else has set since it was changed; None where each has our value."""
    for change in journal.changes:
        now = held_text(change.key)
        if isinstance(now, Missing) or not is_same(change.after, now):
            return f"{change.key} is {clean(now.reason if isinstance(now, Missing) else now, 200)} by now"
    return None


def _keep(run: str, place: FixPlace) -> Ended:
    with unsignalled(), locked_journal(place.journal) as folder:
        journal = _mine(folder, run)
        if journal is None:
            return Ended("undone", "Undone by its guard: the time was over.")
        other = _set_by_others(journal)
        if other is not None:
            return _gone_back(folder, journal, f"Undone at once: {other}, somebody else has set it.")
        keeping = journal._replace(state="keeping")
        try:
            write_journal(folder, keeping)
        except OSError as error:
            why = f"{clean(place.journal, 300)}: {(error.strerror or str(error)).lower()}"
            ended = _undone_for_want_of_room(folder, journal)
            return Ended("failed", f"Undone at once: {why}.", ended)
        try:
            ended_journal = roll_forward(folder, keeping)
        except OSError:
            return Ended("kept", "The journal could not be written to its end; the next run does it.")
    if ended_journal.state != "kept" or ended_journal.said:
        return Ended("failed", f"Undone at once: {ended_journal.said[0].why}.", ended_journal.said[1:])
    return Ended("kept", None)


def _undone_for_want_of_room(folder: JournalFolder, journal: FixJournal) -> tuple[NotUndone, ...]:
    try:
        return roll_back(folder, journal, "failed").said
    except OSError:
        return ()  # settings are as they were; the next run finds that and says so in the journal


def _told(planned: FixAnswer, chosen: Sequence[PlannedChange], ended: Ended) -> FixAnswer:
    keys = {change.key for change in chosen} if ended.state == "kept" else set()
    changes = tuple(change._replace(applied=change.key in keys) for change in planned.changes)
    not_applied = [change for change in planned.changes if change not in chosen]
    left = [
        LeftUndone(None, change.key, f"not changed: {change.conflict or 'it needs what was not changed'}")
        for change in not_applied
    ]
    left += [LeftUndone(None, "", each.why, each.taken) for each in ended.said]
    rules = {rule for change in chosen for rule in change.rules}
    left += _still_found([finding for finding in ended.after if finding.rule in rules])
    return planned._replace(
        state=ended.state,
        reason=ended.reason,
        changes=changes,
        left=(*planned.left, *dict.fromkeys(left)),
    )


def _still_found(findings: Sequence[Finding]) -> list[LeftUndone]:
    """What the rules that asked for a change still find, the worst of each and how many."""
    of: dict[str, list[Finding]] = {}
    for finding in findings:
        of.setdefault(finding.rule, []).append(finding)
    left = []
    for rule, (worst, *others) in of.items():
        more = f" (and {len(others):,} more)" if others else ""
        left.append(LeftUndone(rule, worst.label, f"still found: {worst.headline or worst.title}{more}"))
    return left


# undo, and what is pending


def undo_fix(place: FixPlace) -> FixAnswer:
    """Take back what was kept, or what nobody has ended; a file that cannot be written stops it.

    Raises:
        QuestionError: There is nothing to undo here, it is another namespace's, or a file cannot be written.
    """
    if os.geteuid() != 0:
        raise QuestionError("only root may change settings; run as root")
    with unsignalled(), locked_journal(place.journal) as folder:
        journal = read_journal(folder)
        if journal is None or not (journal.changes or journal.earlier) or journal.state == "undone":
            raise QuestionError("there is nothing to undo")
        if is_under_way(journal):
            raise QuestionError(f"tcpdoctor fix --apply is under way (pid {journal.applier[0]}); end that")
        if not is_here(journal) and (is_of_this_boot(journal) or journal.state != "pending"):
            _refuse_elsewhere(folder, journal)
        if not is_of_this_boot(journal) and journal.state == "pending" and not journal.undoing:
            end_journal(folder, journal)
            raise QuestionError("there is nothing to undo: this host has been started since")
        ended, changes = _undone(folder, journal)
    return _undone_answer(ended, changes)


def _refuse_elsewhere(folder: JournalFolder, journal: FixJournal) -> None:
    """Let lines of a namespace that is gone be taken out of their file; all else is undone in its namespace.

    Raises:
        QuestionError: There is nothing to take out, or the namespace is there, and how to enter it.
        OSError: The journal could not be written.
    """
    where = leads_there(journal)
    if where is None and lasts_in_file(journal):
        return
    if where is None:
        _of_elsewhere(folder, journal)
        raise QuestionError(f"there is nothing to undo: network namespace {journal.namespace} is gone")
    netns = "NAME" if isinstance(where, Missing) else where
    raise QuestionError(f"what was changed is in network namespace {journal.namespace}; give --netns {netns}")


def _undone(folder: JournalFolder, journal: FixJournal) -> tuple[FixJournal, tuple[Changed, ...]]:
    changes = together(journal.earlier, journal.changes)
    pending = journal._replace(
        state="pending",
        run=os.urandom(8).hex(),
        undoing=True,
        changes=changes,
        earlier=(),
        until=boottime(),
        applier=own_process(),
    )
    guard = None
    try:
        write_journal(folder, pending)
        guard = arm_guard(folder.path, pending.run)
        return roll_back(folder, pending), changes
    except (OSError, QuestionError) as error:
        why = str(error)
        if isinstance(error, OSError):
            path = folder.path if guard is None else journal.file or folder.path
            why = f"{path}: {(error.strerror or str(error)).lower()}"
        _restore(folder, journal)
        raise QuestionError(f"nothing was undone: {clean(why, 300)}") from None
    finally:
        if guard is not None:
            os.close(guard)


def _restore(folder: JournalFolder, journal: FixJournal) -> None:
    try:
        write_journal(folder, journal)
    except OSError:
        return  # what is there says that it is to be undone, and the next run does it


def look_for_pending(journal_path: str) -> FixAnswer | None:
    """Return the change that waits to be confirmed, or was left behind; None where none is, or none is seen.

    Raises:
        QuestionError: There is a journal that cannot be read.
    """
    if os.geteuid() != 0 or not os.path.isdir(os.path.dirname(journal_path)):
        return None
    with locked_journal(journal_path) as folder:
        journal = read_journal(folder)
    if journal is None or journal.state not in ("pending", "keeping") or not is_of_this_boot(journal):
        return None
    who = (
        f"pid {journal.applier[0]} waits for somebody to confirm"
        if is_under_way(journal)
        else ("who changed them has ended: tcpdoctor fix --undo")
    )
    where = "" if is_here(journal) else f" in network namespace {journal.namespace}"
    changes = tuple(_journaled(change) for change in journal.changes)
    return _journal_answer("pending", journal, changes, f"Settings are changed{where}, and {who}.")


def _undone_answer(ended: FixJournal, changes: Sequence[Changed]) -> FixAnswer:
    state: FixState = "failed" if ended.changes else "undone"
    told = tuple(_journaled(change)._replace(now=change.after, value=change.before) for change in changes)
    answer = _journal_answer(state, ended, told, None)
    return answer._replace(left=tuple(map(_left_as_it_is, ended.said)))


def _left_as_it_is(undone: NotUndone) -> LeftUndone:
    """Add who has set what somebody else has set, as far as that can be seen."""
    setter = None if undone.taken is None else setter_of(undone.taken)
    why = undone.why if setter is None else f"{undone.why}; set by {setter}"
    return LeftUndone(None, "", why, undone.taken)


def undo_exit_code(answer: FixAnswer) -> int:
    """Return 0 where all is as it was before, 1 where something was left."""
    return 0 if answer.state == "undone" and not answer.left else 1


def _journal_answer(
    state: FixState, journal: FixJournal, changes: tuple[PlannedChange, ...], reason: str | None
) -> FixAnswer:
    return FixAnswer(
        schema="tcpdoctor.fix/1",
        host=host_of(read_identity()),
        state=state,  # type: ignore[arg-type]  # none is told of while it is being kept
        changes=changes,
        advice=(),
        left=(),
        taken_at=utc(time.time()),
        reason=reason,
        file=journal.file,
    )


def _journaled(change: Changed) -> PlannedChange:
    """A change as the journal has it, which does not know who asked for it."""
    return PlannedChange(
        key=change.key,
        now=change.before,
        value=change.after,
        rules=(),
        computed="As the journal has it.",
        persist=boot_line(change.key, change.after),
        set_by=None,
        conflict=None,
        risk="",
        verify=(f"sysctl -n {change.key}",),
        undo=("tcpdoctor fix --undo", write_command(change.key, change.before)),
        boot=None,
        overridden=False,
        applied=True,
    )

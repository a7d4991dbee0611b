"""`check --since-last FILE`: the earlier sample is the one that the run before has left."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tcpdoctor.answers.check import Check, is_blind, loud_findings, unchecked_rules
from tcpdoctor.cli.options import SHORTEST_WINDOW
from tcpdoctor.cli.output import complain, send_to_journal
from tcpdoctor.diagnosis.changes import Changes, compare, told_after
from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.live import take_snapshot
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.recorded import LastFile, LastRun, as_earlier, boot_id, last_file
from tcpdoctor.kernel.snapshot import Samples, Snapshot
from tcpdoctor.report.style import Style, TextForm

if TYPE_CHECKING:  # it need not be the journal
    from tcpdoctor.report.journal import JournalEntry

_TRAFFIC = ("Tcp.InSegs", "Tcp.OutSegs", "Tcp.ActiveOpens", "Tcp.PassiveOpens")
"""Counters that only ever grow while a namespace lives, and that every kernel has."""


class SinceLast:
    """What the run before has left, and where this one leaves what it saw."""

    def __init__(self, file: LastFile, before: LastRun | None, after: int) -> None:
        self._file = file
        self._before = before
        self._after = after
        self._lasting: Snapshot | None = None
        """What the run before saw, where that is of these sockets but too young for rates."""
        self.window = 0.0
        """Seconds between the samples, to the tenth; 0 where there is one."""

    def take_samples(self) -> Samples:
        """Look once, and put the look of the run before in front as far as the two can be compared.

        Where they cannot, one line on stderr says why.
        """
        after = take_snapshot(before=None if self._before is None else self._before.sample)
        if self._before is None:
            return Samples(None, after)
        stranger = _another_host(self._before.sample, after)
        reason = stranger or _no_earlier(self._before, after)
        if not reason:
            self.window = round(after.clock - self._before.sample.clock, 1)
            return Samples(self._before.sample, after)
        complain(f"tcpdoctor check: {self._file.shown}: {reason}; starting afresh, with one sample")
        if stranger:
            self._before = None  # what was found there is not gone here
        elif _is_too_young(self._before, after):
            self._lasting = self._before.sample
        return Samples(None, after)

    def changes(self, check: Check) -> Changes:
        """Compare the findings with those of the run before."""
        told = () if self._before is None else self._before.told
        since = None if self._before is None else self._before.sample.taken_at
        return compare(told, since, check.diagnosis, {rule.id for rule in check.rules}, self._after)

    def keep(self, check: Check) -> None:
        """Leave this run for the next one; after its answer was written, so that nothing goes untold.

        Raises:
            SnapshotError: The file could not be written; it is as it was.
        """
        told = () if self._before is None else self._before.told
        after = check.samples.after
        kept = told_after(told, check.diagnosis, self.changes(check), after.taken_at)
        self._file.replace(LastRun(boot_id(), as_earlier(after, check.samples.before or self._lasting), kept))


@contextmanager
def since_last(path: Path, after: int = 1) -> Iterator[SinceLast]:
    """Open what the run before left; no other run gets at it meanwhile.

    `after` is how many runs behind each other have to find a change before it is told.

    Raises:
        SnapshotError: The file cannot be written or is not ours alone.
    """
    with last_file(path) as file:
        try:
            before = file.read()
        except SnapshotError as error:
            complain(f"tcpdoctor check: {error}; starting afresh, with one sample")
            before = None
        yield SinceLast(file, before, after)


def render_changes(
    check: Check, changes: Changes, kind: str, style: Style, *, quiet: bool, form: TextForm
) -> str:
    """Return what changed as text, json or jsonl, with `quiet` the loud part only; "" for nothing."""
    shown = changes.at_least(check.fail_on) if quiet else changes
    if not shown.any():
        return ""
    if kind in ("text", "journal"):
        from tcpdoctor.report.journal import changes_text

        return changes_text(shown, check.samples.after, style, long=form == "long")
    from tcpdoctor.answers.verdict import changes_answer
    from tcpdoctor.report.document import json_text

    return json_text(changes_answer(check, shown), 1 if kind == "json" else None)


def told_to_the_journal(
    checks: Sequence[Check], memory: SinceLast | None, *, only_changes: bool, quiet: bool
) -> bool:
    """Send the journal one entry for each finding; False where its socket is not there."""
    told = [each for check in checks for each in _entries(check, memory, only_changes, quiet)]
    return send_to_journal(entry.datagram() for entry in told)


def _entries(
    check: Check,
    memory: SinceLast | None,
    only_changes: bool,  # noqa: FBT001 - named where it is told
    quiet: bool,  # noqa: FBT001 - likewise
) -> "Iterator[JournalEntry]":
    from tcpdoctor.report.check_text import blindness
    from tcpdoctor.report.journal import blind_entry, changed_findings, entries

    changes = None if memory is None else memory.changes(check)
    least = check.fail_on if quiet else None
    if changes is not None and only_changes:
        findings = changed_findings(changes, least)
    else:
        findings = loud_findings(check) if quiet else check.diagnosis.findings
    where = check.place.short if check.place else None
    yield from entries(findings, changes, where)
    if is_blind(check):
        rules, why = len(unchecked_rules(check.diagnosis)), blindness(check)
        yield blind_entry(check.samples.after.host, rules, where, why)


def _another_host(before: Snapshot, after: Snapshot) -> str:
    if before.host != after.host:
        return f"from another host, {before.host}"
    if before.namespace != after.namespace:
        return f"from another network namespace, {before.namespace}"
    return ""


def _is_too_young(run: LastRun, after: Snapshot) -> bool:
    """Whether it was so short ago that there are no rates between the two."""
    return run.boot == boot_id() and 0 <= after.clock - run.sample.clock < SHORTEST_WINDOW


def _no_earlier(run: LastRun, after: Snapshot) -> str:
    """Say why the look of the run before is no earlier sample; "" where it is one."""
    before = run.sample
    seconds = after.clock - before.clock
    if run.boot != boot_id():
        return "from before the last boot"
    if seconds < 0:
        return "from the future"
    if _is_too_young(run, after):
        return f"only {seconds:.2f} s old, too young for rates"
    if isinstance(before.counters, Missing) or isinstance(after.counters, Missing):
        return ""
    reset = [name for name in _TRAFFIC if after.counters.get(name, 0) < before.counters.get(name, 0)]
    return f"{reset[0]} has gone backwards since" if reset else ""

"""How a change of settings ends, whoever ends it: undone, or kept for the next boot as well; and its guard.

What is done here can be done again: who is killed in the middle leaves a journal that the next one ends.

The guard is a process of its own that ends a change when nobody else does. It outlives the terminal, the
session and whoever started it: it is forked twice into a session of its own, and where systemd runs the
host a timer of systemd does the same once more, because logind may end every process of a session. It goes
back while nobody has confirmed, and forward once somebody has.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from tcpdoctor.errors import QuestionError, TcpdoctorError
from tcpdoctor.kernel.fix_journal import (
    BootLine,
    Changed,
    FixJournal,
    FixState,
    JournalFolder,
    NotUndone,
    boot_id,
    close_journal,
    held_text,
    is_at_work,
    locked_journal,
    namespace_cookie,
    open_durable_folder,
    put_lines,
    read_journal,
    read_own_file,
    remove_durably,
    replace_durably,
    sweep_folder,
    take_lines,
    write_journal,
    write_setting,
)
from tcpdoctor.kernel.namespace_entry import NamespacePlace, coming_back, enter_namespace, find_namespaces
from tcpdoctor.kernel.namespaces import (
    is_initial_namespace,
    name_of_namespace,
    network_namespace,
    sees_all_processes_of_machine,
    shares_namespace,
)
from tcpdoctor.kernel.reading import Missing, Reading, boottime, is_ready
from tcpdoctor.kernel.text import clean

_FILE_MODE = 0o644
_LONGEST_PART = 4000
"""Characters of a list of ports that the kernel takes at once at least: a page less its last, cut number."""


def is_here(journal: FixJournal) -> bool:
    """Whether it is about the network namespace of the calling thread."""
    if journal.initial and is_initial_namespace() is True:
        return True
    if journal.namespace != network_namespace():
        return False
    return journal.cookie is None or journal.cookie == namespace_cookie()


def is_of_this_boot(journal: FixJournal) -> bool:
    """Whether nothing has started anew since."""
    return journal.boot == boot_id()


def leads_there(journal: FixJournal) -> Reading[str | None]:
    """Return what `--netns` takes for the namespace of a journal; None where that is gone."""
    if journal.initial:
        return "1"
    if not is_of_this_boot(journal) or journal.namespace == network_namespace():
        return None  # where we are not in it, but in one that has its inode by now
    if not sees_all_processes_of_machine():
        return Missing("not all processes of the machine are visible here")
    found = find_namespaces()
    place = next((place for place in found.places if place.inode == journal.namespace), None)
    if place is None or _has_its_inode_only(place, journal):
        hidden = found.hidden - (shares_namespace(1) is None)  # process 1 is in the initial one
        return Missing("not every process lets us see its namespace") if hidden > 0 else None
    return place.name or str(place.pid)


def _has_its_inode_only(place: NamespacePlace, journal: FixJournal) -> bool:
    """Whether a namespace is surely not the journal's, but one that was given its inode since."""
    if journal.cookie is None:
        return False
    with coming_back(), suppress(QuestionError):
        enter_namespace(place.path)
        return namespace_cookie() not in (None, journal.cookie)
    return False


def lasts_in_file(journal: FixJournal) -> bool:
    """Whether lines for the next boot are in a file."""
    return any(change.line is not None for change in (*journal.earlier, *journal.changes))


def is_under_way(journal: FixJournal) -> bool:
    """Whether its end is still to come, and who applies it is at work."""
    open_yet = journal.state in ("pending", "keeping")
    return open_yet and is_of_this_boot(journal) and is_at_work(journal)


def end_journal(folder: JournalFolder, journal: FixJournal) -> FixJournal:
    """End what somebody has begun and nobody ends: forward once it was confirmed, else back.

    Raises:
        OSError: The journal could not be written; the next one ends it.
    """
    _sweep(folder, journal)
    if journal.state == "keeping":
        return roll_forward(folder, journal)
    return roll_back(folder, journal) if journal.state == "pending" else journal


def _sweep(folder: JournalFolder, journal: FixJournal) -> None:
    """Remove what who began it has left beside the two files; where that cannot be done, nothing is lost."""
    with suppress(OSError, QuestionError):
        sweep_folder(folder.descriptor)
        if journal.file is not None and os.path.isdir(os.path.dirname(journal.file)):
            beside = open_durable_folder(os.path.dirname(journal.file))
            try:
                sweep_folder(beside)
            finally:
                os.close(beside)


# back


def roll_back(folder: JournalFolder, journal: FixJournal, state: FixState = "undone") -> FixJournal:
    """Give each setting back what it held, where it still has our value; say of the others who has it.

    Args:
        folder: Locked.
        journal: Pending.
        state: What it is called afterwards, where no earlier run has kept anything.

    Returns:
        What the journal says afterwards.

    Raises:
        OSError: A file could not be written; settings are as they were before all the same, unless lines for
            the next boot were to be taken out: then nothing was done.
    """
    said: list[NotUndone] = []
    if journal.undoing and journal.file is not None:
        said += map(NotUndone, _take_out(journal.file, journal.changes, journal.earlier))
    still: list[Changed] = []
    if is_here(journal) and (journal.undoing or is_of_this_boot(journal)):
        for change in reversed(journal.changes):
            why = _give_back(change)
            if why is not None:
                is_taken = not isinstance(why, _Unwritten)
                said.append(NotUndone(why.reason, change.key if is_taken else None))
                still += [] if is_taken else [change]
    ended = journal._replace(
        state="failed" if still else state, said=tuple(said), undoing=False, changes=tuple(still)
    )
    if journal.earlier and not still:
        ended = ended._replace(state="kept", changes=journal.earlier, earlier=())
    close_journal(folder, ended)
    return ended


class _Unwritten(Missing):
    """A setting that could not be written back."""


def _give_back(change: Changed) -> Missing | None:
    now = held_text(change.key)
    if now == change.before:
        return None
    if isinstance(now, Missing):
        return _Unwritten(f"{change.key}: {now.reason}")
    if not _is_ours(now, change):
        text = (
            f"{change.key} is {now} by now, neither {change.after} (ours) nor {change.before} (before): left"
        )
        return Missing(text)
    refused = write_setting(change.key, change.before)
    after = held_text(change.key)
    if after == change.before:
        return None
    why = (
        refused.reason
        if refused is not None
        else f"{change.key}: it is {after} after writing {change.before}"
    )
    return _Unwritten(why)


def _is_ours(now: str, change: Changed) -> bool:
    """Whether a value is what we wrote; of several numbers the kernel may have taken the first ones only.

    Of a list of ports longer than a page it takes a part, and adds the rest: who was killed between the two,
    writing ours or going back, has left the part.
    """
    if now == change.after:
        return True
    if len(now) > _LONGEST_PART:
        return any(f"{whole},".startswith(f"{now},") for whole in (change.before, change.after))
    parts, before, after = now.split(), change.before.split(), change.after.split()
    if not len(parts) == len(before) == len(after) > 1:
        return False
    return all(part in pair for part, pair in zip(parts, zip(before, after, strict=True), strict=True))


# forward


def roll_forward(folder: JournalFolder, journal: FixJournal) -> FixJournal:
    """Write the lines for the next boot, and that all is kept; where they cannot be written, go back.

    Args:
        folder: Locked.
        journal: Keeping.

    Raises:
        OSError: The journal could not be written; the next one ends it.
    """
    if journal.file is not None:
        try:
            put_into_file(journal.file, journal.changes)
        except (OSError, QuestionError) as error:
            pending = journal._replace(state="pending")
            why = f"{clean(journal.file, 300)}: {_why(error)}"
            ended = roll_back(folder, pending, "failed")
            return ended._replace(said=(NotUndone(why), *ended.said))
    kept = journal._replace(
        state="kept", changes=together(journal.earlier, journal.changes), earlier=(), said=()
    )
    write_journal(folder, kept)
    return kept


def together(earlier: Sequence[Changed], later: Sequence[Changed]) -> tuple[Changed, ...]:
    """Return what is to be undone of several runs: a setting's first value, and the one set last."""
    found = {change.key: change for change in earlier}
    for change in later:
        first = found.pop(change.key, None)
        if first is not None:
            line = change.line
            if line is not None and first.line is not None:
                line = line._replace(replaced=first.line.replaced)
            change = change._replace(before=first.before, line=line or first.line)
        found[change.key] = change
    return tuple(found.values())


# the file of lines for the next boot


def put_into_file(path: str, changes: Iterable[Changed]) -> None:
    """Put lines into a file of settings; its other lines stay.

    Raises:
        OSError: It could not be written, and is as it was; ELOOP for a link.
        QuestionError: Its folder, or it, is not root's alone.
    """
    lines = [change.line for change in changes if change.line is not None]
    folder = open_durable_folder(os.path.dirname(path), make=True)
    try:
        found = read_own_file(folder, path)
        before, mode = found or (b"", _FILE_MODE)
        after = put_lines(before, lines)
        if after != before:
            replace_durably(folder, os.path.basename(path), after, mode)
    finally:
        os.close(folder)


def read_boot_file(path: str) -> bytes:
    """Return what the file of lines holds; nothing where there is none.

    Raises:
        OSError: It cannot be read; ELOOP for a link.
        QuestionError: Its folder, or it, is not root's alone.
    """
    if not os.path.isdir(os.path.dirname(path)):
        return b""
    folder = open_durable_folder(os.path.dirname(path))
    try:
        found = read_own_file(folder, path)
    finally:
        os.close(folder)
    return b"" if found is None else found[0]


def _take_out(path: str, changes: Sequence[Changed], earlier: Sequence[Changed]) -> list[str]:
    """Take our lines out; return what is said of those that somebody has changed."""
    if not os.path.isdir(os.path.dirname(path)):
        return []
    ours: list[BootLine] = [change.line for change in changes if change.line is not None]
    folder = open_durable_folder(os.path.dirname(path))
    try:
        name = os.path.basename(path)
        found = read_own_file(folder, path)
        if found is None:
            return []
        taken = take_lines(found[0], ours, all_of_them=not earlier)
        if not taken.content:
            remove_durably(folder, name)
        elif taken.content != found[0]:
            replace_durably(folder, name, taken.content, found[1])
    finally:
        os.close(folder)
    shown = clean(path, 300)
    return [
        f"{shown}: somebody has changed the line to `{clean(line, 200)}`: left"
        for line in taken.changed.values()
    ]


def _why(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def time_left(journal: FixJournal) -> float:
    """Return seconds until it is undone by itself; negative once that is over."""
    return journal.until - boottime()


SYSTEMD_RUN = "/usr/bin/systemd-run"
_BOOTED = "/run/systemd/system"
"""Where systemd is process 1 (sd_booted(3))."""
_STARTS_WITHIN = 20.0
"""Seconds that systemd may take for an answer."""


def arm_guard(path: str, run: str) -> int:
    """Start a guard of the journal at `path`, and return the descriptor that tells it that we are at work.

    As soon as that is closed, by our end too, the guard ends what is not ended.

    Raises:
        OSError: No process could be started.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _become_guard(reader)
                watch_journal(path, run, 0)
        finally:
            os._exit(0)
    os.close(reader)
    os.waitpid(child, 0)
    return writer


def _become_guard(reader: int) -> None:
    """Keep nothing of who started us but the pipe, which becomes standard input."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.dup2(reader, 0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    os.chdir("/")


_LOOKS_AGAIN = 1.0
"""Seconds; the time that is left may have become less."""
_MOST_FAILURES = 60


def watch_journal(path: str, run: str, reader: int | None = None) -> None:
    """Wait until this run is ended, or has to be; then end it.

    Args:
        path: Of the journal.
        run: Which one.
        reader: A pipe that ends with who applies it; None: that process is looked for.
    """
    is_gone, failures = False, 0
    while failures < _MOST_FAILURES:
        try:
            with locked_journal(path) as folder:
                journal = read_journal(folder)
                if journal is None or journal.run != run or journal.state not in ("pending", "keeping"):
                    return
                if is_of_this_boot(journal) and not is_here(journal):
                    return  # its settings cannot be reached from here: it stays what it is, and is told of
                is_gone = is_gone or (reader is None and not is_at_work(journal))
                left = time_left(journal)
                if journal.state == "keeping" or is_gone or left <= 0:
                    end_journal(folder, journal)
                    return
        except (OSError, TcpdoctorError):  # a full disk, say: what could not be ended is tried again
            failures += 1
            time.sleep(_LOOKS_AGAIN)
            continue
        is_gone = is_gone or _is_closed_within(reader, min(left, _LOOKS_AGAIN))


def _is_closed_within(reader: int | None, seconds: float) -> bool:
    if reader is None:
        time.sleep(max(0.0, seconds))
        return False
    return is_ready(reader, seconds)


# under systemd

_FINDS_US = ("PYTHONPATH", "PYTHONHOME")
"""What a unit of systemd does not inherit, and without which Python may not find this program."""


def arm_timer(path: str, run: str, seconds: float, netns: str | None) -> Missing | None:
    """Let systemd start a guard after so many seconds; None where it will, or does not run this host.

    Args:
        path: Of the journal.
        run: Which one it is for.
        seconds: From now.
        netns: What leads into the network namespace, as `--netns` takes it; None: none is needed.
    """
    if not os.path.isdir(_BOOTED) or not os.access(SYSTEMD_RUN, os.X_OK):
        return None
    if netns is None and shares_namespace(1) is False:
        netns = name_of_namespace()
        if netns is None:
            return Missing("systemd is in another network namespace, and this one has no name")
    inside = [] if netns is None else ["--netns", netns]
    command = [
        SYSTEMD_RUN,
        "--quiet",
        "--collect",
        f"--unit=tcpdoctor-fix-{run}",
        f"--on-active={max(1, round(seconds))}s",
        "--timer-property=AccuracySec=1s",
        f"--working-directory={os.getcwd()}",
        *(f"--setenv={name}={os.environ[name]}" for name in _FINDS_US if os.environ.get(name)),
        "--",
        *_this_program(),
        *("fix", "--guard", run, "--journal", path, *inside),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_STARTS_WITHIN, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Missing(f"{SYSTEMD_RUN}: {error}")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return Missing(f"{SYSTEMD_RUN}: {said[-1] if said else done.returncode}")
    return None


def _this_program() -> Sequence[str]:
    """The words that started this program, up to its own arguments, with Python by its whole path."""
    own = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]
    return [sys.executable, *own]


# signals of who applies it


class InterruptedFixError(Exception):
    """A signal asks to end: what has begun is undone."""


_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@contextmanager
def ends_by_signal() -> Iterator[None]:
    """Raise `InterruptedFixError` in the body on SIGHUP, SIGINT and SIGTERM, at most once.

    One that is ignored, as by nohup(1), stays so.

    Raises:
        InterruptedFixError: One has come.
    """

    def end(number: int, _frame: object) -> None:
        for each in _ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise InterruptedFixError(signal.Signals(number).name)

    minded = [each for each in _ENDING if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, end) for each in minded}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def unsignalled() -> Iterator[None]:
    """Let signals that end wait until the body is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

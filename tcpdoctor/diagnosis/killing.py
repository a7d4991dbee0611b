"""How a process is ended by a signal, where nothing better is known: which one, and with whom."""

import re
import shlex
from collections.abc import Mapping, Sequence

from tcpdoctor.diagnosis.stopping import (
    PLAIN_SHELLS,
    Case,
    Stop,
    is_wrapper,
    names_of,
    program_of,
    systemctl_of,
)
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Holder
from tcpdoctor.kernel.standing import Kin


def stop_process(case: Case) -> Stop:
    """End the process itself, because nothing better is known; say who may start it again."""
    pid, parent = case.holder.pid, case.standing.ancestors[0] if case.standing.ancestors else None
    master, again = _master_of(case), restarter_of(case)
    if master is not None and case.asker.kindred:
        return _stop_all_of(master, case)
    if master is not None:
        return Stop(
            "process",
            case.holder,
            (f"kill {master.pid}",),
            note=f"pid {master.pid} {master.name} is its master: its workers end with it, and one that ends "
            "alone is begun anew",
        )
    told = _SIGNALS.get(program_of(case.kin)) if parent is None or not _is_its_worker(case, parent) else None
    kill = _kill(case, told[0] if told else "")
    if again is not None and again.pid != 1:
        kill = f"kill {again.pid} {pid}" if kill == f"kill {pid}" else f"kill {again.pid} && {kill}"
    return Stop(
        "process",
        case.holder,
        (kill,),
        note="; ".join(
            filter(
                None,
                (
                    told and told[1].format(pid=pid),
                    _reloaded(case),
                    _why_deaf(case),
                    _who_starts_it(case),
                    _NOT_SEEN.format(pid=pid) if case.unseen else None,
                ),
            )
        )
        or None,
        avoid=_around(case),
        with_children=program_of(case.kin) in _POSTGRES and told is not None,
    )


def _stop_all_of(master: Kin, case: Case) -> Stop:
    """End a master whose workers each have a socket of their own, and them: it may not end them itself."""
    began = tuple(pid for pid in (case.holder.pid, *case.asker.kindred) if pid != master.pid)
    ended = (master.pid, *began) if len(began) <= _MOST_ENDED else (master.pid,)
    others = len(began) - 1
    them = "it" if not others else f"it and {'one more' if others == 1 else f'{others} more'} at this port"
    return Stop(
        "process",
        case.holder,
        (f"kill {' '.join(map(str, ended))}",),
        note=f"pid {master.pid} {master.name} began {them}, and may begin anew what ends alone",
        ended=ended,
    )


_NOT_SEEN = (
    "whether a unit, a container or a master process keeps it is not told here: see `systemctl status {pid}` "
    "first, and stop that"
)


def _kill(case: Case, signal: str) -> str:
    """The command that ends the process as it stands: one that is stopped has to go on to heed it."""
    standing, pid = case.standing, case.holder.pid
    pids = " ".join(map(str, (pid, *those_that_stay(case))))
    if standing.ignores_term:
        return f"kill -KILL {pids}"
    flag = f"{signal} " if signal else ""
    if standing.halted == "traced" and standing.tracer is not None:
        return f"kill {standing.tracer.pid} && kill {flag}{pids}"
    return f"kill {flag}{pids}" + (f" && kill -CONT {pid}" if standing.halted == "stopped" else "")


def _masters_below(case: Case) -> tuple[int, ...]:
    """Processes below the holder that hold the socket and began others that do.

    After a reload in flight (USR2 to nginx, gunicorn, unicorn) the new master is a child of the old one,
    and goes on when that ends.
    """
    held = {holder.pid for holder in case.holders}
    parents = dict(zip(case.standing.below, case.standing.below_parents, strict=False))
    began = {parents.get(pid) for pid in held}
    return tuple(pid for pid in parents if pid in held and pid in began)


_END_THEIR_WORKERS = re.compile(
    r"nginx|openresty|angie|apache2|httpd|gunicorn|uvicorn|hypercorn|daphne|uwsgi(?:-core)?|puma|unicorn"
    r"|php-fpm[0-9.]*|flask|haproxy|dovecot|master|lighttpd|sshd|smbd|proftpd|vsftpd|pure-ftpd|postgres"
)
"""Servers whose master, where it handles TERM, ends its workers: then the short command is enough."""
_MOST_ENDED = 40
"""Pids that a command takes at most."""


def those_that_stay(case: Case) -> tuple[int, ...]:
    """Whom else to end: new masters of a reload; workers that nobody is sure to end.

    Whether a worker ends with its master is nowhere to be read (PR_SET_PDEATHSIG is not shown, and it may
    watch a pipe). A master that has no handler for TERM ends none itself, and one that is gone did not.
    """
    name, below = case.holder.name, case.standing.below
    sharing = tuple(one.pid for one in case.holders if one.pid in below and one.name == name)
    known = any(_END_THEIR_WORKERS.fullmatch(name) for name in names_of(case.kin))
    if (known and not case.standing.dies_of_term) or len(sharing) > _MOST_ENDED:
        return _masters_below(case) + _beside(case)
    return sharing + _beside(case)


def _beside(case: Case) -> tuple[int, ...]:
    """Holders that were begun by the same process, which holds the socket no longer: all or none serves."""
    mine, pid = case.parents.get(case.holder.pid), case.holder.pid
    if mine is None:
        return ()
    alike = (one for one in case.holders if one.name == case.holder.name and one.pid != pid)
    found = tuple(one.pid for one in alike if case.parents.get(one.pid) == mine)
    return found if len(found) <= _MOST_ENDED else ()


def _reloaded(case: Case) -> str | None:
    masters = _masters_below(case)
    if not masters:
        return None
    named = f"pid{'s' if len(masters) > 1 else ''} {', '.join(map(str, masters))}"
    return (
        f"{named} below it began others that share the socket, as a new master does in a reload (USR2), and "
        f"may go on when pid {case.holder.pid} has ended"
    )


def _is_its_worker(case: Case, parent: Kin) -> bool:
    return _SIGNALS.get(program_of(parent)) is not None and program_of(parent) == program_of(case.kin)


def restarter_of(case: Case) -> Kin | None:
    """The shell's loop, or the program for developers, that starts it again whenever it ends."""
    if case.standing.loop is not None:
        return case.standing.loop
    above = next((kin for kin in case.standing.ancestors[:_NEAR] if not _is_between(kin)), None)
    return above if above is not None and _restarts(above) else None


def _is_between(kin: Kin) -> bool:
    """Whether it only waits for what it began, which whoever began it sees end: `sh -c`, npm."""
    return is_wrapper(kin) and (not names_of(kin) & PLAIN_SHELLS or len(kin.arguments) > 1)


def _restarts(kin: Kin) -> bool:
    names = names_of(kin)
    words = {word for name in names for word in _WATCH.get(name, ())}
    return bool(names & RESTARTERS) or not words.isdisjoint(kin.arguments)


def _who_starts_it(case: Case) -> str | None:
    """Say who begins it anew, or may."""
    parent = case.standing.ancestors[0] if case.standing.ancestors else None
    if again := restarter_of(case):
        return tell_restarter(case, again)
    if runner := next((kin for kin in case.standing.ancestors[:_NEAR] if names_of(kin) & _TOGETHER), None):
        return f"pid {runner.pid} {runner.name} began it with others, and ends all of them when one ends"
    if (loop := _subshell_above(case)) is not None:
        both = f"kill {loop.pid} {case.kin.pid}"
        return f"where it comes back, a loop of pid {loop.pid} {loop.name} began it: `{both}`"
    if parent is not None and names_of(parent) & PLAIN_SHELLS and parent.arguments[1:2] == ("-c",):
        parent = next(iter(case.standing.ancestors[1:]), None)  # what was given a line to run, runs it again
    if parent is None or parent.pid == 1 or is_wrapper(parent):
        return None
    if names_of(parent) & (NEVER_AGAIN | {"systemd"}):
        return None
    who = f"pid {parent.pid} {parent.name}"
    both = f"kill {parent.pid} {case.holder.pid}"
    return f"{who} started it, and may start it again: then `{both}`{_and_its_others(case, parent)}"


def _and_its_others(case: Case, parent: Kin) -> str:
    """Say what the end of a parent may cost: a supervisor that is not known here has others to keep."""
    others = case.standing.siblings if case.standing.kin.parent == parent.pid else 0
    if not others:
        return ""
    return f", which may end {'another' if others == 1 else f'{others} others'} that it began"


def tell_restarter(case: Case, again: Kin) -> str:
    """Say who starts it again whenever it ends, without a full stop."""
    how = "runs it in a loop and starts" if again == case.standing.loop else "starts"
    name = next(iter(sorted(names_of(again) & RESTARTERS)), again.name)
    return f"pid {again.pid} {name} {how} it again, and has to end first"


def _subshell_above(case: Case) -> Kin | None:
    """The shell's process that began it, where that is a fork of a shell: of a loop that was typed."""
    parent, above = (*case.standing.ancestors, None, None)[:2]
    if parent is None or above is None or not names_of(parent) & PLAIN_SHELLS:
        return None
    return parent if (above.name, above.arguments) == (parent.name, parent.arguments) else None


def _why_deaf(case: Case) -> str | None:
    """Say why plain `kill` does not end it."""
    if not case.standing.ignores_term:
        return None
    if not case.standing.own_pids and case.standing.innermost_pid == 1:
        whole = "it is process 1 of a PID namespace and does not handle TERM"
        return f"{whole}: only KILL ends it, and with it all in that namespace"
    return "it ignores TERM: only KILL ends it"


def _around(case: Case) -> tuple[str, ...]:
    """Warn of the unit in which the process is not the main program."""
    if case.unit is None:
        return ()
    members = case.standing.unit_members
    count = 0 if isinstance(members, Missing) else len(members) - len(case.holders)
    ends = f"{count} other processes" if count > 1 else "what else runs in it"
    command = f"{systemctl_of(case)} stop {shlex.quote(case.unit)}"
    return (f"{command}: {case.holder.name} is not its main program; that ends {ends}.",)


RESTARTERS = frozenset(
    (
        *("watchmedo", "monitor", "nodemon", "respawn", "daemon", "immortal"),
        *("watchfiles", "watchexec", "entr", "reflex", "cargo-watch", "hupper", "node-dev", "ts-node-dev"),
        *("air", "CompileDaemon", "bacon", "gow", "wgo", "modd", "onchange", "dotnet-watch"),
    )
)
"""Programs that start their child again, when it ends or at the next change of a file; ``monitor`` is that of
forever."""
_WATCH = {
    **dict.fromkeys(("node", "bun", "deno"), ("--watch",)),
    "tsx": ("watch", "--watch"),
    "dotnet": ("watch",),
}
"""Programs that do so where they are told to watch, with the words that tell them."""
_TOGETHER = frozenset(("honcho", "foreman", "hivemind", "overmind", "forego"))
"""Programs that run what a Procfile says, all of it or nothing."""
_NEAR = 4
"""How far up such a one is looked for: a shell may stand between, and a process of its own."""
NEVER_AGAIN = frozenset(
    (
        *("tmux", "tmux: server", "screen", "SCREEN", "zellij", "abduco", "dtach", "login", "bwrap"),
        *("unshare", "firejail", "nsenter", "chroot", "sleep", "cat", "tail", "sshd", "sshd-session"),
        *("cron", "crond", "atd", "xterm", "konsole", "gnome-terminal-", "code", "mysqld_safe"),
        *("dbus-run-session", "ssh", "gdb", "rr", "xargs", "parallel", "socat", "nohup", "setsid"),
        *("start-stop-daem", "ctest", "pytest"),
    )
)
"""Programs whose child, once it has ended, they do not start again."""
_POSTGRES = frozenset(("postgres", "postmaster"))
_FAST_SHUTDOWN = (
    "INT ends its sessions and stops it (a fast shutdown); plain `kill {pid}` waits until they end "
    "by themselves, and -KILL makes the next start a recovery"
)
_SIGNALS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(_POSTGRES, ("-INT", _FAST_SHUTDOWN)),
    **dict.fromkeys(
        ("uwsgi", "uwsgi-core"),
        ("-INT", "INT stops it; to TERM uWSGI answers with a reload, unless it was told --die-on-term"),
    ),
}
"""What stops a server that takes TERM for something else, and why."""
_MASTERS_WITHOUT_SOCKET = frozenset(("haproxy", "varnishd", "squid"))
"""Programs of which a worker listens and the master that began it does not hold the socket."""


def _plain(program: str) -> str:
    """``squid`` of ``(squid-1)``, which it calls its workers."""
    return program.strip("()").partition("-")[0]


def _master_of(case: Case) -> Kin | None:
    """The master of a worker that listens; an old worker, which only ends its connections, goes alone."""
    parent = case.standing.ancestors[0] if case.standing.ancestors else None
    program = _plain(program_of(case.kin))
    if parent is None or parent.pid == 1 or case.unit is not None:
        return None
    if not case.standing.listens_on and not case.asker.listens:
        return None
    same = _plain(program_of(parent)) == program
    return parent if same and (program in _MASTERS_WITHOUT_SOCKET or _is_fork_of(parent, case)) else None


def _is_fork_of(parent: Kin, case: Case) -> bool:
    """Whether a process that shares its port began the holder without starting another program in it."""
    return bool(case.asker.kindred and case.kin.arguments and parent.arguments == case.kin.arguments)


def heirs_of(case: Case, ended: Sequence[int]) -> tuple[Holder, ...]:
    """Programs of another name that it began and gave the socket: without a handler it leaves them."""
    if not ended or not case.standing.dies_of_term:
        return ()
    below, name = case.standing.below, case.holder.name
    return tuple(one for one in case.holders if one.pid in below and one.name != name)

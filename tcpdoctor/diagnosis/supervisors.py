"""Programs that a supervisor keeps running: how one is stopped so that it stays stopped.

To stop the unit around them would end all that it supervises.
"""

import re
import shlex
from collections.abc import Mapping

from tcpdoctor.diagnosis.keepers import what_it_costs
from tcpdoctor.diagnosis.stopping import (
    PLAIN_SHELLS,
    Case,
    Stop,
    arguments_of,
    names_of,
    program_of,
)
from tcpdoctor.kernel.carriers import option_value
from tcpdoctor.kernel.standing import Kin

_NEAR = 4
"""How far up a supervisor is looked for: between it and its program may be a shell or two."""


def stop_of_supervised(case: Case) -> Stop | None:
    """Return how to stop a program that a supervisor keeps, and leave the supervisor alone."""
    for keeper in (case.kin, *case.standing.ancestors[:_NEAR]):
        if stop := _kept_by(keeper, case):
            return stop
    return _of_monit(case) if case.standing.variables.get("MONIT_SERVICE") else _by_unit(case)


def _kept_by(keeper: Kin, case: Case) -> Stop | None:
    program, own = program_of(keeper), keeper.pid == case.holder.pid
    said = keeper.arguments
    given = arguments_of(keeper)
    name = shlex.quote(given[0]) if given else "NAME"
    if "supervisord" in (program, keeper.name):
        return None if own else _of_supervisord(case, keeper)
    if (
        keeper.name.startswith("PM2 ")
        or (said and said[0].startswith("PM2 "))
        or "God Daemon" in " ".join(said)
    ):
        return _of_pm2(case, keeper, own=own)
    if own:
        return _circus_itself(case) if program == "circusd" else None
    if program in ("runsv", "s6-supervise", "supervise"):
        return _of_folder(case, keeper, program)
    match program:
        case "nomad" if "NOMAD_ALLOC_ID" in case.standing.variables:
            number = shlex.quote(case.standing.variables["NOMAD_ALLOC_ID"])
            return _supervised(case, keeper, f"nomad alloc stop {number}", f"nomad alloc restart {number}")
        case "uwsgi" | "uwsgi-core" if "--emperor" in said:
            return _vassal(case, keeper)
        case "supervise-daemon":
            return _supervised(case, keeper, f"rc-service {name} stop", f"rc-service {name} restart")
        case "circusd":
            return _of_circus(case, keeper)
        case _:
            return _of_lister(case, keeper, program)


def _of_lister(case: Case, keeper: Kin, program: str) -> Stop | None:
    """Dinit and perp list their services with the pid that they began, by which the name is found."""
    if program not in _LISTERS:
        return None
    begun = (kin.pid for kin in case.standing.ancestors if kin.parent == keeper.pid)
    stop, restart, lookup = _LISTERS[program]
    return _supervised(case, keeper, stop, restart, lookup.format(next(begun, case.holder.pid)))


_LISTERS: Mapping[str, tuple[str, str, str]] = {
    "dinit": ("dinitctl stop NAME", "dinitctl restart NAME", "dinitctl list | grep 'pid: {})'"),
    "perpd": ("perpctl d NAME", "perpctl t NAME", "perpls | grep {}"),
}


_USUAL = ("/etc/service", "/service", "/var/service", "/etc/runit/runsvdir/default")
"""Where runit's sv looks for a service by itself."""


def _of_folder(case: Case, keeper: Kin, program: str) -> Stop:
    """Runit, s6 and daemontools know a service by its folder."""
    given, scanned = arguments_of(keeper), _scanned(case, keeper)
    if program == "runsv" and given and scanned in _USUAL:
        folder = shlex.quote(given[0])
    elif given and (given[0].startswith("/") or scanned is not None):
        folder = shlex.quote(given[0] if given[0].startswith("/") else f"{scanned}/{given[0]}")
    else:  # each of them has gone into its folder
        folder = f'"$(readlink /proc/{keeper.pid}/cwd)"'
    stop, restart = _OF_FOLDERS[program]
    return _supervised(case, keeper, f"{stop} {folder}", f"{restart} {folder}")


_OF_FOLDERS: Mapping[str, tuple[str, str]] = {
    "runsv": ("sv stop", "sv restart"),
    "supervise": ("svc -d", "svc -t"),
    "s6-supervise": ("s6-svc -d", "s6-svc -r"),
}


def _scanned(case: Case, keeper: Kin) -> str | None:
    """Return the folder of services that the supervisor's own parent looks through, as it was given one."""
    above = [kin for kin in case.standing.ancestors if kin.pid == keeper.parent]
    if not above or program_of(above[0]) not in ("runsvdir", "s6-svscan", "svscan"):
        return None
    return next((word for word in arguments_of(above[0]) if word.startswith("/")), None)


def _vassal(case: Case, keeper: Kin) -> Stop:
    """Stop one server of uWSGI's emperor, which ends and starts them as their files go and come."""
    folder = option_value(keeper.arguments, "emperor") or "DIR"
    own = next(
        (a for a in case.kin.arguments[1:] if a.endswith((".ini", ".yml", ".yaml", ".xml", ".json"))), ""
    )
    file = own if "/" in own else f"{folder}/{own or 'NAME.ini'}"
    return _supervised(
        case,
        keeper,
        f"mv {shlex.quote(file)} {shlex.quote(file + '.off')}",
        f"touch {shlex.quote(file)}",
        *(() if own else (f"ls {shlex.quote(folder)}",)),
        name="uWSGI's emperor",
    )


def _supervised(
    case: Case,
    keeper: Kin | None,
    stop: str,
    restart: str | None = None,
    *lookup: str,
    name: str = "its supervisor",
) -> Stop:
    who = f"{keeper.name} (pid {keeper.pid})" if keeper else name
    unit = case.unit
    all_of_it = (what_it_costs(case, unit, f"it ends every program that {who} keeps"),) if unit else ()
    shell = _shell_between(case, keeper)
    left = f"; kill {case.holder.pid}" if shell else ""
    return Stop(
        "supervised",
        case.holder,
        (f"{stop}{left}",),
        lookup=lookup,
        restart=restart,
        role=f"is kept by {who}",
        note=_left_by(shell) if shell else None,
        avoid=(*all_of_it, f"kill {case.holder.pid}: it is started again."),
    )


def _left_by(shell: Kin) -> str:
    alone = f"pid {shell.pid} {shell.name} stands between them, and may end alone"
    return f"{alone}: exec in its script avoids it"


def _shell_between(case: Case, keeper: Kin | None) -> Kin | None:
    """Supervisors signal what they began: a shell that did not `exec` its server ends, and leaves it."""
    above = case.standing.ancestors
    between = above[: above.index(keeper)] if keeper in above else ()
    if keeper is not None and keeper.name.startswith("PM2"):
        return None
    return next((kin for kin in between if names_of(kin) & PLAIN_SHELLS), None)


def _of_supervisord(case: Case, keeper: Kin | None) -> Stop:
    told = case.standing.variables
    name = told.get("SUPERVISOR_PROCESS_NAME")
    group = told.get("SUPERVISOR_GROUP_NAME")
    if name and group and group != name:
        name = f"{group}:{name}"
    control = _supervisorctl(told.get("SUPERVISOR_SERVER_URL", ""))
    lookup = () if name else (f"{control} status | grep {case.holder.pid}",)
    quoted = shlex.quote(name) if name else "NAME"
    return _supervised(
        case,
        keeper,
        f"{control} stop {quoted}",
        f"{control} restart {quoted}",
        *lookup,
        name="supervisord",
    )


_USUAL_SOCKET = re.compile(r"unix:///(?:var/)?run/(?:supervisor/)?supervisor\.sock")
"""Of Debian's and EPEL's packages: their supervisorctl finds it by itself."""


_SERVER = re.compile(r"(?:unix:///|https?://)[\w./:@%+-]{1,200}")


def _supervisorctl(server: str) -> str:
    """Return how the supervisord is reached that told its program where it listens."""
    if not _SERVER.fullmatch(server) or _USUAL_SOCKET.fullmatch(server):
        return "supervisorctl"
    return f"supervisorctl -s {shlex.quote(server)}"


def _of_pm2(case: Case, keeper: Kin | None, *, own: bool) -> Stop:
    told = {} if own else case.standing.variables
    name = (told.get("name") or told.get("pm_id")) if "pm_id" in told else None
    quoted = shlex.quote(name) if name else "NAME"
    uid = case.kin.uid
    before = f"sudo -iu '#{uid}' " if uid != case.asker.uid else ""
    before += _home_of_pm2(case, keeper, uid)
    stop = _supervised(
        case,
        keeper,
        f"{before}pm2 stop {quoted}",
        f"{before}pm2 restart {quoted}",
        *(() if name else (f"{before}pm2 list" + (" | grep cluster" if own else ""),)),
        name="PM2",
    )
    if not own:
        return stop
    return stop._replace(
        role="is PM2 itself, which holds it for one of its programs",
        avoid=(*stop.avoid[:-1], f"kill {case.holder.pid}: it ends every program of PM2."),
    )


_GOD = re.compile(r"God Daemon \((/.*)\)")


def _home_of_pm2(case: Case, keeper: Kin | None, uid: int) -> str:
    """Return what stands before `pm2` so that it reaches this daemon; empty where it does by itself.

    The client begins a daemon of its own, and an empty one, in every other folder.
    """
    title = _GOD.search(" ".join(keeper.arguments)) if keeper else None
    home = title[1] if title else case.standing.variables.get("PM2_HOME", "")
    if not home or re.fullmatch(r"/root/\.pm2" if uid == 0 else r"/home/[^/]+/\.pm2", home):
        return ""
    return f"PM2_HOME={shlex.quote(home)} "


def _of_circus(case: Case, keeper: Kin) -> Stop:
    stop = _supervised(case, keeper, "circusctl stop NAME", "circusctl restart NAME", "circusctl status")
    return stop._replace(note="; ".join(filter(None, (stop.note, _endpoint_of(keeper)))))


def _endpoint_of(keeper: Kin) -> str:
    """Say how to reach a circusd that may listen elsewhere."""
    file = next((a for a in keeper.arguments[1:] if a.endswith(".ini")), "its file")
    return f"it asks tcp://127.0.0.1:5555: where {file} has another endpoint it wants --endpoint with that"


def _circus_itself(case: Case) -> Stop:
    """Circus listens for its programs, and at its own endpoints."""
    return Stop(
        "not-to-be-stopped",
        case.holder,
        (),
        role="is circusd itself, at an endpoint of its own or for one of its programs",
        note="give the server another port, or take the [socket:] or the endpoint out of its file",
        avoid=(f"kill {case.holder.pid}: it ends every program that it keeps.",),
    )


def _by_unit(case: Case) -> Stop | None:
    """Go by the unit where the supervisor itself is out of sight; it may serve its own interface."""
    if found := re.fullmatch(r"/openrc\.([^/]+)(?:/.*)?", case.place.path):
        name = shlex.quote(found[1])
        stop = _supervised(case, None, f"rc-service {name} stop", f"rc-service {name} restart", name="OpenRC")
        return stop._replace(role=f"belongs to the service {found[1]} of OpenRC", avoid=())
    unit = case.unit
    if unit is None or program_of(case.kin) in ("supervisord", "dockerd", "containerd"):
        return None
    if re.fullmatch(r"supervisord?\.service", unit) and case.holder.name != "supervisord":
        return _of_supervisord(case, None)
    if re.fullmatch(r"pm2(?:-.*)?\.service", unit):
        return _of_pm2(case, None, own=False)
    return _of_monit(case) if unit == "monit.service" and program_of(case.kin) != "monit" else None


def _of_monit(case: Case) -> Stop:
    """Monit looks after what it began, and what a start program left behind, which has no parent any more."""
    name = shlex.quote(case.standing.variables.get("MONIT_SERVICE", "NAME"))
    lookup = ("monit summary",) if name == "NAME" else ()
    stop = _supervised(case, None, f"monit stop {name}", f"monit restart {name}", *lookup, name="monit")
    left = f"what stays (no stop program is told, or monit runs no longer) ends by `kill {case.holder.pid}`"
    return stop._replace(note=f"where monit was begun with -c FILE, each of its commands wants that; {left}")

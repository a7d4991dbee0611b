"""Who holds a socket, who may be stopped for it, and how: the one place that says so.

`explain --port`, `explain --pid`, the advice of rules and `fix` all ask here. A unit is named for stopping
only where the holder is its main program; a helper (docker-proxy, conmon, an ssh session, a program of
supervisord) is told for what it is, because the unit around it keeps much else alive.
"""

import shlex
import time
from collections.abc import Mapping, Sequence

from tcpdoctor.diagnosis.keepers import stop_of_helper, stop_of_supervised
from tcpdoctor.diagnosis.stopping import (
    Asker,
    Case,
    Stop,
    is_main_program,
    is_wrapper,
    look_up_container,
    name_container,
    program_of,
    put_inside,
    stop_container,
    systemctl_of,
    user_systemctl,
)
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Holder
from tcpdoctor.kernel.standing import Kin, Standing

_COMMAND_SHOWN = 60
_TYPED = frozenset(
    (
        "systemctl",
        "docker",
        "podman",
        "nerdctl",
        "crictl",
        "machinectl",
        "virsh",
        "lxc",
        "lxc-stop",
        "incus",
        "nomad",
        "aws",
        "kubectl",
        "supervisorctl",
        "pm2",
        "sudo",
        "sv",
        "s6-svc",
        "svc",
        "rc-service",
        "circusctl",
        "kill",
        "nsenter",
        "systemd-run",
        "lxc-attach",
    )
)
"""Words that a sentence keeps small at its beginning: commands are typed as they stand."""
_COSTLY_UNITS: Mapping[str, tuple[str, str]] = {
    "ssh.service": ("locks out whoever comes by ssh", "change Port or ListenAddress in sshd_config"),
    "sshd.service": ("locks out whoever comes by ssh", "change Port or ListenAddress in sshd_config"),
    "dropbear.service": ("locks out whoever comes by ssh", "change its port"),
    "docker.service": ("takes Docker from every container of this host", "stop the one container"),
    "containerd.service": ("takes the runtime from every container of this host", "move its own port"),
    "crio.service": ("takes the runtime from every pod of this node", "move its own port"),
    "kubelet.service": ("takes this node out of its cluster", "move the server"),
    "k3s.service": ("takes this node out of its cluster", "move the server"),
    "k3s-agent.service": ("takes this node out of its cluster", "move the server"),
    "rke2-server.service": ("takes this node out of its cluster", "move the server"),
    "rke2-agent.service": ("takes this node out of its cluster", "move the server"),
    "systemd-resolved.service": (
        "ends name resolution on this host",
        "set DNSStubListener=no in resolved.conf, or bind the server to its own address",
    ),
    "NetworkManager.service": ("leaves this host's interfaces unmanaged", "move the server"),
    "systemd-networkd.service": ("leaves this host's interfaces unmanaged", "move the server"),
    "libvirtd.service": ("takes libvirt from every machine of this host", "move the server"),
    "dbus.service": ("ends what nearly every other service needs", "move the server"),
}
"""Units that nobody stops for the sake of a port: what it would cost, and what to do instead."""


def who_may_be_stopped(
    holders: Sequence[Holder],
    standings: Mapping[int, Reading[Standing]],
    asker: Asker = Asker(),  # noqa: B008 - a named tuple does not change
) -> Stop | None:
    """Say who has to be stopped so that a socket becomes free, and how.

    Args:
        holders: All processes that hold it, the topmost first (`kernel.owners`).
        standings: By pid; without one the process itself is all that can be named.
        asker: Who asks.

    Returns:
        None where nobody is known to hold the socket.
    """
    if not holders:
        return None
    case = _case(tuple(holders), standings, asker)
    for rule in (_systemd, stop_of_helper, _in_container, _first_process, stop_of_supervised, _service):
        if stop := rule(case):
            return _with_known(stop, case)
    return _with_known(stop_process(case), case)


def _case(holders: tuple[Holder, ...], standings: Mapping[int, Reading[Standing]], asker: Asker) -> Case:
    """Take the systemd among them, if there is one: what it gave the socket to does not keep it."""
    known = [h for h in holders if isinstance(standings.get(h.pid), Standing)]
    systemd = [h for h in known if is_service_manager(h, standings[h.pid])]
    holder = next(iter(systemd), holders[0])
    standing = standings.get(holder.pid)
    if standing is None or isinstance(standing, Missing):
        standing = Standing(
            Kin(holder.pid, holder.name, 0, 0.0, uid=holder.uid), 0.0, Missing("not looked at")
        )
    return Case(holder, standing, holders, asker)


def is_service_manager(holder: Holder, standing: Reading[Standing] | None) -> bool:
    """Whether the holder is a systemd: the system's (process 1), a user's, or a container's."""
    if holder.name == "systemd":
        return True
    if standing is None or isinstance(standing, Missing) or standing.innermost_pid != 1:
        return False
    program = program_of(standing.kin)
    return program == "systemd" or (program == "init" and "systemd" in " ".join(standing.kin.arguments))


def _systemd(case: Case) -> Stop | None:
    """A listener of systemd is a socket unit; to end the systemd ends all that it keeps."""
    if not is_service_manager(case.holder, case.standing):
        return None
    place, pid = case.place, case.holder.pid
    stays = "to stop only its service is not enough: systemd keeps the socket and starts the service again"
    if place.containers and not case.standing.same_container:
        box = place.containers[-1]
        return Stop(
            "socket-unit",
            case.holder,
            (put_inside(place.containers, "systemctl stop NAME.socket"),),
            lookup=(put_inside(place.containers, "systemctl list-sockets"),),
            role=f"is the systemd of {name_container(box)}, and this a socket unit there",
            note=stays,
            avoid=(f"kill {pid}: that ends the whole container.",),
            container=box,
        )
    if pid == 1 and case.standing.own_pids:
        return Stop(
            "socket-unit",
            case.holder,
            ("systemctl stop NAME.socket",),
            lookup=("systemctl list-sockets",),
            role="holds it for a socket unit",
            note=stays,
        )
    if not case.standing.own_pids and case.standing.innermost_pid == 1:
        return Stop(
            "socket-unit",
            case.holder,
            (),
            lookup=(f"nsenter -t {pid} -a systemctl list-sockets",),
            role="is the systemd of a container, and this a socket unit there",
            note=stays,
            avoid=(f"kill {pid}: that ends the whole container.",),
        )
    manager = user_systemctl(_owner_of_manager(case), case.asker.uid)
    return Stop(
        "user-socket-unit",
        case.holder,
        (f"{manager} stop NAME.socket",),
        lookup=(f"{manager} list-sockets",),
        role=f"is the service manager of uid {_owner_of_manager(case)} and holds it for a socket unit",
        note=stays,
        avoid=(f"kill {pid}: that ends the user's whole session manager, and all its services.",),
    )


def _owner_of_manager(case: Case) -> int:
    return case.kin.uid if case.place.user is None else case.place.user


def _in_container(case: Case) -> Stop | None:
    place = case.place
    if not place.containers or case.standing.same_container:
        return None
    box = place.containers[-1]
    stop, restart = stop_container(box, case.asker.uid, case.standing.ancestors)
    around = place.containers[:-1]
    note = _alone_in_container(case)
    if box.pod is not None and box.runtime != "podman":
        note = f"the kubelet starts it again: scale down or delete what made pod {box.pod}"
    return Stop(
        "container",
        case.holder,
        tuple(put_inside(around, command) for command in stop),
        lookup=tuple(put_inside(around, command) for command in look_up_container(box, case.asker.uid)),
        role=f"runs in {name_container(box)}",
        note=note,
        restart=put_inside(around, restart) if restart else None,
        container=box,
    )


def _alone_in_container(case: Case) -> str | None:
    """Say how to end a service inside the container and nothing else of it."""
    unit = case.place.unit if case.place.unit_in_container else None
    if unit is None or not unit.endswith(".service") or not is_main_program(case):
        return None
    boxes = case.place.containers
    command = f"systemctl stop {shlex.quote(unit)}"
    if boxes[-1].runtime == "nspawn":
        command = f"systemctl -M {shlex.quote(boxes[-1].id)} stop {shlex.quote(unit)}"
        return f"to end its {unit} alone: {command}"
    return f"to end its {unit} alone: {put_inside(boxes, command)}"


def _first_process(case: Case) -> Stop | None:
    """Process 1 is an init, or the main program of the container that we are in."""
    if case.holder.pid != 1 or not case.standing.own_pids:
        return None
    return Stop(
        "first-process",
        case.holder,
        (),
        role="is process 1",
        note=(
            "if it is an init, its socket unit has to be stopped, not a service; if it is the main program "
            "of this container, give the server another port"
        ),
        avoid=("kill 1: it ends this container, or does nothing at all.",),
    )


def _service(case: Case) -> Stop | None:
    unit = case.unit
    if unit is None or not is_main_program(case):
        return None
    control = systemctl_of(case)
    name = shlex.quote(unit)
    costly = _COSTLY_UNITS.get(unit)
    if costly is not None and not case.place.of_user_manager:
        return Stop(
            "not-to-be-stopped",
            case.holder,
            (),
            role=f"is the main program of {unit}",
            note=f"give the server another port, or {costly[1]}",
            avoid=(f"systemctl stop {name}: it {costly[0]}.",),
        )
    members = case.standing.unit_members
    held = {holder.pid for holder in case.holders}
    return Stop(
        "user-service" if case.place.of_user_manager else "service",
        case.holder,
        (f"{control} stop {name}",),
        role=f"is the main program of {unit}",
        restart=f"{control} restart {name}",
        others=0 if isinstance(members, Missing) else sum(kin.pid not in held for kin in members),
    )


def stop_process(case: Case) -> Stop:
    """End the process itself, because nothing better is known; say who may start it again."""
    pid, unit = case.holder.pid, case.unit
    note = None
    avoid: tuple[str, ...] = ()
    parent = case.standing.ancestors[0] if case.standing.ancestors else None
    if parent is not None and parent.pid != 1 and not is_wrapper(parent):
        note = f"{parent.name} (pid {parent.pid}) started it, and may start it again"
    if unit is not None:
        members = case.standing.unit_members
        count = 0 if isinstance(members, Missing) else len(members) - len(case.holders)
        ends = f"{count} other processes" if count > 1 else "what else runs in it"
        command = f"{systemctl_of(case)} stop {shlex.quote(unit)}"
        avoid = (f"{command}: {case.holder.name} is not its main program; that ends {ends}.",)
    return Stop("process", case.holder, (f"kill {pid}",), note=note, avoid=avoid)


def _with_known(stop: Stop, case: Case) -> Stop:
    """Add what is told of every holder: since when it runs, with which command line, how many share it."""
    return stop._replace(
        processes=len(case.holders),
        since=case.standing.since or None,
        command_line=" ".join(case.kin.arguments) or None,
        container=stop.container or (None if case.standing.same_container else case.place.container),
    )


def name_stop_holder(stop: Stop) -> str:
    """Name the holder inside a sentence, with what it is there for: ``pid 811 docker-proxy publishes``."""
    who = f"pid {stop.holder.pid} {stop.holder.name}"
    return f"{who} {stop.role}" if stop.role else who


def tell_stop(stop: Stop, connections: int | None = None) -> str:
    """Return how to stop the holder as advice in one paragraph: the command, whom it ends, what ends too.

    Args:
        stop: What is to be done.
        connections: How many connections the holders have at the port, which end with them.
    """
    sentences = [_order(stop)]
    if ends := what_ends(stop, connections):
        sentences.append(f"That ends {ends}")
    if more := who_else(stop):
        sentences.append(more)
    if stop.lookup:
        sentences.append(
            f"{' or '.join(stop.lookup)} names it" if stop.commands else f"See {' or '.join(stop.lookup)}"
        )
    if stop.note:
        sentences.append(sentence(stop.note))
    return ". ".join(sentences) + "."


def _order(stop: Stop) -> str:
    who = name_stop_holder(stop)
    if not stop.commands:
        return f"{sentence(who)}{_told_of(stop)}"
    if stop.way == "process":
        return f"end {who} ({' or '.join(stop.commands)}){_told_of(stop)}"
    return f"{' or '.join(stop.commands)}: {who}{_told_of(stop)}"


def _told_of(stop: Stop) -> str:
    """Since when it runs, and as what: how to know it again before anything is ended."""
    parts = []
    if stop.since is not None:
        parts.append(f"since {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(stop.since))}")
    if stop.command_line and stop.command_line != stop.holder.name:
        text = stop.command_line
        parts.append(f"as {text if len(text) <= _COMMAND_SHOWN else text[: _COMMAND_SHOWN - 1] + '~'}")
    return f"; it runs {', '.join(parts)}" if parts else ""


def what_ends(stop: Stop, connections: int | None) -> str:
    """Return what ends beside the holder: ``137 connections and 4 more processes``; empty for nothing."""
    parts = []
    if connections:
        parts.append("one connection" if connections == 1 else f"{connections:,} connections")
    more = stop.others + (0 if stop.way == "process" else stop.processes - 1)
    if more:
        parts.append("one other process" if more == 1 else f"{more} other processes")
    return " and ".join(parts)


def who_else(stop: Stop) -> str | None:
    """Say that others hold the socket as well, where the command reaches one process only."""
    others = stop.processes - 1
    if stop.way != "process" or not others:
        return None
    if others == 1:
        return "One other process shares the socket and has to end too"
    return f"{others} other processes share the socket and have to end too"


def sentence(text: str) -> str:
    """Return a text as the beginning of a sentence; a command stays as it is typed."""
    first = text.partition(" ")[0]
    return text if first in _TYPED or "=" in first else text[:1].upper() + text[1:]

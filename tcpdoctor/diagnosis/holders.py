"""Who holds a socket, who may be stopped for it, and how: the one place that says so.

`explain --port`, `explain --pid`, the advice of rules and `fix` all ask here. A unit is named for stopping
only where the holder is its main program; a helper (docker-proxy, conmon, an ssh session, a program of
supervisord) is told for what it is, because the unit around it keeps much else alive.
"""

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from tcpdoctor.diagnosis.keepers import stop_of_helper
from tcpdoctor.diagnosis.killing import heirs_of, stop_process, those_that_stay
from tcpdoctor.diagnosis.stopping import (
    VIRTUAL_MACHINES,
    Asker,
    Case,
    Stop,
    is_main_program,
    look_up_container,
    name_container,
    names_of,
    program_of,
    put_inside,
    stop_container,
    systemctl_of,
    tell_halt,
    tell_who_starts_again,
    told_apart,
    user_systemctl,
)
from tcpdoctor.diagnosis.supervisors import stop_of_supervised
from tcpdoctor.kernel.cgroups import Container
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Holder
from tcpdoctor.kernel.standing import Kin, Standing
from tcpdoctor.kernel.text import beginning_of

_COMMAND_SHOWN = 60
_PORTS_NAMED = 4
_PIDS_NAMED = 5
_CONTROL_PLANE = ("kube-apiserver", "etcd", "kube-scheduler", "kube-controller-manager", "kube-controller")
_COSTLY: Mapping[str, tuple[str, str]] = {
    "systemd-resolved": (
        "ends name resolution on this host",
        "set DNSStubListener=no in resolved.conf, or bind the server to its own address",
    ),
    "NetworkManager": ("leaves this host's interfaces unmanaged", "move the server"),
    "systemd-networkd": ("leaves this host's interfaces unmanaged", "move the server"),
    "libvirtd": ("takes libvirt from every machine of this host", "move the server"),
    "k3s": ("takes this node out of its cluster", "move the server"),
    "k3s-agent": ("takes this node out of its cluster", "move the server"),
    "rke2-server": ("takes this node out of its cluster", "move the server"),
    "rke2-agent": ("takes this node out of its cluster", "move the server"),
    **dict.fromkeys(
        (
            "k0scontroller",
            "k0sworker",
            "snap.microk8s.daemon-kubelite",
            "snap.microk8s.daemon-k8s-dqlite",
            "snap.microk8s.daemon-containerd",
        ),
        ("takes this node out of its cluster", "move the server"),
    ),
    "dbus": ("ends what nearly every other service needs", "move the server"),
    "dbus-broker": ("ends what nearly every other service needs", "move the server"),
    "systemd-logind": ("ends the sessions of this host", "move the server"),
}
"""Services that nobody stops for the sake of a port: what it would cost, and what to do instead."""

_TUNNEL = "whoever comes through its tunnel loses his way in, you perhaps too"
_AGENT = "who manages this host through it loses his way in, you perhaps too"
_SESSIONS = "people work through it: their sessions end with it, yours perhaps too"
_LEASE = "this host loses its address when the lease ends, and with it whoever comes from outside"
_CLUSTER = "this node leaves its cluster, which may move or restart what runs here"
_WAYS_IN: Mapping[str, str] = {
    **dict.fromkeys(("openvpn", "openvpn-client", "openvpn-server", "wireguard-go", "wg-quick"), _TUNNEL),
    **dict.fromkeys(("tailscaled", "zerotier-one", "charon", "charon-systemd", "pluto", "netbird"), _TUNNEL),
    **dict.fromkeys(("nebula", "tincd", "cloudflared", "ocserv", "openconnect", "xl2tpd", "frpc"), _TUNNEL),
    **dict.fromkeys(("teleport", "autossh", "sshuttle", "stunnel", "stunnel4", "boringtun"), _TUNNEL),
    **dict.fromkeys(("sslh", "sslh-select", "sslh-fork", "sslh-ev", "ngrok", "chisel", "rathole"), _TUNNEL),
    **dict.fromkeys(("wstunnel", "gost", "frps", "tinysshd", "websockify", "wetty"), _TUNNEL),
    **dict.fromkeys(("amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker", "waagent"), _AGENT),
    **dict.fromkeys(("google_guest_agent", "qemu-ga", "salt-minion", "node-agent", "walinuxagent"), _AGENT),
    **dict.fromkeys(("cockpit-ws", "cockpit", "ttyd", "gotty", "shellinaboxd", "xrdp", "Xvnc"), _SESSIONS),
    **dict.fromkeys(("mosh-server", "etserver", "rustdesk", "teamviewerd", "anydesk", "tmate"), _SESSIONS),
    **dict.fromkeys(("x11vnc", "Xtigervnc", "code-server", "jupyter-lab", "jupyterhub", "guacd"), _SESSIONS),
    **dict.fromkeys(("dhclient", "dhcpcd", "udhcpc", "connmand"), _LEASE),
    **dict.fromkeys(("corosync", "pacemakerd", "keepalived", "patroni", "consul"), _CLUSTER),
}
"""Programs, and units, whose end takes more from an admin than a port."""

_KEEPERS: Mapping[str, tuple[str, ...]] = {
    "ssh": ("sshd",),
    "sshd": ("sshd",),
    "docker": ("dockerd",),
    "podman": ("podman",),
    "containerd": ("containerd",),
    "crio": ("crio",),
    "kubelet": ("kubelet",),
    "k3s": ("k3s", "k3s-server"),
    "k3s-agent": ("k3s", "k3s-agent"),
    "cron": ("cron",),
    "crond": ("crond",),
    "cronie": ("crond",),
    "atd": ("atd",),
    "anacron": ("anacron",),
    "libvirtd": ("libvirtd",),
    "NetworkManager": ("NetworkManager",),
    "NetworkManager-dispatcher": ("nm-dispatcher",),
    "gitlab-runner": ("gitlab-runner",),
    "buildkite-agent": ("buildkite-agent",),
    "nomad": ("nomad",),
    "circusd": ("circusd",),
    "lxd": ("lxd",),
    "snap.lxd.daemon": ("lxd", "daemon.start"),
    "incus": ("incusd",),
    "amazon-ssm-agent": ("amazon-ssm-agent", "ssm-agent-worker"),
    "salt-minion": ("salt-minion",),
}
"""Services that start programs of others, with their own: what is left of such a program when its parent ends
looks like the service's main process."""


def who_may_be_stopped(
    holders: Sequence[Holder],
    standings: Mapping[int, Reading[Standing]],
    asker: Asker = Asker(),  # noqa: B008 - a named tuple does not change
    *,
    inherited: bool = False,
    parents: Mapping[int, int] = MappingProxyType({}),
) -> Stop | None:
    """Say who has to be stopped so that a socket becomes free, and how.

    Args:
        holders: All processes that hold it, the topmost first (`kernel.owners`).
        standings: By pid; without one the process itself is all that can be named.
        asker: Who asks.
        inherited: They got it from a program that is gone: its unit has stopped, and does not end them.
        parents: Of the holders the process that began each, where it is known.

    Returns:
        None where nobody is known to hold the socket.
    """
    if not holders:
        return None
    case = _case(tuple(holders), standings, asker)._replace(parents=parents)
    for rule in (_in_container, _first_process) if inherited else _RULES:
        if stop := rule(case):
            return _with_known(stop, case)
    return _with_known(stop_process(case), case)


def _case(holders: tuple[Holder, ...], standings: Mapping[int, Reading[Standing]], asker: Asker) -> Case:
    """Take the systemd among them, if there is one: what it gave the socket to does not keep it."""
    known = [h for h in holders if isinstance(standings.get(h.pid), Standing)]
    systemd = [h for h in known if is_service_manager(h, standings[h.pid])]
    holder = next(iter(systemd), holders[0])
    standing = standings.get(holder.pid)
    if isinstance(standing, Standing):
        units = [_service_of(standings.get(other.pid)) for other in holders if other.pid != holder.pid]
        return Case(holder, standing, holders, asker, beside=tuple(dict.fromkeys(filter(None, units))))
    nothing = Standing(Kin(holder.pid, holder.name, 0, 0.0, uid=holder.uid), 0.0, Missing("not looked at"))
    return Case(holder, nothing, holders, asker, unseen=standing is not None)


def _service_of(standing: Reading[Standing] | None) -> str | None:
    """Return the service that a process runs in, whosever systemd it is of."""
    if not isinstance(standing, Standing) or isinstance(standing.place, Missing):
        return None
    unit = standing.place.unit
    return unit if unit is not None and unit.endswith(".service") else None


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
    place, pid, standing = case.place, case.holder.pid, case.standing
    stays = "to stop only its service is not enough: systemd keeps the socket and starts the service again"
    unit = shlex.quote(case.asker.socket_unit) if case.asker.socket_unit else "NAME.socket"
    if case.beside:
        stays = "both have to be stopped: systemd starts the service again, and a service keeps the socket"
        unit = " ".join((unit, *map(shlex.quote, case.beside)))
    container = f"kill {pid}: that ends the whole container."
    box = place.container if not standing.same_container else None
    if box is not None or (not standing.own_pids and standing.innermost_pid == 1):
        whose = name_container(box) if box else "a container"
        enter = f"nsenter -t {pid} -a " if box is None else ""
        stop, look = (
            enter + put_inside(place.containers if box else (), command, case.asker.uid)
            for command in (f"systemctl stop {unit}", "systemctl list-sockets")
        )
        role = f"is the systemd of {whose}, and this a socket unit there"
        avoid: tuple[str, ...] = (container,)
    elif pid == 1 and standing.own_pids:
        stop, look, role, avoid = f"systemctl stop {unit}", "systemctl list-sockets", _HOLDS_FOR_UNIT, ()
    else:
        return _user_socket(case, unit, stays)
    lookup = () if case.asker.socket_unit else (look,)
    return Stop(
        "socket-unit", case.holder, (stop,), lookup=lookup, role=role, note=stays, avoid=avoid, container=box
    )


_HOLDS_FOR_UNIT = "holds it for a socket unit"


def _user_socket(case: Case, unit: str, stays: str) -> Stop:
    owner = _owner_of_manager(case)
    manager = user_systemctl(owner, case.asker.uid)
    return Stop(
        "user-socket-unit",
        case.holder,
        (f"{manager} stop {unit}",),
        lookup=() if case.asker.socket_unit else (f"{manager} list-sockets",),
        role=f"is the service manager of uid {owner} and {_HOLDS_FOR_UNIT}",
        note=stays,
        avoid=(f"kill {case.holder.pid}: that ends the user's whole session manager, and all its services.",),
    )


def _owner_of_manager(case: Case) -> int:
    return case.kin.uid if case.place.user is None else case.place.user


def _in_container(case: Case) -> Stop | None:
    """The container is stopped, by whoever runs it: a builder, a cluster, a unit, or the runtime."""
    if not case.place.containers or case.standing.same_container:
        return None
    box = case.place.containers[-1]
    if box.runtime == "buildkit":
        return Stop(
            "process",
            case.holder,
            (f"kill {case.holder.pid}",),
            role=f"is part of {name_container(box)}",
            note="the build fails with it",
            container=box,
        )
    if box.pod is not None and program_of(case.kin) in _CONTROL_PLANE:
        return Stop(
            "not-to-be-stopped",
            case.holder,
            (),
            role=f"is part of this cluster's control plane, in {name_container(box)}",
            note="give the server another port",
            avoid=(f"kill {case.holder.pid}: the kubelet starts it again, and the cluster waits meanwhile.",),
        )
    unit = _unit_that_runs(case)
    return _container(case, box) if unit is None else _container_of_unit(case, box, unit)


def _container(case: Case, box: Container) -> Stop:
    stop, restart = stop_container(box, case.asker.uid, case.standing.ancestors)
    around = [told_apart(outer, case.standing.ancestors) for outer in case.place.containers[:-1]]
    return Stop(
        "container",
        case.holder,
        tuple(put_inside(around, command, case.asker.uid) for command in stop),
        lookup=tuple(
            put_inside(around, command, case.asker.uid) for command in look_up_container(box, case.asker.uid)
        ),
        role=f"{'runs' if box.runtime in VIRTUAL_MACHINES else 'runs in'} {name_container(box)}",
        note=tell_who_starts_again(box) or _alone_in_container(case),
        restart=put_inside(around, restart, case.asker.uid) if restart else None,
        container=box,
    )


def _container_of_unit(case: Case, box: Container, unit: str) -> Stop:
    """A unit makes the container anew when somebody else stops it."""
    stop, _ = stop_container(box, case.asker.uid, case.standing.ancestors)
    control = systemctl_of(case)
    return Stop(
        "user-service" if case.place.of_user_manager else "service",
        case.holder,
        (f"{control} stop {shlex.quote(unit)}",),
        role=f"runs in {name_container(box)}, which {unit} runs",
        avoid=tuple(f"{command}: {unit} may start it again." for command in stop),
        restart=f"{control} restart {shlex.quote(unit)}",
        container=box,
    )


def _unit_that_runs(case: Case) -> str | None:
    """Return the unit that Podman runs a container for (a quadlet): its processes lie in the unit's group."""
    place = case.place
    unit = place.unit
    if len(place.containers) != 1 or "/libpod-payload-" not in place.path or unit is None:
        return None
    stem = unit.removesuffix(".service").partition("@")[0]
    kept = place.unit_in_container or stem in _KEEPERS or not unit.endswith(".service")
    return None if kept else unit


def _alone_in_container(case: Case) -> str | None:
    """Say how to end a service inside the container and nothing else of it."""
    unit = case.place.unit if case.place.unit_in_container else None
    if unit is None or not unit.endswith(".service") or not is_main_program(case):
        return None
    boxes = [told_apart(box, case.standing.ancestors) for box in case.place.containers]
    command = f"systemctl stop {shlex.quote(unit)}"
    if boxes[-1].runtime == "nspawn":
        command = f"systemctl -M {shlex.quote(boxes[-1].id)} stop {shlex.quote(unit)}"
        return f"to end its {unit} alone: {command}"
    return f"to end its {unit} alone: {put_inside(boxes, command, case.asker.uid)}"


def _of_inner_manager(case: Case) -> Stop | None:
    """A service of a container's systemd: the host's systemctl knows another unit by its name, or none."""
    manager = case.inner_manager
    units = [part for part in case.place.path.split("/") if part.endswith(".service")]
    if manager is None or not units or (case.place.unit == units[-1] and not is_main_program(case)):
        return None
    unit = shlex.quote(units[-1])
    control = f"nsenter -t {manager.pid} -a systemctl"
    return Stop(
        "service",
        case.holder,
        (f"{control} stop {unit}",),
        role=f"runs in {unit} of a container, whose systemd is pid {manager.pid}",
        restart=f"{control} restart {unit}",
        avoid=(f"systemctl stop {unit}: that is the host's unit of this name, if there is one.",),
    )


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
    stem = unit.removesuffix(".service").partition("@")[0]
    if stem in _KEEPERS and not {program_of(case.kin), case.holder.name} & set(_KEEPERS[stem]):
        return None
    costly = _COSTLY.get(stem)
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


_RULES: tuple[Callable[[Case], Stop | None], ...] = (
    _systemd,
    stop_of_helper,
    _in_container,
    _of_inner_manager,
    _first_process,
    stop_of_supervised,
    _service,
)
"""The first that knows the holder decides; where none does it is a process."""


def _with_known(stop: Stop, case: Case) -> Stop:
    """Add what is told of every holder: since when it runs, with which command line, how many share it."""
    sharing = tuple(holder.pid for holder in case.holders if holder.pid != stop.holder.pid)
    ended = stop.ended
    if not ended and stop.way == "process" and stop.commands:
        ended = (case.holder.pid, *those_that_stay(case))
    return stop._replace(
        processes=len(case.holders),
        other_ports=tuple(port for port in case.standing.listens_on if port != case.asker.port)
        if stop.commands and stop.way not in ("socket-unit", "user-socket-unit")
        else (),
        halted=case.standing.halted,
        tracer=case.standing.tracer,
        since=case.standing.since or None,
        command_line=" ".join(case.kin.arguments) or None,
        container=stop.container or (None if case.standing.same_container else case.place.container),
        sharing=sharing,
        ended=ended,
        workers=tuple(
            one.pid for one in case.holders if one.pid not in ended and one.name == case.holder.name
        ),
        heirs=heirs_of(case, ended),
        begun=bool(sharing) and set(sharing) <= set(case.standing.below),
        warning=_what_is_lost(stop, case),
    )


_RELAYS = frozenset(("socat", "ncat", "nc", "netcat", "redir", "rinetd", "simpleproxy"))
"""Programs that lead a port to what their command line says."""
_TO_SSH = re.compile(r"(?:^|[: ])22(?:[, ]|$)")


def _what_is_lost(stop: Stop, case: Case) -> str | None:
    """What ends for whoever follows the advice: the session that asks, or the way by which it came."""
    if not stop.commands:
        return None
    if case.standing.ours and stop.way in ("process", "service", "user-service", "forward"):
        return "your own session runs below it, and ends with it"
    if names_of(case.kin) & _RELAYS and any(_TO_SSH.search(word) for word in case.kin.arguments[1:]):
        return _TUNNEL
    unit = (case.place.unit or "").partition(".service")[0].partition("@")[0]
    return next((_WAYS_IN[name] for name in sorted({*names_of(case.kin), unit}) if name in _WAYS_IN), None)


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
    if stop.warning:
        sentences.append(sentence(stop.warning))
    if stop.commands and (ends := what_ends(stop, connections)):
        sentences.append(f"That ends {ends}")
    if stop.other_ports:
        sentences.append(f"It listens on {_ports_told(stop.other_ports)} too")
    if more := who_else(stop):
        sentences.append(more)
    if stop.lookup:
        sentences.append(f"{_typed(stop.lookup)} names it" if stop.commands else f"See {_typed(stop.lookup)}")
    if stop.note:
        sentences.append(sentence(stop.note))
    if stop.halted:
        sentences.append(sentence(tell_halt(stop.halted, stop.holder.pid, stop.tracer)))
    return ". ".join(sentences) + "."


def _ports_told(ports: Sequence[int]) -> str:
    """``ports 80, 443 and 3 more``."""
    named = [str(port) for port in (ports if len(ports) <= _PORTS_NAMED + 1 else ports[:_PORTS_NAMED])]
    more = len(ports) - len(named)
    last = f"{more} more" if more else named.pop()
    return f"port {last}" if not named else f"ports {', '.join(named)} and {last}"


def _order(stop: Stop) -> str:
    who = name_stop_holder(stop)
    if not stop.commands:
        return f"{sentence(who)}{_told_of(stop)}"
    if stop.way == "process":
        return f"end {who} ({_typed(stop.commands)}){_told_of(stop)}"
    return f"{_typed(stop.commands)}: {who}{_told_of(stop)}"


def _typed(commands: Sequence[str]) -> str:
    """Return commands, one of which is to be typed, such that text keeps each whole."""
    return " or ".join(f"`{command}`" for command in commands)


def _told_of(stop: Stop) -> str:
    """Since when it runs, and as what: how to know it again before anything is ended."""
    parts = []
    if stop.since is not None:
        parts.append(f"since {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(stop.since))}")
    if stop.command_line and stop.command_line != stop.holder.name:
        parts.append(f"as {beginning_of(stop.command_line, _COMMAND_SHOWN)}")
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
    if stop.heirs and len(stop.heirs) <= _PIDS_NAMED:
        named = ", ".join(f"pid {one.pid} {one.name}" for one in stop.heirs)
        kill = f"kill {' '.join(str(one.pid) for one in stop.heirs)}"
        return sentence(
            f"{named} got the socket from it and would keep it: to free the port, `{kill}` as well"
        )
    if set(stop.sharing) <= set(stop.ended):
        return _share_and_end(stop, others)
    pids = f" (pid{'s' if len(stop.sharing) > 1 else ''} {', '.join(map(str, stop.sharing))})"
    named = pids if 0 < len(stop.sharing) <= _PIDS_NAMED else ""
    left = f": `kill {' '.join(map(str, stop.workers))}`" if 0 < len(stop.workers) <= _PIDS_NAMED else ""
    if stop.begun and others == 1:
        return f"Its child shares the socket{named} and as a rule ends with it, else has to end too{left}"
    if stop.begun:
        them = f"Its {others} children share the socket{named} and"
        return f"{them} as a rule end with it; what is left has to end too{left}"
    if others == 1:
        return f"One other process shares the socket{named} and has to end too"
    return f"{others} other processes share the socket{named} and have to end too"


def _share_and_end(stop: Stop, others: int) -> str:
    """Say who they are that the same command ends."""
    if stop.begun:
        whose = "Its child shares" if others == 1 else f"Its {others} children share"
        return f"{whose} the socket and may outlive it"
    if others == 1:
        return "Another process shares the socket; the command ends both"
    return f"{others} other processes share the socket; the command ends all of them"


def sentence(text: str) -> str:
    """Return words of ours as the beginning of a sentence; a command stands between backquotes there."""
    return text[:1].upper() + text[1:]

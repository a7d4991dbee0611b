"""What stands in bind()'s way, and how the process, unit or container that holds it is stopped, as told."""

from collections.abc import Sequence
from typing import Annotated, Literal

from tcpdoctor.answers.record import (
    Count,
    Is,
    Pid,
    Seconds,
    Time,
    TimeInHalves,
    told_number,
    utc,
)
from tcpdoctor.diagnosis.custody import Keeping, first_holder, is_waiting, keeping_of
from tcpdoctor.diagnosis.holders import sentence, tell_stop
from tcpdoctor.diagnosis.occupants import PortSocket
from tcpdoctor.diagnosis.port_verdict import (
    flag_value,
    why,
)
from tcpdoctor.diagnosis.stopping import Stop, Way, name_place, tell_halt
from tcpdoctor.kernel.cgroups import Container, Place
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Endpoint, Holder, Listener, UdpSocket
from tcpdoctor.kernel.standing import Halt
from tcpdoctor.kernel.states import StateKey
from tcpdoctor.named_tuples import NamedTuple


class ToldContainer(NamedTuple):
    """A container or virtual machine."""

    runtime: Annotated[
        str,
        Is(
            "docker, containerd, cri-o, podman, lxc, nspawn, libvirt, libvirt-lxc, libvirt-ch, libvirt-xen, "
            "proxmox, firecracker, kata, nomad, ecs, garden, mesos, yarn, slurm (a job), buildkit, "
            "kubernetes (which runtime is not told) or unknown."
        ),
    ]
    id: Annotated[str, Is("Its full id, or its name where it has none.")]
    pod: Annotated[str | None, Is("Uid of its Kubernetes pod, or id of its Podman pod.")]
    task: Annotated[str | None, Is("Task of Amazon ECS (id) or of Nomad (name), or step of Slurm's job.")]
    user: Annotated[int | None, Is("Uid of the ordinary user who runs it.", minimum=0)]


class ToldPlace(NamedTuple):
    """Where a process stands in the control groups."""

    unit: Annotated[str | None, Is("The innermost systemd unit.")]
    unit_of_user: Annotated[bool, Is("A unit of that user's systemd, not of the system's.")]
    unit_in_container: Annotated[bool, Is("A unit of the systemd inside the innermost container.")]
    slice: str | None
    user: Annotated[int | None, Is("Whose slice it is.", minimum=0)]
    containers: Annotated[tuple[ToldContainer, ...], Is("The outermost first.")]
    says: Annotated[str | None, Is("nginx.service; app.service of user 1000; Docker container 0123456789ab.")]


class ToldStop(NamedTuple):
    """How a holder may be stopped, and what is to be known before."""

    way: Annotated[Way, Is("What kind of thing the commands act on.")]
    pid: Annotated[Pid, Is("The topmost holder: of a server with workers the one that began them.")]
    says: Annotated[str, Is("All of it in sentences.")]
    commands: Annotated[
        tuple[str, ...],
        Is(
            "Whole commands, any of which does it; capitals are filled in with what lookup shows. Empty: it "
            "is not to be stopped, or nobody knows how."
        ),
    ]
    lookup: Annotated[tuple[str, ...], Is("Commands that name what is left open.")]
    restart: Annotated[str | None, Is("The command that starts it anew.")]
    avoid: Annotated[tuple[str, ...], Is("What must not be done for it, and why.")]
    processes: Annotated[Count, Is("That hold the socket: all of them have to end.")]
    other_processes: Annotated[Count, Is("Without the socket, that end with it, as far as is known.")]
    connections: Annotated[Count | None, Is("That end with it; null where they were not counted.")]
    halted: Annotated[
        Halt | None, Is("Stopped by a signal or a debugger, frozen, or in state D: it serves nobody.")
    ]
    halted_says: Annotated[str | None, Is("That in a sentence, with what lets it go on.")]
    since: Annotated[Time | None, Is("When the holder started.")]
    command: Annotated[str | None, Is("Command line of the holder.")]
    other_ports: Annotated[tuple[int, ...], Is("Further ports that the holder listens on.")]
    container: Annotated[ToldContainer | None, Is("That the holder runs in, or serves.")]
    container_port: Annotated[int | None, Is("Which of that container's ports is published.", minimum=0)]


def told_stop(stop: Stop, connections: int | None = None) -> ToldStop:
    """Return a decision as answers have it."""
    return ToldStop(
        way=stop.way,
        pid=stop.holder.pid,
        says=tell_stop(stop, connections),
        commands=stop.commands,
        lookup=stop.lookup,
        restart=stop.restart,
        avoid=stop.avoid,
        processes=stop.processes,
        other_processes=stop.others,
        connections=connections,
        halted=stop.halted,
        halted_says=f"{sentence(tell_halt(stop.halted, stop.holder.pid, stop.tracer))}."
        if stop.halted
        else None,
        since=None if stop.since is None else utc(stop.since),
        command=stop.command_line,
        other_ports=stop.other_ports,
        container=None if stop.container is None else told_container(stop.container),
        container_port=stop.container_port,
    )


def told_container(box: Container) -> ToldContainer:
    """Return a container as answers have it."""
    return ToldContainer(box.runtime, box.id, box.pod, box.task, box.user)


def told_place(place: Place) -> ToldPlace:
    """Return where a process stands as answers have it."""
    return ToldPlace(
        unit=place.unit,
        unit_of_user=place.of_user_manager,
        unit_in_container=place.unit_in_container,
        slice=place.slice,
        user=place.user,
        containers=tuple(map(told_container, place.containers)),
        says=name_place(place),
    )


class SocketHolder(NamedTuple):
    """A process that holds a socket, with its systemd unit and container."""

    pid: Pid
    name: str
    fd: Reading[Count]
    uid: Annotated[
        Reading[int], Is("Of the process; the socket's own uid is what bind() compares.", minimum=0)
    ]
    unit: str | None
    container: str | None
    command: str | None = None
    started_at: TimeInHalves | None = None
    place: Annotated[ToldPlace | None, Is("Where it stands; null where that was not read.")] = None


class OtherEnd(NamedTuple):
    """The other end of a connection, where it is a socket of this network namespace too."""

    local: str
    state: StateKey
    owner: SocketHolder | None
    owner_missing: str | None
    not_accepted: Annotated[bool, Is("It waits in the accept queue of a listener.")]


class Blocker(NamedTuple):
    """A socket that stops a bind() without options, or may."""

    state: StateKey
    local: Annotated[str, Is("With the interface that it is bound to: 0.0.0.0%eth0:80.")]
    remote: str | None
    owner: SocketHolder | None
    reuseaddr: bool | None
    reuseport: bool | None
    timer: Literal["timewait", None]
    expires_s: Seconds | None
    why: str
    cause: str
    owner_missing: str | None
    holders: tuple[SocketHolder, ...]
    socket_unit: bool | None
    inherited: bool
    peer: OtherEnd | None
    expires_at_most_s: Seconds | None
    not_accepted: Annotated[bool, Is("It waits in the accept queue of a listener.")]
    began_here: Annotated[bool | None, Is("true: connect() was called on it; false: it came from accept().")]
    uid: Annotated[
        int | None, Is("Of the socket, which bind() compares; null where it is hidden.", minimum=0)
    ]
    device: Annotated[str | None, Is("SO_BINDTODEVICE.")]
    stop: Annotated[ToldStop | None, Is("Who may be stopped to free it; null where no holder is known.")]
    remote_end: Annotated[Endpoint | None, Is("What `remote` says, its address and port apart.")]


def told_blockers(sockets: Sequence[PortSocket], evidence: PortEvidence) -> tuple[Blocker, ...]:
    """Return sockets as they are told, each with who keeps it and how it is freed."""
    keeping = keeping_of([one.row for one in sockets], evidence)
    return tuple(_blocker(one, kept, evidence) for one, kept in zip(sockets, keeping, strict=True))


def _blocker(one: PortSocket, kept: Keeping, evidence: PortEvidence) -> Blocker:
    row, (custody, peer, stop, ends) = one.row, kept
    device = evidence.interfaces.get(one.existing.device)
    remote = None if isinstance(row, Listener) or not row.remote.port else row.remote
    return Blocker(
        state=_state_key(one),
        local=row.local.on(device),
        remote=None if remote is None else str(remote),
        owner=told_holder(first_holder(row), evidence),
        reuseaddr=flag_value(one, "reuseaddr"),
        reuseport=flag_value(one, "reuseport"),
        timer="timewait" if one.existing.minisocket else None,
        expires_s=None if one.leaves is None else round(one.leaves.low, 3),
        why=why(one, evidence),
        cause=one.cause,
        owner_missing=custody.hidden,
        holders=tuple(known_holder(holder, evidence) for holder in custody.holders),
        socket_unit=None if custody.first_process else custody.socket_unit,
        inherited=custody.inherited,
        peer=None if peer is None else _peer(peer, evidence),
        expires_at_most_s=None if one.leaves is None else round(one.leaves.high, 3),
        not_accepted=is_waiting(row),
        began_here=one.began_here,
        uid=one.existing.uid if one.existing.uid_known else None,
        device=device,
        stop=None if stop is None else told_stop(stop, ends),
        remote_end=remote,
    )


def _state_key(one: PortSocket) -> StateKey:
    if isinstance(one.row, UdpSocket):
        return "established" if one.row.remote.port else "bound"
    return one.state.key


def _peer(peer: Connection, evidence: PortEvidence) -> OtherEnd:
    return OtherEnd(
        local=str(peer.local),
        state=peer.state.key,
        owner=told_holder(first_holder(peer), evidence),
        owner_missing=peer.owner.reason if isinstance(peer.owner, Missing) else None,
        not_accepted=is_waiting(peer),
    )


def told_holder(holder: Holder | None, evidence: PortEvidence) -> SocketHolder | None:
    """Return a holder as it is told; None where there is none."""
    return None if holder is None else known_holder(holder, evidence)


def known_holder(holder: Holder, evidence: PortEvidence) -> SocketHolder:
    """Return a holder as it is told, with its unit, container and command as far as they were read."""
    process = evidence.processes.get(holder.pid)
    if process is None:
        return SocketHolder(
            holder.pid, holder.name, told_number(holder.fd), told_number(holder.uid), None, None
        )
    began = process.started
    return SocketHolder(
        pid=holder.pid,
        name=holder.name,
        fd=told_number(holder.fd),
        uid=told_number(holder.uid),
        unit=None if isinstance(process.unit, Missing) else process.unit,
        container=None if isinstance(process.container, Missing) else process.container,
        command=None if isinstance(process.command, Missing) else process.command,
        started_at=None if isinstance(began, Missing) else utc(evidence.booted_at + began),
        place=_place_of(holder, evidence),
    )


def _place_of(holder: Holder, evidence: PortEvidence) -> ToldPlace | None:
    standing = evidence.standings.get(holder.pid)
    if standing is None or isinstance(standing, Missing) or isinstance(standing.place, Missing):
        return None
    return told_place(standing.place)

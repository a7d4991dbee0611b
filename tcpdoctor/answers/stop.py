"""Who may be stopped, and how, as every answer tells it that names a holder."""

from typing import Annotated

from tcpdoctor.answers.record import Count, Is, Pid, Time, utc
from tcpdoctor.diagnosis.holders import sentence, tell_stop
from tcpdoctor.diagnosis.stopping import Stop, Way, name_place, tell_halt
from tcpdoctor.kernel.cgroups import Container, Place
from tcpdoctor.kernel.standing import Halt
from tcpdoctor.named_tuples import NamedTuple


class ToldContainer(NamedTuple):
    """A container or virtual machine."""

    runtime: Annotated[
        str,
        Is(
            "docker, containerd, cri-o, podman, lxc, nspawn, libvirt, libvirt-lxc, proxmox, nomad, ecs, "
            "buildkit, kubernetes (which runtime is not told) or unknown."
        ),
    ]
    id: Annotated[str, Is("Its full id, or its name where it has none.")]
    pod: Annotated[str | None, Is("Uid of its Kubernetes pod, or id of its Podman pod.")]
    task: Annotated[str | None, Is("Task of Amazon ECS (id) or of Nomad (name).")]
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
    halted: Annotated[Halt | None, Is("Stopped by a signal, by a debugger, or frozen: it serves nobody.")]
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
        halted_says=f"{sentence(tell_halt(stop.halted, stop.holder.pid))}." if stop.halted else None,
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

r"""Control groups as runtimes and service managers name them, each told as somebody who knows them would.

Every row: the path, then what stands in it: ``runtime short-id`` with ``pod=``, ``task=`` and ``of=`` (the
user who runs it), ``unit``, ``slice``, ``user``; ``unit~`` is a unit of a user's systemd, ``unit@`` one of a
systemd inside the container, ``watches`` a helper that stands beside a container.
"""

import pytest

from tcpdoctor.kernel.cgroups import Place, parse_place, place_of

ID = "5974e0d8c1e74c1db4a3a5b43fa6f4765974e0d8c1e74c1db4a3a5b43fa6f476"
INNER = "ab" * 32
UID, UID_ = "2f4a3b1c-9d8e-4c11-b9a0-0123456789ab", "2f4a3b1c_9d8e_4c11_b9a0_0123456789ab"
STATIC = "0123456789abcdef0123456789abcdef"
TASK = "fedcba9876543210fedcba9876543210"
ALLOC = "0f1e2d3c-1111-2222-3333-444455556666"
HANDLE = "d3ff5e6f-6b2b-4f2e-7dc3-b96f"
YARN = "container_e17_1410901177871_0001_01_000005"
USER = "/user.slice/user-1000.slice/user@1000.service"
PODS = "kubepods-burstable.slice"

PATHS = {
    # Docker
    f"/docker/{ID}": "docker 5974e0d8c1e7",
    f"/docker/{ID}/init": "docker 5974e0d8c1e7",
    f"/system.slice/docker-{ID}.scope": f"docker 5974e0d8c1e7 unit=docker-{ID}.scope slice=system.slice",
    f"/system.slice/docker-{ID}.scope/system.slice/nginx.service": (
        "docker 5974e0d8c1e7 unit@nginx.service slice=system.slice"
    ),
    f"{USER}/user.slice/docker-{ID}.scope": (
        f"docker 5974e0d8c1e7 of=1000 unit~docker-{ID}.scope slice=user.slice user=1000"
    ),
    f"/moby/{ID}": "docker 5974e0d8c1e7",
    f"/actions_job/{ID}": "docker 5974e0d8c1e7",
    f"/azpl_job/{ID}": "docker 5974e0d8c1e7",
    f"/custom/{ID}": "unknown 5974e0d8c1e7",
    f"/../docker-{ID}.scope": f"docker 5974e0d8c1e7 unit=docker-{ID}.scope",
    f"/system.slice/docker-{ID}.scope/init.scope": "docker 5974e0d8c1e7 unit@init.scope",
    f"/docker/{ID}/docker/{INNER}": "docker 5974e0d8c1e7 docker abababababab",
    "/system.slice/docker.service": "unit=docker.service slice=system.slice",
    # containerd
    f"/default/{ID}": "containerd 5974e0d8c1e7",
    f"/system.slice/nerdctl-{ID}.scope": (
        f"containerd 5974e0d8c1e7 unit=nerdctl-{ID}.scope slice=system.slice"
    ),
    f"/k8s.io/{ID}": "containerd 5974e0d8c1e7",
    "/system.slice/containerd.service": "unit=containerd.service slice=system.slice",
    # Kubernetes: cgroupfs and systemd drivers, versions 1 and 2, three classes, pods from files
    f"/kubepods/burstable/pod{UID}/{ID}": f"kubernetes 5974e0d8c1e7 pod={UID}",
    f"/kubepods/besteffort/pod{UID}/{ID}": f"kubernetes 5974e0d8c1e7 pod={UID}",
    f"/kubepods/pod{UID}/{ID}": f"kubernetes 5974e0d8c1e7 pod={UID}",
    f"/kubepods/burstable/pod{STATIC}/{ID}": f"kubernetes 5974e0d8c1e7 pod={STATIC}",
    f"/kubepods/burstable/pod{UID}/crio-{ID}": f"cri-o 5974e0d8c1e7 pod={UID}",
    f"/kubepods/burstable/pod{UID}/crio-conmon-{ID}": f"watches=cri-o:5974e0d8c1e7:{UID}",
    f"/kubepods.slice/{PODS}/kubepods-burstable-pod{UID_}.slice/cri-containerd-{ID}.scope": (
        f"containerd 5974e0d8c1e7 pod={UID} unit=cri-containerd-{ID}.scope "
        f"slice=kubepods-burstable-pod{UID_}.slice"
    ),
    f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/crio-{ID}.scope": (
        f"cri-o 5974e0d8c1e7 pod={UID} unit=crio-{ID}.scope slice=kubepods-besteffort-pod{UID_}.slice"
    ),
    f"/kubepods.slice/kubepods-pod{UID_}.slice/docker-{ID}.scope": (
        f"docker 5974e0d8c1e7 pod={UID} unit=docker-{ID}.scope slice=kubepods-pod{UID_}.slice"
    ),
    f"/kubepods.slice/{PODS}/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{ID}.scope/x": (
        f"containerd 5974e0d8c1e7 pod={STATIC} unit=cri-containerd-{ID}.scope "
        f"slice=kubepods-burstable-pod{STATIC}.slice"
    ),
    f"/kubepods.slice/{PODS}/kubepods-burstable-pod{UID_}.slice/crio-conmon-{ID}.scope": (
        f"watches=cri-o:5974e0d8c1e7:{UID} unit=crio-conmon-{ID}.scope "
        f"slice=kubepods-burstable-pod{UID_}.slice"
    ),
    f"/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{ID}": (
        f"containerd 5974e0d8c1e7 pod={UID} unit=containerd.service slice=system.slice"
    ),
    f"/kubepods-besteffort-pod{UID_}.slice:cri-containerd:{ID}": f"containerd 5974e0d8c1e7 pod={UID}",
    f"/system.slice/crio.service/kubepods-pod{UID_}.slice:crio:{ID}": (
        f"cri-o 5974e0d8c1e7 pod={UID} unit=crio.service slice=system.slice"
    ),
    f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope": (
        f"containerd 5974e0d8c1e7 pod={UID} unit=cri-containerd-{ID}.scope "
        f"slice=kubelet-kubepods-pod{UID_}.slice"
    ),
    f"/docker/{ID}/kubelet/kubepods/burstable/pod{UID}/{INNER}": (
        f"docker 5974e0d8c1e7 kubernetes abababababab pod={UID}"
    ),
    f"/system.slice/docker-{ID}.scope/kubelet.slice/kubelet-kubepods.slice/"
    f"kubelet-kubepods-pod{UID_}.slice/cri-containerd-{INNER}.scope": (
        f"docker 5974e0d8c1e7 containerd abababababab pod={UID} unit=cri-containerd-{INNER}.scope "
        f"slice=kubelet-kubepods-pod{UID_}.slice"
    ),
    f"/docker/{ID}/system.slice/kubelet.service": (
        "docker 5974e0d8c1e7 unit@kubelet.service slice=system.slice"
    ),
    f"{USER}/app.slice/k3s-rootless.service/kubepods/besteffort/pod{UID}/{ID}": (
        f"kubernetes 5974e0d8c1e7 pod={UID} of=1000 unit~k3s-rootless.service slice=app.slice user=1000"
    ),
    f"/kubepods/burstable/pod{UID}/kata_{ID}": f"kata 5974e0d8c1e7 pod={UID}",
    f"/kata_overhead/{ID}": "kata 5974e0d8c1e7",
    "/system.slice/kubelet.service": "unit=kubelet.service slice=system.slice",
    # Podman
    f"/machine.slice/libpod-{ID}.scope": f"podman 5974e0d8c1e7 unit=libpod-{ID}.scope slice=machine.slice",
    f"/machine.slice/libpod-{ID}.scope/container": (
        f"podman 5974e0d8c1e7 unit=libpod-{ID}.scope slice=machine.slice"
    ),
    f"/machine.slice/libpod-conmon-{ID}.scope": (
        f"watches=podman:5974e0d8c1e7: unit=libpod-conmon-{ID}.scope slice=machine.slice"
    ),
    f"/machine.slice/machine-libpod_pod_{INNER}.slice/libpod-{ID}.scope": (
        f"podman 5974e0d8c1e7 pod={INNER} unit=libpod-{ID}.scope slice=machine-libpod_pod_{INNER}.slice"
    ),
    f"{USER}/user.slice/libpod-{ID}.scope/container": (
        f"podman 5974e0d8c1e7 of=1000 unit~libpod-{ID}.scope slice=user.slice user=1000"
    ),
    f"{USER}/user.slice/libpod-conmon-{ID}.scope": (
        f"watches=podman:5974e0d8c1e7: unit~libpod-conmon-{ID}.scope slice=user.slice user=1000"
    ),
    f"/libpod_parent/libpod-{ID}": "podman 5974e0d8c1e7",
    f"/libpod_parent/libpod-{ID}/ctr": "podman 5974e0d8c1e7",
    "/libpod_parent/conmon": "",
    f"/libpod_parent/{INNER}/libpod-{ID}": f"podman 5974e0d8c1e7 pod={INNER}",
    f"/libpod_parent/{INNER}/conmon": "",
    f"/system.slice/web.service/libpod-payload-{ID}": (
        "podman 5974e0d8c1e7 unit=web.service slice=system.slice"
    ),
    "/system.slice/web.service/supervisor": "unit=web.service slice=system.slice",
    f"{USER}/app.slice/web.service/libpod-payload-{ID}": (
        "podman 5974e0d8c1e7 of=1000 unit~web.service slice=app.slice user=1000"
    ),
    # systemd-nspawn, as a service and by hand
    "/machine.slice/systemd-nspawn@deb.service/payload/system.slice/cron.service": (
        "nspawn deb unit@cron.service slice=system.slice"
    ),
    r"/machine.slice/systemd-nspawn@my\x2dweb.service/payload": (
        r"nspawn my-web unit=systemd-nspawn@my\x2dweb.service slice=machine.slice"
    ),
    "/machine.slice/systemd-nspawn@deb.service/supervisor": (
        "watches=nspawn:deb: unit=systemd-nspawn@deb.service slice=machine.slice"
    ),
    "/machine.slice/machine-web.scope/payload": "nspawn web unit=machine-web.scope slice=machine.slice",
    r"/machine.slice/machine-my\x2dweb.scope": (
        r"nspawn my-web unit=machine-my\x2dweb.scope slice=machine.slice"
    ),
    r"/machine.slice/machine-my\x2dweb.scope/supervisor": (
        r"watches=nspawn:my-web: unit=machine-my\x2dweb.scope slice=machine.slice"
    ),
    "/machine.slice/systemd-nspawn@deb.service/payload/machine.slice/systemd-nspawn@in.service/payload/"
    "system.slice/x.service": "nspawn deb nspawn in unit@x.service slice=system.slice",
    # a systemd that a unit runs names units of its own, which are not ours
    "/system.slice/web.service/payload/system.slice/nginx.service": "unit=web.service slice=system.slice",
    "/system.slice/web.service/payload/init.scope": "unit=web.service slice=system.slice",
    "/user.slice/user-1000.slice/session-1.scope/payload/system.slice/nginx.service": (
        "unit=session-1.scope slice=user-1000.slice user=1000"
    ),
    f"{USER}/app.slice/box.service/user.slice/x.scope": "unit~box.service slice=app.slice user=1000",
    # LXC, LXD, Proxmox
    f"{USER}/lxc.payload.web/system.slice/nginx.service": (
        "lxc web of=1000 unit@nginx.service slice=system.slice"
    ),
    "/lxc.payload.outer/lxc.payload.inner/system.slice/ssh.service": (
        "lxc outer lxc inner unit@ssh.service slice=system.slice"
    ),
    f"/lxc/101/ns/docker/{ID}": "lxc 101 docker 5974e0d8c1e7",
    "/lxc.payload.web1": "lxc web1",
    "/lxc.payload.web1/system.slice/nginx.service": "lxc web1 unit@nginx.service slice=system.slice",
    "/lxc/web1": "lxc web1",
    "/lxc/101/ns/system.slice/ssh.service": "lxc 101 unit@ssh.service slice=system.slice",
    "/lxc.payload/web1": "lxc web1",
    "/lxc.monitor.web1": "watches=lxc:web1:",
    "/lxc.monitor/web1": "watches=lxc:web1:",
    # Proxmox' and Firecracker's virtual machines, and steps of builds
    f"/firecracker/{ALLOC}": f"firecracker {ALLOC}",
    "/qemu.slice/100.scope": "proxmox 100 unit=100.scope slice=qemu.slice",
    "/docker/buildkit/k5xa2ghz2mx5zl3sgj9ha4pz9": "buildkit k5xa2ghz2mx5zl3sgj9ha4pz9",
    "/system.slice/docker.service/docker/buildkit/k5xa2ghz2mx5zl3sgj9ha4pz9": (
        "buildkit k5xa2ghz2mx5zl3sgj9ha4pz9 unit=docker.service slice=system.slice"
    ),
    "/buildkit/cache": "",
    # libvirt
    r"/machine.slice/machine-qemu\x2d1\x2dname.scope": (
        r"libvirt name unit=machine-qemu\x2d1\x2dname.scope slice=machine.slice"
    ),
    r"/machine.slice/machine-qemu\x2d12\x2dmy\x2dvm.scope/libvirt/emulator": (
        r"libvirt my-vm unit=machine-qemu\x2d12\x2dmy\x2dvm.scope slice=machine.slice"
    ),
    r"/machine.slice/machine-lxc\x2d4\x2dbox.scope": (
        r"libvirt-lxc box unit=machine-lxc\x2d4\x2dbox.scope slice=machine.slice"
    ),
    r"/machine.slice/machine-ch\x2d2\x2dvm.scope": (
        r"libvirt-ch vm unit=machine-ch\x2d2\x2dvm.scope slice=machine.slice"
    ),
    "/machine/qemu-1-name.libvirt-qemu/emulator": "libvirt name",
    "/machine/my-vm.libvirt-qemu": "libvirt my-vm",
    # Nomad
    f"/nomad.slice/share.slice/{ALLOC}.web.scope": (
        f"nomad {ALLOC} task=web unit={ALLOC}.web.scope slice=share.slice"
    ),
    f"/nomad.slice/{ALLOC}.my-task.scope": (
        f"nomad {ALLOC} task=my-task unit={ALLOC}.my-task.scope slice=nomad.slice"
    ),
    f"/nomad/{ALLOC}-web": f"nomad {ALLOC} task=web",
    f"/nomad/shared/{ALLOC}.web": f"nomad {ALLOC} task=web",
    f"/nomad.slice/share.slice/docker-{ID}.scope": (
        f"docker 5974e0d8c1e7 unit=docker-{ID}.scope slice=share.slice"
    ),
    # Cloud Foundry, Mesos, YARN, Slurm
    f"/garden/{HANDLE}": f"garden {HANDLE}",
    f"/system.slice/garden.service/garden/good/{HANDLE}": (
        f"garden {HANDLE} unit=garden.service slice=system.slice"
    ),
    f"/garden/garden-{ALLOC}/{HANDLE}": f"garden {HANDLE}",
    f"/mesos/{ALLOC}": f"mesos {ALLOC}",
    f"/mesos/{ALLOC}/mesos/{UID}": f"mesos {ALLOC} mesos {UID}",
    f"/hadoop-yarn/{YARN}": f"yarn {YARN}",
    "/slurm/uid_1000/job_123/step_0/task_0": "slurm 123 task=0",
    "/slurm_node1/uid_1000/job_123/step_batch/task_0": "slurm 123 task=batch",
    "/slurm/uid_1000/job_123": "slurm 123",
    "/system.slice/node1_slurmstepd.scope/job_123/step_extern/user/task_special": (
        "slurm 123 task=extern unit=node1_slurmstepd.scope slice=system.slice"
    ),
    "/system.slice/slurmd.service": "unit=slurmd.service slice=system.slice",
    # Amazon ECS and Fargate
    f"/ecs/{TASK}/{ID}": f"ecs 5974e0d8c1e7 task={TASK}",
    f"/ecs/my-cluster/{TASK}/{ID}": f"ecs 5974e0d8c1e7 task={TASK}",
    f"/ecs/{ALLOC}/{ID}": f"ecs 5974e0d8c1e7 task={ALLOC}",
    f"/ecs/{TASK}/{TASK}-1234567890": f"ecs {TASK}-1234567890 task={TASK}",
    f"/ecstasks.slice/ecstasks-{TASK}.slice/docker-{ID}.scope": (
        f"docker 5974e0d8c1e7 task={TASK} unit=docker-{ID}.scope slice=ecstasks-{TASK}.slice"
    ),
    # no container
    "/user.slice/user-1000.slice/session-3.scope": "unit=session-3.scope slice=user-1000.slice user=1000",
    f"{USER}/app.slice/syncthing.service": "unit~syncthing.service slice=app.slice user=1000",
    f"{USER}/init.scope": "unit~init.scope slice=user-1000.slice user=1000",
    r"/system.slice/system-postgresql.slice/postgresql@15\x2dmain.service": (
        r"unit=postgresql@15\x2dmain.service slice=system-postgresql.slice"
    ),
    "/system.slice/_cgroup.service": "unit=cgroup.service slice=system.slice",
    "/init.scope": "unit=init.scope",
    "/": "",
    "/process_api/5974e0d8c1e74c1db4a3a5b43fa6f476": "",
    "/system.slice/pod-viewer.service": "unit=pod-viewer.service slice=system.slice",
}


def told(place: Place) -> str:
    parts = []
    for box in place.containers:
        parts.append(f"{box.runtime} {box.short}")
        parts += [f"{name}={value}" for name, value in (("pod", box.pod), ("task", box.task)) if value]
        parts += [f"of={box.user}"] if box.user is not None else []
    if place.watches:
        box = place.watches
        parts.append(f"watches={box.runtime}:{box.short}:{box.pod or ''}")
    if place.unit:
        sign = "@" if place.unit_in_container else "~" if place.of_user_manager else "="
        parts.append(f"unit{sign}{place.unit}")
    parts += [f"slice={place.slice}"] if place.slice else []
    parts += [f"user={place.user}"] if place.user is not None else []
    return " ".join(parts)


@pytest.mark.parametrize(("path", "names"), PATHS.items())
def test_a_control_group_is_named_as_who_knows_it_would(path, names):
    assert told(place_of(path)) == names
    below = told(place_of(f"/somewhere{path}"))
    assert below == names, "the same below a folder, as a container that shows the host's tree has it"


@pytest.mark.parametrize(("path", "names"), PATHS.items())
def test_version_1_and_a_hybrid_tree_say_the_same(path, names):
    old = f"9:pids:{path}\n4:memory:{path}\n1:name=systemd:{path}\n"
    assert told(parse_place(old)) == names
    assert told(parse_place(f"{old}0::/\n")) == names


def test_a_service_of_openrc_is_told_by_the_hierarchy_that_it_has_for_itself():
    assert parse_place("5:cpu:/\n2:name=openrc:/nginx\n0::/\n").path == "/openrc.nginx"
    assert parse_place("0::/openrc.nginx\n").path == "/openrc.nginx"
    assert parse_place("2:name=openrc:/\n").path == "/"


def test_unit_and_container_may_stand_in_different_hierarchies():
    text = f"4:memory:/docker/{ID}\n1:name=systemd:/system.slice/docker.service\n0::/\n"
    assert told(parse_place(text)) == "docker 5974e0d8c1e7 unit=docker.service slice=system.slice"

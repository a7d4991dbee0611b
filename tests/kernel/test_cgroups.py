"""Units and containers from /proc/PID/cgroup as systems really write it."""

import pytest

from tcpdoctor.kernel.cgroups import find_cgroup_paths, parse_cgroup, place_of

ID = "5974e0d8c1e74c1db4a3a5b43fa6f4765974e0d8c1e74c1db4a3a5b43fa6f476"
POD = "pod2f4a3b1c_9d8e_4c11_b9a0_0123456789ab"

UNIFIED = {
    "0::/system.slice/nginx.service\n": ("nginx.service", None),
    "0::/init.scope\n": ("init.scope", None),
    "0::/user.slice/user-0.slice/session-3.scope\n": ("session-3.scope", None),
    "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/"
    "vte-spawn-1.scope\n": ("vte-spawn-1.scope", None),
    "0::/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service\n": (
        "syncthing.service",
        None,
    ),
    "0::/system.slice/system-getty.slice/getty@tty1.service\n": ("getty@tty1.service", None),
    r"0::/system.slice/system-postgresql.slice/postgresql@15\x2dmain.service": (
        r"postgresql@15\x2dmain.service",
        None,
    ),
    "0::/system.slice/ssh.service/worker-1\n": ("ssh.service", None),
    "0::/system.slice/_cgroup.service\n": ("cgroup.service", None),
    "0::/system.slice/gone.service (deleted)\n": ("gone.service", None),
    "0::/system.slice/cups.socket\n": ("cups.socket", None),
    f"0::/system.slice/docker-{ID}.scope\n": (f"docker-{ID}.scope", ID),
    f"0::/docker/{ID}\n": (None, ID),
    f"0::/system.slice/docker-{ID}.scope/init\n": (f"docker-{ID}.scope", ID),
    f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{POD}.slice/"
    f"cri-containerd-{ID}.scope\n": (
        f"cri-containerd-{ID}.scope",
        ID,
    ),
    f"0::/kubepods.slice/kubepods-besteffort.slice/crio-{ID}.scope/container\n": (f"crio-{ID}.scope", ID),
    f"0::/kubepods/burstable/{POD}/{ID}\n": (None, ID),
    f"0::/system.slice/containerd.service/kubepods-besteffort-{POD}.slice:cri-containerd:{ID}\n": (
        "containerd.service",
        ID,
    ),
    f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container\n": (
        f"libpod-{ID}.scope",
        ID,
    ),
    f"0::/machine.slice/libpod-conmon-{ID}.scope\n": (f"libpod-conmon-{ID}.scope", None),
    "0::/lxc.payload.web1/system.slice/nginx.service\n": ("nginx.service", "web1"),
    "0::/lxc.monitor.web1\n": (None, None),
    "0::/lxc/web1/system.slice/nginx.service\n": ("nginx.service", "web1"),
    "0::/machine.slice/systemd-nspawn@deb.service/payload/system.slice/cron.service\n": (
        "cron.service",
        "deb",
    ),
    "0::/\n": (None, None),
    "0::/system.slice\n": (None, None),
    "": (None, None),
}


@pytest.mark.parametrize(("text", "membership"), UNIFIED.items())
def test_the_unified_hierarchy(text, membership):
    assert parse_cgroup(text) == membership


def test_the_old_hierarchies_with_systemd():
    text = (
        "12:pids:/system.slice/nginx.service\n"
        "4:memory:/system.slice/nginx.service\n"
        "1:name=systemd:/system.slice/nginx.service\n"
    )
    assert parse_cgroup(text) == ("nginx.service", None)


def test_a_hybrid_system_names_the_unit_where_systemd_keeps_it():
    text = "9:name=systemd:/system.slice/cron.service\n4:memory:/other.service\n1:cpu:/\n0::/\n"
    assert parse_cgroup(text) == ("cron.service", None)


def test_a_container_of_the_old_hierarchies_without_systemd():
    text = f"8:pids:/docker/{ID}\n4:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n"
    assert parse_cgroup(text) == (None, ID)


def test_a_hex_text_of_another_length_is_no_container():
    assert place_of("/process_api/5974e0d8c1e74c1db4a3a5b43fa6f476").container is None
    assert place_of(f"/docker/{ID}0").container is None


def test_hostile_names_are_cleaned():
    assert place_of("/system.slice/\x1b[2Jevil\u202e.service").unit == "[2Jevil.service"
    assert place_of("/lxc.payload.\x1b[2Jx").containers[0].id == "[2Jx"


def test_ids_of_groups_lead_to_their_paths(tmp_path):
    nested = tmp_path / "system.slice" / "nginx.service"
    nested.mkdir(parents=True)
    wanted = {nested.stat().st_ino: "/system.slice/nginx.service", tmp_path.stat().st_ino: "/"}
    assert find_cgroup_paths([*wanted, 999_999_999_999], str(tmp_path)) == wanted


def test_without_ids_nothing_is_read():
    assert find_cgroup_paths([], "/nonexistent") == {}

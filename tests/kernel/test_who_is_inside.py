"""A namespace without a name is called after the containers that share it, else after the unit inside."""

import os

import pytest

from tcpdoctor.kernel.namespace_entry import NamespacePlace, who_is_inside

ONE, TWO = "3f" * 32, "91" * 32
POD = "0d3c1b5e-7a44-4f7b-9d0e-111111111111"


def recorded(folder, groups):
    """A /proc in which every process is in one namespace: the same file under several names."""
    first = None
    for pid, group in groups.items():
        (folder / str(pid) / "ns").mkdir(parents=True)
        net = folder / str(pid) / "ns" / "net"
        if first is None:
            net.write_text("")
            first = net
        else:
            os.link(first, net)
        (folder / str(pid) / "cgroup").write_text(f"0::{group}\n")
    assert first is not None
    return NamespacePlace(first.stat().st_ino, str(first), None, min(groups), tuple(sorted(groups)))


def test_all_containers_that_share_it_are_named(tmp_path):
    place = recorded(
        tmp_path,
        {
            100: f"/system.slice/docker-{TWO}.scope",
            200: f"/system.slice/docker-{ONE}.scope",
            201: f"/system.slice/docker-{ONE}.scope",
        },
    )
    found = who_is_inside(place, str(tmp_path))
    assert found.called() == ONE[:12]
    assert found.words() == f"docker {ONE[:12]}, docker {TWO[:12]}"


def test_a_pod_gives_its_name_to_the_namespace_of_its_containers(tmp_path):
    slices = f"/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice"
    place = recorded(
        tmp_path,
        {100: f"{slices}/cri-containerd-{ONE}.scope", 200: f"{slices}/cri-containerd-{TWO}.scope"},
    )
    found = who_is_inside(place, str(tmp_path))
    assert found.called() == f"pod-{POD}"
    assert f"pod {POD}" in found.words()


def test_without_a_container_the_unit_of_the_lowest_process_names_it(tmp_path):
    place = recorded(tmp_path, {100: "/system.slice/private.service"})
    found = who_is_inside(place, str(tmp_path))
    assert found.called() == found.words() == "private.service"


def test_a_name_of_ip_netns_goes_first(tmp_path):
    place = recorded(tmp_path, {100: f"/system.slice/docker-{ONE}.scope"})._replace(name="blue")
    assert who_is_inside(place, str(tmp_path)).called() == "blue"


@pytest.mark.parametrize("maker", ["cni", "netns"])
def test_a_name_that_an_engine_made_up_gives_way_to_the_container(tmp_path, maker):
    place = recorded(tmp_path, {100: f"/system.slice/docker-{ONE}.scope"})
    made_up = who_is_inside(place, str(tmp_path))._replace(name=f"{maker}-{POD}")
    assert (made_up.called(), made_up.is_named()) == (ONE[:12], False)
    assert made_up._replace(inside=()).called() == f"{maker}-{POD}"


def test_a_pod_of_podman_without_systemd_is_no_container(tmp_path):
    pod = f"/libpod_parent/{TWO}"
    place = recorded(tmp_path, {100: f"{pod}/libpod-{ONE}", 200: f"{pod}/libpod-{ONE}"})
    found = who_is_inside(place, str(tmp_path))
    assert found.called() == f"pod-{TWO[:12]}"
    assert found.words() == f"podman {ONE[:12]}, pod {TWO[:12]}"


def test_where_neither_container_nor_unit_is_known_a_process_is(tmp_path):
    place = recorded(tmp_path, {100: "/", 101: "/"})
    (tmp_path / "100" / "comm").write_bytes(b"evil\x1b[31m\n")
    found = who_is_inside(place, str(tmp_path))
    assert (found.called(), found.words(), found.process) == (None, "", "evil[31m")


def test_where_nothing_is_known_there_is_no_name(tmp_path):
    place = recorded(tmp_path, {100: "/"})
    found = who_is_inside(place, str(tmp_path))
    assert (found.called(), found.words(), found.process) == (None, "", None)

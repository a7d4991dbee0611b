"""Which network namespace this is."""

import os

import pytest

from tcpdoctor.kernel.namespaces import is_initial_namespace, name_of_namespace, network_namespace
from tcpdoctor.kernel.reading import Missing


def test_the_namespace_is_known_by_its_inode():
    assert f"net:[{network_namespace()}]" == os.readlink("/proc/thread-self/ns/net")


def test_without_names_there_is_none(tmp_path):
    assert name_of_namespace(str(tmp_path)) is None
    assert name_of_namespace(str(tmp_path / "absent")) is None


def test_the_name_is_the_one_that_leads_to_our_namespace(tmp_path):
    (tmp_path / "another").write_text("")
    (tmp_path / "gone").symlink_to(tmp_path / "absent")
    (tmp_path / "mine").symlink_to("/proc/self/ns/net")
    assert name_of_namespace(str(tmp_path)) == "mine"


@pytest.mark.parametrize("initial", [True, False])
def test_settings_of_the_machine_tell_the_initial_namespace(tmp_path, initial):
    for folder in ("ipv4", "core"):
        (tmp_path / folder).mkdir()
    (tmp_path / "ipv4/tcp_fin_timeout").write_text("60\n")
    if initial:
        (tmp_path / "ipv4/tcp_mem").write_text("1\t2\t3\n")
        (tmp_path / "core/netdev_max_backlog").write_text("1000\n")
    assert is_initial_namespace(str(tmp_path)) is initial


def test_where_no_setting_is_visible_it_is_not_guessed_from_their_absence(tmp_path):
    answer = is_initial_namespace(str(tmp_path))
    if isinstance(answer, Missing):
        assert "initial network namespace" in answer.reason
    else:
        assert answer is os.path.samestat(os.stat("/proc/1/ns/net"), os.stat("/proc/self/ns/net"))

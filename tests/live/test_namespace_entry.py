"""Other network namespaces are found and entered: by name, by process, by path."""

import os
import subprocess
import sys
import uuid

import pytest

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.namespace_entry import enter_namespace, find_namespaces, path_of
from tcpdoctor.kernel.namespaces import network_namespace
from tcpdoctor.lab.namespace import in_private_namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may name and enter namespaces")


@pytest.fixture
def named():
    """A name of `ip netns`, and the inode of its namespace."""
    name = f"tcpdoctor-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=120)
    yield name, os.stat(f"/run/netns/{name}").st_ino
    subprocess.run(["ip", "netns", "delete", name], check=True, timeout=120)


@pytest.fixture
def inhabited():
    """A process that sleeps in a namespace of its own."""
    command = "print(flush=True); import time; time.sleep(60)"
    process = subprocess.Popen(["unshare", "-n", sys.executable, "-c", command], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.kill()
    process.communicate()


def after_entering(path: str) -> int:
    enter_namespace(path)
    return network_namespace()


def test_a_named_namespace_is_found_and_entered(named):
    name, inode = named
    (place,) = [place for place in find_namespaces().places if place.inode == inode]
    assert (place.name, place.pid, place.path) == (name, None, f"/run/netns/{name}")
    assert in_private_namespace(after_entering, path_of(name)) == inode


def test_the_namespace_of_a_process_is_found_and_entered(inhabited):
    inode = os.stat(f"/proc/{inhabited}/ns/net").st_ino
    (place,) = [place for place in find_namespaces().places if place.inode == inode]
    assert (place.name, place.pid) == (None, inhabited)
    assert in_private_namespace(after_entering, path_of(str(inhabited))) == inode


def test_our_own_comes_first():
    assert find_namespaces().places[0].inode == network_namespace()


def test_a_name_that_a_reboot_left_behind_is_no_namespace(tmp_path):
    (tmp_path / "old").write_text("")
    (tmp_path / "alive").symlink_to("/proc/self/ns/net")
    found = find_namespaces(str(tmp_path))
    assert [place.name for place in found.places if place.name] == ["alive"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("nowhere", "knows no such name"),
        ("999999999", "there is no process"),
        ("..", "knows no such name"),
        ("/etc/hostname", "this is no network namespace"),
        ("/proc/self/ns/pid", "this is no network namespace"),
        ("/nowhere", "no such file or directory"),
    ],
)
def test_what_is_no_namespace_is_refused_in_one_line(wanted, expected):
    with pytest.raises(QuestionError, match=expected) as refused:
        enter_namespace(path_of(wanted))
    assert "\n" not in str(refused.value)

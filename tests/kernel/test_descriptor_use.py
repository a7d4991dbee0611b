"""Processes near their limit of descriptors, found from the outside."""

import os
import resource
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tcpdoctor.kernel import descriptor_use
from tcpdoctor.kernel.descriptor_use import find_heavy_users, with_sockets_near_its_limit
from tcpdoctor.kernel.processes import read_process
from tcpdoctor.kernel.reading import Missing

HOLDER = """
import resource, socket, sys
descriptors, sockets, limit = map(int, sys.argv[1:])
held = [socket.socket() if number < sockets else open("/dev/null") for number in range(descriptors)]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(descriptors, sockets, limit):
    command = [sys.executable, "-c", HOLDER, str(descriptors), str(sockets), str(limit)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


@pytest.mark.parametrize(("descriptors", "sockets", "limit"), [(97, 71, 128), (47, 31, 64)])
def test_a_process_that_uses_most_of_its_descriptors_is_found_with_its_sockets(descriptors, sockets, limit):
    with holder(descriptors, sockets, limit) as pid:
        found = find_heavy_users(5.0)
        assert found.complete is True or os.geteuid() != 0
        process = found.processes[pid]
        assert process.sockets == sockets
        assert process.descriptor_limit == limit
        assert process.descriptors == len(os.listdir(f"/proc/{pid}/fd")) == descriptors + 3


def test_of_a_process_that_is_known_the_sockets_are_counted_however_small_its_limit_is():
    with holder(23, 17, 31) as pid:
        assert with_sockets_near_its_limit(read_process(pid)).sockets == 17
    with holder(3, 3, 31) as pid:
        assert isinstance(with_sockets_near_its_limit(read_process(pid)).sockets, Missing)


@pytest.mark.parametrize(("descriptors", "limit"), [(97, 300), (23, 31)])
def test_one_with_room_or_with_few_descriptors_is_passed_over(descriptors, limit):
    with holder(descriptors, 3, limit) as pid:
        assert pid not in find_heavy_users(5.0).processes


def test_where_the_kernel_does_not_count_them_they_are_listed(monkeypatch):
    """Before Linux 6.2 the folder's size is 0."""
    monkeypatch.setattr(descriptor_use, "size_counts_descriptors", lambda: False)
    with holder(97, 71, 128) as pid:
        assert find_heavy_users(5.0).processes[pid].sockets == 71


def test_of_very_many_descriptors_some_are_looked_at_and_the_number_is_near():
    with holder(12_007, 9_001, 16_000) as pid:
        process = find_heavy_users(5.0).processes[pid]
        assert process.sockets_within == round(0.10 * 12_010)
        assert abs(process.sockets - 9_001) <= process.sockets_within


def test_when_time_runs_out_it_says_so():
    found = find_heavy_users(-1.0)
    assert isinstance(found.complete, Missing)
    assert "ran out after 0 of" in found.complete.reason


def test_our_own_limit_is_untouched():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket():
        find_heavy_users(5.0)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before

"""Capabilities of this thread, and which namespaces they reach."""

import os
import subprocess
import sys

import pytest

from tcpdoctor.kernel.namespaces import (
    CAP_SYS_PTRACE,
    effective_capabilities,
    in_first_user_namespace,
    sees_all_processes_of_machine,
)

CAP_DAC_OVERRIDE = 1
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give something up")
ASK = (
    "from tcpdoctor.kernel.namespaces import *; "
    "print(sorted(effective_capabilities() & {1, 2, 19}), in_first_user_namespace(), "
    "sees_all_processes_of_machine())"
)


def ask(*command):
    run = subprocess.run(
        [*command, sys.executable, "-c", ASK], capture_output=True, text=True, check=False, timeout=120
    )
    if run.stderr.startswith(f"{command[0]}: "):
        pytest.skip(run.stderr.strip())  # the command itself is refused what it does
    if "error while loading shared libraries" in run.stderr:  # of a Python in somebody's home, say
        pytest.skip(f"other users may not load the libraries of {sys.base_prefix}")
    assert run.returncode == 0, run.stderr
    return run.stdout.split("]")


@as_root
def test_root_has_capabilities_and_an_ordinary_user_has_none():
    assert CAP_DAC_OVERRIDE in effective_capabilities()
    held, _ = ask("setpriv", "--reuid", "1234", "--clear-groups")
    assert held == "["


@as_root
def test_root_may_have_lost_one():
    assert CAP_SYS_PTRACE in effective_capabilities()
    held, _ = ask("setpriv", "--bounding-set", "-sys_ptrace")
    assert held == "[1, 2"


def test_capabilities_inside_a_user_namespace_do_not_reach_the_machine():
    held, where = ask("unshare", "--user", "--map-root-user")
    assert held == "[1, 2, 19"
    assert where.split()[0] == "False"


@as_root
def test_a_pid_namespace_does_not_show_the_machine(mount_namespace):
    _, where = ask("unshare", "--pid", "--fork", "--mount-proc")
    assert where.split()[1] == "False"


def test_the_first_namespaces_are_known_by_their_numbers():
    assert in_first_user_namespace() == (os.readlink("/proc/self/ns/user") == "user:[4026531837]")
    if os.readlink("/proc/self/ns/pid") == "pid:[4026531836]":
        assert sees_all_processes_of_machine()

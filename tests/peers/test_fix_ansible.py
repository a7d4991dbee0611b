"""The tasks of `fix --as ansible`, run by Ansible: values now, lines for the next boot; once more: idle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tcpdoctor.kernel.fix_journal import held_text
from tcpdoctor.lab.namespace import write_sysctl
from tests.cli.command import tcpdoctor
from tests.peers.test_ansible import ANSIBLE, PREPARE
from tests.sysctl_tree import cover

pytestmark = [
    pytest.mark.skipif(
        not (ANSIBLE / "ansible-playbook").exists(), reason=f"no Ansible here; run: {PREPARE}"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="a folder of /etc is covered: run as root"),
]

SICK = {
    "net.ipv4.tcp_sack": "0",
    "net.ipv4.ip_local_port_range": "50000 50500",
    "net.ipv4.tcp_rmem": "4096 67108864 131072",
}
CURED = {
    "net.ipv4.tcp_sack": "1",
    "net.ipv4.ip_local_port_range": "32768 60999",
    "net.ipv4.tcp_rmem": "4096 131072 67108864",
}
HERE = {"ansible_become": False, "ansible_python_interpreter": sys.executable}
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - include_tasks: tasks.yml
"""


def play(folder: Path) -> str:
    done = subprocess.run(
        [ANSIBLE / "ansible-playbook", "-i", "localhost,", "-e", json.dumps(HERE), folder / "play.yml"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HOME": str(folder), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"},
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def by_ansible(folder):
    cover("/etc/sysctl.d", {})
    for name, value in SICK.items():
        write_sysctl(name, value)
    (folder / "tasks.yml").write_text(
        tcpdoctor("fix", "--window", "0", "--as", "ansible").stdout, encoding="utf-8"
    )
    (folder / "play.yml").write_text(PLAY, encoding="ascii")
    first = play(folder)
    after = {key: held_text(key) for key in SICK}
    lines = Path("/etc/sysctl.d/60-tcpdoctor.conf").read_text(encoding="ascii").splitlines()
    return first, after, lines, play(folder)


def test_the_tasks_set_what_the_plan_says(in_namespace, tmp_path, mount_namespace):
    first, after, lines, again = in_namespace(by_ansible, tmp_path)
    assert after == CURED
    assert {
        line.partition("=")[0].strip(): line.partition("=")[2].strip() for line in lines if "=" in line
    } == CURED
    assert "changed=0" not in first
    assert "changed=0" in again

"""What of a plan lasts is what systemd-sysctl and procps, started anew, really leave of it."""

import os
import subprocess
from pathlib import Path

import pytest

from tcpdoctor.kernel.fix_journal import held_text
from tcpdoctor.lab.namespace import write_sysctl
from tests.cli.command import tcpdoctor
from tests.sysctl_tree import cover

SYSTEMD = "/usr/lib/systemd/systemd-sysctl"
READERS = ((SYSTEMD,), ("sysctl", "--system"))

pytestmark = [
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason=f"no {SYSTEMD} here; run: .ci/install-peers"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a folder of /etc is covered: run as root"),
]

FIN, SACK, TIMES = "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_sack", "net.ipv4.tcp_timestamps"
SICK = {FIN: "5", SACK: "0", TIMES: "0"}
CURED = {FIN: "60", SACK: "1", TIMES: "1"}
OURS = "60-tcpdoctor.conf"
SCENES = [
    ({}, set()),
    ({"10-a.conf": "net.ipv4.tcp_fin_timeout = 7\n-net.ipv4.tcp_sack\n"}, set()),
    ({"70-a.conf": "net.ipv4.tcp_fin_timeout = 7\n"}, {FIN}),
    ({"70-a.conf": "net/ipv4/tcp_fin_timeout=60\n-net/ipv4//tcp_sack = 0\n"}, {SACK}),
    ({"70-a.conf": "net.ipv4.tcp_*s* = 0\n"}, set()),
    ({"70-a.conf": "net.ipv4.tcp_s* = 0\n-net.ipv4.tcp_sack\n"}, {SACK}),
    ({"70-a.conf": "-net.ipv4.tcp_timestamps\n"}, {TIMES}),
    ({"70-a.conf": "net.ipv4.tcp_fin_timeout = soon\n"}, {FIN}),
    ({OURS: "net.ipv4.tcp_f*_timeout = 7\n-net.ipv4.tcp_sack\nnet.ipv4.tcp_timestamps=0"}, set()),
]
"""Files of the administrator, and which settings of the plan do not last for at least one of the readers."""


def started_anew(files):
    for folder in filter(os.path.isdir, ("/run", "/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d")):
        cover(folder, {})  # a reader would set the whole machine's settings, too
    cover("/etc/sysctl.d", {name: content.encode() for name, content in files.items()})
    for key, value in SICK.items():
        write_sysctl(key, value)
    made = tcpdoctor("fix", "--apply", "--yes", "--window", "0", *WHERE)
    lines = Path("/etc/sysctl.d", OURS).read_text(encoding="ascii")
    ends = []
    for command in READERS:
        for key, value in SICK.items():
            write_sysctl(key, value)
        subprocess.run(command, capture_output=True, timeout=30, check=False)
        ends.append({key for key, value in CURED.items() if held_text(key) != value})
    return made.stdout, lines, ends


WHERE = ("--journal", "/run/fix/fix.json", "--sysctl-d", "/etc/sysctl.d")


@pytest.mark.parametrize(("files", "lost"), SCENES)
def test_what_lasts_is_what_the_readers_leave_after_a_start(in_namespace, mount_namespace, files, lost):
    said, lines, ends = in_namespace(started_anew, files)
    assert {key for key in CURED if f"{key} = {CURED[key]}" not in lines} == lost
    assert {key for key in CURED if f"  - {key}: not changed" in said} == lost
    assert set().union(*ends) == lost

"""`tcpdoctor snapshot`: where it is written, and what is refused."""

import gzip
import json
import os
import pty
import subprocess

from tests.cli.command import COMMAND, complaint, environment, tcpdoctor


def test_a_file_is_its_owners_alone_and_gzipped_by_its_name(tmp_path):
    plain, packed = tmp_path / "case.json", tmp_path / "case.json.gz"
    plain.write_text("readable by all")
    plain.chmod(0o644)
    for path in (plain, packed):
        answer = tcpdoctor("snapshot", "--window", "0", "-o", str(path))
        assert (answer.returncode, answer.stderr) == (0, "")
        assert "tcpdoctor check --from" in answer.stdout
        assert path.stat().st_mode & 0o777 == 0o600
    written = json.loads(plain.read_bytes())
    assert written["schema"] == json.loads(gzip.decompress(packed.read_bytes()))["schema"]
    assert os.uname().nodename not in written["content"][1]


def test_a_terminal_is_spared():
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "snapshot", "--window", "0"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 3
    assert "give --output FILE" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_cannot_be_meant_is_one_line():
    assert "--anonymise-names" in complaint(tcpdoctor("snapshot", "--raw", "--anonymise-names"))
    assert "one network namespace" in complaint(tcpdoctor("snapshot", "--netns", "all"))
    assert "no window" in complaint(tcpdoctor("snapshot", "--window", "-1"))

"""The journal gets one entry a finding, with the fields that journalctl can ask for."""

import json
import subprocess
import sys
import textwrap

import pytest

from tcpdoctor.diagnosis.changes import Changes
from tcpdoctor.kernel.recorded import Told
from tcpdoctor.report.journal import MESSAGE_ID, JournalEntry, entries
from tests.cli.command import environment
from tests.report.examples import CRITICAL, FINDING


def fields_of(datagram: bytes) -> dict[str, str]:
    """Read an entry as journald does."""
    fields = {}
    while datagram:
        name, mark, rest = datagram.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
            datagram = rest
        else:
            length = int.from_bytes(rest[:8], "little")
            key, value, datagram = name, rest[8 : 8 + length], rest[8 + length + 1 :]
        assert mark
        fields[key.decode()] = value.decode()
    return fields


def test_an_entry_is_read_back_as_it_was():
    said = {"MESSAGE": "one line", "TCPDOCTOR_SUMMARY": "two\nlines, \u00e9"}
    assert fields_of(JournalEntry(said).datagram()) == said


def test_each_finding_is_an_entry_with_its_priority_and_its_state():
    gone = Told("f" * 16, "old-rule", "warning", "nginx (1)", "It was so", 1.0)
    old = FINDING._replace(fingerprint="e" * 16)
    changes = Changes(1.0, appeared=(CRITICAL,), gone=(gone,))
    told = [fields_of(one.datagram()) for one in entries((CRITICAL, old), changes)]
    assert [one["PRIORITY"] for one in told] == ["2", "4", "5"]
    assert [one["TCPDOCTOR_STATE"] for one in told] == ["new", "still", "gone"]
    assert [one["TCPDOCTOR_RULE"] for one in told] == [CRITICAL.rule, FINDING.rule, "old-rule"]
    assert {one["MESSAGE_ID"] for one in told} == {MESSAGE_ID}
    assert told[1]["TCPDOCTOR_FINGERPRINT"] == old.fingerprint
    assert told[1]["TCPDOCTOR_SUBJECT"] == FINDING.label


def test_without_a_memory_nothing_is_said_of_before():
    (told,) = [fields_of(one.datagram()) for one in entries((FINDING,), None)]
    assert "TCPDOCTOR_STATE" not in told


JOURNAL = textwrap.dedent(
    """
    import json, os, socket, subprocess, sys
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.makedirs("/run/systemd/journal")
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if sys.argv[1] == "there":
        journal.bind("/run/systemd/journal/socket")
    with open("/proc/sys/net/ipv4/tcp_syncookies", "w") as setting:
        setting.write("0")
    done = subprocess.run(sys.argv[2:], capture_output=True, text=True)
    journal.setblocking(False)
    entries = []
    while True:
        try:
            entries.append(journal.recv(1 << 16).hex())
        except OSError:
            break
    print(json.dumps([done.returncode, done.stdout, done.stderr, entries]))
    """
)


def with_a_journal(kind: str, *options: str) -> list[object]:
    """Run check where a socket stands in the journal's place, in private mount and network namespaces."""
    command = [
        sys.executable,
        "-m",
        "tcpdoctor",
        "check",
        "--window",
        "0",
        "--only",
        "syncookies-off",
        *options,
    ]
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--map-root-user", sys.executable, "-c", JOURNAL, kind, *command],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=120,
    )
    if done.returncode and "ermitted" in done.stderr:
        pytest.skip(f"private namespaces are refused: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    answer: list[object] = json.loads(done.stdout)
    return answer


def test_a_finding_is_sent_and_nothing_printed():
    code, out, err, sent = with_a_journal("there", "--format", "journal")
    assert (code, out, err) == (1, "", "")
    (entry,) = [fields_of(bytes.fromhex(one)) for one in sent]
    assert entry["PRIORITY"] == "4"
    assert entry["TCPDOCTOR_RULE"] == "syncookies-off"


def test_where_nobody_listens_lines_with_priorities_are_printed():
    code, out, _, sent = with_a_journal("gone", "--format", "journal")
    assert (code, sent) == (1, [])
    assert out.startswith("<4>WARNING")

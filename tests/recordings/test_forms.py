"""Pastes: forms told apart by content, several behind each other, and what trackers and terminals add."""

from pathlib import Path

import pytest

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.recordings.forms import read_forms

SAMPLES = Path(__file__).parent / "samples"
COMMANDS = {
    "ss -tanp": "ss-tanp",
    "netstat -anp": "netstat-anp",
    "ss -s": "ss-s",
    "nstat -az": "nstat-az",
    "netstat -ant | awk '{print $6}' | sort | uniq -c": "pipeline-awk-uniq",
    "cat /proc/net/sockstat": "proc-net-sockstat",
    "sysctl -a": "sysctl-a",
    "ss -tanoempi": "ss-tanoempi",
}
BEHIND_EACH_OTHER = "".join(
    f"root@web1:~# {command}\n{(SAMPLES / f'{name}.txt').read_text()}" for command, name in COMMANDS.items()
)


def read(text):
    return read_forms(text, "paste")


def test_several_behind_each_other():
    found = read(BEHIND_EACH_OTHER)
    assert [form.form for form in found] == ["ss", "netstat", "ss", "nstat", "counts", "proc", "sysctl", "ss"]
    alone = [read((SAMPLES / f"{name}.txt").read_text())[0] for name in COMMANDS.values()]
    assert [form.counters for form in found] == [form.counters for form in alone]
    assert [form.sysctls for form in found] == [form.sysctls for form in alone]
    for form, before in zip(found, alone, strict=True):
        assert isinstance(form.sockets, Missing) == isinstance(before.sockets, Missing)
    assert len(found[-1].sockets) == 70


@pytest.mark.parametrize(
    "dress",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "".join(f"> {line}\n" for line in text.splitlines()),
        lambda text: f"```console\n{text}```\n",
        lambda text: text.replace(" ", "\xa0"),
        lambda text: text.replace("\t", "        "),
        lambda text: "".join(f"\x1b[01;32m\x1b[K{line}\x1b[m\x1b[K\n" for line in text.splitlines()),
        lambda text: "\ufeff" + text,
    ],
    ids=["carriage returns", "quoted", "fenced", "no-break spaces", "no tabs", "coloured", "byte order mark"],
)
def test_what_terminals_and_trackers_add_changes_nothing(dress):
    assert read(dress(BEHIND_EACH_OTHER)) == read(BEHIND_EACH_OTHER)


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (
            (
                "Active Internet connections (including servers)\n"
                "Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)\n"
                "tcp4       0      0  192.168.1.5.55555      17.1.2.3.443           ESTABLISHED\n"
            ),
            "macOS",
        ),
        ("tcp46      0      0  *.8080                 *.*                    LISTEN\n", "macOS"),
        (
            (
                "\nActive Connections\n\n  Proto  Local Address    Foreign Address    State    PID\n"
                "  TCP    0.0.0.0:135            0.0.0.0:0              LISTENING       1136\n"
            ),
            "Windows",
        ),
        ("  TCP    10.0.0.5:49712         10.0.0.9:443           HERGESTELLT     4711\n", "Windows"),
        (
            (
                "USER     COMMAND    PID   FD PROTO  LOCAL ADDRESS         FOREIGN ADDRESS\n"
                "root     sshd       822   4  tcp4   *:22                  *:*\n"
            ),
            "FreeBSD",
        ),
        (
            (
                "COMMAND   PID USER   FD   TYPE             DEVICE SIZE/OFF NODE NAME\n"
                "node    41234  bob   23u  IPv6 0x1a2b3c4d5e6f7a8b      0t0  TCP *:3000 (LISTEN)\n"
            ),
            "macOS",
        ),
    ],
)
def test_other_systems_are_named_in_one_line(text, program):
    with pytest.raises(SnapshotError, match=program) as refused:
        read(text)
    assert "\n" not in str(refused.value)


def test_nothing_in_it():
    with pytest.raises(SnapshotError, match="first line: Dear all"):
        read("Dear all,\nit is slow.\n")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("ss -tan | grep 9443", "grep"),
        ("sudo ss -tan state close-wait", "close-wait"),
        ("ss -tn", "without -a"),
        ("ss -4tan", "one family"),
    ],
)
def test_the_command_tells_what_is_a_part(command, reason):
    (found,) = read(f"$ {command}\n{(SAMPLES / 'ss-tan.txt').read_text()}")
    assert reason in found.every_socket.reason


def test_the_command_tells_what_is_whole():
    (found,) = read(f"web1:~ $ ss -Htanp\n{(SAMPLES / 'ss-Htanp.txt').read_text()}")
    assert found.every_socket is True


def test_a_listing_of_one_state_does_not_name_it():
    listing = (
        "Recv-Q Send-Q Local Address:Port  Peer Address:Port Process\n"
        "0      0          127.0.0.2:5432     127.0.0.1:37358\n"
    )
    (found,) = read(f"# ss -tan state time-wait\n{listing}")
    assert [row.state for row in found.sockets] == [TcpState.TIME_WAIT]


def test_prose_around_is_counted():
    found = read(f"Hello,\nthis is what I see:\n\n{(SAMPLES / 'ss-tan.txt').read_text()}\nAny idea?\n")
    assert found[0].notes == (
        "2 lines not understood, first: Hello,",
        "1 line not understood, first: Any idea?",
    )

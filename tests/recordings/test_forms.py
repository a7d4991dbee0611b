"""Pastes: forms told apart by content, several behind each other, and what trackers and terminals add."""

import html
from pathlib import Path

import pytest

from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.library import Config, load_library
from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.recordings.forms import read_forms
from tcpdoctor.recordings.opened import open_recording

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
        html.escape,
        lambda text: html.escape(html.escape(text)).replace("  ", "&nbsp; "),
        lambda text: "".join(f"    {line}\n" for line in text.splitlines()),
        lambda text: "".join(f"\t{line}\n" for line in text.splitlines()),
        lambda text: "".join(f"| {line}\n" for line in text.splitlines()),
        lambda text: "".join(f"2026-11-30T03:00:00.123456Z {line}\n" for line in text.splitlines()),
        lambda text: "".join(f"Nov 30 03:00:00 web1 cron[17]: {line}\n" for line in text.splitlines()),
        lambda text: "".join(f"{place}:{line}\n" for place, line in enumerate(text.splitlines(), start=1)),
        lambda text: "".join(f"{place:6}\t{line}\n" for place, line in enumerate(text.splitlines(), start=1)),
        lambda text: (
            f"Last login: Mon Nov 30\n{text}[root@web1 ~]# exit\nlogout\nConnection to web1 closed.\n"
        ),
        lambda text: f"{{noformat}}\n{text}{{noformat}}\n",
        lambda text: f"<pre><code>\n{text}</code></pre>\n",
        lambda text: text.replace("\nsysctl", "\n--More--\r        \rsysctl"),
    ],
    ids=[
        "carriage returns",
        "quoted",
        "fenced",
        "no-break spaces",
        "no tabs",
        "coloured",
        "byte order mark",
        "entities",
        "entities twice",
        "indented",
        "indented by tabs",
        "bars",
        "time stamps",
        "syslog",
        "grep -n",
        "cat -n",
        "session",
        "Jira",
        "HTML",
        "pager",
    ],
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


def test_a_listing_with_a_socket_that_nobody_can_read_is_no_whole_one():
    for name, odd in (
        ("ss-tan", "CLOSE-WAIT 0 0 10.0.0.1:http 10.0.0.2:51000\n"),
        ("netstat-anp", "tcp 0 0 xx.xx.xx.xx:443 yy.yy.yy.yy:51000 CLOSE_WAIT -\n"),
    ):
        (found,) = read((SAMPLES / f"{name}.txt").read_text() + odd)
        assert "could not be read" in found.every_socket.reason
        assert "prints names" in found.notes[1]


def test_a_listing_without_states_says_what_to_do():
    listing = "Recv-Q Send-Q Local Address:Port Peer Address:Port\n0 0 127.0.0.2:5432 127.0.0.1:37358\n"
    (found,) = read(listing)
    assert found.sockets == ()
    assert "put the command" in found.notes[1]
    typed = "Netid Recv-Q Send-Q Local Address:Port Peer Address:Port\ntcp 0 0 127.0.0.2:1 127.0.0.1:2\n"
    (found,) = read(f"$ ss -o state fin-wait-2\n{typed}")
    assert [row.state for row in found.sockets] == [TcpState.FIN_WAIT_2]


@pytest.mark.parametrize("numbered", ["{}:{}", "{:6}\t{}"])
def test_numbers_of_lines_are_no_part_of_them(numbered):
    lines = (SAMPLES / "netstat-anp.txt").read_text().splitlines()[2:60]
    plain = read("".join(f"{line}\n" for line in lines))
    assert read("".join(f"{numbered.format(*pair)}\n" for pair in enumerate(lines, start=1))) == plain


@pytest.mark.parametrize(
    "prompt",
    [
        "[root@web1 ~]# ss -tan",
        "bob@web1:~$ sudo ss -tan",
        "web1% ss -tan",
        "+ ss -tan",
        "ss -tan",
        "$ docker exec app ss -tan",
        "/ # ss -tan",
        "> $ kubectl exec -it web-7d4 -n prod -- ss -tan",
        "Every 2.0s: ss -tan",
        "\u279c  ~ git:(main) ss -tan",
        "root@web1:/# ip netns exec blue /usr/sbin/ss -tan",
    ],
)
def test_prompts(prompt):
    (found,) = read(f"{prompt}\n{(SAMPLES / 'ss-tan.txt').read_text()}")
    assert found.every_socket is True
    assert found.notes == ()
    (part,) = read(f"{prompt} | grep 9443\n{(SAMPLES / 'ss-tan.txt').read_text()}")
    assert "grep" in part.every_socket.reason


def test_the_heading_of_watch_is_a_command_and_when_it_ran():
    heading = "Every 2.0s: ss -tan               web1: Mon Nov 30 03:00:00 2026"
    (found,) = read(f"{heading}\n\n{(SAMPLES / 'ss-tan.txt').read_text()}")
    assert found.every_socket is True
    assert found.notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "# cat /proc/sys/net/core/somaxconn\n4096\n",
        "==> /proc/sys/net/core/somaxconn <==\n4096\n",
        "/proc/sys/net/core/somaxconn:4096\n",
    ],
)
def test_a_value_of_proc_is_a_setting(text):
    (found,) = read(text)
    assert found.sysctls == {"net.core.somaxconn": 4096}
    assert found.notes == ()


@pytest.mark.parametrize("name", ["proc-net-tcp", "proc-net-sockstat"])
@pytest.mark.parametrize(
    "dress",
    [
        lambda lines: ["==> /proc/net/file <==", *lines, ""],
        lambda lines: [f"/proc/net/file:{line}" for line in lines],
    ],
    ids=["head", "grep"],
)
def test_names_of_files_are_no_part_of_them(name, dress):
    plain = (SAMPLES / f"{name}.txt").read_text()
    assert read("\n".join([*dress(plain.splitlines()), ""])) == read(plain)


def test_what_the_edge_of_a_terminal_cut_is_put_together():
    for name in ("netstat-W-neopa", "netstat-tanpo", "proc-net-tcp", "ss-tanp", "sysctl-a"):
        plain = (SAMPLES / f"{name}.txt").read_text().expandtabs()
        for columns in (80, 100, 132):
            pieces = [
                line[place : place + columns].rstrip()
                for line in plain.splitlines()
                for place in range(0, max(1, len(line)), columns)
            ]
            assert read("\n".join([*pieces, ""])) == read(plain), (name, columns)


def test_a_setting_that_was_cut_is_not_known():
    line = "net.ipv4.ip_local_reserved_ports = " + ",".join(map(str, range(7001, 7031, 2)))
    other = "net.ipv4.tcp_available_congestion_control = " + "reno cubic bbr dctcp vegas westwoodplus"
    (found,) = read("\n".join(["net.core.somaxconn = 4096", line[:80], other[:80]]))
    assert "cut" in found.sysctls["net.ipv4.ip_local_reserved_ports"].reason
    assert found.sysctls["net.core.somaxconn"] == 4096


def test_a_line_of_a_file_of_settings_is_no_value_and_is_said():
    (found,) = read("net.ipv4.tcp_fin_timeout = 60\nnet.core.somaxconn=4096\nwhat is this\n")
    assert found.sysctls == {"net.ipv4.tcp_fin_timeout": 60}
    assert found.notes[0].startswith("2 lines not understood, first: net.core.somaxconn=4096")
    assert "ask for: sysctl -a" in found.notes[1]


@pytest.mark.parametrize("name", ["nstat-az", "proc-net-sockstat", "sysctl-a"])
def test_a_line_that_no_reader_takes_is_counted_in_every_form(name):
    *others, last = read(f"{(SAMPLES / f'{name}.txt').read_text()}what is this\n")
    assert last.notes == ("1 line not understood, first: what is this",)
    assert others == []


def test_nstat_in_json():
    plain = "#kernel\nTcpActiveOpens 17 0.0\nTcpExtListenOverflows 0 0.0\n"
    (found,) = read('root@web1:~# nstat -azj\n{"kernel":{"TcpActiveOpens":17,"TcpExtListenOverflows":0}}\n')
    assert found == read(plain)[0]


@pytest.mark.parametrize("text", ['{"kernel":{"TcpActiveOpens":17}}', "#kernel\nTcpActiveOpens 17 0.0\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_as_powershell_writes_it(tmp_path, text, encoding):
    paste = tmp_path / "paste"
    paste.write_bytes(text.encode(encoding))
    assert open_recording(str(paste)).samples.after.counters == {"Tcp.ActiveOpens": 17}


def test_two_listings_of_the_same_program_are_two():
    listing = (SAMPLES / "ss-tan.txt").read_text()
    assert [len(form.sockets) for form in read(listing + listing)] == [70, 70]


def test_a_paste_that_begins_with_a_bracket_is_no_json(tmp_path):
    paste = tmp_path / "paste"
    paste.write_text(f"[root@web1 ~]# ss -tan\n{(SAMPLES / 'ss-tan.txt').read_text()}")
    assert open_recording(str(paste)).source.forms == ("ss",)


@pytest.mark.parametrize(
    "text",
    [
        "Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port Process\nu_str ESTAB 0 0 * 17 * 19\n",
        "COMMAND PID USER FD TYPE DEVICE SIZE/OFF NODE NAME\nbash 70 root cwd DIR 8,1 4096 2 /\n",
        "".join((SAMPLES / "ss-tan.txt").read_text().partition("\n")[2]),
    ],
    ids=["no TCP", "no sockets", "no headings"],
)
def test_of_a_part_of_the_sockets_no_rule_about_sockets_is_clear(tmp_path, text):
    paste = tmp_path / "paste"
    paste.write_text(text)
    library = load_library(shipped_texts(), Config("none", {}))
    found = diagnose(library.rules, open_recording(str(paste)).samples, library.most)
    answered = {rule.id for rule in library.rules} - {one.rule for one in found.unchecked}
    assert answered <= {finding.rule for finding in found.findings}


@pytest.mark.parametrize(
    ("rmem", "told"),
    [("6291456", "clear"), ("33554432", "clear"), ("4194304", "unknown"), ("100000", "found")],
)
def test_without_the_machines_memory_a_default_of_buffers_is_known_within_bounds(tmp_path, rmem, told):
    paste = tmp_path / "paste"
    paste.write_text(f"net.ipv4.tcp_rmem = 4096 87380 {rmem}\nnet.ipv4.tcp_wmem = 4096 16384 4194304\n")
    library = load_library(shipped_texts(), Config("none", {}))
    found = diagnose(library.rules, open_recording(str(paste)).samples, library.most)
    fired = "tcp-buffers-lowered" in {finding.rule for finding in found.findings}
    unknown = "tcp-buffers-lowered" in {one.rule for one in found.unchecked}
    assert ("found" if fired else "unknown" if unknown else "clear") == told

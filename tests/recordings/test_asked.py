"""Every question is answered from a recording as from a host, and nothing of this host is mixed in."""

import inspect
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tcpdoctor as tcpdoctor_package
from tcpdoctor.kernel import replay
from tcpdoctor.kernel.namespaces import replayed
from tests.cli.command import complaint, tcpdoctor
from tests.schemas import described

SAMPLES = Path(__file__).parent / "samples"
CASE = str(SAMPLES / "ss-tanoempi.txt")

QUESTIONS = (
    "check --from @",
    "states --from @",
    "states --by port --from @",
    "states --by peer --from @",
    "states --by process --from @",
    "sockets --from @",
    "sockets --name orders-api --options --from @",
    "facts --from @",
    "sysctl show --from @",
    "sysctl show tcp_* --from @",
    "explain --port 8080 --from @",
    "explain --port 9443 --udp --from @",
    "explain --connect 127.0.0.1:9443 --from @",
    "explain --pid 49 --from @",
    "explain orders-api --from @",
    "explain 53 --from @",
    "explain fin-wait-2 --from @",
    "explain bound --from @",
    "explain tcp_fin_timeout --from @",
    "explain EMFILE --from @",
    "explain SO_REUSEADDR --from @",
    "explain close-wait-leak --from @",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The listing with the settings and counters of the same moment, pasted behind each other."""
    path = tmp_path_factory.mktemp("whole") / "case.txt"
    names = ("ss-tanoempi.txt", "sysctl-a.txt", "nstat-az.txt")
    path.write_text("\n".join((SAMPLES / name).read_text(encoding="utf-8") for name in names))
    return str(path)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_an_answer_that_fits_its_schema(question, whole):
    words = question.replace("@", whole).split()
    answer = tcpdoctor(*words, "--format", "json")
    assert answer.stderr == ""
    told = described(answer.stdout)
    source = told["source" if words[0] == "check" else "recording"]
    assert (source["kind"], source["looks"]) == ("text", 1)
    assert source["forms"] == ["ss", "sysctl", "nstat"]
    text = tcpdoctor(*words)
    assert "from pasted output (ss, sysctl, nstat)" in text.stdout
    assert max(map(len, text.stdout.splitlines())) <= 80


@pytest.mark.parametrize("asked", ["states", "sockets", "facts", "check --long"])
def test_what_a_paste_does_not_tell_is_not_in_the_heading(asked):
    text = " ".join(tcpdoctor(*asked.split(), "--from", str(SAMPLES / "ss-tan.txt")).stdout.split())
    assert "this recording: " in text
    assert not re.search("Linux unknown|network namespace 0|unknown: [0-9]|unknown: facts", text)


def test_a_state_is_told_above_the_rows_or_in_each_and_not_twice():
    told = {
        state: tcpdoctor("sockets", "--state", state, "--from", CASE).stdout
        for state in ("time-wait", "syn-sent")
    }
    assert "\nAll in TIME_WAIT:\nLOCAL " in told["time-wait"]
    assert "\nSYN_SENT     127.0.0.1:" in told["syn-sent"]
    assert "All in" not in told["syn-sent"]


WATCHER = """
import sys
opened = []
def watch(event, args):
    if event == "open" and str(args[0]).startswith(("/proc", "/sys", "/run", "/etc/sysctl")):
        opened.append(str(args[0]))
    if event in ("socket.__new__", "os.listdir", "os.scandir") and "tcpdoctor" not in str(args[0]):
        opened.append(f"{event} {args}")
sys.addaudithook(watch)
from tcpdoctor.__main__ import main
sys.argv = ["tcpdoctor", *sys.argv[1:]]
try:
    main()
finally:
    print(*sorted(set(opened)), sep="\\n", file=sys.stderr)
"""
OWN = ("/proc/self/fd", "/proc/thread-self/status", "/proc/self/status")
"""What says something of this program alone."""


@pytest.mark.parametrize("question", QUESTIONS)
def test_nothing_of_this_host_is_read(question, whole):
    words = question.replace("@", whole).split()
    done = subprocess.run(
        [sys.executable, "-c", WATCHER, *words, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(done.stdout)["schema"].startswith("tcpdoctor.")
    foreign = [line for line in done.stderr.splitlines() if line and not line.startswith(OWN)]
    assert foreign == []


def test_a_recording_knows_all_that_reads_the_kernel():
    source = Path(inspect.getsourcefile(replayed)).parent
    marked = set()
    for path in source.glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        marked |= {
            after.removeprefix("def ").partition("(")[0]
            for line, after in itertools.pairwise(lines)
            if line == "@replayed"
        }
    assert len(marked) > 40
    assert {name for name in marked if not hasattr(replay.Replay, name)} == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "--from", CASE, "--netns", "blue"), "--netns"),
        (("check", "--from", CASE, "--since-last", "x"), "--since-last"),
        (("explain", "8080", "--from", CASE, "--probe"), "--probe"),
        (("explain", "8080", "--from", CASE, "--wait"), "--wait"),
        (("states", "--from", CASE, "--netns", "all"), "--netns"),
        (("check", "--from", "/nowhere"), "no such file"),
        (("check", "--from", CASE, "--from", CASE), "does not say when it was taken"),
        (("check", "--from", CASE, "--from", CASE, "--from", CASE), "given 3 times"),
    ],
)
def test_what_makes_no_sense_is_one_line(words, said):
    assert said in complaint(tcpdoctor(*words))


def test_what_a_listing_does_not_tell_of_a_socket_is_null_with_its_reason():
    told = json.loads(tcpdoctor("sockets", "--json", "--from", str(SAMPLES / "ss-tanp.txt")).stdout)
    waiting = [one for one in told["sockets"] if one["state"] == "time_wait"]
    assert len(waiting) == 7
    for one in waiting:
        assert (one["timer"], one["expires_s"], one["uid"]) == (None, None, None)
        assert {"timer", "expires_s", "uid"} <= one["missing"].keys()
        assert one["age"]["at_least_s"] == 0
    assert " ends in " not in tcpdoctor("sockets", "--from", str(SAMPLES / "ss-tanp.txt")).stdout
    told = json.loads(tcpdoctor("sockets", "--json", "--from", str(SAMPLES / "ss-tanoempi.txt")).stdout)
    left = {round(one["expires_s"]) for one in told["sockets"] if one["state"] == "time_wait"}
    assert left == {56}


@pytest.mark.parametrize("name", ["ss-tanp.txt", "netstat-anp.txt", "ss-tanoempi.txt"])
def test_who_listens_is_busy_whatever_settings_are_not_told(name):
    told = json.loads(tcpdoctor("explain", "9443", "--json", "--from", str(SAMPLES / name)).stdout)
    assert (told["verdict"], told["bind"]["cause"]) == ("busy", "listener")
    assert next((one["bind"], one["certain"], one["fails"]) for one in told["bind"]["attempts"]) == (
        "EADDRINUSE",
        False,
        True,
    )
    text = tcpdoctor("explain", "9443", "--from", str(SAMPLES / name)).stdout
    assert "BUSY  TCP port 9443" in text
    assert "--probe" not in text
    assert "uid -1" not in text


def test_what_a_part_of_a_listing_does_not_show_has_no_number_either(tmp_path):
    part = tmp_path / "part.txt"
    part.write_text(
        "Proto Recv-Q Send-Q Local Address    Foreign Address  State       PID/Program name\n"
        "tcp        0      0 10.0.0.5:8080    10.0.0.9:40000   CLOSE_WAIT  811/java\n"
    )
    printed = tcpdoctor("check", "--from", str(part), "--format", "nagios").stdout
    rules = {rule["id"] for rule in json.loads(tcpdoctor("rules", "list", "--json").stdout)["rules"]}
    values = dict(re.findall(r"'([a-z-]+)'=([^;]+);", printed))
    assert rules & values.keys() > {"peers-do-not-read", "connected-to-itself"}
    assert {value for rule, value in values.items() if rule in rules} == {"U"}


def test_where_nothing_is_wrong_the_hint_asks_the_recording():
    path = str(Path(tcpdoctor_package.__file__).parent / "knowledge" / "recordings" / "defaults.json.gz")
    text = " ".join(tcpdoctor("check", "--from", path).stdout.split())
    assert text.startswith("OK")
    assert f"tcpdoctor explain 8080 --from {path}" in text
    assert "explain ECONNRESET" not in text


@pytest.mark.parametrize(
    ("pasted", "hint"),
    [
        ("CLOSE_WAIT 710\nESTABLISHED 138\n", ["    Whose they are: tcpdoctor states --from"]),
        (
            "TcpExt:\n    6350 times the listen queue of a socket overflowed\n",
            [
                "    Counters since boot tell no rate: take them twice, a minute apart, and",
                "      tcpdoctor check --from",
            ],
        ),
        ("TCP: inuse 443029 orphan 0 tw 62 alloc 664959 mem 4145\n", []),
    ],
)
def test_where_too_little_is_told_the_next_question_is(tmp_path, monkeypatch, pasted, hint):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(pasted, encoding="utf-8")
    told = tcpdoctor("check", "--from", "a.txt").stdout.splitlines()
    after = told[1 + next(at for at, line in enumerate(told) if "rules answered" in line) :]
    ends = ["", " a.txt --from SECOND --window 60"] if len(hint) > 1 else [" a.txt"]
    assert after == [line + end for line, end in zip(hint, ends, strict=False)]


def test_commands_ask_the_recording_that_was_read():
    text = tcpdoctor("explain", "53", "--from", CASE).stdout
    assert "53 is also the process payments:" in text
    assert f"tcpdoctor explain --pid 53 --from {CASE}" in " ".join(text.replace("\\\n", " ").split())
    text = tcpdoctor("states", "--from", CASE).stdout
    assert f"tcpdoctor explain syn-sent --from {CASE}" in " ".join(text.replace("\\\n", " ").split())


@pytest.mark.parametrize("format_of_it", ["markdown", "html"])
@pytest.mark.parametrize("words", [("check",), ("explain", "8080")], ids=["check", "explain"])
def test_every_page_says_what_was_read(words, format_of_it):
    answer = tcpdoctor(*words, "--from", CASE, "--format", format_of_it)
    assert answer.stderr == ""
    assert "from pasted output (ss)" in answer.stdout


RANGE_IN_THE_WAY = """\
$ ss -tuan
Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process
udp   UNCONN 0      0      0.0.0.0:33333      0.0.0.0:*
tcp   LISTEN 0      128    0.0.0.0:22         0.0.0.0:*
tcp   LISTEN 0      128    [::]:22            [::]:*
tcp   ESTAB  0      0      10.0.0.1:22        10.0.0.9:55123
$ sysctl net.ipv4
net.ipv4.ip_local_port_range = 50000	50999
net.ipv4.ip_local_reserved_ports =
"""


def test_a_plan_reserves_the_udp_servers_of_the_recording(tmp_path):
    (tmp_path / "ss.txt").write_text(RANGE_IN_THE_WAY, encoding="utf-8")
    report = json.loads(tcpdoctor("check", "--from", str(tmp_path / "ss.txt"), "--json").stdout)
    reserved, wider = report["plan"]
    assert (reserved["key"], reserved["value"]) == ("net.ipv4.ip_local_reserved_ports", "33333")
    assert "was not looked at" not in wider["risk"]


def test_a_part_without_listeners_does_not_say_that_a_connection_is_refused(tmp_path):
    lines = [line for line in RANGE_IN_THE_WAY.splitlines() if "LISTEN" not in line and "State" not in line]
    (tmp_path / "ss.txt").write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    answer = tcpdoctor("explain", "--connect", "127.0.0.1:22", "--from", str(tmp_path / "ss.txt"), "--json")
    told = described(answer.stdout)["connect"]
    assert told["verdict"] != "ECONNREFUSED"


def test_a_part_without_listeners_does_not_say_that_nothing_listens(tmp_path):
    listing = """\
$ ss -tnp
State Recv-Q Send-Q Local Address:Port Peer Address:Port Process
ESTAB 0 0 10.0.0.5:8080 10.0.0.9:40112 users:(("app",pid=812,fd=7))
CLOSE-WAIT 1 0 10.0.0.5:8080 10.0.0.9:40116 users:(("app",pid=812,fd=9))
"""
    (tmp_path / "ss.txt").write_text(listing, encoding="utf-8")
    answer = tcpdoctor("explain", "--port", "8080", "--from", str(tmp_path / "ss.txt"))
    told = " ".join(answer.stdout.split())
    assert "whether anything is listening is not known" in told
    assert "nothing is listening" not in told
    assert "An old process" not in told


def test_a_connection_whose_side_is_not_told_may_be_a_clients_that_was_given_the_port(tmp_path):
    connection = "31753 0t0 TCP 10.0.0.5:10254->10.0.0.9:2379 (ESTABLISHED)"
    listing = "".join(f"kube-apis 4849 {tid} root 68u IPv4 {connection}\n" for tid in (4860, 4861))
    settings = "# cat /proc/sys/net/ipv4/ip_local_port_range\n1024\t65535\n"
    (tmp_path / "with.txt").write_text(listing + settings, encoding="utf-8")
    (tmp_path / "without.txt").write_text(listing, encoding="utf-8")
    answers = [
        " ".join(tcpdoctor("explain", "--port", "10254", "--from", str(tmp_path / name)).stdout.split())
        for name in ("with.txt", "without.txt")
    ]
    may_be = "add 10254 to net.ipv4.ip_local_reserved_ports for the next start"
    assert [may_be in told for told in answers] == [True, False]
    for told in answers:
        assert "(4849)" in told
        assert "shares the socket" not in told, "a line for each thread is one process"


def test_a_process_of_which_most_rules_know_nothing_is_not_called_well(tmp_path):
    listing = """\
$ ss -tanp
State Recv-Q Send-Q Local Address:Port Peer Address:Port Process
LISTEN 0 128 0.0.0.0:8080 0.0.0.0:* users:(("app",pid=812,fd=3))
ESTAB 0 0 10.0.0.5:8080 10.0.0.9:40112 users:(("app",pid=812,fd=7))
"""
    (tmp_path / "ss.txt").write_text(listing, encoding="utf-8")
    asked = ("explain", "--pid", "812", "--from", str(tmp_path / "ss.txt"))
    assert described(tcpdoctor(*asked, "--json").stdout)["status"] == "unknown"
    told = " ".join(tcpdoctor(*asked).stdout.split())
    assert "UNKNOWN app (pid 812)" in told
    assert "Whether a unit, a container or a master process keeps it is not told here" in told


LSOF = """\
COMMAND   PID USER   FD   TYPE DEVICE SIZE/OFF NODE NAME
payments   53 root    3u  IPv4  12347      0t0  TCP *:9443 (LISTEN)
web\\x20cli 54 root    3u  IPv4  12348      0t0  TCP 127.0.0.1:40002->127.0.0.1:9443 (ESTABLISHED)
"""


def test_whether_a_connection_gets_through_is_answered_without_settings_as_far_as_it_is_known(tmp_path):
    asked = ("explain", "--connect", "127.0.0.1:9443", "--from")
    (tmp_path / "lsof.txt").write_text(LSOF, encoding="utf-8")
    files = str(tmp_path / "lsof.txt"), *(str(SAMPLES / name) for name in ("netstat-anp.txt", "ss-tanp.txt"))
    for path, verdict, waiting, doubt in zip(
        files,
        ("ok", "ok", "ETIMEDOUT"),
        (None, 6, 6),
        ("how many connections wait", "whether the 6 in the accept queue", "sysctl -a"),
        strict=True,
    ):
        told = json.loads(tcpdoctor(*asked, path, "--json").stdout)
        left = told["connect"]
        assert (left["verdict"], left["certain"], told["range"], left["free"]) == (verdict, False, None, None)
        assert [one["accept_queue"] for one in told["listeners"]] == [waiting]
        assert any(doubt in one for one in told["doubts"])
        assert any("ask for: sysctl -a" in one and "32768-60999 is assumed" in one for one in told["doubts"])
        text = " ".join(tcpdoctor(*asked, path).stdout.split())
        assert ("NO ANSWER" if waiting and verdict != "ok" else "NOT CERTAIN") in text
        assert "accept queue 0" not in text
        assert "not known" in tcpdoctor(*asked, path, "--long").stdout


def test_towards_an_own_address_a_client_comes_from_where_the_kernel_takes_it(tmp_path):
    for asked, source in (("127.0.0.2:5432", "127.0.0.1"), ("[fe80::1]:7070", None)):
        answer = tcpdoctor("explain", "--connect", asked, "--json", "--from", CASE)
        assert json.loads(answer.stdout)["source"] == source


def test_no_page_says_that_an_accept_queue_is_empty_whose_length_nobody_told(tmp_path):
    (tmp_path / "lsof.txt").write_text(LSOF, encoding="utf-8")
    recorded = tmp_path / "lsof.txt"
    for words in (("explain", "9443", "--long"), ("explain", "--pid", "53"), ("sockets",)):
        text = tcpdoctor(*words, "--from", str(recorded)).stdout
        assert "accept queue" in text
        assert "accept queue 0" not in text

"""`--netns`: the same questions, asked from inside other network namespaces."""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.command import COMMAND, complaint, environment, tcpdoctor
from tests.cli.forked import run_forked
from tests.schemas import described

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter other network namespaces")

RULES = Path(__file__).resolve().parents[2] / "rules"
MACHINE = """
import os, signal, subprocess
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
os.mkdir("/run/netns")
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
signal.pause()
"""
SERVE = """
import os, socket, time
server = socket.create_server(("127.0.0.1", 8080), backlog=23)
held = []
for _ in range(17):
    held.append(socket.create_connection(server.getsockname()))
    held.append(server.accept()[0])
print(os.getpid(), flush=True)
time.sleep(120)
"""
ONE_RULE = ("check", "--window", "0", "--only", "syncookies-off", "--netns", "all", "--format")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


class Machine:
    """Process ids, names of namespaces and a network of its own: nobody else's namespaces are found."""

    def __init__(self) -> None:
        kinds = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net")
        command = ["unshare", *kinds, sys.executable, "-c", MACHINE]
        self.servers = []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.pid = int(children)
        # --root: without pivot_root (a chroot) the root of its mounts is not the folder that is / here
        self.enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--root", "--wd=/"]

    def run(self, *command, **options):
        return subprocess.run(
            [*self.enter, *map(str, command)], text=True, check=False, timeout=60, **options
        )

    def go_inside(self):
        """As `enter` does, without a Python that starts there: what it runs is a child of this process."""
        kinds = [os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY) for kind in ("net", "pid", "mnt")]
        root = os.open(f"/proc/{self.pid}/root", os.O_RDONLY)
        for kind in kinds:
            assert ctypes.CDLL(None).setns(kind, 0) == 0
        os.fchdir(root)
        os.chroot(".")
        child = os.fork()  # only what is born there has a process id of that namespace
        if child != 0:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
        for descriptor in (*kinds, root):
            os.close(descriptor)

    def tcpdoctor(self, *arguments, user=()):
        """What the program says there; JSON is what its schema says."""
        if user:
            command = (*user, *COMMAND, *arguments)
            done = self.run(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        else:
            done = run_forked([*map(str, arguments)], environment(), go_there=self.go_inside)
        if "json" in arguments and done.stdout.startswith("{"):
            described(done.stdout)
        return done

    def add(self, name):
        assert self.run("ip", "netns", "add", name).returncode == 0

    def delete(self, name):
        assert self.run("ip", "netns", "delete", name).returncode == 0

    def serve(self, name):
        """A process in that namespace with 17 connections to itself; return its id there."""
        enter = ["ip", "netns", "exec", name]
        self.run(*enter, "ip", "link", "set", "lo", "up")
        command = [*self.enter, *enter, sys.executable, "-c", SERVE]
        server = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.servers.append(server)
        assert server.stdout is not None
        return int(server.stdout.readline())

    def end(self):
        """All processes inside end with the first one."""
        for process in (self.process, *self.servers):
            process.kill()
            process.communicate()

    def inode(self, name):
        return self.run("stat", "-Lc", "%i", f"/run/netns/{name}", stdout=subprocess.PIPE).stdout.strip()

    def answer(self, *arguments):
        done = self.tcpdoctor(*arguments, "--format", "json")
        assert done.returncode in (0, 1, 2), done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def machine(mount_namespace):
    machine = Machine()
    yield machine
    machine.end()


@pytest.fixture(scope="module")
def blue(machine):
    """A named namespace in which a process has 17 connections to itself, and SYN cookies are off."""
    machine.add("blue")
    machine.run("ip", "netns", "exec", "blue", "sysctl", "-qw", "net.ipv4.tcp_syncookies=0")
    return "blue", machine.serve("blue")


@pytest.fixture
def strange(machine):
    """Namespaces with names that mean something in one format or another; one is numbered as ours is."""
    own = str(os.stat(f"/proc/{machine.pid}/ns/net").st_ino)
    names = ["a b|c", "q'<b>*_", "e=1;2", own, os.fsdecode(b"\xff\xe2\x80\xaez")]
    for name in names:
        machine.add(name)
    yield names
    for name in names:
        machine.delete(name)


@pytest.mark.parametrize("by", ["name", "pid", "path"])
def test_states_are_counted_inside(machine, blue, by):
    name, pid = blue
    where = {"name": name, "pid": str(pid), "path": f"/proc/{pid}/ns/net"}[by]
    told = machine.answer("states", "--netns", where)
    assert (told["states"]["established"], told["states"]["listen"]) == (34, 1)
    assert told["host"]["namespace"] == machine.inode(name)
    assert told["host"]["namespace_name"] == name


def test_every_reading_command_looks_from_inside(machine, blue):
    name, pid = blue
    sockets = machine.answer("sockets", "--netns", name, "--state", "established")["sockets"]
    assert len(sockets) == 34
    assert {row["owner"]["pid"] for row in sockets} == {pid}
    (fact,) = machine.answer("facts", "sysctl.net.ipv4.tcp_syncookies", "--window", "0", "--netns", name)[
        "facts"
    ]
    assert fact["value"] == 0
    port = machine.answer("explain", "--port", "8080", "--netns", name)
    assert (port["bind"]["cause"], port["listeners"][0]["owner"]["pid"]) == ("listener", pid)
    report = machine.answer("check", "--window", "0", "--netns", name)
    assert "syncookies-off" in {finding["rule"] for finding in report["findings"]}


@pytest.mark.parametrize("form", [(), ("--long",)])
def test_remedies_say_how_they_are_run_in_the_namespace_that_was_asked_for(machine, blue, form):
    name, pid = blue
    question = ("check", "--window", "0", "--only", "syncookies-off", *form, "--netns")
    ways = {name: "ip netns exec blue", pid: f"nsenter -t {pid} -n"}
    ways[f"/proc/{pid}/ns/net"] = f"nsenter --net=/proc/{pid}/ns/net"
    for wanted, way in ways.items():
        text = machine.tcpdoctor(*question, wanted).stdout
        typed = re.sub(r"[ \\]*\n +", " ", text)
        assert f"{way} sysctl -w net.ipv4.tcp_syncookies=1" in typed
        assert len(re.findall(r"sysctl -[wn] ", typed)) == typed.count(f"{way} sysctl ")
        assert "sysctl.d/60-tcpdoctor.conf" not in typed
        assert all(len(line) <= 80 for line in text.splitlines())


HINT = re.compile(r"tcpdoctor (?:check|explain|states|sockets|sysctl|facts) [^`(),;\n]+")
QUESTIONS = (
    ("check", "--window", "0"),
    ("check", "--window", "0", "--long"),
    ("check", "--window", "0", "--only", "syncookies-off"),
    ("states",),
    *(("explain", word) for word in ("close-wait", "EADDRINUSE", "tcp_syncookies", "syncookies-off")),
    ("explain", "127.0.0.1:8080"),
    ("explain", "--connect", "127.0.0.1:8080", "--long"),
    ("explain", "--connect", "127.0.0.1:7777"),
    ("explain", "--port", "8080", "--long"),
)


def hints_of(text):
    """The commands of this program that a text says to type, each on one line."""
    joined = re.sub(r"[ \\]*\n +", " ", text)
    return [" ".join(found[0].partition("   ")[0].split()) for found in HINT.finditer(joined)]


def test_every_hint_asks_the_namespace_that_was_asked_for(machine, blue):
    name, _ = blue
    hints = {hint for question in QUESTIONS for hint in _hints(machine, *question, "--netns", name)}
    said = {
        hint
        for hint in hints
        if not hint.startswith(("tcpdoctor check finds", "tcpdoctor sysctl lint names"))
    }
    assert [hint for hint in sorted(said) if "--netns blue" not in hint] == []
    for expected in (
        "check syncookies-off",
        "explain --rule syncookies-off --long",
        "explain --port N",
        "explain --port 7777",
    ):
        assert any(hint.startswith(f"tcpdoctor {expected} --netns blue") for hint in said), expected
    for place in machine.tcpdoctor("states", "--netns", "all").stdout.split("===")[1:]:
        assert all("--netns" in hint for hint in hints_of(place)) or "where this was started" in place
        assert ("(to run a command there: " in place) is ("where this was started" not in place)


def _hints(machine, *question):
    return hints_of(machine.tcpdoctor(*question).stdout)


def test_a_word_with_two_meanings_names_the_other_in_the_same_namespace(machine, blue):
    name, _ = blue
    assert machine.answer("explain", "127.0.0.1:8080", "--netns", name)["also"] == [
        "tcpdoctor explain --connect 127.0.0.1:8080 --netns blue"
    ]


def test_all_of_them_answer_in_one_document_and_the_worst_sets_the_exit_code(machine, blue):
    name, _ = blue
    done = machine.tcpdoctor(
        "check", "--window", "0", "--only", "syncookies-off", "--netns", "all", "--format", "json"
    )
    told = json.loads(done.stdout)
    assert (told["schema"], done.returncode) == ("tcpdoctor.checks/1", 1)
    by_name = {check["host"]["namespace_name"]: check for check in told["checks"]}
    assert [finding["rule"] for finding in by_name[name]["findings"]] == ["syncookies-off"]
    assert by_name[name]["findings"][0]["subject"]["namespace"] == name
    about = by_name[name]["network_namespace"]
    assert (about["own"], about["enter"], about["containers"]) == (False, "ip netns exec blue", [])
    own = str(os.stat(f"/proc/{machine.pid}/ns/net").st_ino)
    assert own in {check["host"]["namespace"] for check in told["checks"]}


def test_what_is_true_of_the_whole_machine_is_told_once(machine, blue, tmp_path):
    rule = tmp_path / "config" / "files-open-at-all.toml"
    rule.parent.mkdir()
    shipped = (RULES / "limits" / "open-files-near-machine-limit.toml").read_text()
    text = shipped.replace("open-files-near-machine-limit", "files-open-at-all")
    rule.write_text(re.sub(r"default = \d+", "default = 0", text))
    question = ("check", "--window", "0", "--netns", "all", "--only", "files-open-at-all", "--format", "json")
    told = json.loads(machine.tcpdoctor(*question, "--rules", tmp_path).stdout)
    assert sorted(len(check["findings"]) for check in told["checks"]) == [0, 1]


def test_the_windows_of_all_namespaces_run_at_the_same_time(machine, blue):
    told = machine.answer("check", "--netns", "all", "--only", "syncookies-off")
    assert all(1.0 <= check["window_s"] < 2.0 for check in told["checks"])


@pytest.mark.parametrize("form", [(), ("--long",)])
def test_text_begins_with_the_list_of_namespaces_and_the_sick_one_comes_first(machine, blue, form):
    name, _ = blue
    own = str(os.stat(f"/proc/{machine.pid}/ns/net").st_ino)
    question = ("check", "--window", "0", "--only", "syncookies-off", "--netns=all", *form)
    text = machine.tcpdoctor(*question).stdout
    assert all(len(line) <= 80 for line in text.splitlines())
    head, _, details = text.partition("\n=== ")
    assert head.startswith("WARNING  ")
    assert "2 network namespaces: 1 warning, 1 ok" in head
    sick, well = [line.split() for line in head.splitlines() if line.startswith(" ")][-2:]
    assert sick[:2] == ["WARNING", "blue"]
    assert well == ["OK", "here"]
    assert own not in head
    headings = [line for line in f"=== {details}".splitlines() if line.startswith("=== ")]
    assert name in headings[0]
    assert len(headings) == (2 if form else 1)
    assert f"ip netns exec {name} sysctl -w net.ipv4.tcp_syncookies=1" in details


def test_the_joined_answer_can_be_written_to_a_file(machine, blue, tmp_path):
    target = tmp_path / "states.json"
    done = machine.tcpdoctor("states", "--netns", "all", "--format", "json", "--output", target)
    assert done.stdout == ""
    told = json.loads(target.read_text())
    assert told["schema"] == "tcpdoctor.namespaces/1"
    assert len(told["answers"]) >= 2


@pytest.mark.parametrize(
    ("question", "form"),
    [
        (("states", "--by", "port"), "states"),
        (("sockets",), "sockets"),
        (("sockets", "--udp"), "udp-sockets"),
        (("facts", "close_wait", "--window", "0"), "facts"),
        (("sysctl", "show", "tcp_syncookies"), "sysctls"),
        (("sysctl", "lint", "--fail-on", "never"), "sysctl-lint"),
        (("explain", "8080"), "port"),
        (("explain", "--connect", "127.0.0.1:8080"), "connect"),
        (("explain", "--pid", "1"), "process"),
        (("explain", "close-wait"), "state"),
        (("explain", "tcp_syncookies"), "sysctl"),
        (("explain", "SO_LINGER"), "option"),
        (("explain", "EADDRINUSE"), "error"),
        (("explain", "syncookies-off"), "rule"),
    ],
)
def test_every_question_is_answered_of_all_namespaces(machine, blue, question, form):
    told = machine.answer(*question, "--netns", "all")
    assert (told["schema"], told["failed"]) == ("tcpdoctor.namespaces/1", [])
    assert {answer["schema"] for answer in told["answers"]} == {f"tcpdoctor.{form}/1"}
    by_name = {answer["host"]["namespace_name"] for answer in told["answers"] if "host" in answer}
    assert not by_name or by_name == {None, "blue"}
    text = machine.tcpdoctor(*question, "--netns", "all").stdout
    headings = [line for line in text.splitlines() if line.startswith("=== ")]
    assert len(headings) == len(told["answers"]) == 2
    assert "blue" in headings[1]


def test_sarif_has_a_run_for_each_namespace(machine, blue):
    done = machine.tcpdoctor("sysctl", "lint", "--netns", "all", "--format", "sarif")
    names = [run["automationDetails"]["id"] for run in json.loads(done.stdout)["runs"]]
    assert len(names) == 2
    assert "network namespace blue (" in names[1]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("nowhere", "knows no such name (there are: blue"),
        ("999999999", "there is no process"),
        ("/etc/hostname", "no network namespace"),
        ("/proc/1/ns/pid", "no network namespace"),
        ("/dev/null", "no network namespace"),
        ("./nowhere", "no such file"),
    ],
)
def test_what_cannot_be_entered_is_one_line(machine, blue, wanted, why):
    assert why in complaint(machine.tcpdoctor("states", "--netns", wanted))


def test_a_process_that_has_ended_and_waits_for_its_parent_has_no_namespace_any_more():
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert "has ended" in complaint(tcpdoctor("states", "--netns", ended.pid))
    ended.wait()


def test_an_ordinary_user_is_told_what_it_takes(machine, blue):
    done = machine.tcpdoctor("states", "--netns", blue[0], user=NOBODY)
    assert "run as root" in complaint(done)


def test_an_ordinary_user_gets_an_answer_for_where_he_is_and_a_reason_for_the_rest(
    machine, blue, other_users
):
    done = machine.tcpdoctor(*ONE_RULE, "json", user=NOBODY)
    told = json.loads(done.stdout)
    own = str(os.stat(f"/proc/{machine.pid}/ns/net").st_ino)
    assert (done.returncode, [check["host"]["namespace"] for check in told["checks"]]) == (3, [own])
    ((name, reason),) = [(failed["namespace_name"], failed["reason"]) for failed in told["failed"]]
    assert (name, "run as root" in reason) == ("blue", True)
    assert told["hidden_processes"] > 0
    assert "did not show a network namespace: there may be more; run as root" in done.stderr


def test_as_prometheus_metrics_each_metric_is_told_once_and_has_all_namespaces(machine, blue):
    lines = machine.tcpdoctor(*ONE_RULE, "prometheus").stdout.splitlines()
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    samples = [line for line in lines if not line.startswith("#")]
    assert len(samples) == len(set(samples))
    assert any('rule="syncookies-off"' in line and f'namespace="{blue[0]}"' in line for line in samples)
    assert sum(line.startswith("tcpdoctor_rules{") for line in samples) >= 2


def test_as_junit_each_namespace_is_a_suite(machine, blue):
    text = machine.tcpdoctor(*ONE_RULE, "junit").stdout
    suites = list(ElementTree.fromstring(text))  # noqa: S314 - our own output
    (mine,) = [suite for suite in suites if blue[0] in suite.get("name", "")]
    assert (mine.get("tests"), mine.get("failures")) == ("1", "1")
    assert len(suites) >= 2


def test_as_a_plugin_the_first_line_counts_namespaces_and_values_carry_their_name(machine, blue):
    first, *rest = machine.tcpdoctor(*ONE_RULE, "nagios").stdout.splitlines()
    assert first.startswith(
        "TCPDOCTOR WARNING - 1 of 2 network namespaces not OK: blue; blue: this namespace tcp_syncookies 0: "
    )
    assert " | 'established'=34;;;0 " in first
    assert "'blue/established'=34;;;0" in rest[-1]
    assert "'blue/syncookies-off'=0;" in rest[-1]
    assert all("|" not in line for line in rest[:-1])
    (well,) = [line for line in rest if "TCPDOCTOR OK" in line]
    assert rest[-1].startswith(well.partition(" | ")[0])


def test_no_name_of_a_namespace_breaks_a_format(machine, blue, strange):
    plugin = machine.tcpdoctor(*ONE_RULE, "nagios").stdout
    assert plugin.count("|") == 2
    assert plugin.splitlines()[0].startswith("TCPDOCTOR WARNING - 1 of 7 ")
    data = re.findall(r"'([^'=]+)'=\S+", plugin.rpartition("|")[2])
    assert len(data) == len(set(data)) == 7 * 12
    series = [
        line.rpartition(" ")[0] for line in machine.tcpdoctor(*ONE_RULE, "prometheus").stdout.splitlines()
    ]
    series = [line for line in series if not line.startswith("#")]
    assert len(series) == len(set(series))
    assert len(ElementTree.fromstring(machine.tcpdoctor(*ONE_RULE, "junit").stdout)) == 7  # noqa: S314 - ours
    assert "# Network namespace q'\\<b\\>\\*\\_ (" in machine.tcpdoctor(*ONE_RULE, "markdown").stdout
    told = json.loads(machine.tcpdoctor(*ONE_RULE, "json").stdout)
    names = {check["host"]["namespace_name"] for check in told["checks"]}
    assert {"a b|c", "q'<b>*_", "e=1;2", "\ufffdz"} <= names


def test_one_that_goes_while_others_are_looked_at_is_not_missed(machine, blue):
    passing = [f"passing{number}" for number in range(11)]
    for name in passing:
        machine.add(name)
    question = ("check", "--window", "2", "--only", "syncookies-off", "--netns", "all", "--format", "json")
    command = [*machine.enter, *COMMAND, *question]
    look = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    wait_until_it_looks(look.pid)
    for name in passing:
        machine.delete(name)
    told, complaints = look.communicate(timeout=60)
    assert (look.returncode, complaints) == (1, b"")
    document = json.loads(told)
    assert (len(document["checks"]) >= 2, document["failed"]) == (True, [])


def test_namespaces_that_come_and_go_meanwhile_leave_no_contradiction(machine, blue):
    churn = """
n=0
while [ -e /run/churn ]; do
    n=$((n + 1))
    ip netns add come$n && ip netns exec come$n true; ip netns delete come$n
done"""
    machine.run("touch", "/run/churn")
    mover = subprocess.Popen([*machine.enter, "sh", "-c", churn], stderr=subprocess.DEVNULL)
    machine.servers.append(mover)
    try:
        for _ in range(7):
            done = machine.tcpdoctor(*ONE_RULE, "json")
            told = json.loads(done.stdout)
            numbers = [check["host"]["namespace"] for check in told["checks"]]
            assert (done.returncode, told["failed"], len(numbers)) == (1, [], len(set(numbers)))
            assert {check["host"]["namespace_name"] for check in told["checks"]} >= {None, "blue"}
    finally:
        machine.run("rm", "/run/churn")
        mover.wait(timeout=30)


def wait_until_it_looks(pid, depth=2):
    """Wait for the workers of the program that nsenter has started; return one of them."""
    deadline = time.monotonic() + 20
    while True:
        below = [pid]
        for _ in range(depth):
            below = [child for each in below for child in children_of(each)]
        if below:
            return below[0]
        assert time.monotonic() < deadline, "it does not look"
        time.sleep(0.01)


def children_of(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def test_what_cannot_be_said_of_several_namespaces_is_refused():
    assert "--netns all" in complaint(tcpdoctor("check", "--netns", "all", "--since-last", "last"))


def test_as_a_page_every_namespace_is_listed_and_linked(machine, blue):
    page = machine.tcpdoctor(*ONE_RULE, "html").stdout
    links = re.findall(r'href="#([^"]+)"', page)
    places = re.findall(r' id="([^"]+)"', page)
    assert set(links) <= set(places)
    assert len(places) == len(set(places))
    assert "network namespace blue (" in page


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("check", "--windw", "3"), "no option --windw"),
        (("check", "--config", "/nowhere"), "/nowhere: no such file"),
        (("check", "--only", "no-such-rule"), "no rule 'no-such-rule'"),
        (("check", "--output", "/nowhere/x"), "there is no folder /nowhere"),
        (("check", "--timeout", "0"), "is no time to wait"),
        (("schema",), "no option --netns"),
        (("explain",), "explain needs a question"),
    ],
)
def test_a_mistake_is_told_once_and_not_for_each_namespace(machine, blue, options, why):
    assert why in complaint(machine.tcpdoctor(*options, "--netns", "all"))


def test_a_plugin_tells_a_mistake_on_its_one_line(machine, blue):
    done = machine.tcpdoctor("check", "--netns", "all", "--format", "nagios", "--config", "/nowhere")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == "TCPDOCTOR UNKNOWN - /nowhere: no such file or directory\n"


def test_help_is_help(machine):
    assert machine.tcpdoctor("check", "--netns", "all", "--help").stdout.startswith("Usage: tcpdoctor check")


@pytest.mark.parametrize("kind", ["text", "json", "markdown"])
def test_quiet_has_nothing_to_say_where_nothing_is_wrong(machine, blue, kind):
    quiet = ("check", "--window", "0", "--netns", "all", "--quiet", "--format", kind, "--only")
    healthy = machine.tcpdoctor(*quiet, "abort-on-overflow")
    assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, "", "")
    sick = machine.tcpdoctor(*quiet, "syncookies-off")
    assert (sick.returncode, sick.stdout.count("namespace blue") <= 2, "syncookies" in sick.stdout) == (
        1,
        True,
        True,
    )
    if kind == "json":
        told = json.loads(sick.stdout)
        assert (len(told["checks"]), told["failed"]) == (1, [])


def test_a_timeout_bounds_all_looks_together(machine, blue):
    question = ("check", "--netns", "all", "--window", "0.5", "--timeout", "2", "--format", "nagios")
    command = [*machine.enter, *COMMAND, *question]
    look = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    worker = wait_until_it_looks(look.pid, 3)
    os.kill(worker, signal.SIGSTOP)  # as one that waits for a lock of the kernel
    told, complaints = look.communicate(timeout=60)
    assert (look.returncode, complaints) == (3, b"")
    said = "no answer within 2 s: it was still looking into the network namespaces"
    assert told.decode() == f"TCPDOCTOR UNKNOWN - {said}\n"
    in_time = machine.tcpdoctor(*ONE_RULE, "nagios", "--timeout", "30")
    assert (in_time.returncode, in_time.stdout.split("; ")[0]) == (
        1,
        "TCPDOCTOR WARNING - 1 of 2 network namespaces not OK: blue",
    )


def test_a_closed_standard_output_is_told(machine, blue):
    command = ("sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "states", "--netns", "all")
    done = machine.run(*command, stderr=subprocess.PIPE, env=environment())
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "standard output is closed" in done.stderr


@pytest.mark.parametrize("color", [(), ("--color", "always")])
def test_another_encoding_and_colours_pass_through(machine, blue, color):
    everything = ("states", "--netns", "all", *color)
    done = machine.run(
        *COMMAND, *everything, stdout=subprocess.PIPE, env=environment({"PYTHONIOENCODING": "latin-1"})
    )
    assert done.returncode == 0
    assert ("\x1b[" in done.stdout) is bool(color)

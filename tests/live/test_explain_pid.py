"""`explain --pid` on real processes: counts, ages, options and findings, as text and as JSON."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tcpdoctor.answers.process import look_at_processes, sockets_in_all
from tcpdoctor.cli.app import run
from tcpdoctor.kernel.reading import read_kernel_file
from tcpdoctor.kernel.standing import read_halt
from tcpdoctor.lab.closing import ended_and_not_closed
from tcpdoctor.lab.connecting import unanswered
from tcpdoctor.lab.keepalive import dead_server
from tcpdoctor.lab.loss import left_unread
from tcpdoctor.lab.pairs import connect_pair, listen, wait_until
from tcpdoctor.report.document import as_json
from tcpdoctor.report.page import page_text
from tcpdoctor.report.process_text import process_page
from tcpdoctor.report.style import PLAIN
from tests.cli.command import complaint, tcpdoctor
from tests.schemas import described

KEYS = [
    "schema", "host", "taken_at", "process", "states", "other_sockets", "peers", "options", "sockets",
    "dead_sockets", "findings", "unchecked", "missing", "stop", "place", "status", "too_early",
]  # fmt: skip
SERVER = """
import socket, sys
server = socket.create_server(("127.0.0.1", 8103), backlog=64)
held = []
for _ in range(int(sys.argv[1])):
    accepted, _ = server.accept()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
    held.append(accepted)
datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
sys.stdin.read()
"""


def ask(pid, *options):
    answer = tcpdoctor("explain", "--pid", str(pid), *(options or ("--long",)))
    assert answer.returncode == 0, answer
    return answer.stdout


def leaking_server(connections, closed, limits):
    """A server with connections, of which its clients have closed some; asked about from outside."""
    with ExitStack() as stack:
        command = [sys.executable, "-c", SERVER, str(connections)]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(server.wait)
        stack.callback(server.kill)
        clients = []

        def connects():
            try:
                clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", 8103))))
            except ConnectionRefusedError:
                return False
            return True

        wait_until(connects, "a listening server")
        while len(clients) < connections:
            connects()
        assert server.stdout.readline() == "ready\n"
        for client in clients[:closed]:
            client.close()
        report = json.loads(ask(server.pid, "--format", "json"))
        return server.pid, report, ask(server.pid)


def test_says_what_a_process_holds_and_which_options_it_set(in_namespace):
    pid, report, text = in_namespace(leaking_server, 23, 7, None)
    assert list(report) == KEYS
    assert (report["process"]["pid"], report["process"]["uid"]) == (pid, os.geteuid())
    states = {state: group["sockets"] for state, group in report["states"].items()}
    assert states == {"established": 16, "close_wait": 7, "listen": 1}
    oldest = report["states"]["close_wait"]["oldest"]
    assert 0 <= oldest["at_least_s"] <= oldest["at_most_s"] < 60
    assert report["other_sockets"] == 1, "the datagram socket"
    assert report["peers"] == [{"peer": "from 127.0.0.1", "sockets": 23, "connecting": 0}]
    accepted, listener = report["options"]
    assert (accepted["sockets"], accepted["listening"]) == (23, False)
    assert accepted["options"]["SO_KEEPALIVE"] is True
    assert accepted["options"]["TCP_KEEPIDLE"] == 77
    assert (listener["sockets"], listener["listening"]) == (1, True)
    assert listener["options"]["SO_KEEPALIVE"] is False
    assert listener["options"]["SO_REUSEADDR"] is True
    assert len(report["sockets"]) == 24
    assert "CLOSE_WAIT          7" in text
    assert "23 connections: SO_REUSEADDR=on" in text
    assert max(map(len, text.splitlines())) <= 80


def own_accept_queue():
    """This process listens and does not accept."""
    with ExitStack() as stack:
        server = listen(stack, backlog=1)
        for _ in range(2):
            stack.enter_context(socket.create_connection(server.getsockname()))
        found = json.loads(ask(os.getpid(), "--format", "json"))
        checked = json.loads(tcpdoctor("check", "--format", "json").stdout)
    return [severities_of(report) for report in (found, checked)]


def severities_of(report):
    return {finding["rule"]: finding["severity"] for finding in report["findings"]}


def test_findings_are_those_of_check_about_its_own_listeners(in_namespace):
    found, checked = in_namespace(own_accept_queue)
    assert found["accept-queue-full"] == "critical"
    assert found.items() <= checked.items()


def dials_that_nobody_answers():
    with unanswered(7):
        wait_for_finding("syn-sent-unanswered")
        found = wait_for_finding("syn-sent-unanswered")  # by now each SYN was sent again
        text, checked = ask(os.getpid()), tcpdoctor("check", "--format", "json").stdout
    return found, text, json.loads(checked)


def wait_for_finding(rule):
    """Ask until the rule fires."""
    reports = []

    def fires():
        reports.append(json.loads(ask(os.getpid(), "--format", "json")))
        return rule in severities_of(reports[-1])

    wait_until(fires, rule, 40)
    return reports[-1]


def test_a_finding_about_a_destination_that_names_the_process_is_shown(in_namespace):
    found, text, checked = in_namespace(dials_that_nobody_answers)
    (peer,) = [one for one in found["peers"] if one["peer"].startswith("to ")]
    assert (peer["sockets"], peer["connecting"]) == (7, 7)
    state = found["states"]["syn_sent"]
    assert (state["sockets"], state["unanswered"], state["unacknowledged_bytes"]) == (7, 7, 0)
    assert "7 (not connected yet: SYN_SENT)" in text
    assert severities_of(found).items() <= severities_of(checked).items()
    assert "No finding" not in text
    assert "get no answer" in " ".join(text.split())


def healthy_beside_a_sick_one():
    with ExitStack() as stack:
        server = listen(stack, backlog=1)
        for _ in range(2):
            stack.enter_context(socket.create_connection(server.getsockname()))
        child = stack.enter_context(
            subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=True)
        )
        answer = json.loads(ask(child.pid, "--format", "json"))
        child.kill()
    return answer["findings"], answer["states"]


def test_findings_of_other_processes_are_left_out(in_namespace):
    assert in_namespace(healthy_beside_a_sick_one) == ([], {})


def in_another_namespace():
    with ExitStack() as stack:
        server = listen(stack)
        connect_pair(stack, server)
        inner = subprocess.run(
            ["unshare", "--net", *(sys.executable, "-m", "tcpdoctor"), "explain", "--pid", str(os.getpid())],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    return inner.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="entering one more namespace needs root")
def test_a_process_of_another_namespace_is_not_called_idle(in_namespace):
    text = " ".join(in_namespace(in_another_namespace).split())
    assert "lives in another network namespace" in text
    assert "0 TCP sockets in this network namespace, its own is another" in text
    pid = text.split("(pid ")[1].split(",")[0]
    assert f"--netns {pid}" in text
    assert f"kill {pid}" not in text  # it holds nothing here: nobody asks how to end it


@pytest.mark.parametrize("pid", ["0", "-3", "4194305", "seven"])
def test_a_process_that_does_not_exist_is_one_line(pid):
    assert "--pid" in complaint(tcpdoctor("explain", f"--pid={pid}"))


THREADED = """
import socket, threading, time
server = socket.create_server(("127.0.0.1", 8104))
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
time.sleep(60)
"""


def a_thread():
    with subprocess.Popen([sys.executable, "-c", THREADED], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        thread = max(map(int, os.listdir(f"/proc/{server.pid}/task")))
        report, text = json.loads(ask(thread, "--format", "json")), ask(thread)
        server.kill()
    return server.pid, thread, report, text


def test_the_number_of_a_thread_is_answered_for_its_process(in_namespace):
    pid, thread, report, text = in_namespace(a_thread)
    assert thread != pid
    assert (report["process"]["pid"], report["process"]["thread"]) == (pid, thread)
    assert list(report["states"]) == ["listen"]
    assert f"{thread} is one of its threads." in text


def a_zombie():
    with subprocess.Popen(["true"]) as child:
        wait_until(lambda: b") Z " in read_kernel_file(f"/proc/{child.pid}/stat"), "a zombie")
        return ask(child.pid), json.loads(ask(child.pid, "--format", "json"))["process"]["kind"]


def test_a_zombie_is_called_one(in_namespace):
    text, kind = in_namespace(a_zombie)
    assert text.startswith("ENDED  ")
    assert "has ended and holds nothing" in text
    assert kind == "zombie"


def with_sockets_in_no_state():
    unbound = [socket.socket() for _ in range(3)]
    text = ask(os.getpid())
    return len(unbound), text


def test_sockets_that_no_list_of_the_kernel_has_are_not_called_foreign(in_namespace):
    number, text = in_namespace(with_sockets_in_no_state)
    assert f"{number} sockets more" in text
    assert "in no state (not bound, or reset)" in " ".join(text.split())


def with_seven_kinds_of_options():
    with ExitStack() as stack:
        server = listen(stack)
        for seconds in range(7):
            client = stack.enter_context(socket.create_connection(server.getsockname()))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * seconds + 1)
        return ask(os.getpid())


def test_many_kinds_of_options_still_fit_one_screen(in_namespace):
    text = in_namespace(with_seven_kinds_of_options)
    assert all(f"TCP_USER_TIMEOUT={seconds}001ms" in text for seconds in range(1, 7))
    assert len(text.splitlines()) <= 45


def nobody_acknowledges():
    with dead_server(5):
        return json.loads(ask(os.getpid(), "--format", "json")), ask(os.getpid())


def test_what_is_sent_again_is_no_data_and_what_nobody_acknowledged_is_told(in_namespace):
    report, text = in_namespace(nobody_acknowledges)
    state = report["states"]["established"]
    assert (state["sockets"], state["unanswered"]) == (10, 5)
    assert state["unacknowledged_bytes"] == 5 * len(b"request")
    assert 0.3 < state["unanswered_s"] < 30
    assert "5 sent again without an answer" in " ".join(text.split())
    # the deaf ends hear nothing: only they are idle
    assert state["most_idle_s"] > 0.3


def nobody_reads():
    with left_unread(7, size=1009):
        return json.loads(ask(os.getpid(), "--format", "json")), ask(os.getpid())


def test_what_a_process_has_not_read_is_told(in_namespace):
    report, text = in_namespace(nobody_reads)
    assert report["states"]["established"]["unread_bytes"] == 7 * 1009
    assert "not read by the process" in " ".join(text.split())


def connections_that_are_over():
    with ended_and_not_closed(67):
        return json.loads(ask(os.getpid(), "--format", "json")), ask(os.getpid())


def test_connections_that_are_over_and_not_closed_are_told(in_namespace):
    report, text = in_namespace(connections_that_are_over)
    assert report["dead_sockets"]["sockets"] == 67
    assert report["dead_sockets"]["every"] == 1
    assert report["other_sockets"] == 67
    assert "67 connections are over (reset, or timed out)" in " ".join(text.split())
    assert "sockets more" not in text, "there are no others"


def as_nobody(folder, pid):
    """Root's process, as another user asks about it."""
    folder.chmod(0o777)
    question = ["explain", "--pid", str(pid), "--format", "json", "--output"]
    with socket.create_server(("127.0.0.1", 7001)):
        with tempfile.TemporaryDirectory() as own:  # imports what lies where only root may read
            assert run([*question, str(Path(own) / "warm")]) == 0
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os._exit(run([*question, str(folder / "answer")]))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_another_users_process_hides_is_null_with_the_reason(in_namespace):
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to other users
            folder = Path(name)
            assert in_namespace(as_nobody, folder, sleeper.pid) == 0
            report = described((folder / "answer").read_text())
    finally:
        sleeper.kill()
        sleeper.wait()
    assert (report["process"]["name"], report["process"]["uid"]) == ("sleep", 0)
    for key in ("states", "sockets", "peers", "options", "findings", "dead_sockets", "other_sockets"):
        assert report[key] is None, key
        assert report["missing"][key], key
    assert "run as root" in report["missing"]["sockets"]


def two_of_a_kind():
    with ExitStack() as stack:
        server = listen(stack)
        connect_pair(stack, server)
        child = stack.enter_context(subprocess.Popen(["sleep", "60"]))
        stack.callback(child.kill)
        pids = [os.getpid(), child.pid, os.getpid()]
        return look_at_processes(pids), look_at_processes(pids[:1], shortly=True)


def test_several_processes_are_answered_one_behind_the_other(in_namespace):
    answers, _ = in_namespace(two_of_a_kind)
    assert [sockets_in_all(answer) for answer in answers.processes] == [3, 0]
    document = described(json.dumps(as_json(answers)))
    assert [one["process"]["name"] for one in document["processes"]][1] == "sleep"
    text = page_text(process_page(answers, PLAIN, long=False), PLAIN)
    assert text.count("\nOK  ") + text.startswith("OK  ") == 2
    assert [text.count(f"\n {label} ") for label in ("more", "end")] == [1, 1]
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) <= 24


def test_for_the_short_page_options_are_not_asked_and_only_listeners_are_told(in_namespace):
    answers, brief = in_namespace(two_of_a_kind)
    whole = next(one for one in answers.processes if one.process.pid == brief.process.pid)
    assert [row.state for row in whole.sockets] == ["listen", "established", "established"]
    assert [(row.state, row.local) for row in brief.sockets] == [("listen", whole.sockets[0].local)]
    assert (bool(whole.options), brief.options) == (True, ())
    same = ("peers", "other_sockets", "dead_sockets", "findings", "stop", "place", "status", "too_early")
    assert [getattr(brief, name) for name in same] == [getattr(whole, name) for name in same]
    assert {state: group.sockets for state, group in brief.states.items()} == {
        state: group.sockets for state, group in whole.states.items()
    }


FORKING = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", 8104))
child = os.fork()
if child == 0:
    server.accept()
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
"""


def worker_and_stopped_server():
    with ExitStack() as stack:
        command = [sys.executable, "-c", FORKING]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(server.wait)
        stack.callback(server.kill)
        worker = int(server.stdout.readline())
        stack.callback(os.kill, worker, signal.SIGKILL)
        (of_worker, of_server) = (look_at_processes([pid]).stop for pid in (worker, server.pid))
        text = ask(worker, "--format", "text")
        os.kill(server.pid, signal.SIGSTOP)
        wait_until(lambda: read_halt(server.pid) == "stopped", "the server is stopped")
        halted = look_at_processes([server.pid]).stop
        port = " ".join(tcpdoctor("explain", "8104").stdout.split())
        asked = ask(server.pid, "--format", "text")
        return server.pid, worker, of_worker, of_server, text, halted, port, asked


def test_of_a_worker_the_process_that_began_it_is_to_be_stopped(in_namespace):
    server, worker, of_worker, of_server, text, *_ = in_namespace(worker_and_stopped_server)
    assert (of_worker.pid, of_worker.commands) == (server, (f"kill {server} {worker}",))  # it has no handler
    assert (of_server.pid, of_server.halted) == (server, None)
    assert f"`kill {server} {worker}`; pid {server} began it" in " ".join(text.split()), text
    assert worker != server


def test_a_stopped_process_is_said_to_be_stopped(in_namespace):
    server, _, _, _, _, halted, port, asked = in_namespace(worker_and_stopped_server)
    assert halted.halted == "stopped"
    assert asked.startswith("STOPPED  ")
    assert f"`kill -CONT {server}` lets it go on" in port
    assert f"`kill -CONT {server}` lets it go on" in " ".join(asked.split())


@pytest.mark.parametrize(
    ("state", "waits", "halt"),
    [
        ("S", "do_epoll_wait", None),
        ("T", "do_signal_stop", "stopped"),
        ("t", "ptrace_stop", "traced"),
        ("S", "do_freezer_trap.isra.0", "frozen"),
        ("S", "get_signal", "frozen"),
        ("D", "__refrigerator", "frozen"),
        ("D", "folio_wait_bit_common", "waiting"),
        ("R", "0", None),
    ],
)
def test_what_keeps_a_process_from_running_is_read(tmp_path, state, waits, halt):
    folder = tmp_path / "811"
    folder.mkdir()
    (folder / "stat").write_text(f"811 (a) T b) {state} 1 811 811 0 -1 4194304\n")
    (folder / "wchan").write_text(waits)
    assert read_halt(811, str(tmp_path)) == halt
    assert read_halt(812, str(tmp_path)) is None

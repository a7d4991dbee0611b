"""`tcpdoctor sockets` on real sockets: which are listed, whose they are, and what is said of them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tcpdoctor.cli.app import run
from tcpdoctor.kernel.listing import lists_bound_sockets
from tcpdoctor.lab.closing import close_wait, close_wait_not_accepted
from tcpdoctor.lab.connecting import connections
from tcpdoctor.lab.keepalive import dead_server
from tcpdoctor.lab.pairs import wait_until
from tests.cli.command import complaint, tcpdoctor

from .checks import lines_of

NOBODY = 65534


def listed(*options, **how):
    done = tcpdoctor("sockets", "--format", "json", *options, **how)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout, parse_constant=pytest.fail)


# which sockets, and whose


def leaking():
    with close_wait(23, read_end=7) as sockets:
        port = sockets[0].getpeername()[1]
        ends = sorted("{}:{}".format(*sock.getsockname()) for sock in sockets)
        fds = sorted(sock.fileno() for sock in sockets)
        time.sleep(0.3)
        answer = listed("--state", "close-wait")
        text = tcpdoctor("sockets", "--state", "CLOSE_WAIT", "--peer-port", port, "--options").stdout
        by_port = listed("--port", port, "--state", "fin-wait-2,listen")["total"]
        by_peer_port = listed("--peer-port", port)["total"]
        counted = [
            lines_of(f"ss -Htn state close-wait dport = :{port}"),
            lines_of(f"ss -Htan sport = :{port}"),
        ]
    return answer, text, ends, fds, (by_port, by_peer_port), counted, os.getpid()


def test_every_socket_in_a_state_is_listed_with_its_owner_age_and_queues(in_namespace):
    answer, text, ends, fds, (by_port, by_peer_port), counted, pid = in_namespace(leaking)
    rows = answer["sockets"]
    assert counted == [23, 24]
    assert (answer["schema"], answer["total"], len(rows)) == ("tcpdoctor.sockets/1", 23, 23)
    assert (by_port, by_peer_port) == (24, 23)
    assert sorted(row["local"] for row in rows) == ends
    assert sorted(row["owner"]["fd"] for row in rows) == fds
    assert {(row["owner"]["pid"], row["owner"]["uid"], row["uid"]) for row in rows} == {(pid, 0, 0)}
    assert sorted(row["receive_queue"] for row in rows) == [0] * 7 + [1] * 16
    assert all(0.2 <= row["age"]["at_least_s"] <= row["age"]["at_most_s"] < 30 for row in rows)
    assert all(row["rtt_s"] is None or row["rtt_s"] > 0 for row in rows)
    assert len({row["cookie"] for row in rows}) == 23
    assert text.startswith(f"{os.uname().nodename}: 23 TCP sockets\n")
    rows = [line.split() for line in text.splitlines() if line.startswith("CLOSE_WAIT")]
    assert len(rows) == 23
    if "STATE " in text:  # one row each, where pids and ports are short enough for it
        assert sorted(row[-2] for row in rows) == ["0"] * 7 + ["1"] * 16  # received, not read
    else:
        assert " ".join(text.split()).count("end of file read") == 7
    assert max(map(len, text.splitlines())) <= 80


SPELLINGS = {
    "established": ("ESTAB", "established", "ESTABLISHED"),
    "close_wait": ("CLOSE_WAIT", "close-wait", "CLOSEWAIT", "closewait"),
    "fin_wait_2": ("FIN_WAIT_2", "fin-wait-2", "FIN_WAIT2", "FINWAIT2"),
    "listen": ("LISTEN", "listening"),
    "bound": ("bound", "bound-inactive"),
}


def one_of_each():
    with close_wait(1), socket.socket() as bound, socket.create_server(("127.0.0.1", 7001)) as server:
        bound.bind(("127.0.0.1", 7003))
        with socket.create_connection(server.getsockname()), server.accept()[0]:
            return {
                name: [row["state"] for row in listed("--state", name)["sockets"]]
                for names in SPELLINGS.values()
                for name in names
            }


def test_a_state_may_be_spelt_in_any_usual_way(in_namespace):
    found = in_namespace(one_of_each)
    if not lists_bound_sockets():
        assert [found.pop(name) for name in SPELLINGS["bound"]] == [[], []]
    for key, names in SPELLINGS.items():
        for name in found.keys() & set(names):
            assert set(found[name]) == {key}, name
            assert len(found[name]) == len(found[names[0]])


def test_a_state_that_does_not_exist_is_refused_with_the_nearest():
    assert "CLOSE_WAIT" in complaint(tcpdoctor("sockets", "--state", "closewayt"))
    assert "CLOSED" in complaint(tcpdoctor("sockets", "--state", "closed"))
    assert "did you mean CLOSE_WAIT" in complaint(tcpdoctor("sockets", "--state", "listen,closewayt"))


def waiting_for_accept():
    with (
        close_wait_not_accepted(5),
        socket.create_server(("::1", 7001), family=socket.AF_INET6) as server,
        socket.create_connection(("::1", 7001)),
    ):
        wait_until(lambda: lines_of("ss -Htn state established sport = :7001") == 1, "a connection", 5)
        rows = listed("--state", "established", "--port", 7001)["sockets"]
        return rows, tcpdoctor("sockets").stdout, server.getsockname()[:2]


def test_a_connection_that_nobody_accepted_says_so(in_namespace):
    (row,), text, (address, port) = in_namespace(waiting_for_accept)
    assert (row["local"], row["owner"], row["inode"]) == (f"[{address}]:{port}", None, 0)
    assert "owner" not in row["missing"]
    assert text.count("not accepted yet") == 6
    assert f"LISTEN       [::1]:{port}\n" in text
    assert "accept queue 1 of " in text


def unanswered():
    with (
        socket.create_server(("127.0.0.1", 7001), backlog=0) as server,
        socket.create_connection(server.getsockname()),
        socket.socket() as late,
    ):
        late.setblocking(False)
        late.connect_ex(server.getsockname())
        return listed("--state", "syn-sent")["sockets"], tcpdoctor("sockets", "--state", "SYN_SENT").stdout


def test_what_was_never_measured_is_null_and_a_syn_is_no_data(in_namespace):
    (row,), text = in_namespace(unanswered)
    assert (row["rtt_s"], row["timer"], row["send_queue"]) == (None, "retransmit", 1)
    assert "measured" in row["missing"]["rtt_s"]
    assert "unsent" not in text
    assert "retransmission in" in " ".join(text.split())


# options


def with_options():
    with socket.create_server(("127.0.0.1", 7001)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5003)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\7\0\0\0")
        before = (os.get_blocking(server.fileno()), sorted(os.listdir("/proc/self/fd")))
        (row,) = listed("--options", "--port", 7001)["sockets"]
        text = tcpdoctor("sockets", "--options", "--port", 7001).stdout
        plain = tcpdoctor("sockets", "--port", 7001).stdout
        after = (os.get_blocking(server.fileno()), sorted(os.listdir("/proc/self/fd")))
        room = server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return row, text, plain, room, before == after


def test_options_are_those_that_the_process_set_and_asking_changes_nothing(in_namespace):
    row, text, plain, room, unchanged = in_namespace(with_options)
    options = row["options"]
    assert unchanged
    assert (options["SO_REUSEADDR"], options["SO_REUSEPORT"], options["SO_KEEPALIVE"]) == (True, False, True)
    assert (options["TCP_KEEPIDLE"], options["TCP_USER_TIMEOUT"]) == (77, 5003)
    assert options["SO_LINGER"] == {"on": True, "seconds": 7}
    assert options["SO_RCVBUF"] == room
    assert options["IPV6_V6ONLY"] is None
    assert "options.IPV6_V6ONLY" in row["missing"]
    for word in ("TCP_KEEPIDLE=77s", "TCP_USER_TIMEOUT=5003ms", "SO_LINGER=on,7s"):
        assert word in text
    assert "TCP_KEEPIDLE" not in plain


# one process


PROGRAM = """
import ctypes, socket, sys, time
if sys.argv[1] == "elsewhere":
    assert ctypes.CDLL(None).unshare(0x40000000) == 0
servers = [socket.create_server(("0.0.0.0", port)) for port in (7011, 7012)]
print("ready", flush=True)
time.sleep(60)
"""


def two_processes():
    with (
        socket.create_server(("127.0.0.1", 7001)),
        subprocess.Popen([sys.executable, "-c", PROGRAM, "here"], stdout=subprocess.PIPE) as here,
        subprocess.Popen([sys.executable, "-c", PROGRAM, "elsewhere"], stdout=subprocess.PIPE) as elsewhere,
    ):
        assert here.stdout.readline() == elsewhere.stdout.readline() == b"ready\n"
        answers = [listed("--pid", process.pid) for process in (here, elsewhere)]
        text = tcpdoctor("sockets", "--pid", elsewhere.pid).stdout
        everything = listed()["total"]
        gone = elsewhere.pid
        for process in (here, elsewhere):
            process.kill()
    return answers, text, everything, tcpdoctor("sockets", "--pid", gone), gone


def test_one_process_has_its_own_sockets_only(in_namespace):
    (here, _), _, everything, _, _ = in_namespace(two_processes)
    assert everything == 3
    assert sorted(row["local"] for row in here["sockets"]) == ["0.0.0.0:7011", "0.0.0.0:7012"]
    assert (here["total"], here["missing"]) == (2, {})


def test_a_process_in_another_network_namespace_is_not_said_to_have_none(in_namespace):
    (_, elsewhere), text, _, _, pid = in_namespace(two_processes)
    assert elsewhere["total"] == 0
    assert "another network namespace" in elsewhere["missing"]["sockets"]
    assert f"tcpdoctor sockets --netns {pid}" in elsewhere["missing"]["sockets"]
    assert "another network namespace" in " ".join(text.split())


def test_a_process_that_is_gone_is_a_complaint(in_namespace):
    *_, gone, pid = in_namespace(two_processes)
    assert f"no process {pid}" in complaint(gone)


# without root


def as_nobody(folder):
    """Root's listener, as another user's `sockets` lists it."""
    (folder / "warm").mkdir(mode=0o755)  # as root it writes in folders of root alone
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    folder.chmod(0o755)
    question = ["sockets", "--options", "--format", "json", "--output"]
    with socket.create_server(("127.0.0.1", 7001)):
        # imports what lies where only root may read
        assert run([*question, str(folder / "warm" / "answer")]) == 0
        child = os.fork()
        if child == 0:
            for descriptor in range(3, 64):
                with contextlib.suppress(OSError):
                    os.close(descriptor)  # what was inherited would be its own
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os._exit(run([*question, str(folder / "open" / "answer")]))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_an_ordinary_user_may_not_see_is_null_with_the_reason(in_namespace):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to other users
        folder = Path(name)
        assert in_namespace(as_nobody, folder) == 0
        (row,) = json.loads((folder / "open" / "answer").read_text())["sockets"]
        (seen,) = json.loads((folder / "warm" / "answer").read_text())["sockets"]
    assert (row["local"], row["uid"], row["owner"], row["options"]) == ("127.0.0.1:7001", 0, None, None)
    assert "run as root" in row["missing"]["owner"]
    assert "run as root" in row["missing"]["options"]
    assert (seen["inode"], seen["cookie"]) == (row["inode"], row["cookie"])
    assert seen["owner"] is not None


def test_a_namespace_without_sockets_is_empty_and_not_an_error(in_namespace):
    answer = in_namespace(listed)
    hidden = set() if lists_bound_sockets() else {"bound"}
    assert (answer["total"], answer["sockets"], set(answer["missing"])) == (0, [], hidden)


def towards_two_servers():
    with (
        socket.create_server(("127.0.0.1", 7001)) as one,
        socket.create_server(("::", 7003), family=socket.AF_INET6, dualstack_ipv6=True),
        contextlib.ExitStack() as stack,
    ):
        for server, number in ((one.getsockname(), 3), (("127.0.0.1", 7003), 5), (("::1", 7003), 7)):
            for _ in range(number):
                stack.enter_context(socket.create_connection(server[:2]))
        asked = ["127.0.0.1", "127.0.0.1:7001", "::1", "[::1]", "[::1]:7003", "::ffff:127.0.0.1", "10.0.0.1"]
        totals = {peer: listed("--peer", peer, "--state", "established")["total"] for peer in asked}
        totals["listen"] = listed("--peer", "::", "--state", "listen")["total"]
    return totals


def test_a_peer_is_an_address_or_one_end_and_a_mapped_one_is_ipv4(in_namespace):
    assert in_namespace(towards_two_servers) == {
        "127.0.0.1": 16,
        "127.0.0.1:7001": 3,
        "::1": 14,
        "[::1]": 14,
        "[::1]:7003": 7,
        "::ffff:127.0.0.1": 16,
        "10.0.0.1": 0,
        "listen": 0,
    }


@pytest.mark.parametrize(
    "peer", ["host", "1.2.3", "1.2.3.4:", "1.2.3.4:0", "[::1", "[::1]80", "::1]", "x:80", "", " "]
)
def test_what_is_no_peer_is_refused(peer):
    done = tcpdoctor("sockets", "--peer", peer)
    assert complaint(done).startswith("tcpdoctor sockets: --peer ")


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
def test_what_is_no_age_is_refused(seconds):
    assert "--older" in complaint(tcpdoctor("sockets", "--older", seconds))


def old_and_young():
    with close_wait(7):
        time.sleep(1.5)
        with close_wait(5):
            old = listed("--state", "close-wait", "--older", "1.2")
            ancient = listed("--state", "close-wait", "--older", "600")
            untold = listed("--state", "listen", "--older", "0.1")
            text = tcpdoctor("sockets", "--state", "listen", "--older", "0.1").stdout
    return old, ancient, untold, text


def test_only_what_is_known_to_be_so_old_is_listed_and_the_rest_counted(in_namespace):
    old, ancient, untold, text = in_namespace(old_and_young)
    assert (old["total"], len(old["sockets"]), old["missing"]) == (7, 7, {})
    assert all(row["age"]["at_least_s"] >= 1.2 for row in old["sockets"])
    assert (ancient["total"], ancient["missing"]) == (0, {})
    assert untold["total"] == 0
    assert "whether they are that old" in untold["missing"]["older"]
    assert "Not known: older: of " in text


# idle times


def idle_and_busy():
    with dead_server(3), connections(5):
        rows = listed("--state", "established")["sockets"]
        return [(row["timer"], row["idle_s"]) for row in rows], tcpdoctor("sockets").stdout


def test_an_established_connection_says_how_long_it_is_idle_unless_data_is_outstanding(in_namespace):
    rows, text = in_namespace(idle_and_busy)
    idle = [seconds for timer, seconds in rows if timer is None]
    assert len(idle) == 13
    assert all(0 <= seconds < 30 for seconds in idle)
    assert [seconds for timer, seconds in rows if timer == "retransmit"] == [None] * 3
    assert text.count("idle for") == 13

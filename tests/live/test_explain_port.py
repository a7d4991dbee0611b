"""`explain --port` on real sockets, through the command that users run."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from tcpdoctor.diagnosis.port import answer, parse_target
from tcpdoctor.diagnosis.port_verdict import verdict
from tcpdoctor.kernel.port_evidence import read_port_evidence
from tests.cli.command import COMMAND, complaint, environment, tcpdoctor
from tests.live.port_holders import (
    Recipe,
    Stage,
    accepted_beside_listener,
    bound,
    close_wait,
    fin_wait_1_orphan,
    fin_wait_2_mini,
    hold_port,
    last_ack_orphan,
    listening,
    outgoing,
    time_wait,
)

PORT = 8101
KEYS = [
    "schema", "port", "address", "family", "protocol", "host", "taken_at", "bind", "advice", "listeners",
    "states", "as_local", "as_remote", "findings",
]  # fmt: skip
BIND_KEYS = ["attempts", "probed", "cause", "free_in_s", "blockers_total", "blockers"]
BLOCKER_KEYS = [
    "state", "local", "remote", "owner", "reuseaddr", "reuseport", "timer", "expires_s", "why",
]  # fmt: skip
AFTER_CLOSING_FIRST = (
    r"^TCP port 8101 cannot be bound for another (60|5[789]) s: one TIME_WAIT connection of the previous "
    r"server, which closed first, still holds it; nothing is listening\."
)
ATTEMPTS = [[], ["SO_REUSEADDR"], ["SO_REUSEPORT"], ["SO_REUSEADDR", "SO_REUSEPORT"]]


def recipe(way: Callable[[Stage], None], address: str, *, reuseaddr: bool = True) -> Recipe:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return Recipe(way, family, address, os.geteuid(), reuseaddr, reuseport=False, v6only=False)


def ask(held: Recipe | None, *arguments: object, port: int = PORT) -> tuple[str, dict[str, Any]]:
    """The text and the object for a port that is held in this way."""
    stage = hold_port(held, port) if held else None
    text = tcpdoctor("explain", "--port", port, "--long", *arguments)
    answer = tcpdoctor("explain", "--port", port, *arguments, "--format", "json")
    if stage:
        stage.open.close()
    assert text.returncode == answer.returncode == 0, text.stderr + answer.stderr
    assert text.stderr == answer.stderr == ""
    return text.stdout, json.loads(answer.stdout)


def timeless(sentence):
    """The two looks are a moment apart: before its first retransmission an orphan has no foreseeable end."""
    return re.sub(r" for (some|another|at least) \S+( to \S+)? (s|min)\b", "", sentence)


@pytest.mark.parametrize(
    ("way", "address", "cause", "sentence"),
    [
        (listening, "0.0.0.0", "listener", r"python\S* \(pid \d+\S*\) listens on 0\.0\.0\.0:8101"),
        (listening, "127.0.0.1", "listener", r"listens on 127\.0\.0\.1:8101"),
        (listening, "::", "dual-stack-listener", r"listens on \[::\]:8101 for IPv4 as well"),
        (bound, "127.0.0.1", "bound-socket", r"bound 127\.0\.0\.1:8101 and neither listens nor connects"),
        (close_wait, "127.0.0.1", "live-connections", r"one connection in CLOSE_WAIT of python"),
        (fin_wait_1_orphan, "127.0.0.1", "live-connections", r"in FIN_WAIT_1 that no process holds"),
        (last_ack_orphan, "127.0.0.1", "live-connections", r"in LAST_ACK that no process holds"),
        (
            fin_wait_2_mini,
            "127.0.0.1",
            "fin-wait-2-orphan",
            r"at least (60|5[789]) s: one FIN_WAIT_2 orphan",
        ),
        (time_wait, "127.0.0.1", "time-wait", AFTER_CLOSING_FIRST),
    ],
)
def test_each_cause_is_named_first_in_the_long_form(in_namespace, way, address, cause, sentence):
    text, answer = in_namespace(ask, recipe(way, address))
    headline, says = (" ".join(part.split()) for part in text.split("\n\n")[:2])
    assert re.search(sentence, says), says
    assert timeless(says) == timeless(answer["bind"]["says"])
    assert headline == " ".join(answer["headline"].split())
    assert answer["verdict"] == "busy"
    assert answer["bind"]["cause"] == cause
    assert answer["bind"]["attempts"][0] == {
        "options": [], "bind": "EADDRINUSE", "listen": None, "certain": True, "fails": True
    }  # fmt: skip
    assert max(map(len, text.splitlines())) <= 80
    assert "What to do" in text
    assert "What does not help" in text


def ask_short(held: Recipe) -> str:
    with hold_port(held, PORT).open:
        return tcpdoctor("explain", "--port", PORT).stdout


@pytest.mark.parametrize(
    ("way", "address", "lines"),
    [
        (
            listening,
            "::1",
            ("PARTLY  TCP port 8101: 0.0.0.0 is free, :: is not: python", " on ::: any"),
        ),
        (listening, "0.0.0.0", ("BUSY  TCP port 8101: python", " now   any options          EADDRINUSE")),
        (time_wait, "127.0.0.1", ("BUSY  TCP port 8101: 1 TIME_WAIT of the old server; nothing", "without")),
    ],
)
def test_the_short_form_says_now_do_not_who_and_udp_on_one_screen(in_namespace, way, address, lines):
    text = in_namespace(ask_short, recipe(way, address))
    assert text.startswith(lines[0])
    assert lines[1] in text
    keys = [line[:6].strip() for line in text.splitlines()[1:] if line[:6].strip()]
    assert keys == ["now", "do", "not", "who", "udp", "more"]
    assert len(text.splitlines()) <= 22
    assert max(map(len, text.splitlines())) <= 80


def test_the_object_has_the_keys_of_the_contract_in_their_order(in_namespace):
    _, answer = in_namespace(ask, recipe(time_wait, "127.0.0.1"))
    assert list(answer)[: len(KEYS)] == KEYS
    assert answer["schema"] == "tcpdoctor.port/1"
    assert (answer["port"], answer["address"], answer["family"], answer["protocol"]) == (
        PORT, "0.0.0.0", "ipv4", "tcp"
    )  # fmt: skip
    found = answer["bind"]
    assert list(found)[: len(BIND_KEYS)] == BIND_KEYS
    assert [attempt["options"] for attempt in found["attempts"]] == ATTEMPTS
    (blocker,) = found["blockers"]
    assert list(blocker)[: len(BLOCKER_KEYS)] == BLOCKER_KEYS
    assert blocker["state"] == "time_wait"
    assert blocker["local"] == f"127.0.0.1:{PORT}"
    assert (blocker["owner"], blocker["reuseaddr"], blocker["timer"]) == (None, None, "timewait")
    assert 55 < found["free_in_s"] <= 60
    assert blocker["expires_s"] == found["free_in_s"]
    assert (answer["as_local"], answer["as_remote"]) == (1, 0)
    assert answer["states"]["time_wait"] == 1


def test_an_ephemeral_port_taken_by_a_client_is_told_from_a_server(in_namespace):
    text, answer = in_namespace(ask_about_a_client)
    assert answer["bind"]["cause"] == "outgoing-connection"
    assert "ip_local_reserved_ports" in text
    assert "got it as ephemeral port" in text


def ask_about_a_client():
    with hold_port(recipe(outgoing, "127.0.0.1", reuseaddr=False), 40_123).open:
        return ask(None, port=40_123)


def test_a_free_port_is_free_and_one_in_the_ephemeral_range_comes_with_a_warning(in_namespace):
    text, answer = in_namespace(ask, None)
    assert text.startswith(f"FREE  TCP port {PORT} (0.0.0.0 and ::), UDP free")
    assert (answer["verdict"], answer["bind_ipv6"]["verdict"]) == ("free", "free")
    assert answer["bind"]["cause"] is None
    assert [(a["bind"], a["listen"], a["certain"]) for a in answer["bind"]["attempts"]] == [
        ("ok", "ok", True)
    ] * 4
    assert answer["advice"] == []
    text, _ = in_namespace(ask, None, port=40_000)
    assert "lies in ip_local_port_range" in text


def test_an_address_of_somebody_else_is_said_to_be_so(in_namespace):
    text, answer = in_namespace(ask, None, "--address", "192.0.2.1")
    assert answer["bind"]["cause"] == "address-not-local"
    assert {a["bind"] for a in answer["bind"]["attempts"]} == {"EADDRNOTAVAIL"}
    assert text.startswith(f"NOT HERE  TCP port {PORT} on 192.0.2.1: 192.0.2.1 is no address of this host")
    assert answer["bind_ipv6"] is None
    assert "address" in answer["missing"]["bind_ipv6"]


def test_a_port_that_needs_privilege_is_not_called_busy_and_whoever_has_it_is_named(in_namespace):
    def look(held: Recipe | None) -> str:
        with hold_port(held, 811).open if held else nullcontext():
            return tcpdoctor("explain", "811", "--user", 65534).stdout

    lacks = (
        "DENIED  TCP port 811: ports below 1024 (net.ipv4.ip_unprivileged_port_start)\n"
        "      need CAP_NET_BIND_SERVICE over this network namespace, which this user\n"
        "      lacks"
    )
    assert in_namespace(look, None).startswith(f"{lacks}\n now   EACCES, whatever options are set\n")
    text = in_namespace(look, recipe(listening, "0.0.0.0"))
    assert re.match(re.escape(lacks) + r"; besides, python\S* \(\d+\) listens on 0\.0\.0\.0:811\n", text), (
        text
    )
    assert " do    Taken as well; what frees it: `tcpdoctor explain 811 --user root`\n" in text


def test_the_listener_is_shown_with_its_queue_its_holder_and_its_options(in_namespace):
    _, answer = in_namespace(ask, recipe(accepted_beside_listener, "127.0.0.1"))
    (listener,) = answer["listeners"]
    assert list(listener)[:5] == ["local", "accept_queue", "accept_limit", "owner", "options"]
    assert (listener["accept_queue"], listener["accept_limit"]) == (0, 8)
    assert listener["options"]["SO_REUSEADDR"] is True
    assert listener["options"]["SO_REUSEPORT"] is False
    assert list(listener["owner"])[:6] == ["pid", "name", "fd", "uid", "unit", "container"]
    assert listener["owner"]["command"]
    assert answer["states"]["listen"] == answer["states"]["established"] == 1
    assert (answer["as_local"], answer["as_remote"]) == (2, 1)


def test_the_peer_on_this_host_is_named_with_its_process(in_namespace):
    text, answer = in_namespace(ask, recipe(fin_wait_2_mini, "127.0.0.1"))
    peer = answer["bind"]["blockers"][0]["peer"]
    assert peer["state"] == "close_wait"
    flat = " ".join(text.split())
    assert f"its peer {peer['local']} is in CLOSE_WAIT, held by pid" in flat
    assert f"fd {peer['owner']['fd']}" in flat


@pytest.mark.parametrize("option", ["--probe", "--probe-listen"])
def test_a_probe_asks_the_kernel_and_settles_what_was_hidden(in_namespace, option):
    for reuseaddr in (True, False):
        text, answer = in_namespace(ask, recipe(time_wait, "127.0.0.1", reuseaddr=reuseaddr), option)
        assert answer["bind"]["probed"] is True
        assert all(attempt["certain"] for attempt in answer["bind"]["attempts"])
        assert answer["bind"]["attempts"][1]["bind"] == ("ok" if reuseaddr else "EADDRINUSE")
        assert answer["bind"]["listen_probed"] is (option == "--probe-listen" and reuseaddr)
        assert "bind() probed" in text or "bind() and listen() probed" in text


def test_a_probe_is_released_at_once(in_namespace):
    assert in_namespace(bind_after_probe) == "ok"


def bind_after_probe() -> str:
    ask(None, "--probe-listen")
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", PORT))
        sock.listen()
    return "ok"


def traced(*arguments: object) -> str:
    """The calls of one run that could take a port or speak to anybody."""
    with hold_port(recipe(listening, "127.0.0.1"), PORT).open:
        command = [
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=bind,listen,connect",
            *COMMAND,
            "explain",
            "--port",
            str(PORT),
        ]
        answer = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment(),
            check=True,
            timeout=120,
        )
    return "\n".join(
        line
        for line in answer.stderr.splitlines()
        if "AF_INET" in line or line.lstrip().startswith("listen(")
    )


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_nothing_is_bound_unless_a_probe_was_asked_for(in_namespace):
    assert in_namespace(traced) == ""
    assert in_namespace(traced, "--address", "::1", "--format", "json") == ""
    assert in_namespace(traced, "--probe").count("bind(") == 8  # 0.0.0.0 and ::
    assert "listen(" not in in_namespace(traced, "--address", "127.0.0.2", "--probe")
    assert in_namespace(traced, "--address", "127.0.0.2", "--probe-listen").count("listen(") == 4


HEIR = """
import os, socket, subprocess
server = socket.create_server(("127.0.0.1", {port}))
server.set_inheritable(True)
print(subprocess.Popen({command!r}, close_fds=False).pid, flush=True)
os._exit(0)
"""


def ask_about_an_heir(command: list[str]) -> tuple[int, str, dict[str, Any]]:
    """A listener whose server has ended, while a child of it still runs."""
    script = HEIR.format(port=PORT, command=command)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        heir = int(server.stdout.readline())
        server.wait(10)
    text, answer = ask(None)
    os.kill(heir, 9)
    return heir, text, answer


@pytest.mark.parametrize("command", [["sleep", "60"], [sys.executable, "-c", "import time; time.sleep(60)"]])
def test_a_listener_that_an_unrelated_child_inherited_is_named_as_such(in_namespace, command):
    heir, text, answer = in_namespace(ask_about_an_heir, command)
    assert "it inherited the socket from a program that holds it no longer" in " ".join(text.split())
    assert f"kill {heir}" in text
    assert answer["bind"]["blockers"][0]["inherited"] is True


def ask_about_a_daemon() -> dict[str, Any]:
    """A server that waits for clients after its parent, a shell, has ended: no heir."""
    code = (
        f"import socket; s = socket.create_server(('127.0.0.1', {PORT})); s.set_inheritable(True); s.accept()"
    )
    subprocess.run(["sh", "-c", '"$0" -c "$1" &', sys.executable, code], check=True, timeout=120)
    deadline = time.monotonic() + 10
    while True:
        _, answer = ask(None)
        if answer["listeners"]:
            return answer
        assert time.monotonic() < deadline


def test_a_server_whose_parent_is_gone_is_no_heir(in_namespace):
    answer = in_namespace(ask_about_a_daemon)
    assert answer["bind"]["blockers"][0]["inherited"] is False


def ask_about_mptcp() -> dict[str, Any]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", PORT))
        server.listen(7)
        return ask(None)[1]


def test_an_mptcp_listener_has_its_holder_and_options_like_any_other(in_namespace):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    except OSError as error:
        pytest.skip(f"no MPTCP: {error.strerror}")
    answer = in_namespace(ask_about_mptcp)
    (blocker,) = answer["bind"]["blockers"]
    assert blocker["owner"]["pid"]
    assert blocker["reuseaddr"] is True


def as_another_user() -> list[Any]:
    """What uid 1234 is told of a port on which root has a connection."""
    stage = hold_port(recipe(close_wait, "127.0.0.1"), PORT)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        stage.open.close()  # or it would find itself to be a holder
        os.setuid(1234)
        found = answer(parse_target(None, PORT, {}), read_port_evidence(PORT))
        attempts = [[attempt.bind, attempt.certain] for attempt in found.attempts]
        os.write(writer, json.dumps([*attempts, verdict(found)]).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    stage.open.close()
    told: list[Any] = json.loads(os.read(reader, 65536))
    return told


def test_another_users_socket_leaves_doubt_and_says_so(in_namespace):
    with open("/proc/self/uid_map", encoding="ascii") as uid_map:
        if os.geteuid() != 0 or uid_map.read().split()[2] == "1":
            pytest.skip("there is no second user to be")
    *attempts, sentence = in_namespace(as_another_user)
    # The connection is another user's; its listener, which is gone, need not have been.
    assert attempts == [["EADDRINUSE", certain] for certain in (True, False, False, False)]
    assert "whose holder is hidden" in sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "0"),
        ("--port", "70000"),
        ("--port", "-5"),
        ("--port", "no-such-service"),
        ("--port", PORT, "--user", "nobody-is-called-so"),
        ("--port", PORT, "--user", "4294967295"),
        ("--port", PORT, "--device", "nosuchdevice0"),
        ("--port", PORT, "--user", "0", "--probe"),
        ("--port", PORT, "--udp", "--probe-listen"),
        ("--port", PORT, "--wait", "--timeout", "soon"),
        ("--state", "LISTEN", "--udp"),
        ("--port", PORT, "--address", "nowhere"),
        ("--port", PORT, "--state", "LISTEN"),
        ("--port", PORT, "--source", "127.0.0.1"),
        ("--state", "LISTEN", "--probe"),
        (),
    ],
)
def test_a_wrong_question_is_one_line_and_exit_3(arguments):
    assert complaint(tcpdoctor("explain", *arguments))


def test_a_socket_that_is_connected_to_itself_is_the_finding_of_its_port(in_namespace):
    def ask_of_both() -> tuple[list[str], list[str], list[str]]:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=120)
        itself = socket.socket()
        itself.bind(("127.0.0.1", PORT))
        itself.connect(("127.0.0.1", PORT))
        other = socket.create_server(("127.0.0.1", PORT + 1))
        asked = (("--port", PORT), ("--port", PORT + 1), ("--connect", f"127.0.0.1:{PORT}"))
        answers = [json.loads(tcpdoctor("explain", *words, "--json").stdout) for words in asked]
        itself.close()
        other.close()
        mine, beside, towards = ([found["rule"] for found in one["findings"]] for one in answers)
        return mine, beside, towards

    mine, beside, towards = in_namespace(ask_of_both)
    assert "connected-to-itself" in mine
    assert "connected-to-itself" in towards
    assert "connected-to-itself" not in beside

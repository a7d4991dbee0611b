"""`explain --port` in situations that were once answered wrongly, each checked by the kernel's own bind()."""

import contextlib
import errno
import json
import os
import socket
import subprocess
import time
from typing import Any

import pytest

from tcpdoctor.lab.closing import fin_wait_1_stuck, last_ack_stuck
from tcpdoctor.lab.namespace import write_sysctl
from tests.cli.command import tcpdoctor
from tests.live.port_holders import SO_BINDTODEVICE, Recipe, acting_as, fast_open, hold_port, simultaneous
from tests.schemas import described

PORT = 50_051
PATIENCE = 20.0
MPTCP = 262


def ask(*arguments: object, port: int = PORT) -> dict[str, Any]:
    done = tcpdoctor("explain", "--port", port, *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return described(done.stdout)


def short(*arguments: object, port: int = PORT) -> str:
    return tcpdoctor("explain", "--port", port, *arguments).stdout


def listen(address: str, port: int = PORT, **switches: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    for option in switches.values():
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind((address, port))
    sock.listen()
    return sock


def kernel(address: str, *options: int, port: int = PORT, device: str = "", udp: bool = False) -> str:
    """What bind() answers now."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        if device:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            sock.bind((address, port))
        except OSError as error:
            return errno.errorcode[error.errno]
    return "ok"


def binds(answer: dict[str, Any], key: str = "bind") -> list[tuple[str, bool]]:
    return [(attempt["bind"], attempt["certain"]) for attempt in answer[key]["attempts"]]


def a_server_on_one_ipv6_address() -> tuple[dict[str, Any], str, str, str]:
    with listen("::1"):
        return ask(), short(), kernel("0.0.0.0"), kernel("::")


def test_without_an_address_both_wildcards_are_asked_about(in_namespace):
    answer, text, ipv4, ipv6 = in_namespace(a_server_on_one_ipv6_address)
    assert (ipv4, ipv6) == ("ok", "EADDRINUSE")
    assert binds(answer)[0] == ("ok", True)
    assert binds(answer, "bind_ipv6")[0] == ("EADDRINUSE", True)
    assert (answer["verdict"], answer["bind_ipv6"]["address"]) == ("partly", "::")
    assert text.startswith(f"PARTLY  TCP port {PORT}: 0.0.0.0 is free, :: is not: ")


def sockets_on_devices() -> tuple[str, dict[str, Any], str]:
    subprocess.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"], check=True, timeout=120)
    kept: list[socket.socket] = []
    for device in (b"v0", b"lo", b""):
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        server.bind(("0.0.0.0", 7411 + len(kept)))
        server.listen()
        kept.append(server)
    return (
        tcpdoctor("sockets").stdout,
        json.loads(tcpdoctor("sockets", "--json").stdout),
        tcpdoctor("sockets", "--columns", "local,device").stdout,
    )


def test_sockets_names_the_interface_that_a_socket_is_bound_to(in_namespace):
    text, answer, columns = in_namespace(sockets_on_devices)
    for said in ("0.0.0.0%v0:7411", "0.0.0.0%lo:7412", "0.0.0.0:7413"):
        assert said in text
    devices = {row["local"]: row.get("device") for row in answer["sockets"]}
    assert devices == {"0.0.0.0:7411": "v0", "0.0.0.0:7412": "lo", "0.0.0.0:7413": None}
    assert [line.split() for line in columns.splitlines() if "0.0.0.0:7411" in line] == [
        ["0.0.0.0:7411", "v0"]
    ]


def servers_on_devices() -> tuple[dict[str, Any], dict[str, Any], str, str, str, str]:
    subprocess.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"], check=True, timeout=120)
    with contextlib.ExitStack() as keep:
        for device in ("v0", "lo"):
            sock = keep.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
            sock.bind(("0.0.0.0", PORT))
            sock.listen()
        answers = kernel("0.0.0.0"), kernel("0.0.0.0", device="v1")
        return ask(), ask("--device", "v1"), short(), short("--device", "v1"), *answers


def test_a_device_is_shown_and_can_be_asked_for(in_namespace):
    answer, other, text, of_another, without, on_another = in_namespace(servers_on_devices)
    assert (without, on_another) == ("EADDRINUSE", "ok")
    assert binds(answer)[0] == ("EADDRINUSE", True)
    assert {one["local"] for one in answer["listeners"]} == {f"0.0.0.0%v0:{PORT}", f"0.0.0.0%lo:{PORT}"}
    assert {one["device"] for one in answer["bind"]["blockers"]} == {"v0", "lo"}
    assert any("SO_BINDTODEVICE" in one for one in answer["advice"])
    assert f"0.0.0.0%lo:{PORT}" in text
    assert (other["verdict"], other["device"]) == ("free", "v1")
    assert of_another.startswith(f"FREE  TCP port {PORT} of v1 (0.0.0.0 and ::), UDP free")
    assert binds(other) == [("ok", True)] * 4


def a_device_of_any_bytes() -> tuple[dict[str, Any], dict[str, Any], str]:
    name = "d\u00e9\u2007v"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", "p1"], check=True, timeout=120)
    for device in (name, "p1"):
        subprocess.run(["ip", "link", "set", device, "up"], check=True, timeout=120)
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for sock in (tcp, udp):
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, name.encode())
            sock.bind(("0.0.0.0", PORT))
        return ask(), ask("--device", name), ask("--udp", "--device", "lo")["verdict"]


def test_an_interfaces_name_may_have_any_byte(in_namespace):
    answer, same, other = in_namespace(a_device_of_any_bytes)
    assert answer["bind"]["blockers"][0]["device"] == "d\u00e9 v"
    assert answer["udp_holders"][0]["device"] == "d\u00e9 v"
    assert (answer["verdict"], same["verdict"], other) == ("busy", "busy", "free")


def an_old_server_behind_a_nat() -> tuple[dict[str, Any], dict[str, Any], str, str]:
    """Its clients' ports are not of the usual range, and its own port is; then its worker ends too."""
    with contextlib.ExitStack() as keep:
        server = listen("0.0.0.0", reuse=socket.SO_REUSEADDR)
        for port in (2_003, 2_011, 63_001):
            client = keep.enter_context(socket.socket())
            client.bind(("127.0.0.1", port))
            client.connect(("127.0.0.1", PORT))
        accepted = [server.accept()[0] for _ in range(3)]
        server.close()
        working = ask()
        for sock in accepted:
            sock.close()
        deadline = time.monotonic() + PATIENCE
        while (left := ask())["states"]["fin_wait_2"] < 3:
            assert time.monotonic() < deadline
        return working, left, kernel("0.0.0.0"), kernel("0.0.0.0", socket.SO_REUSEADDR)


def test_clients_of_an_old_server_are_not_called_outgoing(in_namespace):
    working, left, plain, reusing = in_namespace(an_old_server_behind_a_nat)
    assert (plain, reusing) == ("EADDRINUSE", "ok")
    assert working["bind"]["cause"] == "live-connections"
    assert [one["began_here"] for one in working["bind"]["blockers"]] == [False] * 3
    assert binds(working)[1] == ("ok", True)
    assert left["bind"]["cause"] == "fin-wait-2-orphan"
    assert "client here" not in left["headline"]
    assert not any("hardly helps" in one for one in left["advice"])


def a_client_with_a_port_of_its_own() -> dict[str, Any]:
    with listen("127.0.0.2", 443), socket.socket() as client:
        client.bind(("127.0.0.1", 8_101))
        client.connect(("127.0.0.2", 443))
        return ask(port=8_101)


def test_a_client_with_a_port_of_its_own_is_no_old_server(in_namespace):
    answer = in_namespace(a_client_with_a_port_of_its_own)
    assert answer["bind"]["cause"] == "outgoing-connection"
    assert answer["bind"]["blockers"][0]["began_here"] is True


def a_server_that_gave_up_root() -> list[Any]:
    """The socket is root's, the process is uid 1234's; what two users with SO_REUSEPORT meet."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with listen("127.0.0.1", share=socket.SO_REUSEPORT):
            os.setgid(1234)
            os.setuid(1234)
            os.write(writer, b"1")
            time.sleep(PATIENCE * 5)
        os._exit(0)
    os.read(reader, 1)
    asked = [ask("--address", "127.0.0.1", *user) for user in ((), ("--user", "1234"), ("--user", "root"))]
    truth = []
    for uid in (1234, 0):  # a success leaves its mark in the kernel's memory of SO_REUSEPORT
        with acting_as(uid):
            truth.append(kernel("127.0.0.1", socket.SO_REUSEPORT))
    text = short("--address", "127.0.0.1")
    os.kill(child, 9)
    os.waitpid(child, 0)
    return [asked, truth, text]


needs_second_user = pytest.mark.skipif(os.geteuid() != 0, reason="there is no second user to be")


@needs_second_user
def test_the_uid_that_counts_is_the_sockets_and_another_user_can_be_asked_for(in_namespace):
    asked, truth, text = in_namespace(a_server_that_gave_up_root)
    assert truth == ["EADDRINUSE", "ok"]
    assert [binds(one)[2] for one in asked] == [("ok", True), ("EADDRINUSE", True), ("ok", True)]
    assert [one["bind"]["uid"] for one in asked] == [0, 1234, 0]
    assert [one["user"] for one in asked] == [None, "1234", "root"]
    (blocker,) = asked[0]["bind"]["blockers"]
    assert (blocker["uid"], blocker["owner"]["uid"]) == (0, 1234)
    assert "the socket is uid 0's" in " ".join(text.split())


@needs_second_user
def test_another_user_may_not_bind_a_privileged_port(in_namespace):
    answer = in_namespace(ask, "--user", "1234", port=81)
    assert answer["bind"]["cause"] == "privileged-port"
    assert binds(answer) == [("EACCES", True)] * 4


@pytest.mark.parametrize("reuseaddr", [False, True])
@pytest.mark.parametrize("way", [fast_open, simultaneous])
def test_a_whole_socket_in_syn_recv_holds_the_port(in_namespace, way, reuseaddr):
    def look() -> tuple[dict[str, Any], list[str]]:
        recipe = Recipe(way, socket.AF_INET, "127.0.0.1", os.geteuid(), reuseaddr, False, False)
        with hold_port(recipe, PORT).open:
            options = ((), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,))
            return ask(), [kernel("0.0.0.0", *some) for some in options]

    answer, truth = in_namespace(look)
    assert truth == ["EADDRINUSE", "ok" if reuseaddr else "EADDRINUSE", "EADDRINUSE"]
    # its listener may have had SO_REUSEPORT, which the port remembers
    certain = [True, True, False]
    assert binds(answer)[:3] == list(zip(truth, certain, strict=True))
    assert answer["states"]["syn_recv"] == 1
    # a child of the listener lets the port go once it is given up, and a client that bound its own does not
    assert any("gives up a client" in one for one in answer["advice"]) is (way is fast_open)
    assert not any("has no end" in one for one in answer["wrong_advice"])


def a_child_that_nobody_answers() -> tuple[str, float]:
    write_sysctl("net.ipv4.tcp_synack_retries", 0)
    recipe = Recipe(fast_open, socket.AF_INET, "127.0.0.1", os.geteuid(), False, False, False)
    with hold_port(recipe, PORT).open:
        began, text = time.monotonic(), short()
        while kernel("0.0.0.0") != "ok":
            assert time.monotonic() - began < 60
            time.sleep(0.02)
        return text, time.monotonic() - began


def test_a_child_that_is_given_up_lets_the_port_go_though_it_is_held(in_namespace):
    text, held = in_namespace(a_child_that_nobody_answers)
    assert "EADDRINUSE until its holder lets go, or it is given up" in " ".join(text.split())
    assert held < 30


def an_orphan_with_linger2(seconds: int) -> tuple[float, float]:
    """How long the answer says that the port is held, and how long it is."""
    with listen("127.0.0.1") as server:
        client = socket.create_connection(("127.0.0.1", PORT))
        accepted = server.accept()[0]
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, seconds)
    accepted.close()
    closed = time.monotonic()
    deadline = closed + PATIENCE
    while (answer := ask())["states"]["fin_wait_2"] < 1:
        assert time.monotonic() < deadline
    foreseen = time.monotonic() - closed + answer["bind"]["free_in_s"]
    if seconds < 80:
        while kernel("127.0.0.1") != "ok":
            time.sleep(0.05)
    held = time.monotonic() - closed
    client.close()
    return foreseen, held


def test_linger2_above_a_minute_takes_its_span_twice(in_namespace):
    foreseen, held = in_namespace(an_orphan_with_linger2, 67)
    assert 13.5 < held < 18
    assert held - 5 < foreseen < held + 3  # the command itself takes its time
    foreseen, _ = in_namespace(an_orphan_with_linger2, 97)
    assert 72 < foreseen < 80


def a_closed_mptcp_connection() -> tuple[dict[str, Any], str]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP) as client:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP) as server:
            server.bind(("127.0.0.1", PORT))
            server.listen()
            client.connect(("127.0.0.1", PORT))
            accepted = server.accept()[0]
        accepted.close()
        return ask(), kernel("0.0.0.0")


@needs_second_user
def test_the_end_of_a_closed_mptcp_connection_is_foreseen(in_namespace):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP).close()
    except OSError as error:
        pytest.skip(f"this kernel lacks MPTCP: {error.strerror}")
    answer, plain = in_namespace(a_closed_mptcp_connection)
    (blocker,) = answer["bind"]["blockers"]
    assert (plain, blocker["state"], blocker["holders"]) == ("EADDRINUSE", "established", [])
    if blocker["owner_missing"]:  # then a process that hides its descriptors may have it
        assert blocker["expires_s"] is None
    else:
        assert 40 < blocker["expires_s"] <= 60


def a_udp_server() -> tuple[dict[str, Any], dict[str, Any], str, list[str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", PORT))
        truth = [kernel("0.0.0.0"), kernel("0.0.0.0", udp=True)]
        truth.append(kernel("0.0.0.0", socket.SO_REUSEADDR, udp=True))
        return ask(), ask("--udp"), short(), truth


def test_a_udp_holder_is_told_and_a_udp_bind_is_predicted(in_namespace):
    tcp, udp, text, truth = in_namespace(a_udp_server)
    assert truth == ["ok", "EADDRINUSE", "ok"]
    assert (tcp["verdict"], tcp["protocol"]) == ("free", "tcp")
    (holder,) = tcp["udp_holders"]
    assert holder["owner"]["pid"]
    assert text.startswith(f"FREE  TCP port {PORT} (0.0.0.0 and ::), UDP taken by python")
    assert (udp["verdict"], udp["protocol"], udp["bind"]["cause"]) == ("busy", "udp", "udp-socket")
    assert binds(udp)[:2] == [("EADDRINUSE", True), ("ok", True)]
    assert {attempt["listen"] for attempt in udp["bind"]["attempts"]} == {None}


def until_it_is_free() -> tuple[dict[str, Any], dict[str, Any], float]:
    server = listen("127.0.0.1")
    child = os.fork()
    if child == 0:
        time.sleep(1.5)
        os._exit(0)  # with it the last descriptor goes
    server.close()
    begun = time.monotonic()
    answer = ask("--wait", "--timeout", "20s")
    took = time.monotonic() - begun
    os.waitpid(child, 0)
    with listen("127.0.0.1"):
        return answer, ask("--wait", "--timeout", "1"), took


def test_wait_looks_until_the_port_is_free_or_the_time_is_over(in_namespace):
    free, busy, took = in_namespace(until_it_is_free)
    assert free["verdict"] == "free"
    assert 0.5 < free["waited_s"] <= took
    assert (busy["verdict"], busy["waited_s"] >= 1) == ("busy", True)


def a_full_accept_queue() -> dict[str, Any]:
    """A listener whose queue is full, and that drops what comes: `check` says so after two looks."""
    write_sysctl("net.ipv4.tcp_syncookies", 0)
    with socket.socket() as server, contextlib.ExitStack() as keep:
        server.bind(("127.0.0.1", PORT))
        server.listen(1)
        for _ in range(7):
            client = keep.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", PORT))
        return ask()


def test_findings_of_check_at_this_port_come_with_its_severity(in_namespace):
    answer = in_namespace(a_full_accept_queue)
    found = {finding["rule"]: finding["severity"] for finding in answer["findings"]}
    assert any(rule.startswith("accept-queue") for rule in found), found


def findings_of_check_and_port(disease) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Rules of the host and their severities, once `check` finds the disease."""
    with disease(23) as peers:
        deadline = time.monotonic() + PATIENCE
        while True:
            report = described(tcpdoctor("check", "--window", "0", "--json").stdout)
            stuck = {(one["rule"], one["severity"]) for one in report["findings"] if "stuck" in one["rule"]}
            if stuck:
                break
            assert time.monotonic() < deadline
        told = ask(port=peers[0].getsockname()[1])["findings"]
        return stuck, {(one["rule"], one["severity"]) for one in told if "stuck" in one["rule"]}


@pytest.mark.parametrize("disease", [fin_wait_1_stuck, last_ack_stuck], ids=lambda disease: disease.__name__)
def test_what_is_found_of_the_host_is_told_at_the_port_where_its_peers_are(in_namespace, disease):
    by_check, at_the_port = in_namespace(findings_of_check_and_port, disease)
    assert by_check == at_the_port != set()

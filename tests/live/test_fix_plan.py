"""`tcpdoctor fix` on a real kernel: every form of a plan is tried, and gives the values that it says."""

import json
import re
import shlex
import socket
import subprocess
from pathlib import Path

from tcpdoctor.kernel.sysctl import look_at
from tcpdoctor.lab.namespace import write_sysctl
from tests.cli.command import complaint, tcpdoctor

SICK = {
    "net.ipv4.tcp_syncookies": "0",
    "net.ipv4.tcp_fin_timeout": "5",
    "net.ipv4.tcp_sack": "0",
    "net.ipv4.ip_local_port_range": "50000 50500",
    "net.ipv4.ip_local_reserved_ports": "7000-7010",
    "net.ipv4.tcp_rmem": "4096 67108864 131072",
    "net.core.somaxconn": "128",
}
TCP_PORTS, UDP_PORT = (33013, 34019), 35323


def fall_ill() -> list[socket.socket]:
    for name, value in SICK.items():
        write_sysctl(name, value)
    servers = []
    for port in TCP_PORTS:
        server = socket.create_server(("127.0.0.1", port))
        servers.append(server)
    answers = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    answers.bind(("127.0.0.1", UDP_PORT))
    return [*servers, answers]


def held(keys):
    return {key: look_at(key.replace(".", "/")).value for key in keys}


def planned(answer):
    return {
        change["key"]: " ".join(map(str, change["value"]))
        if isinstance(change["value"], list)
        else str(change["value"])
        for change in answer["changes"]
    }


def plan_and_forms():
    _servers = fall_ill()
    answer = tcpdoctor("fix", "--window", "0", "--format", "json")
    forms = {
        form: tcpdoctor("fix", "--window", "0", "--as", form).stdout
        for form in ("shell", "sysctl.d", "ansible")
    }
    wanted = planned(json.loads(answer.stdout))
    before = held(wanted)
    subprocess.run(
        ["sh", "-eu"], input=forms["shell"], text=True, check=True, capture_output=True, timeout=120
    )
    by_shell = held(wanted)
    fall_back(before)
    subprocess.run(
        ["sysctl", "-p", "-"],
        input=forms["sysctl.d"],
        text=True,
        check=True,
        capture_output=True,
        timeout=120,
    )
    by_file = held(wanted)
    fall_back(before)
    undo = [
        line.removeprefix("# undo: ") for line in forms["shell"].splitlines() if line.startswith("# undo: ")
    ]
    subprocess.run(
        ["sh", "-eu"], input=forms["shell"], text=True, check=True, capture_output=True, timeout=120
    )
    subprocess.run(
        ["sh", "-eu"],
        input="\n".join(reversed(undo)),
        text=True,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return (
        wanted,
        before,
        by_shell,
        by_file,
        held(wanted),
        forms["ansible"],
        tcpdoctor("fix", "--window", "0", *AGAIN).stdout,
        tcpdoctor("fix", "--window", "0", "--long").stdout,
    )


AGAIN = ("--journal", "/var/lib/tcpdoctor/x y.json", "--runtime-only", "sack-off", "buffer-order")


def fall_back(before):
    for key, value in reversed(before.items()):
        Path("/proc/sys", key.replace(".", "/")).write_text(f"{value}\n", encoding="ascii")
    assert held(before) == before


def test_the_forms_of_a_plan_set_what_it_says(in_namespace):
    wanted, before, by_shell, by_file, undone, tasks, text, long = in_namespace(plan_and_forms)
    assert list(wanted)[:2] == ["net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_local_port_range"]
    assert wanted["net.ipv4.ip_local_reserved_ports"] == "7000-7010,33013,34019,35323"
    assert wanted["net.ipv4.ip_local_port_range"] == "32768 60999"
    assert wanted.keys() >= SICK.keys()
    assert wanted["net.ipv4.tcp_rmem"] == "4096 131072 67108864"
    assert by_shell == by_file == wanted
    assert undone == before
    told = re.findall(r'(?m)^    name: "(.*)"\n    value: "(.*)"$', tasks)
    assert dict(told) == wanted
    assert max(map(len, [*text.splitlines(), *long.splitlines()])) <= 80
    assert text.splitlines()[2:6] == [
        "net.ipv4.tcp_rmem: 4096 67108864 131072 -> 4096 131072 67108864 (buffer-order)",
        "  risk: Sockets made from then on have these sizes",
        "net.ipv4.tcp_sack: 0 -> 1 (sack-off)",
        "  risk: none",
    ]
    typed = " ".join(text.replace("\\\n", " ").split())
    assert "apply tcpdoctor fix --apply buffer-order sack-off" not in typed
    assert f"apply tcpdoctor fix --apply {shlex.join([*AGAIN[3:], *AGAIN[:3]])} then" in typed
    assert f"undo tcpdoctor fix --undo {shlex.join(AGAIN[:2])} lasts" in typed
    assert "no file is written" in text
    assert {f"{key}: " for key in wanted} == {
        key for key in re.findall(r"(?m)^[a-z0-9_.]+: ", long) if not key.startswith(("undo", "verify"))
    }
    assert "  computed   1, as sack-off asks for.\n" in long


def test_what_cannot_be_meant_is_refused():
    assert "fin-timeout-short" in complaint(tcpdoctor("fix", "fin-timeout-shrt"))
    assert "--as" in complaint(tcpdoctor("fix", "--as", "shell", "--json"))
    assert "--netns" in complaint(tcpdoctor("fix", "--netns", "all"))


def nothing_to_do():
    return tcpdoctor("fix", "--window", "0")


def test_a_healthy_host_has_an_empty_plan(in_namespace):
    answer = in_namespace(nothing_to_do)
    assert answer.returncode == 0
    assert "no setting to change" in answer.stdout

"""Who may be stopped, asked of real processes: helpers by their real command lines, units by real groups."""

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tcpdoctor.diagnosis.custody import stop_of
from tcpdoctor.diagnosis.holders import tell_stop
from tcpdoctor.diagnosis.stopping import Stop
from tcpdoctor.kernel.cgroups import Container, read_place
from tcpdoctor.kernel.port_evidence import read_port_evidence
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Held, Listener
from tcpdoctor.kernel.standing import read_halt
from tests.cli.command import tcpdoctor
from tests.live.test_explain_port import ask as ask_program

PORT = 8080
ID = "0123456789ab" + "c" * 52
ROOTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
LISTEN = f"""
import os, signal, socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", {PORT})); s.listen()
"""


@contextmanager
def group(path: str) -> Iterator[Path]:
    """A control group of that path below a folder of ours, removed afterwards."""
    root = next((root for root in ROOTS if (root / "cgroup.procs").exists()), None)
    if root is None or not os.access(root, os.W_OK):
        pytest.skip("no control groups that may be made")
    top = root / f"tcpdoctor-test-{os.getpid()}"
    folder = top / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        deadline = time.monotonic() + 10
        while (folder / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        while folder not in (root, root.parent) and not any(f.is_dir() for f in folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


def program(folder: Path, name: str, code: str) -> str:
    """A script of that name, which runs as itself and shows its arguments."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(code)}")
    path.chmod(0o755)
    return str(path)


@contextmanager
def running(command: list[str], where: Path | None = None, **changes: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program inside a control group until the end of the block, with all that it starts."""

    def enter() -> None:
        os.setsid()
        if where is not None:
            (where / "cgroup.procs").write_text(str(os.getpid()))

    with subprocess.Popen(command, text=True, preexec_fn=enter, **changes) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, 9)


def listeners() -> tuple[Listener, ...]:
    found = read_port_evidence(PORT).listeners
    assert not isinstance(found, Missing)
    return found


def ask_stop(holders: int = 1) -> Stop:
    """Who may be stopped for the port, once so many processes hold it."""
    deadline = time.monotonic() + 20
    while True:
        evidence = read_port_evidence(PORT)
        rows = evidence.listeners if isinstance(evidence.listeners, tuple) else ()
        if rows and isinstance(rows[0].owner, Held) and len(rows[0].owner.holders) == holders:
            stop = stop_of(rows[0], evidence)
            assert stop is not None
            return stop
        assert time.monotonic() < deadline, f"{rows}"
        time.sleep(0.02)


def proxy_and_container(folder: Path) -> tuple[Stop, str]:
    """docker-proxy's command line, and a process with the container's address in its own namespace."""
    proxy = program(folder, "docker-proxy", LISTEN + "time.sleep(60)")
    arguments = ["-proto", "tcp", "-host-ip", "0.0.0.0", "-host-port", str(PORT)]
    arguments += ["-container-ip", "172.17.0.2", "-container-port", "80"]
    inside = [
        "unshare",
        "-n",
        "sh",
        "-c",
        "ip addr add 172.17.0.2/16 dev lo; ip link set lo up; exec sleep 60",
    ]
    with (
        group(f"docker/{ID}") as box,
        running(inside, box) as container,
        group("system.slice/docker.service") as unit,
        running([proxy, *arguments], unit),
    ):
        deadline = time.monotonic() + 10
        while "172.17.0.2" not in Path(f"/proc/{container.pid}/net/fib_trie").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stop = ask_stop()
    return stop, tell_stop(stop, 0)


def test_a_published_port_says_which_container_and_which_of_its_ports(in_namespace, tmp_path):
    stop, told = in_namespace(proxy_and_container, tmp_path)
    assert stop.commands == ("docker stop 0123456789ab",)
    assert (stop.container, stop.container_port) == (Container("docker", ID), 80)
    assert told.startswith("`docker stop 0123456789ab`: pid ")
    assert "publishes port 80 of Docker container 0123456789ab (172.17.0.2); it runs since 20" in told
    assert any("docker.service" in text for text in stop.avoid)


SPACE = "/run/user/0/netns/netns-0f1e2d3c"


def network_and_container(folder: Path, name: str, *arguments: str) -> tuple[Stop, str]:
    """A carrier with a path in its command line, and a conmon whose bundle has the same path."""
    bundle = folder / "userdata"
    bundle.mkdir()
    spaces = [{"type": "pid"}, {"type": "network", "path": SPACE}]
    (bundle / "config.json").write_text(json.dumps({"linux": {"namespaces": spaces}}))
    other = folder / "other"
    other.mkdir()
    os.mkfifo(other / "config.json")  # whoever opens it without care waits for ever
    conmon = program(folder, "conmon", "import time; print(1, flush=True); time.sleep(60)")
    carrier = program(folder, name, LISTEN + "time.sleep(60)")
    with (
        running([conmon, "-c", "d" * 64, "-b", str(other)], stdout=subprocess.PIPE) as first,
        running([conmon, "-c", ID, "-b", str(bundle), "-n", "web"], stdout=subprocess.PIPE) as second,
        running([carrier, *arguments]),
    ):
        assert first.stdout is not None
        assert second.stdout is not None
        first.stdout.readline()
        second.stdout.readline()
        stop = ask_stop()
    return stop, tell_stop(stop, 0)


def test_the_container_behind_slirp4netns_is_found_by_its_network_namespace(in_namespace, tmp_path):
    arguments = ("-c", "-r", "3", "--netns-type=path", SPACE, "tap0")
    stop, told = in_namespace(network_and_container, tmp_path, "slirp4netns", *arguments)
    assert (stop.commands, stop.container) == (("podman stop 0123456789ab",), Container("podman", ID))
    assert stop.lookup == ()
    assert "carries the network of Podman container 0123456789ab of root" in told
    assert "Its own port is told by podman port 0123456789ab" in told


def test_the_container_behind_pasta_and_its_port_are_found(in_namespace, tmp_path):
    ports = ("-t", "8443-8443:443-443", "-t", "127.0.0.1/8080-8082:80-82")
    stop, told = in_namespace(network_and_container, tmp_path, "pasta", *ports, "--netns", SPACE)
    assert (stop.commands, stop.container_port) == (("podman stop 0123456789ab",), 80)
    assert "publishes port 80 of Podman container 0123456789ab of root" in told


def test_a_container_that_nothing_names_is_to_be_looked_up(in_namespace, tmp_path):
    stop, _ = in_namespace(
        network_and_container, tmp_path, "slirp4netns", "--netns-type=path", "/elsewhere", "tap0"
    )
    assert (stop.commands, stop.lookup) == (("podman stop CONTAINER",), ("podman port --all",))


ROOTLESSPORT = (
    LISTEN
    + """
import subprocess
subprocess.run(["nsenter", f"--net=/proc/{sys.argv[1]}/ns/net", "sleep", "60"])
"""
)


SERVER_INSIDE = """
import socket, time
kept = []
for port in PORTS:
    s = socket.socket(); s.bind(("0.0.0.0", port)); s.listen(); kept.append(s)
print("ready", flush=True); time.sleep(60)
"""


def carrier_with_a_child(folder: Path, *ports: int) -> Stop:
    server = SERVER_INSIDE.replace("PORTS", repr(ports))
    carrier = program(folder, "rootlessport", ROOTLESSPORT)
    with (
        group(f"user.slice/libpod-{ID}.scope") as box,
        running(["unshare", "-n", sys.executable, "-c", server], box, stdout=subprocess.PIPE) as container,
    ):
        assert container.stdout is not None
        container.stdout.readline()
        with running([carrier, str(container.pid)]):
            deadline = time.monotonic() + 20
            while (stop := ask_stop()).container is None and time.monotonic() < deadline:
                time.sleep(0.02)
            return stop


def test_the_container_behind_rootlessport_is_that_of_its_childs_namespace(in_namespace, tmp_path):
    stop = in_namespace(carrier_with_a_child, tmp_path)
    assert stop.commands == ("podman stop 0123456789ab",)
    assert stop.container is not None
    assert stop.container.id == ID
    assert stop.note == "its own port is told by podman port 0123456789ab"


@pytest.mark.parametrize(
    ("ports", "told"),
    [
        ((8081,), "port 8081 only; podman port 0123456789ab tells whether this one leads there"),
        ((443, 8081), "ports 443, 8081; podman port 0123456789ab tells which of them it is"),
    ],
)
def test_what_the_container_behind_rootlessport_listens_on_is_told(in_namespace, tmp_path, ports, told):
    stop = in_namespace(carrier_with_a_child, tmp_path, *ports)
    assert stop.note == f"the container listens on {told}"
    assert stop.container_port is None


SHARED = """
import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(("127.0.0.1", 8080)); s.listen()
print("ready", flush=True)
time.sleep(60)
"""


def three_that_share() -> tuple[list[int], dict[str, Any]]:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running([sys.executable, "-c", SHARED], stdout=subprocess.PIPE))
            for _ in range(3)
        ]
        for server in servers:
            assert server.stdout is not None
            server.stdout.readline()
        return [server.pid for server in servers], ask_program(None, port=PORT)[1]


def test_all_that_share_a_port_are_named_as_having_to_end(in_namespace):
    pids, report = in_namespace(three_that_share)
    advice = report["advice"][0]
    assert all(f"id {pid} " in advice for pid in pids)  # one of them begins a sentence
    assert "hold the port as well, and have to end too." in advice


TWO_PORTS = (
    LISTEN
    + """
t = socket.socket(); t.bind(("127.0.0.1", 8443)); t.listen()
c = socket.create_connection(("127.0.0.1", 8443))
print("ready", flush=True)
time.sleep(60)
"""
)


def server_of_two_ports() -> Stop:
    with running([sys.executable, "-c", TWO_PORTS], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        return ask_stop()


def test_the_other_ports_of_a_holder_are_found(in_namespace):
    stop = in_namespace(server_of_two_ports)
    assert stop.other_ports == (8443,)
    assert "It listens on port 8443 too." in tell_stop(stop)


PREFORK = (
    LISTEN
    + """
for _ in range(3):
    if os.fork() == 0:
        time.sleep(60)
print("ready", flush=True)
time.sleep(60)
"""
)


def prefork_in_a_unit(folder: Path, name: str) -> tuple[Stop, str, int]:
    server = program(folder, name, PREFORK)
    with group("system.slice/web.service") as unit, running([server], unit) as master:
        stop = ask_stop(holders=4)
        return stop, tell_stop(stop, 137), master.pid


def test_a_pre_fork_server_in_a_unit_is_named_by_its_master_and_counted_whole(in_namespace, tmp_path):
    stop, told, master = in_namespace(prefork_in_a_unit, tmp_path, "web")
    assert (stop.way, stop.commands) == ("service", ("systemctl stop web.service",))
    assert (stop.holder.pid, stop.processes) == (master, 4)
    assert "That ends 137 connections and 3 other processes." in told


RELOADED = (
    LISTEN
    + """
if os.fork() == 0:
    os.fork()
    time.sleep(60)
time.sleep(60)
"""
)


WITHOUT_MASTER = (
    LISTEN
    + """
if os.fork():
    s.close()
    time.sleep(60)
os.fork() and os.fork()
time.sleep(60)
"""
)
"""Three that share a listener, the first of them the parent of the others; who began it has closed it."""
ORPHANS = (
    LISTEN
    + """
if all(os.fork() for _ in range(3)):
    s.close()
time.sleep(60)
"""
)
"""Three that share a listener which the process that began them has closed."""


def shared_and_killed(code: str) -> tuple[Stop, list[list[str]], int]:
    with running([sys.executable, "-c", code]):
        stop = ask_stop(holders=3)
        asked = [
            tcpdoctor("explain", "--pid", pid, "--format", "json")
            for pid in (stop.holder.pid, stop.sharing[-1])
        ]
        told = [json.loads(one.stdout)["stop"]["commands"] for one in asked]
        subprocess.run(stop.commands[0], shell=True, check=True, timeout=120)  # noqa: S602 - what people type
        deadline = time.monotonic() + 10
        while (left := len(listeners())) and time.monotonic() < deadline:
            time.sleep(0.01)
        return stop, told, left


@pytest.mark.parametrize("code", [RELOADED, WITHOUT_MASTER, ORPHANS], ids=["reloaded", "below", "beside"])
def test_what_is_said_to_end_a_server_frees_its_port_whatever_its_processes_do_for_each_other(
    in_namespace, code
):
    stop, told, left = in_namespace(shared_and_killed, code)
    pids = (stop.holder.pid, *stop.sharing)
    assert stop.processes == 3
    assert stop.commands == (f"kill {' '.join(map(str, pids))}",)
    assert [sorted(one.split()) for (one,) in told] == [sorted(["kill", *map(str, pids)])] * 2
    assert left == 0


EACH_ITS_OWN = f"""
import os, signal, socket, sys, time
def work():
    if os.fork():
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("0.0.0.0", {PORT})); s.listen()
    time.sleep(60)
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
for _ in range(3):
    work()
while True:
    os.wait(); work()
"""
"""A master without a socket whose workers each have a listener of their own, and are begun anew."""


def each_its_own_and_killed() -> tuple[int, Stop, dict[str, Any], int]:
    with running([sys.executable, "-c", EACH_ITS_OWN]) as master:
        deadline = time.monotonic() + 20
        while len(listeners()) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        stop, told = ask_stop(), ask_program(None, port=PORT)[1]
        subprocess.run(stop.commands[0], shell=True, check=True, timeout=120)  # noqa: S602 - what people type
        master.wait(10)
        return master.pid, stop, told, len(listeners())


def test_a_master_of_workers_with_a_socket_each_ends_with_them_and_begins_none_anew(in_namespace):
    master, stop, told, left = in_namespace(each_its_own_and_killed)
    _, first, *ended = stop.commands[0].split()
    assert (first, len(ended), left) == (str(master), 3, 0)
    assert "and 2 more at this port, and may begin anew what ends alone" in stop.note
    assert stop.ended == tuple(map(int, (first, *ended)))
    assert not any("to end too" in advice for advice in told["advice"])


IN_STATE_D = (
    LISTEN
    + """
import ctypes, platform
number = {"x86_64": 56, "aarch64": 220}[platform.machine()]  # clone(CLONE_VFORK | SIGCHLD)
if ctypes.CDLL(None, use_errno=True).syscall(number, 0x4000 | 17, 0, 0, 0, 0) == 0:
    os.close(s.fileno())
    time.sleep(60)
"""
)


def waiting_in_the_kernel() -> tuple[str, str | None]:
    with running([sys.executable, "-c", IN_STATE_D]):
        deadline = time.monotonic() + 20
        while (stop := ask_stop()).halted is None and time.monotonic() < deadline:
            pass
        return tell_stop(stop), stop.halted


def test_a_process_that_waits_in_the_kernel_is_not_said_to_end_by_a_signal(in_namespace):
    told, halted = in_namespace(waiting_in_the_kernel)
    assert halted == "waiting"
    assert "It waits in the kernel (state D: a disk, NFS, a driver ...): no signal ends it" in told


OFTEN_IN_STATE_D = """
import ctypes, os, time
number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
while True:
    if ctypes.CDLL(None).syscall(number, 0x4000 | 17, 0, 0, 0, 0) == 0:
        time.sleep(0.03)
        os._exit(0)
    os.wait()
"""


def test_a_process_that_is_often_in_the_kernel_and_runs_in_between_does_not_stand_still():
    with running([sys.executable, "-c", OFTEN_IN_STATE_D]) as process:
        deadline = time.monotonic() + 20
        while b") D " not in Path(f"/proc/{process.pid}/stat").read_bytes() and time.monotonic() < deadline:
            pass
        assert [read_halt(process.pid) for _ in range(5)] == [None] * 5


WRAPPED_PIDS = f"""
import os, sys, time
sys.path.insert(0, {os.getcwd()!r})
open("/proc/sys/kernel/ns_last_pid", "w").write("500")
if os.fork() == 0:
    import socket
    s = socket.create_server(("0.0.0.0", {PORT}))
    open("/proc/sys/kernel/ns_last_pid", "w").write("100")
    if os.fork() == 0:
        time.sleep(60)
    time.sleep(60)
from tests.live.test_holders import ask_stop
stop = ask_stop(holders=2)
print(stop.holder.pid, stop.commands[0], stop.processes)
"""


def test_a_master_whose_pid_is_not_the_lowest_is_the_one_that_is_named(mount_namespace):
    """Pids wrap: a worker may have a lower one than its master."""
    if not os.path.exists("/proc/sys/kernel/ns_last_pid") or os.geteuid():
        pytest.skip("pids cannot be chosen here")
    command = ["unshare", "--pid", "--fork", "--net", "--mount-proc", sys.executable, "-c", WRAPPED_PIDS]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == "501 kill 501 101 2\n", ran.stderr


def a_child_of(folder: Path, keeper: str, cgroup: str, **variables: str) -> Stop:
    """A program that another starts and keeps, in the unit of the other."""
    server = program(folder, "myworker", LISTEN + "time.sleep(60)")
    code = f"import subprocess, sys; subprocess.run([{server!r}, *sys.argv[1:]])"
    supervisor = program(folder, keeper, code)
    with group(cgroup) as unit, running([supervisor, "web"], unit, env=os.environ | variables):
        return ask_stop()


SUPERVISORS = {
    "supervisord": ({"SUPERVISOR_PROCESS_NAME": "a", "SUPERVISOR_GROUP_NAME": "b"}, "supervisorctl stop b:a"),
    "runsv": ({}, 'sv stop "$(readlink /proc/KEEPER/cwd)"'),
    "s6-supervise": ({}, 's6-svc -d "$(readlink /proc/KEEPER/cwd)"'),
    "PM2 v5.3.0: God": ({"pm_id": "3", "name": "api"}, "pm2 stop api"),
}


@pytest.mark.parametrize(("keeper", "given"), SUPERVISORS.items(), ids=SUPERVISORS)
def test_a_program_of_a_supervisor_is_stopped_by_it(in_namespace, tmp_path, keeper, given):
    variables, command = given
    stop = in_namespace(a_child_of, tmp_path, keeper, "system.slice/keeper.service", **variables)
    keeping = re.search(r"\(pid ([0-9]+)\)", stop.role)[1]
    assert (stop.way, stop.commands) == ("supervised", (command.replace("KEEPER", keeping),))
    assert "keeper.service" in stop.avoid[0]


def left_by_a_start_program(**variables: str) -> Stop:
    """A server whose start program has ended: nothing but its environment tells who began it."""
    code = "import os\nif os.fork(): os._exit(0)\n" + LISTEN + "time.sleep(60)"
    with running([sys.executable, "-c", code], env=os.environ | variables):
        return ask_stop()


def test_what_a_start_program_of_monit_left_is_stopped_by_monit(in_namespace):
    stop = in_namespace(left_by_a_start_program, MONIT_SERVICE="web api")
    assert (stop.way, stop.commands, stop.lookup) == ("supervised", ("monit stop 'web api'",), ())
    assert stop.role == "is kept by monit"
    assert f"ends by `kill {stop.holder.pid}`" in stop.note


def test_a_child_of_an_unknown_keeper_is_not_its_unit(in_namespace, tmp_path):
    stop = in_namespace(a_child_of, tmp_path, "runner", "system.slice/runner.service")
    assert stop.way == "process"
    assert stop.commands == (f"kill {stop.holder.pid}",)
    assert "may start it again" in stop.note
    assert "systemctl stop runner.service" in stop.avoid[0]


def in_group(folder: Path, name: str, cgroup: str, *arguments: str) -> Stop:
    server = program(folder, name, LISTEN + "time.sleep(60)")
    with group(cgroup) as unit, running([server, *arguments], unit):
        return ask_stop()


USERS = "user.slice/user-1000.slice/user@1000.service/app.slice/myserver.service"
PLACES = {
    "myserver": (USERS, [], "systemctl --user -M 1000@ stop myserver.service"),
    "conmon": ("system.slice/cron.service", ["-c", ID, "-n", "web"], "podman stop web"),
    "nginx": ("system.slice/nginx.service", [], "systemctl stop nginx.service"),
    "app": (f"system.slice/docker-{ID}.scope", [], "docker stop 0123456789ab"),
    "slirp4netns": ("system.slice/x.service", ["-c"], "podman stop CONTAINER"),
}


@pytest.mark.parametrize(("name", "place"), PLACES.items(), ids=PLACES)
def test_a_program_in_a_control_group_is_stopped_for_what_it_is(in_namespace, tmp_path, name, place):
    cgroup, arguments, command = place
    assert in_namespace(in_group, tmp_path, name, cgroup, *arguments).commands == (command,)


def an_ssh_session() -> Stop:
    """A session of sshd has written its title over its command line."""
    code = textwrap.dedent(LISTEN) + "import ctypes; ctypes.CDLL(None).prctl(15, b'sshd'); time.sleep(60)"
    command = ["sshd: ada@pts/0", "-c", code]
    with group("system.slice/ssh.service") as unit, running(command, unit, executable=sys.executable):
        deadline = time.monotonic() + 20
        while (stop := ask_stop()).holder.name != "sshd":
            assert time.monotonic() < deadline
        return stop


def test_an_ssh_session_is_ended_alone(in_namespace):
    stop = in_namespace(an_ssh_session)
    assert stop.way == "forward"
    assert stop.commands == (f"kill {stop.holder.pid}",)
    assert "ssh.service" in stop.avoid[0]


SYSTEMD = LISTEN + "import ctypes; ctypes.CDLL(None).prctl(15, b'systemd'); time.sleep(60)"


def a_systemd(*command: str) -> Stop:
    with running([*command, sys.executable, "-c", SYSTEMD]):
        deadline = time.monotonic() + 20
        while (stop := ask_stop()).holder.name != "systemd":
            assert time.monotonic() < deadline
    return stop


def test_a_systemd_that_is_not_process_1_is_a_users(in_namespace):
    stop = in_namespace(a_systemd)
    assert (stop.way, stop.commands) == ("user-socket-unit", ("systemctl --user stop NAME.socket",))


def a_systemd_with_a_socket_unit() -> Stop:
    with group("system.slice/my.socket") as unit, running([sys.executable, "-c", SYSTEMD], unit):
        deadline = time.monotonic() + 20
        while (stop := ask_stop()).holder.name != "systemd":
            assert time.monotonic() < deadline
        return stop


def test_the_socket_unit_is_named_by_the_group_that_the_socket_was_made_in(in_namespace):
    """Systemd makes it in a child there, so that the unit's firewall holds for it."""
    if not (ROOTS[0] / "cgroup.procs").exists() and not (ROOTS[1] / "cgroup.controllers").exists():
        pytest.skip("no version 2 control groups: sockets have none of version 1")
    stop = in_namespace(a_systemd_with_a_socket_unit)
    assert (stop.commands, stop.lookup) == (("systemctl --user stop my.socket",), ())


def test_process_1_of_another_pid_namespace_is_a_containers_systemd(in_namespace):
    if os.geteuid():
        pytest.skip("a PID namespace takes root")
    stop = in_namespace(a_systemd, "unshare", "--pid", "--fork")
    assert stop.way == "socket-unit"
    assert stop.lookup == (f"nsenter -t {stop.holder.pid} -a systemctl list-sockets",)
    assert "whole container" in stop.avoid[0]


def an_heir_of_a_connection() -> tuple[bool, str]:
    """A server has ended; a child of it that never used the connection still has it."""
    from tcpdoctor.diagnosis.custody import custody_of
    from tcpdoctor.diagnosis.port import Target, answer
    from tcpdoctor.diagnosis.port_advice import advise

    server = socket.create_server(("127.0.0.1", PORT))
    client = socket.create_connection(("127.0.0.1", PORT))
    accepted, _ = server.accept()
    accepted.set_inheritable(True)
    heir = subprocess.Popen(["sleep", "60"], close_fds=False, start_new_session=True)
    server.close()
    accepted.close()
    evidence = read_port_evidence(PORT)
    found = answer(Target(4, "0.0.0.0", 0, PORT), evidence)
    inherited = custody_of(found.blockers[0].row, evidence).inherited
    told = advise(found).do[0]
    heir.kill()
    client.close()
    return inherited, told


def test_an_heir_of_a_connection_is_told_as_one(in_namespace):
    inherited, told = in_namespace(an_heir_of_a_connection)
    assert inherited
    assert "sleep (`kill " in told
    assert "inherited" in told


def test_a_process_in_a_control_group_of_the_machine_is_placed(in_namespace):
    with (
        group(f"machine.slice/libpod-{ID}.scope/container") as folder,
        running(["sleep", "60"], folder) as box,
    ):
        place = read_place(box.pid)
    assert not isinstance(place, Missing)
    assert place.container == Container("podman", ID)


def published_by_cli(folder: Path) -> tuple[str, dict[str, Any]]:
    proxy = program(folder, "docker-proxy", LISTEN + "time.sleep(60)")
    with group("system.slice/docker.service") as unit, running([proxy, "-container-port", "80"], unit):
        ask_stop()
        return ask_program(None, port=PORT)


def test_text_and_json_tell_who_may_be_stopped(in_namespace, tmp_path):
    text, answer = in_namespace(published_by_cli, tmp_path)
    (blocker,) = answer["bind"]["blockers"]
    stop = blocker["stop"]
    assert (stop["way"], stop["commands"]) == ("published-port", ["docker stop CONTAINER"])
    assert stop["lookup"] == [f"docker ps --filter publish={PORT}"]
    assert stop["container_port"] == 80
    assert blocker["holders"][0]["place"]["says"] == "docker.service"
    assert stop["says"] in answer["advice"]
    words = " ".join(text.split())
    assert "`docker stop CONTAINER`: pid" in words
    assert "systemctl stop docker.service: it ends all" in words


def explain_a_worker(folder: Path) -> tuple[str, dict[str, Any], int]:
    server = program(folder, "web", PREFORK)
    with group("system.slice/web.service") as unit, running([server], unit) as master:
        ask_stop(holders=4)
        text = tcpdoctor("explain", "--pid", master.pid)
        answer = tcpdoctor("explain", "--pid", master.pid, "--format", "json")
        return text.stdout, json.loads(answer.stdout), master.pid


def test_the_answer_about_a_process_says_how_to_end_it(in_namespace, tmp_path):
    text, answer, pid = in_namespace(explain_a_worker, tmp_path)
    assert answer["stop"]["commands"] == ["systemctl stop web.service"]
    assert answer["stop"]["restart"] == "systemctl restart web.service"
    assert answer["stop"]["pid"] == pid
    assert "systemctl stop web.service" in text

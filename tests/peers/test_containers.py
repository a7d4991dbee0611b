"""Real containers: those of Podman, two that share a network, a pod, one of systemd-nspawn, a bubblewrap."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.live.test_netns_option import SERVE, Machine
from tests.peers.test_packages import need, root_of

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers of the system are root's"),
]

PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "catatonit": "catatonit",
    "systemd-nspawn": "systemd-container",
    "bwrap": "bubblewrap",
}
CONFIG = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
"""
"""Without CAP_SYS_RESOURCE, as in CI, no limit may be raised to what is usual."""
PODMAN = ("podman", "--root", "/run/store", "--runroot", "/run/pods", "--tmpdir", "/run/libpod")
ROOT = "/run/root"
CGROUPS = Path("/sys/fs/cgroup")
OF_NSPAWN = ("payload", "supervisor")
CHECK = ("check", "--netns", "all", "--window", "0", "--format")


class Engine(Machine):
    """A machine of its own with containers on it, which are gone when it is."""

    def __init__(self, folder):
        super().__init__()
        self.config = folder / "containers.conf"
        self.config.write_text(CONFIG)
        self.made = []
        before = self.groups(*OF_NSPAWN)
        self.spare = lambda: [path for path in self.groups(*OF_NSPAWN) if path not in before]
        self.run("mkdir", ROOT)
        self.run("tar", "-C", ROOT, "-xf", root_of("bookworm"))

    def podman(self, *command):
        environment = {**os.environ, "CONTAINERS_CONF": str(self.config)}
        program = ("env", "--chdir=/", *PODMAN, "--storage-driver", "vfs")
        done = self.run(*program, *command, env=environment, capture_output=True)
        if done.returncode and not self.made:
            pytest.skip(f"podman cannot run here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *options, program=("sleep", "300")):
        name = self.podman("run", "-d", *options, "--rootfs", ROOT, *program)
        self.made.append(name)
        return name

    def pid_of(self, name):
        return int(self.podman("inspect", "--format", "{{.State.Pid}}", name))

    def beside(self, *command):
        process = subprocess.Popen(
            [*self.enter, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.servers.append(process)

    def namespaces(self):
        """The network namespaces that are there."""
        listed = self.run("lsns", "--noheadings", "--type", "net", "--output", "NS", stdout=subprocess.PIPE)
        return set(listed.stdout.split())

    def established(self):
        return self.answer("states", "--netns", str(self.pid_of(self.web)))["states"]["established"]

    def groups(self, *names):
        return [
            path for name in names for path in [CGROUPS / name, *CGROUPS.glob(f"*/{name}")] if path.is_dir()
        ]

    def end(self):
        try:
            if self.made:
                self.podman("pod", "rm", "--force", "--all", "--time", "0")
                self.podman("rm", "--force", "--time", "0", self.side)
                self.podman("rm", "--force", "--all", "--time", "0")
        finally:
            super().end()
            self.remove_groups()

    def remove_groups(self):
        for path in [*self.groups("libpod_parent"), *self.spare()]:
            below = [each for each in path.rglob("*") if each.is_dir()]
            for folder in sorted([path, *below], reverse=True):
                remove_empty(folder)


def remove_empty(folder):
    """Remove a control group once its last process has gone; one of another engine stays."""
    deadline = time.monotonic() + 5
    while folder.is_dir() and time.monotonic() < deadline:
        try:
            folder.rmdir()
        except OSError:
            if any(each.is_dir() for each in folder.iterdir()):
                return
            time.sleep(0.05)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    for program, package in PROGRAMS.items():
        need(program, package)
    if not Path("/usr/lib/podman/netavark").exists():
        pytest.skip("no netavark here: apt-get install netavark, or run .ci/install-peers")
    engine = Engine(tmp_path_factory.mktemp("engine"))
    try:
        engine.web = engine.start("--name", "web", program=("python3", "-uc", SERVE))
        engine.side = engine.start("--network", "container:web")
        engine.podman("pod", "create", "--name", "pair")
        engine.inside = [engine.start("--pod", "pair"), engine.start("--pod", "pair")]
        engine.beside("bwrap", "--unshare-net", "--unshare-pid", "--dev-bind", "/", "/", "sleep", "300")
        options = ("--quiet", "--private-network", "--register=no", "--keep-unit")
        engine.beside("systemd-nspawn", *options, "--directory", ROOT, "sleep", "300")
        until(lambda: len(engine.namespaces()) == 5)
        until(lambda: engine.established() == 34)
        where = ("nsenter", "--target", engine.pid_of(engine.web), "--net")
        assert engine.run(*where, "sysctl", "-qw", "net.ipv4.tcp_syncookies=0").returncode == 0
        yield engine
    finally:
        engine.end()


def until(happens):
    deadline = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.1)


def by_container(told):
    """The checks by the containers that are in the namespace, twelve digits of each."""
    return {
        frozenset(each["id"] for each in check["network_namespace"]["containers"]): check
        for check in told["checks"]
    }


def test_all_containers_of_a_namespace_are_named_under_its_heading(engine):
    text = engine.tcpdoctor(*CHECK, "text").stdout
    first, second = sorted(f"podman {name[:12]}" for name in (engine.web, engine.side))
    (heading,) = [line for line in text.splitlines() if line.startswith("=== ")]
    assert re.fullmatch(rf"=== network namespace \d+ of {first}, {second}", heading)
    assert f"nsenter -t {engine.pid_of(engine.web)} -n sysctl -w net.ipv4.tcp_syncookies=1" in text
    assert "5 network namespaces: 1 warning, 4 ok" in text.splitlines()[0]


def test_each_namespace_has_its_containers_and_its_sockets_in_json(engine):
    done = engine.tcpdoctor(*CHECK, "json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["failed"], len(told["checks"])) == (1, [], 5)
    web = by_container(told)[frozenset(name[:12] for name in (engine.web, engine.side))]
    assert web["states"]["established"] == 34
    assert [finding["rule"] for finding in web["findings"]] == ["syncookies-off"]
    name = min(engine.web, engine.side)[:12]
    assert (web["host"]["namespace_name"], web["findings"][0]["subject"]["namespace"]) == (name, name)


def test_a_pod_is_named_with_its_containers(engine):
    told = json.loads(engine.tcpdoctor(*CHECK, "json").stdout)
    (pod,) = [check for check in told["checks"] if "pod" in (check["host"]["namespace_name"] or "")]
    inside = pod["network_namespace"]["containers"]
    assert {name[:12] for name in engine.inside} <= {each["id"] for each in inside}
    assert len({each["pod"] for each in inside}) == 1
    assert pod["host"]["namespace_name"] == f"pod-{inside[0]['pod'][:12]}"


@pytest.mark.parametrize("program", ["bwrap", "sleep"])
def test_what_has_no_id_is_named_by_its_lowest_process(engine, program):
    told = json.loads(engine.tcpdoctor(*CHECK, "json").stdout)
    labels = [check["network_namespace"]["label"] for check in told["checks"]]
    assert sum(bool(re.search(rf" of process \d+ \({program}\)$", label)) for label in labels) == 1


def test_machines_read_the_container_s_name(engine):
    name = min(engine.web, engine.side)[:12]
    metrics = engine.tcpdoctor(*CHECK, "prometheus").stdout
    assert f'tcpdoctor_sockets{{state="established",namespace="{name}"}} 34' in metrics
    plugin = engine.tcpdoctor(*CHECK, "nagios").stdout
    assert plugin.startswith(
        f"TCPDOCTOR WARNING - 1 of 5 network namespaces not OK: {name}; {name}: this namespace "
    )
    assert f"'{name}/established'=34;;;0" in plugin
    suites = ElementTree.fromstring(engine.tcpdoctor(*CHECK, "junit").stdout)  # noqa: S314 - our own output
    assert sum(f"podman {name}" in (suite.get("name") or "") for suite in suites) == 1


def test_the_owner_of_a_container_s_socket_is_found_from_outside(engine):
    told = json.loads(engine.tcpdoctor("sockets", "--state", "listen", "--netns", "all", "--json").stdout)
    owners = [row["owner"] for answer in told["answers"] for row in answer["sockets"]]
    assert engine.pid_of(engine.web) in {owner["pid"] for owner in owners if owner}

"""The Ansible collection, by PyPI's ansible, on sshd hosts: a fleet is checked, a sick host is mended."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.command import output_of
from tests.peers.sshd_hosts import NETWORK, HostPlan, Machine, made

CHECKOUT = Path(__file__).resolve().parents[2]
COLLECTION = CHECKOUT / "integrations" / "ansible"
ANSIBLE = CHECKOUT / ".venv-ansible" / "bin"
PREPARE = "python3 -m venv .venv-ansible && .venv-ansible/bin/pip install ansible ansible-lint"

LOW_LIMITS = """
[rules.close-wait-leak.limits]
min_age = 0.2
"""
SYSCTL_FILE = "/etc/sysctl.d/60-tcpdoctor.conf"
FAILING = """#!/bin/sh
printf '%s \\033[31m' 'a "b" \\ c' >&2
exit 3
"""
PLANS = (
    HostPlan("web1", f"{NETWORK}.11", sysctls={"net.ipv4.tcp_syncookies": "0"}, leak=137),
    HostPlan("web2", f"{NETWORK}.12", sysctls={"net.ipv4.tcp_syncookies": "0"}),
    HostPlan("web3", f"{NETWORK}.13"),
    HostPlan("snakeless", f"{NETWORK}.14", python=False),
)
NOBODY = ("gone", "lost")
"""In the inventory, with addresses that nobody has."""

pytestmark = [
    pytest.mark.skipif(not (ANSIBLE / "ansible-lint").exists(), reason=f"no Ansible here; run: {PREPARE}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with a sshd need root: run as root"),
]


class Controller(NamedTuple):
    """The machine that Ansible runs on."""

    machine: Machine
    folder: Path
    zipapp: Path

    def play(self, playbook: str, *options: object) -> "subprocess.CompletedProcess[str]":
        """Run one playbook of the collection."""
        words = ["-i", self.folder / "inventory", f"tcpdoctor.tcpdoctor.{playbook}", *options]
        return self.machine.run(ANSIBLE / "ansible-playbook", *words, env=self._environment(), cwd="/")

    def module(self, host: str, options: dict[str, Any], *more: str) -> dict[str, Any]:
        """Run the module once on one host and return its result."""
        arguments = json.dumps({"executable": "/usr/local/bin/tcpdoctor", **options})
        words = ["-i", self.folder / "inventory", host, "-m", "tcpdoctor.tcpdoctor.tcpdoctor_check"]
        environment = self._environment() | {
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
            "ANSIBLE_STDOUT_CALLBACK": "json",
        }
        done = self.machine.run(ANSIBLE / "ansible", *words, "-a", arguments, *more, env=environment, cwd="/")
        (play,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
        answer: dict[str, Any] = play["tasks"][0]["hosts"][host]
        return answer

    def _environment(self) -> dict[str, str]:
        ours = {
            name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTEST"))
        }
        return ours | {
            "HOME": str(self.folder / "home"),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_TIMEOUT": "5",
            "ANSIBLE_FORKS": "10",
            "ANSIBLE_NOCOLOR": "1",
        }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of collections with ours, built and installed as a release is."""
    folder = tmp_path_factory.mktemp("collections")
    home = {"HOME": str(folder / "home"), "ANSIBLE_HOME": str(folder / "home"), "LC_ALL": "C.UTF-8"}
    output_of(ANSIBLE / "ansible-galaxy", "collection", "build", COLLECTION, "--output-path", folder, **home)
    (archive,) = folder.glob("*.tar.gz")
    output_of(ANSIBLE / "ansible-galaxy", "collection", "install", archive, "-p", folder, "--no-deps", **home)
    return folder


@pytest.fixture(scope="module")
def controller(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """Four hosts with a sshd, two addresses that nobody has, and a machine that knows their keys."""
    folder = tmp_path_factory.mktemp("controller")
    zipapp = folder / "tcpdoctor.pyz"
    output_of(sys.executable, CHECKOUT / "integrations" / "one_file.py", zipapp)
    (folder / "collections").symlink_to(installed)
    (folder / "home").mkdir()
    ssh = f"-F /dev/null -o UserKnownHostsFile={folder}/known_hosts -o IdentitiesOnly=yes"
    rows = [f"{plan.name} ansible_host={plan.address}" for plan in PLANS]
    rows += [f"{name} ansible_host={NETWORK}.9{number}" for number, name in enumerate(NOBODY)]
    rows += ["", "[all:vars]", "ansible_user=root"]
    rows += [f"ansible_ssh_private_key_file={folder}/client", f"ansible_ssh_common_args='{ssh}'", ""]
    (folder / "inventory").write_text("\n".join(rows), encoding="utf-8")
    with made(folder, PLANS) as machine:
        machine.on("web1", "mkdir", "-p", "/etc/tcpdoctor")
        machine.on("web1", "sh", "-c", f"echo '{LOW_LIMITS}' > /etc/tcpdoctor/config.toml")
        yield Controller(machine, folder, zipapp)


@pytest.fixture(scope="module")
def fleet(controller: Controller) -> dict[str, Any]:
    """The summary after tcpdoctor was installed wherever that can be done."""
    hosts = ("-e", "tcpdoctor_hosts=web1,web2,web3", "-e", f"tcpdoctor_zipapp={controller.zipapp}")
    first = controller.play("install", *hosts, "-e", "tcpdoctor_local_facts=true")
    assert first.returncode == 0, first.stdout
    again = controller.play("install", *hosts, "-e", "tcpdoctor_local_facts=true")
    assert [
        line for line in again.stdout.splitlines() if "changed=" in line and "changed=0" not in line
    ] == []
    return checked(controller)


def checked(controller: Controller, *options: str) -> dict[str, Any]:
    summary = controller.folder / "summary"
    command = json.dumps({"tcpdoctor_controller_command": [sys.executable, str(controller.zipapp)]})
    done = controller.play("check_fleet", "-e", f"tcpdoctor_folder={summary}", "-e", command, *options)
    assert done.returncode in (0, 4), done.stdout + done.stderr  # 4: a host is unreachable
    found: dict[str, Any] = json.loads((summary / "fleet.json").read_text(encoding="utf-8"))
    return found


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {host["name"]: host for host in found["hosts"]}


def test_the_archive_holds_the_collection_and_nothing_else(installed: Path):
    (archive,) = installed.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name for name in tar.getnames() if tar.getmember(name).isfile()}
    tracked = {
        str(path.relative_to(COLLECTION))
        for path in COLLECTION.rglob("*")
        if path.is_file()
        and not any(part.startswith((".", "__", "tests")) for part in path.relative_to(COLLECTION).parts)
    }
    assert names == tracked - {"galaxy.yml"} | {"MANIFEST.json", "FILES.json"}


def test_its_version_is_that_of_the_program():
    from tcpdoctor import __version__

    assert f"\nversion: {__version__}\n" in (COLLECTION / "galaxy.yml").read_text(encoding="utf-8")


def test_ansible_doc_renders_every_option_and_result(installed: Path):
    text = output_of(
        ANSIBLE / "ansible-doc",
        "tcpdoctor.tcpdoctor.tcpdoctor_check",
        ANSIBLE_COLLECTIONS_PATH=str(installed),
        LC_ALL="C.UTF-8",
        HOME=str(installed / "home"),
    )
    for word in ("fail_on", "executable", "exit_code", "unchecked", "EXAMPLES", "RETURN VALUES"):
        assert word in text


def test_ansible_lint_has_nothing_to_say(installed: Path, tmp_path: Path):
    copied = tmp_path / "ansible_collections" / "tcpdoctor" / "tcpdoctor"
    shutil.copytree(COLLECTION, copied, ignore=shutil.ignore_patterns("__pycache__", ".ansible"))
    environment = os.environ | {
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(installed),
        "PATH": f"{ANSIBLE}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [str(ANSIBLE / "ansible-lint"), "--nocolor"],
        cwd=copied,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_worst_host_comes_first(fleet: dict[str, Any]):
    assert [host["name"] for host in fleet["hosts"]][:2] == ["web1", "web2"]
    assert (fleet["summary"]["hosts"], fleet["summary"]["expected"]) == (6, 6)
    assert by_name(fleet)["web3"]["status"] == "ok"


def test_the_same_finding_on_two_hosts_is_told_once(fleet: dict[str, Any]):
    (told,) = [one for one in fleet["findings"] if one["rule"] == "syncookies-off"]
    assert sorted(told["hosts"]) == ["web1", "web2"]
    (leak,) = [one for one in fleet["findings"] if one["rule"] == "close-wait-leak"]
    assert leak["hosts"] == ["web1"]
    assert "137" in leak["example"]["summary"]


def test_hosts_that_could_not_be_looked_at_are_told_with_the_reason(fleet: dict[str, Any]):
    hosts = by_name(fleet)
    assert {hosts[name]["status"] for name in ("snakeless", *NOBODY)} == {"unknown"}
    (alike,) = {tuple(hosts[name]["reasons"]) for name in NOBODY}  # so that they are told together
    assert alike == ("cannot be reached: ssh: connect to host <host> port 22: No route to host",)
    assert "no usable Python" in hosts["snakeless"]["reasons"][0]


def test_the_summary_is_there_for_people_too(controller: Controller, fleet: dict[str, Any]):
    page = (controller.folder / "summary" / "fleet.html").read_text(encoding="utf-8")
    assert page.index("web1") < page.index("web2")
    text = (controller.folder / "summary" / "fleet.txt").read_text(encoding="utf-8")
    assert text.count("SYN cookies are off") == 1
    assert max(map(len, text.splitlines())) <= 80


def test_the_module_answers_as_check_does(controller: Controller, fleet: dict[str, Any]):
    sick = controller.module("web2", {"only": ["syncookies-off"], "window": 0})
    assert (sick["failed"], sick["exit_code"], sick["status"]) == (True, 1, "warning")
    assert [one["rule"] for one in sick["findings"]] == ["syncookies-off"]
    calm = controller.module("web2", {"fail_on": "critical", "window": 0}, "--check")
    assert (calm.get("failed", False), calm["exit_code"], calm["changed"]) == (False, 0, False)
    assert "rc" not in calm
    wrong = controller.module("web3", {"only": ["no-such-rule"], "window": 0})
    assert (wrong["failed"], wrong["exit_code"]) == (True, 3)
    assert "no-such-rule" in wrong["msg"]
    absent = controller.module("web3", {"executable": "/nowhere/tcpdoctor"})
    assert "tcpdoctor.tcpdoctor.install" in absent["msg"]


def test_an_old_python_is_named(controller: Controller, fleet: dict[str, Any]):
    controller.machine.on(
        "web3",
        "sh",
        "-c",
        "printf '#!/bin/sh\\necho 3.9\\n' > /usr/local/bin/py && chmod 755 /usr/local/bin/py",
    )
    answer = controller.module(
        "web3", {"executable": "/usr/local/lib/tcpdoctor/tcpdoctor.pyz", "python": "/usr/local/bin/py"}
    )
    assert answer["exit_code"] == 3
    assert "/usr/local/bin/py is 3.9; install python3.12, say" in answer["msg"]
    absent = controller.module("web3", {"executable": "/nowhere", "python": "/usr/local/bin/py"})
    assert (
        absent["msg"]
        == "tcpdoctor needs Python 3.10 or later; /usr/local/bin/py is 3.9; install python3.12, say"
    )


def test_the_local_fact_is_json_also_where_tcpdoctor_fails(controller: Controller, fleet: dict[str, Any]):
    fact = "/etc/ansible/facts.d/tcpdoctor.fact"
    on: Callable[..., str] = controller.machine.on
    assert json.loads(on("web3", fact))["schema"] == "tcpdoctor.check/1"
    on("web3", "mv", "/usr/local/bin/tcpdoctor", "/usr/local/bin/away")
    assert json.loads(on("web3", fact))["reason"] == "tcpdoctor is not installed"
    on("web3", "sh", "-c", f"cat > /usr/local/bin/tcpdoctor << 'END'\n{FAILING}END\n")
    on("web3", "chmod", "755", "/usr/local/bin/tcpdoctor")
    failed = json.loads(on("web3", fact))
    assert failed["schema"] == "tcpdoctor.failure/1"
    assert failed["reason"].startswith('a "b" \\')
    on("web3", "mv", "/usr/local/bin/away", "/usr/local/bin/tcpdoctor")


def test_hosts_that_hang_crash_or_talk_nonsense_are_told_with_limit_and_serial(
    controller: Controller, fleet: dict[str, Any]
):
    broken = {"web1": "echo {nonsense", "web2": "exec sleep 600", "web3": "kill -SEGV $$"}
    program, away = "/usr/local/bin/tcpdoctor", "/usr/local/bin/away"
    for name, does in broken.items():
        script = f"mv {program} {away}; printf '#!/bin/sh\\n{does}\\n' > {program}; chmod 755 {program}"
        controller.machine.on(name, "sh", "-c", script)
    few = ("--limit", ",".join([*broken, NOBODY[0]]), "-e", "tcpdoctor_serial=3")
    found = by_name(checked(controller, *few, "-e", "tcpdoctor_timeout=1", "-e", "tcpdoctor_window=0"))
    for name in broken:
        controller.machine.on(name, "mv", away, program)
    assert {name: host["status"] for name, host in found.items()} == dict.fromkeys(
        [*broken, NOBODY[0]], "unknown"
    )
    reasons = {
        name: host["reasons"][0].removeprefix("tcpdoctor could not look: ") for name, host in found.items()
    }
    assert reasons["web1"] == "it ended with exit code 0 and without a report"
    assert reasons["web2"] == "it did not end within 1 s and was killed"
    assert reasons["web3"] == "signal 11 ended it"


@pytest.fixture
def short_folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="cp-") as folder:
        yield folder


def test_the_commands_of_the_readme_do_what_it_says(
    controller: Controller, tmp_path: Path, short_folder: str
):
    """As they are written, but for `make zipapp`: its file is here already, and so are the hosts."""
    readme = (COLLECTION / "README.md").read_text(encoding="utf-8")
    first, *commands = readme.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert first.startswith("make zipapp ")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "tcpdoctor.pyz").symlink_to(controller.zipapp)
    (tmp_path / "integrations").symlink_to(CHECKOUT / "integrations")
    rows = (controller.folder / "inventory").read_text(encoding="utf-8").splitlines()
    left_out = ("web1 ", "web2 ", "snakeless ", *(f"{name} " for name in NOBODY))
    (tmp_path / "inventory").write_text(
        "\n".join(row for row in rows if not row.startswith(left_out)) + "\n", encoding="utf-8"
    )
    environment = {
        "HOME": str(tmp_path),
        # a socket's path may have 107 characters, and this test's own folder has half of them
        "ANSIBLE_SSH_CONTROL_PATH_DIR": short_folder,
        "PWD": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "PATH": f"{ANSIBLE}:{os.environ['PATH']}",
    }
    done = controller.machine.run(
        "bash", "-euc", f"cd {tmp_path}\n" + "\n".join(commands), env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "tcp").iterdir()} == {
        "expected",
        "fleet.html",
        "fleet.json",
        "fleet.txt",
        "hosts",
    }
    assert (tmp_path / "tcp" / "fleet.txt").read_text(encoding="utf-8").startswith("OK: 1 host: 1 ok\n")


def test_sysctl_fixes_are_shown_applied_kept_and_undone(controller: Controller, fleet: dict[str, Any]):
    file, sysctl, ports = SYSCTL_FILE, "net.ipv4.tcp_syncookies", "net.ipv4.ip_local_reserved_ports"
    before = Path(file).exists()
    machines = [Path("/proc/sys", name.replace(".", "/")).read_text() for name in (sysctl, ports)]
    on: Callable[..., str] = controller.machine.on
    rules = ["syncookies-off", "listener-port-in-ephemeral-range"]
    wanted = ("-e", json.dumps({"tcpdoctor_hosts": "web1", "tcpdoctor_fix_rules": rules}))

    shown = controller.play("sysctl_fixes", *wanted, "--check")
    assert shown.returncode == 0, shown.stdout
    assert f"changed: [web1] => (item={sysctl} = 1)" in shown.stdout
    assert "A real run would leave nothing to fix." in shown.stdout
    assert on("web1", "sysctl", "-n", sysctl).strip() == "0"
    assert on("web1", "sh", "-c", f"ls {file} /var/lib/tcpdoctor 2>/dev/null || true") == ""

    applied = controller.play("sysctl_fixes", *wanted)
    assert applied.returncode == 0, applied.stdout
    assert "Nothing is left to fix." in applied.stdout
    assert on("web1", "sysctl", "-n", sysctl).strip() == "1"
    reserved = on("web1", "sysctl", "-n", ports).strip()
    assert reserved
    lines = on("web1", "cat", file).replace(" ", "").splitlines()
    assert sorted(lines) == [f"{ports}={reserved}", f"{sysctl}=1"]

    # nowhere but in that host's own /etc, and in its own kernel settings
    assert on("web2", "sh", "-c", f"ls {file} 2>/dev/null || true") == ""
    assert Path(file).exists() == before
    assert [Path("/proc/sys", name.replace(".", "/")).read_text() for name in (sysctl, ports)] == machines

    again = controller.play("sysctl_fixes", *wanted)
    assert "changed=0" in again.stdout, again.stdout
    assert json.loads(on("web1", "cat", "/var/lib/tcpdoctor/sysctl-before.json")) == {
        "before": {sysctl: 0, ports: ""},
        "set": {sysctl: 1, ports: reserved},
    }
    found = checked(controller)
    (told,) = [one for one in found["findings"] if one["rule"] == "syncookies-off"]
    assert told["hosts"] == ["web2"]

    undone = controller.play("sysctl_fixes", *wanted, "-e", "tcpdoctor_undo=true")
    assert undone.returncode == 0, undone.stdout
    assert (on("web1", "sysctl", "-n", sysctl).strip(), on("web1", "sysctl", "-n", ports).strip()) == (
        "0",
        "",
    )
    assert on("web1", "sh", "-c", f"ls {file} 2>/dev/null || true") == "", "an empty file is none"


def test_values_of_two_numbers_files_in_the_way_and_damaged_records(
    controller: Controller, fleet: dict[str, Any]
):
    on: Callable[..., str] = controller.machine.on
    ports, cookies = "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies"
    record, later = "/var/lib/tcpdoctor/sysctl-before.json", "/etc/sysctl.d/98-later.conf"
    rules = ["syncookies-off", "ephemeral-range-narrow"]
    wanted = ("-e", json.dumps({"tcpdoctor_hosts": "web2", "tcpdoctor_fix_rules": rules}))
    on("web2", "sysctl", "-w", f"{ports}=40000 40100")
    on("web2", "sh", "-c", f"rm -rf /etc/sysctl.d; mkdir /etc/sysctl.d; echo {cookies}=0 > {later}")

    foreseen = controller.play("sysctl_fixes", *wanted, "--check")
    assert foreseen.returncode == 0, foreseen.stdout
    assert f"It would fail: at the next boot {later} sets {cookies} to 0" in foreseen.stdout
    assert "A real run would leave nothing to fix." in foreseen.stdout

    applied = controller.play("sysctl_fixes", *wanted)
    assert applied.returncode == 2, applied.stdout
    assert f"Set now, but not for the next boot: {later}: {cookies}: the file says 0" in applied.stdout
    assert on("web2", "sysctl", "-n", ports).split() == ["32768", "60999"]
    assert f"{ports}=32768 60999" in on("web2", "cat", SYSCTL_FILE).splitlines()
    on("web2", "sh", "-c", f"mv {record} /root/kept; echo '{{' > {record}")
    stopped = controller.play("sysctl_fixes", *wanted)
    assert stopped.returncode == 2, stopped.stdout
    assert f"{record} cannot be read" in stopped.stdout
    on("web2", "mv", "/root/kept", record)

    for said in ("changed: [web2]", "nothing was set here"):
        undone = controller.play("sysctl_fixes", *wanted, "-e", "tcpdoctor_undo=true")
        assert (undone.returncode, said in undone.stdout) == (0, True), undone.stdout
    assert on("web2", "sysctl", "-n", ports).split() == ["40000", "40100"]
    assert on("web2", "sh", "-c", f"ls {SYSCTL_FILE} 2>/dev/null || true") == ""


def test_nothing_outlives_whoever_made_the_hosts(tmp_path: Path):
    program = (
        "import os, signal; from pathlib import Path; from tests.peers.sshd_hosts import HostPlan, made\n"
        f"with made(Path({str(tmp_path)!r}), [HostPlan('web1', '{NETWORK}.11')]) as machine:\n"
        "    print(machine.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    first = int(killed.stdout)
    from tcpdoctor.lab.pairs import wait_until

    wait_until(lambda: not Path(f"/proc/{first}/ns/pid").exists(), "the hosts end")

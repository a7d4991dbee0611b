"""Hosts, containers and sandboxes that keep things from us: no crash, no false OK, and reasons to act on."""

import errno
import functools
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import environment
from tests.cli.forked import run_forked
from tests.live.refusal import needs_known_machine, refuse_call, refuse_netlink

pytestmark = [
    needs_known_machine,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up privileges and mount over files"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed"),
    pytest.mark.usefixtures("mount_namespace"),
]
CHECKOUT = Path(__file__).parents[2]
SAMPLE = Path(__file__).parents[1] / "recordings" / "samples" / "ss-tanp.txt"
NOBODY = ("setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups")
COUNTERS = "netstat snmp softnet_stat sockstat sockstat6 snmp6"
COPIED = f"{COUNTERS} tcp tcp6 udp udp6 if_inet6 fib_trie route dev"


def without(*capabilities):
    """Root that has lost these capabilities."""
    return ("setpriv", "--bounding-set", ",".join(f"-{name}" for name in capabilities))


def mounted(script, *then):
    """A private mount namespace in which `script` was run; `$$` is the program's pid."""
    return ("unshare", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh", *then)


def with_other_files(script):
    """In place of its /proc/.../net the program sees a copy of it in which `script` was run.

    What is mounted on one of those files the kernel takes away again at the next look at the folder.
    """
    return mounted(
        "net=/proc/$$/task/$$/net; mount -t tmpfs none /mnt; "
        f"for file in {COPIED}; do [ ! -e $net/$file ] || cat $net/$file > /mnt/$file; done; "
        f"(cd /mnt; {script}); mount --bind /mnt $net; umount -l /mnt"
    )


PREFIXES = {
    "an ordinary user": NOBODY,
    "no CAP_NET_ADMIN": without("net_admin"),
    "no CAP_SYS_PTRACE": without("sys_ptrace"),
    "no CAP_DAC_READ_SEARCH": without("dac_read_search", "dac_override"),
    "root without capabilities": without("all"),
    "hidepid=2": mounted("mount -t proc -o hidepid=2 proc /proc", *NOBODY),
    "hidepid=2 and root without CAP_SYS_PTRACE": mounted(
        "mount -t proc -o hidepid=2 proc /proc", *without("sys_ptrace")
    ),
    "a user namespace": ("unshare", "--user", "--map-root-user"),
    "a user and a network namespace": ("unshare", "--user", "--map-root-user", "--net"),
    "a PID namespace": ("unshare", "--pid", "--fork", "--mount-proc"),
    "masked settings": mounted("mount -t tmpfs none /proc/sys"),
    "settings masked in part": mounted("mount -t tmpfs none /proc/sys/net/ipv4"),
    "one setting masked": mounted("mount --bind /dev/null /proc/sys/net/ipv4/ip_local_port_range"),
    "settings that make no sense": mounted(
        "mount -t tmpfs none /mnt; echo 60999 32768 > /mnt/range; echo abc > /mnt/word; "
        "mount --bind /mnt/range /proc/sys/net/ipv4/ip_local_port_range; "
        "for name in tcp_fin_timeout tcp_rmem ip_local_reserved_ports ip_unprivileged_port_start; "
        "do mount --bind /mnt/word /proc/sys/net/ipv4/$name; done"
    ),
    "read-only settings": mounted("mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys"),
    "only processes in /proc": mounted("mount -t proc -o subset=pid proc /proc"),
    "no counters": with_other_files(f"rm -f {COUNTERS}"),
    "empty counters": with_other_files(f"for file in {COUNTERS}; do : > $file; done"),
    "counters with names and no values": with_other_files("printf 'TcpExt: ListenDrops\\n' > netstat"),
    "counters that make no sense": with_other_files(
        "echo 'Tcp: InSegs OutSegs' > snmp; echo 'Tcp: 1' >> snmp; echo a b > snmp6; echo z > softnet_stat; "
        "echo 'TCP: inuse 5 orphan' > sockstat; head -c 99991 /dev/urandom > sockstat6"
    ),
    "no /sys": mounted("mount -t tmpfs none /sys"),
    "no IPv6 in the kernel": with_other_files(
        "mount -t tmpfs none /proc/sys/net/ipv6; rm -f if_inet6 tcp6 udp6 snmp6 sockstat6"
    ),
    "a bare environment": ("env", "-i", "PATH=/usr/bin:/bin", "LC_ALL=C", "COLUMNS=20"),
}
_REFUSED = (
    "bind",
    "sendto",
    "recvfrom",
    "socket",
    "openat2",
    "pidfd_getfd",
    "flock",
    "memfd_create",
    "uname",
)
MEMORY = "80 MiB of memory"
REFUSALS = {
    "netlink is refused": (functools.partial(refuse_netlink, errno.EAFNOSUPPORT),),
    "netlink is forbidden": (functools.partial(refuse_netlink, errno.EPERM),),
    **{f"{name} is refused": (functools.partial(refuse_call, name),) for name in _REFUSED},
    "no process or thread may be begun": tuple(
        functools.partial(refuse_call, name, errno.ENOSYS if name == "clone3" else errno.EAGAIN)
        for name in ("fork", "clone", "clone3")
    ),
    "nine descriptors": (functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (9, 9)),),
    "twenty descriptors": (functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (20, 20)),),
    MEMORY: (functools.partial(resource.setrlimit, resource.RLIMIT_AS, (80 << 20, 80 << 20)),),
}


def ask(words, prefix=(), refusals=(), *, forked=False):
    """Run the program under refusals; return what it gave.

    Where it is `forked` they hold from its first line on, and Python has started before.
    """

    def prepare():
        for refuse in refusals:
            refuse()

    if forked:
        return run_forked(words, environment(), go_there=prepare)
    return subprocess.run(
        [*prefix, sys.executable, "-m", "tcpdoctor", *words],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=prepare,
        timeout=60,
    )


SEVERAL = """
import json, os, sys
from tests.cli.forked import run_forked
for words in json.load(sys.stdin):
    done = run_forked(words, os.environ.copy())
    print(json.dumps((words, done.returncode, done.stdout, done.stderr)))
"""
"""Python starts once, and each command is a child of it."""


def ask_several(commands, prefix):
    """Run the program behind `prefix` once for each command; return what it gave."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", SEVERAL],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
        timeout=300,
    )
    return [subprocess.CompletedProcess(*json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


CHECK = ("check", "--window", "0", "--format", "json")
PORT = ("explain", "--port", "{port}", "--format", "json")
OTHERS = (
    ("explain", "--connect", "127.0.0.1:{port}"),
    ("explain", "--pid", str(os.getpid())),
    ("states", "--by", "process"),
    ("sockets", "--options"),
    ("facts",),
    ("sysctl", "show"),
    ("sysctl", "lint", "--fail-on", "never"),
    ("snapshot", "--window", "0"),
    ("fix", "--window", "0"),
    ("fix", "--window", "0", "--json"),
    ("watch", "--plain", "--count", "1"),
    ("trace", "--for", "0.1s"),
    ("trace", "--for", "0.1s", "--json"),
    ("explain", "ECONNRESET"),
    ("diff", str(SAMPLE), str(SAMPLE)),
    ("check", "--window", "0", "--from", str(SAMPLE)),
)
SAID_MEANWHILE = re.compile(r"^tcpdoctor trace: (?:looking until|not all can be told: ).*\n", re.MULTILINE)
"""What `trace` tells whoever waits for it, beside its answer."""


def check_answers(port, commands, prefix=(), refusals=(), *, forked=False):
    """Whatever is refused: an exit code of ours, at most one line of complaint, reasons that can be true."""
    asked = [[word.format(port=port) for word in command] for command in commands]
    if prefix and forked:
        answers = ask_several(asked, prefix)
    else:
        answers = [ask(words, prefix, refusals, forked=forked) for words in asked]
    for words, answer in zip(asked, answers, strict=True):
        assert "Traceback" not in answer.stderr, (words, answer.stderr)
        assert "a fault of this program" not in answer.stderr, (words, answer.stderr)
        assert answer.returncode in (0, 1, 2, 3), words
        assert SAID_MEANWHILE.sub("", answer.stderr).count("\n") <= 1, (words, answer.stderr)
        assert answer.stdout or (answer.stderr and answer.returncode == 3), words
        if answer.stdout.startswith("{"):
            text = answer.stdout.splitlines()[-1] if words[0] == "trace" else answer.stdout
            check_document(json.loads(text), as_root="--reuid" not in prefix)


def check_document(document, *, as_root):
    reasons = [item["reason"] for item in document.get("unchecked", ())]
    reasons += [reason for reason in document.get("missing", {}).values() if reason]
    assert all(reasons)
    if as_root:
        assert [reason for reason in reasons if "run as root;" in f"{reason};"] == []
    if document.get("schema", "").startswith("tcpdoctor.check/") and document["states"] is None:
        assert document["status"] == "unknown"


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_whatever_is_hidden_there_is_an_answer_or_one_true_line(request, port, prefix):
    if "--user" in prefix:
        request.getfixturevalue("user_namespace")
    check_answers(port, (CHECK, PORT), prefix)


@pytest.mark.parametrize("refusals", REFUSALS.values(), ids=REFUSALS)
def test_whatever_is_refused_there_is_an_answer_or_one_true_line(port, refusals):
    check_answers(port, (CHECK, PORT), refusals=refusals)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_every_command_answers_whatever_is_hidden(request, port, prefix):
    if "--user" in prefix:
        request.getfixturevalue("user_namespace")
    of_one_process = any("/proc/$$/" in word for word in prefix)
    check_answers(port, OTHERS, prefix, forked=not of_one_process)


@pytest.mark.slow
@pytest.mark.parametrize("refused", REFUSALS)
def test_every_command_answers_whatever_is_refused(port, refused):
    """Starts under each refusal are tested above; memory is what the process has from its start on."""
    check_answers(port, OTHERS, refusals=REFUSALS[refused], forked=refused != MEMORY)


def test_a_port_is_not_called_free_where_the_listener_cannot_be_seen(port):
    refused = tuple(functools.partial(refuse_call, name) for name in ("socket",))
    prefix = mounted("mount -t tmpfs none /proc/$$/task/$$/net")
    answer = ask(("explain", "--port", str(port), "--format", "json"), prefix, refused)
    if answer.stdout:
        document = json.loads(answer.stdout)
        assert (document["verdict"], document["bind"]) == ("unknown", None)
    else:
        assert answer.returncode == 3


def test_netlink_that_is_refused_is_not_called_an_old_kernel(port):
    refused = REFUSALS["netlink is forbidden"]
    answer = ask(("check", "--window", "0", "--format", "json", "--fail-on", "never"), refusals=refused)
    document = json.loads(answer.stdout)
    told = [document["missing"]["states.bound"]]
    told += [item["reason"] for item in document["unchecked"] if item["rule"] == "ephemeral-ports-bound"]
    assert all("refused by a sandbox" in reason for reason in told), told


def test_a_sandbox_without_uname_is_told_what_to_allow(port):
    refused = (functools.partial(refuse_call, "uname"),)
    plain = ask(("check", "--window", "0"), refusals=refused)
    assert (plain.returncode, plain.stdout) == (3, "")
    assert plain.stderr.startswith("tcpdoctor: uname(2) is refused here (Operation not permitted); allow it")
    asked = ask(("check", "--window", "0", "--format", "nagios"), refusals=refused)
    assert (asked.returncode, asked.stderr) == (3, "")
    assert asked.stdout.startswith("TCPDOCTOR UNKNOWN - uname(2) is refused here")


def test_a_file_of_counters_that_cannot_be_read_is_told_of_and_the_others_are(port):
    prefix = PREFIXES["counters with names and no values"]
    answer = ask(("check", "--window", "0.1", "--format", "json", "--fail-on", "never"), prefix)
    document = json.loads(answer.stdout)
    told = {item["rule"]: item["reason"] for item in document["unchecked"]}
    assert "netstat line 2: expected 1 values of 'TcpExt:'" in told["accept-queue-overflows"]
    assert not [reason for reason in told.values() if "net/snmp" in reason or "softnet_stat" in reason]


@pytest.mark.parametrize("most", [5, 7, 8, 9])
def test_too_few_descriptors_for_all_namespaces_are_told_with_what_to_raise(port, most):
    limits = (functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (most, most)),)
    answer = ask(("check", "--window", "0", "--netns", "all"), refusals=limits)
    if most > 5 and answer.returncode != 3:  # with few namespaces it may do with these
        assert re.search(r"\b[0-9]+ network namespaces?: ", answer.stdout)
        return
    assert (answer.returncode, answer.stdout) == (3, "")
    assert answer.stderr.endswith("too many files are open for this process's limit; raise it (ulimit -n)\n")


def test_a_setting_that_makes_no_sense_is_missing_and_the_look_goes_on(port):
    answer = ask(CHECK, PREFIXES["settings that make no sense"])
    document = json.loads(answer.stdout)
    assert document["states"]["listen"] >= 1
    reasons = [item["reason"] for item in document["unchecked"]]
    assert any("tcp_fin_timeout: expected one whole number, found 'abc" in reason for reason in reasons)


@pytest.mark.parametrize("hidden", ["one setting masked", "masked settings"])
def test_what_is_hidden_is_recorded_as_hidden_and_plans_nothing(tmp_path, hidden):
    file = str(tmp_path / "host.json")
    assert ask(("snapshot", "--window", "0", "--output", file), PREFIXES[hidden]).returncode == 0
    answer = ask(("check", "--from", file, "--format", "json", "--fail-on", "never"))
    reasons = [item["reason"] for item in json.loads(answer.stdout)["unchecked"]]
    assert any("masks it" in reason for reason in reasons), reasons
    plan = ask(("fix", "--window", "0", "ephemeral-range-narrow"), PREFIXES[hidden])
    assert (plan.returncode, plan.stdout) == (3, "")
    assert plan.stderr.startswith("tcpdoctor fix: no plan: 1 rule could not be answered (")


def test_hidepid_is_named_with_what_lifts_it(port):
    prefix = PREFIXES["hidepid=2"]
    answer = ask(("explain", "--port", str(port)), prefix)
    assert "hidepid" in " ".join(answer.stdout.split())
    assert "CAP_SYS_PTRACE" in " ".join(answer.stdout.split())


def test_a_folder_of_roots_alone_is_called_so_and_not_a_lack_of_proc(tmp_path):
    folder = tmp_path / "rules"
    folder.mkdir(mode=0o700)
    for above in (tmp_path, *tmp_path.parents[:3]):
        if above.name.startswith(("pytest", "test", "popen")):
            above.chmod(0o755)  # so that the folder itself is what refuses
    answer = ask(("check", "--window", "0", "--rules", str(folder)), NOBODY)
    assert answer.returncode == 3
    assert answer.stderr.endswith(": permission denied; run as its owner, or as root\n")


def test_without_proc_every_command_says_so_in_one_line():
    prefix = mounted("umount -l /proc")
    for words in (
        ("check",),
        ("explain", "--port", "8080"),
        ("states",),
        ("sockets",),
        ("facts",),
        ("sysctl", "lint"),
        ("check", "--netns", "all"),
    ):
        answer = ask(words, prefix)
        assert (answer.returncode, answer.stdout) == (3, ""), words
        assert answer.stderr.count("\n") == 1, words
        assert "/proc" in answer.stderr, words
        assert "a fault" not in answer.stderr, words
    nagios = ask(("check", "--netns", "all", "--format", "nagios"), prefix)
    assert (nagios.returncode, nagios.stderr) == (3, "")
    assert nagios.stdout.startswith("TCPDOCTOR UNKNOWN - ")

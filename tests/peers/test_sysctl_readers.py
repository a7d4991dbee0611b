"""Which line of many files wins: our prediction against systemd-sysctl and procps on generated trees.

Each case lies in a root of its own in a private mount namespace, and acts on a private network namespace.
"""

import random
import subprocess

import pytest

from tcpdoctor.facts.sysctl_value import is_same
from tests.sysctl_tree import Files, held, make_root, predicted, run_reader

READERS = {
    "systemd": ("/lib/systemd/systemd-sysctl", "systemd", ()),
    "procps": ("sysctl", "procps", ("--system",)),
}
INTERFACES = ("eth0", "eth0.1")
PATHS = [
    "net/ipv4/tcp_retries2",
    "net/ipv4/tcp_syn_retries",
    "net/ipv4/tcp_fin_timeout",
    *(f"net/ipv4/conf/{name}/tag" for name in ("all", "default", "lo", *INTERFACES)),
]
KEYS = (
    "net.ipv4.tcp_retries2",
    "net/ipv4/tcp_retries2",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_fin_timeout",
    "/net/ipv4/tcp_fin_timeout",
    "net.ipv4..tcp_retries2",
    "net/ipv4/../ipv4/tcp_retries2",
    "net.ipv4.tcp_*_retries",
    "net.ipv4.tcp_[rs]*[2s]",
    "net.ipv4.conf.*.tag",
    "net/ipv4/conf/*/tag",
    "net.ipv4.conf.[!e]*.tag",
    "net.ipv4.conf.eth*.tag",
    "net.ipv4.conf.eth0/1.tag",
    "net/ipv4/conf/eth0.1/tag",
    "net.ipv4.conf.lo.tag",
    "net.ipv4.conf.all.tag",
    "net.ipv4.conf.default.tag",
    "net.ipv4.tcp_nothing",
    "net.ipv4",
)
VALUES = ("1", "2", "3", "5", "8", "13", "300", "banana", "7 # c", "9#", "0x10", "010", "-1", "")
ENDS = (b"\n",) * 6 + (b"\r\n", b"\r", b"\n\n", b"\0", b"\n\r")
NAMES = ("10-a.conf", "50-b.conf", ".h.conf", "A.conf", "z.conf", "9.conf", "\u00e9.conf", "x.txt")
FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d")
CASES = 250


def line(chance: random.Random) -> bytes:
    key, kind = chance.choice(KEYS), chance.random()
    if kind < 0.06:
        text = f"# {key} = 1"
    elif kind < 0.1:
        text = "no assignment"
    elif kind < 0.2:
        text = f"-{key}"
    elif kind < 0.24:
        text = f"- {key} = 4"
    elif kind < 0.28:
        text = f"--{key} = 6"
    else:
        before, equals = chance.choice(("", "-", " ", "\t")), chance.choice((" = ", "=", "= "))
        text = before + key + equals + chance.choice(VALUES) + chance.choice(("", " ", "\t"))
    return text.encode() + chance.choice(ENDS)


def tree(chance: random.Random) -> Files:
    files: dict[str, bytes | str] = {}
    for folder in FOLDERS:
        for name in chance.sample(NAMES, chance.randint(0, 3)):
            kind = chance.random()
            lines = b"".join(line(chance) for _ in range(chance.randint(0, 5)))
            files[f"{folder}/{name}"] = "/dev/null" if kind < 0.1 else "nowhere" if kind < 0.15 else lines
    if chance.random() < 0.5:
        files["etc/sysctl.conf"] = b"".join(line(chance) for _ in range(3))
        if chance.random() < 0.5:
            files["etc/sysctl.d/99-sysctl.conf"] = "../sysctl.conf"
    return files


def differences(files: Files, reader: str, command: list[str]) -> list[str]:
    """What the reader made of the files that was not predicted."""
    for name in INTERFACES:
        subprocess.run(
            ["ip", "link", "add", name, "type", "veth", "peer", "name", f"p{name}"], check=True, timeout=300
        )
    for name in ("lo", *INTERFACES):  # written once, an interface no longer follows conf.default
        with open(f"/proc/sys/net/ipv4/conf/{name}/tag", "w", encoding="ascii") as file:
            file.write("0")
    root = make_root(files)
    before, expected = held(PATHS), predicted(root, reader)
    run_reader(root, *command)
    after = held(PATHS)
    return [
        f"{path}: {expected.get(path, 'left alone')} was predicted, {after[path]} it is; {files}"
        for path in PATHS
        if not is_same(expected.get(path, before[path]) or "", after[path] or "")
    ]


@pytest.mark.parametrize("reader", sorted(READERS))
def test_every_value_after_the_reader_ran_is_the_one_predicted(in_namespace, need, reader):
    program, package, arguments = READERS[reader]
    command = [need(program, package), *arguments]
    for seed in range(CASES):
        assert in_namespace(differences, tree(random.Random(seed)), reader, command) == [], seed


def test_generated_trees_hold_what_the_readers_take_apart():
    trees = [tree(random.Random(seed)) for seed in range(CASES)]
    text = b"".join(content for files in trees for content in files.values() if isinstance(content, bytes))
    for part in (b"\0", b"\r\n", b"--net", b"..", b"eth0/1", b"[!e]", b"7 # c", b"\n-net"):
        assert part in text
    assert sum("etc/sysctl.d/99-sysctl.conf" in files for files in trees) > CASES // 10

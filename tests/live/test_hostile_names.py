"""Processes, interfaces and namespaces with names to hurt: clean in every format of every command."""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from tests.cli.forked import run_forked

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give names to interfaces and namespaces"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="the program ip is not installed"),
]
COLOURED = b'\x1b[31m|</b>\xe2\x80\xae"'
"""An escape sequence, a field of Nagios, markup, a mark that turns text around, a quote: 14 of 15 bytes."""
BROKEN = b"\xc2\x9b2J\xff\n'[/bold]`"
"""A control character of C1, bytes that are no UTF-8, a newline, more quotes, markup of terminals."""
ARGUMENT = b'</script><img src=x>\x1b]0;x\x07\n| "\xe2\x80\xae\xff`$(x)'
DEVICE = b"\x1b[7m|<b>\xe2\x80\xae"
NETNS = b"\x1b[7m|<b>\n\xe2\x80\xae\xff\"'"
NEW_MOUNTS, PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS; MS_REC | MS_PRIVATE
SERVER = """\
import os, socket, sys
server = socket.socket()
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen(1)
held = [socket.create_connection(server.getsockname()) for _ in range(2)]
name = os.fsencode(sys.argv[2])
open("/proc/self/comm", "wb", buffering=0).write(name)
sys.stdout.write("ready")
sys.stdout.flush()
sys.stdin.read()
"""
FORMATS = {
    ("check", "--window", "0", "--long"): "text json jsonl nagios prometheus junit markdown html journal",
    ("check", "--window", "0"): "text",
    ("check", "--window", "0", "--netns", "all"): "text json jsonl nagios prometheus junit markdown html",
    ("check", "--from", "{recorded}"): "text json markdown html",
    ("explain", "--port", "7001", "--long"): "text json markdown html",
    ("explain", "--port", "7003"): "text json markdown html",
    ("explain", "--connect", "127.0.0.1:7001", "--long"): "text json markdown html",
    ("explain", "--connect", "192.0.2.7:7001", "--long"): "text json markdown html",
    ("explain", "--pid", "{pid}", "--long"): "text json markdown html",
    ("explain", "--state", "listen"): "text json markdown html",
    ("explain", "--error", "EADDRINUSE"): "text json markdown html",
    ("explain", "{word}"): "text json markdown html",
    ("explain", "--port", "7001", "--from", "{recorded}"): "text json markdown html",
    ("states", "--by", "process"): "text json",
    ("states", "--by", "process", "--from", "{recorded}"): "text json",
    ("sockets", "--options"): "text json",
    ("sockets", "--from", "{recorded}"): "text json",
    ("fix", "--window", "0"): "text json",
    ("facts",): "text json",
    ("trace", "--for", "0.1s"): "text json",
    ("watch", "--plain", "--count", "1"): "",
    ("snapshot", "--window", "0", "--raw"): "",
    ("diff", "{recorded}", "{recorded}"): "text json markdown html",
    ("fleet", "{report}"): "text json jsonl markdown html",
}
CASES = [
    (*command, *(("--format", form) if form else ()))
    for command, forms in FORMATS.items()
    for form in forms.split() or ("",)
]
PARTS = 5
"""Each with a scene of its own, which may take two minutes."""


def begin_server(port, name):
    """A server of that name whose accept queue is full, so that there is something to say of it."""
    command = [os.fsencode(sys.executable), b"-c", SERVER.encode(), str(port).encode(), name, ARGUMENT]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.read(5) == b"ready"
    return process


def call_everything_names(folder):
    """Give the names, and what the braces of the commands stand for."""
    libc = ctypes.CDLL(None)
    assert libc.unshare(NEW_MOUNTS) == 0
    assert libc.mount(b"none", b"/", None, PRIVATE, None) == 0
    Path("/run/netns").mkdir(exist_ok=True)
    assert libc.mount(b"none", b"/run/netns", b"tmpfs", 0, None) == 0
    ip = (b"ip", b"link", b"add", DEVICE, b"type", b"veth", b"peer", b"name", b"peer0")
    subprocess.run(ip, check=True, timeout=120)
    subprocess.run((b"ip", b"link", b"set", DEVICE, b"up"), check=True, timeout=120)
    subprocess.run((b"ip", b"addr", b"add", b"192.0.2.1/24", b"dev", DEVICE), check=True, timeout=120)
    named = b"/run/netns/" + NETNS
    Path(os.fsdecode(named)).touch()
    assert libc.mount(b"/proc/self/ns/net", named, None, 4096, None) == 0
    for name in ("recorded", "report"):
        (folder / name).unlink(missing_ok=True)
    first = begin_server(7001, COLOURED)
    ask(("snapshot", "--window", "0", "--raw", "--output", str(folder / "recorded")))
    (folder / "report").write_text(ask(("check", "--window", "0", "--format", "json")).stdout)
    return {
        "pid": first.pid,
        "word": os.fsdecode(COLOURED),
        **{name: str(folder / name) for name in ("recorded", "report")},
    }, (first, begin_server(7003, BROKEN))


def ask(words):
    return run_forked(words, {**os.environ, "COLUMNS": "80"})


def unclean(text, form):
    """What of an answer may steer what shows it."""
    allowed = {"\n", "\t"} if form in ("junit", "html", "sarif") else {"\n"}
    return {
        repr(character)
        for character in text
        if character not in allowed
        and (unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") or character == "\ufffe")
    }


def strings(document):
    """Every text of a JSON document."""
    if isinstance(document, dict):
        document = [*document.keys(), *document.values()]
    if isinstance(document, list):
        for part in document:
            yield from strings(part)
    elif isinstance(document, str):
        yield document


def faults(form, answer):
    """What is wrong with an answer in that format."""
    text = answer.stdout
    found = {f"{character} in the answer" for character in unclean(text, form)}
    found |= {f"{character} in the complaint" for character in unclean(answer.stderr, "")}
    if "Traceback" in answer.stderr or "a fault of this" in answer.stderr:
        found.add(answer.stderr)
    if form in ("json", "jsonl") and text:
        told = strings(
            [json.loads(line) for line in ([text] if text.startswith("{\n") else text.splitlines())]
        )
        found |= {f"{character} in a string" for one in told for character in unclean(one, "")}
    if form == "html":
        found |= set(re.findall(r"\|</?b>|<img[^>]*>|<script[^>]*src", text))
    if form == "nagios":
        found |= {line for line in text.splitlines()[:1] if line.count("|") > 1}
    if form == "prometheus":
        sample = r'(?:# .*|[a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*\})? \S+)'
        found |= {line for line in text.splitlines() if not re.fullmatch(sample, line)}
    return found


def ask_all(folder, cases):
    words, servers = call_everything_names(Path(folder))
    said = {}
    try:
        for case in cases:
            answer = ask([word.format(**words) for word in case])
            form = case[-1] if "--format" in case else ""
            said[" ".join(case)] = answer.returncode, faults(form, answer), answer.stdout
    finally:
        for server in servers:
            server.kill()
            server.wait()
    return said


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_names_that_somebody_chose_to_hurt_are_clean_in_every_format_of_every_command(
    in_namespace, tmp_path, part
):
    said = in_namespace(ask_all, str(tmp_path), CASES[part::PARTS])
    assert {case: wrong for case, (_, wrong, _) in said.items() if wrong} == {}
    assert {code for code, _, _ in said.values()} <= {0, 1, 2, 3}
    assert len([case for case, (_, _, text) in said.items() if "[31m" in text]) >= len(said) // 2

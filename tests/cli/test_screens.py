"""Every screen fits the terminal it is read on, at 40, 80, 120 and 200 columns, and 80 in a pipe.

All are asked in one process, in a namespace with a few things wrong, on a terminal whose width changes.
"""

import fcntl
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

WIDTHS = (40, 80, 120, 200)
PORT = 18081
SCREENS = (
    ("check", "--window", "0"),
    ("check", "--window", "0", "--long"),
    ("check", "--window", "0", "--unanswered"),
    ("check", "--window", "0", "syncookies-off", "fin-timeout-short"),
    ("explain", str(PORT)),
    ("explain", str(PORT), "--long"),
    ("explain", "18099"),
    ("explain", f"127.0.0.1:{PORT}"),
    ("explain", "--connect", f"127.0.0.1:{PORT}"),
    ("explain", "--connect", f"127.0.0.1:{PORT}", "--long"),
    ("explain", "--pid", "self"),
    ("explain", "--pid", "self", "--long"),
    *(("explain", word) for word in ("close-wait", "bound", "tcp_fin_timeout", "tcp_mem", "tcp_rmem")),
    *(("explain", word) for word in ("SO_REUSEADDR", "TCP_USER_TIMEOUT", "EADDRINUSE", "EMFILE")),
    *(("explain", word) for word in ("close-wait-leak", "snat-ports-used-up")),
    ("states",),
    *(("states", "--by", by) for by in ("port", "peer", "process")),
    ("sockets",),
    ("sockets", "--options"),
    ("sockets", "--udp"),
    ("facts", "--window", "0"),
    ("facts", "--names"),
    ("rules", "list"),
    ("rules", "show", "accept-queue-full"),
    ("sysctl", "show"),
    ("sysctl", "show", "--changed"),
    ("sysctl", "show", "net.ipv4.tcp_mem", "net.ipv4.tcp_tw_recycle"),
    ("lab", "list"),
    (),
    *((command, "--help") for command in ("check", "explain", "states", "sockets", "facts", "fleet")),
    *((*command.split(), "--help") for command in ("sysctl show", "sysctl lint", "rules list", "lab run")),
)
TYPED = re.compile(r"""(# .*|[^'" ]*('[^']*'|"[^"]*")?[^'" ]*)( \\)?""")
"""One word of a shell, however long: a command is continued between words and never inside one."""


class Terminal:
    """Standard output of this process, as a terminal of any width; what is written there can be read."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        mode = termios.tcgetattr(slave)
        mode[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        os.dup2(slave, 1)
        os.close(slave)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)

    def shows(self, columns: int, arguments: tuple[str, ...]) -> str:
        """Run one command line and return its screen."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 9000, columns, 0, 0))
        return _printed(self._master, arguments)


def _printed(source: int, arguments: tuple[str, ...]) -> str:
    """Run one command line, and read what it writes to standard output meanwhile."""
    from tcpdoctor.cli.app import run

    text = b""

    def read() -> None:
        nonlocal text
        while not text.endswith(b"\0"):
            text += os.read(source, 65536)

    reader = threading.Thread(target=read)
    reader.start()
    run(arguments)
    sys.stdout.flush()
    os.write(1, b"\0")
    reader.join()
    return text[:-1].decode()


def _make_ill(stack: ExitStack) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=120)
    for name, value in {"tcp_fin_timeout": 10, "tcp_syncookies": 0, "tcp_orphan_retries": 1}.items():
        Path(f"/proc/sys/net/ipv4/{name}").write_text(str(value))
    server = stack.enter_context(socket.create_server(("127.0.0.1", PORT), backlog=5))
    for _ in range(7):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(server.getsockname())
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=23))
    for _ in range(11):
        with socket.create_connection(listener.getsockname()):
            stack.enter_context(listener.accept()[0])
    stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
    stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(("127.0.0.1", 0))


def _shown(asked: tuple[tuple[str, ...], ...]) -> dict[tuple[str, ...], dict[int | None, str]]:
    """Return screens by the width of the terminal, and as a pipe gets them, which is None."""
    with ExitStack() as stack:
        _make_ill(stack)
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            os.environ.pop(name, None)
        os.environ |= {"TERM": "xterm", "PAGER": "cat"}
        pid = str(os.getpid())
        typed = {screen: tuple(pid if word == "self" else word for word in screen) for screen in asked}
        terminal = Terminal()
        screens: dict[tuple[str, ...], dict[int | None, str]] = {
            screen: {width: terminal.shows(width, arguments) for width in WIDTHS}
            for screen, arguments in typed.items()
        }
        source, writer = os.pipe()
        os.dup2(writer, 1)
        for screen, arguments in typed.items():
            screens[screen][None] = _printed(source, arguments)
        return screens


def without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9]+m", "", text).replace("\r", "")


def is_code(line: str) -> bool:
    """Whether a line is of a program: how an option is set in other languages keeps its lines."""
    from tcpdoctor.knowledge.option_pages import find_option, option_names

    return any(
        line.strip()[9:].strip() in "\n".join(find_option(name).code.values()).expandtabs(2)
        or line.strip() in "\n".join(find_option(name).code.values()).expandtabs(2)
        for name in option_names()
    )


def is_option(line: str) -> bool:
    """Whether a line of a help is an option with the values that it takes."""
    return re.fullmatch(r"  (-\w, )?--[a-z-]+ <[a-z|]+>", line) is not None


def faults_of(width: int | None, text: str) -> Iterator[str]:
    """Say what is wrong with one screen."""
    lines = without_colour(text).splitlines()
    if not text.strip():
        yield "it is empty"
    for line in lines:
        too_wide = len(line) > (width or 80) and not TYPED.fullmatch(line.strip())
        if too_wide and not is_code(line) and not is_option(line):
            yield f"too wide: {line}"
    short = [0 < len(line.strip()) <= 3 and line.strip().isalnum() for line in lines]
    for place in range(len(short) - 2):
        if all(short[place : place + 3]):
            yield f"squeezed: {lines[place]}"
    for line in text.splitlines():
        codes = re.findall(r"\x1b\[([0-9]+)m", line)
        if [code == "0" for code in codes] != [False, True] * (len(codes) // 2):
            yield f"its colours do not end with the line: {line}"
    if width is None and ("\x1b" in text or not text.isascii()):
        yield "a pipe gets colours, or more than ASCII"


PARTS = 4
"""In which the screens are asked, so that they are asked side by side."""


@pytest.mark.parametrize("part", range(PARTS))
def test_every_screen_fits(in_namespace, part):
    screens = in_namespace(_shown, SCREENS[part::PARTS])
    faults = [
        f"{' '.join(screen)} at {width}: {fault}"
        for screen, told in screens.items()
        for width, text in told.items()
        for fault in faults_of(width, text)
    ]
    assert faults == []
    for screen, told in screens.items():
        if screen[:1] == ("check",) and "--help" not in screen and "--unanswered" not in screen:
            assert re.match(r"(WARNING|CRITICAL)", told[None] or ""), "something is wrong there"

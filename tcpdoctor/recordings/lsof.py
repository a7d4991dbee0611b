r"""What ``lsof`` prints of TCP sockets: who holds them, in which state; no queues, no timers, no scope.

It names a process by nine letters of its comm unless ``+c`` says otherwise, and writes a blank in it as
``\x20``. A socket that no process holds is in none of its lines, so it never lists all of them.
"""

import re
from collections.abc import Iterator, Sequence
from socket import AF_INET, AF_INET6, inet_pton

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.recordings.netstat import STATES
from tcpdoctor.recordings.pasted import (
    ASK_FOR_SS,
    IPV4_HAS_NONE,
    LAST_PORT,
    LIMIT_OF_LISTENERS,
    Command,
    Pasted,
    PastedSocket,
    not_understood,
    port_in,
    read_to_the_end,
    until_interrupted,
)

LSOF_HEADER = re.compile(
    r"\s*COMMAND\s+PID\s+(?:TID\s+(?:TASKCMD\s+)?)?(?:PGID\s+)?(?:PPID\s+)?USER\s+FD\s+TYPE\s"
)
LSOF_SOCKET = re.compile(
    r"\s*\S+\s+\d+\s(?:.{0,80}?\s)?(?:\d+[a-zA-Z]{0,3}|cwd|rtd|txt|mem|DEL|NOFD|err)\s+"
    r"(?:IPv[46]|sock|unix|REG|DIR|CHR|FIFO|a_inode|netlink|pack|raw6?|BLK|LINK|unknown)\s"
)
"""The beginning of a file's line."""
LSOF_FIELD = re.compile(r"p\d{1,8}$")
"""What begins a process with ``-F``, which prints a field a line."""
LSOF_NOISE = re.compile(r"lsof: |\s+Output information may be incomplete\.")
_SOCKET = re.compile(
    r"\s*(\S+)\s+(\d{1,10})\s+(?:(\d{1,10})\s+(?:\S+\s+)?)?(\S+)\s+(\d{1,10})[a-zA-Z]{0,3}\s+IPv([46])\s+(\S+)\s+\S+\s+(TCP|UDP)"
    r"\s+(\S+?)(?:->(\S+))?(?:\s+\((\w+)(?: ([^)]{1,80}))?\))?(?:\s+\(.*\))?$"
)
_HELD = re.compile(
    r"\s*(\S+)\s+(\d{1,10})\s+(?:\d{1,10}\s+(?:\S+\s+)?)??(\S+)\s+(\d{1,10})[a-zA-Z]{0,3}\s+IPv[46]\s+(\d{1,20})\s"
)
_OTHER_FILE = re.compile(
    r"\s*\S+\s+\d+\s.*\s(?:sock|unix|REG|DIR|CHR|FIFO|a_inode|netlink|pack|raw6?|BLK|LINK|unknown)\s"
)
_NAMED = re.compile(r"\s(?:TCP|UDP)\s+(?:\S*:[a-z][\w-]*(?:->|\s|$)|\S+->\S+:[a-z]|[\w.-]*[g-z][\w.-]*:)")
_ESCAPES = re.compile(r"(?:\\x[0-9a-f]{2})+")
_QUEUES = re.compile(r"QR=(\d{1,10}) QS=(\d{1,10})")

_NEVER = Missing(f"lsof does not print it; {ASK_FOR_SS}")
_PART = Missing(f"lsof lists only what a process holds; {ASK_FOR_SS}")


def read_lsof(lines: Sequence[str], command: Command | None = None) -> Pasted:  # noqa: ARG001
    """Read a listing of ``lsof``, one with ``-n`` and ``-P``.

    Raises:
        SnapshotError: It is of macOS; one line.
    """
    found: dict[tuple[str, str, str, int], tuple[PastedSocket, list[Holder]]] = {}
    leftover = []
    fields = any(map(LSOF_FIELD.match, lines[:40]))
    for line in until_interrupted(tuple(_rows_of(lines)) if fields else lines):
        if not line or line.isspace() or LSOF_HEADER.match(line):
            continue
        match = _SOCKET.match(line) if len(line) < 2_000 else None
        row = None if match is None else _row(match)
        if match is None or row is None:
            if not _OTHER_FILE.match(line[:500]) and not LSOF_NOISE.match(line):
                leftover.append(line)
            continue
        holder = Holder(
            int(match[2]),
            _name(match[1]),
            int(match[5]),
            int(match[4]) if match[4].isdecimal() and len(match[4]) <= 10 else -1,
        )
        key = (match[7], match[9], match[10] or "", int(match[6]))
        kept = found.setdefault(key, (row, []))
        if holder not in kept[1]:  # with -K it has a line for each thread
            kept[1].append(holder)
    sockets = tuple(row._replace(owner=Held(tuple(holders))) for row, holders in found.values())
    notes = not_understood(leftover)
    if any(map(_NAMED.search, leftover)):
        notes = (*notes, "lsof without -n and -P prints names instead of numbers; ask for: lsof -nP -iTCP")
    return Pasted("lsof", sockets=sockets, every_socket=read_to_the_end(_PART), notes=notes)


def inodes_held(text: str) -> dict[int, tuple[Holder, ...]]:
    """Return by inode who holds a socket, by pid: that is there even where ports are printed as names."""
    found: dict[int, dict[int, Holder]] = {}
    for line in text.split("\n"):
        if " IPv" not in line or len(line) > 2_000 or (match := _HELD.match(line)) is None:
            continue
        holder = Holder(int(match[2]), _name(match[1]), int(match[4]), -1)
        if match[3].isdecimal() and len(match[3]) <= 10:
            holder = holder._replace(uid=int(match[3]))
        found.setdefault(int(match[5]), {}).setdefault(holder.pid, holder)
    return {inode: tuple(sorted(by_pid.values())) for inode, by_pid in found.items()}


def _rows_of(lines: Sequence[str]) -> Iterator[str]:
    """What ``-F`` printed, as it is printed without; of other files nothing."""
    process: dict[str, str] = {}
    file: dict[str, str] = {}
    for line in (*lines, "p0"):
        letter, value = line[:1], line[1:].strip()
        if letter in ("p", "f"):
            if file.get("t", "").startswith("IPv") or "P" in file:
                yield _row_of(process, file)
            file = {}
        if letter == "p":
            process = {}
        if letter in ("p", "c", "u"):
            process[letter] = value
        elif letter == "T":
            name, _, told = value.partition("=")
            file[name] = told
        elif letter in ("f", "t", "d", "P", "n"):
            file[letter] = value


def _row_of(process: dict[str, str], file: dict[str, str]) -> str:
    name = process.get("c", "?").replace(" ", "\\x20")
    user, kind = process.get("u", "-"), file.get("t", "IPv6" if "[" in file.get("n", "") else "IPv4")
    state = f" ({file['ST']} QR={file.get('QR', '-')} QS={file.get('QS', '-')})" if "ST" in file else ""
    words = [name, process.get("p", "0"), user, f"{file.get('f', '0')}u", kind, file.get("d", "0"), "0t0"]
    return " ".join([*words, file.get("P", "TCP"), file.get("n", "") + state])


def _row(match: "re.Match[str]") -> PastedSocket | None:
    device, protocol = match[7], match[8]
    if device.startswith("0x"):
        raise SnapshotError("lsof of macOS, and tcpdoctor knows Linux only; take it there with: ss -tanoempi")
    family = int(match[6])
    local, remote = _endpoint(match[9], family), _endpoint(match[10], family)
    state = STATES.get(match[11] or "")
    if state is None and protocol == "UDP":
        state = TcpState.ESTABLISHED if match[10] else TcpState.CLOSE
    if local is None or remote is None or state is None or not device.isdecimal() or len(device) > 20:
        return None
    listens = state is TcpState.LISTEN
    queues = _QUEUES.match(match[12] or "")
    return PastedSocket(
        "tcp" if protocol == "TCP" else "udp",
        state,
        family,
        local,
        remote,
        _NEVER,
        _NEVER if queues is None else int(queues[1]),
        0 if listens else _NEVER if queues is None else int(queues[2]),
        _NEVER if listens else LIMIT_OF_LISTENERS,
        _NEVER,
        _NEVER,
        _NEVER,
        _NEVER,
        int(device) or _NEVER,
        _NEVER,
        _NEVER,
        _NEVER if family == 6 else IPV4_HAS_NONE,
        _NEVER,
        _NEVER,
        _NEVER,
    )


def _endpoint(text: str | None, family: int) -> Endpoint | None:
    """Return an end, numeric; the wildcard for ``*:80`` and where there is none; None where it is a name."""
    wildcard = "0.0.0.0" if family == 4 else "::"
    if text is None:
        return Endpoint(wildcard, 0)
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if host == "*":
        host = wildcard
    if family == 6 and ":" not in host:
        host = f"::ffff:{host}"
    try:
        inet_pton(AF_INET if family == 4 else AF_INET6, host)
    except (OSError, ValueError):
        return None
    if port != "*" and not (port.isdecimal() and len(port) <= 5):
        return None
    number = port_in(port)
    return Endpoint(host, number) if number <= LAST_PORT else None


def _name(text: str) -> str:
    """A name whose blanks and letters outside of ASCII are there byte by byte."""
    return clean(_ESCAPES.sub(lambda match: decode(bytes.fromhex(match[0].replace("\\x", ""))), text))

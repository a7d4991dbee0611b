"""Files of /proc/net that somebody copied or pasted, alone or several behind each other.

Each line says by its form which file it is of; the decoders are those of a live look. What is cut, or
is not as Linux writes it, is left out, counted and said.
"""

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.counters import (
    CpuPackets,
    parse_conntrack_stat,
    parse_named_lines,
    parse_paired_lines,
    parse_sockstat,
    parse_softnet,
)
from tcpdoctor.kernel.listing import decode_proc_line, decode_udp_line
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Endpoint, Listener, NotHeld, UdpSocket
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.recordings.pasted import (
    Pasted,
    PastedSocket,
    not_understood,
    read_to_the_end,
    until_interrupted,
)

Line: TypeAlias = Literal[
    "tcp heading", "udp heading", "row", "names", "values", "six", "sockstat", "softnet", "tracked", "cut"
]
"""What one line of these files is; ``cut``: the beginning of a row whose end is missing."""

_UNTOLD = Missing("/proc/net/tcp does not tell it; ask for: ss -tanoempi")
_NO_OWNER = Missing("/proc/net/tcp names no processes; ask for: ss -tanoempi, as root")
_NO_UID = Missing("/proc/net/tcp tells no user of a socket that no process holds")
_NO_SOCKETS = Missing("the recording lists no sockets")
_PART = "only part of /proc/net/tcp and tcp6 is there; ask for: cat /proc/net/tcp /proc/net/tcp6"

_ROW = re.compile(r"\s*\d{1,9}: [0-9A-F]{8}(?:[0-9A-F]{24})?:[0-9A-F]{4} [0-9A-F]{8}")
_SHORT_ROW = re.compile(
    r"\s*\d{1,9}:(?: [0-9A-F]{0,32}| [0-9A-F]{8,32}:[0-9A-F]{0,4}"
    r"| [0-9A-F]{8,32}:[0-9A-F]{4} [0-9A-F]{0,7})?$"
)
_HEADING = re.compile(r"\s*sl\s+local_address\s+rem(?:ote)?_address\s+st\b")
_NAMES = re.compile(r"[A-Z]\w*:(?: +[A-Za-z]\w*)+ *$")
_VALUES = re.compile(r"[A-Z]\w*:(?: +-?\d{1,20})+ *$")
_SIX = re.compile(r"(?:Ip6|Icmp6|Udp6|UdpLite6)\w+\s+\d{1,20} *$")
_SOCKSTAT = re.compile(r"[A-Za-z]\w*:(?: +[a-z]+ +-?\d{1,20})+ *$")
_SOFTNET = re.compile(r"[0-9a-f]{8}(?: +[0-9a-f]{8}){8,} *$")
_TRACKED = re.compile(r"entries +(?:\w+ +)*(?:drop|insert_failed)\b")

_TIMEWAIT_COLUMNS, _UDP_COLUMNS, _SOCKET_COLUMNS = 12, 13, 17
"""Of a minisocket or a request, of a UDP socket, of a whole TCP socket: the same since Linux 2.6.27."""


def kind_of_line(line: str) -> Line | None:
    """Say what a line is in a file of /proc/net; None where it is of none of them."""
    if _ROW.match(line):
        return "row"
    for pattern, kind in _KINDS:
        if pattern.match(line):
            return kind
    if _HEADING.match(line):
        return "udp heading" if "drops" in line else "tcp heading"
    return None


_KINDS: tuple[tuple[re.Pattern[str], Line], ...] = (
    (_SOCKSTAT, "sockstat"),
    (_NAMES, "names"),
    (_VALUES, "values"),
    (_SIX, "six"),
    (_SOFTNET, "softnet"),
    (_TRACKED, "tracked"),
    (_SHORT_ROW, "cut"),
)


def read_proc_text(text: str) -> Pasted:
    """Read what was copied from files of /proc/net, in any order.

    ``every_socket`` is True only where both tables of TCP are whole: each begins with its heading, its rows
    are numbered from 0 without a gap, and the last line is complete.
    """
    parts = _ProcParts()
    for line in until_interrupted(text.split("\n")):
        parts.take(line.rstrip("\r"))
    parts.end()
    whole = read_to_the_end(parts.wholeness())
    return Pasted(
        form="proc",
        sockets=tuple(parts.sockets) if parts.sockets or parts.headings else _NO_SOCKETS,
        every_socket=whole if parts.sockets or parts.headings else _NO_SOCKETS,
        counters=parts.counters or Missing("the recording has no counters"),
        sockstat=parts.sockstat or Missing("the recording has no /proc/net/sockstat"),
        softnet=_softnet(parts.softnet),
        notes=parts.notes(),
    )


class _ProcParts:
    """What the lines read so far have said."""

    def __init__(self) -> None:
        self.sockets: list[PastedSocket] = []
        self.headings: set[str] = set()
        self.counters: dict[str, int] = {}
        self.sockstat: dict[str, int] = {}
        self.softnet: list[str] = []
        self._tracked: list[str] = []
        self._names = ""
        self._next_row = 0
        self._gap = False
        self._in = ""
        self._cut = 0
        self._odd = 0
        self._unread: list[str] = []

    def take(self, line: str) -> None:
        kind = kind_of_line(line)
        if kind != "softnet":
            self._end_tracked()
        if kind == "row":
            self._take_row(line)
        elif kind == "tcp heading" or kind == "udp heading":
            self._begin(line, kind)
        elif kind == "names":
            self._names = line
        elif kind == "values":
            self._take_pair(line)
        elif kind == "cut":
            self._cut += bool(self._in)
        elif kind is None:
            self._unread += [line] if line.strip() else []
        else:
            self._take_numbers(line, kind)

    def _begin(self, line: str, kind: Line) -> None:
        family = "6" if "remote_address" in line else ""
        self._in = f"{kind[:3]}{family}"
        self.headings.add(self._in)
        self._next_row = 0

    def _take_row(self, line: str) -> None:
        columns = line.split()
        is_udp = self._in.startswith("udp") or (not self._in and len(columns) == _UDP_COLUMNS)
        expected = (_UDP_COLUMNS,) if is_udp else (_TIMEWAIT_COLUMNS, _SOCKET_COLUMNS)
        if int(columns[0][:-1]) != self._next_row and not is_udp:
            self._gap = True
        self._next_row = int(columns[0][:-1]) + 1
        if len(columns) not in expected:
            self._cut += 1
            return
        row = line.encode("ascii", "replace")
        try:
            found = _udp_socket(decode_udp_line(row)) if is_udp else _tcp_socket(decode_proc_line(row))
            self.sockets.append(found)
        except (KernelReadError, ValueError, IndexError):
            self._odd += 1

    def _take_pair(self, line: str) -> None:
        names, self._names = self._names, ""
        try:
            self.counters.update(parse_paired_lines(f"{names}\n{line}", "/proc/net/netstat"))
        except KernelReadError:
            self._odd += 1

    def _take_numbers(self, line: str, kind: Line | None) -> None:
        if kind == "tracked":
            self._tracked = [line]
        elif kind == "softnet" and self._tracked:
            self._tracked.append(line)
        elif kind == "softnet":
            self.softnet.append(line)
        try:
            if kind == "six":
                self.counters.update(parse_named_lines(line, "/proc/net/snmp6"))
            elif kind == "sockstat":
                self.sockstat.update(parse_sockstat(line, "/proc/net/sockstat"))
        except KernelReadError:
            self._odd += 1

    def _end_tracked(self) -> None:
        lines, self._tracked = self._tracked, []
        if len(lines) > 1:
            try:
                self.counters.update(parse_conntrack_stat("\n".join(lines), "/proc/net/stat/nf_conntrack"))
            except KernelReadError:
                self._odd += 1

    def end(self) -> None:
        self._end_tracked()
        self._odd += bool(self._names)

    def wholeness(self) -> Reading[bool]:
        """True where the rows are all that there were; else why some may be missing."""
        if self._cut or self._odd:
            return Missing(f"{self._lost()}, so sockets may be missing; copy the files again")
        if not {"tcp", "tcp6"} <= self.headings or self._gap:
            return Missing(_PART)
        return True

    def _lost(self) -> str:
        count = self._cut + self._odd
        return f"{count:,} line{'s' if count != 1 else ''} of /proc/net cut short or not as Linux writes them"

    def notes(self) -> tuple[str, ...]:
        found = self.headings or self.sockets or self.counters or self.sockstat or self.softnet
        lost = (self._lost(),) if self._cut or self._odd else ()
        return (*lost, *not_understood(self._unread if found else ()))


def _softnet(lines: Iterable[str]) -> Reading[tuple[CpuPackets, ...]]:
    try:
        return parse_softnet("\n".join(lines), "/proc/net/softnet_stat")
    except KernelReadError:
        return Missing("packets of each CPU are not in the recording")


def _tcp_socket(row: Connection | Listener) -> PastedSocket:
    if isinstance(row, Listener):
        return _BLANK_SOCKET._replace(
            state=TcpState.LISTEN,
            family=row.family,
            local=row.local,
            remote=_no_remote(row.family),
            receive_queue=row.accept_queue,
            owner=_NO_OWNER,
            inode=row.inode,
            uid=row.uid,
        )
    return PastedSocket(
        "tcp", row.state, row.family, row.local, row.remote, _UNTOLD, row.receive_queue, row.send_queue,
        _NO_LIMIT, row.timer, row.expires, row.retransmits, _NO_OWNER if row.inode else row.owner,
        row.inode, row.uid if row.inode else _NO_UID, _UNTOLD, _UNTOLD, _UNTOLD, _UNTOLD, _UNTOLD,
    )  # fmt: skip


def _udp_socket(row: UdpSocket) -> PastedSocket:
    return _BLANK_SOCKET._replace(
        protocol="udp",
        state=TcpState.ESTABLISHED if row.remote.port else TcpState.CLOSE,
        family=row.family,
        local=row.local,
        remote=row.remote,
        receive_queue=row.receive_queue,
        send_queue=row.send_queue,
        owner=_NO_OWNER if row.inode else NotHeld(),
        inode=row.inode,
        uid=row.uid,
    )


def _no_remote(family: int) -> Endpoint:
    return Endpoint("0.0.0.0" if family == 4 else "::", 0)


_NO_LIMIT = Missing("it does not listen")
_BLANK_SOCKET = PastedSocket(
    protocol="tcp",
    state=TcpState.CLOSE,
    family=4,
    local=_no_remote(4),
    remote=_no_remote(4),
    device=_UNTOLD,
    receive_queue=0,
    send_queue=0,
    accept_limit=_UNTOLD,
    timer=Timer.NONE,
    expires=0.0,
    retransmits=0,
    owner=_NO_OWNER,
    inode=0,
    uid=0,
    cookie=_UNTOLD,
    v6only=_UNTOLD,
    cgroup=_UNTOLD,
    details=_UNTOLD,
    memory=_UNTOLD,
)

"""What ``ss`` of iproute2 prints, of every version and with whatever options.

The form changed in 2017 (iproute2 4.14 and 4.15): before that an IPv4 wildcard was ``*`` and an IPv6 one
``:::80``, without brackets; since then ``*`` is IPv6 that takes IPv4 too. A process's name stands between
quotes and may hold quotes, brackets, commas and blanks itself, so what follows it parts it: `",pid=1,fd=2)`.
What ``misc/ss.c`` leaves out because it is 0 is 0 here where another word shows that it was asked for.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton
from typing import TypeAlias

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Endpoint,
    Held,
    Holder,
    NotHeld,
    Owner,
    SocketMemory,
    TcpBytes,
    TcpInfo,
)
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.pasted import (
    ASK_FOR_SS,
    IPV4_HAS_NONE,
    LAST_PORT,
    LIMIT_OF_LISTENERS,
    NOT_ALL,
    Command,
    Pasted,
    PastedSocket,
    Unread,
    cut_lines,
    lists_all,
    not_understood,
    note_of_cut,
    port_in,
    read_to_the_end,
    shown,
    until_interrupted,
)

_STATES = {
    "ESTAB": TcpState.ESTABLISHED,
    "SYN-SENT": TcpState.SYN_SENT,
    "SYN-RECV": TcpState.SYN_RECV,
    "FIN-WAIT-1": TcpState.FIN_WAIT_1,
    "FIN-WAIT-2": TcpState.FIN_WAIT_2,
    "TIME-WAIT": TcpState.TIME_WAIT,
    "UNCONN": TcpState.CLOSE,
    "CLOSE-WAIT": TcpState.CLOSE_WAIT,
    "LAST-ACK": TcpState.LAST_ACK,
    "LISTEN": TcpState.LISTEN,
    "CLOSING": TcpState.CLOSING,
}
_ASKED_STATES = {
    "established": TcpState.ESTABLISHED,
    "close": TcpState.CLOSE,
    "closed": TcpState.CLOSE,
    "unconnected": TcpState.CLOSE,
    "listening": TcpState.LISTEN,
    "bound-inactive": TcpState.BOUND,
    **{name.lower(): state for name, state in _STATES.items()},
}
_TIMERS = {
    "on": Timer.RETRANSMIT,
    "keepalive": Timer.KEEPALIVE,
    "timewait": Timer.TIME_WAIT,
    "persist": Timer.PROBE,
    "delack": Timer.NONE,
    "off": Timer.NONE,
}
_OTHERS = (
    r"u_str|u_dgr|u_seq|nl|raw|icmp6|p_raw|p_dgr|v_str|v_dgr|sctp|dccp|mptcp|udplite|tipc|ti_\w+|xdp|unknown"
)
_STATE = "|".join(sorted(_STATES, key=len, reverse=True))

SS_HEADER = re.compile(
    r"\s*(?P<netid>Netid\s*)?(?P<state>State\s*)?(?P<queues>Recv-Q\s*Send-Q\s*)?Local\s?Address:\s*Port"
    r"(?:\s+Peer\s?Address:\s*Port\s*(?P<process>Process|Proc)?|\s*$)"
)
"""The line of headings; ``State`` is not there where one was asked for, the peer where it was cut off."""
SS_SOCKET = re.compile(rf"\s*(?:(?:tcp|udp)\s*|(?:{_OTHERS}|\?\?\?)\s+)?(?:{_STATE}|UNKNOWN|UNDEF)\s*[\d\S]")
"""The beginning of a socket. Versions of 2018 leave no blank between columns: ``tcpCLOSE-WAIT20``."""
SS_STARTS = frozenset(
    ("ESTAB ", "LISTEN", "TIME-W", "CLOSE-", "FIN-WA", "SYN-SE", "SYN-RE", "LAST-A", "UNCONN", "CLOSIN")
)
"""The first six letters of nearly all of them: found in a tenth of the time."""
_SOCKET = re.compile(
    rf"\s*(?:(tcp|udp)\s*)?({_STATE})\s*(?:(\d{{1,10}})\s+(\d{{1,10}})\s+)?([^\s\"]{{1,99}}):(\d{{1,5}}|\*)"
    r"\s+([^\s\"]{1,99}):(\d{1,5}|\*)"
    r"(?:\s+(?P<rest>\S.*))?$",
    re.DOTALL,
)
_USUAL = re.compile(
    r"(?:(tcp|udp) +)?(ESTAB|TIME-WAIT|CLOSE-WAIT|LISTEN|FIN-WAIT-[12]|SYN-SENT|SYN-RECV|LAST-ACK|CLOSING)"
    r" +(\d{1,10}) +(\d{1,10}) +([^\s\"]{1,99}):(\d{1,5}) +([^\s\"]{1,99}):(\d{1,5}|\*)"
    r"(?: +users:\(\(\"([^\"(),\\\t\n]{1,15})\",pid=(\d{1,10}),fd=(\d{1,10})\)\))?"
    r"(?: timer:(\([a-z]+,[\da-z.]+,\d{1,10}\)))?(?: uid:(\d{1,10}))?"
    r"(?: ino:(\d{1,10}))?(?: sk:([\da-f]{1,16}))?(?: cgroup:(\S+))?(?: v6only:([01]))?"
    r"(?: [<-]-[->])?(?=\Z|\n\s*(?:skmem:|\w+\s|wscale:|rto:))"
)
"""A socket as today's ss prints nearly all of them: a single look at what else takes several."""
SS_BARE = re.compile(
    r"\s*(?:(tcp|udp)\s+)?()(\d{1,10})\s+(\d{1,10})\s+([^\s\"]{1,99}):(\d{1,5}|\*)"
    r"\s+([^\s\"]{1,99}):(\d{1,5}|\*)(?:\s+(?P<rest>\S.*))?$",
    re.DOTALL,
)
"""A socket of a listing without states: all have the one that was asked for."""
_NO_PEER = re.compile(r"\s*(?:tcp\s+)?LISTEN\s+\d{1,10}\s+\d{1,10}\s+[^\s\"]{1,99}:\d{1,5}\s*$")
"""A listener of whom somebody cut the rest: nothing is lost of its peer."""
_NAMED = re.compile(
    rf"\s*(?:(?:tcp|udp)\s+)?(?:{_STATE})\s+\d+\s+\d+\s+\S+:[a-zA-Z0-9*][\w*-]{{0,40}}\s+\S+:[a-zA-Z0-9*]"
)
"""A socket with names where numbers belong."""
_OTHER = re.compile(rf"\s*(?:{_OTHERS}|\?\?\?)\s")
_END = r"(?=\s{0,999}[a-z<-]|\s{0,999}$)"
"""What follows the processes: a name of 15 letters has no room for it behind a false end."""
_HOLDER = re.compile(
    r'\("((?s:.){0,64}?)",pid=(\d{1,10})(?:,tid=\d{1,10})?(?:,proc_ctx=[^\s"]+?)?,fd=(\d{1,10})(?:,sock_ctx=[^\s"]+?)?'
    rf"\)(?:,(?=\(\")|(\)){_END})"
)
_OLD_HOLDER = re.compile(rf"\(\"((?s:.){{0,64}}?)\",(\d{{1,10}}),(\d{{1,10}})\)(?:,(?=\(\")|(\)){_END})")
_CLOSED = re.compile(r",(?:fd=)?\d{1,10}(?:,sock_ctx=[^\s\"]+)?\)\)")
_TOKEN = re.compile(r"\s(timer|uid|ino|sk|v6only):([(\da-f]\S{0,119})")
_SKMEM = re.compile(r"\sskmem:(\(\S{0,119})")
_INFO_TOKEN = re.compile(
    r"\s(r(?:to|tt|etrans)|backoff|bytes_(?:acked|received|sent|retrans)|unacked|notsent|last(?:snd|rcv|ack)"
    r"|mss|sacked):([\d/]\S{0,119})"
)
_LAST_INFO = re.compile(r"\s(?:rcv_space|rcv_ssthresh|minrtt|snd_wnd):\d")
"""What ss -i ends with; nothing that is read here stands behind it."""
_FINISHED = re.compile(r"(?:\)|[<-]-[->]|:\*|[\d\]*]:\d{5}|\sino:0 sk:[\da-f]+|v6only:[01]|cgroup:/\S*)$")
"""How a socket's line ends: with a port of five digits no more can follow."""
_FIRST_INFO = re.compile(r"(?<=\s)(?:rto|mss|cwnd):[\da-f]")
"""The first of these that is printed; a listener has none."""
_DURATION = re.compile(r"(?:(\d{1,9})min)?(?:(\d{1,9})(?:\.(\d{3})(?:ms|sec)|sec))?(?:(\d{3})ms)?$")
_MEMORY = re.compile(
    r"\(r(\d{1,10}),rb(\d{1,10}),t\d+,tb(\d{1,10}),f(\d{1,10}),w(\d{1,10}),o\d+(?:,bl\d+)?(?:,d(\d{1,10}))?\)$"
)
_AFTER_CGROUP = re.compile(r"(?<=\s)[<-]-[>-](?=\s|$)|\n")
_DETAIL = re.compile(
    r"users:\(\(|timer:\(|uid:\d|ino:\d|sk:[0-9a-f]|fwmark:|cgroup:|v6only:|[<-]-[->]|tos:|tclass:|skmem:\("
    r"|mem:\(|ts |sack |cubic|bbr|wscale:|rto:|rtt:|cwnd:|bytes_|segs_|lastsnd:|send |rcv_|minrtt:"
    r"|inet-sockopt"
)
"""What a line may begin with that goes on with the socket of the line before."""

_LONG = 400
"""Characters that only a line of details has."""
_NARROWEST = 60
"""Columns of the narrowest terminal that cuts lines."""
_WIDEST = 400
"""Columns of the widest."""
_LONGEST_CUT = 8_000
_LONGEST = 1e9
"""Seconds that no time of tcp_info reaches: 32 bits of microseconds."""

_NO_TIMER = Missing(f"ss without -o prints no timers; {ASK_FOR_SS}")
_NO_DETAILS = Missing(f"ss without -e does not print it; {ASK_FOR_SS}")
_NO_MEMORY = Missing(f"ss without -m does not print it; {ASK_FOR_SS}")
_NO_DROPS = Missing("this ss prints no drops; record with: tcpdoctor snapshot")
_NO_INFO = Missing(f"ss without -i prints no times and no counts of a connection; {ASK_FOR_SS}")
_NO_TCP_INFO = Missing("the kernel tells no more of a socket in this state")
_NO_TIMES = Missing("this ss -i prints no times of a connection (iproute2 4.1); ask for: tcpdoctor snapshot")
_NO_BYTES = Missing(
    "this ss does not count the bytes of a connection (iproute2 4.20); record with: tcpdoctor snapshot"
)
_NO_QUEUES = Missing(f"ss -Q leaves the queues out; {ASK_FOR_SS}")
_NO_CGROUP = Missing("this ss prints no control group; record with: tcpdoctor snapshot")
_NO_USERS = Missing("the listing names no process: ss without -p, or not as root; ask for: sudo ss -tanoempi")
_NOT_NAMED = Missing(
    f"no process is named with it: not accepted yet, an orphan, or ss was not run as root; {ASK_FOR_SS}"
)
_BROKEN_USERS = Missing("the names of its processes could not be told apart")
_UNCLEAR_STAR = Missing("whether * is IPv4, or IPv6 that takes IPv4 too, is not certain")
_CUT_DETAILS = f"the details of sockets are cut at the edge of a terminal; {ASK_FOR_SS} > FILE"
_NO_NUMBERS = "ss without -n prints names of services instead of port numbers; ask for: ss -tanoempi"
_NO_STATES = (
    "the listing has no column for the state: put the command that printed it on the line above it "
    "($ ss -tan state time-wait)"
)
_DUAL = "*"
_LISTEN, _WAITING = TcpState.LISTEN, TcpState.TIME_WAIT
_NO_TIMER_RUNS, _WAITS = Timer.NONE, Timer.TIME_WAIT
_PROBES = (Timer.PROBE, Timer.KEEPALIVE)
"""Looked up once: an enumeration's name costs ten times as much as a variable, and rows are many."""


class _Asked(NamedTuple):
    """What a listing shows that was asked for."""

    timers: bool
    details: bool
    memory: bool
    info: bool
    users: bool
    times: bool
    counts_bytes: bool
    by_root: bool


def read_ss(lines: Sequence[str], command: Command | None = None) -> Pasted:
    """Read a listing of ``ss``.

    Args:
        lines: Its lines, with the headings where there are any, without what a terminal adds.
        command: The command line above them.
    """
    header = next((match for line in lines[:40] if (match := SS_HEADER.match(line))), None)
    only = _only_state(header, command)
    records = _Records(max(map(len, lines), default=0), bare=only is not None)
    cut, edge = cut_lines(lines, _is_unfinished, records.begins)
    whole_details, lost = True, 0
    for place, line in enumerate(lines):
        if not edge or place not in cut:
            records.take(line)
        elif line[:1] in (" ", "\t"):
            whole_details = False
        else:
            lost += 1
            records.skip()
    del lines  # a hundred thousand sockets are many megabytes of them
    asked = _asked(records.found, command)
    reader = _Rows(asked if whole_details else asked._replace(info=False), only)
    odd = [record for record in until_interrupted(records.found) if not reader.add(record)]
    sockets = reader.settled(header, command)
    notes = [*reader.notes, *not_understood([*records.leftover, *odd])]
    if lost or not whole_details:
        notes.append(note_of_cut(lost, edge) if lost else _CUT_DETAILS)
    if any(map(_NAMED.match, odd)):
        notes.append(_NO_NUMBERS)
    if header is not None and not header["state"] and only is None:
        notes.append(_NO_STATES)
    return Pasted(
        "ss",
        sockets=tuple(sockets),
        every_socket=read_to_the_end(
            NOT_ALL if odd or lost else lists_all("ss", sockets, command, headings=header is not None)
        ),
        notes=tuple(notes),
    )


def ends_details(line: str) -> bool:
    """Whether what ss -i prints of a connection is there to its end."""
    return _LAST_INFO.search(line) is not None


def _is_unfinished(line: str) -> bool:
    """Whether ss ends no line so."""
    if line[:1] in (" ", "\t"):
        return _FIRST_INFO.search(line) is not None and not ends_details(line)
    return _FINISHED.search(line) is None and SS_HEADER.match(line) is None


def _only_state(header: "re.Match[str] | None", command: Command | None) -> TcpState | None:
    """The state of a listing whose lines do not say it; CLOSE stands for one that nobody can tell."""
    if header is None or header["state"]:
        return None
    if command is not None and "state" in command.words:
        named = command.words[command.words.index("state") + 1 :][:1]
        return _ASKED_STATES.get(named[0].strip("'\"").lower()) if named else None
    if command is not None and "l" in command.letters:
        return TcpState.LISTEN
    return None


class _Records:
    """Each socket's lines put together: its details may be on a line of their own, a terminal may cut it."""

    def __init__(self, edge: int, *, bare: bool) -> None:
        self.found: list[str] = []
        self.leftover: list[str] = []
        self._is_start = (SS_BARE if bare else SS_SOCKET).match
        self._stated = not bare
        self._edge = edge
        self._width = 0
        self._skipped = self._headings = False

    def take(self, line: str) -> None:
        """Take the next line."""
        if self._stated and line[:6] in SS_STARTS:
            self.found.append(line)
            self._width = len(line)
            self._skipped = self._headings = False
            return
        details = line[:1] in (" ", "\t")
        if not (details and len(line) >= _LONG) and self._begins(line):
            return
        if self._skipped or (self._headings and "Process".endswith(line.strip())):
            return
        if not self.found or self._headings:
            self.leftover.append(line)
        elif details or _DETAIL.match(line):
            self.found[-1] += "\n" + line
            self._width = len(line)
        elif self._width >= _NARROWEST and self._is_cut(line):
            self.found[-1] += line if self._width == self._edge else f" {line}"
            self._width = len(line)
        elif self._is_open():
            self.found[-1] += "\n" + line
            self._width = len(line)
        else:
            self.leftover.append(line)

    def begins(self, line: str) -> bool:
        """Whether a line is no rest of the one before, which a terminal wrapped."""
        starts = (
            self._is_start(line) or _OTHER.match(line) or SS_HEADER.match(line) or line[:1] in (" ", "\t")
        )
        return not line or bool(starts)

    def skip(self) -> None:
        """Leave out a socket, and the details that follow."""
        self._skipped, self._headings = True, False

    def _is_open(self) -> bool:
        """Whether the name of a process has not ended: it may hold the end of a line."""
        _, users, names = self.found[-1].partition("users:((")
        return bool(users) and len(names) < _LONG and _CLOSED.search(names) is None

    def _begins(self, line: str) -> bool:
        """Take a line that begins something; return whether it does."""
        if not line or line.isspace():
            return True
        if self._is_start(line) and not _OTHER.match(line):
            self.found.append(line)
            self._width = len(line)
            self._skipped = self._headings = False
        elif _OTHER.match(line):
            self._skipped, self._headings = True, False
        elif SS_HEADER.match(line):
            self._skipped, self._headings = False, True
        else:
            return False
        return True

    def _is_cut(self, line: str) -> bool:
        """Whether the terminal's edge cut the last line of a record, so that this one goes on with it."""
        record = self.found[-1]
        if (
            record.endswith("))")
            or len(record) > _LONGEST_CUT
            or self._edge > _WIDEST
            or self._edge - self._width > 1
        ):
            return False
        if (match := _SOCKET.match(record)) is None:
            return True
        return bool(match["rest"]) or line.strip().isdecimal()


def _asked(records: Sequence[str], command: Command | None) -> _Asked:
    letters = command.letters if command is not None and command.program == "ss" else frozenset()
    details = "e" in letters or _mentions(records, " ino:") or _mentions(records, "\nino:")
    return _Asked(
        timers=details or "o" in letters or _mentions(records, " timer:("),  # -e has always been -o as well
        details=details,
        memory="m" in letters or _mentions(records, "mem:(r"),
        info=_mentions(records, " cwnd:") or _mentions(records, " rto:"),
        users=any("users:((" in record for record in records),
        times=any(_mentions(records, f" last{what}:") for what in ("ack", "rcv", "snd")),
        counts_bytes=_mentions(records, " bytes_sent:") or _mentions(records, " delivered:"),
        by_root=command is not None and command.by_root,
    )


def _mentions(records: Iterable[str], word: str) -> bool:
    """Whether a socket's line says a word, outside of the names of its processes."""
    return any(
        word in record.partition("users:((")[0] or word in record.rpartition("))")[2]
        for record in records
        if word in record
    )


_Said: TypeAlias = tuple[str | None, str | None, str | None, str | None, str | None]
"""Timer, uid, inode, cookie and IPV6_V6ONLY as they are printed; None: not."""


class _Details(NamedTuple):
    """What ss -i printed of a connection."""

    text: str
    probes: int
    counts_bytes: bool

    def read(self) -> Reading[TcpInfo]:
        """Return what it says."""
        get = dict(_INFO_TOKEN.findall(self.text)).get
        try:
            counted: Reading[TcpBytes] = _NO_BYTES
            if self.counts_bytes:
                counted = TcpBytes(
                    int(get("bytes_acked", 0)),
                    int(get("bytes_received", 0)),
                    int(get("bytes_sent", 0)),
                    int(get("bytes_retrans", 0)),
                )
            timeout, trip = float(get("rto", 3000)) / 1000, float(get("rtt", "0/").partition("/")[0]) / 1000
            if timeout > _LONGEST or trip > _LONGEST:
                raise ValueError
            return TcpInfo(
                timeout,
                trip,
                int(get("backoff", 0)),
                self.probes,
                int(get("retrans", "/0").partition("/")[2]),
                int(get("unacked", 0)),
                int(get("notsent", 0)),
                int(get("lastsnd", 0)) / 1000,
                int(get("lastrcv", 0)) / 1000,
                int(get("lastack", 0)) / 1000,
                counted,
                int(get("mss", 0)),
                int(get("sacked", 0)),
            )
        except ValueError:
            return Missing("a number that ss -i prints is damaged in the recording")


class _Rows:
    """The sockets read so far."""

    def __init__(self, asked: _Asked, only: TcpState | None) -> None:
        self.asked = asked
        self.only = only
        self.sockets: list[PastedSocket] = []
        self.notes: list[str] = []
        self._hosts: dict[str, tuple[str, int, str | None] | None] = {}
        self._starred: list[int] = []
        self._named_protocol = False
        self._match = (SS_BARE if only is not None else _SOCKET).match
        self._not_named = _NOT_NAMED if asked.users else _NO_USERS
        self._no_cgroup: Reading[str] = _NO_CGROUP if asked.details else _NO_DETAILS

    def add(self, record: str) -> bool:
        """Take a socket; return False where it cannot be understood."""
        if self.only is None and (usual := _USUAL.match(record)) is not None:
            name, pid, fd, timer, uid, inode, cookie, path, v6only = usual.groups()[8:]
            owner: Owner = self._not_named
            if name is not None:
                owner = Held((Holder(int(pid), shown(name), int(fd), -1),), complete=self.asked.by_root)
            cgroup = self._no_cgroup if path is None else shown(path, 4_096)
            said = timer, uid, inode, cookie, v6only
            return self._take(usual.groups()[:8], owner, cgroup, said, record[usual.end() :])
        if self.only is None and _NO_PEER.match(record):
            record = f"{record.rstrip()} *:*"
        if (match := self._match(record)) is None:
            return False
        owner, tail = self._owner(match["rest"] or "")
        cgroup = self._no_cgroup
        if "cgroup:" in tail:
            cgroup, tail = _cgroup(tail)
        get = dict(_TOKEN.findall(tail)).get
        said = get("timer"), get("uid"), get("ino"), get("sk"), get("v6only")
        return self._take(match.groups()[:8], owner, cgroup, said, tail)

    def _owner(self, rest: str) -> tuple[Owner, str]:
        at = rest.find("users:((")
        if at < 0 or (at and not rest[at - 1].isspace()):
            return self._not_named, f" {rest}" if rest else ""
        before = f" {rest[:at]}" if at else ""  # versions before 2015 print the timer first
        if (found := _holders(rest[at:])) is None:
            return _BROKEN_USERS, before + rest.rpartition("))")[2]
        holders, end = found
        return Held(holders, complete=self.asked.by_root), before + rest[at + end :]

    def _take(
        self,
        ends: Sequence[str],
        owner: Owner,
        cgroup: Reading[str],
        said: _Said,
        tail: str,
    ) -> bool:
        protocol, word, received, sent, *where = ends
        if (stands := self._stands(*where)) is None:
            return False
        family, local, remote, device = stands
        self._named_protocol = self._named_protocol or bool(protocol)
        state = _STATES[word] if self.only is None else self.only
        told_timer, told_uid, told_inode, told_cookie, v6only = said
        timer, expires, tries = self._timer(state, told_timer)
        inode, uid, cookie = _identity(told_inode, told_uid, told_cookie)
        if state is _WAITING or timer is _WAITS or (inode == 0 and protocol != "udp"):
            owner = owner if isinstance(owner, Held) else NotHeld()
        queued: Reading[int] = int(sent) if sent else _NO_QUEUES
        listens = state is _LISTEN
        memory = _SKMEM.search(tail) if "skmem:" in tail else None
        self.sockets.append(
            PastedSocket(
                "udp" if protocol == "udp" else "tcp",
                state,
                family,
                local,
                remote,
                device,
                int(received) if received else _NO_QUEUES,
                0 if listens else queued,
                queued if listens else LIMIT_OF_LISTENERS,
                timer,
                expires,
                tries,
                owner,
                inode,
                uid,
                cookie,
                (_NO_DETAILS if v6only is None else v6only == "1") if family == 6 else IPV4_HAS_NONE,
                cgroup,
                self._details(state, timer, tries, tail),
                _NO_MEMORY if memory is None else _memory(memory[1]),
            )
        )
        return True

    def _stands(
        self, near: str, near_port: str, far: str, far_port: str
    ) -> tuple[int, Endpoint, Endpoint, str | None] | None:
        """Where a socket stands: family, both ends, device; None where that cannot be understood."""
        here, there = self._host(near), self._host(far)
        number, far_number = port_in(near_port), port_in(far_port)
        if here is None or there is None or number > LAST_PORT or far_number > LAST_PORT:
            return None
        address, family, device = here
        other = there[0]
        if address == _DUAL:
            self._starred.append(len(self.sockets))
        elif other == _DUAL:
            other = "0.0.0.0" if family == 4 else "::"
        return family, Endpoint(address, number), Endpoint(other, far_number), device

    def _host(self, text: str) -> tuple[str, int, str | None] | None:
        if (found := self._hosts.get(text, ())) == ():
            found = self._hosts[text] = _host(text)
        return found or None

    def _timer(
        self, state: TcpState, said: str | None
    ) -> tuple[Reading[Timer], Reading[float], Reading[int]]:
        if said is None:
            if self.asked.timers:
                return _NO_TIMER_RUNS, 0.0, 0
            if state is _WAITING:
                return _WAITS, _NO_TIMER, 0
            return _NO_TIMER, _NO_TIMER, _NO_TIMER
        name, _, rest = said.strip("()").partition(",")
        duration, _, tries = rest.partition(",")
        timer = _TIMERS.get(name)
        seconds = _seconds(duration)
        if timer is None or seconds is None or not tries.isdecimal() or len(tries) > 10:
            unclear = Missing(f"ss prints a timer that is not known: {clean(said, 40)}")
            return unclear, unclear, unclear
        if timer is _NO_TIMER_RUNS:
            return timer, 0.0, 0
        return timer, seconds, int(tries)

    def _details(
        self, state: TcpState, timer: Reading[Timer], tries: Reading[int], tail: str
    ) -> Reading[Unread]:
        if not self.asked.info:
            return _NO_INFO
        if not self.asked.times:
            return _NO_TIMES
        if state is _LISTEN or (begins := _FIRST_INFO.search(tail)) is None:
            return _NO_TCP_INFO
        probes = tries if isinstance(tries, int) and timer in _PROBES else 0
        return _Details(tail[begins.start() - 1 :], probes, self.asked.counts_bytes)

    def settled(self, header: "re.Match[str] | None", command: Command | None) -> list[PastedSocket]:
        """Decide what only the whole listing tells, and return the sockets."""
        if self._is_udp(command):
            self.sockets = [row._replace(protocol="udp") for row in self.sockets]
        else:
            for place, row in enumerate(self.sockets):
                if row.state is TcpState.CLOSE and row.protocol == "tcp":
                    self.sockets[place] = row._replace(state=TcpState.BOUND)
        if self._starred:
            family = self._star_family(header)
            for place in self._starred:
                self.sockets[place] = _unstarred(self.sockets[place], family)
            if family is None:
                self.notes.append(_UNCLEAR_STAR.reason)
        return self.sockets

    def _is_udp(self, command: Command | None) -> bool:
        if self._named_protocol:
            return False
        if command is not None and command.letters & {"u", "t"}:
            return "u" in command.letters
        states = {row.state for row in self.sockets}
        return TcpState.CLOSE in states and states <= {TcpState.CLOSE, TcpState.ESTABLISHED}

    def _star_family(self, header: "re.Match[str] | None") -> int | None:
        """What ``*`` stands for: 4 in the old form, 6 in that of today; None: nothing tells which."""
        hosts = [host for host in self._hosts if host != _DUAL and not host.startswith("*%")]
        if any(host.startswith(("[", "0.0.0.0")) for host in hosts):
            return 6
        if any(":" in host for host in hosts):
            return 4
        if header is not None and header["process"]:
            return 6
        ports = {self.sockets[place].local.port for place in self._starred}
        served = any(row.local.port in ports and row.local.address != _DUAL for row in self.sockets)
        return 4 if served else None


def _unstarred(row: PastedSocket, family: int | None) -> PastedSocket:
    """Say of a socket on ``*`` what it is bound to; None: IPv4, or IPv6 that takes IPv4 too."""
    if not isinstance(row.v6only, Missing):
        family = 6
    wildcard = "0.0.0.0" if family == 4 else "::"
    remote = row.remote._replace(address=wildcard) if row.remote.address == _DUAL else row.remote
    v6only: Reading[bool] = _UNCLEAR_STAR
    if family is not None:
        v6only = IPV4_HAS_NONE if family == 4 else False
    return row._replace(
        family=family or 6, local=row.local._replace(address=wildcard), remote=remote, v6only=v6only
    )


def _identity(
    inode: str | None, uid: str | None, cookie: str | None
) -> tuple[Reading[int], Reading[int], Reading[int]]:
    """A socket's inode, user and cookie; root's go without saying where the inode is told."""
    if inode is None:
        return _NO_DETAILS, _NO_DETAILS, _NO_DETAILS
    return _number(inode), _number(uid or "0"), _cookie(cookie or "")


def _host(text: str) -> tuple[str, int, str | None] | None:
    """Return address, family and interface of ``[fe80::1]%eth0``; None: no numeric address."""
    bare, _, device = text.partition("%")
    if bare.startswith("["):
        inner, closed, after = bare[1:].partition("]")
        if not closed or after:
            return None
        bare, scope, inside = inner.partition("%")
        device = device or (inside if scope else "")
    if bare == "*":
        return _DUAL, 6, device or None
    family = 6 if ":" in bare else 4
    try:
        inet_pton(AF_INET6 if family == 6 else AF_INET, bare)
    except (OSError, ValueError):
        return None
    return bare, family, device or None


def _holders(rest: str) -> tuple[tuple[Holder, ...], int] | None:
    """Return the processes of ``users:((...))`` and where it ends; None: it does not end."""
    holder = _HOLDER if '",pid=' in rest else _OLD_HOLDER
    found: list[Holder] = []
    place = len("users:(")
    while (match := holder.match(rest, place)) is not None:
        name, pid, fd, closed = match.groups()
        found.append(Holder(int(pid), shown(name), int(fd), -1))
        place = match.end()
        if closed:
            return tuple(found), place
    return None


def _cgroup(tail: str) -> tuple[str, str]:
    """Take the control group, whose path may hold blanks, out of a tail; return both."""
    before, _, after = tail.partition("cgroup:")
    end = _AFTER_CGROUP.search(after)
    path = after[: end.start()].rstrip() if end is not None else after.split(" ", 1)[0]
    path = path.removesuffix(" v6only:0").removesuffix(" v6only:1")
    return shown(path, 4_096), before + after[len(path) :]


def _seconds(text: str) -> float | None:
    """Return what print_ms_timer() printed, in seconds: ``57sec``, ``1min54sec``, ``4.290ms`` is 4.29 s."""
    if (match := _DURATION.match(text)) is None:
        return None
    minutes, whole, thousandths, milliseconds = match.groups()
    return int(minutes or 0) * 60 + int(whole or 0) + int(thousandths or milliseconds or 0) / 1000


def _number(text: str) -> Reading[int]:
    return (
        int(text)
        if text.isdecimal() and len(text) <= 20
        else Missing(f"it is damaged in the recording: {clean(text, 40)}")
    )


def _cookie(text: str) -> Reading[int]:
    try:
        return int(text, 16)
    except ValueError:
        return Missing("it is damaged in the recording")


@lru_cache(maxsize=4096)
def _memory(text: str) -> Reading[SocketMemory]:
    if (match := _MEMORY.match(text)) is None:
        return Missing("its memory is damaged in the recording")
    received, receive_limit, send_limit, reserved, sent, drops = match.groups()
    if drops is None:
        return _NO_DROPS
    return SocketMemory(
        int(received), int(receive_limit), int(sent), int(send_limit), int(reserved), int(drops)
    )

"""What ``netstat`` of net-tools (and of busybox) prints of sockets, in any language it has been put into.

It reads /proc/net/tcp and tcp6, so it says what those say, less the scope of an address. It names a process
by the beginning of its first argument; without ``-W`` it cuts addresses; a listener's queue is there, its
limit is not. States, timers and headings are translated, names of protocols are not.
"""

import re
from collections import Counter
from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_pton

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, NotHeld, Owner
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.recordings.pasted import (
    ASK_FOR_SS,
    IPV4_HAS_NONE,
    LAST_PORT,
    LIMIT_OF_LISTENERS,
    NOT_ALL,
    Command,
    Pasted,
    PastedSocket,
    cut_lines,
    lists_all,
    not_understood,
    note_of_cut,
    port_in,
    read_to_the_end,
    shown,
    until_interrupted,
)

STATE_WORDS = {
    TcpState.ESTABLISHED: "ESTABLISHED ESTAB VERBUNDEN ESTABLERT SPOJENO ESTABELECIDA ETABLERAD ESTABLECIDO "
    "ESTABLECIDA HERGESTELLT",
    TcpState.SYN_SENT: "SYN_SENT SYNSENT SYN_ENVIADO",
    TcpState.SYN_RECV: "SYN_RECV SYN_RCVD SYN_RECEIVED SYNRECV SYN_RECEBIDO SYN_RECIBIDO",
    TcpState.FIN_WAIT_1: "FIN_WAIT1 FIN_WAIT_1 FINWAIT1 ESPERA_FIN1",
    TcpState.FIN_WAIT_2: "FIN_WAIT2 FIN_WAIT_2 FINWAIT2 ESPERA_FIN2",
    TcpState.TIME_WAIT: "TIME_WAIT TEMPS",
    TcpState.CLOSE: "CLOSE CLOSED TANCA ZAVŘEN FECHAR STÄNG CERRAR",
    TcpState.CLOSE_WAIT: "CLOSE_WAIT CLOSEWAIT ESPERANDO_FECHAR STÄNG_VÄNTA CERRAR_ESPERA",
    TcpState.LAST_ACK: "LAST_ACK LASTACK POSLEDNÍ_ACK ÚLTIMO_ACK ULTIMO_ACK",
    TcpState.LISTEN: "LISTEN LISTENING ESCOLTA NASLOUCHÁ OUÇA LYSSNAR ESCUCHAR",
    TcpState.CLOSING: "CLOSING TANCAMENT ZAVÍRÁ FECHANDO STÄNGER CERRANDO",
}
"""The words of net-tools' translations for each state, with ``_`` for what parts them."""
STATES = {word: state for state, words in STATE_WORDS.items() for word in words.split()}
_WHOLE_STATES = frozenset(
    word for word in STATES if not any(other != word and other.startswith(word) for other in STATES)
)
"""Those that are not the beginning of another, as CLOSE is."""

_TIMERS = {
    Timer.NONE: "off aus aturada vyp eikäi オフ გამორთული desligado av apagado",
    Timer.RETRANSMIT: "on ein el zapnut käib オン ჩართული em på encendido",
    Timer.KEEPALIVE: "keepalive manténiu キープアライブ",
    Timer.TIME_WAIT: "timewait 時間待ち",
    Timer.PROBE: "probe",
}
_LAST_HEADINGS = (" name", "State", "Timer", "Inode", "Status", "Etat", "État", "Estado", "Stato", "Stav")
_HALF_TIMERS = ("off", "keepalive", "timewait", "probe")
_TIMER_WORDS = {word: timer for timer, words in _TIMERS.items() for word in words.split()}

NETSTAT_SOCKET = re.compile(r"\s*(?:tcp|udp)6?\s+\d+\s+\d+\s+\S+[:.](?:\S+)\s+\S+")
"""The beginning of a socket's line."""
NETSTAT_HEADER = re.compile(r"\s*(?:Proto|პროტო)\s+(?:Recv-Q\s+Send-Q|Přích-F|受信-Q|VvJrk|მიღ-Q)\s")
NETSTAT_NOISE = re.compile(
    r"\s*(?:Proto\s+RefCnt|unix\s+\d|raw6?\s+\d+\s+\d+|udplite6?\s+\d"
    r"|Active UNIX|Active Internet|Active Bluetooth"
    r"|\(Not all processes could|\(No info could be read|will not be shown, you would have to be root"
    r"|netstat: "
    r"|Aktive |Connexions Internet|Sockets du domaine|稼働中の|Aktiva |Aktivní |Aktiivsed "
    r"|Conexões |Conexiones |Connexions actives|Sòcols |Domain sockets UNIX"
    r"|ინტერნეტის აქტიური|激活|Connessioni |Активные )"
)
"""Lines of netstat that are of no use here: headings of any language, sockets of other kinds."""
_SOCKET = re.compile(
    r"\s*(tcp|udp)(6?)\s+(\d{1,10})\s+(\d{1,10})\s+(\S{1,99}):(\d{1,5}|\*)\s+(\S{1,99}):(\d{1,5}|\*)(?:\s+(\S.*))?$"
)
_TIMER = re.compile(r"(?:^|\s)(\S+(?: d'espera)?) \({1,2}(\d{1,12})[.,](\d{1,9})/(\d{1,10})/(\d{1,10})\)?$")
_USER = re.compile(r"([^\s/]{1,99})\s+(\d{1,20})(?=\s|$)")
_PROGRAM = re.compile(r"(\d{1,10})/(.*)$")
_NAMES = re.compile(r"\s*(?:tcp|udp)6?\s+\d+\s+\d+\s+\S+:[A-Za-z*0-9]\S*\s+\S+:[A-Za-z*0-9]")
_HALF_TIMER = re.compile(r"\s\S+ \(\d*[.,]?\d*(?:/\d*){0,2}$")
_BEGINNING = re.compile(r"\s*tcp6?\s+\d+\s+\d+\s")
_NOT_ROOT = re.compile(r"\(Not all processes could be identified|\(No info could be read")
_CUT_AT = 23
"""Characters of address and port to which netstat without -W cuts."""


_NO_TIMER = Missing(f"netstat without -o prints no timers; {ASK_FOR_SS}")
_ODD_TIMER = Missing(f"netstat's word for the timer is of a language that is not known; {ASK_FOR_SS}")
_NO_DETAILS = Missing(f"netstat without -e does not print it; {ASK_FOR_SS}")
_NEVER = Missing(f"netstat does not print it; {ASK_FOR_SS}")
_NO_LIMIT = Missing(f"netstat prints no limit of a listener's queue; {ASK_FOR_SS}")
_USER_NAMED = Missing("netstat without -n prints the user's name; ask for: netstat -neopaW")
_NO_PROGRAMS = Missing("netstat without -p names no process; ask for: sudo ss -tanoempi")
_NO_ROOT = Missing("netstat names no process: it was not run as root; ask for: sudo ss -tanoempi")
_NOT_NAMED = Missing(
    f"no process is named with it: not accepted yet, an orphan, or netstat was not run as root; {ASK_FOR_SS}"
)
_CUT = "netstat without -W cuts addresses, so different peers may look like one; ask for: ss -tan"
_CUT_INODE = Missing(f"inodes stand there twice, so they are cut; {ASK_FOR_SS}")


def read_netstat(lines: Sequence[str], command: Command | None = None) -> Pasted:
    """Read a listing of ``netstat``.

    Args:
        lines: Its lines, with the headings where there are any, without what a terminal adds.
        command: The command line above them.
    """
    reader = _Rows(wide=command is not None and "W" in command.letters)
    leftover, headings, named, odd = [], False, 0, 0
    heading = next((line for line in lines[:40] if NETSTAT_HEADER.match(line)), "")
    cut, edge = cut_lines(lines, lambda line: _is_unfinished(line, heading), _begins)
    for place, line in enumerate(until_interrupted(lines)):
        if edge and place in cut:
            odd += 1
            continue
        if not line or line.isspace() or reader.add(line):
            continue
        if NETSTAT_HEADER.match(line):
            headings = True
        elif not NETSTAT_NOISE.match(line):
            leftover.append(line)
            odd += _BEGINNING.match(line) is not None
            named += _NAMES.match(line) is not None
    sockets = reader.settled(not_root=any(map(_NOT_ROOT.match, lines[:50])))
    notes = list(not_understood(leftover))
    if named:
        notes.append("netstat without -n prints names instead of numbers; ask for: ss -tanoempi")
    if reader.cut:
        notes.append(_CUT)
    if edge:
        notes.append(note_of_cut(odd, edge))
    return Pasted(
        "netstat",
        sockets=tuple(sockets),
        every_socket=read_to_the_end(
            NOT_ALL if odd else lists_all("netstat", sockets, command, headings=headings)
        ),
        notes=tuple(notes),
        whole_addresses=Missing(_CUT) if reader.cut else True,
    )


def _is_unfinished(line: str, heading: str) -> bool:
    """Whether a socket's line may be cut: the headings end at the same column, or it ends in a timer."""
    if not NETSTAT_SOCKET.match(line) and not _BEGINNING.match(line):
        return False
    last = line.rpartition(" ")[2]
    if last in STATES and last not in _WHOLE_STATES:
        return True
    if _HALF_TIMER.search(line) or (len(last) > 2 and any(word.startswith(last) for word in _HALF_TIMERS)):
        return True
    ended = last in _WHOLE_STATES or last in ("-", "*") or last.endswith((")", ":*"))
    return len(heading) >= len(line) - 1 and not heading.endswith(_LAST_HEADINGS) and not ended


def _begins(line: str) -> bool:
    return not line or any(
        pattern.match(line) for pattern in (NETSTAT_SOCKET, NETSTAT_HEADER, NETSTAT_NOISE, _BEGINNING)
    )


class _Rows:
    """The sockets read so far."""

    def __init__(self, *, wide: bool) -> None:
        self.sockets: list[PastedSocket] = []
        self.cut = False
        self._wide = wide
        self._programs = self._dashes = False
        self._hosts: dict[tuple[str, bool], tuple[str, int] | None] = {}

    def add(self, line: str) -> bool:
        """Take a socket; return False where the line is none, or cannot be understood."""
        if (match := _SOCKET.match(line)) is None:
            return False
        protocol, six, received, sent, near, port, far, far_port, rest = match.groups()
        stands = self._stands((near, port), (far, far_port), six=bool(six))
        timer, rest = self._timer(rest or "")
        state, rest = _state(rest, udp=protocol == "udp", listens=far_port == "*")
        if stands is None or state is None:
            return False
        family, local, remote = stands
        kind, expires, tries = timer
        if state is TcpState.TIME_WAIT and kind in (_NO_TIMER, _ODD_TIMER):
            kind = Timer.TIME_WAIT
        uid, inode, rest = _details(rest)
        stub = state is TcpState.TIME_WAIT or kind is Timer.TIME_WAIT or (inode == 0 and protocol == "tcp")
        owner = self._owner(rest)
        owner = NotHeld() if stub and not isinstance(owner, Held) else owner
        listens = state is TcpState.LISTEN
        self.sockets.append(
            PastedSocket(
                "tcp" if protocol == "tcp" else "udp",
                state,
                family,
                local,
                remote,
                _NEVER,
                int(received),
                0 if listens else int(sent),
                _NO_LIMIT if listens else LIMIT_OF_LISTENERS,
                kind,
                expires,
                tries,
                owner,
                inode,
                uid,
                _NEVER,
                _NEVER if family == 6 else IPV4_HAS_NONE,
                _NEVER,
                _NEVER,
                _NEVER,
            )
        )
        return True

    def _stands(
        self, near: tuple[str, str], far: tuple[str, str], *, six: bool
    ) -> tuple[int, Endpoint, Endpoint] | None:
        """Where a socket stands: family and both ends; None where that cannot be understood."""
        here, there = self._host(*near, six=six), self._host(*far, six=six)
        number, far_number = port_in(near[1]), port_in(far[1])
        if here is None or there is None or number > LAST_PORT or far_number > LAST_PORT:
            return None
        (address, family), (other, _) = here, there
        return family, Endpoint(address, number), Endpoint(other, far_number)

    def _host(self, text: str, port: str, *, six: bool) -> tuple[str, int] | None:
        """Return an address and its family; what is left of one that may have been cut."""
        if not self._wide and len(text) + 1 + len(port) == _CUT_AT and (six or ":" in text):
            self.cut = True
            return _left_of(text), 6
        key = (text, six)
        try:
            return self._hosts[key]
        except KeyError:
            found = self._hosts[key] = _whole_host(text, six=six)
            return found

    def _timer(self, rest: str) -> tuple[tuple[Reading[Timer], Reading[float], Reading[int]], str]:
        if not rest.endswith(")") or (match := _TIMER.search(rest[-80:])) is None:
            return (_NO_TIMER, _NO_TIMER, _NO_TIMER), rest
        word, seconds, hundredths, retransmits, probes = match.groups()
        before = rest[: len(rest) - len(match[0])].rstrip()
        timer = _TIMER_WORDS.get(word)
        if timer is None:
            return (_ODD_TIMER, _ODD_TIMER, _ODD_TIMER), before
        if timer is Timer.NONE:
            return (timer, 0.0, 0), before
        tries = probes if timer in (Timer.KEEPALIVE, Timer.PROBE) else retransmits
        return (timer, float(f"{seconds}.{hundredths}"), int(tries)), before

    def _owner(self, rest: str) -> Owner:
        if match := _PROGRAM.match(rest):
            self._programs = True
            return Held((Holder(int(match[1]), shown(match[2].strip()), -1, -1),))
        if rest[:1] == "-":
            self._dashes = True
            return _NOT_NAMED
        return _NO_PROGRAMS

    def settled(self, *, not_root: bool) -> list[PastedSocket]:
        """Decide what only the whole listing tells, and return the sockets."""
        if not_root or (self._dashes and not self._programs):
            self.sockets = [
                row._replace(owner=_NO_ROOT) if row.owner is _NOT_NAMED else row for row in self.sockets
            ]
        inodes = Counter(row.inode for row in self.sockets if row.inode)
        if any(number > 1 and not isinstance(inode, Missing) for inode, number in inodes.items()):
            self.sockets = [row._replace(inode=_CUT_INODE) if row.inode else row for row in self.sockets]
        return self.sockets


def _whole_host(text: str, *, six: bool) -> tuple[str, int] | None:
    """Return an address as the kernel has it; netstat prints an IPv4-mapped one as IPv4 behind ``tcp6``."""
    bare = text.partition("%")[0]
    colons = ":" in bare
    try:
        inet_pton(AF_INET6 if colons else AF_INET, bare)
    except (OSError, ValueError):
        return None
    if colons:
        return bare, 6
    return (f"::ffff:{bare}", 6) if six else (bare, 4)


def _left_of(text: str) -> str:
    """Return the beginning of an IPv6 address that was cut, as an address."""
    if "." in text:
        return "::ffff:0.0.0.0"
    head = text.partition("::")[0].split(":")
    whole = head if "::" in text else head[:-1]
    left = ":".join(part for part in whole[:6] if 0 < len(part) <= 4 and part.isalnum())
    return f"{left}::"


def _state(rest: str, *, udp: bool, listens: bool) -> tuple[TcpState | None, str]:
    """Take the state, of one word or two, from the beginning of what follows the addresses.

    Where it is of no language that is known, a socket that `listens` is known by its other end.
    """
    word, _, after = rest.partition(" ")
    found = STATES.get(word) or STATES.get(word.upper().replace("-", "_"))
    if found is not None:
        return found, after.lstrip()
    second, _, later = after.partition(" ")
    found = STATES.get(f"{word}_{second}")
    if found is not None:
        return found, later.lstrip()
    if udp:
        return TcpState.CLOSE, rest
    return (TcpState.LISTEN, after.lstrip()) if listens else (None, rest)


def _details(rest: str) -> tuple[Reading[int], Reading[int], str]:
    """Take user and inode, which ``-e`` prints before the program."""
    if (match := _USER.match(rest)) is None:
        return _NO_DETAILS, _NO_DETAILS, rest
    user, inode = match.groups()
    uid: Reading[int] = int(user) if user.isdecimal() and len(user) <= 10 else _USER_NAMED
    if user == "root":
        uid = 0
    return uid, int(inode), rest[match.end() :].lstrip()

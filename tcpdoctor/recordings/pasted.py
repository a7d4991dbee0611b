"""What one printed form says of a host, in the kernel's words, and nothing that it does not say.

A form is the output of one program (``ss``, ``netstat``, ``nstat``, ``sysctl``, ``lsof``) or a copy of a file
of /proc. Each of them leaves things out: what it leaves out is Missing here, with what to ask for next.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Literal, Protocol

from tcpdoctor.kernel.counters import CpuPackets
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Endpoint, Owner, SocketMemory, SysctlValue, TcpInfo
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.source import Form as Form

ASK_FOR_SS = "ask for: ss -tanoempi"
"""Ends the reason of what a form of sockets leaves out: this prints it."""
_NARROWEST, _WIDEST = 40, 400
"""Columns to which somebody may have cut lines."""
_SEVERAL = 3
"""Lines that end at one column by chance are fewer, or end as the program ends them."""
_ASK_COMMAND = "put the command that printed it on the line above it ($ ss -tanoempi)"


class Unread(Protocol):
    """What is printed of a connection, read when somebody asks: of very many nobody asks for most."""

    def read(self) -> Reading[TcpInfo]:
        """Return what it says."""


class PastedSocket(NamedTuple):
    """One socket as a program printed it."""

    protocol: Literal["tcp", "udp"]
    state: TcpState
    """CLOSE for a UDP socket that is not connected."""
    family: int
    """4 or 6, of the socket where the form tells it, else of its address."""
    local: Endpoint
    remote: Endpoint
    """Port 0: none."""
    device: Reading[str | None]
    """Name of the interface behind ``%`` of the local address; None: none. Missing where it is dropped."""
    receive_queue: Reading[int]
    """Bytes unread; of a listener, connections that wait for accept()."""
    send_queue: Reading[int]
    """Bytes unsent or not acknowledged; nothing of a listener: see `accept_limit`."""
    accept_limit: Reading[int]
    """Of a listener; only ``ss`` prints it."""
    timer: Reading[Timer]
    expires: Reading[float]
    """Seconds until `timer` fires."""
    retransmits: Reading[int]
    """Tries since the last progress."""
    owner: Owner
    """NotHeld only where the form says so for sure (inode 0); `Holder.uid` is -1 where it is not told."""
    inode: Reading[int]
    uid: Reading[int]
    cookie: Reading[int]
    v6only: Reading[bool]
    cgroup: Reading[str]
    """Path of its creator's control group (``ss --cgroup``, or ``-e`` of late versions)."""
    details: Reading[Unread]
    memory: Reading[SocketMemory]

    @property
    def info(self) -> Reading[TcpInfo]:
        """What the kernel tells of the connection (``ss -i``)."""
        return self.details if isinstance(self.details, Missing) else self.details.read()


class Pasted(NamedTuple):
    """What one form said. A part that it does not speak of is Missing."""

    form: Form
    sockets: Reading[tuple[PastedSocket, ...]] = Missing("the recording lists no sockets")
    every_socket: Reading[bool] = Missing("the recording lists no sockets")
    """True: a TCP socket that is not among `sockets` did not exist, or with `counts`: a state that is not
    among them had none. Sockets that are bound only are never in it. Missing: a part (a grep, one state)."""
    counts: Reading[Mapping[TcpState, int]] = Missing("the recording has no counts by state")
    """Sockets by state where the form counts instead of listing (``ss -s``, ``uniq -c``)."""
    counters: Reading[Mapping[str, int]] = Missing("the recording has no counters")
    """``TcpExt.ListenOverflows`` ..."""
    sockstat: Reading[Mapping[str, int]] = Missing("the recording has no /proc/net/sockstat")
    sysctls: Reading[Mapping[str, Reading[SysctlValue]]] = Missing("the recording has no settings")
    softnet: Reading[tuple[CpuPackets, ...]] = Missing("packets of each CPU are not in the recording")
    notes: tuple[str, ...] = ()
    """What a reader must know of this form: ``netstat without -W cuts addresses``."""
    whole_addresses: Reading[bool] = True
    """Missing: some addresses are cut. What is left of such a one is given as ``2001:db8:1::``, so that
    different peers may look like one."""


def not_understood(lines: Sequence[str]) -> tuple[str, ...]:
    """The note of lines that no reader took, or nothing where there are none."""
    if not lines:
        return ()
    many = "1 line" if len(lines) == 1 else f"{len(lines)} lines"
    return (f"{many} not understood, first: {clean(lines[0].strip(), 60)}",)


def cut_lines(
    lines: Sequence[str], is_unfinished: Callable[[str], bool], begins: Callable[[str], bool]
) -> tuple[Container[int], int]:
    """Find what ``cut -c`` or ``less -S`` left of a listing: numbers and names at the edge may be parts.

    Args:
        lines: The listing. A terminal that wraps leaves the rest of each on the next line: not meant here.
        is_unfinished: Whether no program ends a line so.
        begins: Whether a line is no rest of the one before.

    Returns:
        The places of lines that are cut, and the column; nothing and 0 where they are not.
    """
    edge = max(map(len, lines), default=0)
    if not _NARROWEST <= edge <= _WIDEST:
        return (), 0
    near = edge - 1  # a blank at the edge is taken off; a number before it is whole
    cut = {
        place
        for place, line in enumerate(lines)
        if (len(line) == edge or (len(line) == near and not line[-1].isdigit())) and is_unfinished(line)
    }
    if len(cut) < _SEVERAL or not all(begins(line) for line in _next_of(lines, cut)):
        return (), 0
    return cut, edge


def _next_of(lines: Sequence[str], places: Iterable[int]) -> Iterable[str]:
    return (lines[place + 1] for place in places if place + 1 < len(lines))


def note_of_cut(number: int, edge: int) -> str:
    """Say that lines were cut."""
    lines = "1 line is" if number == 1 else f"{number} lines are"
    return f"{lines} cut at column {edge}, and left out; write it to a file: ss -tanoempi > FILE"


def seems_whole(sockets: Sequence[PastedSocket], *, headings: bool) -> Reading[bool]:
    """Whether a listing above which no command stands has every TCP socket.

    Args:
        sockets: All that are listed.
        headings: The line of headings is there, which grep leaves out.
    """
    tcp = [row for row in sockets if row.protocol == "tcp"]
    part = f"so it may be a part; {ASK_FOR_SS}"
    if sockets and not tcp:
        return Missing(f"the listing has UDP sockets only; {ASK_FOR_SS}")
    if not headings:
        return Missing(f"the listing has no headings, {part}")
    states = {row.state for row in tcp}
    if TcpState.LISTEN not in states:
        return Missing(f"the listing has no listener, {part}")
    if states == {TcpState.LISTEN}:
        return Missing(f"the listing has listeners only, {part}")
    if len({row.local.port for row in tcp}) == 1:
        return Missing(f"all sockets listed have port {tcp[0].local.port}, {part}")
    if len(families := {row.family for row in tcp}) == 1:
        (family,) = families
        return Missing(f"all sockets listed are of IPv{family}, so it may be a part; {_ASK_COMMAND}")
    return True

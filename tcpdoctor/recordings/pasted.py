"""What one printed form says of a host, in the kernel's words, and nothing that it does not say.

A form is the output of one program (``ss``, ``netstat``, ``nstat``, ``sysctl``, ``lsof``) or a copy of a file
of /proc. Each of them leaves things out: what it leaves out is Missing here, with what to ask for next.
"""

from collections.abc import Mapping
from typing import Literal

from tcpdoctor.kernel.counters import CpuPackets
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Endpoint, Owner, SocketMemory, SysctlValue, TcpInfo
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.source import Form as Form


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
    info: Reading[TcpInfo]
    memory: Reading[SocketMemory]


class Pasted(NamedTuple):
    """What one form said. A part that it does not speak of is Missing."""

    form: Form
    sockets: Reading[tuple[PastedSocket, ...]] = Missing("the recording lists no sockets")
    every_socket: Reading[bool] = Missing("the recording lists no sockets")
    """True: what is not among `sockets` did not exist. Missing: part of a listing (a grep, one state)."""
    counts: Reading[Mapping[TcpState, int]] = Missing("the recording has no counts by state")
    """Sockets by state where the form counts instead of listing (``ss -s``, ``uniq -c``)."""
    counters: Reading[Mapping[str, int]] = Missing("the recording has no counters")
    """``TcpExt.ListenOverflows`` ..."""
    sockstat: Reading[Mapping[str, int]] = Missing("the recording has no /proc/net/sockstat")
    sysctls: Reading[Mapping[str, Reading[SysctlValue]]] = Missing("the recording has no settings")
    softnet: Reading[tuple[CpuPackets, ...]] = Missing("packets of each CPU are not in the recording")
    notes: tuple[str, ...] = ()
    """What a reader must know of this form: ``netstat without -W cuts addresses``."""

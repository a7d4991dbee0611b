"""What somebody else's look at a host says, whatever it was recorded with."""

from collections.abc import Mapping, Sequence

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Process, Samples, UdpSocket
from tcpdoctor.kernel.surroundings import Surroundings
from tcpdoctor.kernel.survey import Seen
from tcpdoctor.kernel.sysctl_files import Tree
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.source import Source


class Recording(NamedTuple):
    """A look at a host, or two, that was recorded."""

    source: Source
    samples: Samples
    """What rules are asked about. What the recording does not tell is Missing, with what to ask for next."""
    sockets: Reading[Sequence[Seen]]
    """Every TCP socket that is known one by one, listeners first, with its owner; of very many a part."""
    udp: Reading[tuple[UdpSocket, ...]] = Missing("the recording has no UDP sockets; ask for: ss -uanp")
    processes: Mapping[int, Process] = {}
    """By pid, those that hold any of these sockets, as far as they were read."""
    interfaces: Mapping[str, int] = {}
    """The interfaces that sockets are bound to, with the numbers that stand for them here."""
    settings: Reading[Tree] = Missing("they are not in the recording")
    """The files that set the kernel's settings at boot."""
    around: Reading[Surroundings] = Missing("it is not in the recording; record with: tcpdoctor snapshot")
    """Routes, packet rules, addresses, and what keeps the processes running."""

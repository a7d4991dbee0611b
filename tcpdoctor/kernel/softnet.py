"""What each CPU did with packets that came in: /proc/net/softnet_stat.

One line per CPU that is online, numbers in hexadecimal of 32 bits that wrap around, all of them of the whole
machine, whatever namespace they are read in (net/core/net-procfs.c, softnet_seq_show()). The columns are

0. packets that the CPU took up,
1. packets dropped because net.core.netdev_max_backlog already waited for it,
2. times that it stopped with packets left over, because net.core.netdev_budget or its time was used up,

then five that are 0 since Linux 2.6 and one more since 4.x; 9 wake-ups by another CPU (RPS), 10 packets that
the flow limit dropped (these are in column 1 as well), 11 packets that wait. Column 12 is the CPU's number,
since Linux 5.10; before, the lines of CPUs that are offline are left out and nothing says which are here.
"""

import os
from typing import NamedTuple

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.counters import THREAD_NET
from tcpdoctor.kernel.procfile import read_kernel_file, why_unreadable
from tcpdoctor.kernel.reading import Missing, Reading

_CPU = 12
_FEWEST = 3
WRAP = 1 << 32
"""The counters begin again at 0 here: `unsigned int` and `atomic_t` in struct softnet_data."""


class CpuPackets(NamedTuple):
    """Packets of one CPU since boot, modulo `WRAP`."""

    cpu: int
    """Its number; its place in the file before Linux 5.10."""
    processed: int
    dropped: int
    squeezed: int
    """Times that it stopped with packets left over; they are taken up a moment later and nothing is lost."""


def read_softnet(root: str = THREAD_NET) -> Reading[tuple[CpuPackets, ...]]:
    """Read what every CPU did, in the order of the file.

    Args:
        root: Folder of the file; tests point it at a recorded one.

    Returns:
        One record per CPU that is online, never empty. `Missing` if the file cannot be read.

    Raises:
        KernelReadError: The file has another form than expected.
    """
    path = os.path.join(root, "softnet_stat")
    try:
        text = read_kernel_file(path).decode("ascii", "replace")
    except OSError as error:
        return Missing(why_unreadable(error))
    return parse_softnet(text, path)


def parse_softnet(text: str, source: str) -> tuple[CpuPackets, ...]:
    """Parse lines such as ``00c76364 000002f6 0000000d 00000000 ...``.

    Raises:
        KernelReadError: There is no line, or one is not made of at least three hexadecimal numbers.
    """
    lines = [line.split() for line in text.splitlines()]
    if not lines:
        raise KernelReadError(f"{source}: expected a line for each CPU, found none")
    return tuple(_cpu(words, place, source) for place, words in enumerate(lines))


def _cpu(words: list[str], place: int, source: str) -> CpuPackets:
    try:
        numbers = [int(word, 16) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) < _FEWEST:
        raise KernelReadError(f"{source} line {place + 1}: expected at least three hexadecimal numbers")
    cpu = numbers[_CPU] if len(numbers) > _CPU else place
    return CpuPackets(cpu, *numbers[:_FEWEST])

"""How many sockets there are and what they hold: /proc/net/sockstat and sockstat6."""

import os
from collections.abc import Mapping

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.counters import THREAD_NET
from tcpdoctor.kernel.procfile import is_absent, read_kernel_file, why_unreadable
from tcpdoctor.kernel.reading import Missing, Reading


def read_sockstat(root: str = THREAD_NET) -> Reading[Mapping[str, int]]:
    """Read ``{"TCP.inuse": 5, "TCP.orphan": 0, "TCP.mem": 1, "TCP6.inuse": 2, ...}``.

    ``TCP.inuse`` and ``TCP.tw`` are this namespace's; ``TCP.orphan``, ``TCP.alloc`` and ``TCP.mem``
    (in pages) are the machine's. ``tw`` includes orphans' FIN_WAIT_2 that became minisockets, ``orphan``
    leaves them out.

    Args:
        root: Folder of the two files; tests point it at recorded ones.

    Returns:
        Numbers by group and name; sockstat6 is absent where IPv6 is off. `Missing` if sockstat
        cannot be read.

    Raises:
        KernelReadError: A file has another form than expected.
    """
    path = os.path.join(root, "sockstat")
    try:
        numbers = parse_sockstat(read_kernel_file(path).decode("ascii", "replace"), path)
    except OSError as error:
        return Missing(why_unreadable(error))
    path = os.path.join(root, "sockstat6")
    try:
        text = read_kernel_file(path).decode("ascii", "replace")
    except OSError as error:
        if not is_absent(error):
            return Missing(why_unreadable(error))
        return numbers
    return numbers | parse_sockstat(text, path)


def parse_sockstat(text: str, source: str) -> dict[str, int]:
    """Parse lines such as ``TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 1``.

    Raises:
        KernelReadError: A line is no group with pairs of name and number; with `source` and the line.
    """
    numbers: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        group, *pairs = line.split() or [""]
        try:
            values = list(map(int, pairs[1::2]))
            names = [f"{group[:-1]}.{name}" for name in pairs[::2]]
            numbers.update(zip(names, values, strict=True))
        except ValueError:
            values = []
        if not group.endswith(":") or not values:
            raise KernelReadError(
                f"{source} line {number}: expected a group and pairs of a name and a whole number"
            )
    return numbers

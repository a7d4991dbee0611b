"""Measure what `tcpdoctor watch` takes of a core beside very many sockets, drawn on a terminal of its own.

    python bench/watching.py --sockets 10000 --mix established=6,time_wait=3,close_wait=1 --processes 10

Makes the sockets in a private network namespace and shows the screen there on a terminal of 160 x 50, for
`--seconds`. Prints user and system time over real time in percent, from the third look on, and the
highest resident set. See bench/README.md.
"""

import argparse
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from pathlib import Path

from tcpdoctor.lab.namespace import NamespaceRefusedError, enter_private_namespace

sys.path.insert(0, str(Path(__file__).parent))  # so that it runs from any directory
from run import parse_mix
from sockets import crowd

LINES, COLUMNS = 50, 160
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def share_of_a_core(interval: float, seconds: float) -> tuple[float, int]:
    """Show the screen for so long; return the share of a core and the highest resident set in KiB."""
    pid, terminal = pty.fork()
    if not pid:
        os.environ |= {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        words = [sys.executable, "-m", "tcpdoctor", "watch", "--interval", f"{interval:g}"]
        os.execv(words[0], words)  # noqa: S606 - it is what is measured
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    try:
        _read_for(terminal, 2 * interval + 1)  # the rules are loaded, and every owner was searched for
        began, before = time.monotonic(), _cpu_of(pid)
        _read_for(terminal, seconds)
        share = (_cpu_of(pid) - before) / (time.monotonic() - began)
        os.write(terminal, b"q")
        _read_for(terminal, 0.5)
    finally:
        os.close(terminal)
    _, _, usage = os.wait4(pid, 0)
    return share, usage.ru_maxrss


def _read_for(terminal: int, seconds: float) -> None:
    """Take what is drawn, as a terminal does."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([terminal], [], [], left)
        try:
            if ready and not os.read(terminal, 65536):
                return
        except OSError:
            return  # it has ended


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def main() -> int:
    """Run the benchmark; 0 if it ran."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, nargs="+", default=[10_000])
    parser.add_argument("--mix", type=parse_mix, default="established")
    parser.add_argument("--processes", type=int, default=1, help="over which CLOSE_WAIT is spread")
    parser.add_argument("--interval", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    try:
        enter_private_namespace()
    except NamespaceRefusedError as refusal:
        print(f"no private network namespace: {refusal}", file=sys.stderr)
        return 1
    mix = ", ".join(f"{share:g} {kind}" for kind, share in options.mix.items())
    for number in options.sockets:
        with crowd(number, options.mix, options.processes):
            share, peak = share_of_a_core(options.interval, options.seconds)
        print(
            f"{number} sockets ({mix}), every {options.interval:g} s for {options.seconds:g} s: "
            f"{share * 100:.2f} % of a core, {peak / 1024:.0f} MiB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

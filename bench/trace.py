"""What `trace` costs: CPU time for each connection that ends, and how much slower connections get by it.

.venv/bin/python bench/trace.py [--connections N] [--rounds N]
"""

import argparse
import os
import resource
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tcpdoctor.answers.ended import EndedConnection
from tcpdoctor.answers.trace import Trace, TraceQuestion
from tcpdoctor.lab.namespace import enter_private_namespace
from tcpdoctor.report.document import json_line
from tcpdoctor.report.style import PLAIN
from tcpdoctor.report.trace_text import connection_text

PORT = 7_200
WAYS = {
    "counted only": lambda _: None,
    "as JSON": json_line,
    "as text": lambda ended: connection_text(ended, PLAIN),
}


def connect_and_close(number: int) -> float:
    """Open and close so many connections; return the CPU seconds that took, the kernel's work included."""
    begun = cpu()
    with socket.create_server(("127.0.0.1", PORT)) as listener:
        for _ in range(number):
            with socket.create_connection(("127.0.0.1", PORT)) as client:
                listener.accept()[0].close()
                client.recv(1)
    return cpu() - begun


def cpu() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def in_child(number: int) -> Iterator[float]:
    """The same in a process beside; yields when it has begun, and what it took once asked again."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, f"{connect_and_close(number)}".encode())
        os._exit(0)
    yield 0.0
    yield float(os.read(reader, 64))
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)


def traced(number: int, way: str) -> tuple[float, float]:
    """CPU seconds of the trace, and of the connections that it looked at."""
    with Trace(TraceQuestion()) as trace:
        beside = in_child(number)
        next(beside)
        begun = cpu()
        until = time.monotonic() + 300
        for item in trace.follow(lambda: trace.connections >= 2 * number or time.monotonic() > until):
            if isinstance(item, EndedConnection):
                WAYS[way](item)
            elif item.events_lost or item.connections < 2 * number:
                sys.exit(f"{item.connections} of {2 * number} ends were told, {item.events_lost} events lost")
        return cpu() - begun, next(beside)


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_007)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    enter_private_namespace()
    number = options.connections
    alone = statistics.median(connect_and_close(number) for _ in range(options.rounds))
    print(f"{number} connections without a trace: {1e6 * alone / number:.1f} us of CPU each")
    for way in WAYS:
        rounds = [traced(number, way) for _ in range(options.rounds)]
        own = statistics.median(one for one, _ in rounds)
        theirs = statistics.median(one for _, one in rounds)
        print(
            f"traced, {way}: {1e6 * own / number / 2:.1f} us of CPU for each end; connections take "
            f"{theirs / alone:.2f} of the time"
        )


if __name__ == "__main__":
    main()

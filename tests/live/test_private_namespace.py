"""The private namespace that live tests and the lab run in."""

import os
import time
from pathlib import Path


def is_running(pid):
    """Whether a process is there and is no zombie waiting for its parent."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_a_process_left_behind_neither_delays_the_answer_nor_outlives_it(in_namespace):
    def leave_processes_behind():
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild:
                os.write(writer, str(grandchild).encode())
            time.sleep(60)
            os._exit(0)
        return child, int(os.read(reader, 20))

    begun = time.monotonic()
    pids = in_namespace(leave_processes_behind)
    assert time.monotonic() - begun < 10
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.005)

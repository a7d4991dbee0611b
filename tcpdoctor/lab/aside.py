"""Does something in a forked child, so that nothing of it stays behind here."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn


class Printed(NamedTuple):
    """What a command printed, and how it ended."""

    output: str
    """Standard output, then what it said on standard error."""
    exit_code: int
    """-9 where signal 9 ended it."""


class Aside:
    """A function that runs in a child of its own, beside others."""

    def __init__(self, function: Callable[[], int]) -> None:
        """Fork and begin; `function` prints, and returns its exit code."""
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _speak(function, writer)
        os.close(writer)

    def printed(self) -> Printed:
        """Wait for its end."""
        with os.fdopen(self._reader, "rb") as stream:
            output = stream.read().decode("utf-8", "replace")
        _, status = os.waitpid(self._pid, 0)
        return Printed(output, os.waitstatus_to_exitcode(status))


def _speak(function: Callable[[], int], writer: int) -> NoReturn:
    code = 3
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        # what they were may have data of the caller in it, or be no descriptor at all
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        code = function()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)

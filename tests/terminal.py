"""A terminal of its own for a command: what it shows is waited for, and no longer than a minute."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import NoReturn

PATIENCE = 60.0


def is_readable(descriptor: int, seconds: float) -> bool:
    """Wait for something to read, or the other end's end; select() takes no descriptor from 1024 on."""
    asked = select.poll()
    asked.register(descriptor, select.POLLIN)
    return bool(asked.poll(1000 * seconds))


class OnTerminal:
    """A command on a terminal; in a `with` block it is killed in the end, if it runs still."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        columns: int | None = None,
        answers_here: bool = True,
    ) -> None:
        """Begin. Without `columns` the terminal has no size; its answer (standard output) may go nowhere."""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            _become(command, environment, columns, answers_here=answers_here)
        self._code: int | None = None

    def __enter__(self) -> "OnTerminal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.master)
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def read_until(self, words: str | None) -> str:
        """What is shown from here on up to these words, or to the command's end; without words to its end."""
        seen, deadline = b"", time.monotonic() + PATIENCE
        while words is None or words.encode() not in seen:
            left = deadline - time.monotonic()
            assert left > 0, f"after {PATIENCE:g} s it shows no {words or 'end'}: {seen.decode()}"
            if not is_readable(self.master, left):
                continue
            try:
                part = os.read(self.master, 1 << 16)
            except OSError:  # EIO: the other end is closed
                break
            seen += part
        return seen.decode().replace("\r\n", "\n")

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self) -> int:
        """Wait for its end: the exit code, or the negative number of the signal."""
        deadline = time.monotonic() + PATIENCE
        while self._code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self._code = os.waitstatus_to_exitcode(status)
            else:
                assert time.monotonic() < deadline, "it closed its terminal and runs on"
                time.sleep(0.002)
        return self._code


def _become(
    command: Sequence[str], environment: Mapping[str, str], columns: int | None, *, answers_here: bool
) -> NoReturn:
    """In the child, which may not come back whatever happens."""
    try:
        if columns is not None:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
        if not answers_here:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execve(command[0], list(command), dict(environment))  # noqa: S606
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(127)

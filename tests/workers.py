"""Tests side by side, in children of the process that has collected them.

Collecting takes ten seconds, and a worker that is started anew, as pytest-xdist does, as long once more.
What the tests share by scope is made in each worker that needs it.
"""

import os
import pickle
import selectors
import signal
import struct
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import pytest

_AT_ONCE = 7
"""Tests of a file that a worker takes at a time."""
_OWN = "popen-"
_INDEX, _SIZE = struct.Struct("=I"), struct.Struct("=Q")


def batches_of(items: Iterable[pytest.Item]) -> list[list[pytest.Item]]:
    """Parts that one worker runs: a few tests of a file, or all where they share what is made for the file.

    What takes longest is first. Live tests, most of which wait, and the others, which compute, take turns.
    """
    made = [
        list(part)
        for _, of_file in groupby(items, lambda item: item.nodeid.partition("::")[0])
        for part in _parts(list(of_file))
    ]
    first = [batch for batch in made if _is_first(batch[0])]
    live = [batch for batch in made if not _is_first(batch[0]) and _is_live(batch[0])]
    pure = [batch for batch in made if not _is_first(batch[0]) and not _is_live(batch[0])]
    placed = [(place / len(kind), batch) for kind in (live, pure) for place, batch in enumerate(kind)]
    return first + [batch for _, batch in sorted(placed, key=lambda it: it[0])]


def _parts(items: list[pytest.Item]) -> Iterator[list[pytest.Item]]:
    for _, alike in groupby(items, _is_first):
        together = list(alike)
        size = len(together) if any(map(_shares, together)) else _AT_ONCE
        if _is_first(together[0]) and size == _AT_ONCE:
            size = 1
        yield from (together[begin : begin + size] for begin in range(0, len(together), size))


def _is_first(item: pytest.Item) -> bool:
    return item.get_closest_marker("first") is not None


def _is_live(item: pytest.Item) -> bool:
    return item.nodeid.startswith("tests/live/")


def _shares(item: pytest.Item) -> bool:
    """Whether it uses what is made once for its file."""
    known = getattr(item, "_fixtureinfo", None)
    used = known.name2fixturedefs.values() if known is not None else ()
    return any(one.scope in ("module", "class", "package") for definitions in used for one in definitions)


def whole_run(folder: Path) -> Path:
    """The folder of temporary files of the run that a worker's own, or the run's, belongs to."""
    return folder.parent if folder.name.startswith(_OWN) else folder


class _Worker(NamedTuple):
    name: str
    pid: int
    said: int
    """The descriptor that its words come from."""
    heard: bytearray
    running: list[int]
    """The test that has begun and has not ended."""


class Workers:
    """Runs the tests of a session; a plugin."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._workers: dict[int, _Worker] = {}
        self._begun = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        config = session.config
        if config.option.collectonly or config.option.usepdb or not session.items:
            return None
        if session.testsfailed and not config.option.continue_on_collection_errors:
            return None  # pytest says so
        self._session = session
        self._batches = batches_of(session.items)
        self._base = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        self._left = set(range(len(session.items)))
        try:
            while self._left and not (session.shouldfail or session.shouldstop):
                self._run()
                self._batches = [[session.items[number]] for number in sorted(self._left)]
        finally:
            for worker in self._workers.values():
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    def _run(self) -> None:
        """Run all batches, but for what a worker had taken that ended in a test."""
        with tempfile.TemporaryFile(buffering=0) as queue:
            queue.write(b"".join(_INDEX.pack(number) for number in range(len(self._batches))))
            queue.seek(0)
            self._queue = queue.fileno()
            for _ in range(min(self._number, len(self._batches))):
                self._begin_worker()
            self._listen()

    def _begin_worker(self) -> None:
        reader, writer = os.pipe()
        name = f"gw{self._begun}"
        self._begun += 1
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._work(name, writer)
        os.close(writer)
        self._workers[reader] = _Worker(name, pid, reader, bytearray(), [])

    def _listen(self) -> None:
        with selectors.DefaultSelector() as readable:
            while self._workers:
                for said in self._workers.keys() - readable.get_map().keys():
                    readable.register(said, selectors.EVENT_READ)
                for key, _ in readable.select():
                    worker = self._workers[key.fd]
                    data = os.read(key.fd, 1 << 20)
                    worker.heard.extend(data)
                    for what, value in _messages(worker.heard):
                        self._hear(worker, what, value)
                    if not data:
                        readable.unregister(key.fd)
                        self._end_of(worker)
                if self._session.shouldfail or self._session.shouldstop:
                    os.ftruncate(self._queue, 0)

    def _hear(self, worker: _Worker, what: str, value: Any) -> None:
        hook = self._session.config.hook
        if what == "problem":
            raise RuntimeError(f"a worker ended:\n{value}")
        if what == "report":
            report = hook.pytest_report_from_serializable(config=self._session.config, data=value)
            report.node = _told_as(worker.name)
            hook.pytest_runtest_logreport(report=report)
            return
        item = self._session.items[value]
        if what == "begin":
            worker.running[:] = [value]
            self._left.discard(value)
            hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        else:
            worker.running.clear()
            hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _end_of(self, worker: _Worker) -> None:
        del self._workers[worker.said]
        os.close(worker.said)
        _, status = os.waitpid(worker.pid, 0)
        if not worker.running:
            return
        item = self._session.items[worker.running[0]]
        words = f"the worker ended in it: {os.waitstatus_to_exitcode(status)}"
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", words, "call")
        report.node = _told_as(worker.name)
        self._session.config.hook.pytest_runtest_logreport(report=report)
        self._begin_worker()

    # in the child

    def _work(self, name: str, writer: int) -> NoReturn:
        try:
            for worker in self._workers.values():
                os.close(worker.said)
            self._become_a_worker(name)
            self._tell = writer
            places = {item: number for number, item in enumerate(self._session.items)}
            item = next(tests := self._tests(), None)
            while item is not None:
                following = next(tests, None)
                self._say("begin", places[item])
                self._session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                self._say("end", places[item])
                item = following
        except KeyboardInterrupt:
            os._exit(2)
        except BaseException:  # the parent tells it
            self._say("problem", traceback.format_exc())
        os._exit(0)

    def _become_a_worker(self, name: str) -> None:
        plugins = self._session.config.pluginmanager
        plugins.unregister(name="terminalreporter")
        captured = plugins.getplugin("capturemanager")
        if captured is not None:
            captured.read_global_capture()
            captured.stop_global_capturing()
            captured.start_global_capturing()
        folder = self._base / f"{_OWN}{name}"
        folder.mkdir(mode=0o700)
        self._session.config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
        self._is_worker = True

    def _tests(self) -> Iterator[pytest.Item]:
        while number := os.read(self._queue, _INDEX.size):
            yield from self._batches[_INDEX.unpack(number)[0]]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if getattr(self, "_is_worker", False):
            config = self._session.config
            self._say("report", config.hook.pytest_report_to_serializable(config=config, report=report))

    def _say(self, what: str, value: object) -> None:
        data = pickle.dumps((what, value))
        with open(self._tell, "wb", closefd=False) as stream:
            stream.write(_SIZE.pack(len(data)) + data)


def _told_as(name: str) -> SimpleNamespace:
    """What pytest looks at of reports that come from elsewhere: it knows those of pytest-xdist."""
    return SimpleNamespace(gateway=SimpleNamespace(id=name), _workerinfocache=f"[{name}]")


def _messages(heard: bytearray) -> Iterator[tuple[str, Any]]:
    while len(heard) >= _SIZE.size and len(heard) >= _SIZE.size + (length := _SIZE.unpack_from(heard)[0]):
        data = bytes(heard[_SIZE.size : _SIZE.size + length])
        del heard[: _SIZE.size + length]
        yield pickle.loads(data)  # noqa: S301 - our own child's

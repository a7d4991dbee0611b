"""What every test may use."""

import contextlib
import ctypes
import errno
import fcntl
import functools
import gc
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from importlib import import_module
from itertools import chain, groupby
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tcpdoctor.kernel import namespaces
from tcpdoctor.lab.namespace import (
    NamespaceRefusedError,
    bring_up,
    in_private_namespace,
    write_sysctl,
)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
"""How long an example takes says how busy the machine is, and nothing of the program."""


def _is_allowed() -> str | None:
    try:
        in_private_namespace(int)
    except NamespaceRefusedError as error:
        return str(error)
    return None


@functools.cache
def _refusal() -> str | None:
    return _is_allowed()


@pytest.fixture
def in_namespace() -> Callable[..., Any]:
    """Run a function in a private network namespace, or skip the test with the reason."""
    reason = _refusal()
    if reason is not None:
        pytest.skip(reason)

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with children_get_a_small_table():
            answer = in_private_namespace(_noting_absence, function, *args, **kwargs)
        if isinstance(answer, Lacking):
            pytest.skip(f"this kernel lacks {answer.what}")
        if isinstance(answer, LeftOut):
            pytest.skip(answer.reason)
        return answer

    return run


@pytest.fixture
def in_own_machine(in_namespace: Callable[..., Any]) -> Callable[..., Any]:
    """The same among processes of its own, for what looks through all processes hundreds of times.

    Tests beside it hold tens of thousands of descriptors, and whoever else is on this machine may hold more.
    Where there is no root, or no mount of one's own, all processes stay in sight.
    """

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return in_namespace(_among_own_processes, function, *args, **kwargs)

    return run


MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000


def _among_own_processes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    libc = ctypes.CDLL(None)
    mounts = os.geteuid() == 0 and libc.unshare(CLONE_NEWNS) == 0
    if not mounts or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) or libc.unshare(CLONE_NEWPID):
        return function(*args, **kwargs)
    return in_private_namespace(_noting_absence, _as_the_whole_machine, function, *args, **kwargs)


def _as_the_whole_machine(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What this PID namespace has stands for all there is: no other has sockets of this network namespace."""
    assert ctypes.CDLL(None).mount(b"proc", b"/proc", b"proc", 0, None) == 0
    namespaces._FIRST_PID_NAMESPACE = os.stat("/proc/self/ns/pid").st_ino
    return function(*args, **kwargs)


@functools.cache
def _user_namespace_refusal() -> str | None:
    """Why no user namespace is to be had here; None where one is."""
    program = shutil.which("unshare")
    if program is None:
        return "unshare (util-linux) is not installed"
    command = [program, "--user", "--map-root-user", "--net", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 0:
        return None
    return f"no user namespace is to be had, as in a chroot: {' '.join(done.stderr.split())}"


@pytest.fixture
def user_namespace() -> None:
    """Skip the test where no user namespace is to be had, with the reason."""
    reason = _user_namespace_refusal()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def mount_namespace() -> None:
    """Skip the test where root gets no mounts of his own, with the reason: in a chroot / is no mount."""
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("unshare (util-linux) is not installed")
    done = subprocess.run(
        [program, "--mount", "true"], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode and os.geteuid() == 0:
        pytest.skip(f"no private mounts are to be had, as in a chroot: {' '.join(done.stderr.split())}")


class Lacking(NamedTuple):
    """What a test needs and the running kernel has not; .ci/run fails where the newest kernel lacks it."""

    what: str


class LeftOut(NamedTuple):
    """Why a test cannot be run here, found out inside its namespace."""

    reason: str


TABLE = 16384
"""Places for connections; the machine's own table has 262,144 on a host with 32 GiB."""
CHILDREN_GET = "net.ipv4.tcp_child_ehash_entries"
OF_THE_TABLE = ("net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_max_syn_backlog")
"""Settings whose default is computed from its size."""
CLONE_NEWNET = 0x40000000


def take_a_small_table() -> None:
    """Go on into a network namespace with a table of connections of its own, all else being equal.

    A listing goes through the whole table, which takes 8 ms for the machine's, however few sockets a
    namespace has. Kernels before 6.1, and those that refuse it, leave us where we are.
    """
    with contextlib.suppress(OSError):
        if _of_the_table() and not _has_a_small_table():
            write_sysctl(CHILDREN_GET, TABLE)
            if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
                write_sysctl(CHILDREN_GET, 0)
                return
            bring_up("lo")
        for name, value in _of_the_table().items():
            write_sysctl(name, value)


@functools.cache
def _of_the_table() -> Mapping[str, str]:
    """What those settings are where the table is the machine's."""
    return {name: _path_of(name).read_text().strip() for name in OF_THE_TABLE}


def _has_a_small_table() -> bool:
    path = _path_of("net.ipv4.tcp_ehash_entries")
    return path.exists() and path.read_text().strip() == str(TABLE)


@contextlib.contextmanager
def children_get_a_small_table() -> Iterator[None]:
    """Let namespaces that are made meanwhile begin with one, where that is no setting of the machine."""
    if not (_hosts_network and _has_a_small_table()):
        yield
        return
    write_sysctl(CHILDREN_GET, TABLE)
    try:
        yield
    finally:
        write_sysctl(CHILDREN_GET, 0)


def _path_of(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _noting_absence(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    take_a_small_table()
    try:
        return function(*args, **kwargs)
    except pytest.skip.Exception as skipped:
        return LeftOut(str(skipped))
    except FileNotFoundError as error:
        settings = "/proc/sys/"
        if not str(error.filename).startswith(settings):
            raise
        return Lacking(str(error.filename).removeprefix(settings).replace("/", "."))
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return Lacking("a socket option that the test sets")


CHECKOUT = Path(__file__).resolve().parent.parent


@functools.cache
def _closed_folder() -> Path | None:
    """The folder that keeps other users from this checkout, which matters to root alone; None: none does."""
    if os.geteuid() != 0:
        return None
    folders = [CHECKOUT, *CHECKOUT.parents]
    return next((folder for folder in folders if not folder.stat().st_mode & stat.S_IXOTH), None)


@pytest.fixture
def other_users() -> None:
    """Skip the test where other users may not come to this checkout, with the reason."""
    closed = _closed_folder()
    if closed is not None:
        pytest.skip(_closed_to_others(closed))


def _closed_to_others(folder: Path) -> str:
    return f"other users may not come to {folder}, so not to this checkout (chmod o+x)"


_UNREADABLE = (
    f"Permission denied: '{CHECKOUT}",
    f"{sys.executable}: No module named tcpdoctor",
    "ModuleNotFoundError: No module named 'tcpdoctor'",
    "LookupError: unknown encoding",  # Python's own library lies in a closed folder, too
)
"""What another user gets of a program whose folder is closed to him."""


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Skip what becomes another user in a checkout that no other user may read, and say so.

    What the program answers such a user cannot be told there; every other failure stays one.
    """
    _end_a_child_that_came_back(item, call)
    report = (yield).get_result()
    closed = _closed_folder()
    if closed is None or not report.failed or call.excinfo is None:
        return
    if any(sign in f"{call.excinfo.value}{report.longreprtext}" for sign in _UNREADABLE):
        reason = f"Skipped: {_closed_to_others(closed)}"
        report.outcome, report.longrepr = "skipped", (str(item.path), item.location[1] or 0, reason)


_own_pid = [os.getpid()]
"""Workers are forked after this was imported, and put their own here."""


def _end_a_child_that_came_back(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """End a process that a test has forked and that did not end there: it raised, or was not told to end.

    It would go on as a second worker of xdist in the place of the first, which waits for it: nobody tells it
    that the run is over, so that one test of all would never be run, and the run never end.
    """
    if os.getpid() != _own_pid[0]:
        told = call.excinfo.getrepr() if call.excinfo is not None else "it returned"
        os.write(2, f"{item.nodeid}: a child came back instead of ending: {told}\n".encode())
        os._exit(1)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Fill a folder by a slow step once in the whole run, whichever worker of xdist gets there first."""
    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent  # all workers have that

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = root / f"made-{name}", root / f"made-{name}.done"
        with open(root / f"made-{name}.lock", "w", encoding="utf-8") as lock:
            _lock_within(lock, PATIENCE, f"another worker makes {name}")
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


PATIENCE = 300.0
"""Seconds; building waits for the network."""


def _lock_within(lock: IO[str], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert time.monotonic() < deadline, f"still after {seconds:g} s: {what}"
            time.sleep(0.02)


def _run(*command: object) -> None:
    with in_the_hosts_network():
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, check=False, cwd="/", timeout=PATIENCE
        )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def wheel(made_once: Callable[..., Path]) -> Path:
    """A wheel built from a copy of the checkout."""

    def build(folder: Path) -> None:
        source = folder / "source"
        ignored = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "dist", "build")
        shutil.copytree(CHECKOUT, source, ignore=ignored)
        _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source)

    (built,) = made_once("wheel", build).glob("tcpdoctor-*.whl")
    return built


@pytest.fixture(scope="session")
def one_file(made_once: Callable[..., Path], wheel: Path) -> Path:
    """The program as one file, for tests that do not change it."""

    def build(folder: Path) -> None:
        packer = CHECKOUT / "integrations" / "one_file.py"
        _run(sys.executable, packer, f"--wheel={wheel}", folder / "tcpdoctor.pyz")

    return made_once("one-file", build) / "tcpdoctor.pyz"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest starts first, and each worker of xdist gets of everything, in another order.

    Most live tests wait and most others compute: while one worker waits the next computes. In the order of
    the files all would compute at once, and wait for the kernel together at the end. A worker's share is one
    stretch of the list (``--dist worksteal``); what others take of it once they are done lies at its end.
    """
    workers = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    first = [item for item in items if item.get_closest_marker("first") is not None]
    others = [item for item in items if item.get_closest_marker("first") is None]
    live = [item for item in others if item.nodeid.startswith("tests/live/")]
    pure = [item for item in others if not item.nodeid.startswith("tests/live/")]
    files = [list(tests) for _, tests in groupby(pure, lambda item: item.nodeid.partition("::")[0])]
    order: list[pytest.Item] = []
    for worker in range(workers):
        share = [*live[worker::workers], *chain.from_iterable(files[worker::workers])]
        begin = len(share) * worker // workers
        order += first[worker::workers] + share[begin:] + share[:begin]
    items[:] = order


def pytest_collection_finish() -> None:
    """Let the collector of circles pass over what collecting has made: a million objects that stay.

    Each whole collection would go through them, also in every child that a test forks: looking at one there
    copies its page. And let those pages be large ones, so that a fork copies a table of fewer: half its time.
    """
    gc.collect()
    gc.freeze()
    _ask_for_large_pages()


_LARGE = 1 << 21
_MADV_COLLAPSE = 25


def _ask_for_large_pages() -> None:
    """Kernels before 6.1 do not know the call, and nothing is lost."""
    anonymous = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0\s*(?:\[heap\]\s*)?$")
    with open("/proc/self/maps", encoding="utf-8") as maps:
        places = [(int(found[1], 16), int(found[2], 16)) for line in maps if (found := anonymous.match(line))]
    advise = ctypes.CDLL(None).madvise
    for begin, end in places:
        for address in range(-(-begin // _LARGE) * _LARGE, end - _LARGE + 1, _LARGE):
            advise(ctypes.c_void_p(address), ctypes.c_size_t(_LARGE), _MADV_COLLAPSE)


def pytest_configure(config: pytest.Config) -> None:
    """Let what tests start be as on a quiet host.

    A shell ignores SIGINT for what it starts in the background, nohup SIGHUP; our commands must not.
    """
    _own_pid[0] = os.getpid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        _leave_the_hosts_network()


_hosts_network: list[int] = []
"""A descriptor of the namespace in which this process began, once it has left that."""


def _leave_the_hosts_network() -> None:
    """Let the tests of this process begin in a network namespace of its own, where root may make one.

    Commands that look at "the host" find a small table of connections there, and neither sockets of other
    tests nor, among all processes of the machine, whose those are.
    """
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    with contextlib.suppress(OSError):
        _of_the_table()  # remembered before we leave
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        os.close(here)
        return
    _hosts_network.append(here)
    bring_up("lo")
    take_a_small_table()


@contextlib.contextmanager
def in_the_hosts_network() -> Iterator[None]:
    """Go back where this process began, for what needs the machine's own network or settings."""
    if not _hosts_network:
        yield
        return
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        _enter(_hosts_network[0])
        yield
    finally:
        _enter(here)
        os.close(here)


@pytest.fixture
def hosts_network() -> Iterator[None]:
    """Run the test in the network namespace in which the whole run was started."""
    with in_the_hosts_network():
        yield


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None).setns(namespace, CLONE_NEWNET) != 0:
        raise OSError("setns() of a network namespace that we came from")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before xdist's workers begin: import the tests that they will collect, and fork them from here.

    First as many children as there are processors compile what is not yet: pytest rewrites each `assert`,
    which takes as long as all of collecting, and keeps that in files.
    """
    workers = getattr(session.config.option, "numprocesses", None)
    if hasattr(session.config, "workerinput") or not workers:
        return
    asked = [
        Path(session.config.invocation_params.dir, arg.partition("::")[0]) for arg in session.config.args
    ]
    tests = [path for path in sorted((CHECKOUT / "tests").rglob("test_*.py")) if _is_asked_for(path, asked)]
    missing = [path for path in tests if not _is_compiled(path)]
    children = []
    for first in range(os.cpu_count() or 1):
        child = os.fork()
        if child == 0:
            sys.dont_write_bytecode = False
            _import_all(missing[first :: os.cpu_count()])
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    from tests import warm_workers  # it needs what comes with xdist

    warm_workers.prepare(session.config, tests, CHECKOUT)


def _is_asked_for(path: Path, asked: list[Path]) -> bool:
    return any(path.is_relative_to(place) for place in asked)


def _is_compiled(path: Path) -> bool:
    kept = (path.parent / "__pycache__").glob(f"{path.stem}.{sys.implementation.cache_tag}-pytest-*.pyc")
    return any(file.stat().st_mtime > path.stat().st_mtime for file in kept)


def _import_all(paths: list[Path]) -> NoReturn:
    with contextlib.suppress(BaseException):  # what cannot be imported, collecting will tell
        sys.path.insert(0, str(CHECKOUT))
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        for path in paths:
            with contextlib.suppress(Exception, pytest.skip.Exception):
                import_module(".".join(path.relative_to(CHECKOUT).with_suffix("").parts))
    os._exit(0)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI every test with a live kernel or a real peer has to run: one that skips itself fails the run."""
    if not os.environ.get("CI") or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [
        report.nodeid
        for report in reporter.stats.get("skipped", ())
        if report.nodeid.startswith(("tests/live/", "tests/peers/"))
    ]
    if skipped:
        reporter.write_line(f"live tests or tests with peers were skipped: {', '.join(skipped)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

"""What a scenario is, a story in scenes, and how one is played in a private network namespace.

A scenario is a generator function. What it does between two scenes happens on the real kernel; each
scene says in plain English what was done, what the kernel does about it and why, and what has to be seen
now. Whoever plays it (`tcpdoctor lab`, a live test) looks at every scene while the sockets are in it.

It is played by three processes: the *caller* (`tcpdoctor lab`), a *keeper* and a *player*. The keeper enters
the namespace, looks at every scene and ends everything; the player tells the story and is the only one that
holds its sockets. Whatever ends the caller ends the keeper, and the keeper, who adopts what its descendants
leave behind, ends the rest. Should the keeper be killed, the kernel kills the player and what it forked.
"""

import os
import signal
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple, NoReturn, TypeAlias

from tcpdoctor.lab.namespace import (
    NamespaceRefusedError,
    adopt_orphans,
    die_with,
    enter_private_namespace,
    forks_die_with_us,
    kill_descendants,
    refuse_settings_that_stay,
)
from tcpdoctor.lab.overheard import Follower, Listening, Pair, read_there
from tcpdoctor.lab.pairs import NeverCameError


class Step(NamedTuple):
    """Something was set up; nothing is wrong yet."""

    text: str
    show: tuple[str, ...] = ()
    """Commands of this program worth running now, without its name: ``sockets --state fin-wait-2``."""


class Broken(NamedTuple):
    """The disease is there: these rules fire."""

    text: str
    fires: Mapping[str, str]
    """Rule id to the least severity that it has to reach: ``info``, ``warning`` or ``critical``."""
    show: tuple[str, ...] = ()
    limits: Mapping[str, Mapping[str, float]] = {}
    """Limits of rules that are lowered for the look, so that nobody waits for minutes; said on the screen."""
    window: float = 1.0
    """Seconds between the samples of the look."""


class Cured(NamedTuple):
    """The fix was applied: the rules of the scenes before are clear."""

    text: str
    show: tuple[str, ...] = ()
    window: float = 1.0


class Between(NamedTuple):
    """A number of an answer that is only known to lie between two others, both included."""

    low: float
    high: float


class Asked(NamedTuple):
    """A question to this program whose answer has to be what the kernel did, or will do."""

    text: str
    question: str
    """The command without its name: ``explain --port 7001``; its answer is taken as JSON."""
    answer: Mapping[str, object]
    """Path in the JSON to the value there: ``{"bind.attempts.1.bind": "EADDRINUSE"}``; or a `Between`."""
    cured: bool = False
    """Whether the fix has been applied by now."""
    show: tuple[str, ...] = ()


Scene: TypeAlias = Step | Broken | Cured | Asked


class Scenario(NamedTuple):
    """One disease that can be made on one machine."""

    name: str
    """A slug; where the scenario is the proof of one rule, that rule's id."""
    title: str
    """What is wrong, in one line of at most 72 characters."""
    play: Callable[[], Iterator[Scene]]
    """Runs inside the namespace, with `lo` up; ends everything it began when it is closed."""
    proves: tuple[str, ...] | None = None
    """The rules that have to fire in it and to be clear at its end; None: the rule of its name."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that it proves; none where it proves an answer of `explain`."""
        return (self.name,) if self.proves is None else self.proves


PLAYER_NAME = "lab-program"
"""What `ss -p` and findings call the player: at most 15 characters."""
_LONGEST_PLAY = 120
"""Seconds that a scenario may take, from one message to the caller to the next."""
_LONGEST_END = 6.0
_GO = "go"

Look: TypeAlias = Callable[[Scene], object]
"""Looks at a scene from inside the namespace; what it returns has to be picklable."""


class Opened(NamedTuple):
    """The namespace is there, and the player in it."""

    player: int
    """Its pid."""
    keeper: int
    """Of the process that looks, from inside: the way in for nsenter(1)."""
    in_user_namespace: bool


class Reached(NamedTuple):
    """The story has come to a scene, which is looked at now."""

    scene: Scene
    pair: Pair | None = None
    """The connection that stands for what happened since the scene before, where that is listened to."""


class Looked(NamedTuple):
    """The scene was looked at; the story waits for `Stage.go`."""

    scene: Scene
    result: Any
    """What the look returned."""


class Ended(NamedTuple):
    """The story is over, or could not be told to its end."""

    problem: str | None
    """One line; None where all went well."""
    trace: str = ""
    """The traceback, for the author of the scenario."""


class Refused(NamedTuple):
    """This machine gives us no network namespace, no settings in it, or no process."""

    reason: str


Message: TypeAlias = Opened | Reached | Looked | Ended | Refused


class Stage:
    """A scenario that is being played. Use it in a `with` block: leaving it ends all processes."""

    def __init__(
        self, scenario: Scenario, look: Look, *, overhear: bool = False, leftover: str | None = None
    ) -> None:
        """Fork the keeper, which begins at once.

        Args:
            scenario: What is played.
            look: What is made of each scene.
            overhear: Whether the keeper listens to what passes between the ends of connections.
            leftover: A file that the keeper removes in the end, whatever ends it but SIGKILL.
        """
        self.connection, theirs = Pipe()
        """Selectable; there is a message when it is readable."""
        caller = os.getpid()
        self.pid = 0
        self._silence: Message = Ended("the process that kept the namespace was killed")
        try:
            keeper = os.fork()
        except BlockingIOError:
            self._silence = Refused("this user may have no further process (ulimit -u)")
        else:
            if keeper == 0:
                self.connection.close()
                _leftovers.extend([leftover] if leftover else [])
                _keep(theirs, caller, scenario, look, overhear=overhear)
            self.pid = keeper
        theirs.close()

    def __enter__(self) -> "Stage":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self.end()

    def receive(self) -> Message:
        """Wait for the next message. A keeper that was killed is an `Ended` with that problem."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, ConnectionError):
            return self._silence
        return message

    def go(self) -> None:
        """Let the story go on after a scene."""
        try:
            self.connection.send(_GO)
        except ConnectionError:
            return  # the keeper has ended; receive() tells

    def end(self) -> None:
        """End the story wherever it is, and wait until all its processes are gone."""
        if self.pid == 0:
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a second Ctrl-C has to wait
        try:
            os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + _LONGEST_END
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.005)
            self.pid = 0
            self.connection.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_leftovers: list[str] = []
"""Files that the keeper removes: only it knows them, a signal handler is told nothing."""


def _keep(caller: Connection, parent: int, scenario: Scenario, look: Look, *, overhear: bool) -> NoReturn:
    """The keeper's life; it never returns into the caller's code."""
    try:
        for number in _ENDING:
            signal.signal(number, _leave)
        signal.signal(signal.SIGALRM, _give_up)
        os.setsid()  # Ctrl-C is for the caller
        die_with(parent, signal.SIGTERM)
        adopt_orphans()
        forks_die_with_us()
        _be_quiet()
        message = _direct(caller, parent, scenario, look, overhear=overhear)
        signal.setitimer(signal.ITIMER_REAL, 0)
        caller.send(message)
    except ConnectionError:
        pass  # nobody is left to tell
    finally:
        _leave()


def _leave(*_: object) -> NoReturn:
    """End everything and ourselves. Nothing is raised: what is raised during a fork gets lost."""
    for number in (*_ENDING, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    try:
        for path in _leftovers:
            with suppress(FileNotFoundError):
                os.unlink(path)
        kill_descendants()
    finally:
        os._exit(0)


def _give_up(*_: object) -> NoReturn:
    raise NeverCameError(f"the scenario took longer than {_LONGEST_PLAY} s")


def _be_quiet() -> None:
    """Nothing here reads the caller's input or writes to its output."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _direct(caller: Connection, parent: int, scenario: Scenario, look: Look, *, overhear: bool) -> Message:
    """Let the story be played, look at every scene, and say how it ended."""
    try:
        try:
            in_user_namespace = enter_private_namespace()
            refuse_settings_that_stay()
        except NamespaceRefusedError as error:
            return Refused(str(error))
        die_with(parent, signal.SIGTERM)
        ears = _Ears() if overhear else None
        actor, theirs = Pipe()
        keeper = os.getpid()
        player = os.fork()
        if player == 0:
            if ears is not None:
                ears.close()
            _play(theirs, keeper, scenario)
        theirs.close()
        caller.send(Opened(player, keeper, in_user_namespace))
        while not isinstance(scene := _next(actor), Ended):
            caller.send(Reached(scene, ears.pair() if ears is not None else None))
            caller.send(Looked(scene, look(scene)))
            signal.setitimer(signal.ITIMER_REAL, 0)
            caller.recv()
            _go_on(actor)
    except Exception as error:  # the edge of this process: the caller tells it
        return _problem(error)
    return scene


class _Ears:
    """Listens to what passes between the ends, where this kernel and this user allow that."""

    def __init__(self) -> None:
        self._follower = Follower()
        self._listening: Listening | None
        try:
            self._listening = Listening()
        except OSError:  # no packet(7) in this kernel, or no CAP_NET_RAW: the story is told without it
            self._listening = None

    def close(self) -> None:
        if self._listening is not None:
            self._listening.close()

    def pair(self) -> Pair | None:
        """Return the connection that stands for what passed since the last time."""
        if self._listening is None:
            return None
        self._follower.hear(self._listening.take())
        return self._follower.scene(read_there())


def _go_on(actor: Connection) -> None:
    try:
        actor.send(_GO)
    except ConnectionError:
        return  # it was killed; the next message tells


def _next(actor: Connection) -> Scene | Ended:
    """Wait for the next scene, or the end."""
    signal.setitimer(signal.ITIMER_REAL, _LONGEST_PLAY, 1.0)
    try:
        scene: Scene | Ended = actor.recv()
    except (EOFError, ConnectionError):
        return Ended("the process that plays the scenario was killed")
    return scene


def _play(director: Connection, keeper: int, scenario: Scenario) -> NoReturn:
    """The player's life."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        die_with(keeper)
        with open("/proc/self/comm", "w", encoding="ascii") as comm:
            comm.write(PLAYER_NAME)
        story = scenario.play()
        try:
            for scene in story:
                director.send(scene)
                director.recv()
        finally:
            if isinstance(story, Generator):
                story.close()
        director.send(Ended(None))
    except Exception as error:  # the edge of this process: the caller tells it
        director.send(_problem(error))
    finally:
        os._exit(0)


def _problem(error: Exception) -> Ended:
    line = " ".join(str(error).split())
    what = line if isinstance(error, NeverCameError) else f"{type(error).__name__}: {line}"
    return Ended(what, traceback.format_exc())

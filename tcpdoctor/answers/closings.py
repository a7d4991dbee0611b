"""Who closed first at each local port, counted by a trace beside whatever else is looked at."""

from collections import Counter
from collections.abc import Mapping
from threading import Event, Thread

from tcpdoctor.answers.ended import EndedConnection
from tcpdoctor.answers.trace import Trace, TraceQuestion

_HERE = ("here", "reset_here")
_EITHER = (*_HERE, "peer", "reset_by_peer")
_SECONDS = 5.0
"""For the thread to notice that it is to end; it asks twenty times a second."""


class Closings:
    """A trace in a thread of its own, of the network namespace that the calling thread is in."""

    def __init__(self) -> None:
        """Begin to listen.

        Raises:
            QuestionError: The kernel does not even tell of sockets that end.
        """
        self._trace = Trace(TraceQuestion())
        self.why_not = "" if self._trace.sees_events else next(iter(self._trace.missing.values()), "")
        """Why it is not known who closed first; empty where it is."""
        self._here: Counter[int] = Counter()
        self._either: Counter[int] = Counter()
        self._over = Event()
        self._thread = Thread(target=self._count, daemon=True)
        self._thread.start()

    def shares(self) -> Mapping[int, float]:
        """Return by local port which share of the connections that ended was closed or reset here first."""
        return {port: self._here[port] / number for port, number in self._either.copy().items()}

    def close(self) -> None:
        """End it; what was counted is forgotten with it."""
        self._over.set()
        self._thread.join(_SECONDS)

    def _count(self) -> None:
        with self._trace:
            for item in self._trace.follow(self._over.is_set):
                if isinstance(item, EndedConnection) and item.closed_first in _EITHER:
                    port = int(item.local.rpartition(":")[2])
                    self._here[port] += item.closed_first in _HERE
                    self._either[port] += 1

"""How far the look under way is, for whoever waits for it, and whether they want it to end.

Listings, searches and waits of this floor note here what they are about; what runs beside them may read it.
Somebody who has waited long enough says so here too: what is under way then ends with what it has by then,
and whatever is incomplete for it is `Missing`, or says so.
"""

import time

from tcpdoctor.kernel.reading import Missing

INTERRUPTED = Missing("interrupted before all was read")


class Underway:
    """One look as it goes on; there is one at a time."""

    def __init__(self) -> None:
        self.task = ""
        """What is done at the moment, as in ``sockets read``; empty before anything is."""
        self.done = self.of = 0
        """How much of it is done, and of how much; 0 where that is not known."""
        self.whole = False
        """Whether every socket is listed, so that /proc/net/sockstat tells of how many."""
        self.began = 0.0
        """When that began, on time.monotonic()."""
        self.is_wanted_in_part = False
        """Whether somebody takes what is known when they interrupt; else an interrupt ends everything."""
        self.is_interrupted = False
        """Listings and searches end with what they have."""
        self.is_hurried = False
        """A wait was cut short."""
        self.is_asleep = False

    def begin(self, task: str, of: int = 0, *, whole: bool = False) -> None:
        """Note what is done from here on."""
        self.done = 0
        self.task, self.of, self.whole, self.began = task, of, whole, time.monotonic()

    def interrupt(self) -> None:
        """End what goes on: a wait, or listings and searches. Called where a signal is handled.

        Raises:
            KeyboardInterrupt: In a wait, which alone can be left so; and for who does not wait for the end.
        """
        if self.is_asleep or self.is_interrupted:
            raise KeyboardInterrupt
        self.is_interrupted = True

    def wait(self, seconds: float) -> None:
        """Sleep; an interrupt ends that early where an answer in part is wanted.

        Raises:
            KeyboardInterrupt: Where it is not.
        """
        self.is_asleep = True
        try:
            time.sleep(max(0.0, seconds))
        except KeyboardInterrupt:
            if not self.is_wanted_in_part:
                raise
            self.is_hurried = True
        finally:
            self.is_asleep = False


UNDERWAY = Underway()

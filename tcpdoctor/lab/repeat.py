"""Something that goes on while others look: bursts, floods, damaged packets."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def again_and_again(act: Callable[[], None], *, every: float) -> Iterator[None]:
    """Call `act` in a thread, `every` seconds after it ended, from now until the block is left.

    It has been called once when the block begins. What it raises ends the repetition, and is raised when
    the block is left.
    """
    over, problems = threading.Event(), list[BaseException]()

    def repeat() -> None:
        try:
            while not over.wait(every):
                act()
        except BaseException as problem:  # whatever it is: it is raised again in the caller's thread
            problems.append(problem)

    act()
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if problems:
        raise problems[0]

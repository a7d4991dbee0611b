"""`--netns`: the same question, asked from inside another network namespace.

Every command that reads the kernel takes the option `NETNS` and begins with `look_from(netns)`. ``all`` never
gets there: `tcpdoctor.cli.every_namespace` asks the command once for each namespace before it starts.
"""

from collections.abc import Sequence
from typing import Annotated

import typer

EVERY = "all"

NETNS = Annotated[
    str | None,
    typer.Option(
        "--netns",
        metavar="NAME|PID|all",
        help="Look from inside another network namespace, or from each.",
    ),
]


def look_from(netns: str | None) -> None:
    """Enter the network namespace that the user named; None: stay where we are.

    Raises:
        QuestionError: There is none of that name, or we may not enter it.
    """
    if netns is None:
        return
    from tcpdoctor.kernel.namespace_entry import enter_namespace, path_of

    enter_namespace(path_of(netns))


def wants_every(arguments: Sequence[str]) -> bool:
    """Whether a command line says ``--netns all``, and asks for more than help."""
    if "--help" in arguments or "-h" in arguments:
        return False
    following = [*arguments[1:], ""][: len(arguments)]
    return any(
        word == f"--netns={EVERY}" or (word == "--netns" and after == EVERY)
        for word, after in zip(arguments, following, strict=True)
    )


def for_one(arguments: Sequence[str], path: str) -> list[str]:
    """Return the command line with the path of one namespace in the place of ``all``."""
    words = []
    for word in arguments:
        if word == f"--netns={EVERY}":
            words.append(f"--netns={path}")
        elif word == EVERY and words and words[-1] == "--netns":
            words.append(path)
        else:
            words.append(word)
    return words


# The option `--window`: how long to look.


LONGEST_WINDOW = 3600.0
SHORTEST_WINDOW = 0.1
"""Seconds. Below it one event is a huge rate, above it nobody waits."""


def refuse_bad_window(window: float) -> None:
    """Refuse what is neither 0 nor a time between the two looks that makes sense.

    Raises:
        typer.BadParameter: With what may be given instead.
    """
    if window == 0 or SHORTEST_WINDOW <= window <= LONGEST_WINDOW:
        return
    what = f"{window:g} is too long" if window > LONGEST_WINDOW else f"{window:g} is no window"
    raise typer.BadParameter(
        f"{what}; give 0 for one sample, or {SHORTEST_WINDOW:g} to {LONGEST_WINDOW:g} seconds",
        param_hint="--window",
    )

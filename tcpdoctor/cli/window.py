"""The option `--window`: how long to look."""

import typer

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

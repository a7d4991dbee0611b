"""What a misspelt name may have meant."""

from collections.abc import Collection

_LONGEST = 100
"""Characters; longer than any name there is."""


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name most like `name`; None where none is near.

    A beginning counts as near as well, so that ``tcp_mem`` finds ``tcp_mem.max``.
    """
    if not 0 < len(name) <= _LONGEST:
        return None
    from difflib import get_close_matches  # only a mistake pays for it

    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return close[0]
    return next((candidate for candidate in known if candidate.startswith(name)), None)


def suggest(name: str, known: Collection[str]) -> str:
    """What to do about an unknown name: ``did you mean X?``, or which names there are."""
    close = nearest(name, known)
    if close is not None:
        return f"did you mean {close}?"
    return f"there are {', '.join(known)}" if known else "there are none"

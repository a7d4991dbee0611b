"""The units of the rule language: how large they are, and what dimensions are called."""

from collections.abc import Mapping

from tcpdoctor.facts.dimension import BYTE, COUNT, PAGE, PER_SECOND, RATIO, SECOND, Dimension

UNITS: Mapping[str, tuple[float, Dimension]] = {
    "second": (1.0, SECOND),
    "minute": (60.0, SECOND),
    "hour": (3600.0, SECOND),
    "day": (86400.0, SECOND),
    "KiB": (1024.0, BYTE),
    "MiB": (1024.0**2, BYTE),
    "GiB": (1024.0**3, BYTE),
    "percent": (0.01, RATIO),
    "per_second": (1.0, PER_SECOND),
}
"""What a name in an expression multiplies by: size in the base unit, dimension."""

LIMIT_UNITS: Mapping[str, tuple[float, Dimension]] = {
    "count": (1.0, COUNT),
    **UNITS,
    "byte": (1.0, BYTE),
    "page": (1.0, PAGE),
    "ratio": (1.0, RATIO),
}
"""What the ``unit`` of a limit may be."""

_BASES = (("number", "count"), ("byte", "bytes"), ("page", "pages"), ("second", "seconds"))
_NO_UNIT = "a pure number"


def in_base_unit(value: float, unit: str) -> float:
    """The value in seconds, bytes, pages, counts, or as a share: 80 percent is 0.8, 2 minutes are 120."""
    # a percentage is divided, because 57 * 0.01 is not 0.57
    return value / 100 if unit == "percent" else value * LIMIT_UNITS[unit][0]


def dimension_words(dimension: Dimension) -> str:
    """What a dimension is called in a complaint: ``seconds``, ``count per second``, ``a pure number``."""
    exponents = [(word, getattr(dimension, field)) for field, word in _BASES]
    above = [_power(word, exponent) for word, exponent in exponents if exponent > 0]
    below = [_power(word.removesuffix("s"), -exponent) for word, exponent in exponents if exponent < 0]
    if not above and not below:
        return _NO_UNIT
    words = " times ".join(above) or "1"
    return f"{words} per {' and '.join(below)}" if below else words


def _power(word: str, exponent: int) -> str:
    return word if exponent == 1 else f"{word} to the power of {exponent}"

"""What one reading of the kernel can be: a value, or the reason there is none."""

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

T = TypeVar("T")

JsonValue: TypeAlias = int | float | str | bool | list["JsonValue"] | dict[str, "JsonValue"] | None


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact that could not be read.

    Never zero and never healthy: a rule that needs it answers "unknown", and the
    report repeats `reason` so that the user can lift it (sudo, another kernel).
    It is no tuple, so that nothing can iterate over a reason by mistake.
    """

    reason: str
    """Completes the sentence "could not check ...: {reason}"."""


@dataclass(frozen=True, slots=True)
class Refused(Missing):
    """A fact that is there and that is kept from this process: by permission, or by what covers it."""


Reading: TypeAlias = T | Missing

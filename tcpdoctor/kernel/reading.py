"""What one reading of the kernel can be: a value, or the reason there is none."""

from typing import NoReturn, TypeAlias, TypeVar

T = TypeVar("T")

JsonValue: TypeAlias = int | float | str | bool | list["JsonValue"] | dict[str, "JsonValue"] | None


class Missing:
    """A fact that could not be read.

    Never zero and never healthy: a rule that needs it answers "unknown", and the
    report repeats `reason` so that the user can lift it (sudo, another kernel).
    It is no tuple, so that nothing can iterate over a reason by mistake; and no
    dataclass, because importing those takes longer than `tcpdoctor states` counts.
    """

    __slots__ = ("reason",)
    __match_args__ = ("reason",)

    reason: str
    """Completes the sentence "could not check ...: {reason}"."""

    def __init__(self, reason: str) -> None:
        object.__setattr__(self, "reason", reason)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot assign to {name!r}: a reading does not change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete {name!r}: a reading does not change")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Missing):
            return NotImplemented
        return type(other) is type(self) and other.reason == self.reason

    def __hash__(self) -> int:
        return hash((type(self), self.reason))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reason={self.reason!r})"

    def __reduce__(self) -> tuple[type["Missing"], tuple[str]]:
        return type(self), (self.reason,)


class Refused(Missing):
    """A fact that is there and that is kept from this process: by permission, or by what covers it."""

    __slots__ = ()


Reading: TypeAlias = T | Missing

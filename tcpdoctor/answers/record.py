"""What the records of all answers are made of: the types of their keys, and where and when was looked.

An answer is one typed record that is finished when it leaves this floor. `tcpdoctor.report.document` makes
its JSON and its JSON Schema from the types alone: a field is a key, `Reading` is null with its reason in the
nearest field ``missing``, and `Is` says what a type cannot.
"""

import time
from collections.abc import Mapping
from typing import Annotated, TypeAlias

from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.reading import NOT_RECORDED, Reading
from tcpdoctor.named_tuples import NamedTuple


class Is(NamedTuple):
    """What a type does not say of a key."""

    description: str | None = None
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    format: str | None = None
    optional: bool = False
    """The key is left out where its value is `ABSENT`."""
    keys: type | None = None
    """A record whose fields are keys that a mapping has beside others."""


class Absent:
    """The type of `ABSENT`: this answer has no such key at all."""

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "ABSENT"  # it is the same one in another process


ABSENT = Absent()

Count: TypeAlias = Annotated[int, Is(minimum=0)]
Pid: TypeAlias = Annotated[int, Is(minimum=1)]
PortNumber: TypeAlias = Annotated[int, Is(minimum=0, maximum=65535)]
Seconds: TypeAlias = Annotated[float, Is(minimum=0)]


class Moment(str):
    """A point in time as it is printed, in UTC; with its halves, for who says one of them."""

    day: str
    """``2026-11-20``."""
    clock: str
    """``12:00:00Z``."""


_IS_UTC = Is(
    "UTC, RFC 3339.",
    format="date-time",
    pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
)
Time: TypeAlias = Annotated[str, _IS_UTC]
TimeInHalves: TypeAlias = Annotated[Moment, _IS_UTC]
Reasons: TypeAlias = Annotated[Mapping[str, str], Is("Why something is null, by its place in this object.")]
"""The type of a field ``missing``: reasons are added to what it holds for every `Missing` beside it."""
NO_REASONS: Mapping[str, str] = {}


def told_number(number: int) -> Reading[int]:
    """Return a uid, inode or descriptor; below 0 it stands for one that a recording does not tell."""
    return NOT_RECORDED if number < 0 else number


class Host(NamedTuple):
    """Which host, kernel and network namespace was looked at."""

    name: Annotated[str, Is("As uname(2) has it.")]
    kernel: Annotated[str, Is("Release: 6.18.44.")]
    namespace: Annotated[str, Is("Inode number of the network namespace.", pattern="^[0-9]+$")]
    namespace_name: str | None


def host_of(who: Identity) -> Host:
    """Return where a look was taken, as every answer tells it."""
    return Host(who.host, who.kernel, str(who.namespace), who.namespace_name)


def utc(seconds: float) -> Moment:
    """Return seconds since 1970 as ``2026-11-20T12:00:00Z``."""
    at = time.gmtime(seconds)
    day, clock = time.strftime("%Y-%m-%d", at), time.strftime("%H:%M:%SZ", at)
    moment = Moment(f"{day}T{clock}")
    moment.day, moment.clock = day, clock
    return moment

import copy
import pickle
import typing

import pytest

from tcpdoctor import named_tuples


class Ours(named_tuples.NamedTuple):
    """A record."""

    port: int
    name: "str" = "eth0"
    weight: float = 2.0

    @property
    def double(self):
        return 2 * self.weight


class Theirs(typing.NamedTuple):
    """A record."""

    port: int
    name: "str" = "eth0"
    weight: float = 2.0

    @property
    def double(self):
        return 2 * self.weight


class NothingOfOurs(named_tuples.NamedTuple):
    pass


class NothingOfTheirs(typing.NamedTuple):
    pass


class BelowOurs(Ours):
    __slots__ = ()


def seen(make):
    """What it gives, or how it is refused."""
    try:
        made = make()
    except (TypeError, ValueError) as refused:
        return type(refused)
    return repr(made).replace("Theirs", "Ours"), tuple(made) if isinstance(made, tuple) else made


@pytest.mark.parametrize(
    "make",
    [
        lambda kind: kind(80),
        lambda kind: kind(80, "lo", 3.5),
        lambda kind: kind(weight=1.0, port=80),
        lambda kind: kind(),
        lambda kind: kind(1, 2, 3, 4),
        lambda kind: kind(80, speed=1),
        lambda kind: kind._make([80, "lo", 1.0]),
        lambda kind: kind._make([80]),
        lambda kind: kind(80)._replace(name="lo"),
        lambda kind: kind(80)._replace(speed=1),
        lambda kind: kind(80)._asdict(),
        lambda kind: kind(80).double,
        lambda kind: pickle.loads(pickle.dumps(kind(80))),  # noqa: S301 - of our own making
        lambda kind: copy.deepcopy(kind(80)),
        lambda kind: kind(80) == (80, "eth0", 2.0),
        lambda kind: hash(kind(80)),
        lambda kind: (kind._fields, kind._field_defaults, kind.__match_args__, kind.__bases__, kind.__doc__),
        lambda kind: typing.get_type_hints(kind),
        lambda kind: kind(80).__dict__ if hasattr(kind(80), "__dict__") else None,
    ],
)
def test_a_record_is_what_typing_makes(make):
    assert seen(lambda: make(Ours)) == seen(lambda: make(Theirs))


def test_a_record_of_nothing_is_what_typing_makes():
    assert NothingOfOurs() == NothingOfTheirs() == ()
    assert seen(lambda: NothingOfOurs(1)) is seen(lambda: NothingOfTheirs(1)) is TypeError


def test_a_class_below_a_record_is_made_before_and_after_the_record_itself():
    assert type(BelowOurs(80)) is BelowOurs
    assert type(Ours(80)) is Ours
    assert BelowOurs(81).name == "eth0"


def test_fields_without_a_default_come_first():
    def make(kind):
        return type("Wrong", (kind,), {"__annotations__": {"a": int, "b": int}, "a": 1})

    with pytest.raises(TypeError):
        make(typing.NamedTuple)
    with pytest.raises(TypeError):
        make(named_tuples.NamedTuple)

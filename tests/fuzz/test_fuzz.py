"""The fixed part of the fuzzing: what once broke something, and the first inputs of each target."""

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS
from tests.pace import is_done_within

CORPUS = Path(__file__).parent / "corpus"
FIRST = int(os.environ.get("TCPDOCTOR_FUZZ_INPUTS", "997"))
"""Inputs of each target here; .ci/run gives 20,000, `make fuzz` a million."""
SLOWEST = 2.0
"""Seconds that no input of at most 64 KiB may take."""


def try_one(name: str, data: bytes) -> str | None:
    """Parse once; return what is wrong with how it went."""
    target = TARGETS[name]
    begun = time.thread_time()
    try:
        target.parse(data)
    except target.errors as error:
        if "\n" in str(error) or len(str(error)) > 2_000:
            return f"a complaint of {len(str(error))} characters: {str(error)[:200]!r}"
    except Exception as error:  # whatever it is, it is not documented
        return f"{type(error).__name__}: {error}"
    taken = time.thread_time() - begun
    if taken < SLOWEST or is_done_within(SLOWEST, partial(_parse, name, data)):
        return None
    return f"it took {taken:.1f} s of CPU time"


def _parse(name: str, data: bytes) -> None:
    with suppress(TARGETS[name].errors):
        TARGETS[name].parse(data)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_understood(name):
    for seed in TARGETS[name].seeds:
        TARGETS[name].parse(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_the_documented_errors_comes_out(name):
    wrong = [
        (problem, data)
        for data in inputs(TARGETS[name].seeds, FIRST)
        if (problem := try_one(name, data)) is not None
    ]
    assert wrong[:3] == []


CROWDS = (
    b" ",
    b"\n",
    b"=",
    b".",
    b"/",
    b"*",
    b"-",
    b"[",
    b'"',
    b"\\",
    b"#",
    b"0 ",
    b"a:",
    b"a,",
    b"1-",
    b"user-1.slice/",
)
"""What expressions that try every way to part it take the square of its length for."""


@pytest.mark.parametrize("name", TARGETS)
def test_crowds_of_one_character_take_no_longer_than_others(name):
    seed = TARGETS[name].seeds[0]
    for crowd in (word * (30_000 // len(word)) for word in CROWDS):
        for data in (crowd, seed[:20] + crowd + seed[20:]):
            assert try_one(name, data) is None, data[:20]


@pytest.mark.parametrize(
    "path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_what_once_broke_something_does_so_no_more(path):
    assert try_one(path.parent.name.replace("-", " "), path.read_bytes()) is None

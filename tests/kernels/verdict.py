"""What a machine printed: which tests passed there, which failed, and whether that is good.

A machine may be ended before its tests are; what it had said by then still counts.
"""

import re

from tests.kernels.machines import Outcome

MATRICES_PASSED = "=== the matrices passed"
ONCE_MORE = "=== once more, alone, what failed"
_MAY_BE_SKIPPED = re.compile(
    r"this kernel lacks |.*not installed|no (?:module|command|program) |needs the program"
)
_WORDS = "PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS"
_ENDED = re.compile(rf"^(?:\[gw\d+\] \[ *\d+%\] ({_WORDS}) )?(tests/\S+?::.+?)(?: ({_WORDS})\b.*)?$", re.M)
"""A line of `pytest -v`, with xdist or without."""


def last_words(output: str) -> dict[str, str]:
    """How each test ended last, by its name: one that failed beside others was asked once more."""
    found = (match.groups() for match in _ENDED.finditer(output))
    return {name.strip(): first or last for first, name, last in found if first or last}


def counted(output: str, *words: str) -> int:
    """How many tests ended so."""
    return sum(word in words for word in last_words(output).values())


def failures(outcome: Outcome) -> list[str]:
    """The tests whose last word was that they failed."""
    return [name for name, word in last_words(outcome.output).items() if word in {"FAILED", "ERROR"}]


def bad_skips(outcome: Outcome) -> list[str]:
    """The lines of pytest's summary that skip a test for a reason of ours and not of the kernel's."""
    lines = re.findall(r"^SKIPPED \[\d+\] \S+ (.*)$", outcome.output, re.MULTILINE)
    return [line for line in lines if not _MAY_BE_SKIPPED.match(line)]


def is_good(outcome: Outcome, *, where_possible: bool = False) -> bool:
    """Whether its command ended well, and nothing was skipped for another reason than allowed.

    Where it was ended: whether the matrices passed, and every other test that was run by then. A slow
    machine is no fault of the program: with `where_possible`, a machine that did not even come to the end
    of its matrices is good, too, unless a test failed there.
    """
    if outcome.code is not None:
        return outcome.code == 0 and not bad_skips(outcome)
    if failures(outcome) or bad_skips(outcome):
        return False
    return where_possible or MATRICES_PASSED in outcome.output


def report(outcome: Outcome, *, whole: bool, good: bool) -> str:
    """What one kernel gave: all that it printed where something is wrong, else what counts."""
    ended = f"exit {outcome.code}"
    if outcome.code is None:
        ended = (
            "ended before its last test" if MATRICES_PASSED in outcome.output else "the matrices did not end"
        )
    passed, skipped = counted(outcome.output, "PASSED"), counted(outcome.output, "SKIPPED")
    ran = f"{passed} tests passed, {skipped} skipped"
    lines = [f"=== Linux {outcome.kernel}: {ended}, {outcome.seconds:.0f} s, {ran}"]
    if whole or not good:
        lines.append(outcome.output)
        lines += [f"skipped for no reason of the kernel's: {line}" for line in bad_skips(outcome)]
        lines += [f"failed: {name}" for name in failures(outcome)]
    else:
        lines += re.findall(r"^SKIPPED .*$|^.*\d+ passed.*$|^CASES .*$", outcome.output, re.MULTILINE)
    return "\n".join(lines) + "\n"

"""A TOML table read key by key, with complaints that name file, key and remedy."""

import math
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar, cast

from tcpdoctor.errors import RuleError, TcpdoctorError
from tcpdoctor.kernel.text import beginning_of

_Word = TypeVar("_Word", bound=str)

# What a misspelt name may have meant.


_LONGEST = 100
"""Characters; longer than any name there is."""
_MOST_LISTED = 40
"""Names that a complaint lists; of more it says how many there are."""


_LONG_ENOUGH = 8
"""Letters of a name; of a shorter one, half of the letters are soon those of a name that is quite another."""


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name most like `name`; None where none is near.

    A beginning counts as near as well, so that ``tcp_mem`` finds ``tcp_mem.max``.
    """
    if not 0 < len(name) <= _LONGEST:
        return None
    from difflib import get_close_matches  # only a mistake pays for it

    close = get_close_matches(name, known, n=1, cutoff=0.6 if len(name) >= _LONG_ENOUGH else 0.75)
    if close:
        return close[0]
    return next((candidate for candidate in known if candidate.startswith(name)), None)


def suggest(name: str, known: Collection[str]) -> str:
    """What to do about an unknown name: ``did you mean X?``, or which names there are."""
    close = nearest(name, known)
    if close is not None:
        return f"did you mean {close}?"
    if len(known) > _MOST_LISTED:
        return f"there are {len(known)}, such as {', '.join(list(known)[:3])}"
    return f"there are {', '.join(known)}" if known else "there are none"


MAX_TEXT = 64 * 1024
"""Characters of a rule or configuration file."""
MAX_NUMBER = 1e18
MAX_SHOWN = 120
"""Characters of a key or an expression that a complaint repeats."""


def shown(text: str) -> str:
    """Return a text as a complaint repeats it: on one line, and not all of a long one."""
    line = text if text.isprintable() else ascii(text)[1:-1]
    return beginning_of(line, MAX_SHOWN)


def parse_toml(text: str, source: str, error: type[TcpdoctorError]) -> Mapping[str, object]:
    """Parse a file's text.

    Raises:
        TcpdoctorError: Of the given type: it is too long or no TOML.
    """
    # Imported here: it takes 13 ms, and a command that reads no rules does not pay for it.
    if sys.version_info >= (3, 11):  # pragma: no cover - a Python has one of the two
        import tomllib
    else:  # pragma: no cover
        import tomli as tomllib

    if len(text) > MAX_TEXT:
        raise error(f"{source}: {len(text)} characters; a file has at most {MAX_TEXT}, split it")
    try:
        parsed: Mapping[str, object] = tomllib.loads(text)
    except (ValueError, RecursionError, OverflowError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise error(f"{source}: not TOML: {reason!r}; correct it there") from None
    return parsed


def empty_texts(value: object, key: str = "") -> Iterator[str]:
    """The keys below a parsed value, named as complaints name them, whose text is still empty."""
    if isinstance(value, str):
        if not value.strip():
            yield key
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from empty_texts(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from empty_texts(item, f"{key}[{number}]" if isinstance(item, dict) else key)


def printable(text: str) -> bool:
    """Whether a text holds nothing but printable characters, line ends and tabs."""
    return text.replace("\n", "").replace("\t", "").isprintable()


class Table:
    """One table of a file. Reading a key that has the wrong type raises the file's error."""

    def __init__(
        self,
        values: Mapping[str, object],
        source: str,
        path: str,
        known: Collection[str],
        error: type[TcpdoctorError],
    ) -> None:
        """Take over a parsed table.

        Args:
            values: What TOML made of it.
            source: The file, for complaints.
            path: Its own key with a final dot (``prose.``), or nothing.
            known: The keys that it may have.
            error: What to raise.

        Raises:
            TcpdoctorError: Of that type: it has a key that is not known.
        """
        self.values = values
        self.source = source
        self.path = path
        self.error = error
        for key in values:
            if key not in known:
                raise self.complaint(key, f"there is no such key; {suggest(key, known)}")

    def complaint(self, key: str, what: str) -> TcpdoctorError:
        """The error to raise about a key. `what` says what is wrong and, after a semicolon, what to do."""
        error = self.error(f"{self.where(key)}: {what}")
        if isinstance(error, RuleError):
            error.key = f"{self.path}{key}"
        return error

    def where(self, key: str) -> str:
        """File and key, for a complaint that somebody else makes."""
        return f"{self.source}: {shown(f'{self.path}{key}')}"

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self.values

    def text(self, key: str) -> str:
        """A text that has to be there, and may not be empty."""
        value = self.required(key)
        if not isinstance(value, str):
            raise self.complaint(key, 'is no text; write it as "..."')
        if not value.strip():
            raise self.complaint(key, "is empty; write a text")
        if not printable(value):
            raise self.complaint(key, "holds a character that cannot be printed; take it out")
        return value

    def line(self, key: str) -> str:
        """A text of one line."""
        value = self.text(key)
        if "\n" in value:
            raise self.complaint(key, "has more than one line; shorten it")
        return value

    def choice(self, key: str, options: Sequence[_Word]) -> _Word:
        """One of a few words."""
        value = self.required(key)
        if not isinstance(value, str) or value not in options:
            hint = suggest(value, options) if isinstance(value, str) else f"there are {', '.join(options)}"
            raise self.complaint(key, f"{_shortened(value)} is not possible; {hint}")
        return options[options.index(value)]

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts that has to be there; it may be empty."""
        value = self.required(key)
        if not isinstance(value, list) or not all(
            isinstance(item, str) and item.strip() and printable(item) for item in value
        ):
            raise self.complaint(key, 'is no list of printable texts; write it as ["..."]')
        return tuple(value)

    def number(self, key: str) -> float:
        """A finite number that is not negative."""
        return self.checked_number(key, self.required(key))

    def signed_number(self, key: str) -> float:
        """The same, negative ones as well: the kernel takes them for some settings."""
        value = self.required(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and -MAX_NUMBER <= value < 0:
            return value
        return self.checked_number(key, value)

    def checked_number(self, key: str, value: object) -> float:
        """The same for a value that was found under the key."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.complaint(key, f"{_shortened(value)} is no number; write one")
        if not (isinstance(value, int) or math.isfinite(value)) or not 0 <= value <= MAX_NUMBER:
            raise self.complaint(
                key, f"{_shortened(value)} is out of bounds; write a number from 0 to {MAX_NUMBER:g}"
            )
        return value

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.required(key)
        if not isinstance(value, bool):
            raise self.complaint(key, f"{_shortened(value)} is neither true nor false; write one of them")
        return value

    def table(self, key: str, known: Collection[str]) -> "Table":
        """A table below this one; empty where it is absent."""
        value = self.values.get(key, {})
        return Table(self._mapping(key, value), self.source, f"{self.path}{key}.", known, self.error)

    def open_table(self, key: str) -> "Table":
        """A table whose keys are names that the author chooses; empty where it is absent."""
        value = self._mapping(key, self.values.get(key, {}))
        return Table(value, self.source, f"{self.path}{key}.", value, self.error)

    def tables(self, key: str, known: Collection[str]) -> list["Table"]:
        """The tables of ``[[key]]``; empty where there are none. Complaints number them from 1."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self.complaint(key, f"is no list of tables; write [[{key}]]")
        return [
            Table(self._mapping(key, item), self.source, f"{self.path}{key}[{number}].", known, self.error)
            for number, item in enumerate(value, 1)
        ]

    def _mapping(self, key: str, value: object) -> Mapping[str, object]:
        if not isinstance(value, dict):
            raise self.complaint(key, "is no table; write its keys below a [heading] or in { }")
        return cast("Mapping[str, object]", value)

    def required(self, key: str) -> object:
        """Whatever the key holds; it has to be there."""
        if key not in self.values:
            raise self.complaint(key, "is missing; add it")
        return self.values[key]


def _shortened(value: object) -> str:
    # an integer of thousands of digits has no repr, and nobody would read it
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        return "a number with too many digits"
    text = repr(value) if isinstance(value, int | float | str | bool) else f"a {type(value).__name__}"
    return beginning_of(text, 60)

"""The data files beside this module, wherever the package lies: a folder, a wheel, a zip archive."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import Any

from tcpdoctor.errors import QuestionError

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable
else:
    from importlib.abc import Traversable

_ROOM = "tcpdoctor.knowledge"


def read_text(name: str) -> str:
    """Return the text of one data file, by its path below tcpdoctor/knowledge."""
    return _locate(name).read_text(encoding="utf-8")


def list_names(folder: str, ending: str = ".toml") -> tuple[str, ...]:
    """Return the names of the files of one kind in a folder of data, sorted."""
    return tuple(sorted(item.name for item in _locate(folder).iterdir() if item.name.endswith(ending)))


def parse_toml(text: str) -> Mapping[str, Any]:
    """Parse a data file; they are our own, so a mistake in one is a fault of this program."""
    if sys.version_info >= (3, 11):  # costs 3 ms: only where data is read
        import tomllib
    else:
        import tomli as tomllib

    parsed: Mapping[str, Any] = tomllib.loads(text)
    return parsed


def _locate(name: str) -> Traversable:
    place: Traversable = files(_ROOM)
    for part in name.split("/"):
        place = place / part
    return place


# Names as people type them: FIN_WAIT_2, fin-wait-2 and FINWAIT2 are the same.


def bare(name: str) -> str:
    """Return what all spellings of a name have in common: its letters and digits, in lower case."""
    return re.sub("[^a-z0-9]+", "", name.lower())


def find_name(
    asked: str,
    spellings: Mapping[str, str],
    what: str,
    suggested: Callable[[], Mapping[str, str]] | None = None,
) -> str:
    """Return the name that `asked` spells.

    Args:
        asked: As the user typed it.
        spellings: The name by each of its spellings, in `bare` form.
        what: What kind of thing it is, for the complaint: ``state``.
        suggested: Those of the spellings that a mistake may have meant, where these are not all.

    Raises:
        QuestionError: There is none; with the nearest that there is, or all where they are few.
    """
    found = spellings.get(bare(asked))
    if found is not None:
        return found
    meant = spellings if suggested is None else suggested()
    raise QuestionError(f"no {what} is called {asked.strip()[:60]!r}; {suggest(asked, meant)}")


_MOST_BEGUN = 3


def suggest(asked: str, spellings: Mapping[str, str]) -> str:
    """What to try instead of a name that there is not."""
    from difflib import get_close_matches  # only a mistake pays for it

    begun = _distinct(name for key, name in spellings.items() if bare(asked) and key.startswith(bare(asked)))
    if 0 < len(begun) <= _MOST_BEGUN:
        return f"did you mean {' or '.join(begun)}?"
    near = get_close_matches(bare(asked), spellings, n=1, cutoff=0.7 if len(asked) > 4 else 0.82)
    if near:
        return f"did you mean {spellings[near[0]]}?"
    names = _distinct(spellings.values())
    if len(names) <= 20:
        return f"there are {', '.join(names)}"
    return f"for example {names[0]}"


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))

"""Names as people type them: FIN_WAIT_2, fin-wait-2 and FINWAIT2 are the same."""

from collections.abc import Iterable, Mapping

from tcpdoctor.errors import QuestionError


def bare(name: str) -> str:
    """Return what all spellings of a name have in common: its letters and digits, in lower case."""
    return "".join(char for char in name.lower() if char.isascii() and char.isalnum())


def find_name(asked: str, spellings: Mapping[str, str], what: str) -> str:
    """Return the name that `asked` spells.

    Args:
        asked: As the user typed it.
        spellings: The name by each of its spellings, in `bare` form.
        what: What kind of thing it is, for the complaint: ``state``.

    Raises:
        QuestionError: There is none; with the nearest that there is, or all where they are few.
    """
    found = spellings.get(bare(asked))
    if found is not None:
        return found
    raise QuestionError(f"no {what} is called {asked.strip()[:60]!r}; {suggest(asked, spellings)}")


def suggest(asked: str, spellings: Mapping[str, str]) -> str:
    """What to try instead of a name that there is not."""
    from difflib import get_close_matches  # only a mistake pays for it

    near = get_close_matches(bare(asked), spellings, n=1, cutoff=0.65)
    if near:
        return f"did you mean {spellings[near[0]]}?"
    names = _distinct(spellings.values())
    if len(names) <= 20:
        return f"there are {', '.join(names)}"
    return f"for example {names[0]}"


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))

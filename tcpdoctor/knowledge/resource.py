"""The data files beside this module, wherever the package lies: a folder, a wheel, a zip archive.

The TOML files are the truth. The build (tcpdoctor.cli.prepare) writes what parsing them gives beside the
compiled rules, each with the SHA-256 of its file; in a checkout a file that has changed since is parsed.
"""

import _pickle  # its Python part, pickle, would cost two milliseconds
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import tcpdoctor
from tcpdoctor.errors import QuestionError

if TYPE_CHECKING:  # what is compiled is read without it
    from pathlib import Path

_PACKAGE = os.path.dirname(tcpdoctor.__file__)
_ROOM = os.path.join(_PACKAGE, "knowledge")
_COMPILED = os.path.join(_PACKAGE, "compiled.bin")


class CompiledTable(NamedTuple):
    """One data file as it was parsed."""

    look: tuple[int, int] | None
    """Size and time of the file where it was written; None in what is shipped, which belongs together."""
    digest: str
    packed: bytes


def read_text(name: str) -> str:
    """Return the text of one data file, by its path below tcpdoctor/knowledge."""
    return _bytes_of(os.path.join(_ROOM, *name.split("/"))).decode()


@functools.cache
def read_table(name: str) -> Mapping[str, Any]:
    """Return what one data file says, by its path below tcpdoctor/knowledge."""
    compiled = _compiled_tables().get(name)
    if compiled is not None and _is_about(compiled, os.path.join(_ROOM, *name.split("/"))):
        table: Mapping[str, Any] = _pickle.loads(compiled.packed)
        return table
    return parse_toml(read_text(name))


def list_names(folder: str) -> tuple[str, ...]:
    """Return the names of the data files in a folder, sorted."""
    path = os.path.join(_ROOM, folder)
    if os.path.isdir(path):
        return tuple(sorted(name for name in os.listdir(path) if name.endswith(".toml")))
    inside = f"{folder}/"
    names = tuple(name[len(inside) :] for name in _compiled_tables() if name.startswith(inside))
    return names or _list_zipped(folder)


def _list_zipped(folder: str) -> tuple[str, ...]:
    from importlib.resources import files  # 8 ms, and only a zip file without compiled pages needs it

    found = (files("tcpdoctor.knowledge") / folder).iterdir()
    return tuple(sorted(item.name for item in found if item.name.endswith(".toml")))


def compile_tables(room: "Path", *, here: bool) -> bytes:
    """Parse every data file and return what `read_table` reads.

    Args:
        room: The folder of this package.
        here: Whether it is for this very folder, so that times of files mean something.
    """
    paths = sorted(room.rglob("*.toml"))
    tables = {path.relative_to(room).as_posix(): tuple(_compile_table(path, here=here)) for path in paths}
    return _pickle.dumps(_pickle.dumps(tables, 5), 5)  # who wants what follows passes over them at once


def _compile_table(path: "Path", *, here: bool) -> CompiledTable:
    status = path.stat()
    data = path.read_bytes()
    look = (status.st_size, status.st_mtime_ns) if here else None
    return CompiledTable(look, _digest(data), _pickle.dumps(parse_toml(data.decode()), 5))


@functools.cache
def _compiled_tables() -> Mapping[str, CompiledTable]:
    """By the path of the file; empty where nothing was compiled, or by another version of this program."""
    try:
        if os.path.exists(_COMPILED):
            with open(_COMPILED, "rb") as file:  # what follows is large
                return _second_of(file)
        return _second_of(BytesIO(_bytes_of(_COMPILED)))
    except (OSError, AttributeError, TypeError, ValueError, LookupError, EOFError, _pickle.PickleError):
        return {}


def _second_of(file: Any) -> Mapping[str, CompiledTable]:
    _pickle.load(file)  # texts (tcpdoctor.prepared); all of it is as much ours as the code
    return {name: CompiledTable(*table) for name, table in _pickle.loads(_pickle.load(file)).items()}


def _is_about(compiled: CompiledTable, path: str) -> bool:
    if compiled.look is None:
        return True
    status = os.stat(path)
    if compiled.look == (status.st_size, status.st_mtime_ns):
        return True
    return compiled.digest == _digest(_bytes_of(path))


def _digest(data: bytes) -> str:
    from hashlib import sha256  # only where a file of a checkout was touched

    return sha256(data).hexdigest()


def _bytes_of(path: str) -> bytes:
    data: bytes = tcpdoctor.__loader__.get_data(path)  # type: ignore[union-attr]  # of a folder or a zip
    return data


def parse_toml(text: str) -> Mapping[str, Any]:
    """Parse a data file; they are our own, so a mistake in one is a fault of this program."""
    if sys.version_info >= (3, 11):  # with parsing, 10 ms and more
        import tomllib
    else:
        import tomli as tomllib

    parsed: Mapping[str, Any] = tomllib.loads(text)
    return parsed


class Mistake(NamedTuple):
    """What something is often taken for, and what it is."""

    claim: str
    truth: str


_Page = TypeVar("_Page", bound=tuple[Any, ...])


def filled(kind: type[_Page], table: Mapping[str, Any], **known: Any) -> _Page:
    """Return a record of the keys of a data file, its lists as tuples, and of what is `known` beside it."""
    fields: tuple[str, ...] = vars(kind)["_fields"]
    told = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    told = {key: told[key] for key in fields if key in told}
    if "mistaken" in told:
        told["mistaken"] = tuple(Mistake(**item) for item in told["mistaken"])
    return kind(**{**told, **known})


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

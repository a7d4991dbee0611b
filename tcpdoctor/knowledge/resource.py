"""The data files beside this module, wherever the package lies: a folder, a wheel, a zip archive."""

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

_ROOM = "tcpdoctor.knowledge"


def read_text(name: str) -> str:
    """Return the text of one data file, by its path below tcpdoctor/knowledge."""
    return _locate(name).read_text(encoding="utf-8")


def list_names(folder: str, ending: str = ".toml") -> tuple[str, ...]:
    """Return the names of the files of one kind in a folder of data, sorted."""
    return tuple(sorted(item.name for item in _locate(folder).iterdir() if item.name.endswith(ending)))


def parse_toml(text: str) -> Mapping[str, Any]:
    """Parse a data file; they are our own, so a mistake in one is a fault of this program."""
    import tomllib  # costs 3 ms: only where data is read

    return tomllib.loads(text)


def _locate(name: str) -> Traversable:
    place: Traversable = files(_ROOM)
    for part in name.split("/"):
        place = place / part
    return place

"""The files of a sosreport that set the host's settings at boot, as their readers find them on the host."""

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sysctl_files import (
    FOLDERS,
    LARGEST,
    LAST_OF_PROCPS,
    MOST_LINES,
    Dangling,
    SettingsFile,
    Skipped,
    Tree,
)
from tcpdoctor.recordings.archive import Files

_MASK = "dev/null"
_NONE = Missing("they are not in the recording")


def settings_tree(files: Files) -> Reading[Tree]:
    """Return what `tcpdoctor.kernel.sysctl_files.read_tree` finds on the host; Missing where there is none.

    Paths are those of the host. What lies in /run is in no report.
    """
    found: dict[str, list[str]] = {}
    skipped: list[Skipped] = []
    for folder in _folders(files):
        for name in _names(files, folder):
            if name.endswith(".conf"):
                found.setdefault(name, []).append(f"{folder}/{name}")
            else:
                skipped.append(Skipped(f"/{folder}/{name}", name))
    last = _file(files, [LAST_OF_PROCPS], "sysctl.conf")
    is_there = not isinstance(last.content, Missing)
    if not found and not is_there:
        return _NONE
    ordered = sorted(found, key=lambda name: name.encode("utf-8", "surrogateescape"))
    return Tree(
        tuple(_file(files, found[name], name) for name in ordered),
        last if is_there else None,
        tuple(skipped),
        (),
    )


def _folders(files: Files) -> list[str]:
    """The folders that are there; one that is another under a second name is left out."""
    folders: dict[str, str] = {}
    for folder in FOLDERS:
        try:
            folders.setdefault(files.place(folder), folder)
        except SnapshotError:
            continue
    return list(folders.values())


def _names(files: Files, folder: str) -> list[str]:
    inside = files.place(folder)
    names = (path.removeprefix(f"{inside}/") for path in files.below(inside))
    return [name for name in names if "/" not in name]


def _file(files: Files, paths: list[str], name: str) -> SettingsFile:
    mask = files.links.get(paths[0]) == _MASK
    content = b"" if mask else _content(files, paths[0])
    return SettingsFile(f"/{paths[0]}", name, content, mask, tuple(f"/{path}" for path in paths[1:]))


def _content(files: Files, path: str) -> Reading[bytes]:
    try:
        kept = files.find(path)
    except SnapshotError:
        return Missing("it is a link that leads out of the report")
    if kept is None:
        return Dangling() if path in files.links else Missing("no such file")
    if len(kept.data) > LARGEST or kept.data.count(b"\n") > MOST_LINES:
        return Missing("it is longer than any file of settings")
    return kept.data

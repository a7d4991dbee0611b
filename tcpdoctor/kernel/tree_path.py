"""Where a path leads below a root, links included, as a program in a chroot there would see it."""

import os

_MOST_LINKS = 40
"""As the kernel's own limit, MAXSYMLINKS in include/linux/namei.h."""


def resolve(path: str, root: str = "/") -> str:
    """Return the place that `path` leads to, never outside `root`; as far as it goes where it ends nowhere.

    Args:
        path: Begins with `root`.
        root: Absolute links start here again, and ``..`` does not lead out of it.
    """
    if root in ("", "/"):
        return os.path.realpath(path)
    top = os.path.realpath(root)
    rest = [part for part in os.path.relpath(path, root).split("/") if part not in ("", ".")]
    here: list[str] = []
    links = 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            here = here[:-1]
            continue
        place = os.path.join(top, *here, part)
        if not os.path.islink(place) or links >= _MOST_LINKS:
            here.append(part)
            continue
        links += 1
        target = os.readlink(place)
        if target.startswith("/"):
            here = []
        rest = [name for name in target.split("/") if name not in ("", ".")] + rest
    return os.path.join(top, *here)

"""A root of its own with files of settings, in private namespaces, for the programs that read them.

Everything lies on a tmpfs in a mount namespace and acts on the settings of a network namespace; both end with
the process.
"""

import ctypes
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tcpdoctor.answers.settings_files import apply_files
from tcpdoctor.kernel.sysctl_files import Reader, read_tree

ROOT = "/tmp"  # noqa: S108 - in the mount namespace a tmpfs covers it, so nothing of it is on the machine
_NEWNS, _BIND, _REC, _PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000

Files = Mapping[str, bytes | str]
"""By path below the root: what a file holds, or (text) where a link leads."""


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount, as mount(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind and kind.encode(), flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {source} at {target}: {os.strerror(ctypes.get_errno())}")


def make_root(files: Files) -> str:
    """Leave the machine's mounts alone from here on, and return a root with these files of settings.

    Its /usr and /proc are those of the machine; /etc, /run, /usr/local and /usr/lib/sysctl.d hold nothing
    else.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount("none", "/", None, _REC | _PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", 0)
    for folder in ("usr", "proc", "etc", "run", "dev"):
        os.mkdir(f"{ROOT}/{folder}")
    mount("/usr", f"{ROOT}/usr", None, _BIND | _REC)
    mount("/proc", f"{ROOT}/proc", None, _BIND | _REC)
    mount("/dev", f"{ROOT}/dev", None, _BIND | _REC)
    for covered in ("usr/local", "usr/lib/sysctl.d"):
        mount("tmpfs", f"{ROOT}/{covered}", "tmpfs", 0)
    for link in ("lib", "lib64", "bin", "sbin"):
        if os.path.islink(f"/{link}"):
            os.symlink(os.readlink(f"/{link}"), f"{ROOT}/{link}")
    for path, content in files.items():
        place = Path(ROOT, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            place.symlink_to(content)
        else:
            place.write_bytes(content)
    return ROOT


def cover(folder: str, files: Mapping[str, bytes], options: str = "") -> None:
    """Let a folder hold these files and nothing else, for this process and its children only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount("none", "/", None, _REC | _PRIVATE)
    mount("tmpfs", folder, "tmpfs", 0, options)
    for name, content in files.items():
        Path(folder, name).write_bytes(content)


def run_reader(root: str, *command: str) -> None:
    """Run a reader of settings with `root` as its root; its complaints do not matter."""
    subprocess.run(
        command,
        preexec_fn=lambda: os.chroot(root),
        cwd="/",
        capture_output=True,
        timeout=30,
        check=False,
    )


def held(paths: list[str]) -> dict[str, str | None]:
    """What settings of this network namespace hold, by place below /proc/sys; None for an absent one."""
    found: dict[str, str | None] = {}
    for path in paths:
        try:
            found[path] = " ".join(Path("/proc/sys", path).read_text(encoding="utf-8").split())
        except OSError:
            found[path] = None
    return found


def predicted(root: str, reader: str) -> dict[str, str]:
    """What we say that a reader leaves, by place below /proc/sys."""
    tree = read_tree(root)
    which = {"systemd": Reader.SYSTEMD, "procps": Reader.PROCPS}[reader]
    applied = apply_files({which: tree.of(which)})
    return {path: write.value for path, write in applied.last[which].items()}

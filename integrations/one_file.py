"""Builds tcpdoctor as one file for hosts where nothing may be installed.

    python integrations/one_file.py [--every-python] [--wheel=FILE] dist/tcpdoctor.pyz

The file needs Python 3.10 or later (an older one is told so in one line) and no writable disk. It holds
compiled code of the Python that built it, which starts five times as fast; with --every-python of every other
supported one as well that is on this machine. What was not there falls back to the sources. With --wheel the
program is that of a wheel, which need not be built again.
"""

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import zipapp
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

START = """\
try:
    import os, sys

    if sys.version_info >= (3, 10):
        import zipimport

        tag = "." + sys.implementation.cache_tag + ".pyc"
        plain = getattr(zipimport, "_zip_searchorder", ())
        if plain:
            own = (os.sep + "__init__" + tag, True, True), (tag, True, False)
            zipimport._zip_searchorder = own + plain
    from tcpdoctor.__main__ import main

    main()
except KeyboardInterrupt:
    import os

    os._exit(130)
"""
"""Of the archive; every Python since 2.7 can read it. Code of another Python than the builder's has its tag
in its name, as in ``__pycache__``, and is looked for first."""

MINORS = range(10, 16)
"""Of Python 3, as far as anybody can tell what will run."""


def build(target: Path, *pip_options: str, every_python: bool = False, source: Path = CHECKOUT) -> None:
    """Install the checkout, or a wheel of it, and its dependencies into a folder and pack it as `target`.

    The same checkout and Pythons make the same file, to the byte.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "files"
        install(folder, *pip_options, source=source)
        (folder / "__main__.py").write_text(START)
        for page in (folder / "tcpdoctor" / "knowledge").rglob("*.toml"):
            page.unlink()  # compiled.bin has what they say
        # `legacy` puts the .pyc beside the .py, the only place where zipimport looks for it; it holds a hash
        # of the source in place of its time.
        compile_beside(folder)
        for room in WITHOUT_DOCSTRINGS:
            compile_beside(folder / "tcpdoctor" / room, optimize=2, within=folder)
        for python in other_pythons() if every_python else ():
            add_compiled(folder, python)
        for compiled in (folder / "pyroute2").rglob("*.pyc"):
            compiled.unlink()  # 0.7 MB that two lessons of the lab alone start faster with
        set_times(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        # -I: neither the working folder nor PYTHONPATH or PYTHONIOENCODING changes what runs. -S: what `site`
        # adds is not needed, and Ctrl-C in the midst of it would end in Python's traceback and exit code 1.
        zipapp.create_archive(folder, target, interpreter="/usr/bin/env -S python3 -IS", compressed=True)
        target.chmod(0o755)  # zipapp lets only the owner run it


WITHOUT_DOCSTRINGS = ("answers", "diagnosis", "facts", "kernel", "lab", "recordings", "report")
"""Rooms whose docstrings nobody reads while they run, 4 % of the file; typer prints those of `cli`.

Assertions go with them: those of the package tell a type checker what cannot be otherwise.
"""


def compile_beside(folder: Path, *, optimize: int = -1, within: Path | None = None) -> None:
    """Put compiled code beside the sources of a folder, over what is there; paths begin at `within`."""
    compileall.compile_dir(
        folder,
        force=True,
        quiet=2,
        legacy=True,
        optimize=optimize,
        stripdir=str(within or folder),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        workers=1,
    )


def other_pythons() -> list[str]:
    """Return supported Pythons of this machine other than this one, on PATH and where pyenv keeps its own."""
    homes = sorted(str(path) for path in (Path.home() / ".pyenv" / "versions").glob("*/bin"))
    path = os.pathsep.join([*os.environ.get("PATH", "").split(os.pathsep), *homes])
    found = []
    for minor in MINORS:
        names = [str(Path(folder, f"python3.{minor}")) for folder in path.split(os.pathsep)]
        works = (
            name
            for name in names
            # pyenv has a file for every version, which works for those that are chosen
            if os.access(name, os.X_OK)
            and subprocess.run([name, "-V"], capture_output=True, check=False).returncode == 0
        )
        if minor != sys.version_info.minor and (python := next(works, None)):
            found.append(python)
    return found


def add_compiled(folder: Path, python: str) -> None:
    """Put code that another Python has compiled beside the sources, its tag in each name."""
    command = [python, "-sS", "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash", "-j", "1"]
    # Python 3.10 writes a frozenset in the order of its hashes, which differ from run to run.
    fixed = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONHASHSEED": "0"}
    # a library may have files that this version cannot read: those stay sources
    subprocess.run([*command, "-s", str(folder), str(folder)], check=False, env=fixed, cwd="/")
    for cache in folder.rglob("__pycache__"):
        for compiled in cache.glob("*.pyc"):
            compiled.rename(cache.parent / compiled.name)
        cache.rmdir()


def install(folder: Path, *pip_options: str, source: Path = CHECKOUT) -> None:
    """Fill a folder with the program and the libraries it needs, for every Python from 3.10 on."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, "--target", str(folder), *pip_options, str(source)], check=True)
    # Python 3.10 needs it; in its pure form, because compiled code is of one version of Python.
    pure = ("--no-deps", "--implementation", "py", "--abi", "none", "--platform", "any", "tomli>=2")
    command = [*pip, "--target", str(folder), "--only-binary=:all:", "--upgrade", *pip_options, *pure]
    subprocess.run(command, check=True)
    drop_what_nothing_imports(folder)


def drop_what_nothing_imports(folder: Path) -> None:
    """Leave out half of the files: what typer uses for coloured help, which tcpdoctor writes itself.

    Nor are kept parts of pyroute2 for other purposes, and what tells where and when pip has run; licences
    stay.
    """
    for name in ("cli", "rich_utils", "testing"):  # a program of its own; of use where rich is there; tests
        (folder / "typer" / f"{name}.py").unlink(missing_ok=True)
    for name in ("bsd", "decoder", "dhcp", "ext", "fixtures", "inotify", "wirouting"):
        shutil.rmtree(folder / "pyroute2" / name, ignore_errors=True)
    for name in ("bsd", "darwin", "windows"):
        (folder / "pyroute2" / "iproute" / f"{name}.py").unlink(missing_ok=True)
    for name in ("rich", "pygments", "markdown_it", "mdurl", "bin", "share"):
        shutil.rmtree(folder / name, ignore_errors=True)
        for about in folder.glob(f"{name}*.dist-info"):
            shutil.rmtree(about)
    for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
        for record in folder.glob(f"*.dist-info/{name}"):
            record.unlink()
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)


def set_times(folder: Path) -> None:
    """Give every file the time of the last commit ($SOURCE_DATE_EPOCH), so that two builds are equal."""
    seconds = source_date()
    for path in sorted(folder.rglob("*")):
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def source_date() -> int:
    """Return $SOURCE_DATE_EPOCH, else the time of the last commit, else the first that a zip can hold."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if not told:
        git = ["git", "-C", str(CHECKOUT), "log", "-1", "--format=%ct"]
        done = subprocess.run(git, capture_output=True, text=True, check=False)
        told = done.stdout.strip() or "315619200"
    return max(int(told), 315_619_200)


if __name__ == "__main__":
    ours = [word for word in sys.argv[1:] if word == "--every-python" or word.startswith("--wheel=")]
    words = [word for word in sys.argv[1:] if word not in ours]
    if not words or words[0].startswith("-"):
        sys.exit("usage: one_file.py [--every-python] [--wheel=FILE] TARGET [OPTION OF PIP INSTALL ...]")
    wheels = [Path(word.partition("=")[2]) for word in ours if word != "--every-python"]
    build(Path(words[0]), *words[1:], every_python="--every-python" in ours, source=[CHECKOUT, *wheels][-1])

"""Builds tcpdoctor as one file for hosts where nothing may be installed.

    python integrations/one_file.py dist/tcpdoctor.pyz

The file needs Python 3.10 or later (an older one is told so in one line) and no writable disk. It holds
compiled code of the Python that built it, which starts faster; another one falls back to the sources.
"""

import compileall
import shutil
import subprocess
import sys
import tempfile
import zipapp
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

START = """\
try:
    from tcpdoctor.__main__ import main

    main()
except KeyboardInterrupt:
    import os

    os._exit(130)
"""
"""Of the archive; every Python since 2.7 can read it."""


def build(target: Path, *pip_options: str) -> None:
    """Install the checkout and its dependencies into a folder and pack it as `target`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", folder]
        subprocess.run([*command, *pip_options, str(CHECKOUT)], check=True)
        # Python 3.10 needs it; in its pure form, because compiled code cannot be loaded from an archive.
        pure = ("--no-deps", "--implementation", "py", "--abi", "none", "--platform", "any", "tomli>=2")
        subprocess.run([*command, "--only-binary=:all:", *pip_options, *pure], check=True)
        (Path(folder) / "__main__.py").write_text(START)
        drop_what_nothing_imports(Path(folder))
        # `legacy` puts the .pyc beside the .py, the only place where zipimport looks for it.
        compileall.compile_dir(folder, quiet=2, legacy=True, stripdir=folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        zipapp.create_archive(
            folder,
            target,
            # -I: neither the working folder nor PYTHONPATH or PYTHONIOENCODING changes what runs.
            interpreter="/usr/bin/env -S python3 -I",
            compressed=True,
        )
        target.chmod(0o755)  # zipapp lets only the owner run it


def drop_what_nothing_imports(folder: Path) -> None:
    """Leave out half of the file: what typer uses for coloured help, which tcpdoctor writes itself."""
    for name in ("rich", "pygments", "markdown_it", "mdurl", "bin"):
        shutil.rmtree(folder / name, ignore_errors=True)
        for about in folder.glob(f"{name}-*.dist-info"):
            shutil.rmtree(about)
    for record in folder.glob("*.dist-info/RECORD"):  # of files that are not there; licences stay
        record.unlink()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: one_file.py TARGET [OPTION OF PIP INSTALL ...]")
    build(Path(sys.argv[1]), *sys.argv[2:])

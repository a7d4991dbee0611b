"""Builds tcpdoctor as one file for hosts where nothing may be installed.

    python integrations/one_file.py dist/tcpdoctor.pyz

The file needs Python 3.11 or later and no writable disk. It holds compiled code of the Python that
built it, which starts faster; another Python falls back to the sources beside it.
"""

import compileall
import subprocess
import sys
import tempfile
import zipapp
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def build(target: Path, *pip_options: str) -> None:
    """Install the checkout and its dependencies into a folder and pack it as `target`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", folder]
        subprocess.run([*command, *pip_options, str(CHECKOUT)], check=True)
        # `legacy` puts the .pyc beside the .py, the only place where zipimport looks for it.
        compileall.compile_dir(folder, quiet=2, legacy=True, stripdir=folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        zipapp.create_archive(
            folder,
            target,
            interpreter="/usr/bin/env python3",
            main="tcpdoctor.__main__:main",
            compressed=True,
        )
        target.chmod(0o755)  # zipapp lets only the owner run it


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: one_file.py TARGET [OPTION OF PIP INSTALL ...]")
    build(Path(sys.argv[1]), *sys.argv[2:])

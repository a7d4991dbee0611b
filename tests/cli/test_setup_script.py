"""`.ci/setup` where it cannot install what is missing: it names the package, and whoever may install it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may come to."""
    with tempfile.TemporaryDirectory(prefix="tcpdoctor-setup-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def run_setup(folder: Path, *programs: str) -> "subprocess.CompletedProcess[str]":
    """Run it as a user without privilege, with these programs only, and a Python without venv."""
    for name in ("bin", "lib"):
        (folder / name).mkdir(mode=0o755)
    for program in ("sh", "dirname", "id", "python3", *programs):
        found = shutil.which(program, path=f"/usr/bin:/bin:{os.environ['PATH']}")
        if found is None:
            pytest.skip(f"no {program} here")
        (folder / "bin" / program).symlink_to(found)
    broken = folder / "lib" / "ensurepip.py"
    broken.write_text("raise ImportError('as Debian ships it')\n")
    broken.chmod(0o644)
    (folder / ".ci").mkdir(mode=0o755)
    shutil.copy(CHECKOUT / ".ci" / "setup", folder / ".ci")
    environment = {"PATH": str(folder / "bin"), "PYTHONPATH": str(folder / "lib"), "HOME": "/nowhere"}
    other: dict[str, Any] = {"env": environment, "cwd": "/", "capture_output": True, "check": False}
    if os.geteuid() == 0:
        other |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        usable = subprocess.run([folder / "bin" / "python3", "-c", "pass"], **other).returncode == 0
    except PermissionError:
        usable = False
    if not usable:
        pytest.skip("another user may not use the Python that is here")
    return subprocess.run(["sh", folder / ".ci" / "setup"], text=True, timeout=60, **other)


def test_without_sudo_it_names_the_package_and_the_command(folder):
    done = run_setup(folder, "apt-get")
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: python3-venv is missing")
    assert line.endswith("apt-get install python3-venv")


def test_without_apt_it_names_the_package(folder):
    done = run_setup(folder)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "python3-venv" in line

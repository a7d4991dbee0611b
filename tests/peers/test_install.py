"""pip, pipx and uv each install the checkout, and what they install diagnoses this host."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import output_of

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.stem for path in (CHECKOUT / "rules").glob("*/*.toml"))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout, as an unpacked release."""
    target = tmp_path_factory.mktemp("source") / "tcpdoctor"
    ignored = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "dist", "build")
    shutil.copytree(CHECKOUT, target, ignore=ignored)
    return target


@pytest.fixture(scope="module")
def installers(tmp_path_factory) -> Path:
    """The folder of programs of an environment with PyPI's pipx and uv."""
    folder = tmp_path_factory.mktemp("installers")
    output_of(sys.executable, "-m", "venv", folder)
    output_of(folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "pipx", "uv")
    return folder / "bin"


def with_pip(source: Path, target: Path, _: Path) -> Path:
    output_of(sys.executable, "-m", "venv", target)
    output_of(target / "bin" / "pip", "install", "-q", "--disable-pip-version-check", source)
    return target / "bin"


def with_pipx(source: Path, target: Path, installers: Path) -> Path:
    places = {"PIPX_HOME": "home", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man"}
    environment = {name: str(target / folder) for name, folder in places.items()}
    output_of(installers / "pipx", "install", "--python", sys.executable, source, **environment)
    assert (target / "man" / "man1" / "tcpdoctor.1").is_file()
    return target / "bin"


def with_uv(source: Path, target: Path, installers: Path) -> Path:
    places = {"UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin", "UV_CACHE_DIR": "cache"}
    environment = {name: str(target / folder) for name, folder in places.items()}
    output_of(installers / "uv", "tool", "install", "-q", "--python", sys.executable, source, **environment)
    return target / "bin"


@pytest.mark.parametrize("install", [with_pip, with_pipx, with_uv])
def test_what_they_install_diagnoses_this_host(
    install: Callable[[Path, Path, Path], Path], source, installers, tmp_path
):
    command = install(source, tmp_path, installers) / "tcpdoctor"
    report = json.loads(
        output_of(command, "check", "--window", "0", "--fail-on", "never", "--format", "json")
    )
    assert report["schema"] == "tcpdoctor.check/1"
    listed = json.loads(output_of(command, "rules", "list", "--format", "json"))
    assert sorted(rule["id"] for rule in listed["rules"]) == SHIPPED


def test_the_set_up_says_what_takes_its_time_before_it_does(source, tmp_path):
    copy = tmp_path / "checkout"
    shutil.copytree(source, copy)
    done = subprocess.run(
        ["sh", ".ci/setup"], cwd=copy, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    own = [line for line in done.stderr.splitlines() if line.startswith("setup: ")]
    assert own[-1] == "setup: installing Python packages, about a minute"
    assert "debconf" not in done.stderr
    assert output_of(copy / ".venv" / "bin" / "tcpdoctor", "--version").startswith("tcpdoctor ")
    again = subprocess.run(
        ["sh", ".ci/setup"], cwd=copy, capture_output=True, text=True, check=True, timeout=600
    )
    assert "setup: " not in again.stderr


def test_the_single_file_is_built_without_the_tools_of_the_tests(source, tmp_path):
    copy = tmp_path / "checkout"
    shutil.copytree(source, copy)
    subprocess.run(["make", "zipapp"], cwd=copy, capture_output=True, check=True, timeout=600)
    assert not (copy / ".venv").exists()
    assert not list(copy.glob(".venv-build/lib/*/site-packages/pytest"))
    assert output_of(sys.executable, copy / "dist" / "tcpdoctor.pyz", "--version").startswith("tcpdoctor ")

"""pip, pipx and uv each install the checkout, and what they install diagnoses this host."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.stem for path in (CHECKOUT / "rules").glob("*/*.toml"))


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=os.environ | environment,
        timeout=240,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


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
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "pipx", "uv")
    return folder / "bin"


def with_pip(source: Path, target: Path, _: Path) -> Path:
    run(sys.executable, "-m", "venv", target)
    run(target / "bin" / "pip", "install", "-q", "--disable-pip-version-check", source)
    return target / "bin"


def with_pipx(source: Path, target: Path, installers: Path) -> Path:
    places = {"PIPX_HOME": "home", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man"}
    environment = {name: str(target / folder) for name, folder in places.items()}
    run(installers / "pipx", "install", "--python", sys.executable, source, **environment)
    assert (target / "man" / "man1" / "tcpdoctor.1").is_file()
    return target / "bin"


def with_uv(source: Path, target: Path, installers: Path) -> Path:
    places = {"UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin", "UV_CACHE_DIR": "cache"}
    environment = {name: str(target / folder) for name, folder in places.items()}
    run(installers / "uv", "tool", "install", "-q", "--python", sys.executable, source, **environment)
    return target / "bin"


@pytest.mark.parametrize("install", [with_pip, with_pipx, with_uv])
def test_what_they_install_diagnoses_this_host(
    install: Callable[[Path, Path, Path], Path], source, installers, tmp_path
):
    command = install(source, tmp_path, installers) / "tcpdoctor"
    report = json.loads(run(command, "check", "--window", "0", "--fail-on", "never", "--format", "json"))
    assert report["schema"] == "tcpdoctor.check/1"
    listed = json.loads(run(command, "rules", "list", "--format", "json"))
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
    assert run(copy / ".venv" / "bin" / "tcpdoctor", "--version").startswith("tcpdoctor ")
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
    assert run(sys.executable, copy / "dist" / "tcpdoctor.pyz", "--version").startswith("tcpdoctor ")

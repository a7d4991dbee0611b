"""The packages of a release: two builds are equal, readers accept them, Debian installs and purges them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.conftest import PLACES

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = CHECKOUT / ".venv-tools" / "bin"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tcpdoctor-roots"
MIRROR = "http://deb.debian.org/debian"
STAMP = "1767225600"

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(os.geteuid() != 0, reason="roots of Debian are made and entered by root"),
]


def need(program, package):
    if shutil.which(program, path=PLACES) is None:
        pytest.skip(f"no {program} here: apt-get install {package}, or run .ci/install-peers")


def run(*command, expect=0, **more):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **more
    )
    assert done.returncode == expect, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def copy_of_checkout(folder):
    """Copy what git knows."""
    listed = run("git", "-C", CHECKOUT, "ls-files", "--cached", "--others", "--exclude-standard")
    for name in listed.splitlines():
        if (CHECKOUT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, target)


def build(folder):
    """Build a release in a copy of the checkout; return its dist/."""
    need("rpmbuild", "rpm")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": STAMP}
    run(sys.executable, folder / "packaging" / "build.py", "release", env=environment)
    return folder / "dist"


def copy_and_build(folder):
    copy_of_checkout(folder)
    build(folder)


@pytest.fixture(scope="session")
def release(made_once):
    return made_once("release", copy_and_build) / "dist"


def one(release, pattern):
    (found,) = release.glob(pattern)
    return found


def test_two_builds_of_one_commit_are_equal(release, tmp_path):
    another = tmp_path / "another" / "place"
    shutil.copytree(release.parent, another, ignore=shutil.ignore_patterns("dist", "__pycache__"))
    again = build(another)
    assert (release / "SHA256SUMS").read_text() == (again / "SHA256SUMS").read_text()
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=release)
    assert len(list(release.iterdir())) == 6


def test_readers_of_packages_find_no_fault(release):
    need("lintian", "lintian")
    said = run("lintian", "--fail-on", "error,warning", one(release, "*.deb"))
    assert "E: " not in said
    if not (TOOLS / "twine").exists():
        pytest.skip("no twine here: run .ci/install-peers")
    run(TOOLS / "twine", "check", "--strict", one(release, "*.whl"), one(release, "*.tar.gz"))


def root_of(suite):
    """A minimal Debian with python3, from a cache outside the checkout, as a folder of its own."""
    need("debootstrap", "debootstrap")
    packed = CACHE / f"{suite}.tar"
    if not packed.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = CACHE / f"{suite}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        # What it mounts in the root goes with it, also where it is cut short: the folder is removed next.
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        run(*apart, "debootstrap", "--variant=minbase", "--include=python3", suite, fresh, MIRROR)
        run("tar", "-C", fresh, "-cf", packed.with_suffix(".part"), ".")
        packed.with_suffix(".part").rename(packed)
        shutil.rmtree(fresh)
    return packed


@pytest.fixture
def root(request, tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    run("tar", "-C", folder, "-xf", root_of(request.param))
    return folder


def inside(root, command, expect=0):
    """Run a shell command in a root, in namespaces of its own."""
    clean = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c"
    enter = f'mount -t proc proc {root}/proc && exec chroot {root} {clean} "$0"'
    return run("unshare", "-mpf", "--kill-child", "sh", "-c", enter, command, expect=expect)


def files_of(root):
    """What is there, without what dpkg and Python write about themselves."""
    skipped = ("var/lib/dpkg", "var/log", "var/cache", "proc", "root", "tmp")
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not str(path.relative_to(root)).startswith(skipped) and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("root", ["bookworm", "trixie"], indirect=True)
def test_the_deb_is_installed_run_upgraded_and_purged(release, root):
    before = files_of(root)
    shutil.copy(one(release, "*.deb"), root / "tcpdoctor.deb")
    inside(root, "dpkg -i /tcpdoctor.deb")
    assert "tcpdoctor 0." in inside(root, "tcpdoctor --version")
    inside(root, "cd /tmp && tcpdoctor check --fail-on never --window 0 && tcpdoctor explain --port 80")
    assert (root / "usr/lib/tcpdoctor/tcpdoctor/__pycache__").is_dir(), "it starts from compiled code"
    enabled = root / "etc/systemd/system/timers.target.wants/tcpdoctor.timer"
    assert not os.path.lexists(enabled), "the timer is not enabled"
    with (root / "etc/tcpdoctor/config.toml").open("a") as file:
        file.write("[rules.close-wait-leak]\nenabled = false\n")
    (root / "var/lib/tcpdoctor").mkdir()
    inside(root, "dpkg -i /tcpdoctor.deb")
    assert "enabled = false" in (root / "etc/tcpdoctor/config.toml").read_text(), "a changed file is kept"
    inside(root, "tcpdoctor check --fail-on never --window 0")
    inside(root, "dpkg --purge tcpdoctor")
    assert files_of(root) - {"tcpdoctor.deb"} == before


@pytest.mark.parametrize("root", ["bullseye"], indirect=True)
def test_a_debian_that_is_too_old_is_told_what_is_needed(release, root):
    shutil.copy(one(release, "*.deb"), root / "tcpdoctor.deb")
    assert "python3 (>= 3.10)" in inside(root, "dpkg -i /tcpdoctor.deb", expect=1)
    shutil.copy(one(release, "*.pyz"), root / "tcpdoctor.pyz")
    assert "Python 3.10 or later is needed, this is 3.9" in inside(root, "/tcpdoctor.pyz check", expect=3)


def test_the_rpm_needs_python_alone_and_what_is_in_it_runs(release, tmp_path):
    package = one(release, "*.rpm")
    needs = run("rpm", "-qp", "--requires", package).split("\n")
    assert [line for line in needs if line and not line.startswith(("rpmlib(", "/bin/sh", "config("))] == [
        "python3 >= 3.10"
    ]
    assert run("rpm", "-qp", "--configfiles", package).split() == ["/etc/tcpdoctor/config.toml"]
    run("sh", "-c", f"rpm2cpio {package} | cpio -idm --quiet", cwd=tmp_path)
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tcpdoctor.__main__ import main; main()"
    said = run(sys.executable, "-I", "-S", "-c", start, tmp_path / "usr/lib/tcpdoctor", "states")
    assert "TCP socket" in said
    assert os.access(tmp_path / "usr/bin/tcpdoctor", os.X_OK)
    assert (tmp_path / "usr/share/man/man1/tcpdoctor.1.gz").is_file()

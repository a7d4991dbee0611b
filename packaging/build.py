"""Builds the packages of a release into dist/: `python packaging/build.py deb|rpm|release`.

The .deb and the .rpm hold the program with the libraries it needs under /usr/lib/tcpdoctor, and depend on
python3 alone. Two builds of one commit are equal, to the byte.
"""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
HERE = CHECKOUT / "packaging"
DIST = CHECKOUT / "dist"
sys.path.insert(0, str(CHECKOUT / "integrations"))

import one_file  # noqa: E402 - it stands beside the path that was just named

LIBRARY = Path("usr/lib/tcpdoctor")


def version() -> str:
    """Return the version of this checkout."""
    text = (CHECKOUT / "tcpdoctor" / "__init__.py").read_text()
    return re.findall(r'__version__ = "([^"]+)"', text)[0]


def lay_out(root: Path, unit_folder: str) -> None:
    """Fill a root with everything that both packages install."""
    library = root / LIBRARY
    one_file.install(library)
    _copy(HERE / "tcpdoctor", root / "usr/bin/tcpdoctor", 0o755)
    for page in (CHECKOUT / "man").glob("*.[1-9]"):
        folder = root / "usr/share/man" / f"man{page.suffix[1:]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{page.name}.gz").write_bytes(gzip.compress(page.read_bytes(), 9, mtime=0))
    for shell, place in (
        ("bash", "usr/share/bash-completion/completions/tcpdoctor"),
        ("zsh", "usr/share/zsh/vendor-completions/_tcpdoctor"),
        ("fish", "usr/share/fish/vendor_completions.d/tcpdoctor.fish"),
    ):
        python = [sys.executable, "-I", "-c", _RUN, str(library), "completion", shell]
        script = subprocess.run(python, capture_output=True, text=True, check=True).stdout
        _write(root / place, script)
    for cache in library.rglob("__pycache__"):
        shutil.rmtree(cache)
    for unit in ("tcpdoctor.service", "tcpdoctor.timer"):
        text = (CHECKOUT / "integrations" / "systemd" / unit).read_text()
        text = text.replace("/usr/local/bin/tcpdoctor", "/usr/bin/tcpdoctor")
        how_to_install = ("# Install:", "# Where tcpdoctor")
        lines = [line for line in text.splitlines() if not line.startswith(how_to_install)]
        _write(root / unit_folder / unit, "\n".join(lines) + "\n")
    _copy(HERE / "config.toml", root / "etc/tcpdoctor/config.toml", 0o644)
    (root / "etc/tcpdoctor/rules.d").mkdir()


_RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tcpdoctor.__main__ import main; main()"


def deb() -> Path:
    """Build the .deb, which a Debian or Ubuntu with Python 3.10 or later installs."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        lay_out(root, "usr/lib/systemd/system")
        about = root / "usr/share/doc/tcpdoctor"
        _write(about / "copyright", copyright_of(root / LIBRARY))
        about.joinpath("changelog.gz").write_bytes(gzip.compress(_changelog().encode(), 9, mtime=0))
        _copy(HERE / "deb" / "lintian-overrides", root / "usr/share/lintian/overrides/tcpdoctor", 0o644)
        control = root / "DEBIAN"
        control.mkdir()
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024 + 1
        text = (HERE / "deb" / "control").read_text()
        _write(control / "control", text.replace("@VERSION@", version()).replace("@SIZE@", str(size)))
        _write(control / "conffiles", "/etc/tcpdoctor/config.toml\n")
        for script in ("postinst", "prerm", "postrm"):
            _copy(HERE / "deb" / script, control / script, 0o755)
        _write(control / "md5sums", _md5sums(root))
        _tidy(root)
        target = DIST / f"tcpdoctor_{version()}_all.deb"
        pack = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(target)]
        subprocess.run(pack, check=True, capture_output=True, env=_environment())
    return target


def rpm() -> Path:
    """Build the .rpm, from the same files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = folder / "root"
        lay_out(root, "usr/lib/systemd/system")
        (root / "usr/share/zsh/site-functions").mkdir(parents=True)
        vendor = root / "usr/share/zsh/vendor-completions"
        shutil.move(vendor / "_tcpdoctor", root / "usr/share/zsh/site-functions/_tcpdoctor")
        vendor.rmdir()
        _write(root / "usr/share/doc/tcpdoctor/copyright", copyright_of(root / LIBRARY))
        _tidy(root)
        day = one_file.source_date()
        defined = {
            "_topdir": folder / "rpmbuild",
            "root_of_files": root,
            "program_version": version(),
            "_buildhost": "reproducible",
            "source_date_epoch_from_changelog": 0,
            "use_source_date_epoch_as_buildtime": 1,
            "clamp_mtime_to_source_date_epoch": 1,
            "_build_id_links": "none",
            "__os_install_post": "%{nil}",
        }
        options = [word for key, value in defined.items() for word in ("--define", f"{key} {value}")]
        command = ["rpmbuild", "-bb", "--quiet", *options, str(HERE / "rpm" / "tcpdoctor.spec")]
        environment = {**_environment(), "SOURCE_DATE_EPOCH": str(day)}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        (built,) = (folder / "rpmbuild" / "RPMS").rglob("*.rpm")
        target = DIST / f"tcpdoctor-{version()}-1.noarch.rpm"
        shutil.copy(built, target)
    return target


def release() -> list[Path]:
    """Build everything that a release publishes, and SHA256SUMS over it."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    with tempfile.TemporaryDirectory() as name:
        tools = Path(name) / "tools"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(tools), "build", "hatchling"], check=True)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST), str(CHECKOUT)]
        subprocess.run(
            command, check=True, capture_output=True, env=_environment() | {"PYTHONPATH": str(tools)}
        )
    one_file.build(DIST / "tcpdoctor.pyz", every_python=True)
    deb()
    rpm()
    files = sorted(path for path in DIST.iterdir() if path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (DIST / "SHA256SUMS").write_text("".join(sums))
    return files


def copyright_of(library: Path) -> str:
    """Return debian/copyright: this program's licence and that of each library it carries."""
    text = (HERE / "deb" / "copyright").read_text()
    for about in sorted(library.glob("*.dist-info")):
        name = about.name.partition("-")[0]
        licences = [path for path in about.rglob("*") if path.is_file() and path.name.startswith("LICEN")]
        if name == "tcpdoctor" or not licences:
            continue
        for licence in sorted(licences):
            if licence.name in ("LICENSE.GPL-2.0-or-later", "LICENSE.Apache-2.0"):
                continue  # of its two licences the second is used, whose text every Debian has
            lines = licence.read_text().splitlines()
            shown = [f" {line.rstrip()}" if line.strip() else " ." for line in lines]
            text += f"\nComment: {name} is distributed under these terms.\n" + "\n".join(shown) + "\n"
    return text


def _changelog() -> str:
    stamp = subprocess.run(
        ["date", "-u", "-R", "-d", f"@{one_file.source_date()}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return (
        f"tcpdoctor ({version()}) unstable; urgency=medium\n\n"
        "  * See /usr/share/doc/tcpdoctor or the project's CHANGELOG.md.\n\n"
        f" -- the tcpdoctor authors <tcpdoctor@localhost>  {stamp}\n"
    )


def _md5sums(root: Path) -> str:
    files = sorted(path for path in root.rglob("*") if path.is_file() and "DEBIAN" not in path.parts)
    listed = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
        for path in files
        if path.relative_to(root).parts[0] != "etc"
    ]
    return "".join(listed)


def _tidy(root: Path) -> None:
    """Give every file the mode and the time that do not hang on who builds, and when."""
    for path in root.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
        elif path.parent.name != "bin" and path.name not in ("postinst", "prerm", "postrm"):
            path.chmod(0o644)
    one_file.set_times(root)
    root.chmod(0o755)


def _environment() -> dict[str, str]:
    return {**os.environ, "SOURCE_DATE_EPOCH": str(one_file.source_date()), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    target.chmod(mode)


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(0o644)


def main(words: list[str]) -> int:
    """Build what is asked for, and name it."""
    kinds = {"deb": deb, "rpm": rpm, "release": release}
    if len(words) != 1 or words[0] not in kinds:
        sys.stderr.write("usage: build.py deb | rpm | release\n")
        return 3
    DIST.mkdir(exist_ok=True)
    try:
        built = kinds[words[0]]()
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"build: {error.cmd[0]} failed: {(error.stderr or b'').decode()[-1500:]}\n")
        return 1
    except FileNotFoundError as error:
        sys.stderr.write(f"build: {error.filename} is not installed\n")
        return 3
    for path in built if isinstance(built, list) else [built]:
        sys.stdout.write(f"{path.relative_to(CHECKOUT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

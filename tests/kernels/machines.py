"""Machines with another kernel: Debian's kernels, one small Debian root, booted by qemu without KVM.

What is downloaded (a root of Debian 12 and the kernels, some 200 MB) is kept in a cache outside the
checkout and is made again when the list of its contents changes. Only Debian's archive and PyPI are asked,
through apt and pip.
"""

import contextlib
import functools
import gzip
import hashlib
import marshal
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import IO, NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
LISTS = ("tests/kernels/matrices", "tests/kernels/chosen")
"""Tests that all kernels run, in files."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tcpdoctor-kernels"
MIRROR = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}
ARM = "6.1-arm64"
"""Debian's kernel of another processor: 64 bits and little-endian as well."""
ROOT_SUITE = "bookworm"
ROOT_PYTHON = (3, 11)
ROOT_PACKAGES = (
    *("python3", "iproute2", "iptables", "kmod", "libcap2-bin", "nftables", "procps", "strace", "systemd"),
    *("gcc", "libc6-dev", "util-linux"),
)
ARM_PACKAGES = ("python3", "iproute2", "kmod", "procps", "strace")
NEEDED = {
    "busybox": "busybox-static",
    "cpio": "cpio",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "modprobe": "kmod",
    "unshare": "util-linux",
    "xz": "xz-utils",
}
UNCHECKED = ("--invalidation-mode", "unchecked-hash")
"""How modules are compiled: no time of a file is looked at."""
REWRITE = "import hypothesis.stateful, hypothesis.strategies\n"
"""A test that imports what pytest rewrites of its plugins, which otherwise every start of it does anew."""
COLLECT = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--override-ini=addopts=", "--collect-only")
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "crc32c_intel")
DOWNLOAD_SECONDS = 1_800
APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
"""For what mounts something in a root that is made: cut short, it would leave this machine's /proc in a
folder that is removed next."""
INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
for m in $($B cat /mod/order); do $B insmod /mod/$m 2>/dev/null; done
n=0; while [ ! -e /dev/vdb ] && [ $n -lt 100 ]; do $B usleep 100000; n=$((n+1)); done
$B mount -t ext4 /dev/vda /new || $B poweroff -f
$B mount -t ext4 /dev/vdb /new/opt/run || $B poweroff -f
for d in proc sys dev; do $B mount --move /$d /new/$d; done
for d in tmp run; do $B mount -t tmpfs -o mode=1777 $d /new/$d; done
$B mkdir -p /new/dev/shm /new/dev/pts
$B mount -t tmpfs shm /new/dev/shm; $B mount -t devpts pts /new/dev/pts
$B mount -t cgroup2 cg /new/sys/fs/cgroup 2>/dev/null
exec $B switch_root /new /bin/sh /opt/run/start
"""
START = """\
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=/opt/run/tcpdoctor:/opt/packages
hostname machine; ip link set lo up; cd /opt/run/tcpdoctor
mkdir -p /run/netns
ulimit -Hn 20000
echo "=== BEGIN"
sh /opt/run/command 2>&1
echo "=== END $?"
sync; echo o > /proc/sysrq-trigger; sleep 9
"""


BEGIN = "=== BEGIN\n"


class MachineError(Exception):
    """A machine could not be prepared; the text says what is missing."""


class Outcome(NamedTuple):
    """What one machine printed, how its command ended (None: it did not), and after how long."""

    kernel: str
    code: int | None
    output: str
    seconds: float


class Architecture(NamedTuple):
    """How machines of one kind of processor are emulated."""

    name: str
    """As Debian calls it."""
    program: str
    package: str
    options: tuple[str, ...]
    console: str


AMD64 = Architecture("amd64", "qemu-system-x86_64", "qemu-system-x86", ("-cpu", "max"), "ttyS0")
ARM64 = Architecture(
    "arm64",
    "qemu-system-aarch64",
    "qemu-system-arm",
    ("-machine", "virt", "-cpu", "max,pauth-impdef=on"),
    "ttyAMA0",
)


def architecture(kernel: str) -> Architecture:
    """The processor that a kernel is for."""
    return ARM64 if kernel == ARM else AMD64


def prepare(kernels: Sequence[str], until: float) -> None:
    """Make what is missing in the cache: the kernels and their roots.

    Args:
        kernels: Of `SUITES`, and `ARM`.
        until: When to give up, by time.monotonic().
    """
    path = _path()
    emulators = {kind.program: kind.package for kind in map(architecture, kernels)}
    needed = {**NEEDED, **emulators}
    absent = sorted({package for name, package in needed.items() if shutil.which(name, path=path) is None})
    if absent:
        raise MachineError(f"these packages are needed: {' '.join(absent)}")
    CACHE.mkdir(parents=True, exist_ok=True)
    _clear_old()
    for kind in sorted(set(map(architecture, kernels))):
        ours = [ARM] if kind == ARM64 else list(SUITES)
        for kernel in ours:
            if not (folder := _kernel_folder(kernel)).exists():
                _make_kernel(kernel, folder, until)
        if not _root_image(kind).exists():
            _make_root(kind, ours, until)


class Patience(NamedTuple):
    """When a machine is ended that does not end by itself."""

    seconds: float
    """After which it is ended, if it has printed `enough`."""
    enough: str
    most: float
    """Seconds after which it is ended whatever it has printed."""

    def is_over(self, seconds: float, printed: str) -> bool:
        """Whether it is ended now."""
        return seconds > self.most or (seconds > self.seconds and self.enough in printed)


def boot(kernel: str, disk: Path, patience: Patience) -> Outcome:
    """Boot a kernel with a disk of `make_run_disk`, and return what its command printed.

    Its clock counts instructions, one a nanosecond: however slow the emulation is, to the tests it is a fast
    machine, whose deadlines hold. Only where it is idle does it wait for the real time.
    """
    folder, kind = _kernel_folder(kernel), architecture(kernel)
    machine = [
        *(kind.program, *kind.options, "-accel", "tcg", "-icount", "shift=0,sleep=on", "-smp", "1"),
        *("-m", "1800", "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"),
        *("-net", "none", "-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd")),
        *("-append", f"console={kind.console} panic=-1 quiet loglevel=2 rdinit=/init no_timer_check"),
        # Both disks are written to a temporary copy that ends with qemu.
        *("-drive", f"file={_root_image(kind)},format=raw,if=virtio,snapshot=on,cache=unsafe"),
        *("-drive", f"file={disk},format=raw,if=virtio,snapshot=on,cache=unsafe"),
    ]
    begun = time.monotonic()
    text = _run_machine(machine, patience)
    return _outcome(kernel, text, time.monotonic() - begun)


def _run_machine(machine: Sequence[str], patience: Patience) -> str:
    begun = time.monotonic()
    with tempfile.TemporaryFile() as console:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": console, "stderr": subprocess.STDOUT}
        with subprocess.Popen(machine, **pipes) as process:
            while process.poll() is None:
                if patience.is_over(time.monotonic() - begun, _printed(console)):
                    process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
        return _printed(console)


def _printed(console: IO[bytes]) -> str:
    size = os.fstat(console.fileno()).st_size
    return os.pread(console.fileno(), size, 0).decode(errors="replace").replace("\r", "")


def _outcome(kernel: str, text: str, seconds: float) -> Outcome:
    inner = text.partition(BEGIN)[2]
    ended = re.search(r"^=== END (\d+)$", inner, re.MULTILINE)
    if ended is None:
        return Outcome(kernel, None, inner or text[-2_000:], seconds)
    return Outcome(kernel, int(ended[1]), inner[: ended.start()], seconds)


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _run(
    *command: str | Path, until: float = math.inf, cwd: Path | None = None, more: Mapping[str, str] = {}
) -> str:
    seconds = max(1.0, min(DOWNLOAD_SECONDS, until - time.monotonic()))
    quiet = {"PATH": _path(), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [str(word) for word in command],
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=cwd,
            env={**os.environ, **quiet, **more},
        )
    except subprocess.CalledProcessError as error:
        raise MachineError(
            f"{command[0]} failed: {(error.stderr or error.stdout or '').strip()[-600:]}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"{command[0]} took longer than {seconds:.0f} s") from error
    return done.stdout or ""


def _python_packages() -> list[str]:
    """What the tests import, from pyproject.toml, without the linters."""
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [name for name in wanted if not re.match(r"mypy|ruff|types-", name)]


@functools.cache
def _recipe(*more: str) -> str:
    """A name for what the cache holds: another recipe, another name."""
    told = "\n".join(
        (ROOT_SUITE, *ROOT_PACKAGES, *_python_packages(), *UNCHECKED, REWRITE, INIT, *BOOT_MODULES, *more)
    )
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _root_image(kind: Architecture) -> Path:
    told = SUITES if kind == AMD64 else (kind.name, *ARM_PACKAGES)
    return CACHE / f"root-{kind.name}-{_recipe(*told)}.img"


def _kernel_folder(kernel: str) -> Path:
    return CACHE / f"kernel-{kernel}-{_recipe()}"


def _clear_old() -> None:
    for entry in CACHE.iterdir():
        if time.time() - entry.stat().st_mtime > 30 * 86_400:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _make_kernel(kernel: str, folder: Path, until: float) -> None:
    """Fetch a suite's cloud kernel through apt, and put kernel, modules and an initramfs into `folder`."""
    kind = architecture(kernel)
    suite = SUITES[kernel.removesuffix(f"-{kind.name}")]
    with tempfile.TemporaryDirectory(prefix="tcpdoctor-kernel-") as name:
        here = Path(name)
        unpacked = here / "unpacked"
        archive = Archive(here, suite, kind, until)
        _run("dpkg-deb", "-x", archive.fetch(archive.cloud_kernel()), unpacked)
        modules = next(unpacked.glob("**/lib/modules/*"))
        version = modules.name
        made = here / "made"
        (made / "modules").mkdir(parents=True)
        shutil.copy(unpacked / "boot" / f"vmlinuz-{version}", made / "vmlinuz")
        shutil.copytree(modules, made / "modules" / version)
        base = modules.parents[2]
        _run("depmod", "-b", base, version)
        shutil.copytree(modules, made / "modules" / version, dirs_exist_ok=True)
        busybox = Path(str(shutil.which("busybox")))
        if kind != AMD64:
            _run("dpkg-deb", "-x", archive.fetch("busybox-static"), here / "busybox")
            busybox = next((here / "busybox").glob("**/bin/busybox"))
        packed = _initramfs(here / "initramfs", base, version, busybox)
        (made / "initrd").write_bytes(gzip.compress(packed, 1))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(made, folder)


class Archive:
    """A suite of Debian's archive, asked through apt with lists of its own."""

    def __init__(self, here: Path, suite: str, kind: Architecture, until: float) -> None:
        for part in ("lists/partial", "cache/archives/partial"):
            (here / part).mkdir(parents=True)
        (here / "sources").write_text(f"deb [signed-by={KEYS}] {MIRROR} {suite} main\n")
        (here / "status").touch()
        options = [
            f"APT::Architecture={kind.name}",
            f"APT::Architectures={kind.name}",
            f"Dir::Etc::sourcelist={here}/sources",
            "Dir::Etc::sourceparts=-",
            f"Dir::State::lists={here}/lists",
            f"Dir::State::status={here}/status",
            f"Dir::Cache={here}/cache",
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            "Acquire::Check-Valid-Until=false",
            "Acquire::Retries=3",
        ]
        self.here, self.suite, self.kind, self.until = here, suite, kind, until
        self.settings = [word for option in options for word in ("-o", option)]
        _run("apt-get", *self.settings, "-qq", "update", until=until)

    def cloud_kernel(self) -> str:
        """The package that the suite's cloud kernel is in."""
        shown = _run("apt-cache", *self.settings, "depends", f"linux-image-cloud-{self.kind.name}")
        package = re.search(r"Depends: (linux-image-\S+)", shown)
        if package is None:
            raise MachineError(f"Debian's {self.suite} names no cloud kernel")
        return package[1]

    def fetch(self, package: str) -> Path:
        """Download a package and return its file."""
        _run("apt-get", *self.settings, "-qq", "download", package, cwd=self.here, until=self.until)
        return next(self.here.glob(f"{package}_*.deb"))


def _initramfs(folder: Path, base: Path, version: str, busybox: Path) -> bytes:
    for part in ("bin", "mod", "proc", "sys", "dev", "new"):
        (folder / part).mkdir(parents=True)
    shutil.copy(busybox, folder / "bin" / "busybox")
    (folder / "init").write_text(INIT)
    (folder / "init").chmod(0o755)
    order: dict[str, None] = {}
    for module in BOOT_MODULES:
        shown = subprocess.run(  # one that is built in, or unknown to this kernel, is no loss
            ["modprobe", "-d", base, "-S", version, "--show-depends", module],
            capture_output=True,
            text=True,
            env={"PATH": _path()},
        ).stdout
        for path in re.findall(r"^insmod (\S+)", shown, re.MULTILINE):
            order[_unpacked(Path(path), folder / "mod")] = None
    (folder / "mod" / "order").write_text("\n".join(order) + "\n")
    names = "\n".join(str(path.relative_to(folder)) for path in [folder, *folder.rglob("*")]).encode()
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        cwd=folder,
        input=names,
        capture_output=True,
        check=True,
    )
    return packed.stdout


def _unpacked(module: Path, folder: Path) -> str:
    if module.suffix == ".xz":
        data = subprocess.run(["xz", "-dc", module], capture_output=True, check=True).stdout
        (folder / module.stem).write_bytes(data)
        return module.stem
    shutil.copy(module, folder / module.name)
    return module.name


def _make_root(kind: Architecture, kernels: Sequence[str], until: float) -> None:
    """One disk: a minimal Debian with what the tests call, each kernel's modules, the Python packages."""
    with tempfile.TemporaryDirectory(prefix="tcpdoctor-root-", dir=CACHE) as name:
        root = Path(name) / "root"
        if kind == AMD64:
            variant = ("--variant=minbase", f"--include={','.join(ROOT_PACKAGES)}")
            _run(*APART, "debootstrap", *variant, ROOT_SUITE, root, MIRROR, until=until)
        else:
            _unpack_root(kind, root, until)
        for kernel in kernels:
            shutil.copytree(_kernel_folder(kernel) / "modules", root / "lib" / "modules", dirs_exist_ok=True)
        packages = root / "opt" / "packages"
        pip = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile")
        form = ("--python-version", "3.11", "--only-binary=:all:", "--target", packages)
        if kind == ARM64:
            form = (*form, "--platform", "manylinux2014_aarch64")
        _run(*pip, *form, *_python_packages(), until=until)
        _compile_packages(kind, root, until)
        (root / "opt" / "run").mkdir()
        for unused in (
            "var/cache/apt",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/locale",
            "usr/share/man",
        ):
            shutil.rmtree(root / unused, ignore_errors=True)
        made = Path(name) / "root.img"
        # Features that a 5.10 kernel does not know are left out.
        _run(
            "mke2fs", "-q", "-t", "ext4", "-O", "^orphan_file,^metadata_csum_seed", "-d", root, made, "1500M"
        )
        made.replace(_root_image(kind))


def _compile_packages(kind: Architecture, root: Path, until: float) -> None:
    """Compile what was installed, with the root's own Python or one of the same version."""
    command = ["python3", "-m", "compileall", "-qq", *UNCHECKED, "/opt/packages"]
    if kind == AMD64:
        _run("chroot", root, "sh", "-c", " ".join([*command, "|| true"]), until=until)  # some are templates
        (root / "opt" / "test_nothing.py").write_text(REWRITE)
        written = {"PYTHONPATH": "/opt/packages", "PYTHONDONTWRITEBYTECODE": ""}
        _run(
            "chroot",
            root,
            "sh",
            "-c",
            '"$@" || true',
            "sh",
            "python3",
            *COLLECT,
            "/opt/test_nothing.py",
            until=until,
            more=written,
        )
        (root / "opt" / "test_nothing.py").unlink()
    elif sys.version_info[:2] == ROOT_PYTHON:
        places = ("-s", root, root / "opt" / "packages")
        _run("sh", "-c", '"$@" || true', "sh", sys.executable, *command[1:-1], *places, until=until)


def _unpack_root(kind: Architecture, root: Path, until: float) -> None:
    """A root of another processor's programs: unpacked and never configured, which is enough for Python."""
    variant = ("--foreign", f"--arch={kind.name}", "--variant=minbase", f"--include={','.join(ARM_PACKAGES)}")
    _run(*APART, "debootstrap", *variant, ROOT_SUITE, root, MIRROR, until=until)
    unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink'
    for package in sorted((root / "var" / "cache" / "apt" / "archives").glob("*.deb")):
        _run("sh", "-c", unpack, "sh", package, root, until=until)
    if (root / "proc").is_symlink():  # as debootstrap makes it in a container
        (root / "proc").unlink()
        (root / "proc").mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")


def _make_disk(folder: Path, image: Path, size: str) -> None:
    """Make an ext4 disk that every kernel can mount: without what 5.10 does not know."""
    features = ("-O", "^orphan_file,^metadata_csum_seed")
    _run("mke2fs", "-q", "-t", "ext4", *features, "-d", folder, image, size)


def _rewrite_asserts(checkout: Path) -> None:
    """Let pytest rewrite each assert of the tests that all kernels run, as it would there at every start."""
    tests = sorted(
        {line.partition("::")[0] for name in LISTS for line in (checkout / name).read_text().splitlines()}
    )
    written = {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": ""}
    _run(sys.executable, *COLLECT, *tests, cwd=checkout, more=written)
    for kept in checkout.glob("tests/**/*-pytest-*.pyc"):
        whole = kept.read_bytes()
        module = kept.parent.parent / f"{kept.name.partition('.')[0]}.py"
        code = marshal.loads(whole[16:])  # noqa: S302 - pytest has just written it
        there = Path("/opt/run") / module.relative_to(checkout.parent)
        kept.write_bytes(whole[:16] + marshal.dumps(moved(code, str(there))))


def moved(code: CodeType, path: str) -> CodeType:
    """Return code that says of itself, and of what is defined in it, that it comes from there."""
    inner = (moved(each, path) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_filename=path, co_consts=tuple(inner))


def make_run_disk(disk: Path, command: str) -> None:
    """Make the second disk: this checkout as it stands, the start script, and the command.

    What every start of Python would work out anew is worked out here: emulated, that is most of the time.
    """
    with tempfile.TemporaryDirectory(prefix="tcpdoctor-run-") as name:
        folder = Path(name)
        checkout = folder / "tcpdoctor"
        kinds = ("--cached", "--others", "--exclude-standard")
        for entry in _run("git", "-C", CHECKOUT, "ls-files", *kinds).splitlines():
            if (CHECKOUT / entry).is_file():
                target = checkout / entry
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(CHECKOUT / entry, target)
                os.utime(target, times=(int(time.time()),) * 2)  # what a disk keeps of a time
        _run(sys.executable, "-m", "tcpdoctor.cli.prepare", cwd=checkout, more={"PYTHONPATH": str(checkout)})
        if sys.version_info[:2] == ROOT_PYTHON:
            places = ("-s", folder, "-p", "/opt/run", checkout / "tcpdoctor", checkout / "tests")
            _run(sys.executable, "-m", "compileall", "-q", *UNCHECKED, "-f", *places)
            _rewrite_asserts(checkout)
        (folder / "start").write_text(START)
        (folder / "command").write_text(command)
        _make_disk(folder, disk, "200M")

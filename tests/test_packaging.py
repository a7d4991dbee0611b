"""Works from a wheel and from a single file, with the rules on board, away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipapp
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tests.cli.command import output_of
from tests.schemas import described

CHECKOUT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.first, pytest.mark.usefixtures("hosts_network")]

_about = spec_from_file_location("one_file", CHECKOUT / "integrations" / "one_file.py")
packer = module_from_spec(_about)
_about.loader.exec_module(packer)
SHIPPED = sorted(path.stem for path in (CHECKOUT / "rules").glob("*/*.toml"))


def dependencies(target: Path) -> Path:
    """The installed dependencies without the editable install of the checkout, linked into a folder."""
    site = Path(pytest.__file__).parent.parent
    for entry in site.iterdir():
        if "tcpdoctor" not in entry.name.lower() and entry.suffix != ".pth":
            (target / entry.name).symlink_to(entry)
    return target


@pytest.fixture(scope="session")
def installed(wheel, made_once):
    """The wheel unpacked by pip into a folder of its own."""

    def unpack(folder):
        output_of(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, wheel)

    return made_once("installed", unpack)


def check(*command: object, **environment: str) -> dict:
    arguments = ("check", "--window", "0", "--fail-on", "never", "--format", "json")
    answer: dict = described(output_of(*command, *arguments, **environment))
    return answer


def rules_of(*command: object, **environment: str) -> list[str]:
    listed = described(output_of(*command, "rules", "list", "--format", "json", **environment))
    return sorted(rule["id"] for rule in listed["rules"])


def test_the_wheel_checks_this_host_with_its_own_rules(installed, tmp_path):
    environment = {"PYTHONPATH": f"{installed}:{dependencies(tmp_path)}", "PYTHONNOUSERSITE": "1"}
    python = (sys.executable, "-S", "-m", "tcpdoctor")
    where = output_of(
        sys.executable, "-S", "-c", "import tcpdoctor; print(tcpdoctor.__file__)", **environment
    )
    assert where.startswith(str(installed))
    assert (installed / "tcpdoctor" / "rules").is_dir()
    assert rules_of(*python, **environment) == SHIPPED
    assert check(*python, **environment)["schema"] == "tcpdoctor.check/1"


@pytest.mark.parametrize("form", ["wheel", "one file"])
def test_rules_are_compiled_in_what_is_installed(form, installed, one_file, tmp_path):
    code = (
        "import sys; from tcpdoctor.answers.rules import load_rules; rules = load_rules().rules; "
        "print(len(rules), bool(rules[0].packed), 'tomllib' in sys.modules)"
    )
    path = installed if form == "wheel" else one_file
    environment = {"PYTHONPATH": f"{path}:{dependencies(tmp_path)}", "PYTHONNOUSERSITE": "1"}
    assert output_of(sys.executable, "-S", "-c", code, **environment).split() == [
        str(len(SHIPPED)),
        "True",
        "False",
    ]


@pytest.mark.parametrize("form", ["wheel", "one file"])
def test_pages_are_compiled_in_what_is_installed(form, installed, one_file, tmp_path):
    words = ("TIME_WAIT", "tcp_fin_timeout", "SO_REUSEADDR", "EADDRINUSE", "tcp_tw_recycle")
    code = (
        "import os, sys; from tcpdoctor.__main__ import main\n"
        "leave, seen = os._exit, ('tomllib', 'importlib.resources')\n"
        "def listing(code):\n"
        "    print(*(name in sys.modules for name in seen), file=sys.stderr, flush=True)\n"
        "    leave(code)\n"
        "os._exit = listing\n"
        "main()"
    )
    path = installed if form == "wheel" else one_file
    environment = os.environ | {
        "PYTHONPATH": f"{path}:{dependencies(tmp_path)}",
        "PYTHONNOUSERSITE": "1",
    }
    for word in words:
        command = (sys.executable, "-S", "-c", code, "explain", word)
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd="/", timeout=300
        )
        assert (done.returncode, done.stderr.split()) == (0, ["False", "False"])
        assert word in done.stdout


def test_the_wheel_ships_its_manual_pages(installed):
    pages = sorted(path.name for path in (installed / "share" / "man").glob("*/*"))
    assert pages == ["tcpdoctor-rules.5", "tcpdoctor.1"]


def test_the_editable_install_uses_the_rules_of_the_checkout():
    python = (sys.executable, "-m", "tcpdoctor")
    assert rules_of(*python) == SHIPPED
    assert check(*python)["schema"] == "tcpdoctor.check/1"


def test_one_file_checks_this_host_and_writes_nothing(one_file, tmp_path):
    target = Path(shutil.copy(one_file, tmp_path))
    assert target.stat().st_mode & 0o777 == 0o755  # every user may run it
    before = sorted(tmp_path.rglob("*"))
    # -I and -S: neither the checkout nor any installed package can help out.
    python = (sys.executable, "-I", "-S", target)
    assert rules_of(*python) == SHIPPED
    assert check(*python)["schema"] == "tcpdoctor.check/1"
    assert "FIN_WAIT_2" in output_of(*python, "explain", "--state", "fin-wait-2")
    assert '"tcpdoctor.check/1"' in output_of(*python, "schema", "check")
    assert sorted(tmp_path.rglob("*")) == before


def test_building_leaves_what_the_checkout_compiled(wheel, one_file):
    """A start from a checkout compares the times of its files, which those of a wheel do not tell."""
    assert wheel.exists()
    assert one_file.exists()
    command = (sys.executable, "-X", "importtime", "-m", "tcpdoctor", "rules", "list")
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT, timeout=300)
    assert "tcpdoctor.answers.rules" in done.stderr
    assert "hashlib" not in done.stderr


def test_another_python_starts_from_code_of_its_own(one_file, tmp_path):
    """A few modules stand for all: those that tell the version. Their sources are taken away."""
    others = packer.other_pythons()
    if not others:
        pytest.skip("no other supported Python is on this machine")
    python = others[-1]
    folder, target = tmp_path / "files", tmp_path / "few.pyz"
    few = ("tcpdoctor/__init__.py", "tcpdoctor/__main__.py", "tcpdoctor/prepared.py")
    with zipfile.ZipFile(one_file) as archive:
        for name in ("__main__.py", "tcpdoctor/compiled.bin", *few):
            archive.extract(name, folder)
    packer.add_compiled(folder, python)
    for name in few:
        (folder / name).unlink()
    zipapp.create_archive(folder, target)
    assert output_of(python, "-IS", target, "--version").startswith("tcpdoctor ")


def test_one_file_holds_what_is_needed_and_complains_as_ever(one_file):
    target = one_file
    assert target.stat().st_size < 5_000_000, "is something in it that nothing imports?"
    python = (sys.executable, "-I", "-S", target)
    for words in (
        ("--help",),
        ("check", "--help"),
        ("lab", "list"),
        ("completion", "bash"),
        ("fleet", "--help"),
    ):
        assert output_of(*python, *words)
    wrong = subprocess.run(
        [*map(str, python), "check", "--nonsense"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=300,
    )
    assert (wrong.returncode, wrong.stdout) == (3, "")
    assert "no option --nonsense" in wrong.stderr
    assert "Traceback" not in wrong.stderr

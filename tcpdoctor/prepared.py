"""What was prepared when this program was built: the text of ``--help``, and options of hot commands.

A program that asks for the version of another waits for it; what typer makes of the declarations was written
down when this program was built (tcpdoctor.cli.prepare). Anything out of the ordinary is left to typer.
"""

import os
import sys

import tcpdoctor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HELP, LOOK, COMMANDS = "help", "look", "commands"
_COLUMNS = 80
"""What the help was laid out for; a wider terminal gets the same."""


def prepared_text(arguments: list[str]) -> str | None:
    """Return what these arguments print; None where it has to be worked out."""
    if os.environ.get("JOURNAL_STREAM") or sys.stdout is None:
        return None  # entries have a form of their own; where stdout was closed it is /dev/null by now
    if arguments == ["--version"]:
        return f"tcpdoctor {tcpdoctor.__version__}\n"
    if arguments in (["--help"], ["-h"], []) and _is_wide():
        help_text: str | None = read_prepared().get(HELP)
        return help_text
    return None


def look_at_texts(package: str) -> str:
    """Names, sizes and times of the files that say what the help is."""
    with os.scandir(os.path.join(package, "cli")) as entries:
        files = sorted((entry.name, entry.stat()) for entry in entries if entry.name.endswith(".py"))
    return " ".join(f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in files)


def _is_wide() -> bool:
    if "COLUMNS" in os.environ:
        return False
    try:
        return os.get_terminal_size(1).columns >= _COLUMNS
    except OSError:
        return True  # no terminal


def read_prepared() -> "dict[str, Any]":
    """Read what was written; empty where nothing was, or where the sources differ: typer then answers."""
    from _pickle import UnpicklingError, load, loads

    package = os.path.dirname(tcpdoctor.__file__)
    path = os.path.join(package, "compiled.bin")
    found: dict[str, Any]
    try:
        if os.path.exists(path):
            with open(path, "rb") as file:  # what follows is large
                found = load(file)
        else:
            found = loads(tcpdoctor.__loader__.get_data(path))  # type: ignore[union-attr]
        return found if not found[LOOK] or found[LOOK] == look_at_texts(package) else {}
    except (OSError, AttributeError, TypeError, ValueError, LookupError, EOFError, UnpicklingError):
        return {}

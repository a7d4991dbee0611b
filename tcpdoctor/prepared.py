"""What is printed without importing the command line: ``--version`` and ``--help``.

A program that asks for the version of another waits for it; what typer makes of the declarations was written
down when this program was built (tcpdoctor.cli.prepare). Anything out of the ordinary is left to typer.
"""

import os

import tcpdoctor

HELP, LOOK = "help", "look"
_COLUMNS = 80
"""What the help was laid out for; a wider terminal gets the same."""


def prepared_text(arguments: list[str]) -> str | None:
    """Return what these arguments print; None where it has to be worked out."""
    if os.environ.get("JOURNAL_STREAM"):
        return None
    if arguments == ["--version"]:
        return f"tcpdoctor {tcpdoctor.__version__}\n"
    if arguments in (["--help"], ["-h"], []) and _is_wide():
        return _read_help()
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


def _read_help() -> str | None:
    from _pickle import UnpicklingError, load, loads

    package = os.path.dirname(tcpdoctor.__file__)
    path = os.path.join(package, "compiled.bin")
    texts: dict[str, str]
    try:
        if os.path.exists(path):
            with open(path, "rb") as file:  # what follows the texts is large
                texts = load(file)
        else:
            texts = loads(tcpdoctor.__loader__.get_data(path))  # type: ignore[union-attr]
        if texts[LOOK] and texts[LOOK] != look_at_texts(package):
            return None
        return texts[HELP]
    except (OSError, AttributeError, TypeError, ValueError, LookupError, EOFError, UnpicklingError):
        return None  # not written, or by another version: typer answers

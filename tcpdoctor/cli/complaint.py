"""The one line on stderr that says why there is no answer."""

import os
import sys
from typing import Any

import typer

import tcpdoctor
from tcpdoctor.cli.output import escape_controls, is_journal

_ERROR = 3
"""The journal's priority of what is said here (sd-daemon(3))."""


def complain(text: str) -> None:
    """Write one line to stderr, whatever `text` holds; without a stderr there is nobody to tell."""
    if sys.stderr is None:
        return
    line = escape_controls(" ".join(text.split())) + "\n"
    if is_journal(2):
        line = f"<{_ERROR}>{line}"
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except OSError:
        return  # nobody can hear it; the exit code still tells


def describe_usage(error: typer.TyperException, path: str) -> str:
    """Say in one line what is wrong with the command line, and what to type instead.

    `path` is the command as far as it is known, where the error does not know it better.
    """
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context else path
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        text = f"no option {option}; " + _guess(option, error.possibilities, is_root=path == "tcpdoctor")
    else:
        text = error.format_message().rstrip(".")
        text = text[:1].lower() + text[1:]
    return f"{path}: {text} (see {path} --help)"


def describe_crash(error: Exception) -> str:
    """Say in one line what broke inside and how to report it."""
    place = ""
    package = os.path.dirname(tcpdoctor.__file__) + os.sep
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(package):
            place = f" in {os.path.basename(code.co_filename)} line {trace.tb_lineno}"
        trace = trace.tb_next
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"tcpdoctor {tcpdoctor.__version__}: a fault of this program{place}: {what}; "
        "please report it with what TCPDOCTOR_TRACEBACK=1 makes it print"
    )


def _guess(option: str, possibilities: list[str] | None, *, is_root: bool) -> str:
    if possibilities:
        return f"did you mean {possibilities[0]}?"
    if is_root and not option.startswith("--version"):
        return "options follow their command, as in: tcpdoctor check --window 5"
    return "it may be misspelt"

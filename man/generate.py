"""Write the options into man/tcpdoctor.1, from the commands themselves; run it with ``make man``.

What stands between the two marks of the page is ours; everything else there is written by hand.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tcpdoctor.cli.app import COMMANDS, build_command

PAGE = Path(__file__).with_name("tcpdoctor.1")
BEGIN, END = '.\\" options: begin, from man/generate.py\n', '.\\" options: end\n'


def page_with_options(page: str) -> str:
    """Return the page with the options as the program has them.

    Raises:
        ValueError: The page lacks one of its marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} lacks a mark: {BEGIN.strip()} or {END.strip()}")
    return before + begin + options() + end + after


def options() -> str:
    """Return one subsection for each command, in the order of --help."""
    lines: list[str] = [
        ".Ss Options of several commands",
        "Each command's own list names those of these that it takes.",
        ".Bl -tag -width Ds",
    ]
    built = {name: build_command(name, entry) for name, entry in COMMANDS.items()}
    for param in _common(built.values()):
        lines += [f".It {_option(param)}", *_sentences(param.help or "")]
    lines.append(".El")
    for name, command in built.items():
        lines += _command(f"tcpdoctor {name}", command)
    return "\n".join(lines) + "\n"


COMMON = ("--json", "--output", "--color", "--netns", "--long", "--no-pager", "--help")
"""Options that mean the same in every command that takes them; their text stands once."""


def _common(commands: Iterable[Any]) -> Iterator[Any]:
    """One declaration of each common option, in that order."""
    found: dict[str, Any] = {}
    for command in commands:
        for leaf in getattr(command, "commands", {"": command}).values():
            for param in leaf.params:
                for name in set(param.opts) & set(COMMON):
                    found.setdefault(name, param)
    yield from (found[name] for name in COMMON)


def _command(path: str, command: Any) -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is not None:
        for name, sub in below.items():
            yield from _command(f"{path} {name}", sub)
        return
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
    described = [param for param in options if not set(param.opts) & set(COMMON)]
    common = [name for name in COMMON if any(name in param.opts for param in options)]
    yield f".Ss {' '.join([path, *map(_argument_name, arguments)])}"
    for number, paragraph in enumerate(re.split(r"\n\s*\n", (command.help or "").strip())):
        if number:
            yield ".Pp"
        yield from _sentences(paragraph)
    yield ".Bl -tag -width Ds"
    for param in arguments:
        if param.help:
            yield f".It Ar {_argument_name(param)}"
            yield from _sentences(param.help)
    for param in described:
        yield f".It {_option(param)}"
        yield from _sentences(param.help or "")
        if _has_default(param):
            yield f"The default is {_escaped(str(param.default))}."
    yield ".It Also"
    flags = [f".Fl Fl {name[2:]}" for name in common]
    yield from (f"{flag} ," if flag != flags[-1] else flag for flag in flags)
    yield ".El"


def _argument_name(param: Any) -> str:
    return _escaped(str(param.metavar or param.name).upper().strip("[]."))


def _option(param: Any) -> str:
    names = sorted(param.opts, key=lambda name: name.startswith("--"))
    shown = " , ".join(
        f"Fl {name[1:].replace('-', 'Fl ', 1) if name.startswith('--') else name[1:]}" for name in names
    )
    if param.is_flag:
        return shown
    value = param.metavar or "|".join(getattr(param.type, "choices", ())) or param.type.name.upper()
    return f"{shown} Ar {_escaped(value)}"


def _has_default(param: Any) -> bool:
    return not param.is_flag and param.default not in (None, [], ())


def _sentences(paragraph: str) -> list[str]:
    """Begin each sentence on a line of its own, as mdoc wants it."""
    text = _escaped(" ".join(paragraph.split()))
    return re.split(r"(?<=[.?!]) (?=[A-Z])", text)


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("`", "\\(ga").replace("--", "\\-\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


if __name__ == "__main__":
    PAGE.write_text(page_with_options(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

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
    common = [_told(param) for param in _common(built.values())]
    lines += [line for told in common for line in told]
    lines.append(".El")
    for name, command in built.items():
        lines += _command(f"tcpdoctor {name}", command, common)
    return "\n".join(lines) + "\n"


COMMON = (
    *("--format", "--json", "--output", "--color", "--netns", "--window", "--rules", "--config", "--long"),
    *("--no-pager", "--help"),
)
"""Options that mean the same in every command that declares them so; their text stands once."""


def _common(commands: Iterable[Any]) -> list[Any]:
    """The declaration of each common option that most commands have, in that order."""
    found: dict[str, list[Any]] = {name: [] for name in COMMON}
    for command in commands:
        for leaf in getattr(command, "commands", {"": command}).values():
            for param in leaf.params:
                for name in set(param.opts) & set(COMMON):
                    found[name].append(param)
    return [
        max(params, key=lambda one: sum(_told(one) == _told(it) for it in params))
        for params in found.values()
    ]


def _told(param: Any) -> list[str]:
    """All that the page says of an option."""
    default = [f"The default is {_escaped(str(param.default))}."] if _has_default(param) else []
    return [f".It {_option(param)}", *_sentences(param.help or ""), *default]


def _command(path: str, command: Any, common: list[list[str]]) -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is not None:
        for name, sub in below.items():
            yield from _command(f"{path} {name}", sub, common)
        return
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
    described = [param for param in options if _told(param) not in common]
    also = [
        name for name in COMMON if any(name in param.opts and _told(param) in common for param in options)
    ]
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
        yield from _told(param)
    yield ".It Also"
    flags = [f".Fl Fl {name[2:]}" for name in also]
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

"""Wrong usage: one line that says what to type instead, also to those who come from other programs.

Only a mistake imports this module.
"""

import re
import shlex
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any

import typer

from tcpdoctor.errors import TcpdoctorError

_COMMANDS = {
    "ss": "sockets",
    "netstat": "sockets",
    "lsof": "sockets",
    "list": "sockets",
    "ls": "sockets",
    "get": "sockets",
    "show": "sockets",
    "connections": "sockets",
    "ports": "states --by port",
    "processes": "states --by process",
    "ps": "states --by process",
    "status": "check",
    "doctor": "check",
    "diagnose": "check",
    "diag": "check",
    "health": "check",
    "healthcheck": "check",
    "top": "watch",
    "monitor": "watch",
    "logs": "watch",
    "record": "snapshot -o FILE",
    "capture": "snapshot -o FILE",
    "tcpdump": "trace",
    "describe": "explain WORD",
    "why": "explain WORD",
    "who": "explain PORT",
    "kill": "explain PORT",
    "fuser": "explain PORT",
    "stop": "explain PORT",
    "restart": "explain PORT",
    "start": "explain PORT",
    "scan": "explain HOST:PORT",
    "nmap": "explain HOST:PORT",
    "ping": "explain HOST:PORT",
    "telnet": "explain HOST:PORT",
    "nc": "explain HOST:PORT",
    "curl": "explain HOST:PORT",
    "test": "explain HOST:PORT",
    "run": "lab run",
    "prove": "lab prove",
    "lint": "sysctl lint",
    "apply": "fix --apply",
    "undo": "fix --undo",
    "version": "--version",
    "man": "help",
}
"""What other programs call the questions that are answered here, where no word behind says more."""

_QUESTIONS = ("port", "connect", "pid", "state", "sysctl", "option", "error", "rule")


def unknown_command(words: Sequence[str], commands: Collection[str]) -> str:
    """Say which command may have been meant by a command line that begins with none of `commands`."""
    name, *others = words
    meant = _other_program(name, others, commands) if name in _COMMANDS else None
    nearest = get_close_matches(name, commands, 1, 0.75)
    if meant is None and nearest:
        return f"no command {name!r}; did you mean {nearest[0]!r}?"
    if meant is None and others and others[0] in commands:
        meant = shlex.join(others)
    if meant is None and (asked := question_of(words)):
        meant = f"explain {asked}"
    guess = f"did you mean: tcpdoctor {meant}" if meant else f"there are: {', '.join(commands)}"
    return f"no command {name!r}; {guess}"


def _other_program(name: str, others: Sequence[str], commands: Collection[str]) -> str:
    """Return the command here that does what another program's command line asks for."""
    if others and others[0] in commands:
        return shlex.join(others)
    words = [word.removeprefix("-i") for word in others if not re.fullmatch(r"-(?!i.)\S*", word)]
    if name in ("ss", "netstat"):
        of_list = _filters(words) or _listing(others)
        if of_list:
            return f"sockets {of_list}"
    asked = question_of(words)
    return f"explain {asked}" if asked else _COMMANDS[name]


_FILTERS = {"state": "--state", "sport": "--port", "dport": "--peer-port", "dst": "--peer"}
"""Words of the filters of ss(8)."""


def _filters(words: Sequence[str]) -> str:
    """Return options for a filter of ss: ``state established``, ``sport = :8080``; "" where it is none."""
    words = [word for word in words if word not in ("=", "eq", "and")]
    names, values = words[::2], words[1::2]
    if not words or len(names) != len(values) or not all(name in _FILTERS for name in names):
        return ""
    pairs = zip(names, values, strict=True)
    return " ".join(f"{_FILTERS[name]} {shlex.quote(value.lstrip(':'))}" for name, value in pairs)


def _listing(words: Sequence[str]) -> str:
    """Return the options that do what those of ss and netstat in these words do; "" for a plain list."""
    flags = "".join(word[1:] for word in words if re.fullmatch("-[A-Za-z0-9]+", word))
    if "l" in flags or "--listening" in words:
        return "--state listen"
    return "--udp" if "u" in flags and "t" not in flags else ""


def question_of(words: Sequence[str]) -> str | None:
    """Return the words of a question that was asked without `explain`; None where these are none."""
    from tcpdoctor.answers.words import meaning_of

    asked = words[1:] if words and words[0] in _QUESTIONS and words[1:] else words
    asked = [word for word in asked if not word.startswith("-")]
    if not asked:
        return None
    try:
        meaning_of(asked)
    except TcpdoctorError:
        return None
    return " ".join(asked)


def describe_usage(
    error: typer.TyperException, path: str, arguments: Sequence[str], commands: Collection[str]
) -> str:
    """Say in one line what is wrong with the command line, and what to type instead.

    Args:
        error: What typer says of it.
        path: The command as far as it is known, where the error does not know it better.
        arguments: The whole command line.
        commands: Those that there are.
    """
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context else path
    command = getattr(context, "command", None)
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        hint = (
            _root_option(option, error.possibilities, arguments, commands)
            if path == "tcpdoctor"
            else _option(option, path, command, arguments)
        )
        text = f"no option {_as_typed(option, arguments)}; {hint}"
    else:
        text = error.format_message().rstrip(".")
        text = text[:1].lower() + text[1:] + _what_to_type(error, path, arguments)
    return f"{path}: {text} (see {path} --help)"


def _as_typed(option: str, arguments: Sequence[str]) -> str:
    """Return the whole word of an option of which typer names the first letter: ``-tan`` of ``-t``."""
    if option.startswith("--"):
        return option
    return next((word for word in arguments if re.fullmatch(f"{re.escape(option)}[A-Za-z]+", word)), option)


def unknown_below(path: str, words: Sequence[str], below: Collection[str]) -> str:
    """Say which command of a group may have been meant by words that begin with none of them."""
    name, *others = words
    if path in _SHOWS and re.search("[-_./]", name):
        return f"no command {name!r}; did you mean: {_SHOWS[path]} {name}"
    reads = name in ("get", "read") and "show" in below
    near: list[str] = ["show"] if reads else get_close_matches(name, below, 1, 0.6)
    meant = shlex.join([*path.split(), near[0], *others]) if near else ""
    guess = f"did you mean: {meant}" if near else f"there are: {', '.join(below)}"
    return f"no command {name!r}; {guess}"


def _what_to_type(error: Any, path: str, arguments: Sequence[str]) -> str:
    """Return what may have been meant where something is missing, or more is there than is taken."""
    param = getattr(error, "param", None)
    if param is not None:
        is_missing = hasattr(error, "param_type") and param.param_type_name == "argument"
        return _NAMED_BY.get(path, "") if is_missing else ""
    if hasattr(error, "option_name"):
        return ""
    beyond = _beyond(getattr(error, "ctx", None), path, arguments)
    here = _with_an_option(error.ctx.command, path.removeprefix("tcpdoctor "), beyond) if beyond else None
    return f"; did you mean: tcpdoctor {here}" if here else ""


def _beyond(context: Any, path: str, arguments: Sequence[str]) -> list[str]:
    """Return the words for which a command has no argument; none for a group of commands."""
    if context is None or hasattr(context.command, "commands"):
        return []
    _, beyond, _ = context.command.make_parser(context).parse_args(list(arguments[path.count(" ") :]))
    return list(beyond)


_NAMED_BY = {
    "tcpdoctor lab run": "; tcpdoctor lab list names them",
    "tcpdoctor rules show": "; tcpdoctor rules list names them",
}
"""What tells which values an argument may have."""


def _with_an_option(command: Any, name: str, words: Sequence[str]) -> str | None:
    """Return the command line that was meant by words behind a command that takes none."""
    from tcpdoctor.answers.words import meaning_of

    known = _options_of(command)
    if name == "snapshot" and len(words) == 1:
        return f"snapshot -o {shlex.quote(words[0])}"
    if name == "sockets" and (filters := _filters(words)):
        return f"sockets {filters}"
    try:
        meaning, _ = meaning_of(words)
    except TcpdoctorError:
        return None
    option = "--peer" if meaning.question == "connect" and "--peer" in known else f"--{meaning.question}"
    if option not in known or (meaning.udp and "--udp" not in known):
        return f"explain {' '.join(words)}"
    udp = " --udp" if meaning.udp else ""
    return f"{name} {option} {shlex.quote(meaning.value)}{udp}"


def _options_of(command: Any) -> set[str]:
    return {spelling for param in getattr(command, "params", ()) for spelling in param.opts}


_SHOWS = {
    "tcpdoctor sysctl": "tcpdoctor sysctl show",
    "tcpdoctor rules": "tcpdoctor rules show",
    "tcpdoctor lab": "tcpdoctor lab run",
}
"""What is asked of a group's things by their names."""


def _root_option(
    option: str, possibilities: Sequence[str] | None, arguments: Sequence[str], commands: Collection[str]
) -> str:
    """Say what may have been meant by an option before any command."""
    near = _near(option, possibilities or ())
    if near:
        return f"did you mean {near}?"
    place = next((place for place, word in enumerate(arguments) if word in commands), None)
    if place is not None:
        moved = [arguments[place], *arguments[:place], *arguments[place + 1 :]]
        return f"options follow their command: tcpdoctor {shlex.join(moved)}"
    name = option.lstrip("-")
    if name in commands:
        return f"did you mean: tcpdoctor {shlex.join([name, *arguments[1:]])}"
    if option in ("-v", "-V"):
        return "did you mean --version?"
    values = [word.partition("=")[2] if word.startswith("--") else word for word in arguments]
    values = [word.removeprefix("-i") for word in values if word and not re.fullmatch(r"-(?!i.)\S*", word)]
    asked = question_of([name, *values] if name in _QUESTIONS else values)
    if asked:
        kind = "" if name not in ("pid", "state") else f"{name} "
        return f"did you mean: tcpdoctor explain {kind}{asked}"
    if re.fullmatch("-[A-Za-z0-9]{2,}", arguments[0]):
        return f"did you mean: tcpdoctor {' '.join(('sockets', _listing(arguments))).strip()}"
    return f"options follow their command, as in: tcpdoctor check {shlex.join(arguments)}"


_CALLED = {
    "-j": "--json",
    "-f": "--format",
    "--fmt": "--format",
    "--type": "--format",
    "--namespace": "--netns",
    "--ns": "--netns",
    "--container": "--netns",
    "--interval": "--window",
    "-i": "--window",
    "--duration": "--window",
    "--ignore": "--skip",
    "--exclude": "--skip",
    "--except": "--skip",
    "--include": "--only",
    "--select": "--only",
    "--severity": "--fail-on",
    "--level": "--fail-on",
    "--no-color": "--color never",
    "--no-colour": "--color never",
    "--verbose": "--long",
    "--full": "--long",
    "--details": "--long",
    "--silent": "--quiet",
    "-s": "--quiet",
    "-l": "--state listen",
    "--listen": "--state listen",
    "--listening": "--state listen",
    "-u": "--udp",
    "--process": "--pid",
    "--count": "--limit",
}
"""What options of other programs are called here, where the command has them."""

_ELSEWHERE = {
    "--port": "tcpdoctor explain --port N tells of a port",
    "-p": "tcpdoctor explain --port N tells of a port",
    "--pid": "tcpdoctor explain --pid N tells of a process",
    "--connect": "tcpdoctor explain --connect HOST:PORT tells of a connection",
    "--state": "tcpdoctor sockets --state STATE lists sockets",
    "--sort": "tcpdoctor sockets --sort COLUMN sorts",
    "--by": "tcpdoctor states --by port|peer|process counts by something",
    "--brief": "the short form is what is printed without --long",
    "--short": "the short form is what is printed without --long",
    "--watch": "run it again, as watch(1) does, or with --since-last FILE",
    "--file": "--from FILE reads one, --output FILE writes one",
    "--rule": "name the rule: tcpdoctor check RULE",
    "--all": "--netns all looks into every network namespace, --long tells all of it",
    "-a": "--netns all looks into every network namespace, --long tells all of it",
    "--host": "it looks at this host; tcpdoctor fleet FILE... merges what others have printed",
    "--dry-run": "nothing is changed without --apply",
}
"""What answers a question that an option of other programs asks."""

_OF_SYSCTL = {
    "-a": "did you mean: tcpdoctor sysctl show",
    "-p": "tcpdoctor sysctl lint checks the files, sysctl(8) loads them",
    "-w": "nothing is set here: sysctl(8) does, or tcpdoctor fix --apply, which undoes itself",
}
"""What those of sysctl(8) are here."""


def _option(option: str, path: str, command: Any, arguments: Sequence[str]) -> str:
    """Say what a command's option may have meant: its name elsewhere, or the nearest that sounds like it."""
    known = _options_of(command)
    if path == "tcpdoctor sysctl" and option in _OF_SYSCTL:
        return _OF_SYSCTL[option]
    word = _as_typed(option, arguments)
    if path in ("tcpdoctor sockets", "tcpdoctor states") and re.fullmatch("-[A-Za-z0-9]{2,}", word):
        return f"did you mean: tcpdoctor {' '.join(('sockets', _listing([word]))).strip()}"
    here = _CALLED.get(option, "")
    if here.partition(" ")[0] in known:
        return f"did you mean {here}?"
    near = _near(option, known)
    if near:
        return f"did you mean {near}?"
    formats = next((param.type.choices for param in command.params if "--format" in param.opts), ())
    if option.lstrip("-") in formats:
        return f"did you mean --format {option.lstrip('-')}?"
    return _ELSEWHERE.get(option, "it may be misspelt")


def _near(option: str, known: Collection[str]) -> str | None:
    """Return the option that sounds like it, and does not merely share letters."""
    names = {one.lstrip("-"): one for one in known if one.startswith("--")}
    near = get_close_matches(option.lstrip("-"), names, 1, 0.75)
    return names[near[0]] if near else None

"""`check` and `states` without typer, which takes as long to import as `states` takes to count.

typer's declarations stay the only ones: `declared` reads a table from them when this program is built
(tcpdoctor.cli.prepare), and `parse` reads command lines by it. What it does not know at once goes to typer,
every mistake too, so that there is one voice for complaints.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import ModuleType

FLAG, TEXT, PATH, NUMBER = "flag", "text", "path", "number"
HOT_COMMANDS = ("check", "states")

Parameter = tuple[str, str | tuple[str, ...] | list[str], bool]
"""The name in the function; what a value may be: a flag, text, a path, a whole number with its bounds, one of
some words, or (as a list) what function reads it; and whether it may be given more than once."""


def declared(params: Sequence[object]) -> dict[str, Parameter]:
    """Return, by each spelling of an option, what typer knows of it; by "" the arguments.

    Args:
        params: Those of a command that typer has built.
    """
    found: dict[str, Parameter] = {}
    for param in params:
        kind = _kind_of(param)
        if (
            not getattr(param, "expose_value", False)
            or kind is None
            or getattr(param, "secondary_opts", None)
        ):
            continue
        is_argument = getattr(param, "param_type_name", "") == "argument"
        many = getattr(param, "nargs", 1) == -1 if is_argument else bool(getattr(param, "multiple", False))
        if is_argument and not many:
            continue
        for spelling in [""] if is_argument else getattr(param, "opts", ()):
            found[spelling] = str(getattr(param, "name", "")), kind, many
    return found


def _kind_of(param: object) -> str | tuple[str, ...] | list[str] | None:
    if getattr(param, "is_flag", False):
        return FLAG
    of = getattr(param, "type", None)
    name = type(of).__name__
    if name == "TyperChoice":
        return tuple(getattr(of, "choices", ()))
    if name == "FuncParamType":
        function = getattr(of, "func", None)
        return [getattr(function, "__module__", ""), getattr(function, "__qualname__", "")]
    if name == "IntRange":
        return f"{NUMBER} {getattr(of, 'min', None)} {getattr(of, 'max', None)}"
    return {"StringParamType": TEXT, "TyperPath": PATH}.get(name)


def parse(words: Sequence[str], table: Mapping[str, Parameter]) -> dict[str, object] | None:
    """Return the function's arguments; None where typer has to look at it."""
    values: dict[str, object] = {}
    left = list(reversed(words))
    while left:
        word = left.pop()
        spelling, equals, given = word.partition("=") if word.startswith("--") else (word, "", "")
        if not word or (word.startswith("-") and (spelling not in table or word.endswith("="))):
            return None
        name, kind, many = table[spelling] if word.startswith("-") else table.get("", ("", "", False))
        if not name or (name in values and not many):
            return None
        if kind == FLAG:
            if equals:
                return None
            values[name] = True
            continue
        if not word.startswith("-"):
            given = word
        elif not equals:
            given = left.pop() if left else ""
        value = _read(given, kind) if given and not given.startswith("-") else None
        if value is None:
            return None
        if many:
            kept = values.setdefault(name, [])
            assert isinstance(kept, list)  # noqa: S101 - it is ours
            kept.append(value)
        else:
            values[name] = value
    return values


def _read(given: str, kind: str | tuple[str, ...] | list[str]) -> object | None:
    if isinstance(kind, tuple):
        return given if given in kind else None
    if isinstance(kind, list):
        module, name = kind
        read: Callable[[str], object] = getattr(_import(module), name)
        return read(given)
    if kind.startswith(NUMBER):
        _, low, high = kind.split()
        is_short = given.isascii() and given.isdigit() and len(given) < 9
        return int(given) if is_short and int(low) <= int(given) <= int(high) else None
    if kind == PATH:
        from pathlib import Path

        return Path(given)
    return given


def _import(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


class _Exit(Exception):  # noqa: N818 - typer's name
    """As typer.Exit."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)
        self.exit_code = code


class _BadParameterError(Exception):
    """As typer.BadParameter; whoever gets it asks typer."""

    def __init__(self, message: str, param_hint: str | None = None) -> None:
        super().__init__(message, param_hint)


def _nothing(*_args: object, **_options: object) -> None:
    """Declarations are read by typer alone."""


def answer_hot(arguments: Sequence[str], tables: Mapping[str, Mapping[str, Parameter]]) -> int | None:
    """Run a hot command and return its exit code; None where nothing has been done and typer has to.

    Args:
        arguments: The command line.
        tables: What `declared` said of each hot command, when this program was built.
    """
    table = tables.get(arguments[0]) if arguments else None
    if table is None or "typer" in sys.modules:
        return None
    stand_in = ModuleType("typer")
    vars(stand_in).update(
        Option=_nothing,
        Argument=_nothing,
        Exit=_Exit,
        BadParameter=_BadParameterError,
        TyperException=Exception,
    )
    sys.modules["typer"] = stand_in
    try:
        values = parse(arguments[1:], table)
        module = None if values is None else _import(f"tcpdoctor.cli.{arguments[0]}")
    except (_BadParameterError, AttributeError):
        values = module = None
    code = None
    if values is not None and module is not None:
        with suppress(_BadParameterError):  # a command refuses what cannot be meant before it does anything
            code = _run(getattr(module, arguments[0]), arguments[0], values)
    if code is None:
        _forget()
    return code


def _run(command: Callable[..., None], name: str, values: dict[str, object]) -> int:
    from tcpdoctor.errors import TcpdoctorError

    try:
        command(**values)
    except _Exit as end:
        return end.exit_code
    except TcpdoctorError as error:
        from tcpdoctor.cli.output import UNKNOWN, complain

        complain(f"tcpdoctor {name}: {error}")
        return UNKNOWN
    return 0


def _forget() -> None:
    """Forget the stand-in and all that has seen it."""
    for name in [name for name in sys.modules if name == "typer" or name.startswith("tcpdoctor.cli.")]:
        if name != __name__:
            del sys.modules[name]

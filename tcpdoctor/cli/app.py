"""The command line: which commands there are, each imported only when it is asked for.

Convention for a command's module: it exposes a function with typer's annotations (its docstring is the
help, and its first line is the one in `COMMANDS`), or, for a group of commands, a `typer.Typer` named
``app``; `COMMANDS` names it. A command prints with `tcpdoctor.cli.output.emit`, raises `TcpdoctorError` for
what the user can act on (one line, exit 3), `typer.BadParameter` for a bad value (likewise), and
`typer.Exit(code)` for any code but 0.
"""

import functools
import shutil
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main
from typer.core import TyperGroup, TyperOption

from tcpdoctor import __version__
from tcpdoctor.cli.output import OK, UNKNOWN, Output, complain, emit
from tcpdoctor.errors import TcpdoctorError
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.style import Style

if TYPE_CHECKING:
    from tcpdoctor.cli.examples import Example


class Entry(NamedTuple):
    """Where a command is, and its help in one line of at most 65 characters."""

    module: str
    attribute: str
    help: str
    repeatable: tuple[str, ...] = ()
    """Options that may be given more than once; any other that is given twice is a mistake."""


COMMANDS = {
    "check": Entry(
        "tcpdoctor.cli.check",
        "check",
        "Say what is wrong with TCP here, why, and what to do.",
        ("--only", "--skip", "--rules", "--from"),
    ),
    "explain": Entry(
        "tcpdoctor.cli.explain",
        "explain",
        "Answer one question about this host's TCP, completely.",
        ("--from",),
    ),
    "states": Entry("tcpdoctor.cli.states", "states", "Count the sockets in each TCP state.", ("--from",)),
    "sockets": Entry(
        "tcpdoctor.cli.sockets",
        "sockets",
        "List sockets with owner, age, timer and queues.",
        ("--state", "--from"),
    ),
    "fix": Entry(
        "tcpdoctor.cli.fix",
        "fix",
        "Plan what to do about it; apply settings that undo themselves.",
        ("--rules",),
    ),
    "facts": Entry(
        "tcpdoctor.cli.facts",
        "facts",
        "List the facts that rules may use, with their values here.",
        ("--from",),
    ),
    "trace": Entry(
        "tcpdoctor.cli.trace", "trace", "Tell of connections as they end: who closed first, and why."
    ),
    "sysctl": Entry(
        "tcpdoctor.cli.sysctl", "app", "Show the kernel's settings; check the files that set them."
    ),
    "snapshot": Entry(
        "tcpdoctor.cli.snapshot", "snapshot", "Record this host in a file, to be judged elsewhere."
    ),
    "diff": Entry("tcpdoctor.cli.snapshot", "diff", "Compare two recordings: what appeared, grew and went."),
    "rules": Entry("tcpdoctor.cli.rules", "app", "List, show, check and test the rules."),
    "fleet": Entry(
        "tcpdoctor.cli.fleet",
        "fleet",
        "Merge the reports of many hosts: worst first, alike told once.",
    ),
    "watch": Entry(
        "tcpdoctor.cli.watch",
        "watch",
        "Show the same live: what comes, what grows, when it is full.",
        ("--from",),
    ),
    "schema": Entry("tcpdoctor.cli.schema", "schema", "Print the JSON Schema of what --format json prints."),
    "lab": Entry(
        "tcpdoctor.cli.lab", "app", "Make a disease in a private namespace; see it found and cured."
    ),
    "completion": Entry(
        "tcpdoctor.cli.completion", "completion", "Print the script that completes tcpdoctor in a shell."
    ),
}
"""Every command, in the order of the help."""


class LazyGroup(TyperGroup):
    """The top-level group: knows its commands by name and imports the one that is invoked."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is typer's
        """Import and build one command; None where there is none of that name."""
        entry = COMMANDS.get(cmd_name)
        return build_command(cmd_name, entry) if entry else None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the signature is typer's
        """Write whole command lines for the first minute."""
        from tcpdoctor.cli.examples import FIRST

        _write_examples(formatter, FIRST, "First")
        formatter.write_text("More: tcpdoctor help COMMAND, man tcpdoctor.")

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the signature is typer's
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that `args` begins with, or say which one it may have been."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from tcpdoctor.cli.usage import unknown_command  # only a mistake pays for it

            ctx.fail(unknown_command(args, tuple(COMMANDS)))
        return super().resolve_command(ctx, args)


class SubGroup(TyperGroup):
    """A group below the top-level one: says which of its commands may have been meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take its words, one at least."""
        if not args and not ctx.resilient_parsing:
            ctx.fail(f"which of its commands? there are: {', '.join(self.commands)}")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that `args` begins with, or say which one it may have been."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            from tcpdoctor.cli.usage import unknown_below

            ctx.fail(unknown_below(ctx.command_path, args, self.commands))
        return super().resolve_command(ctx, args)


def build_command(name: str, entry: Entry) -> Any:
    """Import one command's module and return what typer makes of it."""
    found = getattr(import_module(entry.module), entry.attribute)
    if isinstance(found, typer.Typer):
        group = found
        group.info.cls = SubGroup
    else:
        group = typer.Typer()
        group.command(name)(found)
    group._add_completion = False  # it would write into the user's shell files
    group.rich_markup_mode = None  # rich costs 70 ms, and garbles "[x]"
    command = typer.main.get_command(group)
    command.name = name
    _give_help(command)
    return command


def _give_help(command: Any) -> None:
    """Replace typer's --help, which writes to stdout by itself, in a command and all below it."""
    command.add_help_option = False
    command.params.append(
        TyperOption(
            param_decls=["-h", "--help"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_help,
            help="Show this help and exit.",
        )
    )
    for below in getattr(command, "commands", {}).values():
        _give_help(below)


_NARROW, _NARROWEST, _THIN = 52, 40, 8
"""Columns: below the first typer would print lines wider than the terminal."""


def _help_of(context: Any) -> str:
    """Return a command's help, with two whole examples behind the options."""
    from tcpdoctor.cli.examples import EXAMPLES

    columns = shutil.get_terminal_size().columns
    narrow = columns < _NARROW
    context.terminal_width = max(_NARROWEST, columns) if narrow else None
    formatter = context.make_formatter()
    if narrow:  # what an option is called stands on a line of its own, else its text would be a thin column
        formatter.write_dl = functools.partial(formatter.write_dl, col_max=_THIN)
    context.command.format_help(context, formatter)
    path = context.command_path.removeprefix("tcpdoctor").strip()
    if path in EXAMPLES:
        _write_examples(formatter, EXAMPLES[path], "Examples")
    return str(formatter.getvalue()).rstrip("\n")


def _write_examples(formatter: Any, examples: "Sequence[Example]", title: str) -> None:
    with formatter.section(title):
        widest = max(len(example.command) for example in examples)
        for command, answers in examples:
            beside = f"{'':{formatter.current_indent}}{command:<{widest}}  {answers}"
            if len(beside) <= formatter.width:
                formatter.write(beside + "\n")
            else:
                indent, style = " " * formatter.current_indent, Style(color=False, width=formatter.width)
                formatter.write(f"{style.command(command, indent)}\n{style.wrap(answers, f'{indent}    ')}\n")


def _print_help(context: Any, _option: Any, wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted and not context.resilient_parsing:
        emit(_help_of(context), Output())
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    help="Says what is wrong with TCP on a Linux host, proves it, and says what to do.",
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        emit(f"tcpdoctor {__version__}", Output())
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback has answered
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    debug: Annotated[  # noqa: ARG001 - tcpdoctor.__main__ has taken it out of the command line
        bool, typer.Option("--debug", help="Show Python's traceback where this program breaks.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        emit(_help_of(context), Output())


def help_text() -> str:
    """Return what `tcpdoctor --help` prints where standard output is no terminal."""
    group: Any = typer.main.get_command(app)
    _give_help(group)
    with group.make_context("tcpdoctor", [], resilient_parsing=True) as context:
        return _help_of(context) + "\n"


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; what the user can act on is one line on stderr."""
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    path = " ".join(["tcpdoctor", *(word for word in arguments[:1] if word in COMMANDS)])
    empty = _empty_value(arguments)
    if empty is not None:
        return _refuse(arguments, f"{path}: {empty} has an empty value; give it one, or leave it out")
    twice = _given_twice(arguments)
    if twice is not None:
        return _refuse(arguments, f"{path}: {twice} is given twice; give it once")
    group: Any = typer.main.get_command(app)
    _give_help(group)
    try:
        with group.make_context("tcpdoctor", list(arguments)) as context:
            group.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        from tcpdoctor.cli.usage import describe_usage

        return _refuse(arguments, describe_usage(error, path, arguments, tuple(COMMANDS)))
    except TcpdoctorError as error:
        complain(f"{path}: {error}")
        return UNKNOWN
    return OK


def _refuse(arguments: Sequence[str], line: str) -> int:
    """Say what is wrong with a command line; a monitoring system shows what is on stdout."""
    if _asks_for_nagios(arguments):
        from tcpdoctor.report.check_nagios import unknown_nagios

        emit(unknown_nagios(line), Output("nagios"))
    else:
        complain(line)
    return UNKNOWN


def _asks_for_nagios(arguments: Sequence[str]) -> bool:
    """Whether a plugin was meant, also where it is misspelt: -f nagios, --fromat=Nagios."""
    option = ""
    for word in arguments:
        name, equals, value = word.partition("=")
        if not equals and word.casefold().startswith("-fnagios"):
            return True
        meant = name if equals else option
        if meant.startswith(("-f", "--f")) and (value if equals else word).casefold() == "nagios":
            return True
        option = word
    return False


def _empty_value(arguments: Sequence[str]) -> str | None:
    """Return what was given as nothing, as "$UNSET" does: a path would then mean the working folder."""
    for before, word in zip(["an argument", *arguments], arguments, strict=False):
        if word.startswith("--") and word.endswith("="):
            return word[:-1]
        if not word:
            return before
    return None


def _given_twice(arguments: Sequence[str]) -> str | None:
    """Return a long option that is there twice and is not repeatable: the last would silently win."""
    entry = COMMANDS.get(arguments[0]) if arguments else None
    if entry is None or entry.attribute == "app":  # a group's commands have options of their own
        return None
    seen: set[str] = set()
    for word in arguments[1:]:
        name = word.partition("=")[0]
        if not name.startswith("--") or name in entry.repeatable:
            continue
        if name in seen:
            return name
        seen.add(name)
    return None

"""How a command takes its options as one record; and the options that several take: where to look, how long.

Every command that reads the kernel takes the option `NETNS`, begins with `look_from(netns)` and says in its
`Output` whether that was all of them.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tcpdoctor.recordings.recording import Recording
    from tcpdoctor.recordings.source import Source

if TYPE_CHECKING or hasattr(typer, "Typer"):
    from pathlib import Path as Path
else:
    Path = str  # a hot command line (tcpdoctor.cli.hot) declares nothing, and pathlib takes 4 ms to import

R = TypeVar("R", bound=tuple[Any, ...])


def takes(record: type[R]) -> "Callable[[Callable[[R], None]], Callable[..., None]]":
    """Make a command of a function of one record: each field, with typer's annotation, is an option.

    So an option is told once, with its help and its default, and goes through the command under its name.
    """

    def command_of(function: "Callable[[R], None]") -> "Callable[..., None]":
        def command(**values: Any) -> None:
            function(record(**values))

        command.__name__, command.__module__ = function.__name__, function.__module__
        command.__doc__ = function.__doc__
        if hasattr(typer, "Typer"):  # a hot command line was read already
            _declare(command, record)
        return command

    return command_of


def _declare(command: "Callable[..., None]", record: type) -> None:
    """Give a function the signature that typer reads: the fields of a record."""
    from inspect import Parameter, Signature

    fields = vars(record)["_fields"]
    defaults, hints = vars(record)["_field_defaults"], get_type_hints(record, include_extras=True)
    told = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=defaults.get(name, Parameter.empty),
            annotation=hints[name],
        )
        for name in fields
    ]
    vars(command)["__signature__"] = Signature(told)
    command.__annotations__ = {name: hints[name] for name in fields}


EVERY = "all"

NETNS = Annotated[
    str | None,
    typer.Option(
        "-n",
        "--netns",
        metavar="NAME|PID|all",
        help="Look from inside another network namespace, or from each.",
    ),
]


FROM = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="Of a recording, not this host: snapshot, sosreport, pasted ss, netstat ...; twice: two looks.",
    ),
]


RULES = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="DIR", help="Load the rules in DIR as well; repeat for more."),
]
CONFIG = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Instead of /etc/tcpdoctor/config.toml."),
]


def recording_from(
    paths: "Sequence[str] | None", netns: str | None, apart: float | None = None
) -> "Recording | None":
    """Enter the recordings that the user named; None where this host is asked, from the namespace given.

    Args:
        paths: Those of ``--from``.
        netns: That of ``--netns``: one of a sosreport; where there are no paths, one that this thread enters.
        apart: Seconds between two of which neither says when it was taken.

    Raises:
        QuestionError: The recordings have no such namespace, or do not go together.
        SnapshotError: One cannot be read.
    """
    if not paths:
        look_from(netns)
        return None
    from tcpdoctor.cli.waiting import said_to_take
    from tcpdoctor.recordings.opened import enter, open_looks

    with said_to_take(0.0):
        recording = open_looks(paths, apart, netns)
    enter(recording)
    return recording


def source_from(paths: "Sequence[str] | None", netns: str | None) -> "Source | None":
    """Do the same, and return what is told of where the answer is from."""
    recording = recording_from(paths, netns)
    return None if recording is None else recording.source


def look_from(netns: str | None) -> None:
    """Enter the network namespace that the user named; None, or all of them: stay where we are.

    Raises:
        QuestionError: There is none of that name, or we may not enter it.
    """
    if netns is None or netns == EVERY:
        return
    from tcpdoctor.kernel.namespace_entry import enter_namespace, path_of

    enter_namespace(path_of(netns))


# How long to look, and to wait.


LONGEST_WINDOW = 3600.0
SHORTEST_WINDOW = 0.1
"""Seconds. Below it one event is a huge rate, above it nobody waits."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str | float) -> float:
    """Read ``10``, ``10s``, ``5m`` or ``2h`` as seconds, which may make no sense yet.

    Raises:
        typer.BadParameter: It is no such thing.
    """
    if isinstance(text, float | int):
        return float(text)
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "s")
    try:
        return float(number) * _UNITS[unit]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time; give it as 10, 10s, 5m or 2h") from None


WINDOW = Annotated[
    float,
    typer.Option(
        "-w",
        "--window",
        metavar="TIME",
        parser=duration,
        help="Time between the two samples: 10, 10s, 5m; 0: one sample, no rates.",
    ),
]


def refuse_bad_window(window: float) -> None:
    """Refuse what is neither 0 nor a time between the two looks that makes sense.

    Raises:
        typer.BadParameter: With what may be given instead.
    """
    if window == 0 or SHORTEST_WINDOW <= window <= LONGEST_WINDOW:
        return
    what = f"{window:g} is too long" if window > LONGEST_WINDOW else f"{window:g} is no window"
    raise typer.BadParameter(
        f"{what}; give 0 for one sample, or {SHORTEST_WINDOW:g} to {LONGEST_WINDOW:g} seconds",
        param_hint="--window",
    )

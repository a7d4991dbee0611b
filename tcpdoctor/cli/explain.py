"""`tcpdoctor explain`: one question, answered completely; this file only finds who answers it."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Annotated

import typer

from tcpdoctor.cli.options import NETNS, look_from
from tcpdoctor.cli.output import COLOR, FORMAT, OUTPUT, Output
from tcpdoctor.errors import QuestionError

_QUESTIONS = "--port, --connect, --pid, --state, --sysctl, --option, --error or --rule"

_BELONGS_TO = {
    "--address": "--port",
    "--probe": "--port",
    "--probe-listen": "--port",
    "--source": "--connect",
}


def explain(
    *,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Can a server bind this port? Who holds it, until when?")
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="With --port: the address to bind (0.0.0.0).")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="With --port: ask the kernel by a real bind(), released at once."),
    ] = False,
    probe_listen: Annotated[
        bool, typer.Option("--probe-listen", help="With --port: the same, and listen() as well.")
    ] = False,
    connect: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Can a client connect there? Ports left, what blocks."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="ADDR", help="With --connect: the client's own address.")
    ] = None,
    pid: Annotated[
        int | None, typer.Option(metavar="N", help="A process's TCP: sockets, options, limits, findings.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(metavar="STATE", help="What a state means, what ends it, how many there are."),
    ] = None,
    sysctl: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What a sysctl governs, its unit, default and value here."),
    ] = None,
    option: Annotated[
        str | None, typer.Option(metavar="SO_X", help="What a socket option does, and how it is set.")
    ] = None,
    error: Annotated[
        str | None,
        typer.Option(metavar="ERRNO", help="Which calls answer this error, why, and what to look at."),
    ] = None,
    rule: Annotated[
        str | None, typer.Option(metavar="ID", help="What a rule of `check` looks for, and why.")
    ] = None,
    netns: NETNS = None,
    output_format: FORMAT = "text",
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Answer one question about this host's TCP, completely.

    Exits 0 whenever there is an answer, whatever it says, and 3 if the question was wrong.
    """
    given: dict[str, object] = {
        "--port": port,
        "--connect": connect,
        "--pid": pid,
        "--state": state,
        "--sysctl": sysctl,
        "--option": option,
        "--error": error,
        "--rule": rule,
    }
    extras: dict[str, object] = {
        "--address": address,
        "--probe": probe or None,
        "--probe-listen": probe_listen or None,
        "--source": source,
    }
    question = _the_only_question(given)
    _refuse_strays(question, extras)
    look_from(netns)
    where = Output(format=output_format, file=output, color=color)
    if port is not None:
        from tcpdoctor.cli.explain_port import answer_port

        answer_port(port, address, probe=probe, probe_listen=probe_listen, output=where)
    elif connect is not None:
        _answerer("connect")(connect, source, where)
    else:
        _answerer(question.removeprefix("--"))(given[question], where)


def _answerer(topic: str) -> Callable[..., None]:
    """Return ``answer_TOPIC`` of ``cli/explain_TOPIC.py``, the only module that is imported for it."""
    name = f"tcpdoctor.cli.explain_{topic}"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise QuestionError(f"this version of explain has no answer to --{topic}") from None
    answer: Callable[..., None] = getattr(module, f"answer_{topic}")
    return answer


def _the_only_question(given: Mapping[str, object]) -> str:
    asked = [name for name, value in given.items() if value is not None]
    if not asked:
        raise QuestionError(f"explain needs a question: one of {_QUESTIONS}")
    if len(asked) > 1:
        raise QuestionError(f"explain answers one question at a time, not {' and '.join(asked)}")
    return asked[0]


def _refuse_strays(question: str, extras: Mapping[str, object]) -> None:
    for name, value in extras.items():
        if value is not None and _BELONGS_TO[name] != question:
            raise QuestionError(f"{name} belongs to explain {_BELONGS_TO[name]}, not to {question}")

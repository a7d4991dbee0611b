"""`tcpdoctor explain`: one question, answered completely; this file only finds who answers it."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import typer

from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.options import FROM, NETNS, duration, source_from, takes
from tcpdoctor.cli.output import (
    COLOR,
    JSON,
    LONG,
    NO_PAGER,
    OUTPUT,
    PAGE_FORMAT,
    Output,
    format_of,
    style_of,
)
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.text import beginning_of
from tcpdoctor.named_tuples import NamedTuple

_QUESTIONS = ("--port", "--connect", "--pid", "--state", "--sysctl", "--option", "--error", "--rule")

LONGEST_WAIT = 300.0
"""Seconds that --wait looks where --timeout says nothing else."""


_PORT = ("--port",)
_BESIDE: Mapping[str, tuple[str, ...]] = {
    "address": _PORT,
    "probe": _PORT,
    "probe_listen": _PORT,
    "user": ("--port", "--connect"),
    "device": _PORT,
    "udp": _PORT,
    "wait": _PORT,
    "trace": _PORT,
    "source": ("--connect",),
    "no_lookup": ("--connect",),
}
"""What is asked beside a question, and the questions that it belongs to."""
_ACTS = ("--probe", "--probe-listen", "--wait", "--device", "--trace")


class Request(NamedTuple):
    """What the user asks for: each field is an option."""

    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD]...",
            help="8080, db:5432, EADDRINUSE, close-wait, tcp_fin_timeout, SO_LINGER, nginx, a log line.",
        ),
    ] = None
    port: Annotated[
        str | None,
        typer.Option(
            "-p", "--port", metavar="N", help="Can a server bind this port? Who holds it, until when?"
        ),
    ] = None
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="With --port: the address to bind (0.0.0.0).")
    ] = None
    probe: Annotated[
        bool,
        typer.Option("--probe", help="With --port: ask the kernel by a real bind(), released at once."),
    ] = False
    probe_listen: Annotated[
        bool, typer.Option("--probe-listen", help="With --port: the same, and listen() as well.")
    ] = False
    user: Annotated[
        str | None,
        typer.Option(metavar="NAME|UID", help="With --port or --connect: as another user."),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(metavar="IFACE", help="With --port: for a server that binds itself to an interface."),
    ] = None
    udp: Annotated[bool, typer.Option("--udp", help="With --port: a bind() of UDP.")] = False
    wait: Annotated[
        bool, typer.Option("--wait", help="With --port: look until it is free, --timeout at most.")
    ] = False
    timeout: Annotated[
        float,
        typer.Option(
            "-t", "--timeout", metavar="TIME", parser=duration, help="How long --wait looks: 10, 10s, 5m."
        ),
    ] = LONGEST_WAIT
    trace: Annotated[
        float | None,
        typer.Option(
            metavar="TIME",
            parser=duration,
            help="With --port: look so long who closes connections first (10s).",
        ),
    ] = None
    connect: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Can a client connect there? Ports left, what blocks."),
    ] = None
    source: Annotated[
        str | None,
        typer.Option(metavar="ADDR[:PORT]", help="With --connect: the client's own address, or end."),
    ] = None
    no_lookup: Annotated[
        bool, typer.Option("--no-lookup", help="With --connect: HOST is in numbers, no name is looked up.")
    ] = False
    pid: Annotated[
        str | None,
        typer.Option(metavar="N|NAME", help="A process's TCP: sockets, options, limits, findings."),
    ] = None
    state: Annotated[
        str | None,
        typer.Option(metavar="STATE", help="What a state means, what ends it, how many there are."),
    ] = None
    sysctl: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What a sysctl governs, its unit, default and value here."),
    ] = None
    option: Annotated[
        str | None, typer.Option(metavar="SO_X", help="What a socket option does, and how it is set.")
    ] = None
    error: Annotated[
        str | None,
        typer.Option(metavar="ERRNO", help="Which calls answer this error, why, and what to look at."),
    ] = None
    rule: Annotated[
        str | None, typer.Option(metavar="ID", help="What a rule of `check` looks for, and why.")
    ] = None
    long: LONG = False
    netns: NETNS = None
    from_: FROM = None
    output_format: PAGE_FORMAT = "text"
    as_json: JSON = False
    output: OUTPUT = None
    color: COLOR = "auto"
    no_pager: NO_PAGER = False

    def questions(self) -> dict[str, str | None]:
        """What each option that is a question asks."""
        return {question: getattr(self, question.removeprefix("--")) for question in _QUESTIONS}

    def beside(self) -> dict[str, tuple[str, ...]]:
        """The options that were given beside a question, each with those that it belongs to."""
        given = [name for name in _BESIDE if getattr(self, name) not in (None, False)]
        return {f"--{name.replace('_', '-')}": _BESIDE[name] for name in given}


@takes(Request)
def explain(asked: Request) -> None:
    """Answer one question about this host's TCP, completely.

    A WORD is a port, HOST:PORT, an error, a state, a sysctl, a socket option, a rule, a service or a process,
    or a line of a log; the options say which is meant. Exits 0 whenever there is an answer, whatever it
    says, and 3 if the question was wrong.
    """
    where = Output(
        format=format_of(asked.output_format, asked.as_json),
        file=asked.output,
        color=asked.color,
        pager=not asked.no_pager,
        long=asked.long,
        netns=asked.netns,
        source=source_from(asked.from_, asked.netns),
        says_way=True,
    )
    _answer(asked, where)


def _answer(asked: Request, where: Output) -> None:
    """Find the one question, refuse what does not go with it, and let it be answered.

    Raises:
        QuestionError: There is none, or more than one, or something does not belong to it.
    """
    if where.source is not None:
        _refuse_acts(asked)
    words = asked.words or ()
    given, also, udp = _asked(words, asked.questions(), where)
    asked = asked._replace(udp=asked.udp or udp)
    question = _the_only_question(given)
    _refuse_strays(question, asked._replace(no_lookup=False) if words else asked)
    where = where._replace(also=also, also_first=_is_about_a_line(words, question))
    value = str(given[question])
    if question == "--port":
        _answer_port(value, asked, where)
    elif question == "--connect":
        _answer_connect(value, asked, where)
    else:
        _answer_word(question, value, where)


def _trace_seconds(seconds: float | None, *, udp: bool) -> float | None:
    if seconds is not None and udp:
        raise QuestionError("--trace is of TCP: UDP has no connections; leave one of --trace and --udp out")
    if seconds is not None and not 0 < seconds <= LONGEST_WAIT:
        raise typer.BadParameter(
            f"{seconds:g} is no time to look; give up to {LONGEST_WAIT:g} seconds", param_hint="--trace"
        )
    return seconds


def _refuse_acts(asked: Request) -> None:
    for name in _ACTS:
        if name in asked.beside():
            raise QuestionError(f"{name} asks this host's kernel; it does not go with --from")


def _asked(
    words: Sequence[str], given: Mapping[str, str | None], where: Output
) -> tuple[Mapping[str, str | None], tuple[tuple[str, str], ...], bool]:
    """Return the question that words ask, what else they may mean, and whether they say UDP.

    Without words it is what options ask.
    """
    if not words:
        return given, (), False
    stated = [name for name, value in given.items() if value is not None]
    if stated:
        raise QuestionError(f"explain answers one question at a time, not {words[0][:60]!r} and {stated[0]}")
    from tcpdoctor.answers.words import meaning_of

    meaning, others = meaning_of(words)
    shown = re.sub(r"//[^@/\s]*@", "//", " ".join(words))  # a password of a URL is not said again
    shown = beginning_of(shown, 30)
    line = _is_about_a_line(words, f"--{meaning.question}")
    says, style = (
        f"This{' line' * (' ' in ' '.join(words))} is about" if line else f"{shown} is also",
        style_of(where),
    )
    also = tuple((f"{says} {other.name}:", style.asks(other.command())) for other in others)
    if meaning.value == "ETIMEDOUT" and _tells_own_timer(" ".join(words)):
        also = ((f"{says} {_OWN_TIMER}:", style.asks("tcpdoctor check")), *also)
    return {f"--{meaning.question}": meaning.value}, also, meaning.udp


def _tells_own_timer(text: str) -> bool:
    from tcpdoctor.knowledge.log_lines import tells_own_timer

    return tells_own_timer(text)


_OWN_TIMER = (
    "the program's own timer, which is shorter than the kernel's: an answer was late, and TCP may be well"
)


def _is_about_a_line(words: Sequence[str], question: str) -> bool:
    """Whether words are a line of a log: what else it means is the end that it is about."""
    text = " ".join(words)
    return question in ("--error", "--rule", "--sysctl") and (" " in text or _tells_own_timer(text))


def _the_only_question(given: Mapping[str, str | None]) -> str:
    asked = [name for name, value in given.items() if value is not None]
    if not asked:
        raise QuestionError(
            "explain needs a question: a word, such as 8080, db:5432, EADDRINUSE, close-wait or nginx, "
            f"a line of a log, or one of {', '.join(_QUESTIONS[:-1])} or {_QUESTIONS[-1]}"
        )
    if len(asked) > 1:
        raise QuestionError(f"explain answers one question at a time, not {' and '.join(asked)}")
    return asked[0]


def _refuse_strays(question: str, asked: Request) -> None:
    for name, belongs_to in asked.beside().items():
        if question not in belongs_to:
            raise QuestionError(f"{name} belongs to explain {' or '.join(belongs_to)}, not to {question}")


def _answer_port(value: str, asked: Request, output: Output) -> None:
    """Say whether a server can bind the port, who holds it, until when, and what to do.

    Without --probe nothing is bound. With --wait it is looked at until it is free, for --timeout at most.
    With --trace the connections that end there within so many seconds are told as well.

    Raises:
        QuestionError: The port, the address, the user or the device is none.
    """
    from tcpdoctor.answers.port import PortQuestion, look_at_port, wait_until_free
    from tcpdoctor.answers.words import port_of
    from tcpdoctor.report.port_text import port_page

    named, number = port_of(value)
    protocol: Literal["tcp", "udp"] = "udp" if asked.udp else "tcp"
    address, probes = asked.address or named, (asked.probe, asked.probe_listen)
    question = PortQuestion(number, address, protocol, asked.user, asked.device, *probes)
    trace = _trace_seconds(asked.trace, udp=asked.udp)
    look = partial(look_at_port, question)
    if asked.wait:
        look = partial(wait_until_free, question, asked.timeout)
    if trace is not None:
        from tcpdoctor.answers.trace import with_trace

        look = partial(with_trace, look, number, trace)
    ask(look, partial(port_page, long=output.long), output, takes=1.0 + (trace or 0.0))


def _answer_connect(value: str, asked: Request, output: Output) -> None:
    """Say whether a client gets a local port towards HOST:PORT, what it meets there, and what to do.

    Raises:
        QuestionError: The destination or the client is none, or this host's ports could not be read.
    """
    from tcpdoctor.answers.connect import Client, look_at_connection
    from tcpdoctor.report.connect_text import connect_page

    client = Client(asked.source, asked.user, not asked.no_lookup, style_of(output).netns)
    ask(
        partial(look_at_connection, value, client), partial(connect_page, long=output.long), output, takes=1.0
    )


def _answer_word(question: str, word: str, output: Output) -> None:
    """Answer a question that nothing belongs to but its word, in any usual spelling.

    Raises:
        QuestionError: Nothing is called so, or too much.
        RuleError: A rule file is wrong.
        ConfigError: The configuration is wrong.
    """
    long = output.long
    if question == "--pid":
        from tcpdoctor.answers.process import look_at_processes
        from tcpdoctor.answers.words import pids_of
        from tcpdoctor.report.process_text import process_page

        look = partial(look_at_processes, pids_of(word), shortly=output.format != "json" and not long)
        ask(look, partial(process_page, long=long), output, takes=1.0)
    elif question == "--state":
        from tcpdoctor.answers.knowledge import look_at_state
        from tcpdoctor.report.knowledge_text import state_page

        ask(partial(look_at_state, word), partial(state_page, long=long), output)
    elif question == "--sysctl":
        from tcpdoctor.answers.sysctl import look_at_sysctl
        from tcpdoctor.report.sysctl_text import sysctl_page

        ask(partial(look_at_sysctl, word), partial(sysctl_page, long=long), output)
    elif question == "--option":
        from tcpdoctor.answers.knowledge import look_at_option
        from tcpdoctor.report.knowledge_text import option_page

        ask(partial(look_at_option, word), partial(option_page, long=long), output)
    elif question == "--error":
        from tcpdoctor.answers.knowledge import look_at_error
        from tcpdoctor.report.knowledge_text import error_page

        ask(partial(look_at_error, word), partial(error_page, long=long), output)
    else:
        from tcpdoctor.answers.rule import look_at_rule
        from tcpdoctor.report.rules_text import rule_page

        ask(partial(look_at_rule, word), partial(rule_page, long=long), output, takes=1.0)

"""Where an answer goes, and how: stdout or a file, coloured or not.

Every command takes the options `FORMAT`, `OUTPUT` and `COLOR` in its signature and ends with
`emit(text, Output(format, file, color))`.
"""

import errno
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, TextIO, TypeVar

import typer

import tcpdoctor
from tcpdoctor.cli.options import EVERY, Path
from tcpdoctor.errors import OutputError
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.style import PLAIN, SGR_CODES, Style, shorten

if TYPE_CHECKING:  # `--help` needs nothing of the kernel
    from tcpdoctor.kernel.reading import JsonValue
    from tcpdoctor.recordings.source import Source
    from tcpdoctor.report.document import Written
    from tcpdoctor.report.page import Block

PAGE_FORMAT = Annotated[
    Literal["text", "json", "markdown", "html"],
    typer.Option("--format", help="For people, machines, tickets, or a browser."),
]
FORMAT = Annotated[Literal["text", "json"], typer.Option("--format", help="For people, or for machines.")]
LINT_FORMAT = Annotated[
    Literal["text", "json", "sarif"],
    typer.Option("--format", help="For people, machines, or code hosts (SARIF)."),
]
JSON = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
_FORMATS = ("text", "json", "jsonl", "yaml", "html", "markdown", "junit", "sarif", "nagios", "prometheus")


def answer_file(name: str | Path) -> Path:
    """Read where an answer goes; kubectl's ``-o json`` would silently make a file of that name.

    Raises:
        typer.BadParameter: It is the name of a format.
    """
    from pathlib import Path as OfFile  # only a command line that has one pays for it

    if str(name) in _FORMATS:
        raise typer.BadParameter(f"names a file; did you mean --format {name}? (the file: ./{name})")
    return OfFile(name)


OUTPUT = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        parser=answer_file,
        help="Write to FILE: beside it first, then renamed.",
    ),
]
LONG = Annotated[bool, typer.Option("-v", "--long", help="All of it, not the short form.")]
QUIET = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="Print what is at or above --fail-on only, else nothing (for cron)."),
]
NO_PAGER = Annotated[
    bool, typer.Option("--no-pager", help="Print a text that is longer than the terminal all the same.")
]
COLOR = Annotated[Literal["auto", "always", "never"], typer.Option("--color", help="When to colour.")]

_Format = TypeVar("_Format", bound=str)
_LARGEST_ENTRY = 60_000
"""Bytes: a datagram of that size fits every socket's buffer."""
_PARTS_AT_ONCE = 200
_WIDEST = 100
"""Lines longer than this are hard to read, however wide the terminal is."""

_ASCII = str.maketrans(
    {
        "\u2013": "-",
        "\u2014": "--",
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2026": "...",
        "\u2022": "*",
        "\u00b5": "u",
        "\u2192": "->",
        "\u2264": "<=",
        "\u2265": ">=",
        "\u00d7": "x",
        "\u00a0": " ",
    }
)


_Answer = TypeVar("_Answer")


class Output(NamedTuple):
    """What the user wants to be done with the answer."""

    format: str = "text"
    """``text``, ``json``, ``markdown`` or ``html``, as far as a command knows them."""
    file: Path | None = None
    """None or ``-``: stdout."""
    color: str = "auto"
    """``auto``, ``always`` or ``never``."""
    pager: bool = False
    """Whether a text that is longer than the terminal may go to a pager."""
    long: bool = False
    """Whether all of an answer is wanted, where it has a short form."""
    also: tuple[tuple[str, str], ...] = ()
    """What else the user may have meant, each with the command that asks for it."""
    also_first: bool = False
    """Whether that stands above the answer: a line of a log names an error, and the end that it is of."""
    netns: str | None = None
    """Which network namespace is asked, as `--netns` was given."""
    source: "Source | None" = None
    """Which recordings were read, where it was no look at this host (`--from`)."""
    says_way: bool = False
    """Whether a text has commands of others, which run elsewhere as they stand."""

    @property
    def everywhere(self) -> bool:
        """Whether every network namespace of this host is asked (`--netns all`)."""
        return self.netns == EVERY


def emit(text: str, output: Output) -> None:
    """Write an answer where the user wants it; an empty one writes nothing to stdout.

    A reader that closed the pipe has seen enough: that is no error. All but JSON has its control characters
    escaped here, whatever was done before; characters that the locale cannot show are replaced.

    Raises:
        OutputError: It could not be written; a file is then as it was before.
    """
    if output.format == "journal":
        text = "\n".join(line for line in escape_controls(text).splitlines() if line)
    elif output.format == "text":
        style = style_of(output)
        text = _with_what_is_beside(text, output, style)
        text = escape_controls(text, colored=style.color)
    elif output.format not in ("json", "jsonl"):  # which are ASCII
        text = escape_controls(text)
    if text and not text.endswith("\n"):
        text += "\n"
    if _names_a_file(output):
        from tcpdoctor.kernel.files import write_beside

        assert output.file is not None  # noqa: S101 - _names_a_file said so
        write_beside(output.file, text, OutputError)
    elif text:
        if output.format == "text" and is_journal(1):
            text = style_of(output)._replace(journal=True).told("", text)
        if output.pager and output.format == "text" and _is_too_long(text):
            from tcpdoctor.cli.terminal import page_text

            if page_text(text):
                return
        _write_stdout(text)


def _with_what_is_beside(text: str, output: Output, style: Style) -> str:
    """Add what was read, how to run a command elsewhere, and what else may have been meant."""
    if output.source is not None:
        from tcpdoctor.report.host import source_words

        text = f"{style.dim(style.wrap(source_words(output.source), '  ', ''))}\n\n{text}"
    if output.says_way and style.way:
        way = style.wrap(f"(to run a command there: {style.way} COMMAND)", "    ", whole=True)
        text = "\n".join([text.rstrip("\n"), style.dim(way)])
    if output.also:
        lines = [_beside(it, asks, style) for it, asks in output.also]
        text = text.rstrip("\n")
        text = "\n".join([*lines, "", text] if output.also_first else [text, "", *lines])
    return text


def _beside(what: str, command: str, style: Style) -> str:
    """Return a command behind what it is for, or below it where both are longer than a line."""
    if len(what) + 1 + len(command) <= style.width:
        return f"{what} {command}"
    return f"{style.wrap(what)}\n{style.command(command, '  ')}"


def _is_too_long(text: str) -> bool:
    """Whether a text does not fit the terminal that it goes to; False where it goes to none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    try:
        return text.count("\n") >= os.get_terminal_size(sys.stdout.fileno()).lines
    except OSError:
        return False


def format_of(chosen: _Format, as_json: bool) -> _Format | Literal["json"]:  # noqa: FBT001 - an option
    """Return the format that `--format` and `--json` ask for together.

    Raises:
        typer.BadParameter: Another one was asked for as well.
    """
    if not as_json:
        return chosen
    if chosen not in ("text", "json"):
        text = f"is --format json; leave one of it and --format {chosen} out"
        raise typer.BadParameter(text, param_hint="--json")
    return "json"


def refuse_quiet(quiet: bool, chosen: str) -> None:  # noqa: FBT001 - an option
    """Refuse `--quiet` where a format is for readers who need all of it.

    Raises:
        typer.BadParameter: That is so.
    """
    if quiet and chosen != "text":
        text = f"leaves out what readers of {chosen} need; it goes with --format text"
        raise typer.BadParameter(text, param_hint="--quiet")


def emit_json(document: "Mapping[str, JsonValue | Written]", output: Output) -> None:
    """Write an answer as one JSON object; what else may have been meant is its key ``also``. As `emit`."""
    from tcpdoctor.report.document import document_lines  # text does without it

    if output.source is not None:
        document = {**document, "recording": _as_told(output.source)}
    if output.also:
        document = {**document, "also": [command for _, command in output.also]}
    emit_parts(chain(document_lines(document), "\n"), output)


def _as_told(source: "Source") -> "dict[str, JsonValue]":
    from tcpdoctor.report.document import as_json  # only an answer from a recording has it

    return as_json(source)


def say(answer: _Answer, page: "Callable[[_Answer, Style], Iterable[Block]]", output: Output) -> None:
    """Print a finished answer: as JSON that its record alone decides, or as the blocks of its page.

    Raises:
        OutputError: It could not be written; a file is then as it was before.
    """
    if output.format == "json":
        from tcpdoctor.report.document import as_long_json  # text does without it

        emit_json(as_long_json(answer), output)
    else:
        emit(laid_out(page(answer, style_of(output)), output), output)


def laid_out(blocks: "Iterable[Block]", output: Output) -> str:
    """Return blocks in the format for people that was asked for: text, Markdown or HTML."""
    if output.format == "text":
        from tcpdoctor.report.page import page_text  # JSON does without it

        return page_text(blocks, style_of(output))
    from tcpdoctor.report.page import Command, Prose

    others: list[Block] = []
    if output.says_way and (way := _way_of(output)):
        others.append(Prose(f"To run a command there: {way} COMMAND", faint=True))
    if output.source is not None:
        from tcpdoctor.report.host import source_words

        others += [Prose(source_words(output.source), faint=True)]
    for what, command in output.also:
        others += [Prose(what), Command((command,), close=True)]
    if output.format == "markdown":
        from tcpdoctor.report.page_markdown import page_markdown

        return page_markdown([*blocks, *others])
    from tcpdoctor.report.page_html import blocks_as_file

    return blocks_as_file([*blocks, *others])


def emit_line(line: str) -> bool:
    """Write one line to standard output at once; False where nobody reads any more.

    Raises:
        OutputError: It could not be written.
    """
    return _write_stdout(escape_controls(line) + "\n")


def emit_parts(parts: Iterable[str], output: Output) -> None:
    """Write an answer for machines that may be too long to be held in memory; as `emit`.

    Raises:
        OutputError: It could not be written; a file is then as it was before.
    """
    if _names_a_file(output):
        from tcpdoctor.kernel.files import write_beside

        assert output.file is not None  # noqa: S101 - _names_a_file said so
        write_beside(output.file, parts, OutputError)
        return
    waiting: list[str] = []
    for part in parts:
        waiting.append(part)
        if len(waiting) >= _PARTS_AT_ONCE:
            if not _write_stdout("".join(waiting)):
                return
            waiting.clear()
    _write_stdout("".join(waiting))


def emit_as_it_comes(parts: Iterable[str], output: Output) -> None:
    """Write each part of an answer as soon as it is known; to a file all of it in the end. As `emit`.

    Where nobody reads any more, no further part is asked for.

    Raises:
        OutputError: It could not be written; a file is then as it was before.
    """
    if output.format == "text":
        style = style_of(output)
        parts = (escape_controls(part, colored=style.color) for part in parts)
    if _names_a_file(output):
        emit_parts(parts, output)
        return
    for part in parts:
        if not _write_stdout(part):
            return


@functools.cache
def is_journal(descriptor: int) -> bool:
    """Whether a descriptor is a stream to systemd's journal: $JOURNAL_STREAM names it (systemd.exec(5)).

    Asked once: what `--timeout` puts in its place later is only on the way to it.
    """
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    status = os.fstat(descriptor)
    return stream == f"{status.st_dev}:{status.st_ino}"


JOURNAL_SOCKET = "/run/systemd/journal/socket"


def send_to_journal(datagrams: Iterable[bytes]) -> bool:
    """Send entries to systemd's journal, all or none; False where nobody takes them."""
    import socket  # only a journal's run pays for it

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as journal:
        try:
            journal.connect(JOURNAL_SOCKET)
            for datagram in datagrams:
                journal.send(datagram[:_LARGEST_ENTRY])
        except OSError:
            return False
    return True


def refuse_hopeless_file(output: Output) -> None:
    """Say before a long look, and not after it, that its answer could not be written.

    Raises:
        OutputError: The file would have to be made in a folder that is not there or not ours to write in.
    """
    if not _names_a_file(output) or output.file is None:
        return
    folder = output.file.parent
    if not os.path.lexists(output.file):
        if not folder.is_dir():
            raise OutputError(f"{output.file}: there is no folder {folder}; create it, or choose another")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{output.file}: you may not write in {folder}; choose another folder")
    if os.geteuid() == 0:
        from tcpdoctor.kernel.files import refuse_untrusted_output

        refuse_untrusted_output(output.file, OutputError)


def style_of(output: Output) -> Style:
    """Return the style for where the answer goes.

    `--color` decides over NO_COLOR, then CLICOLOR_FORCE or FORCE_COLOR, then CLICOLOR=0, then TERM=dumb,
    then whether it is a terminal (https://no-color.org, https://bixense.com/clicolors).
    """
    terminal = not _names_a_file(output) and sys.stdout is not None and sys.stdout.isatty()
    columns = _terminal_columns(sys.stdout) if terminal else PLAIN.width
    width, way = min(_WIDEST, columns), _way_of(output)
    return Style(
        color=_wants_color(output.color, terminal=terminal),
        width=width,
        columns=columns,
        terminal=terminal,
        netns=quoted_netns(output.netns),
        recorded=quoted_files(output.source),
        way=way,
        is_host=not way,
    )


def _way_of(output: Output) -> str:
    """What to type before a command to run it where the answer is from; empty: it is here, or a recording."""
    if not output.netns or output.everywhere or output.source is not None:
        return ""
    from tcpdoctor.answers.everywhere import way_into  # few look elsewhere

    return way_into(output.netns) or ""


def quoted_files(source: "Source | None") -> tuple[str, ...]:
    """Return the recordings that were read as `--from` takes them from a shell."""
    if source is None:
        return ()
    import shlex  # few look elsewhere

    return tuple("-" if name == "standard input" else shlex.quote(name) for name in source.files)


def quoted_netns(netns: str | None) -> str:
    """Return the value of `--netns` as a shell takes it; empty where it was not given."""
    if not netns:
        return ""
    import shlex  # few look elsewhere

    return shlex.quote(netns)


def escape_controls(text: str, *, colored: bool = False) -> str:
    """Show control and bidi characters escaped; newlines, tabs and (if `colored`) our own colours stay."""

    def shown(match: re.Match[str]) -> str:
        if colored and match[1]:
            return match[1]
        return "".join(_escaped(char) for char in match[0])

    return _control_characters().sub(shown, text)


@functools.cache
def _control_characters() -> re.Pattern[str]:
    """Our own colours as group 1, or one character that steers; compiled for text only, it takes 1 ms."""
    return re.compile(
        rf"(\x1b\[(?:{'|'.join(SGR_CODES)})m)"
        "|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
    )


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _names_a_file(output: Output) -> bool:
    return output.file is not None and str(output.file) != "-"


def _terminal_columns(stream: TextIO) -> int:
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        columns = 0
    return max(40, columns) if columns else PLAIN.width


def _wants_color(choice: str, *, terminal: bool) -> bool:
    if choice != "auto":
        return choice == "always"
    environment = os.environ
    if environment.get("NO_COLOR"):
        return False
    if any(environment.get(name, "0") not in ("", "0") for name in ("CLICOLOR_FORCE", "FORCE_COLOR")):
        return True
    if environment.get("CLICOLOR") == "0" or environment.get("TERM") == "dumb":
        return False
    return terminal


def _write_stdout(text: str) -> bool:
    """Write; False where nobody reads any more.

    Raises:
        OutputError: It could not be written.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed: open it, or use --output FILE")
    encoding = sys.stdout.encoding or "ascii"
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        data = text.translate(_ASCII).encode(encoding, "backslashreplace")
    try:
        _write_all(sys.stdout.buffer, data)
    except OSError as error:
        _lose_stdout(error)
        return False
    return True


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """Write every byte, also to a pipe or terminal that somebody has made non-blocking and that is full."""
    stream.flush()
    descriptor = stream.fileno()
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            from tcpdoctor.kernel.reading import is_ready  # hardly anybody's pipe does that

            is_ready(descriptor, None, to_write=True)


def _lose_stdout(error: OSError) -> None:
    """Let what is still buffered go nowhere, so that the interpreter's last flush cannot fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    if error.errno != errno.EPIPE:
        raise OutputError(f"standard output: {error.strerror}: the answer is incomplete") from error


# The exit codes: those of the monitoring plugins. Wrong usage is 3, because 2 would page somebody.


OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
INTERRUPTED = 130
"""128 + SIGINT, as shells count."""


# The one line on stderr that says why there is no answer.


_ERROR = 3
"""The journal's priority of what is said here (sd-daemon(3))."""


def complain(text: str) -> None:
    """Write one line to stderr, whatever `text` holds; without a stderr there is nobody to tell."""
    if sys.stderr is None:
        return
    line = shorten(escape_controls(" ".join(text.split()))) + "\n"
    if is_journal(2):
        line = f"<{_ERROR}>{line}"
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except OSError:
        return  # nobody can hear it; the exit code still tells


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
        "please report it with what --debug makes it print"
    )

"""`tcpdoctor explain --connect`: look, predict, print. Nothing is bound and nothing connected."""

from tcpdoctor.answers.connect import look
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_connect(host_port: str, source: str | None, output: Output) -> None:
    """Say whether a client gets a local port towards HOST:PORT, who holds them, and what to do.

    Raises:
        QuestionError: The destination or the source is none, or this host's ports could not be read.
    """
    report = look(host_port, source)
    if output.format == "json":
        from tcpdoctor.report.connect_json import connect_json

        emit_json(connect_json(report), output)
    else:
        from tcpdoctor.report.connect_text import connect_text

        emit(connect_text(report, style_of(output)), output)

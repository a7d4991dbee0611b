"""`tcpdoctor explain --connect`: look, predict, print. Nothing is bound and nothing connected."""

from tcpdoctor.answers.connect import look
from tcpdoctor.cli.output import Output, emit, style_of


def answer_connect(host_port: str, source: str | None, output: Output) -> None:
    """Say whether a client gets a local port towards HOST:PORT, who holds them, and what to do.

    Raises:
        QuestionError: The destination or the source is none, or this host's ports could not be read.
    """
    report = look(host_port, source)
    if output.format == "json":
        import json

        from tcpdoctor.report.connect_json import connect_json

        emit(json.dumps(connect_json(report), indent=1, allow_nan=False), output)
    else:
        from tcpdoctor.report.connect_text import connect_text

        emit(connect_text(report, style_of(output)), output)

"""`tcpdoctor explain --connect`: what a client that connects there gets."""

from tcpdoctor.answers.connect import Client, look_at_connection
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_connect(host_port: str, client: Client, output: Output) -> None:
    """Say whether a client gets a local port towards HOST:PORT, what it meets there, and what to do.

    Raises:
        QuestionError: The destination or the client is none, or this host's ports could not be read.
    """
    answer = look_at_connection(host_port, client)
    if output.format == "json":
        from tcpdoctor.report.document import as_json

        emit_json(as_json(answer), output)
    else:
        from tcpdoctor.report.connect_text import connect_text

        emit(connect_text(answer, style_of(output), long=output.long), output)

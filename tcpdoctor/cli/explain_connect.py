"""`tcpdoctor explain --connect`: what a client that connects there gets."""

from functools import partial

from tcpdoctor.answers.connect import Client, look_at_connection
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output


def answer_connect(host_port: str, client: Client, output: Output) -> None:
    """Say whether a client gets a local port towards HOST:PORT, what it meets there, and what to do.

    Raises:
        QuestionError: The destination or the client is none, or this host's ports could not be read.
    """
    from tcpdoctor.report.connect_text import connect_text

    look = partial(look_at_connection, host_port, client)
    ask(look, partial(connect_text, long=output.long), output, takes=1.0)

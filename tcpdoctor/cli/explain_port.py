"""`tcpdoctor explain --port`: can a server bind it, who holds it, until when."""

from functools import partial

from tcpdoctor.answers.port import PortQuestion, look_at_port, wait_until_free
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output


def answer_port(question: PortQuestion, output: Output, *, wait: float | None = None) -> None:
    """Say whether a server can bind the port, who holds it, until when, and what to do.

    Without a probe in the question nothing is bound. With `wait` it is looked at until it is free, so many
    seconds at most.

    Raises:
        QuestionError: The port, the address, the user or the device is none.
    """
    from tcpdoctor.report.port_text import port_short, port_text

    look = partial(look_at_port, question) if wait is None else partial(wait_until_free, question, wait)
    ask(look, port_text if output.long else port_short, output, takes=1.0)

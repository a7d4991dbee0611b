"""`tcpdoctor explain --port`: can a server bind it, who holds it, until when."""

from tcpdoctor.answers.port import PortQuestion, look_at_port, wait_until_free
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_port(question: PortQuestion, output: Output, *, wait: float | None = None) -> None:
    """Say whether a server can bind the port, who holds it, until when, and what to do.

    Without a probe in the question nothing is bound. With `wait` it is looked at until it is free, so many
    seconds at most.

    Raises:
        QuestionError: The port, the address, the user or the device is none.
    """
    answer = look_at_port(question) if wait is None else wait_until_free(question, wait)
    if output.format == "json":
        from tcpdoctor.report.document import as_json

        emit_json(as_json(answer), output)
    else:
        from tcpdoctor.report.port_text import port_short, port_text

        text = port_text if output.long else port_short
        emit(text(answer, style_of(output)), output)

"""`tcpdoctor explain --error`: an error of a socket call, and what has to do with it here."""

from tcpdoctor.answers.error import look_at_error
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_error(name: str, output: Output) -> None:
    """Explain the error that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such error.
    """
    answer = look_at_error(name)
    if output.format == "json":
        from tcpdoctor.report.document import as_json

        emit_json(as_json(answer), output)
    else:
        from tcpdoctor.report.error_text import error_text

        emit(error_text(answer, style_of(output)), output)

"""`tcpdoctor explain --option`: a socket option, and which listeners here have it."""

from tcpdoctor.answers.option import look_at_option
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_option(name: str, output: Output) -> None:
    """Explain the socket option that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such option.
    """
    answer = look_at_option(name)
    if output.format == "json":
        from tcpdoctor.report.option_json import option_answer_json

        emit_json(option_answer_json(answer), output)
    else:
        from tcpdoctor.report.option_text import option_text

        emit(option_text(answer, style_of(output)), output)

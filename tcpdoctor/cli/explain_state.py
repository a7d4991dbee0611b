"""`tcpdoctor explain --state`: a state of TCP, and how it stands with it here."""

from tcpdoctor.answers.state import look_at_state
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_state(name: str, output: Output) -> None:
    """Explain the state that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such state.
    """
    answer = look_at_state(name)
    if output.format == "json":
        from tcpdoctor.report.document import as_json

        emit_json(as_json(answer), output)
    else:
        from tcpdoctor.report.state_text import state_text

        emit(state_text(answer, style_of(output)), output)

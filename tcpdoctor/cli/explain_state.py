"""`tcpdoctor explain --state`: a state of TCP, and how it stands with it here."""

from tcpdoctor.answers.state import look_at_state
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output


def answer_state(name: str, output: Output) -> None:
    """Explain the state that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such state.
    """
    from tcpdoctor.report.state_text import state_text

    ask(lambda: look_at_state(name), state_text, output)

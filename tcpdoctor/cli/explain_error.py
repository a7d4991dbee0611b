"""`tcpdoctor explain --error`: an error of a socket call, and what has to do with it here."""

from tcpdoctor.answers.error import look_at_error
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output


def answer_error(name: str, output: Output) -> None:
    """Explain the error that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such error.
    """
    from tcpdoctor.report.error_text import error_text

    ask(lambda: look_at_error(name), error_text, output)

"""`tcpdoctor explain --option`: a socket option, and which listeners here have it."""

from tcpdoctor.answers.option import look_at_option
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output


def answer_option(name: str, output: Output) -> None:
    """Explain the socket option that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such option.
    """
    from tcpdoctor.report.option_text import option_text

    ask(lambda: look_at_option(name), option_text, output)

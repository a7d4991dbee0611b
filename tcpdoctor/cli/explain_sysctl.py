"""`tcpdoctor explain --sysctl`: a setting of the kernel, and its value here."""

from tcpdoctor.answers.sysctl import look_at_sysctl
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output


def answer_sysctl(name: str, output: Output) -> None:
    """Explain the sysctl that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such sysctl.
    """
    from tcpdoctor.report.sysctl_text import sysctl_text

    ask(lambda: look_at_sysctl(name), sysctl_text, output)

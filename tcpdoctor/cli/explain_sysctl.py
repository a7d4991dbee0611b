"""`tcpdoctor explain --sysctl`: a setting of the kernel, and its value here."""

from tcpdoctor.answers.sysctl import look_at_sysctl
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_sysctl(name: str, output: Output) -> None:
    """Explain the sysctl that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such sysctl.
    """
    answer = look_at_sysctl(name)
    if output.format == "json":
        from tcpdoctor.report.sysctl_json import sysctl_json

        emit_json(sysctl_json(answer), output)
    else:
        from tcpdoctor.report.sysctl_text import sysctl_text

        emit(sysctl_text(answer, style_of(output)), output)

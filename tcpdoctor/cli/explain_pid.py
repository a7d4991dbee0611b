"""`tcpdoctor explain --pid`: look at one process's sockets, judge, print."""

from tcpdoctor.answers.process import look
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_pid(pid: int, output: Output) -> None:
    """Say what TCP sockets a process holds, how they are, which options it set, and what is wrong.

    Raises:
        QuestionError: There is no such process, or it hides its descriptors from us.
    """
    report = look(pid)
    if output.format == "json":
        from tcpdoctor.report.process_json import process_json

        emit_json(process_json(report), output)
    else:
        from tcpdoctor.report.process_text import process_text

        emit(process_text(report, style_of(output)), output)

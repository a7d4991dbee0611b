"""`tcpdoctor explain --pid`: look at one process's sockets, judge, print."""

from tcpdoctor.answers.process import look
from tcpdoctor.cli.output import Output, emit, style_of


def answer_pid(pid: int, output: Output) -> None:
    """Say what TCP sockets a process holds, how they are, which options it set, and what is wrong.

    Raises:
        QuestionError: There is no such process, or it hides its descriptors from us.
    """
    report = look(pid)
    if output.format == "json":
        import json

        from tcpdoctor.report.process_json import process_json

        emit(json.dumps(process_json(report), indent=1, allow_nan=False), output)
    else:
        from tcpdoctor.report.process_text import process_text

        emit(process_text(report, style_of(output)), output)

"""`tcpdoctor explain --pid`: a process's sockets, their options and what is wrong, or several processes'."""

from collections.abc import Sequence

from tcpdoctor.answers.process import look_at_processes
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_pid(pids: Sequence[int], output: Output) -> None:
    """Say what TCP sockets processes hold, how they are, which options they set, and what is wrong.

    Raises:
        QuestionError: There is no such process.
    """
    answers = look_at_processes(pids)
    if output.format == "json":
        from tcpdoctor.report.process_json import processes_json

        emit_json(processes_json(answers), output)
    else:
        from tcpdoctor.report.process_text import processes_text

        emit(processes_text(answers, style_of(output), long=output.long), output)

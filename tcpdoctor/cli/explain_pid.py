"""`tcpdoctor explain --pid`: a process's sockets, their options and what is wrong, or several processes'."""

from collections.abc import Sequence
from functools import partial

from tcpdoctor.answers.process import look_at_processes
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output


def answer_pid(pids: Sequence[int], output: Output) -> None:
    """Say what TCP sockets processes hold, how they are, which options they set, and what is wrong.

    Raises:
        QuestionError: There is no such process.
    """
    from tcpdoctor.report.process_json import processes_json
    from tcpdoctor.report.process_text import processes_text

    text = partial(processes_text, long=output.long)
    ask(lambda: look_at_processes(pids), text, output, takes=1.0, document=processes_json)

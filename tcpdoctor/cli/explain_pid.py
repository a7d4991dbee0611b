"""`tcpdoctor explain --pid`: look at one process's sockets, judge, print."""

import os
import time

from tcpdoctor.cli.output import Output, emit, style_of
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.identity import read_identity
from tcpdoctor.kernel.live import take_snapshot
from tcpdoctor.kernel.processes import read_descriptors, read_process, read_task
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Listener
from tcpdoctor.kernel.states import COUNTED_STATES
from tcpdoctor.kernel.survey import take_survey
from tcpdoctor.report.process import ProcessReport
from tcpdoctor.report.sockets import entries_of


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


def look(pid: int) -> ProcessReport:
    """Gather the answer; errors as `answer_pid`."""
    from tcpdoctor.cli.rule_files import load_rules
    from tcpdoctor.diagnosis.process_findings import diagnose_process

    if pid < 1:
        raise QuestionError(f"--pid {pid}: process ids begin with 1")
    taken_at = time.time()
    task = read_task(pid)
    if isinstance(task, Missing):
        raise QuestionError(f"--pid {pid}: {task.reason}")
    asked, pid = pid, task.process
    process = read_process(pid)
    if isinstance(process, Missing):
        raise QuestionError(f"--pid {pid}: {process.reason}")
    descriptors = read_descriptors(pid)
    survey = take_survey(COUNTED_STATES, pid=pid, options=True)
    if isinstance(descriptors, Missing) or isinstance(survey, Missing):
        hidden = descriptors if isinstance(descriptors, Missing) else survey
        raise QuestionError(f"--pid {pid}: {hidden.reason if isinstance(hidden, Missing) else hidden}")
    entries = entries_of(survey)
    listening = {seen.row.local for seen in survey.sockets if isinstance(seen.row, Listener)}
    snapshot = take_snapshot(every_listener=bool(listening))
    known = {seen.row.inode for seen in survey.sockets}
    return ProcessReport(
        host=read_identity(),
        taken_at=taken_at,
        process=process,
        entries=entries,
        other_sockets=len(set(descriptors.values()) - known),
        namespace=_namespace(pid),
        asked=asked,
        task=task,
        missing=survey.missing,
        diagnosis=diagnose_process(load_rules().rules, snapshot, pid, listening),
    )


def _namespace(pid: int) -> Reading[int]:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError as error:
        return Missing(f"/proc/{pid}/ns/net: {error.strerror}")

"""`tcpdoctor sysctl lint`: files of settings, looked at and judged."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from tcpdoctor.answers.settings_lint import lint_these
from tcpdoctor.cli.output import Output, emit, style_of
from tcpdoctor.diagnosis.finding import Severity

_FAIL_ON = {severity.key: severity for severity in Severity}


def answer_lint(files: Sequence[Path], root: Path | None, fail_on: str, output: Output) -> int:
    """Judge these files, or those of a system, and return the exit code.

    Raises:
        QuestionError: A file or the root cannot be read, or both were given.
    """
    below = None if root is None else os.fspath(root)
    answer, checks = lint_these([os.fspath(file) for file in files], below, _FAIL_ON.get(fail_on))
    if output.format == "sarif":
        from tcpdoctor.report.sysctl_lint_text import sysctl_lint_sarif

        text = json.dumps(sysctl_lint_sarif(answer, checks), indent=1, allow_nan=False)
    elif output.format == "json":
        from tcpdoctor.report.document import as_json

        text = json.dumps(as_json(answer), indent=1, allow_nan=False)
    else:
        from tcpdoctor.report.sysctl_lint_text import sysctl_lint_text

        text = sysctl_lint_text(answer, style_of(output))
    emit(text, output)
    return answer.exit_code

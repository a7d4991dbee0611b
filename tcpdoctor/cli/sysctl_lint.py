"""`tcpdoctor sysctl lint`: files of settings, looked at and judged."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tcpdoctor.answers.settings_files import look_at_files, look_at_tree, nearby_names
from tcpdoctor.cli.output import Output, emit, style_of
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.settings_rules import checks_of
from tcpdoctor.diagnosis.sysctl_lint import Linted, lint_settings, worst
from tcpdoctor.diagnosis.sysctl_look import Look
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.namespaces import read_identity

_FAIL_ON = {severity.key: severity for severity in Severity}


def answer_lint(files: Sequence[Path], root: Path | None, fail_on: str, output: Output) -> int:
    """Judge these files, or those of a system, and return the exit code.

    Raises:
        QuestionError: A file or the root cannot be read, or both were given.
    """
    if files and root is not None:
        raise QuestionError(
            "--root takes no files: it looks at those of a whole system; leave one of the two out"
        )
    look = (
        look_at_files([os.fspath(file) for file in files]) if files else look_at_tree(os.fspath(root or "/"))
    )
    linted = lint_settings(look, nearby_names(look))
    code = _exit_code(linted, _FAIL_ON.get(fail_on))
    emit(_render(linted, look, code, output), output)
    return code


def _render(linted: Linted, look: Look, code: int, output: Output) -> str:
    if output.format == "sarif":
        from tcpdoctor.report.sysctl_lint_sarif import sysctl_lint_sarif

        return json.dumps(sysctl_lint_sarif(linted, checks_of(look.rules)), indent=1, allow_nan=False)
    if output.format == "json":
        from tcpdoctor.report.sysctl_lint_json import sysctl_lint_json

        found = sysctl_lint_json(linted, look.files, read_identity(), time.time(), code)
        return json.dumps(found, indent=1, allow_nan=False)
    from tcpdoctor.report.sysctl_lint_text import sysctl_lint_text

    return sysctl_lint_text(linted, len(look.files), style_of(output))


def _exit_code(linted: Linted, fail_on: Severity | None) -> int:
    """The codes of the monitoring plugins, as those of `check`."""
    found = worst(linted)
    if fail_on is None or found is None or found < max(fail_on, Severity.WARNING):
        return 0
    return 2 if found is Severity.CRITICAL else 1

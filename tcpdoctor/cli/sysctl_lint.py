"""`tcpdoctor sysctl lint`: files of settings, looked at and judged."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tcpdoctor.answers.everywhere import look_everywhere, worst_exit_code
from tcpdoctor.answers.settings_lint import lint_these
from tcpdoctor.cli.everywhere import complain_of, print_everywhere
from tcpdoctor.cli.output import UNKNOWN, Output, emit, say
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.kernel.workers import at_once
from tcpdoctor.report.sarif import joined_sarif
from tcpdoctor.report.style import PLAIN
from tcpdoctor.report.sysctl_lint_text import loud_lint_page, settings_lint_page, sysctl_lint_sarif

if TYPE_CHECKING:
    from tcpdoctor.answers.settings_lint import SettingsLint
    from tcpdoctor.diagnosis.sysctl_checks import Check

_FAIL_ON = {severity.key: severity for severity in Severity}


def answer_lint(
    files: Sequence[Path], root: Path | None, fail_on: str, output: Output, *, quiet: bool = False
) -> int:
    """Judge these files, or those of a system, and return the exit code.

    Quiet, text has only what is at or above `fail_on`, and is empty where nothing is.

    Raises:
        QuestionError: A file or the root cannot be read, or both were given.
    """
    below = None if root is None else os.fspath(root)
    look = partial(lint_these, [os.fspath(file) for file in files], below, _FAIL_ON.get(fail_on))
    if output.everywhere:
        return _lint_everywhere(look, output, _FAIL_ON.get(fail_on), quiet=quiet)
    answer, checks = look()
    if quiet:
        say(answer, partial(loud_lint_page, fail_on=_FAIL_ON.get(fail_on)), output)
    elif output.format == "sarif":
        text = json.dumps(sysctl_lint_sarif(answer, checks), indent=1, allow_nan=False)
        emit(text, output)
    else:
        say(answer, settings_lint_page, output)
    return answer.exit_code


def _lint_everywhere(
    look: "Callable[[], tuple[SettingsLint, Sequence[Check]]]",
    output: Output,
    fail_on: Severity | None,
    *,
    quiet: bool,
) -> int:
    """The same files against the running values of every network namespace; the worst exit code of all."""
    found = look_everywhere(at_once(look))
    if output.format == "sarif":
        runs = [sysctl_lint_sarif(answer, checks, place.label) for place, (answer, checks) in found.told]
        emit(json.dumps(joined_sarif(runs), indent=1, allow_nan=False), output)
    else:
        told = tuple((place, answer) for place, (answer, _) in found.told)
        if quiet:
            told = tuple(one for one in told if loud_lint_page(one[1], PLAIN, fail_on=fail_on))
        page = partial(loud_lint_page, fail_on=fail_on) if quiet else settings_lint_page
        print_everywhere(found._replace(told=told), page, output)
    complain_of(found.unseen, 0 if quiet else found.hidden)
    codes = [answer.exit_code for _, (answer, _) in found.told] + [UNKNOWN] * bool(found.unseen)
    return worst_exit_code(codes)

"""`rules new`: a rule file with every part explained."""

import os
from pathlib import Path

from tcpdoctor import __version__
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.rule import ID
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.files import write_beside

TEMPLATE = """\
# Fill in every "". The format: man 5 tcpdoctor-rules. All facts: tcpdoctor facts.
id     = "{id}"   # the file's name; names the symptom, never the cure
title  = ""       # one line, the symptom in plain words, no instruction
status = "experimental"   # "stable" once it was seen on a real kernel
since  = "{version}"
scope  = "process"   # asked once per host, listener, process, port or destination
tags   = []
# How far it has gone, as one number, and the limit above that this is compared with where it begins.
measure       = "older(close_wait.owned_ages, limit.min_age)"
measure_limit = "min_sockets"   # measure_below where less is worse

# Every number that a user may want to change, and why it is what it is.
[limits]
min_sockets = {{ default = 100, unit = "count", reason = "" }}
min_age     = {{ default = 60, unit = "second", reason = "" }}

# info, warning, critical: the worst that holds is the severity. critical is for what hurts now.
[fires]
warning = "older(close_wait.owned_ages, limit.min_age) >= limit.min_sockets"

# In these texts {{FACT}} is filled in with the value here; {{{{ and }}}} are braces.
[prose]
headline    = "{{close_wait.owned}} CLOSE_WAIT not closed"   # one line of 49 characters, with its numbers
summary     = ""     # one sentence with the numbers: "{{process.name}} holds {{close_wait.owned}} ..."
explanation = ""     # what the kernel does, and why this is a problem
impact      = ""     # what it costs here
normal_when = [""]   # when this is no fault; there always is a case

[[fix]]
kind   = "code"      # code, operational, or sysctl (with name, value, applies_to, undo)
title  = ""
do     = ""
commands = ["ss -tnp state close-wait"]   # what to type, if anything
risk   = ""          # what it may break
verify = ["ss -Htn state close-wait | wc -l   # falls"]   # commands that show that it helped

# What is often recommended, and why it does not help.
[[wrong_fix]]
title = ""
why   = ""

[[reference]]
claim  = ""
source = ""          # document, header or commit

# At least one test for each severity, one that is clear, one that is unknown; each limit has to decide.
[[test]]
name   = "fires at the limits"
given  = {{ "close_wait.owned_ages" = {{ count = 100, each = 60 }} }}
expect = "warning"

[[test]]
name   = "is silent one socket below"
given  = {{ "close_wait.owned_ages" = {{ count = 99, each = 60 }} }}
expect = "clear"

[[test]]
name   = "cannot tell when socket owners are hidden"
given  = {{ "close_wait.owned_ages" = "missing: socket owners are hidden: run as root" }}
expect = "unknown"
"""


def write_template(name: str, into: Path | None) -> Path:
    """Write a template for the rule ``FAMILY/ID`` and return its path.

    Args:
        name: Family and id.
        into: The folder that holds the families; None for ``rules`` in the working directory where there
            is one, else the working directory itself.

    Raises:
        QuestionError: The name is no name for a rule, or the rule or file exists.
        RuleError: The file could not be written, or a rule file is wrong.
    """
    family, rule = _split(name)
    _refuse_known(rule)
    folder = into or (Path("rules") if Path("rules").is_dir() else Path())
    if not folder.is_dir():
        raise QuestionError(f"{folder}: no such folder; make it first")
    path = folder / family / f"{rule}.toml"
    if os.path.lexists(path):
        raise QuestionError(f"{path} exists; choose another id, or edit it")
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise QuestionError(f"{path.parent}: {why}; choose another folder with --into") from error
    write_beside(path, TEMPLATE.format(id=rule, version=__version__.rpartition(".")[0]))
    return path


def _split(name: str) -> tuple[str, str]:
    family, _, rule = name.partition("/")
    if not ID.fullmatch(family) or not ID.fullmatch(rule):
        raise QuestionError(f"{name[:80]!r} is no FAMILY/ID; write one such as close/my-symptom")
    return family, rule


def _refuse_known(rule: str) -> None:
    for known, _ in load_rules().everything:
        if known.id == rule:
            raise QuestionError(f"the rule {rule} exists ({known.source}); choose another id")

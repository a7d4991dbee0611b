"""The answers to `rules lint`, `rules test` and `rules new`: a wrong file is a complaint, and not the end."""

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from tcpdoctor import __version__
from tcpdoctor.answers.record import Count, Is
from tcpdoctor.answers.rules import added_texts, family_of, load_rules, shipped_texts
from tcpdoctor.diagnosis.body import Body
from tcpdoctor.diagnosis.library import RuleText
from tcpdoctor.diagnosis.lint import Complaint, lint_facts, lint_rule, lint_together
from tcpdoctor.diagnosis.rule import Rule, is_id, parse_rule, read_body
from tcpdoctor.diagnosis.table import empty_texts, parse_toml
from tcpdoctor.diagnosis.trial import failures
from tcpdoctor.errors import QuestionError, RuleError
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.vocabulary import own_facts
from tcpdoctor.kernel.files import list_files, read_text_file, write_beside
from tcpdoctor.kernel.recorded import unpack_samples
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.text import clean


class Read(NamedTuple):
    """A rule file that could be read."""

    rule: Rule
    body: Body
    stem: str
    """The file's name without ``.toml``."""


_LONGEST_PATH = 4096


def rule_files(path: Path | None, extra_dirs: Sequence[Path]) -> list[RuleText]:
    """The texts of one file, of all rule files below a folder, or of all rules that would be loaded.

    Whoever may write a file that is only checked here does not matter.

    Raises:
        RuleError: A file or folder cannot be read, or the folder holds no rule.
    """
    if path is None:
        return [*shipped_texts(), *added_texts(extra_dirs)]
    paths = list_files(path, ".toml", trusted_owner=False, error=RuleError) if path.is_dir() else (path,)
    if not paths:
        raise RuleError(f"{path}: no .toml file below it; give a folder of rules or one rule file")
    return [
        RuleText(
            clean(str(file), _LONGEST_PATH),
            family_of(file),
            read_text_file(file, trusted_owner=False, error=RuleError),
        )
        for file in paths
    ]


class LintAnswer(NamedTuple):
    """What `tcpdoctor rules lint --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.lint/1"]
    rules: Annotated[Count, Is("That were looked at.")]
    complaints: tuple[Complaint, ...]


class FailedTest(NamedTuple):
    """A test whose answer is not as expected."""

    source: str
    what: str


class RuleTestsAnswer(NamedTuple):
    """What `tcpdoctor rules test --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.ruletests/1"]
    tests: Annotated[Count, Is("That were run.")]
    failures: tuple[FailedTest, ...]
    rules: Annotated[Count, Is("That carry them.")]


def lint_rules_of(path: Path | None, dirs: Sequence[Path]) -> LintAnswer:
    """Check one rule file, a folder of them, or all rules that would be loaded with these folders.

    Raises:
        RuleError: A file or folder cannot be read, or the folder holds no rule.
    """
    texts = rule_files(path, dirs)
    return LintAnswer("tcpdoctor.lint/1", len(texts), tuple(lint_files(texts)))


def run_tests_of(path: Path | None, dirs: Sequence[Path]) -> RuleTestsAnswer:
    """Run the tests of one rule file, a folder of them, or all rules that would be loaded.

    Raises:
        RuleError: A file or folder cannot be read, the folder holds no rule, or a file is none.
    """
    texts = rule_files(path, dirs)
    tests, failed = run_tests(texts)
    return RuleTestsAnswer("tcpdoctor.ruletests/1", tests, tuple(failed), len(texts))


def lint_files(texts: Sequence[RuleText]) -> list[Complaint]:
    """Every complaint about these files, in their order; then those about several together."""
    complaints: list[Complaint] = []
    rules: list[Rule] = []
    hosts = recorded_hosts()
    for file in texts:
        try:
            rule, body, stem = _read(file)
        except RuleError as error:
            complaints += _unreadable(file, error)
            continue
        rules.append(rule)
        complaints += lint_rule(rule, body, stem, hosts)
    facts = [fact for scope in Scope for fact in own_facts(scope)]
    known = {rule.id for rule in rules}
    strangers = any(id_ not in known for rule in rules for id_ in rule.explains)
    others = load_rules().rules if strangers else ()
    return [*complaints, *lint_together(rules, others), *lint_facts(facts)]


_RECORDED = ".json.gz"


def recorded_hosts() -> Mapping[str, Samples]:
    """Return hosts that were recorded under real load, healthy all: rules must leave them in peace.

    By name: ``nginx``, ``postgresql`` and so on; ``defaults`` is as the kernel set it up, and nothing at all
    may fire there. Each is two looks a second apart at servers of Debian 12 in a network namespace of their
    own, with addresses and names replaced; ``python -m tests.hosts.record`` in a checkout makes them anew.

    Raises:
        SnapshotError: One is damaged: the installation is.
    """
    folder = files("tcpdoctor.knowledge") / "recordings"
    recordings = {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(_RECORDED)}
    return {
        name.removesuffix(_RECORDED): unpack_samples(entry.read_bytes(), name)
        for name, entry in sorted(recordings.items())
    }


def run_tests(texts: Sequence[RuleText]) -> tuple[int, list[FailedTest]]:
    """How many tests these files hold, and each that failed.

    Raises:
        RuleError: A file is no rule.
    """
    tests = 0
    failed: list[FailedTest] = []
    for file in texts:
        rule, body, _ = _read(file)
        tests += len(body.tests)
        failed += [
            FailedTest(
                file.source,
                f"{failure.test.name!r} expects {failure.test.expect} and the answer is {failure.answer}",
            )
            for failure in failures(rule, body)
        ]
    return tests, failed


def _read(file: RuleText) -> Read:
    rule = parse_rule(file.text, file.source, file.family)
    return Read(rule, read_body(rule), Path(file.source).stem)


def _unreadable(file: RuleText, error: RuleError) -> Iterator[Complaint]:
    """What ended the reading, and all else that is still to be filled in: a new rule has many blanks."""
    yield Complaint(file.source, "unreadable", str(error).removeprefix(f"{file.source}: "))
    try:
        blanks = dict.fromkeys(empty_texts(parse_toml(file.text, file.source, RuleError)))
    except RuleError:
        return
    for key in blanks:
        if key != error.key:
            yield Complaint(file.source, "unreadable", f"{key}: is empty; write a text")


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
    if not is_id(family) or not is_id(rule):
        raise QuestionError(f"{name[:80]!r} is no FAMILY/ID; write one such as close/my-symptom")
    return family, rule


def _refuse_known(rule: str) -> None:
    for known, _ in load_rules().everything:
        if known.id == rule:
            raise QuestionError(f"the rule {rule} exists ({known.source}); choose another id")

"""The answers to `rules lint` and `rules test`: a wrong file is a complaint there, and not the end."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.record import Count, Is
from tcpdoctor.answers.rules import added_texts, family_of, load_rules, shipped_texts
from tcpdoctor.diagnosis.body import Body
from tcpdoctor.diagnosis.library import RuleText
from tcpdoctor.diagnosis.lint import Complaint, lint_facts, lint_rule, lint_together
from tcpdoctor.diagnosis.rule import Rule, parse_rule, read_body
from tcpdoctor.diagnosis.table import empty_texts, parse_toml
from tcpdoctor.diagnosis.trial import failures
from tcpdoctor.errors import RuleError
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.vocabulary import own_facts
from tcpdoctor.kernel.files import list_files, read_text_file
from tcpdoctor.kernel.text import clean
from tcpdoctor.knowledge.hosts import recorded_hosts


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
    files = rule_files(path, dirs)
    return LintAnswer("tcpdoctor.lint/1", len(files), tuple(lint_files(files)))


def run_tests_of(path: Path | None, dirs: Sequence[Path]) -> RuleTestsAnswer:
    """Run the tests of one rule file, a folder of them, or all rules that would be loaded.

    Raises:
        RuleError: A file or folder cannot be read, the folder holds no rule, or a file is none.
    """
    files = rule_files(path, dirs)
    tests, failed = run_tests(files)
    return RuleTestsAnswer("tcpdoctor.ruletests/1", tests, tuple(failed), len(files))


def lint_files(files: Sequence[RuleText]) -> list[Complaint]:
    """Every complaint about these files, in their order; then those about several together."""
    complaints: list[Complaint] = []
    rules: list[Rule] = []
    hosts = recorded_hosts()
    for file in files:
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


def run_tests(files: Sequence[RuleText]) -> tuple[int, list[FailedTest]]:
    """How many tests these files hold, and each that failed.

    Raises:
        RuleError: A file is no rule.
    """
    tests = 0
    failed: list[FailedTest] = []
    for file in files:
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
    first = str(error).removeprefix(f"{file.source}: ")
    yield Complaint(file.source, "unreadable", first)
    try:
        blanks = dict.fromkeys(empty_texts(parse_toml(file.text, file.source, RuleError)))
    except RuleError:
        return
    for key in blanks:
        if not first.startswith(f"{key}: "):
            yield Complaint(file.source, "unreadable", f"{key}: is empty; write a text")

"""A rule file becomes a `Rule`, or a `RuleError` that names file, key and remedy.

The format is in man/tcpdoctor-rules.5. What decides (limits, conditions) and what tells (prose, fixes,
tests: `body`) are read apart, because TOML costs 0.3 ms a rule and prose is needed only for what fires.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from keyword import iskeyword
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from tcpdoctor.diagnosis.closure import (
    LIMIT_UNITS,
    Calculation,
    Condition,
    Context,
    Gauge,
    Text,
    Vocabulary,
    dimension_words,
    in_base_unit,
)
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.table import Table, parse_toml, shown
from tcpdoctor.errors import RuleError
from tcpdoctor.facts import vocabulary as real_vocabulary
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import RATIO, Dimension
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:
    from tcpdoctor.diagnosis.body import Body

Status: TypeAlias = Literal["stable", "experimental"]
LEVELS = ("critical", "warning", "info")
"""What a finding can be, the worst first; keys of [fires]."""
AT_MOST = "warning_upper"
"""The key of [fires] for a warning on ages of which only the upper end is old enough."""
FIRES = ("critical", "warning", AT_MOST, "info")
"""The keys of [fires], in the order in which they are judged."""
KEYS = (
    "id",
    "title",
    "status",
    "since",
    "scope",
    "namespace",
    "needs",
    "tags",
    "replaces",
    "explains",
    "no_scenario",
    "measure",
    "measure_limit",
    "measure_below",
    "lint_severity",
    "lint_id",
    "limits",
    "fires",
    "prose",
    "fix",
    "wrong_fix",
    "reference",
    "test",
)
Need: TypeAlias = Literal["connection-tracking"]
NEEDS: Mapping[Need, str] = {"connection-tracking": "net.netfilter.nf_conntrack_count"}
"""What a rule may need, and the setting that is there exactly where that is."""
_ID = r"[a-z0-9]+(-[a-z0-9]+)*"
_LIMIT_NAME = r"[a-z][a-z0-9_]*"
_MAX_ID = 64
"""Characters of an id, and of the name of a limit."""


def is_id(text: str) -> bool:
    """Whether a text may be the id of a rule, or the name of a family."""
    return re.fullmatch(_ID, text) is not None


class Limit(NamedTuple):
    """A number of a rule that a user may change."""

    value: float
    """In force, in the base unit: seconds, bytes, pages, counts, a share of 1."""
    given: float
    """The same in `unit`, as the file or the configuration has it."""
    unit: str
    reason: str
    default: float
    """What the file gives, in `unit`."""


class Trigger(NamedTuple):
    """A severity and the condition for it."""

    severity: Severity
    text: str
    tree: Condition
    at_most: bool = False
    """``older()`` counts sockets by how long they have been quiet: see `tcpdoctor.facts.value.Ages`."""

    @property
    def key(self) -> str:
        """Its key in [fires]."""
        return AT_MOST if self.at_most else self.severity.key


class Measured(NamedTuple):
    """What a rule is about, read."""

    tree: Calculation
    dimension: Dimension
    is_share: bool
    """A pure number that was computed, and is no setting or switch: it reads best in percent."""


class Rule(NamedTuple):
    """What a rule file says, checked; `tcpdoctor.diagnosis.body` reads the rest of `text`."""

    id: str
    family: str
    title: str
    status: Status
    since: str
    scope: Scope
    initial_only: bool
    """It needs machine-wide facts, so it has no meaning in a child network namespace."""
    tags: tuple[str, ...]
    replaces: str | None
    limits: Mapping[str, Limit]
    fires: tuple[Trigger, ...]
    """The worst first."""
    source: str
    """The file."""
    text: str
    """All of it."""
    vocabulary: Vocabulary
    severity: Severity | None = None
    """Set by the configuration: every finding of this rule has it."""
    shipped: bool = False
    """Part of this program."""
    no_scenario: str | None = None
    """Why `tcpdoctor lab` cannot make this disease on one machine; None where it can, or nobody said."""
    explains: tuple[str, ...] = ()
    """Rules that say nothing of a subject for which this one fires: it has told of the same sockets."""
    measure: str | None = None
    """What it is about, as an expression (`diagnosis.measure` reads it); None where the file does not say."""
    measure_limits: Mapping[Severity, str] = MappingProxyType({})
    """The limits that this is compared with, by the severity that begins there; none for a switch."""
    measure_falls: bool = False
    """It fires where the number is below the limit, and not where it reaches it."""
    lint_severity: Severity | None = None
    """What `sysctl lint` makes of a file that would set such values; None: what `check` makes of them."""
    lint_id: str | None = None
    """The name of its check in `sysctl lint`, where that is older than the rule; None: the rule's own."""
    needs: Need | None = None
    """What has to be there for the disease to exist at all, one of `NEEDS`; None: nothing special."""
    packed: bytes = b""
    """Its body as it was read when this program was built; empty where `text` has to be read."""

    @property
    def name(self) -> str:
        """``close/close-wait-leak``."""
        return f"{self.family}/{self.id}"

    @property
    def limit_values(self) -> dict[str, float]:
        """Every limit in its base unit, as compiled conditions want them."""
        return {name: limit.value for name, limit in self.limits.items()}

    @property
    def context(self) -> Context:
        """What the expressions of this rule may refer to."""
        dimensions = {name: LIMIT_UNITS[limit.unit][1] for name, limit in self.limits.items()}
        return Context(self.scope, dimensions, self.vocabulary)


def parse_rule(
    text: str,
    source: str,
    family: str,
    *,
    vocabulary: Vocabulary = real_vocabulary,
    whole: bool = True,
) -> Rule:
    """Read a rule file.

    Args:
        text: What it holds.
        source: Its path, for complaints.
        family: The folder it lies in.
        vocabulary: The facts that it may use.
        whole: Check prose, fixes and tests too. False is for rules that lint has seen: their prose is
            read, and checked, when they fire.

    Raises:
        RuleError: Anything in it is wrong: file, key, remedy.
    """
    if not whole:
        # a head with a mistake in it is no answer yet: a table it lacks may stand below the prose
        with contextlib.suppress(RuleError):
            return _rule(parse_toml(_head(text), source, RuleError), text, source, family, vocabulary)
    values = parse_toml(text, source, RuleError)
    rule = _rule(values, text, source, family, vocabulary)
    _body(rule, values)
    if rule.measure is not None:
        measured(rule)
    return rule


def read_body(rule: Rule) -> "Body":
    """Read what the rule tells: prose, fixes, references, tests.

    Raises:
        RuleError: See `parse_rule`.
    """
    if rule.packed:
        from _pickle import loads

        body: Body = loads(rule.packed)
        return body
    return _body(rule, parse_toml(rule.text, rule.source, RuleError))


def measured(rule: Rule) -> Measured:
    """Read what a rule is about; the rule has to say it.

    Raises:
        RuleError: It is no number, or its limits are not there or in another unit.
    """
    from tcpdoctor.diagnosis.expression import parse_quantity

    where = f"{rule.source}: measure"
    context = rule.context
    quantity = parse_quantity(rule.measure or "", where, context)
    if isinstance(quantity.tree, Text):
        raise RuleError(f"{where}: `{shown(rule.measure or '')}` is a text; write a number or an expression")
    dimension = quantity.dimension or RATIO
    for name in rule.measure_limits.values():
        if name not in context.limits:
            raise RuleError(f"{where}_limit: there is no limit {name[:80]!r}; name one of [limits]")
        if context.limits[name] != dimension:
            units = [dimension_words(unit) for unit in (context.limits[name], dimension)]
            raise RuleError(
                f"{where}_limit: {name} is in {units[0]} and measure in {units[1]}; make them equal"
            )
    return Measured(quantity.tree, dimension, dimension == RATIO and not isinstance(quantity.tree, Gauge))


def _body(rule: Rule, values: Mapping[str, object]) -> "Body":
    from tcpdoctor.diagnosis.body import parse_body  # only what fires, and lint, pay for it

    return parse_body(Table(values, rule.source, "", KEYS, RuleError), rule.context)


def _head(text: str) -> str:
    """What stands above [prose]."""
    end = text.find("\n[prose]")
    return text if end < 0 else text[:end]


def _rule(values: Mapping[str, object], text: str, source: str, family: str, vocabulary: Vocabulary) -> Rule:
    table = Table(values, source, "", KEYS, RuleError)
    scope = Scope(table.choice("scope", [scope.value for scope in Scope]))
    limits = _limits(table)
    dimensions = {name: LIMIT_UNITS[limit.unit][1] for name, limit in limits.items()}
    return Rule(
        id=_id(table, "id"),
        family=family,
        title=table.line("title"),
        status=table.choice("status", get_args(Status)),
        since=table.line("since"),
        scope=scope,
        initial_only=table.has("namespace") and table.choice("namespace", ("any", "initial")) == "initial",
        tags=table.texts("tags") if table.has("tags") else (),
        replaces=_id(table, "replaces") if table.has("replaces") else None,
        limits=limits,
        fires=_triggers(table, Context(scope, dimensions, vocabulary)),
        source=source,
        text=text,
        vocabulary=vocabulary,
        no_scenario=table.line("no_scenario") if table.has("no_scenario") else None,
        explains=tuple(_ids(table, "explains")) if table.has("explains") else (),
        measure=table.text("measure") if table.has("measure") else None,
        measure_limits=_measure_limits(table),
        measure_falls=table.has("measure_below"),
        lint_severity=Severity[table.choice("lint_severity", LEVELS).upper()]
        if table.has("lint_severity")
        else None,
        lint_id=_id(table, "lint_id") if table.has("lint_id") else None,
        needs=table.choice("needs", get_args(Need)) if table.has("needs") else None,
    )


def _measure_limits(table: Table) -> Mapping[Severity, str]:
    """One name, which is of the lowest severity, or one for each severity."""
    key = "measure_below" if table.has("measure_below") else "measure_limit"
    if not table.has(key):
        return {}
    conditions = table.table("fires", FIRES)
    fires = [level for level in reversed(LEVELS) if conditions.has(level)]
    if isinstance(table.values[key], str):
        return {Severity[level.upper()]: table.line(key) for level in fires[:1]}
    part = table.table(key, fires)
    return {Severity[level.upper()]: part.line(level) for level in fires if part.has(level)}


def _id(table: Table, key: str) -> str:
    value = table.line(key)
    if not is_id(value) or len(value) > _MAX_ID:
        raise table.complaint(key, f"{value[:80]!r} is no id; write lower-case words joined by hyphens")
    return value


def _ids(table: Table, key: str) -> Iterator[str]:
    for value in table.texts(key):
        if not is_id(value):
            raise table.complaint(key, f"{value[:80]!r} is no id of a rule")
        yield value


def _limits(table: Table) -> Mapping[str, Limit]:
    part = table.open_table("limits")
    for name in part.values:
        if not re.fullmatch(_LIMIT_NAME, name) or len(name) > _MAX_ID or iskeyword(name):
            raise part.complaint(name, "is no name for a limit; write lower-case words joined by underscores")
    return {name: _limit(part.table(name, ("default", "unit", "reason"))) for name in part.values}


def _limit(table: Table) -> Limit:
    unit = table.choice("unit", list(LIMIT_UNITS))
    given = table.number("default")
    return Limit(in_base_unit(given, unit), given, unit, table.line("reason"), given)


def _triggers(table: Table, context: Context) -> tuple[Trigger, ...]:
    from tcpdoctor.diagnosis.expression import parse_condition  # rules that were compiled need no parser

    fires = table.table("fires", FIRES)
    triggers = []
    for level in FIRES:
        if fires.has(level):
            text = fires.text(level)
            tree = parse_condition(text, fires.where(level), context)
            severity = Severity[level.partition("_")[0].upper()]
            triggers.append(Trigger(severity, text, tree, at_most=level == AT_MOST))
    if not triggers:
        raise table.complaint(
            "fires", "has no condition; write at least one of info, warning, critical below it"
        )
    return tuple(triggers)

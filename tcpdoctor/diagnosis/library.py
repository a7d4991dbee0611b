"""Rule texts and the configuration become the rules in force."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

from tcpdoctor.diagnosis.closure import Vocabulary, in_base_unit
from tcpdoctor.diagnosis.finding import MOST_SUBJECTS, Severity
from tcpdoctor.diagnosis.rule import LEVELS, Rule, parse_rule
from tcpdoctor.diagnosis.table import Table, nearest, parse_toml, suggest
from tcpdoctor.errors import ConfigError, QuestionError, RuleError, TcpdoctorError, UnknownRuleError
from tcpdoctor.facts import vocabulary as real_vocabulary
from tcpdoctor.named_tuples import NamedTuple

# The configuration file: rules off, limits and severities changed.
#
# ``[rules.close-wait-leak]`` may hold ``enabled = false`` and ``severity = "info"``, and
# ``[rules.close-wait-leak.limits]`` any of the rule's limits: ``min_sockets = 50``.


class Override(NamedTuple):
    """What the configuration says of one rule."""

    enabled: bool
    severity: Severity | None
    limits: Mapping[str, float]
    """In the unit that the rule file gives the limit."""


class Config(NamedTuple):
    """A configuration file, parsed; whether its rules exist is checked when it is applied."""

    source: str
    rules: Mapping[str, Override]
    """By the name that the file uses: ``close-wait-leak`` or ``close/close-wait-leak``."""
    most: int = MOST_SUBJECTS
    """Of one rule so many findings are told."""


NO_CONFIG = Config("no configuration", {})


def parse_config(text: str, source: str) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: Anything in it is wrong: file, key, remedy.
    """
    table = Table(parse_toml(text, source, ConfigError), source, "", ("rules", "check"), ConfigError)
    rules = table.open_table("rules")
    return Config(source, {name: _override(rules, name) for name in rules.values}, _most_subjects(table))


def _most_subjects(table: Table) -> int:
    part = table.table("check", ("most_subjects",)) if table.has("check") else None
    if part is None or not part.has("most_subjects"):
        return MOST_SUBJECTS
    given = part.number("most_subjects")
    if given < 1 or given != int(given):
        raise part.complaint("most_subjects", "is no whole number from 1 on")
    return int(given)


def _override(rules: Table, name: str) -> Override:
    table = rules.table(name, ("enabled", "severity", "limits"))
    limits = table.open_table("limits")
    severity = Severity[table.choice("severity", LEVELS).upper()] if table.has("severity") else None
    return Override(
        enabled=table.flag("enabled") if table.has("enabled") else True,
        severity=severity,
        limits={name: limits.number(name) for name in limits.values},
    )


def with_override(rule: Rule, override: Override, where: str) -> Rule:
    """The rule with the configuration's limits and severity.

    Args:
        rule: As its file has it.
        override: What the configuration says of it.
        where: File and key, for complaints.

    Raises:
        ConfigError: The rule has no such limit.
    """
    limits = dict(rule.limits)
    for name, given in override.limits.items():
        if name not in limits:
            raise ConfigError(f"{where}.limits.{name}: {rule.id} has no such limit; {suggest(name, limits)}")
        unit = limits[name].unit
        limits[name] = limits[name]._replace(given=given, value=in_base_unit(given, unit))
    return rule._replace(limits=limits, severity=override.severity)


class RuleText(NamedTuple):
    """A rule file as it was read."""

    source: str
    """Its path, for complaints."""
    family: str
    """The folder it lies in."""
    text: str
    shipped: bool = False
    """Part of this program: lint has seen it, so its prose is read only when it fires."""


class Library(NamedTuple):
    """All rules that were found."""

    rules: tuple[Rule, ...]
    """In force, by name."""
    off: tuple[tuple[Rule, str], ...]
    """Not in force, with what switched them off: ``/etc/tcpdoctor/config.toml``, ``--skip``."""
    most: int = MOST_SUBJECTS
    """Of one rule so many findings are told."""

    @property
    def everything(self) -> list[tuple[Rule, str | None]]:
        """Every rule by name, with what switched it off, or None."""
        every: list[tuple[Rule, str | None]] = [(rule, None) for rule in self.rules]
        return sorted([*every, *self.off], key=lambda entry: entry[0].name)

    def find(self, name: str) -> tuple[Rule, str | None]:
        """The rule with this id or FAMILY/ID, and what switched it off.

        Raises:
            QuestionError: There is none; with the nearest that there is.
        """
        every = self.everything
        return every[_place(name, [rule for rule, _ in every], "", UnknownRuleError)]


def load_library(
    texts: Iterable[RuleText],
    config: Config = NO_CONFIG,
    *,
    shipped: Iterable[Rule] = (),
    only: Collection[str] | None = None,
    skip: Collection[str] = (),
    vocabulary: Vocabulary = real_vocabulary,
) -> Library:
    """Parse every rule, apply the configuration, and choose.

    Args:
        texts: Shipped rules first; a later one may replace an earlier one by ``replaces``.
        config: What the user changed.
        shipped: Rules that were read before; they come first.
        only: Ids (or FAMILY/ID) of the only rules to be in force; None for all.
        skip: Ids of rules that shall not be in force.
        vocabulary: The facts that rules may use.

    Raises:
        RuleError: A rule is wrong, or its id is taken.
        ConfigError: The configuration names no rule or no limit that exists.
        QuestionError: `only` or `skip` names no rule.
    """
    parsed = (
        parse_rule(
            text.text, text.source, text.family, vocabulary=vocabulary, whole=not text.shipped
        )._replace(shipped=text.shipped)
        for text in texts
    )
    rules = _distinct(chain(shipped, parsed))
    rules.sort(key=lambda rule: rule.name)
    off = _configure(rules, config)
    if only is not None:
        if not only:
            raise QuestionError("--only: names no rule; give an id, or leave the option out")
        kept = {_place(name, rules, "", UnknownRuleError) for name in only}  # `check RULE` is it too
        off |= {place: "--only" for place in range(len(rules)) if place not in kept}
    for name in skip:
        off[_place(name, rules, "--skip: ", UnknownRuleError)] = "--skip"
    return Library(
        most=config.most,
        rules=tuple(rule for place, rule in enumerate(rules) if place not in off),
        off=tuple((rules[place], off[place]) for place in sorted(off)),
    )


def _configure(rules: list[Rule], config: Config) -> dict[int, str]:
    """Change the rules as the configuration says; return the places of those that it switches off."""
    names: dict[int, str] = {}
    off: dict[int, str] = {}
    for name, override in config.rules.items():
        where = f"{config.source}: rules.{name if name.isprintable() else ascii(name)}"
        place = _place(name, rules, f"{where}: ", ConfigError)
        if place in names:
            raise ConfigError(f"{where}: rules.{names[place]} is the same rule; put both into one table")
        names[place] = name
        rules[place] = with_override(rules[place], override, where)
        if not override.enabled:
            off[place] = config.source
    return off


def _distinct(rules: Iterable[Rule]) -> list[Rule]:
    """The rules without those that later ones replace."""
    by_id: dict[str, Rule] = {}
    for rule in rules:
        if rule.replaces is not None:
            if rule.replaces not in by_id:
                hint = suggest(rule.replaces, list(by_id))
                raise RuleError(
                    f"{rule.source}: replaces: no rule {rule.replaces!r} comes before this one; {hint}"
                )
            del by_id[rule.replaces]
        taken = by_id.get(rule.id)
        if taken is not None:
            raise RuleError(
                f"{rule.source}: id: {rule.id!r} is taken by {taken.source}; "
                f'choose another, or add replaces = "{rule.id}"'
            )
        by_id[rule.id] = rule
    return list(by_id.values())


def _place(name: str, rules: Sequence[Rule], where: str, error: type[TcpdoctorError]) -> int:
    for place, rule in enumerate(rules):
        if name in (rule.id, rule.name):
            return place
    known = [rule.name if "/" in name else rule.id for rule in rules]
    close = nearest(name, known)
    hint = f"did you mean {close}?" if close else "`tcpdoctor rules list` prints all of them"
    complaint = error(f"{where}there is no rule {name[:80]!r}; {hint}")
    if isinstance(complaint, UnknownRuleError):
        complaint.name = name
    raise complaint

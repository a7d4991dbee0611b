"""The configuration file: rules off, limits and severities changed.

``[rules.close-wait-leak]`` may hold ``enabled = false`` and ``severity = "info"``, and
``[rules.close-wait-leak.limits]`` any of the rule's limits: ``min_sockets = 50``.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.nearest import suggest
from tcpdoctor.diagnosis.rule import LEVELS, Rule
from tcpdoctor.diagnosis.table import Table, parse_toml
from tcpdoctor.diagnosis.units import in_base_unit
from tcpdoctor.errors import ConfigError


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


NO_CONFIG = Config("no configuration", {})


def parse_config(text: str, source: str) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: Anything in it is wrong: file, key, remedy.
    """
    table = Table(parse_toml(text, source, ConfigError), source, "", ("rules",), ConfigError)
    rules = table.open_table("rules")
    return Config(source, {name: _override(rules, name) for name in rules.values})


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

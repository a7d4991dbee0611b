"""What a rule tells: prose, fixes, what not to do, where its claims come from, and its tests."""

from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.expression import Context, parse_quantity
from tcpdoctor.diagnosis.finding import Reference
from tcpdoctor.diagnosis.given import parse_given
from tcpdoctor.diagnosis.nearest import nearest
from tcpdoctor.diagnosis.prose import Template, parse_template
from tcpdoctor.diagnosis.table import Table
from tcpdoctor.diagnosis.tree import Calculation, Constant, Text
from tcpdoctor.diagnosis.units import dimension_words
from tcpdoctor.facts.value import Value

EXPECTATIONS = ("info", "warning", "critical", "clear", "unknown")
_SYSCTL_KEYS = ("name", "value", "applies_to")
_PARTS = {2: ("low", "high"), 3: ("min", "pressure", "max")}


class AddPort(NamedTuple):
    """A value that is what the sysctl holds now, and this port as well."""

    port: Calculation


class SysctlChange(NamedTuple):
    """What a sysctl fix writes."""

    name: str
    value: tuple[Calculation, ...] | AddPort
    """One calculation per number of the sysctl."""
    applies_to: str


class FixText(NamedTuple):
    """One ``[[fix]]``."""

    kind: str
    title: Template
    do: Template | None
    """None: a sysctl fix, whose command is written from the value."""
    risk: Template
    verify: Template
    undo: Template | None
    sysctl: SysctlChange | None


class WrongFixText(NamedTuple):
    """One ``[[wrong_fix]]``."""

    title: Template
    why: Template


class RuleTest(NamedTuple):
    """One ``[[test]]``."""

    name: str
    given: Mapping[str, Value]
    limits: Mapping[str, float]
    """Limits that differ from the rule's, in the unit of the limit."""
    expect: str


class Body(NamedTuple):
    """All that is not needed to decide."""

    summary: Template
    explanation: Template
    impact: Template
    normal_when: tuple[Template, ...]
    fixes: tuple[FixText, ...]
    wrong_fixes: tuple[WrongFixText, ...]
    references: tuple[Reference, ...]
    tests: tuple[RuleTest, ...]


def parse_body(table: Table, context: Context) -> Body:
    """Read the tables that tell.

    Raises:
        RuleError: Anything in them is wrong.
    """
    prose = table.table("prose", ("summary", "explanation", "impact", "normal_when"))
    return Body(
        summary=_template(prose, "summary", context),
        explanation=_template(prose, "explanation", context),
        impact=_template(prose, "impact", context),
        normal_when=tuple(
            parse_template(text, prose.where("normal_when"), context) for text in prose.texts("normal_when")
        ),
        fixes=_fixes(table, context),
        wrong_fixes=tuple(
            WrongFixText(_template(part, "title", context), _template(part, "why", context))
            for part in table.tables("wrong_fix", ("title", "why"))
        ),
        references=tuple(
            Reference(part.text("claim"), part.text("source"))
            for part in table.tables("reference", ("claim", "source"))
        ),
        tests=tuple(
            _test(part, context) for part in table.tables("test", ("name", "given", "limits", "expect"))
        ),
    )


def _template(table: Table, key: str, context: Context) -> Template:
    return parse_template(table.text(key), table.where(key), context)


def _fixes(table: Table, context: Context) -> tuple[FixText, ...]:
    known = ("kind", "title", "do", "risk", "verify", "undo", *_SYSCTL_KEYS)
    return tuple(_fix(part, context) for part in table.tables("fix", known))


def _fix(table: Table, context: Context) -> FixText:
    kind = table.choice("kind", ("code", "sysctl", "operational"))
    if kind != "sysctl":
        for key in _SYSCTL_KEYS:
            if table.has(key):
                raise table.complaint(
                    key, f'belongs to a sysctl fix and this is a {kind} fix; write kind = "sysctl"'
                )
    undo_needed = kind == "sysctl" or table.has("undo")
    do_needed = kind != "sysctl" or table.has("do")
    return FixText(
        kind=kind,
        title=_template(table, "title", context),
        do=_template(table, "do", context) if do_needed else None,
        risk=_template(table, "risk", context),
        verify=_template(table, "verify", context),
        undo=_template(table, "undo", context) if undo_needed else None,
        sysctl=_sysctl(table, context) if kind == "sysctl" else None,
    )


def _sysctl(table: Table, context: Context) -> SysctlChange:
    name = table.line("name")
    value = table.required("value")
    if isinstance(value, dict):
        add = table.table("value", ("add",))
        port = _calculation(add, "add", add.line("add"), context)
        change: tuple[Calculation, ...] | AddPort = AddPort(port)
    else:
        items = value if isinstance(value, list) else [value]
        change = tuple(_sysctl_number(table, name, item, place, context) for place, item in enumerate(items))
        _check_parts(table, name, len(change), context)
    return SysctlChange(name, change, table.choice("applies_to", ("namespace", "host")))


def _sysctl_number(table: Table, name: str, item: object, place: int, context: Context) -> Calculation:
    if not isinstance(item, str):
        return Constant(float(table.checked_number("value", item)))
    quantity = parse_quantity(item, table.where("value"), context)
    fact = context.vocabulary.find_fact(f"sysctl.{name}")
    wanted = fact.dimension if fact is not None else None
    if isinstance(quantity.tree, Text):
        raise table.complaint("value", f"`{item}` is a text; write a number or an expression")
    if None not in (wanted, quantity.dimension) and quantity.dimension != wanted:
        assert wanted is not None and quantity.dimension is not None  # noqa: S101, PT018 - just compared
        raise table.complaint(
            "value",
            f"number {place + 1} is in {dimension_words(quantity.dimension)} and {name} "
            f"in {dimension_words(wanted)}; both need the same dimension",
        )
    return quantity.tree


def _check_parts(table: Table, name: str, numbers: int, context: Context) -> None:
    find = context.vocabulary.find_fact
    if find(f"sysctl.{name}") is not None:
        wanted = 1
    elif find(f"sysctl.{name}.low") is not None:
        wanted = 2
    elif find(f"sysctl.{name}.max") is not None:
        wanted = 3
    else:
        facts = context.vocabulary.fact_names(context.scope)
        names = [fact.removeprefix("sysctl.") for fact in facts if fact.startswith("sysctl.")]
        hint = f"did you mean {close}?" if (close := nearest(name, names)) else "see `tcpdoctor facts`"
        raise table.complaint("name", f"{name[:80]!r} is no sysctl that is read; {hint}")
    if numbers != wanted:
        raise table.complaint("value", f"has {numbers} numbers and {name} {wanted}; write {wanted}")


def _calculation(table: Table, key: str, text: str, context: Context) -> Calculation:
    quantity = parse_quantity(text, table.where(key), context)
    if isinstance(quantity.tree, Text):
        raise table.complaint(key, f"`{text}` is a text; write a number or an expression")
    return quantity.tree


def _test(table: Table, context: Context) -> RuleTest:
    limits = table.table("limits", tuple(context.limits))
    return RuleTest(
        name=table.line("name"),
        given=parse_given(table, context),
        limits={name: limits.number(name) for name in limits.values},
        expect=table.choice("expect", EXPECTATIONS),
    )

"""`tcpdoctor schema`: what the JSON of every command looks like, for programs that read it.

Schemas are made from the records of the answers, each complete in itself. Keys may be added to any object
later and none is removed, so no schema forbids keys that it does not name.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tcpdoctor.answers.connect import ConnectAnswer
from tcpdoctor.answers.diff import DiffAnswer
from tcpdoctor.answers.ended import EndedConnection, TraceSummary
from tcpdoctor.answers.facts import FactsAnswer
from tcpdoctor.answers.fleet import FleetAnswer
from tcpdoctor.answers.host_report import HostFailure
from tcpdoctor.answers.knowledge import ErrorAnswer, OptionAnswer, StateAnswer
from tcpdoctor.answers.plan import FixAnswer
from tcpdoctor.answers.port import PortAnswer
from tcpdoctor.answers.process import ProcessAnswer, ProcessesAnswer
from tcpdoctor.answers.proof import ProofAnswer, ScenarioList
from tcpdoctor.answers.record import Is
from tcpdoctor.answers.rule import RuleAnswer, RuleListAnswer
from tcpdoctor.answers.rule_checks import LintAnswer, RuleTestsAnswer
from tcpdoctor.answers.settings import SettingsAnswer
from tcpdoctor.answers.settings_files import SettingsLint
from tcpdoctor.answers.snapshot import SnapshotFile
from tcpdoctor.answers.socket import SocketsDocument, UdpSockets
from tcpdoctor.answers.states import StatesAnswer
from tcpdoctor.answers.sysctl import SysctlAnswer
from tcpdoctor.answers.verdict import CheckAnswer, ChecksAnswer, NamespacesAnswer
from tcpdoctor.cli.output import FORMAT, JSON, OUTPUT, Output, emit, format_of, say
from tcpdoctor.knowledge.resource import bare, find_name
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.source import Source
from tcpdoctor.report.document import Part, part_of, schema_of
from tcpdoctor.report.page import Fields

if TYPE_CHECKING:
    from tcpdoctor.report.page import Block
    from tcpdoctor.report.style import Style


class NamedForm(NamedTuple):
    """One form of JSON."""

    name: str
    says: Annotated[str, Is("What it is of, in one sentence.")]


class SchemaList(NamedTuple):
    """What `tcpdoctor schema --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.schemas/1"]
    schemas: tuple[NamedForm, ...]


class ShellScript(NamedTuple):
    """What `tcpdoctor completion SHELL --format json` prints; text is the script itself."""

    schema: Literal["tcpdoctor.completion/1"]
    shell: Literal["bash", "zsh", "fish"]
    script: Annotated[str, Is("The shell reads it; its first lines say where it goes.")]


_RECORDS: Mapping[str, tuple[Any, str]] = {
    "check": (CheckAnswer, "check"),
    "checks": (ChecksAnswer, "check --netns all"),
    "completion": (ShellScript, "completion SHELL"),
    "connect": (ConnectAnswer, "explain --connect HOST:PORT"),
    "diff": (DiffAnswer, "diff A B"),
    "error": (ErrorAnswer, "explain --error E"),
    "facts": (FactsAnswer, "facts"),
    "fix": (FixAnswer, "fix"),
    "fleet": (FleetAnswer, "fleet"),
    "namespaces": (NamespacesAnswer, "COMMAND --netns all"),
    "option": (OptionAnswer, "explain --option SO_X"),
    "port": (PortAnswer, "explain --port N"),
    "lab": (ScenarioList, "lab list"),
    "lint": (LintAnswer, "rules lint"),
    "process": (ProcessAnswer, "explain --pid N"),
    "processes": (ProcessesAnswer, "explain --pid NAME"),
    "proof": (ProofAnswer, "lab prove"),
    "rule": (RuleAnswer, "explain --rule ID"),
    "rules": (RuleListAnswer, "rules list"),
    "ruletests": (RuleTestsAnswer, "rules test"),
    "snapshot": (SnapshotFile, "snapshot"),
    "schemas": (SchemaList, "schema"),
    "sockets": (SocketsDocument, "sockets"),
    "state": (StateAnswer, "explain --state S"),
    "states": (StatesAnswer, "states"),
    "sysctl": (SysctlAnswer, "explain --sysctl NAME"),
    "sysctl-lint": (SettingsLint, "sysctl lint"),
    "sysctls": (SettingsAnswer, "sysctl show"),
    "trace": (TraceSummary, "trace"),
    "udp-sockets": (UdpSockets, "sockets --udp"),
}
"""Those that are made from a record, and the command that prints it."""


_FAILURE = "failure"


def schema_names() -> tuple[str, ...]:
    """Return the names that `load_schema` knows, sorted."""
    return tuple(sorted({*_RECORDS, _FAILURE}))


def schema_list() -> SchemaList:
    """Return all of them, each with what it is of."""
    named = tuple(NamedForm(name, description_of(name)) for name in schema_names())
    return SchemaList("tcpdoctor.schemas/1", named)


def description_of(name: str) -> str:
    """Return what a schema is of, in one sentence."""
    if name == _FAILURE:
        return "What stands for a report where a host could not be looked at; `tcpdoctor fleet` reads it."
    return f"What `tcpdoctor {_RECORDS[name][1]} --format json` prints."


def load_schema(name: str) -> Part:
    """Return one schema, complete in itself.

    Raises:
        KeyError: There is none of that name.
    """
    if name == _FAILURE:
        return schema_of(HostFailure, description_of(name))
    record, command = _RECORDS[name]
    told = schema_of(record, description_of(name))
    if record is TraceSummary:
        told |= {"$defs": {"connection": part_of(EndedConnection)}, "linesBefore": _CONNECTION}
    if name in _FROM_RECORDINGS:
        told["properties"] |= {"recording": part_of(_RECORDING)}
    if command.startswith("explain "):
        told["properties"] |= {"also": part_of(_ALSO)}
    return told


_CONNECTION = {
    "$ref": "#/$defs/connection",
    "$comment": "The object of this schema is the last line; each line before it is such a connection.",
}
_FROM_RECORDINGS = frozenset(
    {
        *("connect", "error", "facts", "option", "port", "process", "processes", "rule", "sockets"),
        *("state", "states", "sysctl", "sysctls", "udp-sockets"),
    }
)
"""Those of commands that take `--from`; `check` has its own key ``source``."""

_RECORDING = Annotated[Source, Is("With --from: which recordings were read, and what they are.")]

_ALSO = Annotated[
    tuple[str, ...],
    Is("What the WORD may mean besides, each as the whole command that asks it; there where it does."),
]


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="For example check; without it, the names are listed."),
    ] = None,
    *,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
) -> None:
    """Print the JSON Schema of what --format json prints.

    NAME is what stands in the key "schema" of that JSON, between the point and the slash:
    tcpdoctor.check/1 is check. Later versions may add keys to any object, and never remove one.
    """
    target = Output("json" if name else format_of(output_format, as_json), output)
    if name is None:
        say(schema_list(), _names_page, target)
        return

    asked = name.removeprefix("tcpdoctor.").removesuffix("/1")
    wanted = find_name(asked, {bare(each): each for each in schema_names()}, "schema")

    emit(json.dumps(load_schema(wanted), indent=1), target)


def _names_page(answer: "SchemaList", _style: "Style") -> "list[Block]":
    return [Fields(tuple((each.name, each.says) for each in answer.schemas))]

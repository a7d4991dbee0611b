"""The JSON Schema of every JSON that this program prints, each complete in itself.

They are made from the records of the answers, or are files in ``knowledge/schemas``. Keys may be added to
any object later and none is removed, so no schema forbids keys that it does not name.
"""

from typing import Any

from tcpdoctor.knowledge.schema_pages import Schema, description_of_file, file_names, load_file
from tcpdoctor.report.document import schema_of

_DERIVED = {
    "connect": "What `tcpdoctor explain --connect HOST:PORT --format json` prints.",
    "error": "What `tcpdoctor explain --error E --format json` prints.",
    "option": "What `tcpdoctor explain --option SO_X --format json` prints.",
    "port": "What `tcpdoctor explain --port N --format json` prints.",
    "state": "What `tcpdoctor explain --state S --format json` prints.",
    "states": "What `tcpdoctor states --format json` prints.",
    "sysctl": "What `tcpdoctor explain --sysctl NAME --format json` prints.",
    "sysctls": "What `tcpdoctor sysctl show --format json` prints.",
    "sysctl-lint": "What `tcpdoctor sysctl lint --format json` prints.",
    "udp-sockets": "What `tcpdoctor sockets --udp --format json` prints.",
}
"""Those that are made from a record, and what they are of."""


def schema_names() -> tuple[str, ...]:
    """Return the names that `load_schema` knows, sorted."""
    return tuple(sorted({*file_names(), *_DERIVED}))


def description_of(name: str) -> str:
    """Return what a schema is of, in one sentence."""
    return _DERIVED.get(name) or description_of_file(name)


def load_schema(name: str) -> Schema:
    """Return one schema with all that it refers to under ``$defs``.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    if name in _DERIVED:
        return schema_of(_record_of(name), _DERIVED[name])
    return load_file(name, load_schema)


def _record_of(name: str) -> Any:
    """The record behind a derived schema; only the one asked for is imported."""
    match name:
        case "connect":
            from tcpdoctor.answers.connect import ConnectAnswer

            return ConnectAnswer
        case "error":
            from tcpdoctor.answers.error import ErrorAnswer

            return ErrorAnswer
        case "option":
            from tcpdoctor.answers.option import OptionAnswer

            return OptionAnswer
        case "port":
            from tcpdoctor.answers.port import PortAnswer

            return PortAnswer
        case "state":
            from tcpdoctor.answers.state import StateAnswer

            return StateAnswer
        case "states":
            from tcpdoctor.answers.states import StatesAnswer

            return StatesAnswer
        case "sysctl":
            from tcpdoctor.answers.sysctl import SysctlAnswer

            return SysctlAnswer
        case "sysctls":
            from tcpdoctor.answers.settings import SettingsAnswer

            return SettingsAnswer
        case "sysctl-lint":
            from tcpdoctor.answers.settings_lint import SettingsLint

            return SettingsLint
        case "udp-sockets":
            from tcpdoctor.answers.udp_sockets import UdpSockets

            return UdpSockets
    raise FileNotFoundError(name)

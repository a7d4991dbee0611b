"""`states` as one JSON object, schema tcpdoctor.states/1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcpdoctor.answers.states import Row, States
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import COUNTED_STATES
from tcpdoctor.report.host import host_json, missing_states, states_json, utc

if TYPE_CHECKING:
    from tcpdoctor.diagnosis.finding import JsonValue

SCHEMA = "tcpdoctor.states/1"


def states_answer_json(answer: States) -> dict[str, JsonValue]:
    """Return the object of that schema.

    What is not known is null, with the reason in ``missing``; ``by`` is null as well where nothing was
    grouped. Rows hold every state but ``bound`` where that is not known.
    """
    missing: dict[str, JsonValue] = {**missing_states(answer.readings)}
    if isinstance(answer.complete, Missing):
        missing["states"] = answer.complete.reason
    if isinstance(answer.rows, Missing):
        missing["by"] = answer.rows.reason
    elif answer.remarks:
        missing["by"] = " ".join(answer.remarks)
    rows: JsonValue = None
    if answer.by is not None and not isinstance(answer.rows, Missing):
        rows = [{"key": row.key, "states": _row_states(answer, row)} for row in answer.rows]
    return {
        "schema": SCHEMA,
        "host": host_json(answer.host, answer.kernel, answer.namespace, answer.namespace_name),
        "taken_at": utc(answer.taken_at),
        "states": states_json(answer.readings),
        "by": rows,
        "missing": missing,
    }


def _row_states(answer: States, row: Row) -> dict[str, JsonValue]:
    return {
        state.key: None if isinstance(answer.readings[state], Missing) else row.states.get(state, 0)
        for state in COUNTED_STATES
    }

"""`tcpdoctor fix`: what check found becomes a plan."""

from typing import Annotated, Literal

from tcpdoctor.answers.plan import LeftUndone, PlannedAdvice, PlannedChange, ToldPlan
from tcpdoctor.answers.record import Host, Is, Time, utc
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.named_tuples import NamedTuple


class FixAnswer(NamedTuple):
    """What `tcpdoctor fix --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.fix/1"]
    host: Host
    state: Annotated[
        Literal["planned", "pending", "kept", "undone", "failed"],
        Is("planned: nothing was changed; pending: changed, and undone unless somebody confirms."),
    ]
    changes: Annotated[tuple[PlannedChange, ...], Is("In the order in which they are made.")]
    advice: tuple[PlannedAdvice, ...]
    left: Annotated[tuple[LeftUndone, ...], Is("What was not done, or is still found, and why.")]
    taken_at: Time
    reason: Annotated[str | None, Is("Why it is in this state, in one sentence; null: as was asked.")]
    file: Annotated[str | None, Is("Where the lines for the next boot are, or would go; null: nowhere.")]


def planned_answer(plan: ToldPlan, snapshot: Snapshot, file: str | None) -> FixAnswer:
    """Return a plan as an answer; nothing is changed."""
    return FixAnswer(
        schema="tcpdoctor.fix/1",
        host=Host(snapshot.host, snapshot.kernel, str(snapshot.namespace), snapshot.namespace_name),
        state="planned",
        changes=plan.changes,
        advice=plan.advice,
        left=plan.left,
        taken_at=utc(snapshot.taken_at),
        reason=None,
        file=file,
    )

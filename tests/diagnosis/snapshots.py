"""A snapshot of nothing, for what needs only its namespace and sysctls."""

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Snapshot

NOT_LOOKED_AT = Missing("not looked at")


def snapshot(**fields) -> Snapshot:
    """An empty look; `fields` replace what matters to a test."""
    empty = Snapshot(
        taken_at=0.0,
        clock=0.0,
        host="test",
        kernel="6.18.0",
        namespace=4026531840,
        namespace_name=None,
        initial_namespace=True,
        euid=0,
        sysctls={},
        counters=NOT_LOOKED_AT,
        sockstat=NOT_LOOKED_AT,
        census=NOT_LOOKED_AT,
        listeners=NOT_LOOKED_AT,
        detail=NOT_LOOKED_AT,
        processes={},
        page_size=4096,
    )
    return empty._replace(**fields)

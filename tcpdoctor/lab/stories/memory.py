"""Buffers that are too small for what arrives."""

from collections.abc import Iterator

from tcpdoctor.lab.receiving import shrunk_buffers
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene


def _received_data_dropped() -> Iterator[Scene]:
    with shrunk_buffers(7):
        yield Broken(
            """
            Receivers had announced a window of 64 KiB; then their program made the receive buffer as small as
            SO_RCVBUF allows, and does not read. The senders send what they were promised room for. The kernel
            compacts the queue (PruneCalled), finds no room all the same, and drops data that had already
            arrived.
            """,
            fires={"received-data-dropped": "warning"},
            show=("explain --rule received-data-dropped",),
        )
    yield Cured("The program leaves the buffer to the kernel, and reads.")


SCENARIOS = (
    Scenario(
        "received-data-dropped", "Receive buffers have no room for what arrives", _received_data_dropped
    ),
)

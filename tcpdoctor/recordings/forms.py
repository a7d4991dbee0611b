"""Pasted text told apart by content, several forms behind each other."""

from tcpdoctor.errors import SnapshotError
from tcpdoctor.recordings.pasted import Pasted


def read_forms(text: str, shown: str) -> list[Pasted]:  # noqa: ARG001 - what reads it is on its way
    """Return what each of the forms in a paste says, in their order.

    Args:
        text: All of it, bytes that are no UTF-8 as surrogates.
        shown: Names the file in errors.

    Raises:
        SnapshotError: Nothing in it is understood, or it is of another system; one line.
    """
    raise SnapshotError(f"{shown}: not a recording of tcpdoctor; is it the right file?")

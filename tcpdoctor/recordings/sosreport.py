"""A sosreport, as a folder or an archive, as one recording."""

from tcpdoctor.errors import SnapshotError
from tcpdoctor.recordings.recording import Recording


def open_sosreport(path: str, shown: str) -> Recording:  # noqa: ARG001 - what reads it is on its way
    """Return what a sosreport says, by `tcpdoctor.recordings.assembled.assemble`.

    Args:
        path: Its folder, or an archive, which is read without trust.
        shown: Names it in errors.

    Raises:
        SnapshotError: It is none, or cannot be read; one line.
    """
    raise SnapshotError(f"{shown}: not a sosreport")

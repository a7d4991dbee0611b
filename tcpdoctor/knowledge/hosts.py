"""Healthy hosts that were recorded under real load: rules must leave them in peace.

Each is two looks a second apart at servers of Debian 12 in a network namespace of their own, with
addresses and names replaced; ``python -m tests.hosts.record`` in a checkout makes them anew.
"""

from collections.abc import Mapping
from importlib.resources import files

from tcpdoctor.kernel.recorded import unpack_samples
from tcpdoctor.kernel.snapshot import Samples

_SUFFIX = ".json.gz"

DEFAULTS = "defaults"
"""The host that is left as the kernel set it up: nothing at all may fire there."""


def recorded_hosts() -> Mapping[str, Samples]:
    """Return every host by its name: ``nginx``, ``postgresql`` and so on.

    Raises:
        SnapshotError: One is damaged: the installation is.
    """
    folder = files("tcpdoctor.knowledge") / "recordings"
    recordings = {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(_SUFFIX)}
    return {
        name.removesuffix(_SUFFIX): unpack_samples(entry.read_bytes(), name)
        for name, entry in sorted(recordings.items())
    }

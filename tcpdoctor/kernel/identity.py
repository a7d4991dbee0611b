"""On which host, kernel and network namespace we are, and as whom."""

import os
from typing import NamedTuple

from tcpdoctor.kernel.namespaces import is_initial_namespace, name_of_namespace, network_namespace
from tcpdoctor.kernel.reading import Reading
from tcpdoctor.kernel.text import clean


class Identity(NamedTuple):
    """Who looks, and at what."""

    host: str
    kernel: str
    namespace: int
    """Inode of the network namespace."""
    namespace_name: str | None
    """As ``ip netns`` knows it; None without a name."""
    initial_namespace: Reading[bool]
    euid: int


def read_identity() -> Identity:
    """Say on which host, kernel and network namespace we are, and as whom."""
    system = os.uname()
    return Identity(
        host=clean(system.nodename),
        kernel=clean(system.release),
        namespace=network_namespace(),
        namespace_name=name_of_namespace(),
        initial_namespace=is_initial_namespace(),
        euid=os.geteuid(),
    )

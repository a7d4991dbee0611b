"""Record the healthy hosts that rules must leave in peace: ``python -m tests.hosts.record [NAME...]``.

Needs root and the programs of .ci/install-peers. Takes some ten seconds a host.
"""

import os
import sys
from pathlib import Path

import tcpdoctor
from tcpdoctor.kernel.recorded import pack_samples
from tcpdoctor.lab.namespace import in_private_namespace
from tcpdoctor.recordings.anonymise import Disguise

from .servers import HOSTS, KEPT_NAMES, look_at

FOLDER = Path(tcpdoctor.__file__).parent / "knowledge" / "recordings"
LARGEST = 64 << 10
"""Bytes of one recording: they are shipped."""


def record(host: str) -> int:
    """Record one host and return the bytes that it took."""
    samples = in_private_namespace(look_at, host)
    data = pack_samples(Disguise(os.urandom(16), names=True, keep=KEPT_NAMES).of(samples))
    assert len(data) <= LARGEST, f"{host} takes {len(data)} bytes"
    (FOLDER / f"{host}.json.gz").write_bytes(data)
    return len(data)


if __name__ == "__main__":
    for name in sys.argv[1:] or HOSTS:
        print(f"{name}: {record(name)} bytes")  # noqa: T201 - its output is its purpose

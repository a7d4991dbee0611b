"""Tests against real peers: the servers that are diagnosed, and the programs that read what we print."""

import os
import shutil
from collections.abc import Callable

import pytest

PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/lib/nagios/plugins"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/peers/"):
            item.add_marker(pytest.mark.peers)


@pytest.fixture
def need() -> Callable[[str, str], str]:
    """Return the path of a peer's program, or skip the test with what to install; CI lets none be skipped."""

    def find(program: str, package: str) -> str:
        found = shutil.which(program, path=PLACES)
        if found is None:
            pytest.skip(f"no {program} here: apt-get install {package}, or run .ci/install-peers")
        return found

    return find

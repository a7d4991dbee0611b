"""Tests against real peers: the servers that are diagnosed, and the programs that read what we print."""

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import nullcontext

import pytest

from tests.conftest import in_the_hosts_network

PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/lib/nagios/plugins"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/peers/"):
            item.add_marker(pytest.mark.peers)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """Peers are where users have them: they talk to the network, and to services of this machine."""
    with in_the_hosts_network() if item.nodeid.startswith("tests/peers/") else nullcontext():
        yield


@pytest.fixture
def need() -> Callable[[str, str], str]:
    """Return the path of a peer's program, or skip the test with what to install; CI lets none be skipped."""

    def find(program: str, package: str) -> str:
        found = shutil.which(program, path=PLACES)
        if found is None:
            pytest.skip(f"no {program} here: apt-get install {package}, or run .ci/install-peers")
        return found

    return find

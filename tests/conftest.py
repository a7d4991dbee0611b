"""What every test may use."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from tcpdoctor.lab.namespace import NamespaceRefusedError, in_private_namespace


def _is_allowed() -> str | None:
    try:
        in_private_namespace(int)
    except NamespaceRefusedError as error:
        return str(error)
    return None


@functools.cache
def _refusal() -> str | None:
    return _is_allowed()


@pytest.fixture
def in_namespace() -> Callable[..., Any]:
    """Run a function in a private network namespace, or skip the test with the reason."""
    reason = _refusal()
    if reason is not None:
        pytest.skip(reason)
    return in_private_namespace

"""Whom a rule is about, and how its facts are looked up."""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from tcpdoctor.facts.value import Value

HIDDEN_LABEL = "processes that cannot be seen"
"""Who holds the sockets whose owners are hidden from us."""


class Scope(Enum):
    """Once per what a rule is evaluated. Facts of the host are visible in every scope."""

    HOST = "host"
    LISTENER = "listener"
    PROCESS = "process"
    PORT = "port"
    DESTINATION = "destination"


class Subject(NamedTuple):
    """One host, listener, process, port or destination with its facts."""

    scope: Scope
    label: str
    """For people: ``nginx (811)``, ``0.0.0.0:80``, ``8080``, ``10.0.0.5:5432 from 10.0.0.9``."""
    identity: Mapping[str, int | str | None]
    """For machines: ``{"pid": 811, "name": "nginx"}``; part of the JSON subject."""
    facts: Mapping[str, Value]
    """Facts of its own scope and of the host, by name."""
    hidden: bool = False
    """Stands for all the processes that we cannot see: its facts are ranges from 0, and a rule that
    could fire for it is unchecked, never a finding."""

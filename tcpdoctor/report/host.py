"""The parts that every report shares: which host, when, and its sockets per state."""

import time
from typing import TYPE_CHECKING

from tcpdoctor.answers.states import StateReadings
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.recordings.source import UNNAMED, Source
from tcpdoctor.report.style import Style

if TYPE_CHECKING:  # `states` has no findings
    from tcpdoctor.answers.finding import ToldFinding


def host_words(name: str, style: Style) -> str:
    """Return a host's name for a heading; not every recording tells it."""
    return "this recording" if style.recorded and name == UNNAMED else name


def where_words(when: str, kernel: str, namespace: int | str, namespace_name: str | None) -> str:
    """Say when and where it was: ``2026-11-20T12:00:00Z, Linux 6.18.44, network namespace 4026532177``.

    What a recording does not tell is left out.
    """
    named = f" ({namespace_name})" if namespace_name else ""
    linux = [f"Linux {kernel}"] if kernel != UNNAMED else []
    inside = [f"network namespace {namespace}{named}"] if int(namespace) else []
    return ", ".join([when, *linux, *inside])


def clock(seconds: float) -> str:
    """Return the time of day of seconds since 1970, UTC, where the day goes without saying."""
    return time.strftime("%H:%M:%SZ", time.gmtime(seconds))


def states_sentence(readings: StateReadings) -> str:
    """Say in one sentence how many sockets are in which state; empty states are left out."""
    counts = {state: reading for state, reading in readings.items() if not isinstance(reading, Missing)}
    parts = [f"{number} {state.key}" for state, number in counts.items() if number]
    text = f"Sockets: {', '.join(parts)}." if parts else "Sockets: none."
    if not counts:
        text = "Sockets: unknown."
    reasons: dict[str, list[str]] = {}
    for state, reading in readings.items():
        if isinstance(reading, Missing):
            reasons.setdefault(reading.reason, []).append(state.key)
    for reason, keys in reasons.items():
        names = "all of them" if len(keys) == len(readings) else ", ".join(keys)
        text += f" Not known: {names} ({reason})."
    return text


def samples_words(window: float) -> str:
    """Say how many samples there are, and how far apart: ``two samples 1 s apart``.

    Beyond an hour the rates between them are averages that say little about any moment.
    """
    if not window:
        return "one sample"
    if window <= 60:
        return f"two samples {window:g} s apart"
    from tcpdoctor.facts.value import SECOND, show  # only runs that remember are so far apart

    averages = " (rates are averages over that time, and hide a burst in it)" if window > 3600 else ""
    return f"two samples {show(window, SECOND)} apart{averages}"


_KINDS = {"snapshot": "a snapshot", "sosreport": "a sosreport", "text": "pasted output"}


def source_words(source: Source) -> str:
    """Say what was read instead of looking at this host: ``from pasted output (ss, nstat): case.txt``."""
    forms = f" ({', '.join(source.forms)})" if source.forms else ""
    what = f"from {_KINDS[source.kind]}{forms}: {' and '.join(source.files)}"
    undated = "" if source.dated else "; when it was taken is not told, the time is that of the file"
    return "; ".join([what + undated, *source.notes])


def finding_words(finding: "ToldFinding", port: int | None = None) -> str:
    """Say whom a finding is about, and what it is; nobody where that is the host, or the port asked about.

    Nor where the headline has the listener's port.
    """
    said, ports = finding.headline or finding.title, finding.subject.get("ports")
    numbers = ports if isinstance(ports, tuple) else ()
    named = any(f"{before}{number}" in said for number in numbers for before in (":", "port "))
    told = finding.scope == "listener" and (numbers == (port,) or named)
    return said if told or finding.scope == "host" else f"{finding.subject['label']}: {said}"


def known_numbers(*named: tuple[str, Reading[int]]) -> list[str]:
    """Return ``fd 6``, ``uid 33`` of those that are known."""
    return [f"{name} {number}" for name, number in named if not isinstance(number, Missing)]


def who_of(pid: int, uid: Reading[int]) -> str:
    """Return ``pid 811, uid 33``."""
    return ", ".join(known_numbers(("pid", pid), ("uid", uid)))


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return ``1 rule``, ``3 rules``."""
    return f"{number} {one if number == 1 else many or one + 's'}"

"""Files of settings against what their readers, this kernel and its traffic make of them."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_file_checks import check_files, check_folders
from tcpdoctor.diagnosis.sysctl_key_checks import DRIFT, check_drift, check_keys
from tcpdoctor.diagnosis.sysctl_look import Fault, Look
from tcpdoctor.diagnosis.sysctl_order_checks import check_order
from tcpdoctor.diagnosis.sysctl_port_checks import check_ports
from tcpdoctor.diagnosis.sysctl_value_checks import check_values
from tcpdoctor.kernel.reading import Missing


class Unchecked(NamedTuple):
    """Something that could not be looked at."""

    what: str
    """A file, or a check."""
    reason: str


class Linted(NamedTuple):
    """What came out."""

    faults: tuple[Fault, ...]
    """By file in the order in which they are read, then by line; the worst of a line first."""
    unchecked: tuple[Unchecked, ...]


def lint_settings(look: Look, names: Collection[str]) -> Linted:
    """Run every check.

    Args:
        look: What was read.
        names: Dotted names that a misspelt one may have meant.
    """
    found = [
        *check_files(look),
        *check_folders(look),
        *check_order(look),
        *check_keys(look, names),
        *check_drift(look),
        *check_values(look),
        *check_ports(look),
    ]
    order = {file.path: number for number, file in enumerate(look.files)}
    distinct = dict.fromkeys(_without_contradiction(found))
    faults = sorted(
        distinct,
        key=lambda fault: (order.get(fault.file, len(order)), fault.file, fault.line or 0, -fault.severity),
    )
    return Linted(tuple(faults), tuple(_unchecked(look)))


_SAID_ALREADY = frozenset({"key-has-no-effect", "key-read-only", "value-refused"})
"""Of a line with one of these it goes without saying that the kernel has something else."""


def _without_contradiction(found: Sequence[Fault]) -> Iterator[Fault]:
    """Nobody is told to apply a line that is wrong."""
    others: dict[tuple[str, int | None], set[str]] = {}
    for fault in found:
        disputes = fault.check == "trailing-comment" or fault.severity > Severity.INFO
        if fault.check in _SAID_ALREADY or (disputes and fault.check != "set-twice"):
            others.setdefault((fault.file, fault.line), set()).add(fault.check)
    for fault in found:
        wrong = others.get((fault.file, fault.line), set())
        if fault.check != DRIFT or not wrong:
            yield fault
        elif not wrong & _SAID_ALREADY:
            yield fault._replace(do="Do not apply it as it is: see the other remark on this line.")


def _unchecked(look: Look) -> list[Unchecked]:
    found = [
        Unchecked(file.path, file.content.reason)
        for file in look.files
        if isinstance(file.content, Missing) and file.content.reason.startswith("permission denied")
    ]
    if not look.is_here:
        found.append(Unchecked("running values", "the files below --root are another system's"))
    elif isinstance(look.listeners, Missing):
        found.append(Unchecked("range-holds-listener", look.listeners.reason))
    return found


def worst(linted: Linted) -> Severity | None:
    """The severity of the worst fault; None where there is none."""
    return max((fault.severity for fault in linted.faults), default=None)

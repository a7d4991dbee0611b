"""The whole answer about one port: what bind() will say, what stops it, until when."""

import math
from collections.abc import Iterable, Sequence

from tcpdoctor.diagnosis.bind import (
    OK,
    UDP_CHAIN,
    Attempt,
    Obstacle,
    Wanted,
    alike,
    possible_conflicts,
    predict,
    predict_udp,
)
from tcpdoctor.diagnosis.bind_target import Target, effective_v6only, find_obstacle, wanted_device
from tcpdoctor.diagnosis.occupants import (
    CAUSES,
    PortSocket,
    connected_sockets,
    listening_sockets,
    udp_sockets,
    vrf_of,
)
from tcpdoctor.kernel.bind_rules import Probe
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

MOST_BLOCKERS = 20
"""Blockers that are listed; of more, those that stay longest."""


class BindAnswer(NamedTuple):
    """What bind() and listen() answer for one address, and what stands in the way."""

    target: Target
    wanted: Wanted
    evidence: PortEvidence
    attempts: tuple[Attempt, ...]
    obstacle: Obstacle | None
    cause: str | None
    """Of the plain attempt's failure, one of `CAUSES`; None where it succeeds."""
    blockers: tuple[PortSocket, ...]
    """Sockets that stop the plain attempt, or may; the longest-lived first, at most `MOST_BLOCKERS`."""
    blockers_total: int
    by_cause: tuple[tuple[str, int], ...]
    """How many blockers there are of each cause, in the order of `CAUSES`."""
    free_in: float | None
    """Seconds until the last blocker is gone by itself, at the earliest; None: it stays, or there is none."""
    unknowns: tuple[str, ...]
    """Why an answer may be wrong or incomplete, as sentences."""


def answers(targets: Iterable[Target], evidence: PortEvidence) -> list[BindAnswer]:
    """Put the answers about some addresses together from one look at the port.

    What the kernel itself said is added later.
    """
    connected = connected_sockets(evidence)
    return [_answer(target, evidence, connected) for target in targets]


def answer(target: Target, evidence: PortEvidence) -> BindAnswer:
    """As `answers`, about one address."""
    return answers((target,), evidence)[0]


def _answer(target: Target, evidence: PortEvidence, connected: tuple[PortSocket, ...]) -> BindAnswer:
    wanted = wanted_socket(target, evidence)
    obstacle = find_obstacle(target, evidence.rules)
    udp = target.protocol == "udp"
    sockets = udp_sockets(evidence) if udp else listening_sockets(evidence, wanted) + connected
    unknowns = _unknowns_of_udp(evidence, obstacle) if udp else _unknowns(evidence, obstacle)
    known = None if isinstance(obstacle, Missing) else obstacle
    foresee = predict_udp if udp else predict
    kinds = alike(wanted, (s.existing for s in sockets))
    attempts = foresee(wanted, kinds.values(), known, complete=not unknowns)
    if isinstance(obstacle, Missing):  # it may fail for that, with another errno
        attempts = tuple(
            attempt._replace(certain=False, fails=attempt.certain and attempt.bind != OK)
            for attempt in attempts
        )
    met = {kind for kind in set(kinds.values()) if any(possible_conflicts(wanted, (), kind))}
    blockers = [s for s in sockets if kinds[s.existing] in met]
    blockers.sort(key=_longest_lived_first)
    present = _by_cause(blockers, evidence)
    cause = present[0][0] if present and attempts[0].bind != OK else None
    return BindAnswer(
        target=target,
        wanted=wanted,
        evidence=evidence,
        attempts=attempts,
        obstacle=known,
        cause=known.cause if known else cause,
        blockers=tuple(blockers[:MOST_BLOCKERS]),
        blockers_total=sum(number for _, number in present),
        by_cause=present,
        free_in=_free_in(known, blockers),
        unknowns=unknowns,
    )


def with_probes(answer: BindAnswer, probes: Sequence[Reading[Probe]]) -> BindAnswer:
    """Put what the kernel itself answered in place of the predictions, attempt by attempt.

    Without probes nothing changes. Where listen() was not tried it stays a prediction: it repeats the test
    that bind() has passed.
    """
    if not probes:
        return answer
    attempts = tuple(
        attempt if isinstance(probe, Missing) else _probed(attempt, probe)
        for attempt, probe in zip(answer.attempts, probes, strict=True)
    )
    plain = attempts[0].bind
    obstacle = answer.obstacle if answer.obstacle is not None and answer.obstacle.errno == plain else None
    cause = answer.by_cause[0][0] if answer.by_cause and plain == "EADDRINUSE" else None
    return answer._replace(
        attempts=attempts,
        obstacle=obstacle,
        cause=obstacle.cause if obstacle is not None else cause,
        free_in=answer.free_in if cause is not None else None,
    )


def _probed(attempt: Attempt, probe: Probe) -> Attempt:
    listen = probe.listen if probe.listen is not None else (OK if probe.bind == OK else None)
    return Attempt(
        attempt.options, probe.bind, listen, certain=True, probed=True, listen_probed=probe.listen is not None
    )


def wanted_socket(target: Target, evidence: PortEvidence) -> Wanted:
    """Return the socket that the user would bind, with the defaults of this network namespace."""
    return Wanted(
        family=target.family,
        address=target.address,
        v6only=effective_v6only(target, evidence.rules.bindv6only is True),
        uid=evidence.uid,
        device=wanted_device(target),
        vrf=vrf_of(wanted_device(target), evidence) if target.protocol == "tcp" else 0,
        vrf_known=not (wanted_device(target) and isinstance(evidence.vrfs, Missing)),
    )


def _longest_lived_first(socket: PortSocket) -> tuple[float, int]:
    end = math.inf if socket.leaves is None else socket.leaves.high
    return (-end, CAUSES.index(socket.cause))


def _free_in(obstacle: Obstacle | None, blockers: list[PortSocket]) -> float | None:
    if obstacle is not None or not blockers:
        return None
    ends = [s.leaves.low if s.leaves is not None else math.inf for s in blockers]
    last = max(ends)
    return None if math.isinf(last) else last


def _by_cause(blockers: list[PortSocket], evidence: PortEvidence) -> tuple[tuple[str, int], ...]:
    """Count blockers by cause; of a state that was only sampled, each stands for its share of all."""
    weights: dict[TcpState, float] = {}
    if not isinstance(evidence.local, Missing):
        for state, detail in evidence.local.items():
            if detail.connections:
                weights[state] = detail.total / len(detail.connections)
    counts = [
        (cause, sum(weights.get(b.state, 1.0) for b in blockers if b.cause == cause)) for cause in CAUSES
    ]
    return tuple((cause, round(number)) for cause, number in counts if number)


def _unknowns_of_udp(evidence: PortEvidence, obstacle: object) -> tuple[str, ...]:
    found = [part.reason for part in (evidence.udp, obstacle) if isinstance(part, Missing)]
    if not isinstance(evidence.udp, Missing) and len(evidence.udp) > UDP_CHAIN:
        # udp_lib_get_port() then looks among sockets on the same address and on the wildcard only.
        found.append(f"with more than {UDP_CHAIN} UDP sockets on a port the kernel does not compare all")
    return tuple(found)


def _unknowns(evidence: PortEvidence, obstacle: object) -> tuple[str, ...]:
    found = [part.reason for part in (evidence.listeners, evidence.local) if isinstance(part, Missing)]
    if isinstance(obstacle, Missing):
        found.append(obstacle.reason)
    if not isinstance(evidence.local, Missing):
        if isinstance(evidence.bound_seen, Missing):
            found.append(f"sockets that are bound and no more may be hidden: {evidence.bound_seen.reason}")
        for state, detail in evidence.local.items():
            if detail.total > len(detail.connections):
                found.append(
                    f"of {detail.total} sockets in {state.name} {len(detail.connections)} were looked at"
                )
            elif detail.reason:
                found.append(detail.reason)
    return tuple(found)

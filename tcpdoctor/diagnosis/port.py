"""The whole answer about one port: what bind() will say, what stops it, until when.

Before it looks for other sockets bind() checks the address, and the right to the port. The order is the
kernel's: __inet_bind() looks at the address first, __inet6_bind() at the privilege.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from tcpdoctor.diagnosis.bind import (
    OK,
    UDP_CHAIN,
    Attempt,
    Obstacle,
    Wanted,
    alike,
    four,
    possible_conflicts,
    predict,
    predict_udp,
    programs_decide,
)
from tcpdoctor.diagnosis.occupants import (
    CAUSES,
    Cause,
    PortSocket,
    connected_sockets,
    listening_sockets,
    udp_sockets,
    vrf_of,
)
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.bind_rules import BindRules, Probe
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple


class Target(NamedTuple):
    """Where somebody wants to bind."""

    family: int
    """4 or 6."""
    address: str
    """Numeric, as inet_ntop() prints it, without a scope."""
    scope: int
    """Interface index behind the % of an IPv6 address; 0 for none."""
    port: int
    device: int = 0
    """Interface index of SO_BINDTODEVICE; 0 for none."""
    protocol: str = "tcp"
    """``tcp`` or ``udp``."""

    @property
    def socket_address(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return what socket.bind() takes."""
        return (self.address, self.port) if self.family == 4 else (self.address, self.port, 0, self.scope)


def parse_target(
    address: str | None, port: int, interfaces: Mapping[str, int], *, asked: str | None = None
) -> Target:
    """Read the address that the user typed; ``0.0.0.0`` where he typed none.

    Args:
        address: ``10.0.0.5``, ``::``, ``[::1]``, ``fe80::1%eth0`` or ``*`` (0.0.0.0).
        port: 1 to 65535.
        interfaces: Index by name, for what is behind the %.
        asked: What a complaint begins with: ``--source 1.2.3``; None: ``--address`` and the address.

    Raises:
        QuestionError: It is no such address or port.
    """
    if not 1 <= port <= 65535:
        why = "bind() to port 0 means: any free one" if port == 0 else "ports go from 1 to 65535"
        raise QuestionError(f"--port {port}: {why}; name a port from 1 to 65535")
    question = asked or f"--address {address}"
    text = (address if address is not None else "0.0.0.0").strip()
    if text == "*":
        text = "0.0.0.0"
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    host, percent, zone = text.partition("%")
    try:
        if ":" not in host and not percent:
            return Target(4, _canonical(AF_INET, host), 0, port)
        numeric = _canonical(AF_INET6, host)
    except (OSError, ValueError) as error:
        raise QuestionError(
            f"{question}: no IP address; give it in numbers, such as 127.0.0.1, 0.0.0.0 or ::"
        ) from error
    return Target(6, numeric, _scope(question, zone, interfaces) if percent else 0, port)


def _canonical(family: int, text: str) -> str:
    """Write an address as the kernel's sockets are printed, so that the two compare."""
    return inet_ntop(family, inet_pton(family, text))


def _scope(question: str, zone: str, interfaces: Mapping[str, int]) -> int:
    if zone in interfaces:
        return interfaces[zone]
    if zone.isascii() and zone.isdigit() and int(zone) < 2**32:
        return int(zone)
    raise QuestionError(f"{question}: no interface {zone!r} here; there are: {', '.join(interfaces)}")


def wanted_device(target: Target) -> int:
    """Return the interface that the socket is tied to after bind(): a link-local address's scope decides."""
    return target.scope if is_link_local(target) and target.scope else target.device


def effective_v6only(target: Target, bindv6only: bool) -> bool:  # noqa: FBT001 - a sysctl's value
    """Return the IPV6_V6ONLY that the socket has after bind() if it did not set it itself."""
    if target.family == 4 or target.address == "::":
        return bindv6only and target.family == 6
    return bindv6only or four(6, target.address) is None


def find_obstacle(target: Target, rules: BindRules) -> Reading[Obstacle | None]:
    """Return the error that bind() answers whatever sockets there are; None where there is none.

    Missing where it hangs on something that could not be read; never a guess.
    """
    checks = [_foreign_address(target, rules), _privilege(target, rules)]
    if target.family == 6:
        if _is_multicast(target.address) and target.protocol == "tcp":
            return Obstacle("EINVAL", None, "an IPv6 TCP socket cannot be bound to a multicast address")
        checks.reverse()
    for check in checks:
        if check is not None:
            return check
    return None


def _privilege(target: Target, rules: BindRules) -> Reading[Obstacle] | None:
    if isinstance(rules.unprivileged_from, Missing):
        return rules.unprivileged_from
    if target.port >= rules.unprivileged_from:
        return None
    if isinstance(rules.privileged, Missing):
        return rules.privileged
    if rules.privileged:
        return None
    return Obstacle(
        "EACCES",
        "privileged-port",
        f"ports below {rules.unprivileged_from} (net.ipv4.ip_unprivileged_port_start) need "
        "CAP_NET_BIND_SERVICE over this network namespace, which this user lacks",
    )


def _foreign_address(target: Target, rules: BindRules) -> Reading[Obstacle] | None:
    ipv4 = four(target.family, target.address)
    if ipv4 is None:
        return _foreign_ipv6(target, rules)
    if target.family == 6 and rules.bindv6only is True:
        return Obstacle(
            "EINVAL", None, "net.ipv6.bindv6only is 1, and a v6only socket takes no IPv4-mapped address"
        )
    if ipv4 in ("0.0.0.0", "255.255.255.255") or _is_ipv4_multicast(ipv4) or rules.nonlocal_ipv4 is True:
        return None
    local = rules.addresses.has_ipv4(ipv4)
    if isinstance(local, Missing):
        return local
    if local:
        return None
    if target.device:
        return Missing("with --device the address may be one of its VRF, whose addresses are not read")
    return Obstacle(
        "EADDRNOTAVAIL", "address-not-local", f"{ipv4} is no address of this host (or network namespace)"
    )


def _foreign_ipv6(target: Target, rules: BindRules) -> Reading[Obstacle] | None:
    if target.address == "::":
        return None
    if _needs_interface(target) and not wanted_device(target):
        return Obstacle(
            "EINVAL",
            "address-not-local",
            f"{target.address} is a link-local address and names no interface, as {target.address}%eth0 does",
        )
    if rules.nonlocal_ipv6 is True or _is_multicast(target.address):
        return None
    if isinstance(rules.addresses.ipv6, Missing):
        return rules.addresses.ipv6
    # Of other addresses bind() does not ask which interface has them (ipv6_chk_addr(), not strict).
    device = wanted_device(target) if is_link_local(target) or target.address == "::1" else 0
    same = [
        a for a in rules.addresses.ipv6 if a.address == target.address and device in (0, a.interface_index)
    ]
    if any(not a.tentative for a in same):
        return None
    for mine in same:
        why = f"{target.address} is tentative: duplicate address detection on {mine.interface} is not over "
        why += "(it takes about a second)"
        if mine.duplicate:
            why = f"{target.address} failed duplicate address detection on {mine.interface}: "
            why += "another host has it"
        return Obstacle("EADDRNOTAVAIL", "address-not-local", why)
    return Obstacle(
        "EADDRNOTAVAIL",
        "address-not-local",
        f"{target.address} is no address of this host (or network namespace)",
    )


def _needs_interface(target: Target) -> bool:
    """Whether bind() refuses the address without an interface: link-local, multicast of that scope too."""
    group = _first_group(target.address)
    return is_link_local(target) or (group >> 8 == 0xFF and group & 0xF in (1, 2))


def is_link_local(target: Target) -> bool:
    """Whether the address means something on one interface only."""
    return target.family == 6 and _first_group(target.address) & 0xFFC0 == 0xFE80


def _is_multicast(address: str) -> bool:
    return _first_group(address) >> 8 == 0xFF


def _first_group(address: str) -> int:
    """The first 16 bits of an IPv6 address; ``::`` may stand for them."""
    return int(address.partition(":")[0] or "0", 16)


def _is_ipv4_multicast(address: str) -> bool:
    return 224 <= int(address.split(".")[0]) <= 239


MOST_BLOCKERS = 20
"""Blockers that are listed; of more, those that stay longest."""


class BindAnswer(NamedTuple):
    """What bind() and listen() answer for one address, and what stands in the way."""

    target: Target
    wanted: Wanted
    evidence: PortEvidence
    attempts: tuple[Attempt, ...]
    obstacle: Obstacle | None
    cause: Cause | None
    """Of the plain attempt's failure, one of `CAUSES`; None where it succeeds."""
    blockers: tuple[PortSocket, ...]
    """Sockets that stop the plain attempt, or may; the longest-lived first, at most `MOST_BLOCKERS`."""
    blockers_total: int
    by_cause: tuple[tuple[Cause, int], ...]
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
    if programs := evidence.programs.get(target.family, ()):
        unknowns = (*unknowns, programs_decide(programs, "bind()"))
    elif evidence.programs_perhaps:
        unknowns = (*unknowns, f"what decides over bind() was not all looked at: {evidence.programs_perhaps}")
    known = None if isinstance(obstacle, Missing) else obstacle
    kinds = alike(wanted, (s.existing for s in sockets))
    if udp:
        attempts = predict_udp(wanted, kinds.values(), known, complete=not unknowns)
    else:
        keeps = evidence.rules.keeps_reuseaddr
        attempts = predict(wanted, kinds.values(), known, complete=not unknowns, keeps_reuseaddr=keeps)
    if isinstance(obstacle, Missing):  # it may fail for that, with another errno
        attempts = tuple(
            attempt._replace(certain=False, fails=attempt.certain and attempt.bind != OK)
            for attempt in attempts
        )
    met = {kind for kind in set(kinds.values()) if any(possible_conflicts(wanted, (), kind))}
    blockers = [s for s in sockets if kinds[s.existing] in met]
    unknowns = (*unknowns, *_perhaps_of_another_vrf(blockers, evidence))
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


def _perhaps_of_another_vrf(blockers: Iterable[PortSocket], evidence: PortEvidence) -> Iterator[str]:
    devices = {one.existing.device for one in blockers if not one.existing.vrf_known}
    names = sorted(evidence.interfaces.get(device, str(device)) for device in devices)
    if names and not isinstance(evidence.vrfs, Missing):
        yield (
            f"whether the sockets on {' and '.join(names)} are of the same VRF is not told: an interface may "
            "come into a VRF, or leave it, when they are bound already"
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


def _by_cause(blockers: list[PortSocket], evidence: PortEvidence) -> tuple[tuple[Cause, int], ...]:
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

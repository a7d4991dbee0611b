"""The answer to `explain --port`: can a server bind this port, who holds it, until when, what to do.

The look is taken once and judged for each address that is asked about; without one these are ``0.0.0.0`` and
``::``, because Go, Java, Node and .NET bind the latter.
"""

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from tcpdoctor.answers.blocker import (
    Blocker,
    SocketHolder,
    ToldContainer,
    known_holder,
    told_blockers,
    told_container,
    told_holder,
)
from tcpdoctor.answers.ended import TraceSummary
from tcpdoctor.answers.finding import ToldFinding, told_finding
from tcpdoctor.answers.record import (
    NO_REASONS,
    Count,
    Host,
    Is,
    Reasons,
    Seconds,
    TimeInHalves,
    host_of,
    told_number,
    utc,
)
from tcpdoctor.answers.states import SocketsByState
from tcpdoctor.diagnosis.bind import ATTEMPTS, Attempt
from tcpdoctor.diagnosis.custody import first_holder
from tcpdoctor.diagnosis.finding import Diagnosis, Unchecked
from tcpdoctor.diagnosis.occupants import Cause, udp_sockets
from tcpdoctor.diagnosis.port import BindAnswer, Target, answers, parse_target, with_probes
from tcpdoctor.diagnosis.port_advice import Outcome, conclude
from tcpdoctor.diagnosis.port_verdict import (
    Verdict,
    count_causes,
    that_can_be_asked,
    verdict_of_all,
)
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.addresses import interface_indexes
from tcpdoctor.kernel.bind_rules import Probe, find_user, probe_bind
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.packet_rules import Asked, Redirect
from tcpdoctor.kernel.port_evidence import PortEvidence, PortLook, read_port_evidence, seen_by, take_port_look
from tcpdoctor.kernel.programs import Guarded
from tcpdoctor.kernel.reading import UNDERWAY, Missing, Reading
from tcpdoctor.kernel.snapshot import Detail, Held, Listener
from tcpdoctor.kernel.sockopts import Linger, PortRange, SocketOptions
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple

_ANYWHERE = ("0.0.0.0", "::")
_WINDOW = 1.0
"""Seconds between the two looks, as of `check`."""
WAIT_STEP = 0.25
"""Seconds between two looks where the end of the wait is not foreseen."""
WAIT_STRIDE = 2.0
"""Where it is: a peer may end it earlier."""

ErrnoOrOk: TypeAlias = Annotated[str, Is("ok, or the name of an error.", pattern="^(ok|E[A-Z0-9]+)$")]
Options: TypeAlias = Annotated[
    Mapping[str, bool | int | str | Linger | PortRange | None],
    Is(
        "Socket options by name, in the kernel's units: TCP_USER_TIMEOUT in milliseconds, buffers in bytes, "
        "times in seconds."
    ),
]


class PortQuestion(NamedTuple):
    """What is asked about a port."""

    port: int
    address: str | None = None
    """None: ``0.0.0.0`` and ``::``."""
    protocol: Literal["tcp", "udp"] = "tcp"
    user: str | None = None
    """Name or uid of the user who is to bind it; None: the one who asks."""
    device: str | None = None
    """Interface that the server binds itself to by SO_BINDTODEVICE."""
    probe: bool = False
    probe_listen: bool = False


class ToldAttempt(NamedTuple):
    """What one combination of options meets."""

    options: tuple[Literal["SO_REUSEADDR", "SO_REUSEPORT"], ...]
    bind: ErrnoOrOk
    listen: Annotated[ErrnoOrOk | None, Is("null where bind fails, and for UDP.")]
    certain: Annotated[bool, Is("false: it hangs on something the kernel does not tell.")]
    fails: Annotated[bool, Is("It fails for sure, although its errno may be another.")]


class Bind(NamedTuple):
    """What bind() and listen() answer for one address, and what stands in the way."""

    attempts: Annotated[
        tuple[ToldAttempt, ...], Is("Without options, with SO_REUSEADDR, with SO_REUSEPORT, with both.")
    ]
    probed: Annotated[bool, Is("The kernel itself was asked.")]
    cause: Literal[Cause, None]
    free_in_s: Annotated[
        float | None,
        Is(
            "Seconds until the last blocker leaves by itself, at the earliest; null: it does not, or nothing "
            "blocks.",
            minimum=0,
        ),
    ]
    blockers_total: Count
    blockers: Annotated[tuple[Blocker, ...], Is("The longest-lived first, 20 at most.")]
    uid: Annotated[int, Is("Of the user that the prediction is for.", minimum=0)]
    obstacle: str | None
    listen_probed: bool
    address: str
    verdict: Verdict
    by_cause: Annotated[Mapping[str, int], Is("How many blockers there are of each cause.")]
    free_at: Annotated[TimeInHalves | None, Is("When free_in_s is over.")]
    says: Annotated[str, Is("The answer in one or two sentences.")]


def blockers_in_words(bind: Bind) -> str:
    """Return how many there are of each cause: ``one listener, 129 live connections``."""
    return count_causes(bind.by_cause)


class ListenerHere(NamedTuple):
    """A listener at the port."""

    local: str
    accept_queue: Reading[Count]
    accept_limit: Reading[Count]
    owner: SocketHolder | None
    options: Options | None
    drops: Reading[Count]
    v6only: bool | None
    owner_missing: str | None
    other_holders: tuple[SocketHolder, ...]
    uid: Reading[Count]
    device: str | None


class ToldRedirect(NamedTuple):
    """A rule of nft or iptables that leads the port's clients elsewhere before a socket is looked up."""

    to_address: Annotated[str | None, Is("null: this host itself; empty: it hangs on the packet.")]
    to_port: Annotated[int | None, Is("null: the same port, or it hangs on the packet.", minimum=0)]
    where: Annotated[str, Is("Program, table and chain of the rule.")]
    only_for: Annotated[str | None, Is("Address or network that clients ask for; null: any of this host's.")]
    names_port: Annotated[bool, Is("false: it leads others of that address away too.")]
    container: ToldContainer | None
    asks: Annotated[
        tuple[Asked, ...],
        Is("What else the rule compares and was not evaluated: it may be for some clients only."),
    ]


class ToldPrograms(NamedTuple):
    """A control group whose programs of eBPF decide over bind() of its processes."""

    group: Annotated[str, Is("The unit that it is of, or its path.")]
    hooks: tuple[str, ...]
    command: Annotated[
        str | None, Is("What tells which ports the unit may bind; null: it is no unit of here.")
    ]


class PortAnswer(NamedTuple):
    """What `tcpdoctor explain --port N --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.port/1"]
    port: Annotated[int, Is(minimum=1, maximum=65535)]
    address: str
    family: Literal["ipv4", "ipv6"]
    protocol: Literal["tcp", "udp"]
    host: Host
    taken_at: TimeInHalves
    bind: Reading[Bind]
    advice: tuple[str, ...]
    listeners: Reading[tuple[ListenerHere, ...]]
    states: Annotated[SocketsByState, Is("Of the sockets whose local port it is.")]
    as_local: Reading[Count]
    as_remote: Reading[Count]
    findings: tuple[ToldFinding, ...]
    verdict: Annotated[
        Verdict,
        Is("Of a bind() without options. partly: one of 0.0.0.0 and :: is free; unknown: it is not certain."),
    ]
    wrong_advice: tuple[str, ...]
    unchecked: tuple[Unchecked, ...]
    missing: Reasons
    headline: Annotated[str, Is("The answer in a line.")]
    bind_ipv6: Annotated[Reading[Bind], Is("The same for ::, where no address was asked for.")]
    udp_holders: Annotated[Reading[tuple[Blocker, ...]], Is("UDP sockets on the port.")]
    user: Annotated[str | None, Is("Whom the question is for, where that was asked.")]
    device: Annotated[str | None, Is("The interface that was asked for (SO_BINDTODEVICE).")]
    waited_s: Annotated[Seconds | None, Is("How long was waited until it was free, or in vain.")]
    doubts: Annotated[tuple[str, ...], Is("Why an answer may be wrong or incomplete.")]
    redirects: Annotated[
        Reading[tuple[ToldRedirect, ...]],
        Is("Rules that lead the port's clients elsewhere; null where the rules were not looked at."),
    ]
    summary: Annotated[str, Is("The headline without its verdict.")]
    trace: Annotated[
        TraceSummary | None, Is("What ended at the port while --trace looked; null where that was not asked.")
    ]
    programs: Annotated[
        Reading[tuple[ToldPrograms, ...]],
        Is("Units and other control groups that may be refused a port; null where it was not looked at."),
    ]


def look_at_port(question: PortQuestion) -> PortAnswer:
    """Look at a port of the calling thread's network namespace, and say everything about it.

    Nothing is bound unless the question asks for a probe.

    Raises:
        QuestionError: The port, the address, the user or the device is none.
    """
    uid, targets = _uid_of(question), _targets(question)
    look = take_port_look(question.port, question.protocol, window=_WINDOW)
    probes = [_probes(target, question) for target in targets]
    diagnosis = _diagnose(look)
    evidence = seen_by(look.evidence, uid)
    found = list(map(with_probes, answers(targets, evidence), probes))
    return finish(question, found, evidence, diagnosis, look.who, look.taken_at)


def wait_until_free(question: PortQuestion, seconds: float) -> PortAnswer:
    """Look again and again until a bind() without options would succeed, or `seconds` are over.

    Raises:
        QuestionError: As `look_at_port`.
    """
    begun = time.monotonic()
    uid, targets = _uid_of(question), _targets(question)
    while True:
        evidence = seen_by(read_port_evidence(question.port, protocol=question.protocol), uid)
        found = answers(targets, evidence)
        waited = time.monotonic() - begun
        free = verdict_of_all(that_can_be_asked(found)) == "free"
        if free or waited >= seconds or UNDERWAY.is_hurried or UNDERWAY.is_interrupted:
            return look_at_port(question)._replace(waited_s=round(waited, 3))
        ends = max((one.free_in or 0.0 for one in found), default=0.0)
        UNDERWAY.wait(min(max(ends, WAIT_STEP), WAIT_STRIDE, seconds - waited))


def _uid_of(question: PortQuestion) -> int | None:
    """Return the uid of the user whom the question is for; None where it is the one who asks.

    Raises:
        QuestionError: There is no such user, or a probe was asked for that does not fit.
    """
    if (question.probe or question.probe_listen) and question.user is not None:
        raise QuestionError("--probe asks the kernel as the user who runs it: leave --user out, or sudo -u")
    if question.probe_listen and question.protocol == "udp":
        raise QuestionError("--probe-listen: a UDP socket does not listen; --probe binds it")
    if question.user is None:
        return None
    uid = find_user(question.user)
    if isinstance(uid, Missing):
        raise QuestionError(f"--user {question.user[:60]}: {uid.reason}; give a name or a number")
    return uid


def _targets(question: PortQuestion) -> list[Target]:
    interfaces = interface_indexes()
    device = 0
    if question.device is not None:
        if question.device not in interfaces:
            known = ", ".join(map(clean, interfaces))
            raise QuestionError(
                f"--device {clean(question.device, 30)}: no interface is called so; there are: {known}"
            )
        device = interfaces[question.device]
    asked = _ANYWHERE if question.address is None else (question.address,)
    return [
        parse_target(address, question.port, interfaces)._replace(device=device, protocol=question.protocol)
        for address in asked
    ]


def _probes(target: Target, question: PortQuestion) -> list[Reading[Probe]]:
    """What the kernel itself answers to each combination of options; nothing where it was not asked."""
    if not question.probe and not question.probe_listen:
        return []
    return [
        probe_bind(
            target.family,
            target.socket_address,
            options,
            listen=question.probe_listen,
            datagram=target.protocol == "udp",
            device=question.device,
        )
        for options in ATTEMPTS
    ]


def _diagnose(look: PortLook) -> Diagnosis:
    """Ask the rules about this port and who is there."""
    if look.samples is None:
        return Diagnosis((), (), 0)
    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.diagnosis.evaluate import diagnose_port

    return diagnose_port(load_rules().rules, look.samples, look.evidence.port, look.evidence.pids)


# The record is finished here; nothing is read below this line.


def finish(
    question: PortQuestion,
    found: Sequence[BindAnswer],
    evidence: PortEvidence,
    diagnosis: Diagnosis,
    who: Identity,
    taken_at: float,
) -> PortAnswer:
    """Put the record together from what was found for each address, the one that was asked about first."""
    target, (verdict, summary, advice, led, doubts, outcomes) = found[0].target, conclude(found, evidence)
    binds = [_bind(one, outcome, taken_at) for one, outcome in zip(found, outcomes, strict=True)]
    return PortAnswer(
        schema="tcpdoctor.port/1",
        port=target.port,
        address=target.address,
        family="ipv4" if target.family == 4 else "ipv6",
        protocol=question.protocol,
        host=host_of(who),
        taken_at=utc(taken_at),
        bind=binds[0],
        advice=advice.do,
        listeners=_listeners(evidence),
        states=_states(evidence),
        as_local=_total(evidence.local, evidence.listeners),
        as_remote=evidence.remote if isinstance(evidence.remote, Missing) else sum(evidence.remote.values()),
        findings=tuple(map(told_finding, diagnosis.findings)),
        verdict=verdict,
        wrong_advice=advice.avoid,
        unchecked=diagnosis.unchecked,
        missing={f"bind.{number}": doubt for number, doubt in enumerate(found[0].unknowns)} or NO_REASONS,
        headline=f"{verdict.upper()}  {summary}",
        bind_ipv6=_bind_ipv6(question, binds, evidence),
        udp_holders=evidence.udp
        if isinstance(evidence.udp, Missing)
        else told_blockers(udp_sockets(evidence), evidence),
        user=question.user,
        device=question.device,
        waited_s=None,
        doubts=doubts,
        redirects=_redirects(led, evidence.redirects.not_looked),
        summary=summary,
        trace=None,
        programs=_programs(evidence.guarded),
    )


def _programs(guarded: Reading[tuple[Guarded, ...]]) -> Reading[tuple[ToldPrograms, ...]]:
    if isinstance(guarded, Missing):
        return Missing(f"not looked: {guarded.reason}")
    return tuple(ToldPrograms(one.name, one.hooks, _asks_unit(one)) for one in guarded)


def _asks_unit(group: Guarded) -> str | None:
    ask = "systemctl show -p SocketBindAllow -p SocketBindDeny"
    return f"{ask} {shlex.quote(group.name)}" if group.is_unit else None


def _redirects(found: tuple[Redirect, ...], not_looked: tuple[str, ...]) -> Reading[tuple[ToldRedirect, ...]]:
    """What was found counts, also where not all was looked at; none found there is not known."""
    if not_looked and not found:
        return Missing(f"not looked: {'; '.join(not_looked)}")
    return tuple(
        ToldRedirect(
            to_address=one.to.address,
            to_port=one.to.port,
            where=one.where,
            only_for=one.address,
            names_port=one.names_port,
            container=None if one.container is None else told_container(one.container),
            asks=one.asks,
        )
        for one in found
    )


def _bind_ipv6(
    question: PortQuestion, binds: Sequence[Reading[Bind]], evidence: PortEvidence
) -> Reading[Bind]:
    if question.address is not None:
        return Missing("an address was asked for")
    if evidence.rules.ipv6 is False:
        return Missing("IPv6 is off: this kernel makes no IPv6 sockets")
    return binds[1]


def _bind(found: BindAnswer, outcome: Outcome, taken_at: float) -> Reading[Bind]:
    if outcome.blind:
        return Missing("; ".join(found.unknowns))
    return Bind(
        attempts=tuple(map(_attempt, found.attempts)),
        probed=any(attempt.probed for attempt in found.attempts),
        cause=found.cause,
        free_in_s=None if found.free_in is None else round(found.free_in, 3),
        blockers_total=found.blockers_total,
        blockers=told_blockers(found.blockers, found.evidence),
        uid=found.wanted.uid,
        obstacle=None if found.obstacle is None else found.obstacle.why,
        listen_probed=any(attempt.listen_probed for attempt in found.attempts),
        address=found.target.address,
        verdict=outcome.verdict,
        by_cause=dict(found.by_cause),
        free_at=None if found.free_in is None else utc(taken_at + found.free_in + 0.999),
        says=outcome.says,
    )


def _attempt(attempt: Attempt) -> ToldAttempt:
    fails = attempt.fails or (attempt.certain and attempt.bind != "ok")
    return ToldAttempt(attempt.options, attempt.bind, attempt.listen, attempt.certain, fails)  # type: ignore[arg-type]


def _listeners(evidence: PortEvidence) -> Reading[tuple[ListenerHere, ...]]:
    if isinstance(evidence.listeners, Missing):
        return evidence.listeners
    return tuple(_listener(row, evidence) for row in evidence.listeners)


def _listener(row: Listener, evidence: PortEvidence) -> ListenerHere:
    device = evidence.interfaces.get(row.device)
    held = row.owner.holders if isinstance(row.owner, Held) else ()
    return ListenerHere(
        local=row.local.on(device),
        accept_queue=told_number(row.accept_queue),
        accept_limit=row.accept_limit,
        owner=told_holder(first_holder(row), evidence),
        options=_options(evidence.options.get(row.inode)),
        drops=row.drops,
        v6only=row.v6only,
        owner_missing=row.owner.reason if isinstance(row.owner, Missing) else None,
        other_holders=tuple(known_holder(holder, evidence) for holder in held[1:]),
        uid=told_number(row.uid),
        device=device,
    )


def _options(options: Reading[SocketOptions] | None) -> Options | None:
    """A socket's options by name, those that it lacks left out; None where it could not be asked."""
    if options is None or isinstance(options, Missing):
        return None
    return {name: value for name, value in options.items() if not isinstance(value, Missing)}


def _states(evidence: PortEvidence) -> SocketsByState:
    counts: dict[str, Reading[int]] = {}
    for state in COUNTED_STATES:
        if state is TcpState.LISTEN:
            listeners = evidence.listeners
            counts[state.key] = listeners if isinstance(listeners, Missing) else len(listeners)
        elif isinstance(evidence.local, Missing):
            counts[state.key] = evidence.local
        elif state is TcpState.BOUND and isinstance(evidence.bound_seen, Missing):
            counts[state.key] = evidence.bound_seen
        else:
            detail = evidence.local.get(state)
            sampled = "" if detail is None else detail.reason
            counts[state.key] = 0 if detail is None else Missing(sampled) if sampled else detail.total
    return SocketsByState(**counts)


def _total(
    detail: Reading[Mapping[TcpState, Detail]], listeners: Reading[tuple[Listener, ...]]
) -> Reading[int]:
    if isinstance(detail, Missing):
        return detail
    if isinstance(listeners, Missing):
        return listeners
    sampled = "; ".join(one.reason for one in detail.values() if one.reason)
    if sampled:
        return Missing(sampled)
    return sum(one.total for one in detail.values()) + len(listeners)

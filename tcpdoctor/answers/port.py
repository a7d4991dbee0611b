"""The answer to `explain --port`: can a server bind this port, who holds it, until when, what to do.

The look is taken once and judged for each address that is asked about; without one these are ``0.0.0.0`` and
``::``, because Go, Java, Node and .NET bind the latter.
"""

import socket
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from tcpdoctor.answers.finding import ToldFinding, told_finding
from tcpdoctor.answers.record import (
    NO_REASONS,
    Count,
    Host,
    Is,
    Pid,
    Reasons,
    Seconds,
    StateKey,
    Time,
    host_of,
    utc,
)
from tcpdoctor.answers.states import SocketsByState
from tcpdoctor.answers.stop import (
    ToldContainer,
    ToldPlace,
    ToldStop,
    told_container,
    told_place,
    told_stop,
)
from tcpdoctor.diagnosis.bind import ATTEMPTS, OK, Attempt, Target, parse_target
from tcpdoctor.diagnosis.custody import (
    HeldConnections,
    connections_by_holders,
    connections_that_end,
    custody_of,
    first_holder,
    is_waiting,
    peer_of,
    stop_of,
)
from tcpdoctor.diagnosis.finding import Diagnosis, Unchecked
from tcpdoctor.diagnosis.occupants import PortSocket, Row, udp_sockets
from tcpdoctor.diagnosis.port import BindAnswer, answer, with_probes
from tcpdoctor.diagnosis.port_advice import advise, led_elsewhere
from tcpdoctor.diagnosis.port_verdict import (
    count_causes,
    flag_value,
    redirected,
    summary_of_port,
    verdict,
    why,
)
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.addresses import interface_indexes
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.packet_rules import Redirect
from tcpdoctor.kernel.port_evidence import (
    PortEvidence,
    PortUse,
    Probe,
    connections,
    find_user,
    privilege_of,
    probe_bind,
    read_port_evidence,
    read_port_use,
    use_of,
)
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Detail, Endpoint, Held, Holder, Listener, UdpSocket
from tcpdoctor.kernel.sockopts import Linger, PortRange, SocketOptions
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.underway import UNDERWAY
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:
    from tcpdoctor.kernel.snapshot import Samples

_NUMBERS = {"SO_REUSEADDR": socket.SO_REUSEADDR, "SO_REUSEPORT": socket.SO_REUSEPORT}
_ANYWHERE = ("0.0.0.0", "::")
_WINDOW = 1.0
"""Seconds between the two looks, as of `check`."""
WAIT_STEP = 0.25
"""Seconds between two looks where the end of the wait is not foreseen."""
WAIT_STRIDE = 2.0
"""Where it is: a peer may end it earlier."""

ErrnoOrOk: TypeAlias = Annotated[str, Is("ok, or the name of an error.", pattern="^(ok|E[A-Z0-9]+)$")]
Cause: TypeAlias = Literal[
    "address-not-local",
    "privileged-port",
    "listener",
    "dual-stack-listener",
    "bound-socket",
    "udp-socket",
    "live-connections",
    "outgoing-connection",
    "fin-wait-2-orphan",
    "time-wait",
    None,
]
Verdict: TypeAlias = Literal["free", "busy", "partly", "unknown"]
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


class SocketHolder(NamedTuple):
    """A process that holds a socket, with its systemd unit and container."""

    pid: Pid
    name: str
    fd: Count
    uid: Annotated[int, Is("Of the process; the socket's own uid is what bind() compares.", minimum=0)]
    unit: str | None
    container: str | None
    command: str | None = None
    started_at: Time | None = None
    place: Annotated[ToldPlace | None, Is("Where it stands; null where that was not read.")] = None


class OtherEnd(NamedTuple):
    """The other end of a connection, where it is a socket of this network namespace too."""

    local: str
    state: StateKey
    owner: SocketHolder | None
    owner_missing: str | None
    not_accepted: Annotated[bool, Is("It waits in the accept queue of a listener.")]


class Blocker(NamedTuple):
    """A socket that stops a bind() without options, or may."""

    state: StateKey
    local: Annotated[str, Is("With the interface that it is bound to: 0.0.0.0%eth0:80.")]
    remote: str | None
    owner: SocketHolder | None
    reuseaddr: bool | None
    reuseport: bool | None
    timer: Literal["timewait", None]
    expires_s: Seconds | None
    why: str
    cause: str
    owner_missing: str | None
    holders: tuple[SocketHolder, ...]
    socket_unit: bool | None
    inherited: bool
    peer: OtherEnd | None
    expires_at_most_s: Seconds | None
    not_accepted: Annotated[bool, Is("It waits in the accept queue of a listener.")]
    began_here: Annotated[bool | None, Is("true: connect() was called on it; false: it came from accept().")]
    uid: Annotated[
        int | None, Is("Of the socket, which bind() compares; null where it is hidden.", minimum=0)
    ]
    device: Annotated[str | None, Is("SO_BINDTODEVICE.")]
    stop: Annotated[ToldStop | None, Is("Who may be stopped to free it; null where no holder is known.")]


class Bind(NamedTuple):
    """What bind() and listen() answer for one address, and what stands in the way."""

    attempts: Annotated[
        tuple[ToldAttempt, ...], Is("Without options, with SO_REUSEADDR, with SO_REUSEPORT, with both.")
    ]
    probed: Annotated[bool, Is("The kernel itself was asked.")]
    cause: Cause
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
    free_at: Annotated[Time | None, Is("When free_in_s is over.")]
    says: Annotated[str, Is("The answer in one or two sentences.")]


def blockers_in_words(bind: Bind) -> str:
    """Return how many there are of each cause: ``one listener, 129 live connections``."""
    return count_causes(bind.by_cause)


class ListenerHere(NamedTuple):
    """A listener at the port."""

    local: str
    accept_queue: Count
    accept_limit: Reading[Count]
    owner: SocketHolder | None
    options: Options | None
    drops: Reading[Count]
    v6only: bool | None
    owner_missing: str | None
    other_holders: tuple[SocketHolder, ...]
    uid: Count
    device: str | None


class ToldRedirect(NamedTuple):
    """A rule of nft or iptables that leads the port's clients elsewhere before a socket is looked up."""

    to_address: Annotated[str | None, Is("null: this host itself; empty: it hangs on the packet.")]
    to_port: Annotated[int | None, Is("null: the same port, or it hangs on the packet.", minimum=0)]
    where: Annotated[str, Is("Program, table and chain of the rule.")]
    only_for: Annotated[str | None, Is("Address or network that clients ask for; null: any of this host's.")]
    names_port: Annotated[bool, Is("false: it leads every port of that address away.")]
    container: ToldContainer | None
    asks: Annotated[
        tuple[Literal["interface", "mark", "sender"], ...],
        Is("What else the rule compares and was not evaluated: it may be for some clients only."),
    ]


class PortAnswer(NamedTuple):
    """What `tcpdoctor explain --port N --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.port/1"]
    port: Annotated[int, Is(minimum=1, maximum=65535)]
    address: str
    family: Literal["ipv4", "ipv6"]
    protocol: Literal["tcp", "udp"]
    host: Host
    taken_at: Time
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


def look_at_port(question: PortQuestion) -> PortAnswer:
    """Look at a port of the calling thread's network namespace, and say everything about it.

    Nothing is bound unless the question asks for a probe.

    Raises:
        QuestionError: The port, the address, the user or the device is none.
    """
    _refuse_bad_questions(question)
    targets = _targets(question)
    # they take their time, and the port shall be told as it is afterwards
    samples = _samples(read_port_use(question.port))
    evidence = read_port_evidence(question.port, protocol=question.protocol)
    samples = samples or _samples(use_of(evidence))  # what is merely bound shows to a closer look alone
    diagnosis = Diagnosis((), (), 0) if samples is None else _diagnose(evidence, samples)
    who, taken_at = read_identity(), time.time()
    evidence = _for_user(evidence, question.user)
    found = [answer(target, evidence) for target in targets]
    if question.probe or question.probe_listen:
        found = [
            with_probes(one, _probes(target, question, listen=question.probe_listen))
            for one, target in zip(found, targets, strict=True)
        ]
    return finish(question, found, evidence, diagnosis, who, taken_at)


def wait_until_free(question: PortQuestion, seconds: float) -> PortAnswer:
    """Look again and again until a bind() without options would succeed, or `seconds` are over.

    Raises:
        QuestionError: As `look_at_port`.
    """
    begun = time.monotonic()
    _refuse_bad_questions(question)
    targets = _targets(question)
    while True:
        evidence = _for_user(read_port_evidence(question.port, protocol=question.protocol), question.user)
        found = [answer(target, evidence) for target in targets]
        waited = time.monotonic() - begun
        free = all(verdict_of(one) == "free" for one in found if _is_asked(one, evidence))
        if free or waited >= seconds or UNDERWAY.is_hurried or UNDERWAY.is_interrupted:
            return look_at_port(question)._replace(waited_s=round(waited, 3))
        ends = max((one.free_in or 0.0 for one in found), default=0.0)
        UNDERWAY.wait(min(max(ends, WAIT_STEP), WAIT_STRIDE, seconds - waited))


def _refuse_bad_questions(question: PortQuestion) -> None:
    if (question.probe or question.probe_listen) and question.user is not None:
        raise QuestionError("--probe asks the kernel as the user who runs it: leave --user out, or sudo -u")
    if question.probe_listen and question.protocol == "udp":
        raise QuestionError("--probe-listen: a UDP socket does not listen; --probe binds it")


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


def _for_user(evidence: PortEvidence, user: str | None) -> PortEvidence:
    """The same look for another user: his uid, and his right to privileged ports."""
    if user is None:
        return evidence
    uid = find_user(user)
    if isinstance(uid, Missing):
        raise QuestionError(f"--user {user[:60]}: {uid.reason}; give a name or a number")
    if uid == evidence.uid:
        return evidence
    return evidence._replace(uid=uid, rules=evidence.rules._replace(privileged=privilege_of(uid)))


def _probes(target: Target, question: PortQuestion, *, listen: bool) -> list[Reading[Probe]]:
    family = socket.AF_INET if target.family == 4 else socket.AF_INET6
    return [
        probe_bind(
            family,
            target.socket_address,
            tuple(_NUMBERS[name] for name in options),
            listen=listen,
            datagram=target.protocol == "udp",
            device=question.device,
        )
        for options in ATTEMPTS
    ]


def _samples(use: PortUse) -> "Samples | None":
    """Look twice, as `check` does; None for a port that nobody uses: no rule is asked about it."""
    if use is PortUse.NONE:
        return None
    from tcpdoctor.kernel.live import take_samples

    return take_samples(_WINDOW, every_listener=use is PortUse.LISTENING)


def _diagnose(evidence: PortEvidence, samples: "Samples") -> Diagnosis:
    """Ask the rules about this port and who is there."""
    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.diagnosis.evaluate import diagnose_port

    listeners = () if isinstance(evidence.listeners, Missing) else evidence.listeners
    owners = [row.owner for row in listeners] + [row.owner for row in connections(evidence.local)]
    pids = {holder.pid for owner in owners if isinstance(owner, Held) for holder in owner.holders}
    return diagnose_port(load_rules().rules, samples, evidence.port, pids)


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
    asked = [one for one in found if _is_asked(one, evidence)]
    overall = _verdict([verdict_of(one) for one in asked])
    summary = summary_of_port(asked, overall, evidence)
    worst = _first_busy(asked)
    advice = advise(worst)
    led = dict.fromkeys(one for each in asked for one in redirected(each))
    others = [one for one in led if one not in redirected(worst)]
    target = found[0].target
    return PortAnswer(
        schema="tcpdoctor.port/1",
        port=target.port,
        address=target.address,
        family="ipv4" if target.family == 4 else "ipv6",
        protocol=question.protocol,
        host=host_of(who),
        taken_at=utc(taken_at),
        bind=_bind(found[0], taken_at),
        advice=(*advice.do, *(led_elsewhere(one, target.port) for one in others)),
        listeners=_listeners(evidence),
        states=_states(evidence),
        as_local=_total(evidence.local, evidence.listeners),
        as_remote=_total(evidence.remote, ()),
        findings=tuple(map(told_finding, diagnosis.findings)),
        verdict=overall,
        wrong_advice=advice.avoid,
        unchecked=diagnosis.unchecked,
        missing={f"bind.{number}": doubt for number, doubt in enumerate(found[0].unknowns)} or NO_REASONS,
        headline=f"{overall.upper()}  {summary}",
        bind_ipv6=_bind_ipv6(question, found, evidence, taken_at),
        udp_holders=evidence.udp
        if isinstance(evidence.udp, Missing)
        else _blockers(udp_sockets(evidence), evidence),
        user=question.user,
        device=question.device,
        waited_s=None,
        doubts=tuple(dict.fromkeys(doubt for one in asked for doubt in one.unknowns)),
        redirects=_redirects(tuple(led), evidence.redirects.not_looked),
        summary=summary,
    )


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


def _is_asked(found: BindAnswer, evidence: PortEvidence) -> bool:
    """Without IPv6 nobody can ask for ``::``."""
    return found.target.family == 4 or evidence.rules.ipv6 is not False


def verdict_of(found: BindAnswer) -> Verdict:
    """What a bind() without options meets; an answer that is not certain is unknown."""
    plain = found.attempts[0]
    if is_blind(found) or not plain.certain:
        return "unknown"
    return "free" if plain.bind == OK else "busy"


def is_blind(found: BindAnswer) -> bool:
    """Whether nothing can be said: no list of sockets, nothing else that decides, and no probe."""
    evidence = found.evidence
    lists = (evidence.udp,) if found.target.protocol == "udp" else (evidence.local, evidence.listeners)
    unseen = all(isinstance(part, Missing) for part in lists)
    return unseen and found.obstacle is None and not found.attempts[0].probed


def _verdict(verdicts: Sequence[Verdict]) -> Verdict:
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "unknown" if "unknown" in verdicts else "partly"


def _first_busy(found: Sequence[BindAnswer]) -> BindAnswer:
    """The one that advice is about: the first that cannot be bound, else the first in doubt."""
    busy = [one for one in found if one.attempts[0].bind != OK]
    return busy[0] if busy else found[0]


def _bind_ipv6(
    question: PortQuestion, found: Sequence[BindAnswer], evidence: PortEvidence, taken_at: float
) -> Reading[Bind]:
    if question.address is not None:
        return Missing("an address was asked for")
    if evidence.rules.ipv6 is False:
        return Missing("IPv6 is off: this kernel makes no IPv6 sockets")
    return _bind(found[1], taken_at)


def _bind(found: BindAnswer, taken_at: float) -> Reading[Bind]:
    if is_blind(found):
        return Missing("; ".join(found.unknowns))
    return Bind(
        attempts=tuple(map(_attempt, found.attempts)),
        probed=any(attempt.probed for attempt in found.attempts),
        cause=found.cause,  # type: ignore[arg-type]  # one of CAUSES
        free_in_s=None if found.free_in is None else round(found.free_in, 3),
        blockers_total=found.blockers_total,
        blockers=_blockers(found.blockers, found.evidence),
        uid=found.wanted.uid,
        obstacle=None if found.obstacle is None else found.obstacle.why,
        listen_probed=any(attempt.listen_probed for attempt in found.attempts),
        address=found.target.address,
        verdict=verdict_of(found),
        by_cause=dict(found.by_cause),
        free_at=None if found.free_in is None else utc(taken_at + found.free_in + 0.999),
        says=verdict(found),
    )


def _attempt(attempt: Attempt) -> ToldAttempt:
    return ToldAttempt(attempt.options, attempt.bind, attempt.listen, attempt.certain)  # type: ignore[arg-type]


def _blockers(sockets: Sequence[PortSocket], evidence: PortEvidence) -> tuple[Blocker, ...]:
    held = connections_by_holders(evidence)  # there may be very many: they are counted once for all of these
    return tuple(_blocker(one, evidence, held) for one in sockets)


def _blocker(one: PortSocket, evidence: PortEvidence, held: HeldConnections) -> Blocker:
    row, custody = one.row, custody_of(one.row, evidence)
    peer = peer_of(row, evidence)
    device = evidence.interfaces.get(one.existing.device)
    return Blocker(
        state=_state_key(one),
        local=_with_device(row.local, device),
        remote=None if isinstance(row, Listener) or not row.remote.port else str(row.remote),
        owner=_holder(first_holder(row), evidence),
        reuseaddr=flag_value(one, "reuseaddr"),
        reuseport=flag_value(one, "reuseport"),
        timer="timewait" if one.existing.minisocket else None,
        expires_s=None if one.leaves is None else round(one.leaves.low, 3),
        why=why(one, evidence),
        cause=one.cause,
        owner_missing=custody.hidden,
        holders=tuple(_known_holder(holder, evidence) for holder in custody.holders),
        socket_unit=None if custody.first_process else custody.socket_unit,
        inherited=custody.inherited,
        peer=None if peer is None else _peer(peer, evidence),
        expires_at_most_s=None if one.leaves is None else round(one.leaves.high, 3),
        not_accepted=is_waiting(row),
        began_here=one.began_here,
        uid=one.existing.uid if one.existing.uid_known else None,
        device=device,
        stop=_stop(row, evidence, held),
    )


def _stop(row: Row, evidence: PortEvidence, held: HeldConnections) -> ToldStop | None:
    stop = stop_of(row, evidence)
    return None if stop is None else told_stop(stop, connections_that_end(stop, row, evidence, held))


def _state_key(one: PortSocket) -> StateKey:
    if isinstance(one.row, UdpSocket):
        return "established" if one.row.remote.port else "bound"
    return one.state.key  # type: ignore[return-value]  # its names are these


def _with_device(end: Endpoint, device: str | None) -> str:
    """As ss prints it: ``0.0.0.0%lo:179``, ``[::%lo]:179``."""
    return str(end._replace(address=f"{end.address}%{device}")) if device else str(end)


def _peer(peer: Connection, evidence: PortEvidence) -> OtherEnd:
    return OtherEnd(
        local=str(peer.local),
        state=peer.state.key,  # type: ignore[arg-type]  # its names are these
        owner=_holder(first_holder(peer), evidence),
        owner_missing=peer.owner.reason if isinstance(peer.owner, Missing) else None,
        not_accepted=is_waiting(peer),
    )


def _holder(holder: Holder | None, evidence: PortEvidence) -> SocketHolder | None:
    return None if holder is None else _known_holder(holder, evidence)


def _known_holder(holder: Holder, evidence: PortEvidence) -> SocketHolder:
    process = evidence.processes.get(holder.pid)
    if process is None:
        return SocketHolder(holder.pid, holder.name, holder.fd, holder.uid, None, None)
    began = process.started
    return SocketHolder(
        pid=holder.pid,
        name=holder.name,
        fd=holder.fd,
        uid=holder.uid,
        unit=None if isinstance(process.unit, Missing) else process.unit,
        container=None if isinstance(process.container, Missing) else process.container,
        command=None if isinstance(process.command, Missing) else process.command,
        started_at=None if isinstance(began, Missing) else utc(evidence.booted_at + began),
        place=_place_of(holder, evidence),
    )


def _place_of(holder: Holder, evidence: PortEvidence) -> ToldPlace | None:
    standing = evidence.standings.get(holder.pid)
    if standing is None or isinstance(standing, Missing) or isinstance(standing.place, Missing):
        return None
    return told_place(standing.place)


def _listeners(evidence: PortEvidence) -> Reading[tuple[ListenerHere, ...]]:
    if isinstance(evidence.listeners, Missing):
        return evidence.listeners
    return tuple(_listener(row, evidence) for row in evidence.listeners)


def _listener(row: Listener, evidence: PortEvidence) -> ListenerHere:
    device = evidence.interfaces.get(row.device)
    held = row.owner.holders if isinstance(row.owner, Held) else ()
    return ListenerHere(
        local=_with_device(row.local, device),
        accept_queue=row.accept_queue,
        accept_limit=row.accept_limit,
        owner=_holder(first_holder(row), evidence),
        options=_options(evidence.options.get(row.inode)),
        drops=row.drops,
        v6only=row.v6only,
        owner_missing=row.owner.reason if isinstance(row.owner, Missing) else None,
        other_holders=tuple(_known_holder(holder, evidence) for holder in held[1:]),
        uid=row.uid,
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
            counts[state.key] = 0 if detail is None else detail.total
    return SocketsByState(**counts)


def _total(
    detail: Reading[Mapping[TcpState, Detail]], listeners: Reading[tuple[Listener, ...]]
) -> Reading[int]:
    if isinstance(detail, Missing):
        return detail
    if isinstance(listeners, Missing):
        return listeners
    return sum(one.total for one in detail.values()) + len(listeners)

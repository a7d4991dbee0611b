"""What the answer about a port means in sentences: the verdict, and why each socket stands in the way."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from tcpdoctor.diagnosis.bind import OK, UNKNOWN, Attempt
from tcpdoctor.diagnosis.custody import (
    Custody,
    custody_of,
    introduce,
    is_systemd,
    stop_of,
)
from tcpdoctor.diagnosis.occupants import PortSocket, is_ephemeral
from tcpdoctor.diagnosis.port import BindAnswer
from tcpdoctor.diagnosis.stopping import name_container, stop_publishing
from tcpdoctor.facts.value import show_wait
from tcpdoctor.kernel.addresses import LocalAddresses
from tcpdoctor.kernel.packet_rules import Redirect
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, Listener, NotHeld
from tcpdoctor.kernel.states import TcpState

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_NOUNS = {
    "listener": ("listener", "listeners"),
    "dual-stack-listener": ("dual-stack listener", "dual-stack listeners"),
    "bound-socket": ("bound socket", "bound sockets"),
    "udp-socket": ("UDP socket", "UDP sockets"),
    "live-connections": ("live connection", "live connections"),
    "outgoing-connection": ("outgoing connection", "outgoing connections"),
    "fin-wait-2-orphan": ("FIN_WAIT_2 orphan", "FIN_WAIT_2 orphans"),
    "time-wait": ("TIME_WAIT connection", "TIME_WAIT connections"),
}


Verdict: TypeAlias = Literal["free", "busy", "partly", "unknown"]
"""Of a bind() without options; partly: one of two addresses is free; unknown: it is not certain."""


def verdict_of(found: BindAnswer) -> Verdict:
    """What a bind() without options meets; where it may succeed or fail, that is unknown."""
    plain = found.attempts[0]
    if is_blind(found) or not (plain.certain or plain.fails):
        return "unknown"
    return "free" if plain.bind == OK else "busy"


def is_blind(found: BindAnswer) -> bool:
    """Whether nothing can be said: no list of sockets, nothing else that decides, and no probe."""
    evidence = found.evidence
    lists = (evidence.udp,) if found.target.protocol == "udp" else (evidence.local, evidence.listeners)
    unseen = all(isinstance(part, Missing) for part in lists)
    return unseen and found.obstacle is None and not found.attempts[0].probed


def that_can_be_asked(found: Sequence[BindAnswer]) -> list[BindAnswer]:
    """Leave ``::`` out where there is no IPv6 and another address is meant as well: nobody asks for it."""
    asked = [one for one in found if one.target.family == 4 or one.evidence.rules.ipv6 is not False]
    return asked or list(found)


def verdict_of_all(asked: Sequence[BindAnswer]) -> Verdict:
    """Say in a word what a server meets that may ask for any of these addresses."""
    verdicts = [verdict_of(one) for one in asked]
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "unknown" if "unknown" in verdicts else "partly"


def first_busy(asked: Sequence[BindAnswer]) -> BindAnswer:
    """The one that advice is about: the first that cannot be bound, else the first in doubt."""
    busy = [one for one in asked if one.attempts[0].bind != OK]
    return busy[0] if busy else asked[0]


def verdict(answer: BindAnswer) -> str:
    """Return the answer in a few sentences."""
    found = _verdict(answer)
    led = redirected(answer)
    if led and answer.attempts[0].bind == OK:
        return f"{found} But a server there is not reached: {tell_redirect(led[0], answer.target.port)}"
    return found


def redirected(answer: BindAnswer) -> tuple[Redirect, ...]:
    """Return the rules that lead the port's clients elsewhere, other than to whom a listener here serves."""
    evidence = answer.evidence
    if not evidence.redirects.found:
        return ()
    found = redirects_for(evidence.redirects.found, answer.target.address, evidence.rules.addresses)
    listeners = () if isinstance(evidence.listeners, Missing) else evidence.listeners
    stops = (stop_of(row, evidence) for row in listeners)
    return () if any(stop is not None and stop.way == "published-port" for stop in stops) else found


def _verdict(answer: BindAnswer) -> str:
    where = _where(answer)
    if answer.obstacle is not None:
        by = f" by uid {answer.wanted.uid}" if answer.obstacle.cause == "privileged-port" else ""
        return f"{where} cannot be bound{by}: {answer.obstacle.why}."
    plain = answer.attempts[0]
    if plain.bind == OK:
        return _free(answer, where, plain)
    if answer.cause is None:
        return (
            f"{where} cannot be bound: the kernel answers {plain.bind}, and nothing that we see explains it."
        )
    until = " cannot be bound"
    if answer.free_in is not None:
        least = any(cause == "fin-wait-2-orphan" for cause, _ in answer.by_cause)
        about = "at least" if least else "another" if _is_exact(answer) else "some"
        until += f" for {about} {show_wait(answer.free_in)}"
    doubt = "" if plain.certain or plain.fails else " (probably)"
    return f"{where}{until}{doubt}: {_culprits(answer)}.{_way_out(answer)}"


def _where(answer: BindAnswer) -> str:
    target, protocol = answer.target, answer.target.protocol.upper()
    if target.family == 4 and target.address == "0.0.0.0":
        return f"{protocol} port {target.port}"
    return f"{protocol} {Endpoint(target.address, target.port)}"


def _free(answer: BindAnswer, where: str, plain: Attempt) -> str:
    what = (
        "bind() succeeds"
        if answer.target.protocol == "udp"
        else "bind() and listen() succeed"
        if plain.listen in (OK, None)
        else f"bind() succeeds, listen() answers {plain.listen}"
    )
    if plain.probed:
        what = f"the kernel let us {'listen' if plain.listen_probed else 'bind it'} a moment ago"
    if not plain.certain:
        hidden = "whether an IPv6 socket on it lets IPv4 in (IPV6_V6ONLY) is hidden"
        hidden += "" if answer.evidence.recorded else "; --probe asks"
        return f"{where} looks free, but that is not certain: {'; '.join(answer.unknowns) or hidden}."
    return f"{where} is free: {what}, with or without options."


def _is_exact(answer: BindAnswer) -> bool:
    """Whether the end is a timer that was read, and not a computed span."""
    return all(b.leaves is not None and b.leaves.low == b.leaves.high for b in answer.blockers)


def _culprits(answer: BindAnswer) -> str:
    """Name the first cause in full and count the others."""
    first = next(b for b in answer.blockers if b.cause == answer.cause)
    number = dict(answer.by_cause)[first.cause]
    text = _first_culprit(answer, first, number)
    others = [count(n, *_NOUNS[cause]) for cause, n in answer.by_cause if cause != answer.cause]
    return f"{text}, and the port has {' and '.join(others)} besides" if others else text


def _first_culprit(answer: BindAnswer, first: PortSocket, number: int) -> str:
    custody = custody_of(first.row, answer.evidence)
    who = _who(custody, answer)
    match answer.cause:
        case "listener" | "dual-stack-listener":
            ipv4 = " for IPv4 as well (dual-stack)" if answer.cause == "dual-stack-listener" else ""
            more = f", with {number - 1} more" if number > 1 else ""
            verb = "listen" if len(custody.holders) > 1 and not custody.socket_unit else "listens"
            place = place_of(first, answer.evidence)
            return f"{who} {verb} on {place}{ipv4}{more}{_origin(custody)}"
        case "bound-socket":
            return f"{who} bound {place_of(first, answer.evidence)} and neither listens nor connects"
        case "udp-socket":
            return f"{who} has {place_of(first, answer.evidence)}"
        case "outgoing-connection":
            assert not isinstance(first.row, Listener)  # noqa: S101 - a listener has another cause
            to = f" to {first.row.remote}" if number == 1 else ""
            got = "got it as ephemeral port" if _is_ephemeral(answer.evidence) else "has it as its own port"
            return f"{count(number, *_NOUNS[answer.cause])} of {who}{to} {got}"
        case "live-connections":
            held = "still holds it" if number == 1 else "still hold it"
            heir = ", which inherited them and does not use them," if custody.inherited else ""
            connections = _connections(answer, number, answer.cause)
            return f"{connections}{_of(answer, custody)}{heir} {held}{_quiet(answer)}"
        case _:
            noun = count(number, *_NOUNS[first.cause])
            held = "still holds it" if number == 1 else "still hold it"
            whose = {True: " of a client here", False: " of the previous server", None: ""}[first.began_here]
            closed = ", which closed first," if answer.cause == "time-wait" else ", whose peer never closed,"
            return f"{noun}{whose}{closed} {held}{_quiet(answer)}"


def _connections(answer: BindAnswer, number: int, cause: str) -> str:
    """Count them, with their states as far as all of them are listed."""
    states = Counter(b.state.name for b in answer.blockers if b.cause == cause)
    text = count(number, "connection")
    if len(states) == 1:
        return f"{text} in {next(iter(states))}"
    kinds = ", ".join(f"{many} {state}" for state, many in states.most_common())
    return f"{text} ({kinds})" if states.total() == number else text


def _of(answer: BindAnswer, custody: Custody) -> str:
    if not custody.holders:
        return " whose holder is hidden" if custody.hidden else " that no process holds"
    mine = custody.holders[0].pid
    owners = [b.row.owner for b in answer.blockers if b.cause == answer.cause]
    alone = all(isinstance(owner, Held) and owner.holders[0].pid == mine for owner in owners)
    return f" of {_who(custody, answer)}{'' if alone else ' and others'}"


def _who(custody: Custody, answer: BindAnswer) -> str:
    if custody.socket_unit:
        systemd = next(h for h in custody.holders if is_systemd(h, answer.evidence))
        whose = "" if systemd.pid == 1 else f" of uid {systemd.uid}"
        return f"a systemd socket unit{whose} (pid {systemd.pid} {systemd.name})"
    if custody.holders:
        others = len(custody.holders) - 1
        more = f" and {count(others, 'more process', 'more processes')}" if others else ""
        return f"{introduce(custody.holders[0], answer.evidence)}{more}"
    return "a process that is hidden from us" if custody.hidden else "a socket that no process holds"


def _origin(custody: Custody) -> str:
    if custody.first_process:
        return ": as a socket unit of that init, or, in a container, as its main program"
    if not custody.inherited:
        return ""
    return ": it inherited the socket from a program that holds it no longer"


def _quiet(answer: BindAnswer) -> str:
    if isinstance(answer.evidence.listeners, Missing):
        return "; whether anything is listening is not known"
    return "" if answer.evidence.listeners else "; nothing is listening"


def _way_out(answer: BindAnswer) -> str:
    """Say which option helps at once, if one does."""
    for attempt in answer.attempts[1:]:
        if attempt.bind == OK and attempt.certain:
            return f" With {' and '.join(attempt.options)} it can be bound at once."
    settled = [attempt.certain or attempt.fails or attempt.only_memory for attempt in answer.attempts]
    doubtful = [attempt for attempt, known in zip(answer.attempts, settled, strict=True) if not known]
    if doubtful:
        asks = "" if answer.evidence.recorded else "; --probe asks"
        option = doubtful[0].options[0]
        return f" With {option} perhaps at once: whether the other socket had it is hidden{asks}."
    return ""


def _is_ephemeral(evidence: PortEvidence) -> bool:
    return is_ephemeral(evidence.port, evidence.sysctls)


def why(socket: PortSocket, evidence: PortEvidence) -> str:
    """Return one sentence that says why this socket stops a plain bind()."""
    old = socket.existing
    flag = _flag_sentence(socket)
    match socket.cause:
        case "listener":
            return "A listener lets nobody else in, unless both sockets have SO_REUSEPORT and one user."
        case "dual-stack-listener":
            return "It listens on all IPv6 addresses without IPV6_V6ONLY, which takes all of IPv4 as well."
        case "bound-socket":
            return f"It is bound to the port and neither listens nor connects{flag}."
        case "udp-socket":
            return "Two UDP sockets share a port where both have SO_REUSEADDR, or SO_REUSEPORT and one user."
        case "outgoing-connection":
            given = "has this port, which is not in ip_local_port_range: its process bound it first"
            if _is_ephemeral(evidence):
                given = "was given this port from ip_local_port_range"
            return f"An outgoing connection {given}{flag}."
        case "live-connections":
            how = _why_alive(socket)
            return f"The connection is in {old.state.name} and {how}{flag}."
        case "fin-wait-2-orphan":
            return f"It was closed here and waits for the peer's FIN{flag}."
        case _:
            return f"It was closed here first; the kernel keeps it for 60 s in all{flag}."


def _why_alive(socket: PortSocket) -> str:
    if not socket.row.inode:
        waiting = socket.state in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT)
        return "waits in the accept queue" if waiting else "was closed here, but the kernel still finishes it"
    match socket.row.owner:
        case Held():
            return "its process has not closed it"
        case NotHeld():
            return "no process has a descriptor of it (MPTCP, or a user inside the kernel)"
        case _:
            return "its holder is hidden"


def _flag_sentence(socket: PortSocket) -> str:
    old = socket.existing
    if old.reuseaddr.known:
        return ", with SO_REUSEADDR" if old.reuseaddr.value else ", without SO_REUSEADDR"
    return "; whether it had SO_REUSEADDR is hidden"


def flag_value(socket: PortSocket, name: str) -> bool | None:
    """Return a flag as it is known; None where it is hidden."""
    flag = getattr(socket.existing, name, UNKNOWN)
    return flag.value if flag.known else None


def count(number: int, one: str, many: str | None = None) -> str:
    """Return ``one connection`` for 1, else ``2,003 connections``."""
    return f"one {one}" if number == 1 else f"{number:,} {many or one + 's'}"


def count_causes(numbers: Mapping[str, int]) -> str:
    """Return ``one listener, 129 live connections``."""
    return ", ".join(count(number, *_NOUNS[cause]) for cause, number in numbers.items())


def summary_of_port(found: Sequence[BindAnswer], verdict: str, evidence: PortEvidence) -> str:
    """Return the answer in a line, which the verdict in capitals stands before.

    Args:
        found: What was found for each address that was asked about.
        verdict: ``free``, ``busy``, ``partly`` or ``unknown``, of all of them together.
        evidence: The look that it was found in.
    """
    target = found[0].target
    device = evidence.interfaces.get(target.device)
    port = f"{target.protocol.upper()} port {target.port}" + (f" of {device}" if device else "")
    addresses = " and ".join(one.target.address for one in found)
    if verdict == "free":
        led = next((one for each in found for one in redirected(each)), None)
        but = f", but a rule leads its clients to {led.to}" if led else ""
        return f"{port} ({addresses}){_other_protocol(target.protocol, evidence)}{but}"
    if verdict == "unknown":
        doubtful = next((one for one in found if verdict_of(one) == "unknown"), found[0])
        doubts = (
            "; ".join(dict.fromkeys(doubtful.unknowns))
            or "whether a socket lets IPv4 in, or still holds it, is hidden"
        )
        return f"{port}: cannot tell: {doubts}"
    busy = next(one for one in found if one.attempts[0].bind != OK)
    where = "" if len(found) > 1 or target.address in ("0.0.0.0", "::") else f" on {target.address}"
    if verdict == "partly":
        free = next(one for one in found if one.attempts[0].bind == OK)
        where = f": {free.target.address} is free, {busy.target.address} is not"
    return f"{port}{where}: {_has_it(busy)}"


def _other_protocol(protocol: str, evidence: PortEvidence) -> str:
    if protocol == "udp" or isinstance(evidence.udp, Missing):
        return ""
    if not evidence.udp:
        return ", UDP free"
    owner = evidence.udp[0].owner
    return f", UDP taken by {_briefly(owner.holders[0])}" if isinstance(owner, Held) else ", UDP taken"


def _briefly(holder: Holder) -> str:
    return f"{holder.name} ({holder.pid})"


def _has_it(answer: BindAnswer) -> str:
    """Say who or what has the port."""
    if answer.obstacle is not None:
        besides = f"; besides, {_held(answer, answer.by_cause[0][0])}" if answer.by_cause else ""
        return answer.obstacle.why + besides
    if answer.cause is None:
        return f"the kernel answers {answer.attempts[0].bind}, and nothing that we see explains it"
    return _held(answer, answer.cause)


def _held(answer: BindAnswer, cause: str) -> str:
    """Say which sockets have the port that stand in the way for one cause."""
    first = next(b for b in answer.blockers if b.cause == cause)
    number = dict(answer.by_cause)[first.cause]
    who = _held_by(first, answer)
    if cause in ("listener", "dual-stack-listener"):
        return f"{who} listens on {place_of(first, answer.evidence)}{_busy_with(answer)}"
    if cause == "bound-socket":
        return f"{who} bound {place_of(first, answer.evidence)} and neither listens nor connects"
    if cause == "udp-socket":
        return f"{who} has {place_of(first, answer.evidence)}"
    if cause == "outgoing-connection":
        return f"{_amount(number, 'outgoing connection')}{_whose(first, answer)}{_quiet(answer)}"
    if cause == "live-connections":
        return f"{_connections(answer, number, cause)}{_whose(first, answer)}{_quiet(answer)}"
    whose = {True: " of a client here", False: " of the old server", None: ""}[first.began_here]
    counted = f"{number:,} TIME_WAIT" if cause == "time-wait" else _amount(number, "FIN_WAIT_2 orphan")
    return f"{counted}{whose}{_quiet(answer)}"


def place_of(socket: PortSocket, evidence: PortEvidence) -> str:
    """Where a socket is bound, as ss prints it: ``0.0.0.0%lo:179``, ``[::%lo]:179``."""
    local, device = socket.row.local, evidence.interfaces.get(socket.existing.device)
    return str(local._replace(address=f"{local.address}%{device}")) if device else str(local)


def _held_by(first: PortSocket, answer: BindAnswer) -> str:
    custody = custody_of(first.row, answer.evidence)
    if custody.socket_unit:
        return "a systemd socket unit"
    if custody.holders:
        return _briefly(custody.holders[0])
    return "a hidden process" if custody.hidden else "no process"


def _whose(first: PortSocket, answer: BindAnswer) -> str:
    custody = custody_of(first.row, answer.evidence)
    nobodys = not (custody.socket_unit or custody.holders or custody.hidden)
    return " that no process holds" if nobodys else f" of {_held_by(first, answer)}"


def _busy_with(answer: BindAnswer) -> str:
    """How many connections the listener's server has there, and how many that their peers have closed."""
    local = answer.evidence.local
    if isinstance(local, Missing):
        return ""
    open_ones, left = (
        local[state].total if state in local else 0 for state in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT)
    )
    connections = f", {_amount(open_ones, 'connection')}" if open_ones else ""
    return connections + (f", {left:,} CLOSE_WAIT" if left else "")


def _amount(number: int, one: str) -> str:
    return f"{number:,} {one}{'s' if number != 1 else ''}"


# Rules that send a port elsewhere: it is taken, although no process holds it.


def redirects_for(found: Iterable[Redirect], address: str, local: LocalAddresses) -> tuple[Redirect, ...]:
    """Return the rules that concern clients of a server on this address.

    Args:
        found: As read.
        address: That of the server; one on ``::`` takes IPv4 too.
        local: What this host's addresses are: a rule for another host's address does not concern it.
    """
    import ipaddress  # here, because most hosts have no such rule

    server = ipaddress.ip_address(address.partition("%")[0].removeprefix("::ffff:"))
    families = {4, 6} if server == ipaddress.ip_address("::") else {server.version}
    concerned = []
    for one in found:
        network = ipaddress.ip_network(one.address) if one.address else None
        if network is not None:
            reached = _is_here(network, local) if server.is_unspecified else server in network
            if not reached or network.version not in families:
                continue
        if families & set(one.families):
            concerned.append(one)
    return tuple(concerned)


def _asked_for(parts: Sequence[str]) -> str:
    """``it asks for an interface and a sender too, which was not compared``."""
    named = [f"{'an' if part[0] in 'aeiou' else 'a'} {part}" for part in parts if part != "other"]
    if not named:
        return "it, or a rule before it, compares more than could be followed"
    every = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return f"it asks for {every} too, which was not compared"


def _is_here(network: "IPv4Network | IPv6Network", local: LocalAddresses) -> bool:
    """Whether this host has an address in a network; unknown counts as yes."""
    import ipaddress

    if network.version == 6:
        return isinstance(local.ipv6, Missing) or any(
            ipaddress.ip_address(one.address) in network for one in local.ipv6
        )
    if isinstance(local.ipv4, Missing):
        return True
    ours = (ipaddress.ip_network((prefix.network, prefix.length)) for prefix in local.ipv4)
    return any(network.overlaps(one) for one in ours)


def tell_redirect(one: Redirect, port: int) -> str:
    """Say where a rule leads the clients, and what ends that, in sentences."""
    asked = f"port {port}" if one.names_port else f"port {port} and others"
    asked += f" of {one.address}" if one.address else ""
    whose = f", {name_container(one.container)}" if one.container else ""
    text = f"a rule of {one.where} sends what comes for {asked} to {one.to}{whose}"
    if one.asks:
        text += f", of some clients perhaps: {_asked_for(one.asks)}"
    commands = stop_publishing(one.container, 0)[0] if one.container else ()
    return f"{text} (`{commands[0]}` ends that)." if commands else f"{text}."

"""What to do about a port that cannot be bound, and what is often advised and does not help."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tcpdoctor.diagnosis.bind import OK, UNKNOWN, Attempt
from tcpdoctor.diagnosis.holders import redirects_for, sentence, tell_redirect, tell_stop
from tcpdoctor.diagnosis.port import (
    BindAnswer,
    Custody,
    PortSocket,
    connections_that_end,
    custody_of,
    introduce,
    is_ephemeral,
    is_systemd,
    others_that_hold,
    stop_of,
)
from tcpdoctor.diagnosis.stopping import Stop
from tcpdoctor.kernel.packet_rules import Redirect
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, Listener, NotHeld
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.named_tuples import NamedTuple

# What a port's answer means in sentences: the verdict, and why each socket stands in the way.


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
        until += f" for {'another' if _is_exact(answer) else 'some'} {seconds(answer.free_in)}"
    doubt = "" if plain.certain else " (probably)"
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
        hidden = "whether an IPv6 socket on it lets IPv4 in (IPV6_V6ONLY) is hidden; --probe asks"
        return f"{where} looks free, but that is not certain: {'; '.join(answer.unknowns) or hidden}."
    return f"{where} is free: {what}, with or without options."


def _is_exact(answer: BindAnswer) -> bool:
    """Whether the end is a timer that was read, and not a computed span."""
    return all(b.leaves is not None and b.leaves.low == b.leaves.high for b in answer.blockers)


def _culprits(answer: BindAnswer) -> str:
    """Name the first cause in full and count the others."""
    first = next(b for b in answer.blockers if b.cause == answer.cause)
    number = dict(answer.by_cause)[str(answer.cause)]
    text = _first_culprit(answer, first, number)
    others = [count(n, *_NOUNS[cause]) for cause, n in answer.by_cause if cause != answer.cause]
    return f"{text}, and the port has {' and '.join(others)} besides" if others else text


def _first_culprit(answer: BindAnswer, first: PortSocket, number: int) -> str:
    custody = custody_of(first.row, answer.evidence)
    who = _who(custody, answer)
    listening = bool(_listeners(answer))
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
            return f"{_connections(answer, number)}{_of(answer, custody)}{heir} {held}{_quiet(listening)}"
        case _:
            noun = count(number, *_NOUNS[str(answer.cause)])
            held = "still holds it" if number == 1 else "still hold it"
            whose = {True: " of a client here", False: " of the previous server", None: ""}[first.began_here]
            closed = ", which closed first," if answer.cause == "time-wait" else ", whose peer never closed,"
            return f"{noun}{whose}{closed} {held}{_quiet(listening)}"


def _connections(answer: BindAnswer, number: int) -> str:
    """Count them, with their states as far as all of them are listed."""
    states = Counter(b.state.name for b in answer.blockers if b.cause == answer.cause)
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


def _quiet(listening: bool) -> str:  # noqa: FBT001 - it is the whole question
    return "" if listening else "; nothing is listening"


def _listeners(answer: BindAnswer) -> tuple[Listener, ...]:
    listeners = answer.evidence.listeners
    return listeners if isinstance(listeners, tuple) else ()


def _way_out(answer: BindAnswer) -> str:
    """Say which option helps at once, if one does."""
    for attempt in answer.attempts[1:]:
        if attempt.bind == OK and attempt.certain:
            return f" With {' and '.join(attempt.options)} it can be bound at once."
    if any(not attempt.certain for attempt in answer.attempts[1:]):
        option = next(a.options[0] for a in answer.attempts[1:] if not a.certain)
        return f" With {option} perhaps at once: whether the other socket had it is hidden; --probe asks."
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


def seconds(number: float) -> str:
    """Print seconds until something: whole ones, rounded up, so that nobody comes too early."""
    if number >= 600:
        return f"{math.ceil(number / 60)} min"
    return f"{math.ceil(number)} s"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return ``one connection`` for 1, else ``3 connections``."""
    return f"one {one}" if number == 1 else f"{number} {many or one + 's'}"


def count_causes(numbers: Mapping[str, int]) -> str:
    """Return ``one listener, 129 live connections``."""
    return ", ".join(count(number, *_NOUNS[cause]) for cause, number in numbers.items())


_NO_SECOND_LISTENER = "SO_REUSEADDR: on Linux it never lets a second socket listen where one listens."
_SHOWN_REDIRECTS = 3
_TW_REUSE = "tcp_tw_reuse: it is for connect() only; bind() does not look at it."


# The first line of the answer: who has the port, in as few words as it takes.


def headline(found: Sequence[BindAnswer], verdict: str, evidence: PortEvidence) -> str:
    """Return the answer in a line, the verdict in capitals first.

    Args:
        found: What was found for each address that was asked about.
        verdict: ``free``, ``busy``, ``partly`` or ``unknown``, of all of them together.
        evidence: The look that it was found in.
    """
    target = found[0].target
    port = f"{verdict.upper()}  {target.protocol.upper()} port {target.port}"
    addresses = " and ".join(one.target.address for one in found)
    if verdict == "free":
        led = next((one for each in found for one in redirected(each)), None)
        but = f", but a rule leads its clients to {led.to}" if led else ""
        return f"{port} ({addresses}){_other_protocol(target.protocol, evidence)}{but}"
    if verdict == "unknown":
        doubtful = next((one for one in found if not one.attempts[0].certain), found[0])
        doubts = "; ".join(doubtful.unknowns) or "whether a socket lets IPv4 in, or still holds it, is hidden"
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
        return answer.obstacle.why
    if answer.cause is None:
        return f"the kernel answers {answer.attempts[0].bind}, and nothing that we see explains it"
    first = next(b for b in answer.blockers if b.cause == answer.cause)
    number = dict(answer.by_cause)[answer.cause]
    who = _held_by(first, answer)
    if answer.cause in ("listener", "dual-stack-listener"):
        return f"{who} listens on {place_of(first, answer.evidence)}{_busy_with(answer)}"
    if answer.cause == "bound-socket":
        return f"{who} bound {place_of(first, answer.evidence)} and neither listens nor connects"
    if answer.cause == "udp-socket":
        return f"{who} has {place_of(first, answer.evidence)}"
    if answer.cause == "outgoing-connection":
        return f"{_amount(number, 'outgoing connection')} of {who}{_quiet(bool(_listeners(answer)))}"
    if answer.cause == "live-connections":
        return f"{_connections(answer, number)} of {who}{_quiet(bool(_listeners(answer)))}"
    whose = {True: " of a client here", False: " of the old server", None: ""}[first.began_here]
    counted = f"{number:,} TIME_WAIT" if answer.cause == "time-wait" else _amount(number, "FIN_WAIT_2 orphan")
    return f"{counted}{whose}{_quiet(bool(_listeners(answer)))}"


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


def _busy_with(answer: BindAnswer) -> str:
    """How many connections the listener's server has there."""
    local = answer.evidence.local
    if isinstance(local, Missing):
        return ""
    number = sum(detail.total for state, detail in local.items() if state is TcpState.ESTABLISHED)
    return f", {_amount(number, 'connection')}" if number else ""


def _amount(number: int, one: str) -> str:
    return f"{number:,} {one}{'s' if number != 1 else ''}"


class Advice(NamedTuple):
    """Both lists, the most useful first."""

    do: tuple[str, ...]
    avoid: tuple[str, ...]


def advise(answer: BindAnswer) -> Advice:
    """Return what fits the cause, and the remarks that hold whatever the cause."""
    cause = answer.cause if answer.attempts[0].bind != OK else None
    given = _BY_CAUSE[cause](answer) if cause is not None else Advice((), ())
    return Advice((*given.do, *_remarks(answer)), given.avoid)


_OTHERS_NAMED = 4


def _first(answer: BindAnswer) -> tuple[PortSocket, Custody]:
    socket = next(b for b in answer.blockers if b.cause == answer.cause)
    return socket, custody_of(socket.row, answer.evidence)


def _with(answer: BindAnswer, option: str) -> Attempt:
    return next(attempt for attempt in answer.attempts if attempt.options == (option,))


def _stop(answer: BindAnswer) -> Stop | None:
    """Who has to end so that the first blocker goes, as far as it is known."""
    return stop_of(_first(answer)[0].row, answer.evidence)


def _end(answer: BindAnswer, stop: Stop) -> str:
    """How to end a holder, and what ends with it."""
    row = _first(answer)[0].row
    told = tell_stop(stop, connections_that_end(stop, row, answer.evidence))
    others = others_that_hold(answer, stop, row) if stop.commands else ()
    if not others:
        return told
    named = name_a_few([f"pid {one.pid} {one.name}" for one in others], _OTHERS_NAMED)
    have = "holds the port as well, and has" if len(others) == 1 else "hold the port as well, and have"
    return f"{told} {sentence(named)} {have} to end too."


def _listener(answer: BindAnswer) -> Advice:
    socket, custody = _first(answer)
    do = [_free_the_listener(custody, answer)]
    if _with(answer, "SO_REUSEPORT").bind == OK:
        do.append("Or let both share the port: the listener has SO_REUSEPORT, so set it in the server too.")
    elif answer.target.address != socket.row.local.address:
        do.append("Or give each its own address: 0.0.0.0 and :: mean every address of the host.")
    return Advice(tuple(do), (*_not_for_it(answer), _NO_SECOND_LISTENER))


def _not_for_it(answer: BindAnswer) -> tuple[str, ...]:
    """What is not to be stopped for this port's sake."""
    stop = _stop(answer)
    return stop.avoid if stop else ()


def _free_the_listener(custody: Custody, answer: BindAnswer) -> str:
    stop = _stop(answer)
    if stop is not None and custody.inherited:
        return (
            f"{sentence(_end(answer, stop))} It has the listener without using it. Then let the server open "
            "its sockets with SOCK_CLOEXEC, or start its children with their descriptors closed."
        )
    if stop is not None and stop.way in ("process", "service", "user-service", "container", "supervised"):
        return f"Give the server another port, or {_end(answer, stop)}"
    if stop is not None:
        return sentence(_end(answer, stop))
    if custody.hidden:
        return f"Give the server another port, or find the holder: {custody.hidden}."
    return (
        "Give the server another port: no process holds the listener (it may be the kernel's, such as NFS)."
    )


def _dual_stack(answer: BindAnswer) -> Advice:
    listening = _listener(answer)
    one_socket = (
        "If both are meant to run, one for each family: set IPV6_V6ONLY on the IPv6 socket before its bind() "
        "(nginx: ipv6only=on); or let that socket serve both, as it does."
    )
    host_wide = "Switching IPv6 off, or net.ipv6.bindv6only=1: that changes every other server of the host."
    *others, two_listeners = listening.avoid
    return Advice((*listening.do, one_socket), (*others, host_wide, two_listeners))


def _bound(answer: BindAnswer) -> Advice:
    _, custody = _first(answer)
    if stop := _stop(answer):
        do = f"Find out why it bound the port and does nothing with it, or {_end(answer, stop)}"
    else:
        do = f"Find the holder: {custody.hidden or 'no process has a descriptor of it'}."
    unseen = "Believing ss -l or netstat: they do not show sockets that are bound and do not listen."
    return Advice((do,), (*_not_for_it(answer), unseen))


def _live(answer: BindAnswer) -> Advice:
    _, custody = _first(answer)
    do = []
    waiting = "tcp_fin_timeout: it does not touch what is still being sent; tcp_orphan_retries ends that."
    stop = _stop(answer)
    if stop is not None and custody.inherited:
        do.append(
            f"{sentence(_end(answer, stop))} It has these connections without using them: it inherited them "
            "from a program that holds them no longer."
        )
    elif stop is not None:
        do.append(f"An old process still has these connections: let it finish, or {_end(answer, stop)}")
    if stop is not None:
        waiting = "Waiting: what a process holds has no end, and tcp_fin_timeout does not touch it."
    if answer.free_in is not None:
        do.append(f"Wait {seconds(answer.free_in)} or a little more: the kernel gives up then.")
    no_bug = "Calling it a kernel bug because nothing listens: any socket on the port blocks bind()."
    return Advice((*do, _reuse(answer)), (*_not_for_it(answer), waiting, no_bug))


def _outgoing(answer: BindAnswer) -> Advice:
    stop = _stop(answer)
    end = f" Or {_end(answer, stop)}" if stop else ""
    if not is_ephemeral(answer.target.port, answer.evidence.sysctls):
        return Advice(
            (
                (
                    "Let that client choose no port of its own, or another one: leave out its bind() to port "
                    f"{answer.target.port}. For this start, wait until the connection ends.{end}"
                ),
            ),
            ("net.ipv4.ip_local_reserved_ports: it does not keep a process from a port that it binds.",),
        )
    reserve = (
        f"Keep the port out of the ephemeral range: add {answer.target.port} to "
        "net.ipv4.ip_local_reserved_ports. Writing replaces the whole list, so write the old entries too."
    )
    return Advice(
        (reserve, f"That helps the next start. For this one, wait until the connection ends.{end}"),
        (
            "Restarting until it works: the next client may be given the port again.",
            "Widening ip_local_port_range to 1024-65535: then clients take the ports of more servers.",
        ),
    )


def _leftover(answer: BindAnswer) -> Advice:
    do = []
    if answer.free_in is not None and _with(answer, "SO_REUSEADDR").bind != OK:
        do.append(f"Wait {seconds(answer.free_in)}: nothing else is needed, and no sysctl shortens it.")
    do.append(_reuse(answer))
    if answer.cause == "time-wait":
        return Advice(tuple(do), ("Lowering tcp_fin_timeout: TIME_WAIT is 60 s whatever it says.", _TW_REUSE))
    do.append("Find out why the peer does not close: its end is in CLOSE_WAIT.")
    not_time_wait = "Taking it for TIME_WAIT: this ends by tcp_fin_timeout, and it is the peer that lingers."
    return Advice(tuple(do), (not_time_wait, _TW_REUSE))


def _reuse(answer: BindAnswer) -> str:
    """What SO_REUSEADDR would do, which hangs on what the old sockets had."""
    attempt = _with(answer, "SO_REUSEADDR")
    set_it = "Set SO_REUSEADDR in the server before bind()"
    if attempt.bind == OK and attempt.certain:
        return f"{set_it}: the old sockets have it too, so it helps at once."
    if attempt.certain:
        return (
            f"{set_it}. Both sides need it, and the old sockets lack it: the first restart after that "
            "still has to wait until they are gone."
        )
    if any(b.began_here for b in answer.blockers):
        return f"{set_it}. Both sides need it, and clients seldom set it: this time it hardly helps."
    return (
        f"{set_it}. Both sides need it: if the old server lacked it, the first restart after the fix "
        "still has to wait."
    )


def _privileged(answer: BindAnswer) -> Advice:
    return Advice(
        (
            (
                "In its unit: AmbientCapabilities=CAP_NET_BIND_SERVICE, or a systemd socket unit; "
                "without systemd: setcap cap_net_bind_service=+ep PROGRAM (no interpreter: every script of "
                "every user would have it)."
            ),
            f"Or let every user here: sysctl -w net.ipv4.ip_unprivileged_port_start={answer.target.port}",
        ),
        (
            "Running the whole server as root for the sake of a port.",
            "SO_REUSEADDR: EACCES is about privilege, not about who holds the port.",
        ),
    )


def _foreign(answer: BindAnswer) -> Advice:
    if answer.obstacle is not None and answer.obstacle.errno == "EINVAL":
        return Advice(("Name the interface: each has its own link-local addresses.",), ())
    family = "ipv6" if answer.target.family == 6 and "." not in answer.target.address else "ipv4"
    return Advice(
        (
            (
                "Compare with `ip address`; if the address comes later (DHCP, a VPN, duplicate address "
                "detection), start the server after it (After=network-online.target)."
            ),
            (
                "For a virtual address that moves between hosts: IP_FREEBIND in the server, or "
                f"net.{family}.ip_nonlocal_bind=1."
            ),
        ),
        ("Taking EADDRNOTAVAIL for used-up ports: that is what connect() means by it, not bind().",),
    )


def _remarks(answer: BindAnswer) -> list[str]:
    """What holds whatever the cause."""
    remarks = [led_elsewhere(one, answer.target.port) for one in redirected(answer)[:_SHOWN_REDIRECTS]]
    port = answer.target.port
    obvious = answer.cause in ("outgoing-connection", "address-not-local")
    if not obvious and is_ephemeral(port, answer.evidence.sysctls):
        remarks.append(
            f"Port {port} lies in ip_local_port_range: a client can be given it before the server starts. "
            "Reserve it in net.ipv4.ip_local_reserved_ports."
        )
    devices = sorted({name for b in answer.blockers if (name := _interface(b, answer.evidence))})
    if devices and not answer.target.device:
        remarks.append(
            f"The sockets in the way are bound to {' and '.join(devices)} (SO_BINDTODEVICE): a server that "
            "binds itself to another interface can have the port; --device IFACE asks about it."
        )
    siblings = [s for s in answer.blockers if s.state is TcpState.BOUND and s.existing.reuseaddr.value]
    if siblings and _with(answer, "SO_REUSEADDR").bind == OK:
        remarks.append("Beside the bound socket bind() succeeds with SO_REUSEADDR; the first listen() wins.")
    return remarks


def _interface(socket: PortSocket, evidence: PortEvidence) -> str | None:
    return evidence.interfaces.get(socket.existing.device) if socket.existing.device else None


def _datagram(answer: BindAnswer) -> Advice:
    _, custody = _first(answer)
    who = f"{custody.holders[0].name} ({custody.holders[0].pid})" if custody.holders else "its holder"
    shared = [" and ".join(a.options) for a in answer.attempts[1:3] if a.bind == OK and a.certain]
    do = [f"Set {option}: the other socket has it too." for option in shared]
    do.append(f"Give one of the two another port or another address; the other socket is {who}'s.")
    return Advice(tuple(do), ("Waiting: a UDP socket has no state that ends by itself.",))


def led_elsewhere(one: Redirect, port: int) -> str:
    """Say that bind() is not all: the clients never come to the socket."""
    return f"Take the rule out, or use another port: {tell_redirect(one, port)}"


_BY_CAUSE: Mapping[str, Callable[[BindAnswer], Advice]] = {
    "listener": _listener,
    "dual-stack-listener": _dual_stack,
    "bound-socket": _bound,
    "udp-socket": _datagram,
    "live-connections": _live,
    "outgoing-connection": _outgoing,
    "fin-wait-2-orphan": _leftover,
    "time-wait": _leftover,
    "privileged-port": _privileged,
    "address-not-local": _foreign,
}

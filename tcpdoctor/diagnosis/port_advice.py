"""What to do about a port that cannot be bound, and what is often advised and does not help."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from tcpdoctor.diagnosis.bind import OK, Attempt
from tcpdoctor.diagnosis.custody import Custody, connections_that_end, custody_of, others_that_hold, stop_of
from tcpdoctor.diagnosis.holders import sentence, tell_stop
from tcpdoctor.diagnosis.occupants import PortSocket, is_ephemeral
from tcpdoctor.diagnosis.port import BindAnswer
from tcpdoctor.diagnosis.port_verdict import (
    Verdict,
    first_busy,
    is_blind,
    redirected,
    summary_of_port,
    tell_redirect,
    that_can_be_asked,
    verdict,
    verdict_of,
    verdict_of_all,
)
from tcpdoctor.diagnosis.stopping import Stop
from tcpdoctor.facts.value import show_wait
from tcpdoctor.kernel.packet_rules import Redirect
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Holder
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.named_tuples import NamedTuple

_NO_SECOND_LISTENER = "SO_REUSEADDR: on Linux it never lets a second socket listen where one listens."
_SHOWN_REDIRECTS = 3
_TW_REUSE = "tcp_tw_reuse: it is for connect() only; bind() does not look at it."


class Advice(NamedTuple):
    """Both lists, the most useful first."""

    do: tuple[str, ...]
    avoid: tuple[str, ...]


class Outcome(NamedTuple):
    """What the answer about one address means."""

    verdict: Verdict
    says: str
    """The same in a few sentences."""
    blind: bool
    """Nothing can be said, of which `BindAnswer.unknowns` has the reasons."""


class Conclusion(NamedTuple):
    """What follows from the answers about all addresses that were meant."""

    verdict: Verdict
    summary: str
    """All of them in a line."""
    advice: Advice
    """For the first address that cannot be bound, else for the first."""
    led: tuple[Redirect, ...]
    """Rules that lead the port's clients elsewhere, whatever the address."""
    doubts: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    """Of each address in turn, those that nobody can ask for as well."""


def conclude(found: Sequence[BindAnswer], evidence: PortEvidence) -> Conclusion:
    """Say what the answers about the addresses mean together, and what is to be done."""
    asked = that_can_be_asked(found)
    whole, worst = verdict_of_all(asked), first_busy(asked)
    advice, mine = advise(worst), redirected(worst)
    led = tuple(dict.fromkeys(one for each in asked for one in redirected(each)))
    others = [led_elsewhere(one, worst.target.port) for one in led if one not in mine]
    return Conclusion(
        verdict=whole,
        summary=summary_of_port(asked, whole, evidence),
        advice=Advice((*advice.do, *others), advice.avoid),
        led=led,
        doubts=(*dict.fromkeys(doubt for one in asked for doubt in one.unknowns), *_unread(evidence)),
        outcomes=tuple(Outcome(verdict_of(one), verdict(one), is_blind(one)) for one in found),
    )


def _unread(evidence: PortEvidence) -> tuple[str, ...]:
    return (f"other processes may hold the port as well: {evidence.unread}",) if evidence.unread else ()


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
    others = others_that_hold(answer.blockers, stop, row, answer.evidence) if stop.commands else ()
    if not others:
        return told
    named = name_a_few([_with_its_end(*each) for each in others], _OTHERS_NAMED)
    have = "holds the port as well, and has" if len(others) == 1 else "hold the port as well, and have"
    return f"{told} {sentence(named)} {have} to end too."


def _with_its_end(holder: Holder, stop: Stop | None) -> str:
    """``pid 811 nginx (`systemctl stop nginx.service`)``."""
    how = f" (`{stop.commands[0]}`)" if stop is not None and stop.commands else ""
    return f"pid {holder.pid} {holder.name}{how}"


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


_GIVEN_UP = (
    "Or wait: the kernel gives up a client that does not answer after its retries "
    "(net.ipv4.tcp_synack_retries), some two minutes by default, and lets the port go; once it answers, the "
    "connection has no end."
)


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
        whose = "A process, the server perhaps," if _may_listen(answer) else "An old process still"
        do.append(f"{whose} has these connections: let it finish, or {_end(answer, stop)}")
    if all(blocker.state is TcpState.SYN_RECV and blocker.began_here is False for blocker in answer.blockers):
        do.append(_GIVEN_UP)
        waiting = "tcp_fin_timeout: it does not touch a connection that is still being opened."
    elif stop is not None:
        waiting = "Waiting: what a process holds has no end, and tcp_fin_timeout does not touch it."
    if _may_listen(answer) and is_ephemeral(answer.target.port, answer.evidence.sysctls) is True:
        do.append(
            "Where it is a client, which was given the port because that is in net.ipv4.ip_local_port_range: "
            f"add {answer.target.port} to net.ipv4.ip_local_reserved_ports for the next start."
        )
    if answer.free_in is not None:
        do.append(f"Wait {show_wait(answer.free_in)} or a little more: the kernel gives up then.")
    no_bug = "Calling it a kernel bug because nothing listens: any socket on the port blocks bind()."
    unseen = () if _may_listen(answer) else (no_bug,)
    return Advice((*do, _reuse(answer)), (*_not_for_it(answer), waiting, *unseen))


def _may_listen(answer: BindAnswer) -> bool:
    """Whether listeners are not told, so that the port's server may be there."""
    return isinstance(answer.evidence.listeners, Missing)


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
        do.append(_wait(answer, answer.free_in))
    do.append(_reuse(answer))
    if answer.cause == "time-wait":
        return Advice(tuple(do), ("Lowering tcp_fin_timeout: TIME_WAIT is 60 s whatever it says.", _TW_REUSE))
    do.append("Find out why the peer does not close: its end is in CLOSE_WAIT.")
    not_time_wait = "Taking it for TIME_WAIT: this ends by tcp_fin_timeout, and it is the peer that lingers."
    return Advice(tuple(do), (not_time_wait, _TW_REUSE))


def _wait(answer: BindAnswer, free_in: float) -> str:
    if _may_last_longer(answer.by_cause):
        return (
            f"Wait {show_wait(free_in)} at least, no sysctl shortens it: one whose peer closes meanwhile is "
            "TIME_WAIT for 60 s more."
        )
    return f"Wait {show_wait(free_in)}: nothing else is needed, and no sysctl shortens it."


def _may_last_longer(by_cause: Iterable[tuple[str, int]]) -> bool:
    """Whether what holds a port may become TIME_WAIT before its time is over, and then lasts longer."""
    return any(cause != "time-wait" for cause, _ in by_cause)


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
    port = answer.target.port
    taken = f"Taken as well; what frees it: `tcpdoctor explain {port} --user root`"
    return Advice(
        (
            *([taken] if answer.blockers else []),
            (
                "In its unit: AmbientCapabilities=CAP_NET_BIND_SERVICE, or a systemd socket unit; "
                "without systemd: setcap cap_net_bind_service=+ep PROGRAM (no interpreter: every script of "
                "every user would have it)."
            ),
            f"Or let every user here: sysctl -w net.ipv4.ip_unprivileged_port_start={port}",
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
    remarks = [f"Ask again afterwards: {doubt}." for doubt in _unread(answer.evidence) if answer.blockers]
    remarks += [led_elsewhere(one, answer.target.port) for one in redirected(answer)[:_SHOWN_REDIRECTS]]
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
    way_out = "use another port" if one.names_port else "let it spare this port"
    return f"Take the rule out, or {way_out}: {tell_redirect(one, port)}"


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

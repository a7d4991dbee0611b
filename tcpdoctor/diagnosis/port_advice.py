"""What to do about a port that cannot be bound, and what is often advised and does not help."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.bind import OK, Attempt
from tcpdoctor.diagnosis.port import PortAnswer
from tcpdoctor.diagnosis.port_holder import Custody, custody_of
from tcpdoctor.diagnosis.port_socket import PortSocket, is_ephemeral
from tcpdoctor.diagnosis.port_words import count, seconds
from tcpdoctor.kernel.snapshot import Holder
from tcpdoctor.kernel.states import TcpState

_NO_SECOND_LISTENER = "SO_REUSEADDR: on Linux it never lets a second socket listen where one listens."
_TW_REUSE = "tcp_tw_reuse: it is for connect() only; bind() does not look at it."


class Advice(NamedTuple):
    """Both lists, the most useful first."""

    do: tuple[str, ...]
    avoid: tuple[str, ...]


def advise(answer: PortAnswer) -> Advice:
    """Return what fits the cause, and the remarks that hold whatever the cause."""
    cause = answer.cause if answer.attempts[0].bind != OK else None
    given = _BY_CAUSE[cause](answer) if cause is not None else Advice((), ())
    return Advice((*given.do, *_remarks(answer)), given.avoid)


def _first(answer: PortAnswer) -> tuple[PortSocket, Custody]:
    socket = next(b for b in answer.blockers if b.cause == answer.cause)
    return socket, custody_of(socket.row, answer.evidence)


def _with(answer: PortAnswer, option: str) -> Attempt:
    return next(attempt for attempt in answer.attempts if attempt.options == (option,))


def _stop(holder: Holder, answer: PortAnswer) -> str:
    """How to end a holder, by what keeps it running."""
    process = answer.evidence.processes.get(holder.pid)
    who = f"pid {holder.pid} {holder.name}"
    if process is not None and isinstance(process.container, str):
        return f"stop container {process.container[:12]} ({who})"
    if process is not None and isinstance(process.unit, str) and process.unit.endswith(".service"):
        return f"systemctl stop {process.unit} ({who})"
    return f"end {who} (kill {holder.pid})"


def _listener(answer: PortAnswer) -> Advice:
    socket, custody = _first(answer)
    do = [_free_the_listener(custody, answer)]
    if _with(answer, "SO_REUSEPORT").bind == OK:
        do.append("Or let both share the port: the listener has SO_REUSEPORT, so set it in the server too.")
    elif answer.target.address != socket.row.local.address:
        do.append("Or give each its own address: 0.0.0.0 and :: mean every address of the host.")
    return Advice(tuple(do), (_NO_SECOND_LISTENER,))


def _stop_all(custody: Custody, answer: PortAnswer) -> str:
    """End the first holder, and do not forget the others: the last descriptor keeps the socket."""
    others = len(custody.holders) - 1
    more = f" and {count(others, 'other process', 'other processes')} that share it" if others else ""
    return _stop(custody.holders[0], answer) + more


def _free_the_listener(custody: Custody, answer: PortAnswer) -> str:
    if custody.socket_unit:
        return (
            "systemctl list-sockets names the unit; systemctl stop NAME.socket frees the port. To stop only "
            "its service is not enough: systemd keeps the socket and starts the service again."
        )
    if custody.inherited:
        holder = custody.holders[0]
        return (
            f"kill {holder.pid} ({holder.name}): it has the listener without using it. Then let the server "
            "open its sockets with SOCK_CLOEXEC, or start its children with their descriptors closed."
        )
    if custody.first_process:
        return (
            f"Process 1 is {custody.holders[0].name}. If it is an init, its socket unit has to be stopped, "
            "not a service. If it is the main program of this container, give the server another port."
        )
    if custody.holders:
        return f"Give the server another port, or {_stop_all(custody, answer)}."
    if custody.hidden:
        return f"Give the server another port, or find the holder: {custody.hidden}."
    return (
        "Give the server another port: no process holds the listener (it may be the kernel's, such as NFS)."
    )


def _dual_stack(answer: PortAnswer) -> Advice:
    _, custody = _first(answer)
    one_socket = (
        "Let the dual-stack socket serve both families, or set IPV6_V6ONLY on it before its bind() "
        "(nginx: ipv6only=on)."
    )
    host_wide = "Switching IPv6 off, or net.ipv6.bindv6only=1: that changes every other server of the host."
    return Advice((one_socket, _free_the_listener(custody, answer)), (host_wide, _NO_SECOND_LISTENER))


def _bound(answer: PortAnswer) -> Advice:
    _, custody = _first(answer)
    if custody.holders:
        end = _stop(custody.holders[0], answer)
        do = f"Find out why it bound the port and does nothing with it, or {end}."
    else:
        do = f"Find the holder: {custody.hidden or 'no process has a descriptor of it'}."
    unseen = "Believing ss -l or netstat: they do not show sockets that are bound and do not listen."
    return Advice((do,), (unseen,))


def _live(answer: PortAnswer) -> Advice:
    _, custody = _first(answer)
    do = []
    waiting = "tcp_fin_timeout: it does not touch what is still being sent; tcp_orphan_retries ends that."
    if custody.holders:
        end = _stop(custody.holders[0], answer)
        do.append(f"An old process still has these connections: let it finish, or {end}.")
        waiting = "Waiting: what a process holds has no end, and tcp_fin_timeout does not touch it."
    if answer.free_in is not None:
        do.append(f"Wait {seconds(answer.free_in)} or a little more: the kernel gives up then.")
    no_bug = "Calling it a kernel bug because nothing listens: any socket on the port blocks bind()."
    return Advice((*do, _reuse(answer)), (waiting, no_bug))


def _outgoing(answer: PortAnswer) -> Advice:
    _, custody = _first(answer)
    end = f"{_stop(custody.holders[0], answer)}, or wait" if custody.holders else "wait"
    if not is_ephemeral(answer.target.port, answer.evidence.sysctls):
        return Advice(
            (
                (
                    "Let that client choose no port of its own, or another one: leave out its bind() to port "
                    f"{answer.target.port}. For this start, {end} until the connection ends."
                ),
            ),
            ("net.ipv4.ip_local_reserved_ports: it does not keep a process from a port that it binds.",),
        )
    reserve = (
        f"Keep the port out of the ephemeral range: add {answer.target.port} to "
        "net.ipv4.ip_local_reserved_ports. Writing replaces the whole list, so write the old entries too."
    )
    return Advice(
        (reserve, f"That helps the next start. For this one, {end} until the connection ends."),
        (
            "Restarting until it works: the next client may be given the port again.",
            "Widening ip_local_port_range to 1024-65535: then clients take the ports of more servers.",
        ),
    )


def _leftover(answer: PortAnswer) -> Advice:
    do = []
    if answer.free_in is not None and _with(answer, "SO_REUSEADDR").bind != OK:
        do.append(f"Wait {seconds(answer.free_in)}: nothing else is needed, and no sysctl shortens it.")
    do.append(_reuse(answer))
    if answer.cause == "time-wait":
        return Advice(tuple(do), ("Lowering tcp_fin_timeout: TIME_WAIT is 60 s whatever it says.", _TW_REUSE))
    do.append("Find out why the peer does not close: its end is in CLOSE_WAIT.")
    not_time_wait = "Taking it for TIME_WAIT: this ends by tcp_fin_timeout, and it is the peer that lingers."
    return Advice(tuple(do), (not_time_wait, _TW_REUSE))


def _reuse(answer: PortAnswer) -> str:
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
    if any(b.outgoing for b in answer.blockers):
        return f"{set_it}. Both sides need it, and clients seldom set it: this time it hardly helps."
    return (
        f"{set_it}. Both sides need it: if the old server lacked it, the first restart after the fix "
        "still has to wait."
    )


def _privileged(answer: PortAnswer) -> Advice:
    return Advice(
        (
            (
                "In its unit: AmbientCapabilities=CAP_NET_BIND_SERVICE, or a systemd socket unit; "
                "without systemd: setcap cap_net_bind_service=+ep PROGRAM."
            ),
            f"Or let every user here: sysctl -w net.ipv4.ip_unprivileged_port_start={answer.target.port}",
        ),
        (
            "Running the whole server as root for the sake of a port.",
            "SO_REUSEADDR: EACCES is about privilege, not about who holds the port.",
        ),
    )


def _foreign(answer: PortAnswer) -> Advice:
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


def _remarks(answer: PortAnswer) -> list[str]:
    """What holds whatever the cause."""
    remarks = []
    port = answer.target.port
    obvious = answer.cause in ("outgoing-connection", "address-not-local")
    if not obvious and is_ephemeral(port, answer.evidence.sysctls):
        remarks.append(
            f"Port {port} lies in ip_local_port_range: a client can be given it before the server starts. "
            "Reserve it in net.ipv4.ip_local_reserved_ports."
        )
    siblings = [s for s in answer.blockers if s.state is TcpState.BOUND and s.existing.reuseaddr.value]
    if siblings and _with(answer, "SO_REUSEADDR").bind == OK:
        remarks.append("Beside the bound socket bind() succeeds with SO_REUSEADDR; the first listen() wins.")
    return remarks


_BY_CAUSE: Mapping[str, Callable[[PortAnswer], Advice]] = {
    "listener": _listener,
    "dual-stack-listener": _dual_stack,
    "bound-socket": _bound,
    "live-connections": _live,
    "outgoing-connection": _outgoing,
    "fin-wait-2-orphan": _leftover,
    "time-wait": _leftover,
    "privileged-port": _privileged,
    "address-not-local": _foreign,
}

"""What bind() and listen() will answer for a TCP port, and how sure that is.

The decision is the kernel's own, in net/ipv4/inet_connection_sock.c (inet_csk_bind_conflict() and
inet_bhash2_conflict()) and net/core/sock.c, net/ipv6/ipv6_sockglue.c: tests/live/test_bind_prediction.py
compares it with the kernel over thousands of cases. Two things make it conservative, never optimistic:
SO_REUSEPORT has a memory in the kernel (a bucket that once let two sockets share may let a third one in
where it otherwise would not), and a flag that nobody can read is taken as not set.
"""

import itertools
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.port_evidence import BindRules
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import TcpState

OK = "ok"

ATTEMPTS: tuple[tuple[str, ...], ...] = (
    (),
    ("SO_REUSEADDR",),
    ("SO_REUSEPORT",),
    ("SO_REUSEADDR", "SO_REUSEPORT"),
)
"""The four ways to ask for a port, in the order of every report."""

HOLDS_NO_PORT = frozenset((TcpState.SYN_RECV, TcpState.NEW_SYN_RECV, TcpState.CLOSE))
"""Request sockets are in no bind bucket, and a socket in CLOSE has left it (a bound one is BOUND)."""


class Flag(NamedTuple):
    """A socket option that may be hidden: `value` is then what the prediction goes by."""

    value: bool
    known: bool


YES, NO = Flag(value=True, known=True), Flag(value=False, known=True)
LIKELY = Flag(value=True, known=False)
UNKNOWN = Flag(value=False, known=False)
"""Hidden, and taken as not set, with which nothing is promised that may not hold."""


class Wanted(NamedTuple):
    """The socket that somebody wants to bind."""

    family: int
    """4 or 6."""
    address: str
    """Numeric; ``0.0.0.0`` or ``::`` for all."""
    v6only: bool
    """Effective IPV6_V6ONLY; bind() itself sets it for an address that is neither ``::`` nor mapped."""
    uid: int
    device: int = 0
    """Interface index of SO_BINDTODEVICE, or the scope of a link-local address; 0 for none."""


class Existing(NamedTuple):
    """A socket that has the wanted port as its local port."""

    state: TcpState
    family: int
    address: str
    v6only: Flag
    """Meaningless for IPv4."""
    uid: int
    device: int
    minisocket: bool
    reuseaddr: Flag
    reuseport: Flag


class Attempt(NamedTuple):
    """What one of the four attempts meets."""

    options: tuple[str, ...]
    bind: str
    """``ok`` or the name of an errno."""
    listen: str | None
    """The same for listen(); None where bind() fails."""
    certain: bool
    """False where it hangs on something that the kernel does not tell."""
    probed: bool = False
    """The kernel itself answered `bind` (and `listen`, if that was probed as well)."""
    listen_probed: bool = False


class Obstacle(NamedTuple):
    """Why bind() fails whatever sockets there are."""

    errno: str
    cause: str | None
    """``address-not-local``, ``privileged-port``, or None where it is the question that is wrong."""
    why: str


def predict(
    wanted: Wanted, existing: Iterable[Existing], obstacle: Obstacle | None, *, complete: bool = True
) -> tuple[Attempt, ...]:
    """Predict the four attempts to take a port.

    Args:
        wanted: Who wants which address.
        existing: The sockets that have the port; sockets that are alike may be given once.
        obstacle: What the kernel checks before it looks for conflicts.
        complete: Whether `existing` is all there is; if not, an "ok" is not certain.
    """
    kinds = tuple(dict.fromkeys(existing))
    return tuple(_attempt(wanted, options, kinds, obstacle, complete=complete) for options in ATTEMPTS)


def _attempt(
    wanted: Wanted,
    options: tuple[str, ...],
    existing: tuple[Existing, ...],
    obstacle: Obstacle | None,
    *,
    complete: bool,
) -> Attempt:
    if obstacle is not None:
        return Attempt(options, obstacle.errno, None, certain=True)
    sure, likely, possible = False, False, False
    for old in existing:
        answers = set(possible_conflicts(wanted, options, old))
        sure |= answers == {True}
        possible |= True in answers
        likely |= conflicts(wanted, options, old)
    # listen() repeats the same test (inet_csk_listen_start() calls get_port() again), so it fails after
    # a successful bind() only where another socket begins to listen in between.
    bind, listen = ("EADDRINUSE", None) if likely else (OK, OK)
    return Attempt(options, bind, listen, certain=sure or (not possible and complete))


def possible_conflicts(wanted: Wanted, options: tuple[str, ...], old: Existing) -> Iterator[bool]:
    """Yield whether `old` stops the attempt, for every value its hidden flags may have."""
    hidden = (old.v6only, old.reuseaddr, old.reuseport)
    choices = [(flag,) if flag.known else (YES, NO) for flag in hidden]
    for v6only, reuseaddr, reuseport in itertools.product(*choices):
        variant = old._replace(v6only=v6only, reuseaddr=reuseaddr, reuseport=reuseport)
        yield conflicts(wanted, options, variant)


def conflicts(wanted: Wanted, options: tuple[str, ...], old: Existing) -> bool:
    """Return whether `old` stops this attempt, taking its hidden flags at their `value`."""
    if old.state in HOLDS_NO_PORT:
        return False
    if wanted.device and old.device and wanted.device != old.device:
        return False
    if not overlaps(wanted, old):
        return False
    if "SO_REUSEADDR" in options and old.reuseaddr.value and old.state is not TcpState.LISTEN:
        return False
    if "SO_REUSEPORT" in options and old.reuseport.value:
        return not (old.minisocket or wanted.uid == old.uid)
    return True


def overlaps(wanted: Wanted, old: Existing) -> bool:
    """Return whether the two addresses can mean the same one (inet_rcv_saddr_equal() in the kernel).

    A surprise of the kernel: IPv4's 0.0.0.0 meets every IPv6 socket that is not v6only, even one on a
    specific IPv6 address (ipv6_rcv_saddr_equal() compares no further).
    """
    ours, theirs = four(wanted.family, wanted.address), four(old.family, old.address)
    if ours is not None and theirs is not None:
        return ours == theirs or "0.0.0.0" in (ours, theirs)
    if ours is not None:
        any_ipv4 = wanted.family == 4 and ours == "0.0.0.0"
        return not old.v6only.value and (old.address == "::" or any_ipv4)
    if theirs is not None:
        return wanted.address == "::" and not wanted.v6only
    return wanted.address == old.address or "::" in (wanted.address, old.address)


def four(family: int, address: str) -> str | None:
    """Return the IPv4 address that a socket's address stands for, or None: ``::ffff:10.0.0.1`` is one."""
    if family == 4:
        return address
    mapped = address.removeprefix("::ffff:")
    return mapped if mapped != address and "." in mapped else None


# What bind() checks before it looks for other sockets: the address, and the right to the port.
#
# The order is the kernel's: __inet_bind() looks at the address first, __inet6_bind() at the privilege.


class Target(NamedTuple):
    """Where somebody wants to bind."""

    family: int
    """4 or 6."""
    address: str
    """Numeric, as inet_ntop() prints it, without a scope."""
    scope: int
    """Interface index behind the % of an IPv6 address; 0 for none."""
    port: int

    @property
    def socket_address(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return what socket.bind() takes."""
        return (self.address, self.port) if self.family == 4 else (self.address, self.port, 0, self.scope)


def parse_target(address: str | None, port: int, interfaces: Mapping[str, int]) -> Target:
    """Read the address that the user typed; ``0.0.0.0`` where he typed none.

    Args:
        address: ``10.0.0.5``, ``::``, ``[::1]``, ``fe80::1%eth0`` or ``*`` (0.0.0.0).
        port: 1 to 65535.
        interfaces: Index by name, for what is behind the %.

    Raises:
        QuestionError: It is no such address or port.
    """
    if not 1 <= port <= 65535:
        why = "bind() to port 0 means: any free one" if port == 0 else "ports go from 1 to 65535"
        raise QuestionError(f"--port {port}: {why}; name a port from 1 to 65535")
    text = (address if address is not None else "0.0.0.0").strip()
    if text == "*":
        text = "0.0.0.0"
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    host, percent, zone = text.partition("%")
    try:
        if ":" not in host and not percent:
            return Target(4, _canonical(socket.AF_INET, host), 0, port)
        numeric = _canonical(socket.AF_INET6, host)
    except (OSError, ValueError) as error:
        raise QuestionError(
            f"--address {address}: no IP address; give it in numbers, such as 127.0.0.1, 0.0.0.0 or ::"
        ) from error
    return Target(6, numeric, _scope(address, zone, interfaces) if percent else 0, port)


def _canonical(family: int, text: str) -> str:
    """Write an address as the kernel's sockets are printed, so that the two compare."""
    return socket.inet_ntop(family, socket.inet_pton(family, text))


def _scope(address: str | None, zone: str, interfaces: Mapping[str, int]) -> int:
    if zone in interfaces:
        return interfaces[zone]
    if zone.isascii() and zone.isdigit() and int(zone) < 2**32:
        return int(zone)
    raise QuestionError(
        f"--address {address}: no interface {zone!r} here; there are: {', '.join(interfaces)}"
    )


def wanted_device(target: Target) -> int:
    """Return the interface that bind() ties the socket to: the scope of a link-local address only."""
    return target.scope if is_link_local(target) else 0


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
        if _is_multicast(target.address):
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
    return Obstacle(
        "EADDRNOTAVAIL", "address-not-local", f"{ipv4} is no address of this host (or network namespace)"
    )


def _foreign_ipv6(target: Target, rules: BindRules) -> Reading[Obstacle] | None:
    if target.address == "::":
        return None
    if is_link_local(target) and not target.scope:
        return Obstacle(
            "EINVAL",
            "address-not-local",
            f"{target.address} is a link-local address and names no interface, as {target.address}%eth0 does",
        )
    if rules.nonlocal_ipv6 is True:
        return None
    if isinstance(rules.addresses.ipv6, Missing):
        return rules.addresses.ipv6
    device = wanted_device(target)
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

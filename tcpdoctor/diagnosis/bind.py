"""What bind() and listen() will answer for a TCP port, and how sure that is.

The decision is the kernel's own, in net/ipv4/inet_connection_sock.c (inet_csk_bind_conflict() and
inet_bhash2_conflict()) and net/core/sock.c, net/ipv6/ipv6_sockglue.c: tests/live/test_bind_prediction.py
compares it with the kernel over thousands of cases. Two things make it conservative, never optimistic:
SO_REUSEPORT has a memory in the kernel (a bucket that once let two sockets share may let a third one in
where it otherwise would not), and a flag that nobody can read is taken as not set. Neither is certain.
"""

import itertools
import socket
from collections.abc import Iterable, Iterator, Mapping

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.bind_rules import BindRules
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

OK = "ok"

ATTEMPTS: tuple[tuple[str, ...], ...] = (
    (),
    ("SO_REUSEADDR",),
    ("SO_REUSEPORT",),
    ("SO_REUSEADDR", "SO_REUSEPORT"),
)
"""The four ways to ask for a port, in the order of every report."""

HOLDS_NO_PORT = frozenset((TcpState.NEW_SYN_RECV, TcpState.CLOSE))
"""Request sockets are in no bind bucket, and a socket in CLOSE has left it (a bound one is BOUND).

SYN_RECV is a whole socket here: TCP Fast Open's, before the handshake is over, or of a simultaneous open.
"""


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
    uid_known: bool = True
    """False: `uid` is 0, which may mean that the kernel does not tell it."""
    surely_holds: bool = True
    """False: it may have let go of the port, and nothing tells."""
    device_known: bool = True
    """False: `device` is 0, which may mean that it was not told."""


class Attempt(NamedTuple):
    """What one of the four attempts meets."""

    options: tuple[str, ...]
    bind: str
    """``ok`` or the name of an errno."""
    listen: str | None
    """The same for listen(); None where bind() fails."""
    certain: bool
    """False where it hangs on something that the kernel does not tell."""
    fails: bool = False
    """It fails for sure, although its errno is not certain."""
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
    """Predict the four attempts to take a TCP port.

    Args:
        wanted: Who wants which address.
        existing: The sockets that have the port; sockets that are alike may be given once.
        obstacle: What the kernel checks before it looks for conflicts.
        complete: Whether `existing` is all there is; if not, an "ok" is not certain.
    """
    kinds = tuple(dict.fromkeys(as_met(wanted, old) for old in existing))
    return tuple(_attempt(wanted, options, kinds, obstacle, complete=complete) for options in ATTEMPTS)


def as_met(wanted: Wanted, old: Existing) -> Existing:
    """Return an old socket as the wanted one meets it: whatever other single address it is on, it is alike.

    A transparent proxy has thousands of addresses at a port, and of what is alike one is enough to ask.
    """
    ours, theirs = four(wanted.family, wanted.address), four(old.family, old.address)
    if theirs in ("0.0.0.0", ours) and theirs is not None:
        return old
    if theirs is None and old.address in ("::", wanted.address):
        return old
    return old._replace(address="::ffff:another." if theirs is not None and old.family == 6 else "another")


def predict_udp(
    wanted: Wanted, existing: Iterable[Existing], obstacle: Obstacle | None, *, complete: bool = True
) -> tuple[Attempt, ...]:
    """Predict the four attempts to take a UDP port, as `predict` does; there is no listen().

    udp_lib_lport_inuse() (net/ipv4/udp.c) takes the sockets one by one until one decides: one that shares by
    SO_REUSEPORT lets the new socket in, whatever is behind it, any other in the way refuses it. So where both
    kinds are there it hangs on their order, which nothing tells.
    """
    kinds = tuple(dict.fromkeys(existing))
    return tuple(_udp_attempt(wanted, options, kinds, obstacle, complete=complete) for options in ATTEMPTS)


def _udp_attempt(
    wanted: Wanted,
    options: tuple[str, ...],
    existing: tuple[Existing, ...],
    obstacle: Obstacle | None,
    *,
    complete: bool,
) -> Attempt:
    if obstacle is not None:
        return Attempt(options, obstacle.errno, None, certain=True)
    likely = {meeting for old in existing if (meeting := udp_meeting(wanted, options, old)) is not None}
    answers = [_possible_meetings(wanted, options, old) for old in existing]
    possible = {meeting for one in answers for meeting in one}
    sure = any(one == {False} for one in answers) and True not in possible
    ok = complete and False not in possible
    return Attempt(options, "EADDRINUSE" if False in likely else OK, None, certain=sure or ok)


def _possible_meetings(wanted: Wanted, options: tuple[str, ...], old: Existing) -> set[bool | None]:
    found = {udp_meeting(wanted, options, variant) for variant in _variants(wanted, old)}
    return found | {None} if wanted.device and not old.device_known else found


def udp_meeting(wanted: Wanted, options: tuple[str, ...], old: Existing) -> bool | None:
    """What an old UDP socket says to this attempt: True lets it in, False refuses it, None does not mind."""
    if wanted.device and old.device and wanted.device != old.device:
        return None
    if "SO_REUSEADDR" in options and old.reuseaddr.value:
        return None
    if not overlaps(wanted, old):
        return None
    return "SO_REUSEPORT" in options and old.reuseport.value and wanted.uid == old.uid


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
    sure &= not any(_may_be_remembered(wanted, options, old) for old in existing)
    return Attempt(options, bind, listen, certain=sure or (not possible and complete))


def _may_be_remembered(wanted: Wanted, options: tuple[str, ...], old: Existing) -> bool:
    """Whether the bucket may remember that this user shares the port, and let him in past other sockets.

    A bind() with SO_REUSEPORT that succeeds leaves its uid in the bucket until one without it succeeds
    (inet_csk_update_fastreuse()), and then sk_reuseport_match() compares with nobody. The order of the two
    is not told. Such a memory of a socket that is gone by now is left out: it takes several binds.
    """
    same_user = wanted.uid == old.uid or not old.uid_known
    return "SO_REUSEPORT" in options and old.reuseport == YES and same_user


def possible_conflicts(wanted: Wanted, options: tuple[str, ...], old: Existing) -> Iterator[bool]:
    """Yield whether `old` stops the attempt, for everything that it may be and hides."""
    for variant in _variants(wanted, old):
        found = conflicts(wanted, options, variant)
        yield found
        elsewhere = wanted.device and not old.device_known
        if found and (elsewhere or not old.surely_holds or _kernels_differ(wanted, old)):
            yield False


def _variants(wanted: Wanted, old: Existing) -> Iterator[Existing]:
    """The socket with every value that its hidden flags and its uid may have."""
    hidden = (old.v6only, old.reuseaddr, old.reuseport)
    choices = [(flag,) if flag.known else (YES, NO) for flag in hidden]
    uids = (old.uid,) if old.uid_known else (wanted.uid, wanted.uid + 1)
    for v6only, reuseaddr, reuseport in itertools.product(*choices):
        for uid in uids:
            yield old._replace(v6only=v6only, reuseaddr=reuseaddr, reuseport=reuseport, uid=uid)


def _kernels_differ(wanted: Wanted, old: Existing) -> bool:
    """Whether some kernels let the two pass each other where others do not, and nothing tells which it is.

    From 6.1 on a bind() to one address looks up those bound to it and to a wildcard, and at first did not
    count ::ffff:0.0.0.0 among the wildcards (mended by commit aa99e5f87bd5 in part; 6.1 still does so).
    """
    mapped_wildcard = old.family == 6 and four(6, old.address) == "0.0.0.0"
    return mapped_wildcard and four(wanted.family, wanted.address) not in (None, "0.0.0.0")


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
            return Target(4, _canonical(socket.AF_INET, host), 0, port)
        numeric = _canonical(socket.AF_INET6, host)
    except (OSError, ValueError) as error:
        raise QuestionError(
            f"{question}: no IP address; give it in numbers, such as 127.0.0.1, 0.0.0.0 or ::"
        ) from error
    return Target(6, numeric, _scope(question, zone, interfaces) if percent else 0, port)


def _canonical(family: int, text: str) -> str:
    """Write an address as the kernel's sockets are printed, so that the two compare."""
    return socket.inet_ntop(family, socket.inet_pton(family, text))


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

"""What bind() and listen() will answer for a TCP port, and how sure that is.

The decision is the kernel's own, in net/ipv4/inet_connection_sock.c (inet_csk_bind_conflict() and
inet_bhash2_conflict()) and net/core/sock.c, net/ipv6/ipv6_sockglue.c: tests/live/test_bind_prediction.py
compares it with the kernel over thousands of cases. Two things make it conservative, never optimistic:
SO_REUSEPORT has a memory in the kernel (a bucket that once let two sockets share may let a third one in
where it otherwise would not), and a flag that nobody can read is taken as not set.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

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

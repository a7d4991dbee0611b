"""What bind() and listen() will answer for a TCP port, and how sure that is.

The decision is the kernel's own, in net/ipv4/inet_connection_sock.c (inet_csk_bind_conflict() and
inet_bhash2_conflict()) and net/core/sock.c, net/ipv6/ipv6_sockglue.c: tests/live/test_bind_prediction.py
compares it with the kernel over thousands of cases. Two things make it conservative, never optimistic:
a bucket has a memory in the kernel (where it once let somebody share the port it may let his like in later,
although the old socket's flags of today say otherwise), and a flag that nobody can read is taken as not set.
Neither is certain.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

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

UDP_CHAIN = 10
"""Sockets of a chain up to which a UDP bind() is compared with all of them (udp_lib_get_port())."""
_WILDCARDS = ("0.0.0.0", "::")

HOLDS_NO_PORT = frozenset((TcpState.NEW_SYN_RECV, TcpState.CLOSE))
"""Request sockets are in no bind bucket, and a socket in CLOSE has left it (a bound one is BOUND).

SYN_RECV is a whole socket here: TCP Fast Open's, before the handshake is over, or of a simultaneous open.
"""


class Flag(NamedTuple):
    """A socket option that may be hidden: `value` is then what the prediction goes by."""

    value: bool
    known: bool


YES, NO = Flag(value=True, known=True), Flag(value=False, known=True)
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
    vrf: int = 0
    """Index of the VRF that the device is of; 0 for none."""
    vrf_known: bool = True
    """False: `vrf` is 0 because nobody could be asked of which one the device is."""


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
    vrf: int = 0
    """Index of the VRF that its device is of: sockets of another one are in another bucket."""
    vrf_known: bool = True
    """False: as in `Wanted`, or it may have been bound before its device came into the VRF, or left one."""
    given_away: bool = False
    """It was given to another user since it was made (fchown()), perhaps when it was bound already."""
    accepted: bool = False
    """A listener made it; False also where that is not known."""


_BEHIND_ADDRESS = Existing._fields.index("address") + 1


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
    only_memory: bool = False
    """It fails but for what the bucket may remember of an option that was taken back since bind()."""
    probed: bool = False
    """The kernel itself answered `bind` (and `listen`, if that was probed as well)."""
    listen_probed: bool = False


class Obstacle(NamedTuple):
    """Why bind() fails whatever sockets there are."""

    errno: str
    cause: Literal["address-not-local", "privileged-port"] | None
    """None where it is the question that is wrong."""
    why: str


def predict(
    wanted: Wanted,
    existing: Iterable[Existing],
    obstacle: Obstacle | None,
    *,
    complete: bool = True,
    keeps_reuseaddr: bool = False,
) -> tuple[Attempt, ...]:
    """Predict the four attempts to take a TCP port.

    Args:
        wanted: Who wants which address.
        existing: The sockets that have the port; sockets that are alike may be given once.
        obstacle: What the kernel checks before it looks for conflicts.
        complete: Whether `existing` is all there is; if not, an "ok" is not certain.
        keeps_reuseaddr: As `BindRules` has it.
    """
    kinds = tuple(dict.fromkeys(alike(wanted, existing).values()))
    forgot = not keeps_reuseaddr or any(map(_makes_forget, kinds))
    return tuple(
        _attempt(wanted, options, kinds, obstacle, complete=complete, forgot=forgot) for options in ATTEMPTS
    )


def alike(wanted: Wanted, existing: Iterable[Existing]) -> dict[Existing, Existing]:
    """Return, by old socket, one that the wanted one meets in the same way; most often itself.

    Whatever other single address sockets are on, they are met alike: a transparent proxy has thousands of
    addresses at a port, and of what is alike one is enough to ask.
    """
    ours = four(wanted.family, wanted.address)
    first: dict[tuple[object, ...], Existing] = {}
    found: dict[Existing, Existing] = {}
    for old in existing:
        theirs = four(old.family, old.address)
        is_ours = old.address in ("::", wanted.address) if theirs is None else theirs in ("0.0.0.0", ours)
        others = (theirs is None, old.state, old.family, *old[_BEHIND_ADDRESS:])
        found[old] = old if is_ours else first.setdefault(others, old)
    return found


def predict_udp(
    wanted: Wanted, existing: Iterable[Existing], obstacle: Obstacle | None, *, complete: bool = True
) -> tuple[Attempt, ...]:
    """Predict the four attempts to take a UDP port, as `predict` does; there is no listen().

    udp_lib_lport_inuse() (net/ipv4/udp.c) takes the sockets one by one until one decides: one that shares by
    SO_REUSEPORT lets the new socket in, whatever is behind it, any other in the way refuses it. So where both
    kinds are there it hangs on their order, which nothing tells. With more than `UDP_CHAIN` sockets it looks
    at those on the same address and on the wildcard, and the others are in the way or not.
    """
    old = tuple(existing)
    kinds = tuple(dict.fromkeys(old))
    if len(old) > UDP_CHAIN:
        seen = (*_WILDCARDS, wanted.address, four(wanted.family, wanted.address))
        told = {one: (four(one.family, one.address) or one.address) in seen for one in kinds}
        kinds = tuple(one._replace(surely_holds=compared) for one, compared in told.items())
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
    elsewhere = wanted.device and not old.device_known
    return found | {None} if elsewhere or not old.surely_holds else found


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
    forgot: bool,
) -> Attempt:
    """Predict one; `forgot` says that the bucket remembers nobody's SO_REUSEADDR."""
    if obstacle is not None:
        return Attempt(options, obstacle.errno, None, certain=True)
    sure, barred, likely, possible = False, False, False, False
    for old in existing:
        answers = set(possible_conflicts(wanted, options, old))
        if answers == {True}:
            barred = True
            sure |= not _remembered(wanted, options, old, forgot=forgot)
        possible |= True in answers
        likely |= conflicts(wanted, options, old)
    # listen() repeats the same test (inet_csk_listen_start() calls get_port() again), so it fails after
    # a successful bind() only where another socket begins to listen in between.
    bind, listen = ("EADDRINUSE", None) if likely else (OK, OK)
    certain = sure or (not possible and complete)
    return Attempt(options, bind, listen, certain, only_memory=barred and not certain)


def _remembered(wanted: Wanted, options: tuple[str, ...], old: Existing, *, forgot: bool) -> bool:
    """Whether the bucket may remember somebody who shared the port, and let this one in past the old socket.

    getsockopt() tells the flags of today, and the bucket goes by those that sockets had in bind() and
    listen() (inet_csk_update_fastreuse()): one may have been taken back since, as CRIU does SO_REUSEADDR.

    With SO_REUSEPORT a uid and an address are left in the bucket, and who fits is compared with no socket
    (sk_reuseport_match()). They may be the old socket's own, its listener's if that was another user's, or of
    one who came later, may be gone by now, and was no conflict himself. So only another user's listener
    surely keeps it out, whose listen() took all earlier memory away and who shares with nobody: but on
    another device, or on an address that the kernel holds for this one's without its overlapping the
    listener's alike.

    SO_REUSEADDR is remembered by some kernels, while all who came had it and nobody called listen(). Of one
    given to another user by fchown() the bucket remembers who bound it.
    """
    if "SO_REUSEADDR" in options and not forgot:
        return True
    if "SO_REUSEPORT" not in options:
        return False
    if old.device or not old.device_known or old.given_away or old.state is not TcpState.LISTEN:
        return True
    past = [one for one in _past_sharers(wanted) if _taken_for(one, wanted)]
    return any(
        variant.uid == wanted.uid or not all(overlaps(one, variant) for one in past)
        for variant in _variants(wanted, old)
    )


def _makes_forget(old: Existing) -> bool:
    """Whether listen() was called in its bucket: by itself, or by the listener that accepted it."""
    return old.state is TcpState.LISTEN or old.accepted


def _past_sharers(wanted: Wanted) -> Iterator[Wanted]:
    """Those of the same user whose address may be taken for the wanted one: a wildcard, or the same."""
    ipv4 = four(wanted.family, wanted.address)
    yield wanted
    for address in ("0.0.0.0", ipv4):
        if address is not None:
            yield wanted._replace(family=4, address=address, v6only=False)
            yield wanted._replace(family=6, address=f"::ffff:{address}", v6only=False)
    for v6only in (False, True):
        yield wanted._replace(family=6, address="::", v6only=v6only)


def _taken_for(past: Wanted, wanted: Wanted) -> bool:
    """Whether sk_reuseport_match() holds the remembered address for the wanted one (FASTREUSEPORT_STRICT).

    The address of ``::`` is 0 for IPv4: to a memory of 0.0.0.0 a dual-stack ``::`` is the same, and to one
    of ``::`` another ``::``, whether v6only or not.
    """
    ours, theirs = four(wanted.family, wanted.address), four(past.family, past.address)
    if theirs is not None and (ours is not None or past.family == 4):
        return not wanted.v6only and theirs in ("0.0.0.0", "0.0.0.0" if wanted.address == "::" else ours)
    if past.address == "::" and not (past.v6only and ours is not None):
        return True
    return past.address == wanted.address


def possible_conflicts(wanted: Wanted, options: tuple[str, ...], old: Existing) -> Iterator[bool]:
    """Yield whether `old` stops the attempt, for everything that it may be and hides."""
    for variant in _variants(wanted, old):
        found = conflicts(wanted, options, variant)
        yield found
        elsewhere = not wanted.vrf_known or (wanted.device and not old.device_known)
        if found and (elsewhere or not old.surely_holds or _kernels_differ(wanted, old)):
            yield False


def _variants(wanted: Wanted, old: Existing) -> Iterator[Existing]:
    """The socket with every value that its hidden flags, its uid and its VRF may have."""
    hidden = (old.v6only, old.reuseaddr, old.reuseport)
    choices = [(flag,) if flag.known else (YES, NO) for flag in hidden]
    uids = (old.uid,) if old.uid_known else (wanted.uid, wanted.uid + 1)
    vrfs = (old.vrf,) if old.vrf_known else (wanted.vrf, wanted.vrf + 1)
    for v6only, reuseaddr, reuseport in itertools.product(*choices):
        for uid, vrf in itertools.product(uids, vrfs):
            yield old._replace(v6only=v6only, reuseaddr=reuseaddr, reuseport=reuseport, uid=uid, vrf=vrf)


def _kernels_differ(wanted: Wanted, old: Existing) -> bool:
    """Whether some kernels let the two pass each other where others do not, and nothing tells which it is.

    From 6.1 on a bind() to one address looks up those bound to it and to a wildcard, and at first did not
    count ::ffff:0.0.0.0 among the wildcards (mended by commit aa99e5f87bd5 in part; 6.1 still does so).
    """
    mapped_wildcard = old.family == 6 and four(6, old.address) == "0.0.0.0"
    return mapped_wildcard and four(wanted.family, wanted.address) not in (None, "0.0.0.0")


def conflicts(wanted: Wanted, options: tuple[str, ...], old: Existing) -> bool:
    """Return whether `old` stops this attempt, taking its hidden flags at their `value`."""
    if old.state in HOLDS_NO_PORT or wanted.vrf != old.vrf:
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


def programs_decide(hooks: Sequence[str], over: str) -> str:
    """Say that what was computed is not all that decides."""
    return (
        f"programs of eBPF decide over {over} too ({' and '.join(hooks)}: bpftool cgroup tree, bpftool net): "
        "they may refuse it or lead it elsewhere, and what they do is not read"
    )

"""What rules of nft and of iptables have in common: where they send a packet, and how chains are followed."""

import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeAlias

from tcpdoctor.kernel.addresses import LocalAddresses
from tcpdoctor.kernel.cgroups import Container
from tcpdoctor.kernel.namespaces import CAP_NET_ADMIN, effective_capabilities, replayed
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.named_tuples import NamedTuple

SECONDS, PATIENCE = 2.0, 3
"""CPU time that reading the rules may take, and how many times that by the clock: a Kubernetes node can have
a hundred thousand; 25,000 take half a second."""
MOST_CHAINS = 10_000
TCP, UDP = 6, 17
PREROUTING, OUTPUT = 0, 3
"""Hooks before the socket is looked up, NF_INET_PRE_ROUTING and NF_INET_LOCAL_OUT."""
INPUT, POSTROUTING = 1, 4


Asked: TypeAlias = Literal["interface", "mark", "sender", "other"]
"""A part of a packet that is named where a rule compares it, and not evaluated; ``other``: what has no name
here, or what a rule before it compares that lets packets pass."""


class Goal(NamedTuple):
    """Where a rule sends a packet."""

    address: str | None = None
    """None: to this host itself; empty: it hangs on the packet."""
    port: int | None = None
    """None: the port stays as it is, or hangs on the packet."""

    def __str__(self) -> str:
        if self.address is None:
            return f"port {self.port} of this host" if self.port else "another port of this host"
        if not self.address:
            return "an address that hangs on the packet"
        host = f"[{self.address}]" if ":" in self.address and self.port else self.address
        return f"{host}:{self.port}" if self.port else host


class Redirect(NamedTuple):
    """A rule that sends what comes for a port to another place."""

    to: Goal
    where: str
    """Where the rule stands: ``nft (table ip nat, chain DOCKER)``."""
    address: str | None
    """Address or network that a client has to have asked for; None: any of this host's."""
    names_port: bool
    """It is for this port, or for a list with it; False: for every port of the address."""
    families: tuple[int, ...] = (4, 6)
    """The families of addresses that it acts on."""
    container: Container | None = None
    """The container that has the address it leads to."""
    asks: tuple[Asked, ...] = ()
    """What else a packet must have, which was not compared: an ``interface``, a ``sender``, a ``mark``."""

    def is_for(self, destination: str) -> bool:
        """Whether a packet for an address is one of those that it acts on."""
        import ipaddress  # here, because most hosts have no such rule

        address = ipaddress.ip_address(destination)
        network = None if self.address is None else ipaddress.ip_network(self.address, strict=False)
        return address.version in self.families and (network is None or address in network)


class Step(NamedTuple):
    """One rule, as far as it concerns the port asked about: a rule that cannot apply is none."""

    names_port: bool
    address: str | None
    to: Goal | None
    """Where it sends the packet."""
    jump: str | None
    """Chain that is gone through next."""
    asks: tuple[Asked, ...] = ()
    """As `Redirect.asks`."""
    stops: bool = False
    """It drops or rejects the packet."""
    sure: bool = False
    """All that it compares was evaluated, and holds for each packet that is asked about."""
    ends: Literal["chain", "hook"] | None = None
    """It ends the chain for the packet (return), or all chains of the hook (accept)."""


class Wanted:
    """The packets that are asked about: those for a port, that come from anywhere or that this host sends.

    Args:
        port: The port that they are for.
        protocol: ``TCP`` or ``UDP``.
        local: The addresses that they may be for; None: any.
        sent_to: Only packets that begin here, for one address.
        stays: That is an address of this host, so that what is sent comes in again.
    """

    def __init__(
        self,
        port: int,
        protocol: int,
        local: LocalAddresses | None,
        *,
        sent_to: str | None = None,
        stays: bool = False,
    ) -> None:
        self.port, self.protocol = port.to_bytes(2, "big"), protocol
        self.hooks = (OUTPUT,) if sent_to is not None and not stays else (PREROUTING, OUTPUT)
        self.every_port = (PREROUTING,) if sent_to is None else self.hooks
        """Hooks at which a rule for every port is about these packets: of what is sent from here to anywhere
        one is about servers elsewhere."""
        self.borders: set[int] = set()
        """Ports at which a rule that was gone through begins to apply or ceases to: between two of them, and
        the port asked about, all ports fare alike."""
        ipv4 = local.ipv4 if local is not None else ()
        ipv6 = local.ipv6 if local is not None else ()
        self._any = {
            4: local is None or isinstance(ipv4, Missing),
            16: local is None or isinstance(ipv6, Missing),
        }
        self._ipv4 = [] if isinstance(ipv4, Missing) else [(one.network, one.length) for one in ipv4]
        self._ipv6 = (
            []
            if isinstance(ipv6, Missing)
            else [int.from_bytes(socket.inet_pton(socket.AF_INET6, one.address), "big") for one in ipv6]
        )
        self.is_for_one = sent_to is not None
        if sent_to is not None:
            family = socket.AF_INET6 if ":" in sent_to else socket.AF_INET
            number = int.from_bytes(socket.inet_pton(family, sent_to), "big")
            self._any = {4: False, 16: False}
            self._ipv4 = [(number, 32)] if family == socket.AF_INET else []
            self._ipv6 = [number] if family == socket.AF_INET6 else []

    def note_ports(self, low: bytes, high: bytes | None = None) -> None:
        """Remember that the port was compared with another, or with a range of them."""
        if len(low) >= 2:
            first, last = low[:2], (high or low)[:2]
            self.borders |= {int.from_bytes(first, "big"), int.from_bytes(last, "big") + 1}

    def is_for_us(self, address: bytes, bits: int) -> bool:
        """Whether this host has an address of a network."""
        if self._any[len(address)]:
            return True
        number, width = int.from_bytes(address, "big"), 8 * len(address)
        ours = self._ipv4 if width == 32 else [(one, 128) for one in self._ipv6]
        return any(
            number >> (width - common) == one >> (width - common)
            for one, length in ours
            for common in (min(bits, length),)
        )


def may_ask_for_rules() -> bool:
    """Whether the kernel answers this process: it takes CAP_NET_ADMIN."""
    return CAP_NET_ADMIN in effective_capabilities()


def no_privilege(rules: str) -> Missing:
    """Say why some rules were not read where `may_ask_for_rules` is false."""
    remedy = "run as root" if os.geteuid() else "root has lost it here"
    return Missing(f"reading {rules} takes CAP_NET_ADMIN; {remedy}")


@replayed
def why_rules_unread() -> str:
    """Return why this process is not told what decides over a connection; empty where it is."""
    if may_ask_for_rules():
        return ""
    return no_privilege("rules of nft, programs of eBPF and policies of IPsec").reason


class TooLongError(Exception):
    """The rules could not be gone through in the time that there is."""


class _Way(NamedTuple):
    """A chain, and what was compared on the way to it."""

    chain: str
    named: bool = False
    address: str | None = None
    asks: tuple[Asked, ...] = ()
    sure: bool = True

    def onward(self, step: Step, *, sure: bool) -> "_Way":
        """The way on through a rule; one for whatever comes is in doubt where more was compared."""
        named, address = self.named or step.names_port, step.address or self.address
        asks = {*self.asks, *step.asks}
        if not sure and not asks and not named and address is None:
            asks.add("other")
        return _Way(step.jump or "", named, address, tuple(sorted(asks)), sure)


def walk_rules(
    wanted: Wanted,
    begin: Mapping[str, int],
    steps_of: Callable[[str], Iterator[Step]],
    where: Callable[[str], tuple[str, tuple[int, ...]]],
) -> Iterator[Redirect]:
    """Follow the rules from the hooks on, and yield each place that the port can be sent to.

    Args:
        wanted: The packets.
        begin: The first chains, each with its hook.
        steps_of: The rules of a chain, in order.
        where: The words for a chain, and its families.
    """
    ended: dict[_Way, bool] = {}

    def follow(way: _Way, hook: int) -> Iterator[Redirect]:
        """Go through a chain; `ended` says whether a packet surely comes no further at the hook."""
        if len(ended) > MOST_CHAINS:
            raise TooLongError
        ended[way] = passing = False
        for step in steps_of(way.chain):
            sure = way.sure and step.sure and not passing
            on = way.onward(step, sure=sure)
            if step.to is not None and (on.named or on.address is not None or hook in wanted.every_port):
                told, families = where(way.chain)
                yield Redirect(step.to, told, on.address, on.named, families, asks=on.asks)
            if step.jump is not None and on not in ended:
                yield from follow(on, hook)
            leaves = step.to is not None or step.stops or step.ends == "hook"
            if sure and on.address is None and (leaves or ended.get(on, False)):
                ended[way] = True
                return
            if step.ends is not None and step.sure and step.address is None:
                return
            passing = passing or step.ends is not None

    for chain, hook in begin.items():
        yield from follow(_Way(chain), hook)


# What iptables left, in its own tables and in nft's


def match_ports(name: str, revision: int, info: bytes, wanted: Wanted) -> bool | None:
    """Whether a match of iptables lets the port in; None where it is about something else."""
    port = wanted.port
    if name in ("tcp", "udp") and len(info) >= 8:
        low, high = struct.unpack_from("=HH", info, 4)
        flags = info[8:9] if name == "udp" else info[11:12]  # struct xt_udp, struct xt_tcp: invflags
        inverted = bool(flags and flags[0] & 2)
        if (low, high) == (0, 0xFFFF):
            return None
        wanted.borders |= {low, high + 1}
        return (low <= int.from_bytes(port, "big") <= high) is not inverted
    if name == "multiport" and revision == 1 and len(info) >= 48 and info[0] in (1, 2):
        ports = struct.unpack_from("=15H", info, 2)[: info[1]]
        wanted.borders |= {*ports, *(port + 1 for port in ports)}
        return _multiport(info, int.from_bytes(port, "big")) is not bool(info[47])
    return None


def _multiport(info: bytes, port: int) -> bool:
    """Ports of xt_multiport_v1; a flag joins one with the next into a range."""
    ports, at = struct.unpack_from("=15H", info, 2), 0
    while at < info[1]:
        if info[32 + at] and at + 1 < info[1]:
            if ports[at] <= port <= ports[at + 1]:
                return True
            at += 2
        elif ports[at] == port:
            return True
        else:
            at += 1
    return False


def xt_target(name: str, revision: int, info: bytes) -> Goal | None:
    """Read where a target of iptables sends a packet; None where it sends it nowhere."""
    if name == "TPROXY":  # struct xt_tproxy_target_info and its next revision: marks, address, port
        at = 12 if revision == 0 else 24
        return goal_of(None, info[at : at + 2]) if len(info) >= at + 2 else None
    if name not in ("DNAT", "REDIRECT"):
        return None
    old = name == "REDIRECT" or revision == 0
    if len(info) < (16 if old else 40):
        return None
    if old:  # struct nf_nat_ipv4_multi_range_compat; REDIRECT of IPv6 has struct nf_nat_range
        if name == "REDIRECT" and len(info) >= 40:
            flags, address, port = struct.unpack_from("=I", info)[0], b"", info[36:38]
        else:
            flags, address, port = struct.unpack_from("=I", info, 4)[0], info[8:12], info[16:18]
    else:
        flags, address, port = struct.unpack_from("=I", info)[0], info[4:20], info[36:38]
        address = address[:4] if not any(address[4:]) else address
    return goal_of(address if flags & 1 else None, port if flags & 2 else None)


def told_network(packed: bytes, bits: int) -> str:
    """Return an address, or a network as ``10.0.0.0/8``."""
    import ipaddress  # here, because most hosts have no such rule

    address = ipaddress.ip_address(packed)
    return str(address) if bits == address.max_prefixlen else f"{address}/{bits}"


def goal_of(address: bytes | None, port: bytes | None) -> Goal:
    """Read where a packet goes; empty bytes stand for something that hangs on the packet."""
    host = told_network(address, 8 * len(address)) if address else address
    return Goal(None if host is None else host or "", int.from_bytes(port, "big") if port else None)


MATCHES_ASKED: Mapping[str, Asked] = {
    "mark": "mark",
    "connmark": "mark",
    "iprange": "sender",
    "mac": "sender",
    "physdev": "interface",
}
"""Matches of iptables that compare them."""

"""Rules of nft and iptables that send a port elsewhere (DNAT, redirect): taken although no socket holds it.

A published container port or a Kubernetes NodePort may be such a rule alone: bind() succeeds, and the clients
are led elsewhere. Looking must not switch anything on: asking nft or iptables may load modules, so it is done
only where they are there already. What is not looked at is said, never taken for "no rule".
"""

import os
import re
import socket
from collections.abc import Sequence

from tcpdoctor.kernel.addresses import LocalAddresses
from tcpdoctor.kernel.carriers import find_container_at
from tcpdoctor.kernel.counters import THREAD_NET
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.nft_rules import NftRules, read_nft, why_nft_absent
from tcpdoctor.kernel.packet_rules import (
    INPUT,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    SECONDS,
    TCP,
    UDP,
    Goal,
    Redirect,
    TooLongError,
    Wanted,
    may_ask_for_rules,
    no_privilege,
)
from tcpdoctor.kernel.reading import Missing, Reading, is_absent, read_kernel_file, why_unreadable
from tcpdoctor.kernel.text import decode
from tcpdoctor.kernel.xtables_rules import read_xtables, read_xtables_stops
from tcpdoctor.named_tuples import NamedTuple

_MOST_REDIRECTS = 16


class Redirects(NamedTuple):
    """All such rules of this network namespace that could be read."""

    found: tuple[Redirect, ...]
    not_looked: tuple[str, ...]
    """Why others may exist that were not read, each completing "not looked: ..."."""


@replayed
def read_redirects(port: int, protocol: str = "tcp", local: LocalAddresses | None = None) -> Redirects:
    """Read which rules of this network namespace send a local port elsewhere.

    Needs CAP_NET_ADMIN. Conditions on interface, sender and mark are named, not evaluated: such a rule may
    concern some clients only.

    Args:
        port: The local port.
        protocol: ``tcp`` or ``udp``.
        local: This host's addresses: rules for other addresses are left out, of which a Kubernetes node has
            thousands. None: all are returned.
    """
    found, not_looked = find_redirects(Wanted(port, UDP if protocol == "udp" else TCP, local))
    return Redirects(tuple(map(_with_container, found)), not_looked)


def find_redirects(wanted: Wanted) -> tuple[list[Redirect], tuple[str, ...]]:
    """Return such rules without the containers that they lead to, and what was not looked at."""
    found: list[Redirect] = []
    not_looked: list[str] = []
    for reader in (read_nft, read_xtables, _read_ipvs):
        answer = reader(wanted)
        if isinstance(answer, Missing):
            not_looked.append(answer.reason)
        else:
            found += answer
    if hidden := why_programs_hide_services():
        not_looked.append(hidden)
    for one in found:
        if one.to.address is None and one.to.port:
            wanted.note_ports(one.to.port.to_bytes(2, "big"))
    itself = Goal(None, int.from_bytes(wanted.port, "big"))
    elsewhere = [one for one in dict.fromkeys(found) if one.to != itself]
    return elsewhere[:_MOST_REDIRECTS], tuple(not_looked)


class Filters(NamedTuple):
    """Rules that drop or reject packets on the way of a connection that begins here."""

    named: tuple[str, ...]
    """Where such rules stand that name the port, as `Redirect.where`."""
    others: tuple[str, ...]
    """Where others stand: they may or may not concern the port."""
    not_looked: str | None = None
    """Why nft's rules were not read."""


NO_FILTERS = Filters((), ())


@replayed
def read_filters(port: int, *, local: bool) -> Filters:
    """Read which rules of nft and iptables stop what a program here sends to a port.

    What else than the port they compare is not evaluated.

    Args:
        port: The destination's.
        local: The destination is this host: what comes in counts as well.
    """
    return find_filters(Wanted(port, TCP, None), local=local)


def find_filters(wanted: Wanted, *, local: bool) -> Filters:
    """As `read_filters`; `wanted` learns at which ports the answer is another one."""
    hooks = (PREROUTING, INPUT, OUTPUT, POSTROUTING) if local else (OUTPUT, POSTROUTING)
    parts = [_nft_stops(wanted, hooks), read_xtables_stops(wanted, hooks)]
    found = [stop for part in parts if not isinstance(part, Missing) for stop in part]
    named = dict.fromkeys(where for where, names_port in found if names_port)
    others = dict.fromkeys(where for where, names_port in found if not names_port)
    unread = [part.reason for part in parts if isinstance(part, Missing)]
    return Filters(tuple(named), tuple(others), "; ".join(unread) or None)


def _nft_stops(wanted: Wanted, hooks: Sequence[int]) -> Reading[list[tuple[str, bool]]]:
    absent = why_nft_absent()
    if absent is not None:
        return Missing(absent) if absent else []
    if not may_ask_for_rules():
        return no_privilege("nft's rules")
    try:
        with NftRules(wanted) as rules:
            return rules.stops(hooks)
    except TooLongError:
        return Missing(f"nft's rules could not be read in {SECONDS:g} s")
    except OSError as error:
        return Missing(f"nft's rules: {error.strerror or error}")


def _with_container(one: Redirect) -> Redirect:
    found = find_container_at(one.to.address) if one.to.address else None
    return one if isinstance(found, Missing) else one._replace(container=found)


def _read_ipvs(wanted: Wanted) -> Reading[list[Redirect]]:
    """Read what the kernel's load balancer takes before a socket is looked up."""
    services = read_virtual_servers("tcp" if wanted.protocol == TCP else "udp")
    if isinstance(services, Missing):
        return services
    for one in services:
        wanted.note_ports(one.port.to_bytes(2, "big"))
    port = int.from_bytes(wanted.port, "big")
    return [
        Redirect(
            Goal(address, real), "IPVS (ipvsadm -Ln)", one.address, one.port != 0, (_family(one.address),)
        )
        for one in services
        if one.port in (0, port) and wanted.is_for_us(packed := _packed(one.address), 8 * len(packed))
        for address, real in one.servers
    ]


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _family(address: str) -> int:
    return 6 if ":" in address else 4


_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:]+\]|[0-9A-Fa-f]{8}):([0-9A-Fa-f]{4})")


class VirtualServer(NamedTuple):
    """A service of IPVS: what comes for its address and port is sent to its real servers."""

    address: str
    port: int
    """0: every port of the address."""
    servers: tuple[tuple[str, int], ...]
    """Address and port of each real server."""


def read_virtual_servers(protocol: str, path: str = f"{THREAD_NET}/ip_vs") -> Reading[list[VirtualServer]]:
    """Read the services of IPVS for ``tcp`` or ``udp``; none where the module is not there.

    Everybody may read the file. Missing where it cannot be read, and where services go by firewall mark:
    which packets get the mark hangs on other rules.
    """
    try:
        text = decode(read_kernel_file(path))
    except OSError as error:
        return [] if is_absent(error) else Missing(why_unreadable(error))
    return parse_virtual_servers(text, protocol)


def parse_virtual_servers(text: str, protocol: str) -> Reading[list[VirtualServer]]:
    """Read the text of /proc/net/ip_vs (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show)."""
    found: list[VirtualServer] = []
    ours = marked = False
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        if words[0] == "->":
            end = _endpoint(words[1])
            if ours and end is not None:
                found[-1] = found[-1]._replace(servers=(*found[-1].servers, end))
            continue
        marked = marked or words[0] == "FWM"
        end = _endpoint(words[1])
        ours = words[0] == protocol.upper() and end is not None
        if ours and end is not None:
            found.append(VirtualServer(*end, ()))
    if marked and not found:
        return Missing("services of IPVS go by firewall mark, and other rules say which packets have it")
    return found


def _endpoint(word: str) -> tuple[str, int] | None:
    match = _ENDPOINT.fullmatch(word)
    if match is None:
        return None
    host, port = match.groups()
    if host[0] == "[":
        try:
            packed = socket.inet_pton(socket.AF_INET6, host[1:-1])
        except OSError:
            return None  # colons and digits that are no address
        return socket.inet_ntop(socket.AF_INET6, packed), int(port, 16)
    return socket.inet_ntoa(bytes.fromhex(host)), int(port, 16)


def why_programs_hide_services(folder: str = "/sys/fs/bpf/tc/globals") -> str | None:
    """Say that eBPF programs translate services here, where their tables are pinned at the usual place.

    What a program does is not read: only that Cilium's or Calico's is there. None where none is seen, or
    the folder is root's.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    for start, whose in (("cilium_lb", "Cilium"), ("cali_v4_nat", "Calico"), ("cali_v6_nat", "Calico")):
        if any(name.startswith(start) for name in names):
            return f"{whose}'s eBPF programs translate services here, and what they do is not read"
    return None

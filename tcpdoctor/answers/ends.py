"""The ends of connections as people type them: `--connect`, its `--source`, and the `--peer` of sockets."""

import socket
from typing import NamedTuple

from tcpdoctor.diagnosis.bind import four
from tcpdoctor.diagnosis.port import Target, parse_target
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.addresses import address_text, interface_indexes, raw_address
from tcpdoctor.kernel.text import clean


class Ends(NamedTuple):
    """Where to, and from where if the client says so."""

    destination: Target
    zone: str
    """Name of the interface behind the % of the destination."""
    others: tuple[str, ...]
    source: Target | None
    """Its address may be a wildcard; its port is 0 where the client names none."""


def parse_ends(host_port: str, source: str | None, *, look_up: bool = True) -> Ends:
    """Read ``10.0.0.5:5432``, ``[::1]:80``, ``[fe80::1%eth0]:80`` or ``name:443``, and the client's end.

    Of a name with several addresses it is the first of the source's family, in the order of getaddrinfo().

    Raises:
        QuestionError: One of them is no such thing, or a name may not be looked up.
    """
    host, port = _host_and_port(host_port)
    ours = None if source is None else _source(source)
    zone = host.partition("%")[2]
    if zone:
        found = [_address(f"--connect {host_port}", host, port)]
    else:
        found = _resolve(host_port, host, port, look_up=look_up)
    fit = [target for target in found if ours is None or target.family == ours.family or not ours.address]
    if not fit:
        raise QuestionError(
            f"--source {source}: the destination has another family; give an address of its kind"
        )
    others = tuple(target.address for target in found if target != fit[0])
    if ours is not None and not ours.address:
        ours = ours._replace(family=fit[0].family, address="0.0.0.0" if fit[0].family == 4 else "::")
    return Ends(fit[0], interface_name(fit[0].scope) if zone else "", others, ours)


_EXAMPLE = "give it as HOST:PORT, for example 10.0.0.5:5432 or [::1]:80"
ANY_PORT = 65535
"""Stands for a port that the kernel chooses: it needs no privilege."""


def _host_and_port(host_port: str) -> tuple[str, int]:
    host, colon, port = host_port.strip().rpartition(":")
    if not colon or not host or len(host.split()) > 1 or not _is_port(port):
        raise QuestionError(f"--connect {host_port}: no destination; {_EXAMPLE}")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host:
        raise QuestionError(f"--connect {host_port}: an IPv6 address stands in brackets; {_EXAMPLE}")
    return host, int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535


def _resolve(host_port: str, host: str, port: int, *, look_up: bool) -> list[Target]:
    flags = socket.AI_NUMERICHOST if not look_up else 0
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "no name of a host"
        said = f"no address is known here for {host} ({why})" if look_up else "--no-lookup looks no name up"
        raise QuestionError(
            f"--connect {host_port}: {said}; give an address in its place, for example 10.0.0.5:{port}"
        ) from error
    targets = [
        _reachable(Target(4 if family == socket.AF_INET else 6, str(end[0]), 0, port))
        for family, _, _, _, end in found
    ]
    return list(dict.fromkeys(targets))


def _reachable(target: Target) -> Target:
    """What connect() takes the address for: 0.0.0.0 and :: mean this host, a mapped address is IPv4."""
    address = target.address.partition("%")[0]
    ipv4 = four(target.family, address)
    if ipv4 is not None:
        return target._replace(family=4, address="127.0.0.1" if ipv4 == "0.0.0.0" else ipv4)
    return target._replace(address="::1" if address == "::" else address)


def _address(question: str, text: str, port: int) -> Target:
    interfaces = interface_indexes()
    return _reachable(parse_target(text, port, interfaces, asked=question))


def _source(text: str) -> Target:
    """The client's end: an address, one with a port behind it, or a port alone; 0 is no port."""
    address, port = _split_source(text)
    if not address:
        return Target(4, "", 0, port)
    interfaces = interface_indexes()
    target = parse_target(address, port or ANY_PORT, interfaces, asked=f"--source {text}")
    ipv4 = four(target.family, target.address)
    target = target._replace(port=port)
    return target if ipv4 is None else target._replace(family=4, address=ipv4)


def _split_source(text: str) -> tuple[str, int]:
    """Split ``10.0.0.9:7001``, ``[::1]:7001`` and ``:7001``; an IPv6 address without brackets has no port."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or (":" in host and not host.endswith("]")) or text.strip().endswith("]"):
        return text, 0
    if not _is_port(port):
        raise QuestionError(f"--source {text}: no port behind the colon; give ADDR or ADDR:PORT")
    return host, int(port)


class Peer(NamedTuple):
    """The other end that was asked for."""

    address: str
    """As the kernel's sockets are printed, without a scope; an IPv4-mapped one as IPv4."""
    port: int | None
    """None: any."""


def parse_peer(text: str) -> Peer:
    """Read ``10.0.0.5``, ``10.0.0.5:5432``, ``::1``, ``[::1]`` or ``[::1]:80``.

    Raises:
        QuestionError: It is neither.
    """
    host, port = text.strip(), ""
    if host.startswith("["):
        host, closed, rest = host[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        fits = bool(closed) and (not rest or (colon == ":" and port != ""))
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        fits = port != ""
    else:
        fits = True
    try:
        address = address_text(raw_address(host.partition("%")[0]))
    except (OSError, ValueError):
        fits = False
    if not fits or (port and not _is_port(port)):
        raise QuestionError(f"--peer {text}: no peer; give it as ADDR or ADDR:PORT, such as [::1]:80")
    return Peer(address, int(port) if port else None)


def interface_name(interface: int) -> str:
    """Return an interface's name, or its number where it has gone."""
    try:
        return clean(socket.if_indextoname(interface))
    except OSError:
        return str(interface)

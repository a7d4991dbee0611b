"""What bind() checks before it looks for other sockets: the address, and the right to the port.

The order is the kernel's: __inet_bind() looks at the address first, __inet6_bind() at the privilege.
"""

import socket
from collections.abc import Mapping

from tcpdoctor.diagnosis.bind import Obstacle, four
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.bind_rules import BindRules
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.named_tuples import NamedTuple


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

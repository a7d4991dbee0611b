"""Which way the kernel would send packets to an address, and from which source address."""

import errno
from typing import Any, NamedTuple

from tcpdoctor.kernel.reading import Missing, Reading

_KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
}
"""RTN_* in include/uapi/linux/rtnetlink.h."""


class Route(NamedTuple):
    """The kernel's answer for one destination."""

    source: str | None
    """The address that connect() would take; None where the route names none."""
    interface: str | None
    gateway: str | None
    kind: str
    """``unicast``, ``local`` (an address of this host), ``broadcast``, ``multicast``."""


class NoRoute(NamedTuple):
    """connect() would fail before it looks for a port."""

    errno: str
    """``ENETUNREACH``, ``EHOSTUNREACH``, ``EACCES``, ``EINVAL``..."""


def find_route(family: int, destination: str, source: str | None) -> Reading[Route | NoRoute]:
    """Ask the kernel's routing tables, as ``ip route get`` does; no packet is sent.

    Args:
        family: 4 or 6.
        destination: Numeric address, without a scope.
        source: Local address that the client binds to first; None where the kernel chooses.

    Returns:
        The route, or the error that connect() answers instead. Missing where the kernel may not be asked.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    question: dict[str, Any] = {"dst": destination, "family": 2 if family == 4 else 10}
    if source is not None:
        question["src"] = source
    try:
        with IPRoute() as netlink:
            answers = netlink.route("get", **question)
            route = answers[0]
            index = route.get_attr("RTA_OIF")
            links = netlink.get_links(index) if index else ()
            interface = links[0].get_attr("IFLA_IFNAME") if links else None
    except NetlinkError as error:
        return NoRoute(errno.errorcode.get(error.code, str(error.code)))
    except PermissionError as error:
        return Missing(f"the routing tables may not be asked: {error.strerror}")
    return Route(
        source=route.get_attr("RTA_PREFSRC"),
        interface=interface,
        gateway=route.get_attr("RTA_GATEWAY"),
        kind=_KINDS.get(route["type"], str(route["type"])),
    )

"""What decides about bind() besides the sockets that are there, and asking the kernel by a real bind().

The probe is the only code that ever takes a port, released at once. It binds as the user who runs the
program, in the calling thread's network namespace. While it holds the port (some 20 microseconds) a server's
own bind() can fail, and a listening probe can take a connection, which is then reset: hence only on request.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterable
from pwd import getpwnam

from tcpdoctor.kernel.addresses import LocalAddresses, read_local_addresses
from tcpdoctor.kernel.listing import lists_bound_sockets
from tcpdoctor.kernel.namespaces import (
    CAP_NET_BIND_SERVICE,
    effective_capabilities,
    in_first_user_namespace,
    replayed,
)
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sysctl import read_sysctl
from tcpdoctor.kernel.text import clean, is_whole
from tcpdoctor.named_tuples import NamedTuple

_NS_GET_USERNS = 0xB701
"""_IO(0xb7, 0x1) of include/uapi/linux/nsfs.h."""


class BindRules(NamedTuple):
    """What decides besides the sockets, for the user who asks."""

    addresses: LocalAddresses
    nonlocal_ipv4: Reading[bool]
    """net.ipv4.ip_nonlocal_bind."""
    nonlocal_ipv6: Reading[bool]
    """net.ipv6.ip_nonlocal_bind."""
    bindv6only: Reading[bool]
    """net.ipv6.bindv6only: the IPV6_V6ONLY of a socket that does not set it."""
    unprivileged_from: Reading[int]
    """net.ipv4.ip_unprivileged_port_start."""
    privileged: Reading[bool]
    """Whether this user has CAP_NET_BIND_SERVICE over this network namespace."""
    ipv6: Reading[bool] = True
    """Whether sockets of IPv6 can be made at all."""
    keeps_reuseaddr: bool = True
    """Whether a port may remember that all who bound it had SO_REUSEADDR, although it was taken back since.

    From Linux 6.8 on none does (inet_csk_update_fastreuse() looks for others in the bucket where the socket
    is already), which is since when bound sockets are listed.
    """


@replayed
def read_bind_rules(uid: int | None = None) -> BindRules:
    """Read them for the calling thread: its network namespace and its capabilities.

    Of a process of another user (`uid`) it is supposed that it has root's capabilities or none.
    """
    start = read_sysctl("net.ipv4.ip_unprivileged_port_start")
    unprivileged_from: Reading[int]
    if isinstance(start, (int, Missing)):
        unprivileged_from = start
    else:
        unprivileged_from = Missing(f"net.ipv4.ip_unprivileged_port_start is no number: {start!r}")
    return BindRules(
        addresses=read_local_addresses(),
        nonlocal_ipv4=_switch("net.ipv4.ip_nonlocal_bind"),
        nonlocal_ipv6=_switch("net.ipv6.ip_nonlocal_bind"),
        bindv6only=_switch("net.ipv6.bindv6only"),
        unprivileged_from=unprivileged_from,
        privileged=may_bind_privileged_ports() if uid in (None, os.geteuid()) else uid == 0,
        ipv6=_knows_ipv6(),
        keeps_reuseaddr=not lists_bound_sockets(),
    )


def _knows_ipv6() -> Reading[bool]:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC).close()
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return False
        return Missing(f"no IPv6 socket can be made: {error.strerror}")
    return True


@replayed
def find_user(text: str) -> Reading[int]:
    """Return the uid of a user given by name or number; Missing where there is none of that name."""
    if is_whole(text):
        return int(text) if int(text) < _NO_UID else Missing(f"{text} is no uid")
    try:
        return getpwnam(text).pw_uid
    except (KeyError, ValueError):  # ValueError: a zero byte
        return Missing(f"no user {clean(text, 60)!r} here")


_NO_UID = 2**32 - 1
"""(uid_t) -1 means "none"."""


def may_bind_privileged_ports() -> Reading[bool]:
    """Say whether the calling thread has CAP_NET_BIND_SERVICE over its network namespace.

    The capability counts in the user namespace that owns the network namespace: root inside
    ``unshare --user`` that has stayed in the host's network is refused. The kernel tells the owner only
    where it is our own user namespace or one inside it, and answers EPERM where it is one outside.
    """
    if CAP_NET_BIND_SERVICE not in effective_capabilities():
        return False
    try:
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Missing(f"/proc/thread-self/ns/net: {error.strerror}")
    try:
        os.close(fcntl.ioctl(namespace, _NS_GET_USERNS))
    except OSError as error:
        if error.errno == errno.EPERM:
            return False
        return Missing(f"the owner of this network namespace cannot be told: {error.strerror}")
    finally:
        os.close(namespace)
    return True


@replayed
def privilege_of(uid: int) -> Reading[bool]:
    """Say whether a user's programs have CAP_NET_BIND_SERVICE, as far as his uid tells.

    Root has it; any other user's program has it where its unit (AmbientCapabilities=) or its file gives it,
    which is not known here and counts as no. Inside a user namespace even root may lack it.
    """
    if uid:
        return False
    if in_first_user_namespace():
        return True
    return Missing("whether root of this user namespace may bind privileged ports is not known")


def _switch(name: str) -> Reading[bool]:
    """Read a setting that is 0 or not; without IPv6 its settings are absent and count as 0."""
    value = read_sysctl(name)
    if isinstance(value, Missing):
        absent_family = name.startswith("net.ipv6.") and not os.path.exists("/proc/sys/net/ipv6")
        return False if absent_family else value
    return bool(value)


_SO_BINDTODEVICE = 25


class Probe(NamedTuple):
    """What the kernel answered to one attempt."""

    bind: str
    """``ok`` or the name of the errno."""
    listen: str | None
    """The same for listen(); None where it was not tried."""


_SWITCHES = {"SO_REUSEADDR": socket.SO_REUSEADDR, "SO_REUSEPORT": socket.SO_REUSEPORT}


def probe_bind(
    family: int,
    address: tuple[str, int] | tuple[str, int, int, int],
    options: Iterable[str],
    *,
    listen: bool,
    datagram: bool = False,
    device: str | None = None,
) -> Reading[Probe]:
    """Bind a socket to `address` with some switches, and close it.

    Args:
        family: 4 or 6.
        address: As socket.bind() takes it.
        options: What to switch on before bind(), of SO_REUSEADDR and SO_REUSEPORT.
        listen: Whether to call listen() as well.
        datagram: A UDP socket instead of one of TCP.
        device: The interface to bind it to before (SO_BINDTODEVICE).

    Returns:
        The kernel's answers; Missing where no socket of this family can be made at all.
    """
    kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
    try:
        of = socket.AF_INET if family == 4 else socket.AF_INET6
        sock = socket.socket(of, kind | socket.SOCK_CLOEXEC)
    except OSError as error:
        return Missing(f"socket(): {error.strerror}")
    with sock:
        try:
            for option in options:
                sock.setsockopt(socket.SOL_SOCKET, _SWITCHES[option], 1)
            if device is not None:
                sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device.encode())
            sock.bind(address)
        except OSError as error:
            return Probe(_name(error), None)
        if not listen:
            return Probe("ok", None)
        try:
            sock.listen(0)
        except OSError as error:
            return Probe("ok", _name(error))
        return Probe("ok", "ok")


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))

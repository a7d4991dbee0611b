"""Which container a helper carries ports or a network to, as far as /proc tells.

docker-proxy has the container's address in its command line; pasta and slirp4netns have the path of its
network namespace, which stands in the container's own configuration as well; rootlessport has nothing, and a
child that lives in that namespace. Which port leads where they were told on standard input or through a
socket, and is not seen; what the container listens on is.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from tcpdoctor.kernel.cgroups import Container, read_place
from tcpdoctor.kernel.listing import read_listening_ports
from tcpdoctor.kernel.reading import Missing, Reading, read_kernel_file, why_unreadable
from tcpdoctor.kernel.text import decode

MOST_PROCESSES = 20_000
"""Processes of the machine that are looked through for those of one unit, or for one container."""
_BUNDLE_BYTES = 1 << 20
_ID = re.compile("[0-9a-f]{64}")


def option_value(arguments: Sequence[str], *names: str) -> str | None:
    """Return what a command line gives for an option, by any of its names, written in any usual way."""
    for name in names:
        dashed = ("-" + name, "--" + name)
        for number, argument in enumerate(arguments):
            if argument in dashed and number + 1 < len(arguments):
                return arguments[number + 1]
            if argument.startswith(tuple(form + "=" for form in dashed)):
                return argument.partition("=")[2]
    return None


def find_container_at(address: str, root: str = "/proc") -> Reading[Container | None]:
    """Return the container whose network namespace has this address; None where there is none.

    A container's address is read from the routes of its namespace (/proc/PID/net/fib_trie, if_inet6),
    so nothing is entered. Of several with one namespace the one that began first is named: the others
    were started into it. Our own network namespace is left out.
    """
    has_address: dict[int, bool] = {}

    def has(namespace: int, pid: int) -> bool:
        if namespace not in has_address:
            has_address[namespace] = _has_address(f"{root}/{pid}/net", address)
        return has_address[namespace]

    return find_container_where(has, root)


def find_container_where(is_it: Callable[[int, int], bool], root: str = "/proc") -> Reading[Container | None]:
    """Return the container of the first process whose network namespace it is; None where there is none.

    Args:
        is_it: Asked with the inode of a process's network namespace, not ours, and its pid.
        root: Where /proc is.
    """
    pids = every_pid(root)
    if len(pids) > MOST_PROCESSES:
        return Missing(f"there are more than {MOST_PROCESSES} processes to look through")
    try:
        own = os.stat(f"{root}/self/ns/net").st_ino
    except OSError as error:
        return Missing(why_unreadable(error))
    hidden = None
    for pid in pids:
        try:
            namespace = os.stat(f"{root}/{pid}/ns/net").st_ino
            found = namespace != own and is_it(namespace, pid)
        except PermissionError as error:
            hidden = Missing(why_unreadable(error))
            continue
        except OSError:
            continue  # it ended
        if found:
            place = read_place(pid, root)
            if not isinstance(place, Missing) and place.container:
                return place.container
    return hidden


def _has_address(folder: str, address: str) -> bool:
    if ":" in address:
        import socket

        wanted = socket.inet_pton(socket.AF_INET6, address).hex()
        return any(
            line.startswith(wanted) for line in decode(read_kernel_file(f"{folder}/if_inet6")).splitlines()
        )
    lines = decode(read_kernel_file(f"{folder}/fib_trie")).splitlines()
    return any(
        line.strip() == f"|-- {address}" and "/32 host LOCAL" in after for line, after in pairwise(lines)
    )


def find_served(
    pid: int, name: str, arguments: Sequence[str], root: str = "/proc"
) -> Reading[Container | None]:
    """Return the container that a process carries a port or a network to; None where it is no such helper.

    Missing where that container is hidden from us.
    """
    address = option_value(arguments, "container-ip")
    if address is not None:
        return find_container_at(address, root)
    names = (arguments[0].rpartition("/")[2] if arguments else name, name)
    if any(one.startswith(("pasta", "slirp4netns")) for one in names):
        path = option_value(arguments, "netns") or next((a for a in arguments[1:] if "/netns/" in a), None)
        found = _in_bundle_with(path, root) if path else None
        return found or _of_process(next((a for a in arguments[1:] if a.isdigit()), None), root)
    if any(one.startswith(("rootlessport", "containers-rootl")) for one in names):
        return _of_children(pid, root)
    return None


def find_ports_inside(box: Container, root: str = "/proc") -> tuple[int, ...]:
    """Return the ports that a container listens on, ascending; none where it is hidden from us.

    They are read from the table of the first process in it that shows them (/proc/PID/net/tcp): nothing is
    entered. A published port leads to one of them, unless nothing listens where it leads.
    """
    pids = every_pid(root)
    for pid in pids if len(pids) <= MOST_PROCESSES else ():
        place = read_place(pid, root)
        if isinstance(place, Missing) or place.container is None or place.container.id != box.id:
            continue
        try:
            if os.stat(f"{root}/{pid}/ns/net").st_ino != os.stat(f"{root}/self/ns/net").st_ino:
                return tuple(read_listening_ports(f"{root}/{pid}/net"))
        except OSError:
            continue  # it ended, or is another's
    return ()


def _of_process(number: str | None, root: str) -> Container | None:
    """slirp4netns and pasta may be given a process of the container."""
    place = None if number is None else read_place(int(number), root)
    return None if place is None or isinstance(place, Missing) else place.container


def _of_children(pid: int, root: str) -> Reading[Container | None]:
    """Ask its child: it was started inside the container's network namespace."""
    spaces = set()
    for child in _children(pid, root):
        try:
            spaces.add(os.stat(f"{root}/{child}/ns/net").st_ino)
        except OSError as error:
            return Missing(why_unreadable(error))
    return find_container_where(lambda space, _: space in spaces, root) if spaces else None


def _children(pid: int, root: str) -> Iterator[int]:
    """Any thread may have started them; a kernel without CONFIG_PROC_CHILDREN names none."""
    try:
        for thread in os.listdir(f"{root}/{pid}/task"):
            yield from map(int, read_kernel_file(f"{root}/{pid}/task/{thread}/children").split())
    except OSError:
        return


def _in_bundle_with(path: str, root: str) -> Container | None:
    """Find the container whose configuration has this network namespace: each conmon knows its bundle."""
    for pid in every_pid(root):
        try:
            words = decode(read_kernel_file(f"{root}/{pid}/cmdline")).split("\0")
            name = decode(read_kernel_file(f"{root}/{pid}/comm")).strip()
        except OSError:
            continue  # it ended
        if not {words[0].rpartition("/")[2], name} & {"conmon", "conmonrs"}:
            continue
        number, bundle = option_value(words, "c", "cid"), option_value(words, "b", "bundle")
        if number is None or bundle is None or not _ID.fullmatch(number):
            continue
        try:
            uid = os.stat(f"{root}/{pid}").st_uid
        except OSError:
            continue
        if path in _namespaces_of(f"{bundle}/config.json", uid):
            return Container("podman", number, user=uid or None)
    return None


def _namespaces_of(path: str, uid: int) -> tuple[str, ...]:
    """Return the paths of namespaces in an OCI configuration of that user; none if it is not to be trusted.

    The path was named by a process that may be anybody's: only a plain, small file of its own user is read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return ()
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != uid or about.st_size > _BUNDLE_BYTES:
            return ()
        import json  # 2 ms, and wanted only beside such a helper

        told = json.loads(os.read(descriptor, _BUNDLE_BYTES))
        spaces = told["linux"]["namespaces"]
        return tuple(space["path"] for space in spaces if isinstance(space.get("path"), str))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ()
    finally:
        os.close(descriptor)


def every_pid(root: str) -> list[int]:
    """Return the numbers of all processes that /proc shows, ascending."""
    return sorted(int(entry) for entry in os.listdir(root) if entry.isdigit())

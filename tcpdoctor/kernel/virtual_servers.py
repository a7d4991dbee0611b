"""Services that the kernel's load balancer (IPVS) or eBPF programs answer in place of a socket."""

import os
import re
import socket
from typing import NamedTuple

from tcpdoctor.kernel.counters import THREAD_NET
from tcpdoctor.kernel.procfile import is_absent, read_kernel_file, why_unreadable
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import decode

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

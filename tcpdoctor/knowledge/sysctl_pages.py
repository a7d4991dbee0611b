"""The page of each sysctl, from the files in sysctls/.

Unit and meaning of those that a kernel has are told once, in `tcpdoctor.facts.sysctl_facts`; the pages
add the rest. A page whose sysctl is gone brings its own.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tcpdoctor.errors import QuestionError
from tcpdoctor.knowledge.resource import bare, filled, find_name, list_names, read_table

FOLDER = "sysctls"

Bound = int | str
"""A number, a limit of a C type (``INT_MAX``, ``UINT_MAX/HZ``), or the sysctl that is the limit."""


class SysctlPage(NamedTuple):
    """What is always true of a sysctl, whatever its value."""

    name: str
    unit: str
    """As `facts.sysctl_facts` has it: ``second``, ``millisecond``, ``switch``, ``text`` ..."""
    meaning: str
    """One sentence."""
    governs: str
    does_not: str
    """What it is wrongly expected to do."""
    beware: str | None = None
    default: str | None = None
    """As the kernel prints it, numbers separated by one space; None where it is computed."""
    default_is: str | None = None
    """How the default is computed, where it depends on memory or on the kernel."""
    default_among: tuple[str, ...] = ()
    """Every default that kernels have, where it depends on the kernel; empty where they cannot be listed."""
    limits: tuple[Bound, Bound] | None = None
    """Smallest and largest number that the kernel takes; None where it is no number or not known."""
    limits_are: str | None = None
    """The limits in words, where two numbers do not say it."""
    scope: str = "namespace"
    """``namespace``: each network namespace has its own. ``initial``: the machine's, and only the
    initial namespace shows it. ``shared``: the machine's, read-only in other namespaces. ``machine``:
    the machine's, wherever one is."""
    values: Mapping[str, str] = {}
    """What single values stand for."""
    others: str | None = None
    """Which of these every larger number acts as, where that is not what its writer can have meant."""
    harms: Mapping[str, str] = {}
    """What a value does that nobody can have meant: ``8`` of that number, ``<1024`` of a smaller last one."""
    since: str | None = None
    """The kernel that brought it (``6.15``), or a sentence on changes of its values."""
    removed: str | None = None
    """The first kernel without it; ``never there`` for a name that kernel.org never had."""
    instead: str | None = None
    see: tuple[str, ...] = ()


def sysctl_names() -> tuple[str, ...]:
    """Return the names of all sysctls that have a page, those that are gone last."""
    return tuple(_tables())


@functools.cache
def all_pages() -> Mapping[str, SysctlPage]:
    """Return every page by its name, those of sysctls that are gone last."""
    return {name: _page(name, table) for name, table in _tables().items()}


def find_sysctl(asked: str) -> SysctlPage:
    """Return the page of the sysctl that is called so, in any usual spelling.

    ``tcp_fin_timeout``, ``net.ipv4.tcp_fin_timeout``, ``net/ipv4/tcp_fin_timeout``,
    ``/proc/sys/net/ipv4/tcp_fin_timeout`` and ``net.ipv4.tcp_fin_timeout=30``; a part of one as facts have it
    (``net.ipv4.tcp_mem.pressure``), an interface's (``net.ipv4.conf.eth0.rp_filter``), a second name
    (``net.nf_conntrack_max``).

    Raises:
        QuestionError: There is no such page; with the nearest, or where the name is told.
    """
    bare_name = _without_frame(asked)
    spellings = _spellings(sysctl_names())
    known = bare(bare_name) in spellings
    if not known and (option := _option_called(bare_name)) is not None:
        raise QuestionError(
            f"{option} is an option that programs set on a socket, and no sysctl: "
            f"tcpdoctor explain --option {option}"
        )
    other = bare_name if known else _other_name(bare_name)
    meant = other if bare(other) in spellings else bare_name
    name = find_name(meant, spellings, "sysctl of TCP", lambda: _spellings(names_to_suggest()))
    return _page(name, _tables()[name])


def names_to_suggest() -> tuple[str, ...]:
    """Names that a mistake may have meant: none of those that no kernel ever had."""
    return tuple(name for name, page in all_pages().items() if page.removed != "never there")


def _other_name(asked: str) -> str:
    """The name of the page for a second name, an interface's setting, or a part of one."""
    from tcpdoctor.facts.sysctl_facts import PARTS

    plain = re.sub(r"[/.]+", ".", asked).removeprefix("sysctl.").removeprefix("default.").strip(".")
    if plain.endswith("net.nf_conntrack_max"):
        return "net.netfilter.nf_conntrack_max"
    if plain.endswith("conf.all.forwarding") and "ipv6" not in plain:
        return "net.ipv4.ip_forward"
    whole, _, part = plain.rpartition(".")
    parts = [name for name in PARTS if name.endswith(whole) and part in PARTS[name]] if whole else []
    if parts:
        return parts[0]
    return re.sub(r"conf\.[^.]+\.(rp_filter|arp_ignore)$", r"conf.all.\1", plain)


def _option_called(asked: str) -> str | None:
    """The socket option of this name: ``tcp_user_timeout``, ``net.ipv4.tcp_nodelay``."""
    last = re.split(r"[/.]", asked)[-1].upper()
    from tcpdoctor.knowledge.option_pages import option_names

    return last if last in option_names() else None


def dotted(asked: str) -> str | None:
    """Return the name that `asked` is a path or a spelling of with dots, in one form; None if it is none."""
    name = re.sub(r"[/.]+", ".", _without_frame(asked)).strip(".")
    if not re.fullmatch(r"[A-Za-z0-9_.\-]+", name):
        return None
    return f"net.ipv4.{name}" if name.startswith(("tcp_", "ip_")) else name


def _without_frame(asked: str) -> str:
    name = asked.strip().partition("=")[0].strip()
    return re.sub(r"^/*proc/sys/", "", name)


@functools.cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    """What the files say of each sysctl, by its name."""
    files = [read_table(f"{FOLDER}/{name}") for name in _gone_last(list_names(FOLDER))]
    return {name: table for file in files for name, table in file.items()}


def _gone_last(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (name == "gone.toml", name)))


_ALSO: dict[str, tuple[str, ...]] = {
    "net.ipv4.ip_local_port_range": ("ephemeral", "ephemeralports", "ephemeralportrange", "portrange"),
    "net.netfilter.nf_conntrack_max": ("conntrack",),
    "net.ipv4.tcp_congestion_control": ("bbr", "cubic"),
    "net.ipv4.tcp_mtu_probing": ("mtu", "pmtu", "pathmtu"),
}
"""What people call what a sysctl is about."""


@functools.cache
def _spellings(names: tuple[str, ...]) -> Mapping[str, str]:
    """Every name whole, without ``net.``, by its last part, and that without ``tcp_``, as people say it.

    Of two with the same the IPv4 one; nothing that an option of sockets is called (``user timeout``).
    """
    from tcpdoctor.knowledge.option_pages import is_option

    spellings: dict[str, str] = {}
    first = sorted(names, key=lambda name: not name.startswith("net.ipv4."))
    for name in first:
        for spelling in (name, name.removeprefix("net."), name.rpartition(".")[2]):
            spellings.setdefault(bare(spelling), name)
    for name in first:
        said = (name.rpartition(".")[2].removeprefix("tcp_"), *_ALSO.get(name, ()))
        for spelling in map(bare, said):
            if not is_option(spelling):
                spellings.setdefault(spelling, name)
    return spellings


def _page(name: str, table: Mapping[str, Any]) -> SysctlPage:
    from tcpdoctor.facts.sysctl_facts import SYSCTL_FACTS

    words = SYSCTL_FACTS.get(name) or (table["unit"], table["meaning"])
    return filled(
        SysctlPage,
        table,
        name=name,
        unit=words[0],
        meaning=words[1] if words[1].endswith(".") else f"{words[1]}.",
        limits=tuple(table["range"]) if "range" in table else None,
        limits_are=table.get("range_is"),
    )


def unknown_sysctl(name: str) -> SysctlPage:
    """Return a page for a sysctl of TCP that this kernel has and that has none."""
    return SysctlPage(
        name=name,
        unit="text",
        meaning="This kernel has it; this program knows nothing of it.",
        governs="Documentation/networking/ip-sysctl.rst of that kernel says.",
        does_not="Not known.",
    )

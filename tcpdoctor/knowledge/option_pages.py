"""The page of each socket option: one file in options/ for each, and only the one asked for is read."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from tcpdoctor.kernel.sockopts import Option
from tcpdoctor.knowledge.resource import Mistake, bare, filled, find_name, list_names, read_table

FOLDER = "options"

LANGUAGES = {
    "c": "C",
    "python": "Python",
    "go": "Go",
    "java": "Java",
    "node": "Node.js",
    "rust": "Rust",
    "nginx": "nginx",
    "haproxy": "haproxy",
}
"""Where a page says how to set the option, in the order of reports."""

LEVELS = {"SOL_SOCKET": 1, "IPPROTO_IP": 0, "IPPROTO_TCP": 6, "IPPROTO_IPV6": 41}


class OptionPage(NamedTuple):
    """What is always true of a socket option, whatever the host."""

    name: str
    level: str
    """As C writes it: ``SOL_SOCKET``."""
    number: int
    """On x86 and ARM; a few architectures number SOL_SOCKET options differently."""
    kind: str
    """As `kernel.sockopts.Option` has it."""
    does: str
    set_when: str
    mistaken: tuple[Mistake, ...]
    since: str
    code: Mapping[str, str]
    """By the keys of `LANGUAGES`."""
    said: tuple[str, ...] = ()
    """Those of which it is a sentence: why there is no code."""
    c_type: str = "int"
    """``int``, ``struct linger`` ..."""
    unit: str | None = None
    limits: tuple[int, int] | None = None
    """Smallest and largest number that is taken as it is."""
    outside: str | None = None
    """What becomes of other numbers: ``EINVAL``, or a sentence."""
    accepts: str | None = None
    """What it takes, where two numbers do not say it."""
    default: str | None = None
    """A word on the default, where the value of a fresh socket does not say it."""
    sysctls: tuple[str, ...] = ()
    """The first gives the default or a limit."""
    inherited: bool | None = None
    """Whether a socket from accept() has the listener's value; None where the question makes no sense."""
    inherited_is: str | None = None
    beware: str | None = None
    runtimes: str | None = None
    """A word on who sets it, beside what was seen."""
    see: tuple[str, ...] = ()

    def option(self) -> Option:
        """Return how its value is read."""
        return Option(self.name, LEVELS[self.level], self.number, self.kind, self.unit)


_ALSO: dict[str, tuple[str, ...]] = {
    "TCP_KEEPIDLE": ("tcpkeepalive", "keepalivetime", "keepaliveidle"),
    "TCP_KEEPINTVL": ("keepaliveinterval", "keepaliveintvl"),
    "TCP_KEEPCNT": ("keepaliveprobes", "keepalivecount"),
    "TCP_CORK": ("tcpnopush", "nopush"),
    "TCP_NODELAY": ("nagle",),
    "SO_RCVBUF": ("receivebuffer", "rcvbufforce", "sorcvbufforce"),
    "SO_SNDBUF": ("sendbuffer", "sndbufforce", "sosndbufforce"),
    "TCP_CONGESTION": ("congestioncontrol",),
    "TCP_MAXSEG": ("mss", "maxseg"),
    "TCP_FASTOPEN": ("tfo",),
    "SO_BINDTODEVICE": ("bindtoifindex",),
}
"""Other names: those of the sysctls and of other systems."""

_PREFIXES = ("so", "tcp", "ipv6", "ip")


def option_names() -> tuple[str, ...]:
    """Return the names of all options that have a page."""
    return tuple(name.removesuffix(".toml").upper() for name in list_names(FOLDER))


def is_option(asked: str) -> bool:
    """Whether an option is called so, in any usual spelling."""
    return bare(asked) in _spellings(option_names())


def find_option(asked: str) -> OptionPage:
    """Return the page of the option that is called so, in any usual spelling.

    ``SO_REUSEADDR``, ``so-reuseaddr``, ``reuseaddr``, ``socket.SO_REUSEADDR``, ``SOL_SOCKET/SO_REUSEADDR``.

    Raises:
        QuestionError: There is no such page; with the nearest.
    """
    last = asked.strip().replace("/", ".").rpartition(".")[2] or asked
    name = find_name(last, _spellings(option_names()), "socket option")
    return _page(read_table(f"{FOLDER}/{name.lower()}.toml"))


@functools.cache
def _spellings(names: tuple[str, ...]) -> Mapping[str, str]:
    spellings: dict[str, str] = {bare(name): name for name in names}
    for name in names:
        prefix, _, rest = name.partition("_")
        if prefix.lower() in _PREFIXES:
            spellings.setdefault(bare(rest), name)
        for other in _ALSO.get(name, ()):
            spellings.setdefault(other, name)
    return spellings


def _page(table: Mapping[str, Any]) -> OptionPage:
    return filled(OptionPage, table, limits=tuple(table["range"]) if "range" in table else None)


# Which programs and libraries set socket options by themselves, as seen: from runtimes.toml.


Value = bool | int | str


class Runtime(NamedTuple):
    """One program or library in its default configuration, and the options that were seen on its sockets.

    An option that is not told was as on a plain socket. IPV6_V6ONLY is told of listeners on IPv6 only.
    """

    name: str
    software: str
    versions: tuple[str, ...]
    listener: Mapping[str, Value] | None = None
    """None for a client."""
    accepted: Mapping[str, Value] | None = None
    client: Mapping[str, Value] | None = None
    backlog: int | None = None
    """Limit of the accept queue that was seen where net.core.somaxconn is 4096."""
    note: str | None = None


def read_runtimes() -> tuple[Runtime, ...]:
    """Return all that were looked at, servers first."""
    tables = read_table("runtimes.toml")
    return tuple(_runtime(table) for kind in ("server", "client") for table in tables[kind])


def _runtime(table: Mapping[str, Any]) -> Runtime:
    return filled(Runtime, table, versions=tuple(table["version"]), client=table.get("socket"))

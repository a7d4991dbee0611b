"""The page of each TCP state, from states.toml, and the picture of all of them."""

from typing import NamedTuple

from tcpdoctor.knowledge.resource import Mistake, bare, filled, find_name, read_table, read_text


class StatePage(NamedTuple):
    """What is always true of a state, whatever the host."""

    key: str
    """As in JSON: ``fin_wait_2``; ``closed`` and ``bound`` as well."""
    name: str
    """As this program and the kernel write it: ``FIN_WAIT_2``."""
    rfc: str
    """As RFC 9293 writes it."""
    means: str
    enter: tuple[str, ...]
    """Ways in."""
    leave: tuple[str, ...]
    """Ways out."""
    owned: str
    """What ends it while a process holds it."""
    orphan: str
    """What ends it when none does."""
    costs: str
    mistaken: tuple[Mistake, ...]
    look: tuple[str, ...]
    """Commands that show such sockets without this program."""


_ALSO: dict[str, tuple[str, ...]] = {
    "listen": ("listening", "listener"),
    "syn_recv": ("synreceived", "synrcvd", "newsynrecv"),
    "established": ("estab", "est"),
    "fin_wait_1": ("finwait1", "fin1"),
    "fin_wait_2": ("finwait2", "fin2"),
    "time_wait": ("tw",),
    "closed": ("close", "unconn"),
    "bound": ("boundinactive", "bind"),
}
"""Names that ss, netstat and the kernel's sources use besides the usual ones."""

_NUMBERS = (
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait_1",
    "fin_wait_2",
    "time_wait",
    "closed",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
)
"""By number, from 1, as /proc/net/tcp prints them in two hexadecimal digits."""


def state_keys() -> tuple[str, ...]:
    """Return the keys of all states that have a page."""
    return tuple(read_table("states.toml"))


def find_state(asked: str) -> StatePage:
    """Return the page of the state that is called so, in any usual spelling.

    ``FIN_WAIT_2``, ``fin-wait-2``, ``FINWAIT2``, ``TCP_FIN_WAIT2`` and, from /proc/net/tcp, ``05``.

    Raises:
        QuestionError: There is no such state; with the nearest.
    """
    tables = read_table("states.toml")
    spellings: dict[str, str] = {}
    for key, table in tables.items():
        for spelling in (key, table["rfc"] if key != "bound" else key, *_ALSO.get(key, ())):
            spellings[bare(spelling)] = key
    spellings |= {f"{number:02x}": key for number, key in enumerate(_NUMBERS, 1)}
    names = {spelling: tables[key]["name"] for spelling, key in spellings.items()}
    without_prefix = bare(asked).removeprefix("tcp") or asked
    name = find_name(without_prefix if bare(without_prefix) in names else asked, names, "TCP state")
    key = next(key for key, table in tables.items() if table["name"] == name)
    return filled(StatePage, tables[key], key=key)


def draw_states(key: str) -> str:
    """Return the state machine as text of at most 80 columns, the state with this key in [[brackets]]."""
    picture = read_text("states.txt")
    for name in (*_NUMBERS, "bound"):
        plain = name if name == "bound" else name.upper()
        shown = f"[[{plain}]]" if name == key else f"  {plain}  "
        picture = picture.replace(f"<<{plain}>>", shown)
    return "\n".join(line.rstrip() for line in picture.splitlines())

"""The page of each error number: one file in errors/ for each, and only the one asked for is read."""

import errno
import os
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

from tcpdoctor.errors import QuestionError
from tcpdoctor.knowledge.resource import Mistake, bare, filled, find_name, list_names, read_table

FOLDER = "errors"


class Call(NamedTuple):
    """A system call that gives the error, and each reason it has."""

    call: str
    """``bind()``."""
    why: tuple[str, ...]


class Look(NamedTuple):
    """Something of this host that has to do with the error; exactly one of the first four is set."""

    says: str
    """What it is: ``connect() gives up after``."""
    sysctl: str | None = None
    state: str | None = None
    """With `case`: the deadline of a state."""
    case: str | None = None
    fact: str | None = None
    """``usable_ports``, ``descriptor_limit`` or ``host_descriptors``."""


class ErrorPage(NamedTuple):
    """What is always true of an error, whatever the host."""

    name: str
    """``EADDRINUSE``."""
    number: int
    """Here: a few differ between architectures."""
    text: str
    """As the C library here says it."""
    means: str
    calls: tuple[Call, ...]
    here: tuple[Look, ...]
    ask: tuple[str, ...]
    """Commands that show more of it on this host."""
    mistaken: tuple[Mistake, ...]
    remedy: tuple[str, ...]
    see: tuple[str, ...] = ()


_ALSO: dict[str, tuple[str, ...]] = {
    "EADDRINUSE": ("addrinuse",),
    "EAGAIN": ("ewouldblock", "operationwouldblock", "wouldblock"),
    "EOPNOTSUPP": ("enotsup",),
    "ECONNREFUSED": ("connectionrefusederror", "refused", "connectexception"),
    "EHOSTUNREACH": ("noroutetohostexception", "noroutetohost"),
    "ECONNRESET": ("connectionreseterror", "connectionreset"),
    "ECONNABORTED": ("connectionabortederror",),
    "ETIMEDOUT": ("timeouterror", "timeout", "esockettimedout"),
    "EPIPE": ("brokenpipeerror", "sigpipe"),
    "EMFILE": ("nofile", "rlimitnofile", "ulimit", "ulimitn"),
    "EACCES": ("permissionerror",),
    "EADDRNOTAVAIL": ("cannotassignrequestedaddress", "addrnotavailable"),
}
"""Names of the same thing in Python and elsewhere."""


def error_names() -> tuple[str, ...]:
    """Return the names of all errors that have a page."""
    return tuple(name.removesuffix(".toml").upper() for name in list_names(FOLDER))


def find_error(asked: str) -> ErrorPage:
    """Return the page of the error that is called so, in any usual spelling.

    ``EADDRINUSE``, ``eaddrinuse``, ``Address already in use``, ``98``, ``errno 98``, ``[Errno 98]``.

    Raises:
        QuestionError: There is no such page; with the nearest.
    """
    winsock = _WINSOCK.get(int(asked)) if re.fullmatch(r"1\d{4}", asked.strip()) else None
    spelled, spellings = winsock or _without_number(asked), _spellings(error_names())
    if bare(spelled) not in spellings:
        _refuse_other(spelled)
        spelled = error_in_line(asked) or spelled
    name = find_name(spelled, spellings, "error of TCP")
    return _page(name, read_table(f"{FOLDER}/{name.lower()}.toml"))


def error_in_line(line: str) -> str | None:
    """Return the error that a line of a log tells of, by its text, name or number; None for none."""
    lowered = line.lower()
    texts: dict[str, str] = {}
    for name in error_names():
        atom = f"{name.lower()}|{name}" if len(name) >= _ATOM else name  # Erlang's {error,eaddrinuse}
        if re.search(rf"\b(?:WSA)?(?:{atom})\b", line):
            return name
        text = os.strerror(getattr(errno, name)).lower()
        if text in lowered:
            texts[text] = name
    if texts:  # "Too many open files in system" holds another error's text
        return texts[max(texts, key=len)]
    found = _NUMBER.search(line)
    number = int(next(filter(None, found.groups()))) if found else None
    meant = _WINSOCK.get(number, errno.errorcode.get(number)) if number is not None else None
    if meant in error_names():
        return meant
    if _PORT_TAKEN.search(lowered):
        return "EADDRINUSE"
    return next((name for words, name in _IN_LINES if words in lowered), None) or _translated(line)


def _translated(text: str) -> str | None:
    """Return the error whose text in another language stands in this one; None for none."""
    if len(text) > _LONGEST_LINE:
        return None
    folded = _folded(text)
    texts = read_table("error_texts.toml")
    return next((name for name, said in texts.items() if any(_folded(one) in folded for one in said)), None)


def _folded(text: str) -> str:
    """A text as it is compared: without article, accents, quotes and capitals, which logs often lose."""
    letters = (one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return _ARTICLE.sub("", _QUOTES.sub("", "".join(letters).casefold()))


_QUOTES = re.compile(r"[\u2019`\u00b4'\"\u00ab\u00bb\u201e\u201c\u201d]")
_ARTICLE = re.compile("^(?:die|der|das|la|le|el|il|l') ")


_LONGEST_LINE = 4096
_ATOM = 8
"""Letters of an error's name that is no other word in small letters either."""


_NUMBER = re.compile(
    r"(?:errno|os error|error|socketexception|WSA\w+)\W{1,2}(\d{1,3}|1\d{4})\b|\((\d{1,3}): "
    r"|connect to .*\((\d{1,3})\)$",
    re.IGNORECASE,
)
"""``[Errno 98]``, nginx's ``(98: ...)``, and MySQL's ``Can't connect to MySQL server on 'db' (111)``."""
_WINSOCK: Mapping[int | None, str] = {
    10013: "EACCES", 10024: "EMFILE", 10048: "EADDRINUSE", 10049: "EADDRNOTAVAIL", 10050: "ENETDOWN",
    10051: "ENETUNREACH", 10053: "ECONNABORTED", 10054: "ECONNRESET", 10055: "ENOBUFS", 10057: "ENOTCONN",
    10060: "ETIMEDOUT", 10061: "ECONNREFUSED", 10065: "EHOSTUNREACH",
}  # fmt: skip
"""What a client on Windows says of the same: .NET, Python and Java print Winsock's numbers."""
_PORT_TAKEN = re.compile(
    r"\bport \d+ (?:is )?(?:already )?(?:in use|taken|occupied)|already running on port \d"
)
_IN_LINES = (
    ("connection reset", "ECONNRESET"),
    ("socket hang up", "ECONNRESET"),
    ("address in use", "EADDRINUSE"),
    ("port in use", "EADDRINUSE"),
    ("connection in use: (", "EADDRINUSE"),
    ("port may already be in use", "EADDRINUSE"),
    ("port is already allocated", "EADDRINUSE"),
    ("was already in use", "EADDRINUSE"),
    ("already in use by", "EADDRINUSE"),
    ("already have another mysqld", "EADDRINUSE"),
    ("process fd limit", "EMFILE"),
    ("refused. check that", "ECONNREFUSED"),
    ("was refused - did you specify", "ECONNREFUSED"),
    ("i/o timeout", "ETIMEDOUT"),
    ("deadline exceeded", "ETIMEDOUT"),
    ("forcibly closed", "ECONNRESET"),
    ("error in the pull function", "ECONNRESET"),
    ("only one usage of each socket address", "EADDRINUSE"),
    ("actively refused", "ECONNREFUSED"),
    ("no free ports", "EADDRNOTAVAIL"),
    ("use of closed network connection", "EBADF"),
    ("socketexception: socket closed", "EBADF"),
    ("timed out", "ETIMEDOUT"),
    ("layer4 timeout", "ETIMEDOUT"),
    ("client.timeout", "ETIMEDOUT"),
    ("timeout, server", "ETIMEDOUT"),
    ("did not properly respond after a period of time", "ETIMEDOUT"),
    ("handshake timeout", "ETIMEDOUT"),
    ("timeout reading", "ETIMEDOUT"),
    ("net::readtimeout", "ETIMEDOUT"),
    ("net::opentimeout", "ETIMEDOUT"),
    ("kind: addrinuse", "EADDRINUSE"),
    ("kind: addrnotavailable", "EADDRNOTAVAIL"),
    ("kind: connectionreset", "ECONNRESET"),
    ("kind: connectionrefused", "ECONNREFUSED"),
    ("kind: connectionaborted", "ECONNABORTED"),
    ("kind: brokenpipe", "EPIPE"),
    ("kind: wouldblock", "EAGAIN"),
    ("kind: timedout", "ETIMEDOUT"),
    ("socket is not connected", "ENOTCONN"),
    ("ms exceeded", "ETIMEDOUT"),
    ("esockettimedout", "ETIMEDOUT"),
    ("timeouterror", "ETIMEDOUT"),
    ("sockettimeout", "ETIMEDOUT"),
    ("readtimeout", "ETIMEDOUT"),
    ("connecttimeout", "ETIMEDOUT"),
    ("timeout expired", "ETIMEDOUT"),
    ("execution expired", "ETIMEDOUT"),
    ("connectionrefusederror", "ECONNREFUSED"),
    ("connectionreseterror", "ECONNRESET"),
    ("brokenpipeerror", "EPIPE"),
    ("bindexception", "EADDRINUSE"),
    ("noroutetohostexception", "EHOSTUNREACH"),
    ("connectexception", "ECONNREFUSED"),
)
"""What programs say instead of the C library's text."""


def _without_number(asked: str) -> str:
    """Return the number of ``-98``, ``errno 98`` and ``OSError: [Errno 98] Address ...``, or all as it is."""
    number = re.search(r"(?:errno|os error|^)\W*(\d{1,4})\b", asked.strip(), re.IGNORECASE)
    return number.group(1) if number else asked


def _refuse_other(spelled: str) -> None:
    """Complain about numbers and names of errors that have no page: a near one would mislead.

    Raises:
        QuestionError: It is such a number or name.
    """
    numbers = {name: number for number, name in errno.errorcode.items()}
    number = (
        int(spelled) if spelled.isdecimal() and len(spelled) <= 9 else numbers.get(spelled.strip().upper())
    )
    if number is None:
        return
    name = errno.errorcode.get(number)
    if name is None:
        raise QuestionError(f"no error has the number {number}")
    raise QuestionError(f"{number} is {name} ({os.strerror(number)}), which calls on TCP sockets do not give")


def _spellings(names: tuple[str, ...]) -> dict[str, str]:
    spellings: dict[str, str] = {}
    for name in names:
        number: int = getattr(errno, name)
        for spelling in (name, str(number), os.strerror(number), *_ALSO.get(name, ())):
            spellings.setdefault(bare(spelling), name)
    for name in names:
        spellings.setdefault(bare(name.removeprefix("E")), name)
    return spellings


def _page(name: str, table: Mapping[str, Any]) -> ErrorPage:
    number: int = getattr(errno, name)
    return filled(
        ErrorPage,
        table,
        name=name,
        number=number,
        text=os.strerror(number),
        calls=tuple(Call(item["call"], tuple(item["why"])) for item in table["calls"]),
        here=tuple(Look(**item) for item in table.get("here", ())),
    )

"""The options `--peer` and `--older` of `tcpdoctor sockets`: which rows are kept."""

import ipaddress
import math
from typing import NamedTuple

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.snapshot import Connection, Listener
from tcpdoctor.report.sockets import Sockets


class Peer(NamedTuple):
    """The other end that was asked for."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int | None
    """None: any."""

    def is_of(self, row: Listener | Connection) -> bool:
        """Whether a socket is connected to it; an IPv4-mapped address is the IPv4 address."""
        if (
            not isinstance(row, Connection)
            or row.remote.port == 0
            or self.port not in (None, row.remote.port)
        ):
            return False
        return _plain(row.remote.address) == self.address


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
    fits = fits and (not port or (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535))
    try:
        address = _plain(host)
    except ValueError:
        fits = False
    if not fits:
        raise QuestionError(f"--peer {text}: no peer; give it as ADDR or ADDR:PORT, such as [::1]:80")
    return Peer(address, int(port) if port else None)


def refuse_bad_age(seconds: float) -> None:
    """Refuse what is no time.

    Raises:
        QuestionError: It is negative, infinite or no number.
    """
    if not (0 <= seconds < math.inf):
        raise QuestionError(f"--older {seconds:g}: no time; give seconds, 0 or more")


def only_older(answer: Sockets, seconds: float) -> Sockets:
    """Keep the sockets that have been in their state for at least so many seconds, as far as it can be told.

    Those of which it cannot be told are left out; `missing` says how many they are.
    """
    kept = tuple(entry for entry in answer.entries if entry.age is not None and entry.age.low >= seconds)
    untold = sum(entry.age is None or entry.age.low < seconds <= entry.age.high for entry in answer.entries)
    survey = answer.survey
    missing = dict(survey.missing)
    if survey.total > len(answer.entries):
        missing["sockets"] = f"{survey.total - len(answer.entries):,} sockets were not looked at"
    if untold:
        missing["older"] = f"of {untold:,} of the sockets the kernel does not tell whether they are that old"
    return answer._replace(
        entries=kept,
        survey=survey._replace(sockets=tuple(entry.seen for entry in kept), total=len(kept), missing=missing),
    )


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found

"""What the options of a socket are before any program sets them: asked of a socket of our own."""

import socket

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sockopts import Option, OptionValue, read_option


def read_fresh_option(option: Option, *, ipv6: bool = False) -> Reading[OptionValue]:
    """Return an option's value on a TCP socket that was just made; nothing is bound or sent.

    Missing where this kernel does not know the option, or makes no such socket.
    """
    try:
        sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        return Missing(f"no {'IPv6' if ipv6 else 'IPv4'} socket can be made here: {error.strerror}")
    with sock:
        return read_option(sock, option)

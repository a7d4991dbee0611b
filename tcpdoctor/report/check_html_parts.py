"""Pieces that every part of the HTML page is made of."""

import re
from html import escape

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_html_style import CSS

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The browser itself is told to load and run nothing."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

GROUPS = {
    TcpState.ESTABLISHED: "live",
    TcpState.SYN_SENT: "open",
    TcpState.SYN_RECV: "open2",
    TcpState.FIN_WAIT_1: "active",
    TcpState.FIN_WAIT_2: "active2",
    TcpState.TIME_WAIT: "past",
    TcpState.CLOSE_WAIT: "passive",
    TcpState.LAST_ACK: "passive2",
    TcpState.LISTEN: "listen",
    TcpState.CLOSING: "active3",
    TcpState.BOUND: "bound",
}
"""The colour of each state, by the class that the style sheet gives it."""


def text(value: object) -> str:
    """Return anything as text for between tags or quotes; control characters are shown as escapes."""
    return escape(_CONTROL.sub(lambda match: ascii(match[0])[1:-1], str(value)), quote=True)


def html_page(title: str, body: str) -> str:
    """Return a page of one file, in ASCII, which no locale garbles; `body` is HTML, `title` is text."""
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{text(title)}</title>\n<style>{CSS}</style>\n</head>\n'
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def name_of(state: TcpState) -> str:
    """Return a state as people write it: ``CLOSE_WAIT``, ``bound``."""
    return "bound" if state is TcpState.BOUND else state.name


def pill(severity: Severity) -> str:
    """Return a severity as a coloured word."""
    return f'<span class="pill is-{severity.key}">{severity.key.upper()}</span>'


def section(title: str, body: str, note: str = "", kind: str = "") -> str:
    """Return a part of the page with its heading."""
    remark = f'<p class="note">{text(note)}</p>' if note else ""
    return f'<section class="card {kind}"><h2>{text(title)}</h2>{remark}{body}</section>\n'


def bar(parts: list[tuple[str, float]], label: str, kind: str = "") -> str:
    """Return a bar of parts, each a colour's class and its share of 1; `label` says it in words."""
    pieces = "".join(
        f'<i class="fill {color}" style="width:{share * 100:.2f}%"></i>'
        for color, share in parts
        if share > 0
    )
    return f'<div class="bar {kind}" role="img" aria-label="{text(label)}">{pieces}</div>'

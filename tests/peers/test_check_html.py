"""The HTML page of `check`, looked at with a real browser."""

import subprocess
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tcpdoctor.report.check_html import check_html
from tests.peers.test_check_formats import SICK, checked
from tests.report.examples import FINDING, check

PAGE = "http://page.test/"
LIGHT, DARK = 1, 0
"""What Blink calls the preferred colour scheme."""


class Answering(BaseHTTPRequestHandler):
    """A proxy that has one page, and notes whatever else it is asked for."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200 if self.path == PAGE else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.server.page if self.path == PAGE else b"")

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


def browse(chromium: str, folder: Path, page: str, *options: str) -> tuple[str, str, list[str]]:
    """Load a page through a proxy; return the DOM, what the browser logs, and all that was asked for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.page, server.asked = page.encode(), []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
            *("--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}"),
            *(f"--proxy-server=127.0.0.1:{server.server_port}", *options, PAGE),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr, server.asked


def of_the_page(asked: list[str]) -> list[str]:
    """What was asked for, without what the browser asks its maker by itself."""
    return [url for url in asked if "google" not in url and "gvt" not in url]


def first_pixel(png: bytes) -> tuple[int, int, int]:
    """The colour of the upper left corner: no filter of PNG changes the first pixel."""
    data, place = b"", 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += length + 12
    red, green, blue = zlib.decompress(data)[1:4]
    return red, green, blue


def test_the_page_of_a_sick_host_needs_no_network_and_has_no_fault(in_namespace, need, tmp_path):
    chromium = need("chromium", "chromium")
    page = in_namespace(checked, tmp_path, "html").stdout
    dom, log, asked = browse(chromium, tmp_path, page, "--dump-dom")
    assert of_the_page(asked) == [PAGE]
    assert "CONSOLE" not in log
    assert "<script" not in dom
    assert f"holds {SICK} sockets in CLOSE_WAIT" in dom
    assert "TCP state machine" in dom
    marked = dom.partition('class="c-passive full sick is-warning"')[2]
    assert f">{SICK}</text>" in marked.partition("</g>")[0]


def test_what_strangers_choose_stays_text_in_a_browser(need, tmp_path):
    chromium = need("chromium", "chromium")
    hostile = FINDING._replace(
        label="</title><script>alert(1)</script><img src=http://evil.test/x onerror=a>"
    )
    dom, log, asked = browse(chromium, tmp_path, check_html(check(hostile)), "--dump-dom")
    assert of_the_page(asked) == [PAGE]
    assert "CONSOLE" not in log
    assert "<script" not in dom
    assert "<img" not in dom
    assert "&lt;script&gt;alert(1)" in dom


@pytest.mark.parametrize(("scheme", "bright"), [(LIGHT, True), (DARK, False)])
@pytest.mark.parametrize("size", ["1180,900", "500,900"])
def test_it_is_drawn_light_or_dark_as_the_reader_prefers(need, tmp_path, scheme, bright, size):
    chromium = need("chromium", "chromium")
    picture = tmp_path / "picture.png"
    browse(
        *(chromium, tmp_path, check_html(check(FINDING)), f"--blink-settings=preferredColorScheme={scheme}"),
        *(f"--window-size={size}", f"--screenshot={picture}"),
    )
    assert (sum(first_pixel(picture.read_bytes())) > 600) is bright


def test_it_prints_on_paper(need, tmp_path):
    chromium = need("chromium", "chromium")
    paper = tmp_path / "page.pdf"
    browse(chromium, tmp_path, check_html(check(FINDING)), f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF")

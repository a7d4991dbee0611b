"""No page is wider than the screen it is read on: 1280 and 390 px, light and dark, in a real browser."""

import html
import re

import pytest

from tcpdoctor.report.check_html import check_html
from tests.peers.test_check_html import DARK, LIGHT, browse
from tests.report.examples import CRITICAL, FINDING, HIDDEN, INFO, check

LONG = FINDING._replace(
    label="a-process-with-a-name-that-does-not-end (2147483647)",
    summary="x" * 300,
    fixes=(FINDING.fixes[0]._replace(commands=("ss -tan " + "state close-wait " * 30,)),),
)
MEASURE = """
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument.documentElement;
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  document.title = `measured ${page.scrollWidth} of ${page.clientWidth}`;
};
</script>
"""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_the_page_of_check_does_not_overflow(need, tmp_path, width, scheme):
    chromium = need("chromium", "chromium")
    page = check_html(check(CRITICAL, LONG, INFO, unchecked=[HIDDEN]))
    inner = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    frame = f'<iframe width="{width}" height="900" style="border:0" srcdoc="{html.escape(inner)}"></iframe>'
    outer = f"<!DOCTYPE html><html><body style='margin:0'>{frame}{MEASURE}</body></html>"
    options = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1400,1000")
    dom, _, _ = browse(chromium, tmp_path, outer, "--virtual-time-budget=4000", *options, "--dump-dom")
    measured = re.search(r"<title>measured (\d+) of (\d+)</title>", dom)
    assert measured, dom[:500]
    assert int(measured[1]) <= int(measured[2]) <= width

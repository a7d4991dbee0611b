"""Pages at 1280 and 390 px, light and dark, in a real browser: none overflows, no drawn letter is tiny."""

import html
import re

import pytest

from tcpdoctor.answers.check import Checks
from tcpdoctor.answers.everywhere import Place, Unseen
from tcpdoctor.answers.fleet import Fleet
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.check_formats import render_everywhere
from tcpdoctor.report.check_html import check_html
from tcpdoctor.report.fleet import fleet_html
from tcpdoctor.report.style import PLAIN
from tests.answers.fleet_reports import NOW, document, finding, report
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
  const size = words => parseFloat(getComputedStyle(words).fontSize) * words.getScreenCTM().a;
  const drawn = [...page.querySelectorAll("svg text")].filter(words => words.getClientRects().length);
  const least = Math.min(99, ...drawn.map(size)).toFixed();
  const wide = `${page.scrollWidth} of ${page.clientWidth}`;
  document.title = `measured ${wide}, ${drawn.length} words of ${least} px`;
};
</script>
"""


def page_of_check():
    return check_html(check(CRITICAL, LONG, INFO, unchecked=[HIDDEN]))


def page_of_a_fleet():
    """Names, rules, reasons and paths that are longer than the screen is wide."""
    name = "a-host-with-a-name-that-does-not-end." * 3 + "example.org"
    rules = [finding(f"a-rule-with-a-long-name-{number}", "critical") for number in range(14)]
    fleet = Fleet()
    for one in (
        report(name, *rules),
        report("web1", rules[0], finding("b" * 80, title="x" * 160, summary="y" * 300)),
        report("web2", rules[0], taken_at="2026-11-01T12:00:00Z"),
        report("well"),
    ):
        fleet.add(document(one))
    fleet.add(document(Missing("it is empty"), source="/a/folder" * 20 + "/x.json"))
    expected = [name, "web1", "web2", "well", "lost"]
    return fleet_html(fleet.conclude(NOW, max_age=86_400, expected=expected), 20)


def page_of_namespaces():
    """Labels, names and reasons that are longer than the screen is wide, and a namespace that is well."""
    name = "a-namespace-with-a-name-that-does-not-end" * 3
    places = [
        Place(4026532177 + n, f"{name}{n}", f"network namespace {name} of a pod", n == 0) for n in range(4)
    ]
    found = [(CRITICAL, LONG, INFO), (LONG,), (FINDING,), ()]
    checks = [
        check(*findings, unchecked=[HIDDEN])._replace(place=place, netns=place.name or "")
        for place, findings in zip(places, found, strict=True)
    ]
    return render_everywhere(Checks(tuple(checks), (Unseen(places[3], "y" * 300),), 0), "html", PLAIN)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize(
    ("made", "drawn"), [(page_of_check, True), (page_of_a_fleet, False), (page_of_namespaces, False)]
)
def test_no_page_overflows_and_what_is_drawn_can_be_read(need, tmp_path, width, scheme, made, drawn):
    chromium = need("chromium", "chromium")
    page = made()
    inner = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    frame = f'<iframe width="{width}" height="900" style="border:0" srcdoc="{html.escape(inner)}"></iframe>'
    outer = f"<!DOCTYPE html><html><body style='margin:0'>{frame}{MEASURE}</body></html>"
    options = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1400,1000")
    dom, _, _ = browse(chromium, tmp_path, outer, "--virtual-time-budget=4000", *options, "--dump-dom")
    measured = re.search(r"<title>measured (\d+) of (\d+), (\d+) words of (\d+) px</title>", dom)
    assert measured, dom[:500]
    assert int(measured[1]) <= int(measured[2]) <= width
    assert (int(measured[3]) > 0) is drawn
    assert int(measured[4]) >= 10

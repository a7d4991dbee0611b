"""The HTML page of a fleet, looked at with a real browser."""

import re

import pytest

from tcpdoctor.answers.fleet import Fleet
from tcpdoctor.report.fleet import fleet_html
from tests.answers.fleet_reports import NOW, document, finding, report
from tests.peers.test_check_html import DARK, LIGHT, PAGE, browse, first_pixel, of_the_page

HOSTILE = "</title><script>alert(1)</script><img src=http://evil.test/x onerror=a>"


def page(number, *more):
    """The page of so many hosts: every tenth is sick, every hundredth could not be reached."""
    fleet = Fleet()
    for one in more:
        fleet.add(document(one))
    for place in range(number):
        name = f"host{place:05}.example.org"
        sick = (finding("close-wait-leak", "critical"), finding("syncookies-off")) if place % 10 == 0 else ()
        fleet.add(document(report(name, *sick)))
        if place % 100 == 1:
            failure = {"schema": "tcpdoctor.failure/1", "taken_at": "2026-11-18T12:25:00Z"}
            fleet.add(document(failure | {"host": {"name": name}, "reason": f"{name} cannot be reached"}))
    return fleet_html(fleet.conclude(NOW, max_age=86_400, version="0.1.0"), 20)


@pytest.mark.parametrize("number", [3, 300, 10_000])
def test_a_page_of_any_length_needs_no_network_and_names_every_host(need, tmp_path, number):
    dom, log, asked = browse(need("chromium", "chromium"), tmp_path, page(number), "--dump-dom")
    assert of_the_page(asked) == [PAGE]
    assert "CONSOLE" not in log
    assert f"<h1>{number} hosts</h1>" in dom
    assert len(set(re.findall(r"host\d{5}", dom))) == number
    assert dom.count("<article") == 2
    assert dom.rstrip().endswith("</html>")


def test_what_hosts_send_stays_text_in_a_browser(need, tmp_path):
    one = finding(HOSTILE, title=HOSTILE, summary=HOSTILE, explanation=HOSTILE, label=HOSTILE)
    dom, log, asked = browse(
        need("chromium", "chromium"), tmp_path, page(3, report(HOSTILE, one)), "--dump-dom"
    )
    assert of_the_page(asked) == [PAGE]
    assert "CONSOLE" not in log
    assert "<script" not in dom
    assert "<img" not in dom
    assert "&lt;script&gt;alert(1)" in dom


@pytest.mark.parametrize(("scheme", "bright"), [(LIGHT, True), (DARK, False)])
def test_it_is_drawn_light_or_dark_as_the_reader_prefers(need, tmp_path, scheme, bright):
    picture = tmp_path / "picture.png"
    browse(
        *(
            need("chromium", "chromium"),
            tmp_path,
            page(30),
            f"--blink-settings=preferredColorScheme={scheme}",
        ),
        *("--window-size=500,900", f"--screenshot={picture}"),
    )
    assert (sum(first_pixel(picture.read_bytes())) > 600) is bright


SHOWN = """
<script>
window.onload = () => {
  const page = document;
  const shown = query => [...page.querySelectorAll(query)].filter(one => one.offsetParent).length;
  const seen = () => ["tr.host", "article", ".rest", "a.all"].map(shown).join(" ");
  const told = [seen()];
  page.querySelector("fieldset [for=only-1]").click();
  told.push(seen());
  page.querySelector("article [for=only-0]").click();
  told.push(seen());
  page.querySelector("fieldset [for=only-all]").click();
  page.querySelectorAll("tr.host b a")[2].click();
  setTimeout(() => {
    told.push(seen());
    page.querySelector("a.all").click();
    setTimeout(() => {
      told.push(seen());
      document.title = "shown " + told.join(", ");
    }, 100);
  }, 100);
};
</script>
"""


def test_the_page_narrows_itself_to_a_rule_and_to_a_host_without_a_script(need, tmp_path):
    sick = report("web1", finding("close-wait-leak", "critical"))
    page_of_five = page(31, sick)  # four hosts have both findings, one has the first only
    scripted = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_of_five)
    outer = scripted.replace("</body>", f"{SHOWN}</body>")
    options = ("--virtual-time-budget=4000", "--window-size=1300,1000", "--dump-dom")
    dom, _, _ = browse(need("chromium", "chromium"), tmp_path, outer, *options)
    told = re.search(r"<title>shown ([^<]+)</title>", dom)
    assert told, dom[:500]
    everything = "5 2 2 0"
    assert told[1].split(", ") == [
        everything,
        "4 1 0 0",
        everything.replace("2 2", "1 0"),
        "1 2 0 1",
        everything,
    ]

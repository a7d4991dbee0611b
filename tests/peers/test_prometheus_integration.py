"""The alerts and the dashboard: promtool understands them, and every metric they name is one that exists."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import tcpdoctor

FOLDER = Path(__file__).resolve().parents[2] / "integrations" / "prometheus"
ALERTS = FOLDER / "tcpdoctor.rules.yml"
FOREIGN = {"node_textfile_scrape_error", "node_exporter"}
"""Names of node_exporter itself."""


@pytest.fixture(scope="module")
def written() -> dict[str, set[str]]:
    """The names of the labels of every metric that `check` writes."""
    text = tcpdoctor("check", "--window", "0", "--fail-on", "never", "--format", "prometheus").stdout
    labels: dict[str, set[str]] = {
        "tcpdoctor_oldest_seconds": {"state", "namespace"},
        "tcpdoctor_destination_ports_left": {"destination", "namespace"},
    }  # of sockets that are perhaps not here
    for name, pairs in re.findall(r"^(tcpdoctor_\w+)\{(.*)\} ", text, re.MULTILINE):
        labels.setdefault(name, set()).update(re.findall(r'(\w+)="', pairs))
    assert len(labels) == 13
    return labels


def promtool(need, *arguments: object) -> str:
    done = subprocess.run(
        [need("promtool", "prometheus"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_alerts_fire_when_they_should_and_only_then(need):
    promtool(need, "check", "rules", ALERTS)
    assert "SUCCESS" in promtool(need, "test", "rules", FOLDER / "tcpdoctor.rules.test.yml")


def test_every_alert_has_a_test():
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    tested = set(re.findall(r"alertname: (\w+)", (FOLDER / "tcpdoctor.rules.test.yml").read_text()))
    assert alerts == tested


def expressions() -> list[str]:
    panels = json.loads((FOLDER / "grafana-dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_the_dashboard_asks_what_prometheus_understands(need, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$\w+", ".*", text)}
        for number, text in enumerate(expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
    assert len(rules) >= 9
    assert f"{len(rules)} rules found" in promtool(need, "check", "rules", file)


def test_what_alerts_and_dashboard_ask_for_is_written(written):
    texts = [*expressions(), ALERTS.read_text()]
    asked = {name for text in texts for name in re.findall(r"\b(?:tcpdoctor|node)_[a-z_]+", text)}
    assert asked - FOREIGN <= set(written)
    for text in texts:
        for name, pairs in re.findall(r"(tcpdoctor_\w+)\{([^}]*)\}", text):
            assert set(re.findall(r"(\w+)=", pairs)) <= written[name] | {"instance"}


def test_the_readme_lists_every_metric_with_its_labels(written):
    rows = re.findall(
        r"^\| `(tcpdoctor_\w+)` \| ([\w, ]+) \|", (FOLDER / "README.md").read_text(), re.MULTILINE
    )
    assert {name: set(labels.split(", ")) for name, labels in rows} == written


def test_every_panel_says_what_it_shows():
    board = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    assert all(panel["title"] and len(panel["description"]) > 20 for panel in board["panels"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])

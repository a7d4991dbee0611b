"""A Prometheus server that scrapes node_exporter has our alerts and raises the one of a sick host."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.peers.test_check_formats import EXPORTER, checked, running, wait_for
from tests.peers.test_prometheus_integration import ALERTS

SERVER = 19090
CONFIG = """\
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{folder}/alerts.yml]
scrape_configs: [{{job_name: node, static_configs: [{{targets: ["127.0.0.1:{exporter}"]}}]}}]
"""


def asked(path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{SERVER}/api/v1/{path}", timeout=10) as answer:
        return json.load(answer)["data"]


def is_ready() -> bool:
    """It listens before it is ready, and answers 503 until then."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{SERVER}/-/ready", timeout=10):
            return True
    except urllib.error.HTTPError:
        return False


def alerts() -> dict[tuple[str, str | None], str]:
    """Pending or firing, by alert and rule."""
    active = asked("alerts")["alerts"]
    return {(alert["labels"]["alertname"], alert["labels"].get("rule")): alert["state"] for alert in active}


def seen_of(exporter: str, prometheus: str, folder: Path) -> tuple[Any, Any, Any]:
    """The alert of a leak while it is pending and firing, and what is wrong with the rules."""
    textfiles = folder / "textfiles"
    textfiles.mkdir()
    # the server need not wait ten minutes here: what it waits for is tested by promtool
    (folder / "alerts.yml").write_text(ALERTS.read_text().replace("for: 10m", "for: 3s"))
    (folder / "prometheus.yml").write_text(CONFIG.format(folder=folder, exporter=EXPORTER))
    checked(folder, "prometheus", "--output", str(textfiles / "tcpdoctor.prom"))
    exports = [
        exporter,
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={textfiles}",
        f"--web.listen-address=127.0.0.1:{EXPORTER}",
    ]
    serves = [
        prometheus,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{SERVER}",
    ]
    leak = ("TcpdoctorWarning", "close-wait-leak")
    with running(exports, EXPORTER), running(serves, SERVER):
        wait_for(is_ready)
        wait_for(lambda: leak in alerts())
        first = alerts()
        wait_for(lambda: alerts().get(leak) == "firing")
        rules = [rule for group in asked("rules")["groups"] for rule in group["rules"]]
        return first[leak], alerts(), {rule["name"]: rule["health"] for rule in rules}


def test_the_alert_of_a_leak_is_pending_and_then_fires(in_namespace, need, tmp_path):
    exporter = need("prometheus-node-exporter", "prometheus-node-exporter")
    prometheus = need("prometheus", "prometheus")
    first, later, health = in_namespace(seen_of, exporter, prometheus, tmp_path)
    assert first == "pending"
    assert {name for name, state in later.items() if state == "firing"} == {
        ("TcpdoctorWarning", "close-wait-leak")
    }
    assert ("TcpdoctorCritical", "close-wait-leak") not in later
    assert set(health.values()) == {"ok"}
    assert len(health) == 7

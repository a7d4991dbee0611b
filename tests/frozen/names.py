"""Names that scripts, alerts and configurations hold on to: options, rules, metrics and exit codes."""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tcpdoctor.answers.check import with_measures
from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.cli import output
from tcpdoctor.cli.app import COMMANDS, build_command
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.report import check_prometheus
from tests.report.examples import FINDING, check

FILE = Path(__file__).parent / "names.json"

Names = dict[str, list[str]]
"""By what they are names of, sorted."""


def names_here() -> Names:
    """Every name that this program has today."""
    return {
        "exit codes": sorted(f"{name} {getattr(output, name)}" for name in _CODES),
        "metrics": sorted({*_metric_names(), *_metric_labels()}),
        "options": sorted(_options()),
        "rules": sorted(rule.id for rule in load_library(shipped_texts()).rules),
    }


_CODES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def _options() -> set[str]:
    """``check --window``, ``rules list --format``; an argument stands as the command alone."""
    found = set()
    for name, entry in COMMANDS.items():
        command: Any = build_command(name, entry)
        for below, leaf in getattr(command, "commands", {"": command}).items():
            path = f"{name} {below}".strip()
            found.add(path)
            found |= {
                f"{path} {option}"
                for param in leaf.params
                for option in (*param.opts, *param.secondary_opts)
                if option.startswith("-")
            }
    return found


def _metric_names() -> set[str]:
    """All that the source names, also those that few hosts have a sample of."""
    tree = ast.parse(Path(check_prometheus.__file__).read_text(encoding="utf-8"))
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {text for text in texts if isinstance(text, str) and re.fullmatch(r"tcpdoctor(_[a-z]+)+", text)}


def _metric_labels() -> set[str]:
    """``tcpdoctor_sockets{state}``, of a host with a finding."""
    rules = load_library(shipped_texts()).rules
    answer = with_measures(check(FINDING, duration=1.25)._replace(rules=rules), "prometheus")
    text = check_prometheus.check_prometheus(answer)
    return {
        f"{sample.name}{{{label}}}"
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for label in sample.labels
    }


def frozen_names() -> Names:
    """The names as they were promised."""
    names: Names = json.loads(FILE.read_text(encoding="utf-8"))
    return names


def lost_names() -> dict[str, set[str]]:
    """What was promised and is there no more, by what it is a name of."""
    here = names_here()
    lost = {kind: set(names) - set(here[kind]) for kind, names in frozen_names().items()}
    return {kind: names for kind, names in lost.items() if names}


def main() -> None:
    """Freeze the names that the program has today, unless that would take one back."""
    lost = lost_names() if FILE.exists() else {}
    if lost:
        sys.exit(f"names would go: {lost}")
    FILE.write_text(json.dumps(names_here(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

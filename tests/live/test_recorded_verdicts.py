"""What a recording is judged to say, beside what a live look finds in the same moment.

A finding that only the recording has is a fault. A finding that only the live look has must be a rule that
the recording leaves open, with a reason: never one that it calls answered.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.library import Config, Library, Override, load_library
from tcpdoctor.kernel.live import look_lightly, take_samples, take_snapshot
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.scenario import Broken, Cured, Ended, Looked, Refused, Stage
from tcpdoctor.recordings.opened import open_looks

PROC = ("tcp", "tcp6", "netstat", "snmp", "snmp6", "sockstat", "sockstat6", "softnet_stat")
COMMANDS = ("ss -tanoempi", "ss -tanp", "ss -tan", "ss -s", "netstat -W -neopa", "netstat -ant", "netstat -s")
MORE = ("nstat -az", "sysctl -a", "conntrack -S", "lsof -nP -iTCP")
ALONE = (*COMMANDS, *MORE, "proc", "counts")
TOGETHER = (
    ("netstat -W -neopa", "proc", "sysctl -a", "conntrack -S"),
    ("ss -tanoempi", "nstat -az", "sysctl -a", "proc"),
    ("ss -tanp", "nstat -az", "sysctl -a"),
    ("netstat -ant", "netstat -s", "sysctl -a"),
)
SCENARIOS = (
    "close-wait-leak",
    "close-wait-not-accepted",
    "fin-wait-2-held-open",
    "ephemeral-ports-nearly-exhausted",
    "connected-to-itself",
    "accept-queue-full",
    "half-open-connections-pile-up",
    "large-packets-lost",
    "process-does-not-read",
)


def printed(command: str, folder: str) -> str:
    """What a command prints here, in English; nothing where it is not installed."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "NSTAT_HISTORY": f"{folder}/nstat"}
    try:
        done = subprocess.run(command.split(), capture_output=True, env=environment, timeout=60, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.decode("utf-8", "surrogateescape")


def collected(folder: str) -> dict[str, str]:
    """One output of each command, and of the files of /proc/net."""
    texts = {command: printed(command, folder) for command in (*COMMANDS, *MORE)}
    files = [Path("/proc/thread-self/net", name) for name in PROC]
    texts["proc"] = "".join(file.read_text() for file in files if file.exists())
    states = [line.split()[5] for line in texts["netstat -ant"].splitlines()[2:] if len(line.split()) > 5]
    texts["counts"] = "".join(f"{number:7} {state}\n" for state, number in Counter(states).items())
    return texts


def severities(diagnosis: Diagnosis) -> dict[str, int]:
    worst: dict[str, int] = {}
    for finding in diagnosis.findings:
        worst[finding.rule] = max(worst.get(finding.rule, 0), int(finding.severity))
    return worst


class Fault(NamedTuple):
    """A rule that a recording is wrong about."""

    recording: str
    looks: int
    rule: str
    what: str


class Comparison:
    """Looks at a scene: the live look is taken before and after the recordings, so that it spans them."""

    def __init__(self) -> None:
        self._limits: dict[str, Mapping[str, float]] = {}

    def __call__(self, scene: object) -> list[Fault]:
        """Return what the recordings of this scene are wrong about."""
        if isinstance(scene, Broken):
            self._limits |= scene.limits
        if not isinstance(scene, Broken | Cured):
            return []
        overrides = {rule: Override(True, None, values) for rule, values in self._limits.items()}
        library = load_library(shipped_texts(), Config("the lab", overrides))
        with tempfile.TemporaryDirectory() as folder:
            return list(self._faults(library, folder))

    def _faults(self, library: Library, folder: str) -> Iterable[Fault]:
        first = diagnose(library.rules, take_samples(0), library.most)
        before = look_lightly()
        looks = [collected(folder), collected(folder)]
        both = Samples(before, take_snapshot(before=before))
        apart = both.after.clock - before.clock  # not shorter than between any two of the recordings
        live = [severities(first), severities(diagnose(library.rules, both, library.most))]
        single = severities(diagnose(library.rules, Samples(None, both.after), library.most))
        known = set[str]().union(*live, single)
        explained = {name for rule in library.rules if rule.id in known for name in rule.explains}
        for parts in (*((name,) for name in ALONE), *TOGETHER):
            texts = ["\n".join(look[part] for part in parts) for look in looks]
            if not all(text.strip() for text in texts):
                continue  # not installed here
            files = [Path(folder, f"{number}.txt") for number in (1, 2)]
            for file, text in zip(files, texts, strict=True):
                file.write_text(text, errors="surrogateescape")
            for number in (1, 2):
                paths = [str(file) for file in files[:number]]
                samples = open_looks(paths, apart=apart).samples
                found = diagnose(library.rules, samples, library.most)
                expected = [live[0], single] if number == 1 else [*live, single]
                yield from compared(" + ".join(parts), number, found, expected, [*live, single], explained)


def compared(name, looks, found, expected, possible, explained):
    """Faults of one recording: too much, or silently too little."""
    seen = severities(found)
    unanswered = {unchecked.rule for unchecked in found.unchecked}
    for rule, severity in seen.items():
        if severity > max(it.get(rule, 0) for it in possible) and rule not in explained:
            yield Fault(name, looks, rule, "only in the recording")
    for rule in set.intersection(*(set(it) for it in expected)) - set(seen) - unanswered:
        yield Fault(name, looks, rule, "called clear")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="what root sees is compared")
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_recording_says_nothing_that_a_live_look_does_not(in_own_machine, name):
    faults, message = in_own_machine(played, name)
    assert isinstance(message, Ended)
    assert message.problem is None, message.trace
    assert faults == []


def played(name):
    """Play a story, compare at each of its scenes; return the faults, and how it ended."""
    faults = []
    with Stage(LAB[name], Comparison()) as stage:
        while not isinstance(message := stage.receive(), Ended | Refused):
            if isinstance(message, Looked):
                faults += message.result
                stage.go()
    return faults, message


def main(names):
    """Play stories, all of them where none is named, and print what recordings are wrong about."""
    wrong, names = 0, names or sorted(LAB)
    for name in names:
        faults, message = played(name)
        said = [name, *map(str, faults or ["agrees"]), str(getattr(message, "problem", message) or "")]
        wrong += bool(faults)
        sys.stdout.write(" ".join(said).rstrip() + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(names)} stories, {wrong} with faults\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

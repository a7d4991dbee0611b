"""A recording that lacks some of its parts, or is cut, says nothing that the whole one does not."""

import io
import random

import pytest

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.errors import SnapshotError
from tcpdoctor.facts.host import HostFacts
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Range
from tcpdoctor.facts.vocabulary import fact_names
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.recordings.archive import gather
from tcpdoctor.recordings.opened import open_recording
from tcpdoctor.recordings.recording import pack_snapshot, unpack_snapshot
from tcpdoctor.recordings.sosreport import AT_TOP, is_wanted, recording_of
from tests.recordings.reports import PS, SAMPLES, debian_4_0, sample, tar_of_report

END_OF_NETSTAT = "Active UNIX domain sockets (servers and established)\n"
TRACKED = "cpu=0 found=3 invalid=5 insert=0 insert_failed=7 drop=11 early_drop=0 error=0 search_restart=0\n"
FILES, LINKS = debian_4_0(
    **{
        "sos_commands/networking/netstat_-W_-neopa": sample("netstat-W-neopa") + END_OF_NETSTAT,
        "sos_commands/networking/ss_-peaonmi": sample("ss-peaonmi"),
        "sos_commands/networking/nstat_-zas": sample("nstat-az"),
        "sos_commands/networking/netstat_-s": sample("netstat-s"),
        "sos_commands/networking/conntrack_-S": TRACKED,
        "sos_commands/process/ps_axo_flags_state_uid_pid_ppid_pgid_sid": PS,
    }
)
COMPARED = [
    name
    for name in fact_names(Scope.HOST)
    if not name.startswith(("default.", "kernel.")) and "peers" not in name and "oldest" not in name
]
"""Those of the sockets, counters and settings that are listed; defaults are worked out of what is there."""


def told(dropped=()):
    """The facts of the host in a report without some of its files, what is found there, and what is open."""
    files = {name: text for name, text in FILES.items() if name not in dropped}
    data = io.BytesIO(tar_of_report(files, LINKS))
    samples = recording_of(gather(data, "x", is_wanted, AT_TOP), "x", None, trust_times=True).samples
    found = diagnose(load_rules().rules, samples)
    host = HostFacts(samples)
    rules = {one.rule for one in found.findings}, {one.rule for one in found.unchecked}
    return {name: host[name] for name in COMPARED}, *rules


def agrees(part, whole):
    """Whether a value may be what the whole recording says."""
    if isinstance(part, Missing) or isinstance(whole, Missing) or part == whole:
        return True
    low, high = (whole.low, whole.high) if isinstance(whole, Range) else (whole, whole)
    return isinstance(part, Range) and part.low <= low <= high <= part.high


def combinations():
    """Each file alone, and some of many at once."""
    dice = random.Random(14)
    yield from ((name,) for name in FILES if not name.startswith(("var/", "etc/")))
    for _ in range(11):
        yield tuple(dice.sample(sorted(FILES), dice.randrange(2, len(FILES) - 3)))


def test_a_report_without_some_of_its_files_contradicts_nothing():
    whole, found, _ = told()
    assert found
    for dropped in combinations():
        try:
            facts, still_found, open_rules = told(dropped)
        except SnapshotError:
            continue  # nothing is left to be judged
        wrong = {
            name: (facts[name], whole[name]) for name in COMPARED if not agrees(facts[name], whole[name])
        }
        assert wrong == {}, dropped
        assert still_found <= found, dropped
        assert found <= still_found | open_rules, dropped


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_snapshot_that_is_cut_anywhere_is_one_line(gzipped):
    whole = pack_snapshot(open_recording(str(SAMPLES / "ss-tanoempi.txt")), gzipped=gzipped)
    dice = random.Random(14)
    for end in (
        0,
        1,
        2,
        9,
        10,
        11,
        17,
        len(whole) - 9,
        len(whole) - 8,
        len(whole) - 2,
        *(dice.randrange(len(whole)) for _ in range(97)),
    ):
        with pytest.raises(SnapshotError, match=r"^x: [^\n]+$"):
            unpack_snapshot(whole[:end], "x")

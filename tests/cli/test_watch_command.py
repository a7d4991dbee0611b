"""What `tcpdoctor watch` refuses, and what it does of recordings without a terminal."""

import os
import subprocess

import pytest

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.recorded import pack_samples
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.states import TcpState
from tests.cli.command import tcpdoctor
from tests.report.examples import CENSUS, SNAPSHOT


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--interval", "0"), "give 0.2 to 3600 seconds, not 0"),
        (("--interval", "2h"), "give 0.2 to 3600 seconds, not 7200"),
        (("--interval", "soon"), "'soon' is no time"),
        (("--count", "0"), "0 is not in the range"),
        (("--netns", "all"), "all cannot be watched at once"),
        (("--netns", "nowhere-23"), "nowhere-23"),
        (("a.json",), "recordings follow --from"),
        (("--from", "absent.json"), "absent.json: no such file or directory"),
        (("--from", "a", "--netns", "1"), "does not go with --from"),
    ],
)
def test_nonsense_is_refused_in_one_line(options, said, tmp_path):
    answer = tcpdoctor("watch", *options, cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert said in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_recordings_are_stepped_through_in_the_order_of_time(tmp_path):
    looks = []
    for number, seconds in ((31, 40.0), (23, 0.0), (27, 20.0)):
        census = CENSUS._replace(by_state=CENSUS.by_state | {TcpState.CLOSE_WAIT: number})
        look = SNAPSHOT._replace(
            taken_at=SNAPSHOT.taken_at + seconds, clock=SNAPSHOT.clock + seconds, census=census
        )
        path = tmp_path / f"{number}.json"
        path.write_bytes(pack_samples(Samples(None, look)))
        looks.append(path.name)
    answer = tcpdoctor("watch", "--from", *looks, cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    told = [line.split()[3] for line in answer.stdout.splitlines()]
    assert told == ["cw=23/-", "cw=27/-", "cw=31/+12"]


def test_a_recording_that_does_not_tell_it_is_no_zero(tmp_path):
    look = SNAPSHOT._replace(census=Missing("sockets were not recorded"))
    (tmp_path / "a.json").write_bytes(pack_samples(Samples(None, look)))
    answer = tcpdoctor("watch", "--from", "a.json", "--plain", cwd=tmp_path)
    assert " estab=? tw=?/? cw=?/? fw2=? syn=? " in answer.stdout


@pytest.mark.parametrize(
    ("closed", "options", "said"),
    [(1, ("--count", "1"), "standard output is closed"), (0, ("--from", "-"), "standard input is closed")],
)
def test_a_closed_stream_is_one_line(closed, options, said):
    answer = tcpdoctor("watch", *options, preexec_fn=lambda: os.close(closed), stdin=subprocess.DEVNULL)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert answer.stderr.startswith(f"tcpdoctor watch: {said}")
    assert answer.stderr.count("\n") == 1

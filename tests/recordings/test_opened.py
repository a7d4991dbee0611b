"""A path leads to what was recorded there, or to one line."""

import gzip
import json
import tracemalloc

import pytest

from tcpdoctor.errors import QuestionError, SnapshotError
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.recorded import pack_samples
from tcpdoctor.kernel.replay import Replay
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.survey import NOT_ASKED, Seen
from tcpdoctor.recordings.opened import open_looks, open_recording
from tcpdoctor.recordings.recording import Recording, pack_snapshot
from tcpdoctor.recordings.source import Source
from tests.facts.samples import CONNECTION
from tests.report.examples import SNAPSHOT

RECORDED = Recording(
    Source("snapshot", (), 1), Samples(None, SNAPSHOT), (Seen(CONNECTION, NOT_ASKED),), interfaces={"eth0": 7}
)


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
def test_a_snapshot_comes_back_as_it_was(tmp_path, gzipped):
    found = open_recording(written(tmp_path, "x", pack_snapshot(RECORDED, gzipped=gzipped)))
    assert found.samples == RECORDED.samples
    assert tuple(found.sockets) == RECORDED.sockets
    assert found.interfaces == {"eth0": 7}
    assert (found.source.kind, found.source.looks) == ("snapshot", 1)


def test_what_an_earlier_version_wrote_is_read(tmp_path):
    found = open_recording(written(tmp_path, "x", pack_samples(RECORDED.samples)))
    assert found.samples == RECORDED.samples


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"schema": "tcpdoctor.snapshot/2"}', "its format is tcpdoctor.snapshot/2"),
        (b'{"schema": "tcpdoctor.check/1"}', "its format is tcpdoctor.check/1"),
        (b"{}", "not a recording of tcpdoctor"),
        (b"[" * 100_000, "no JSON"),
        (b"[" + b"[]," * 6_000_001, "more than 6,000,000 lists and objects"),
        (gzip.compress(b"{}")[:-9], "ends in the middle"),
        (pack_snapshot(RECORDED, gzipped=False)[:-90], "no JSON"),
    ],
    ids=["newer", "report", "another", "deep", "wide", "cut gzip", "cut"],
)
def test_anything_else_is_one_line(tmp_path, data, said):
    with pytest.raises(SnapshotError, match=said) as caught:
        open_recording(written(tmp_path, "x", data))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/proc/kmsg", "/proc/self/mem", "/dev/zero", "/dev/tty"])
def test_what_waits_or_acts_when_it_is_read_is_not_opened(path):
    with pytest.raises(SnapshotError, match=r"no recording|neither a file nor a folder"):
        open_recording(path)


def test_a_small_recording_takes_little_memory(tmp_path):
    file = tmp_path / "host.json"
    file.write_bytes(pack_samples(Samples(None, SNAPSHOT)))
    tracemalloc.start()
    try:
        open_recording(str(file))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_socket_that_does_not_fit_is_one_line_when_it_is_looked_at(tmp_path):
    made = json.loads(pack_snapshot(RECORDED, gzipped=False))
    made["sockets"][0] = 7
    found = open_recording(written(tmp_path, "x", json.dumps(made).encode()))
    with pytest.raises(SnapshotError, match=r"\[0\]: 7 is no Seen"):
        list(found.sockets)


def test_two_recordings_are_two_looks_the_earlier_first(tmp_path):
    later = SNAPSHOT._replace(taken_at=SNAPSHOT.taken_at + 7, clock=SNAPSHOT.clock + 7)
    made = [RECORDED._replace(samples=Samples(None, look)) for look in (later, SNAPSHOT)]
    data = [pack_snapshot(each, gzipped=False) for each in made]
    found = open_looks([written(tmp_path, name, each) for name, each in zip("ab", data, strict=True)])
    assert found.samples == Samples(SNAPSHOT, later)
    assert found.source.looks == 2


def test_two_recordings_of_different_hosts_are_refused(tmp_path):
    other = RECORDED._replace(samples=Samples(None, SNAPSHOT._replace(host="elsewhere")))
    paths = [
        written(tmp_path, name, pack_snapshot(each, gzipped=False))
        for name, each in (("a", RECORDED), ("b", other))
    ]
    with pytest.raises(QuestionError, match="two looks are of one host"):
        open_looks(paths)


def thinned_to(kept):
    """A recording with so many of 30,021 sockets, of which port 9090 has a third and none was kept."""
    state, port = CONNECTION.state, CONNECTION.local.port
    rows = tuple(
        Seen(CONNECTION._replace(cookie=n + 1, remote=CONNECTION.remote._replace(port=n + 1)), NOT_ASKED)
        for n in range(kept)
    )
    assert not isinstance(SNAPSHOT.census, Missing)
    by_port = {(state, port): 20_014, (state, 9090): 10_007}
    census = SNAPSHOT.census._replace(by_state={state: 30_021}, by_port=by_port, complete=True)
    samples = Samples(None, SNAPSHOT._replace(census=census))
    return RECORDED._replace(samples=samples, sockets=rows)


def test_of_a_thinned_recording_nothing_is_counted_that_was_not(tmp_path):
    recording = thinned_to(10_007)
    found = open_recording(written(tmp_path, "x", pack_snapshot(recording, gzipped=True)))
    assert "10,007 of 30,021 sockets are in it one by one" in found.source.notes[0]
    replay = Replay(
        found.samples,
        found.sockets,
        found.udp,
        found.processes,
        found.interfaces,
        found.settings,
        found.around,
    )
    state, port = CONNECTION.state, CONNECTION.local.port

    def listed(**which):
        (detail,) = replay.read_connections([state], bound=100, **which).values()
        return len(detail.connections), detail.total, bool(detail.reason)

    assert listed() == (100, 30_021, False)
    assert listed(local_port=port) == (100, 20_014, False)
    assert listed(local_port=9090) == (0, 10_007, False)
    assert listed(local_port=40_001) == (0, 0, True), "clients' ports are counted together"
    assert listed(remote_port=7) == (1, 1, True)
    assert isinstance(replay.read_port_use(1, 65535).complete, Missing)


def test_a_whole_recording_has_no_note(tmp_path):
    data = pack_snapshot(thinned_to(10_007)._replace(samples=RECORDED.samples), gzipped=True)
    assert open_recording(written(tmp_path, "x", data)).source.notes == ()

"""`check --since-last`: a run is compared with the one before, whatever becomes of the file in between."""

import contextlib
import fcntl
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tcpdoctor.answers.check import Check
from tcpdoctor.cli.options import SHORTEST_WINDOW
from tcpdoctor.cli.since_last import since_last
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.live import take_snapshot
from tcpdoctor.kernel.reading import boottime
from tcpdoctor.kernel.recorded import LAST_FORMAT, LastRun, Told, as_earlier, boot_id, last_file, pack, unpack
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.closing import close_wait, fin_wait_1_stuck
from tcpdoctor.lab.listening import accept_queue_overflowing
from tcpdoctor.lab.pairs import wait_until
from tests.cli.command import complaint, tcpdoctor

from .checks import findings

LIMITS = """
[rules.close-wait-leak.limits]
min_age = 0.5
[rules.listener-port-in-ephemeral-range]
enabled = false
"""


class Host:
    """A folder with a configuration and a file to remember in, as a cron job has them."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "last"
        self.config = self.folder / "config.toml"
        self.config.write_text(LIMITS, encoding="ascii")

    def run(self, *options: object, file: Path | None = None) -> "subprocess.CompletedProcess[str]":
        where = ("--config", self.config, "--since-last", file or self.file)
        if file is None and self.file.exists():
            self._let_the_last_run_age()
        return tcpdoctor("check", *where, *options)

    def _let_the_last_run_age(self) -> None:
        """Runs follow each other faster here than rates can be told of."""
        with contextlib.suppress(SnapshotError, OSError):
            taken = self.remembered().sample.clock
            while 0 <= boottime() - taken < 2 * SHORTEST_WINDOW:
                time.sleep(0.02)

    def json(self, *options: object) -> dict:
        done = self.run("--format", "json", *options)
        return json.loads(done.stdout) | {"stderr": done.stderr, "code": done.returncode}

    def remembered(self) -> LastRun:
        return unpack(self.file.read_bytes(), LAST_FORMAT, LastRun, "last")

    def age(self, seconds: float) -> None:
        """Make the run before look as if it had been so long ago."""
        run = self.remembered()
        older = run.sample._replace(clock=run.sample.clock - seconds, taken_at=run.sample.taken_at - seconds)
        self.put(run._replace(sample=older))

    def put(self, run: LastRun) -> None:
        self.file.write_bytes(pack(LAST_FORMAT, LastRun, run))


def with_host(function):
    """Give a function that runs in the private namespace a host of its own."""

    def run(*arguments):
        with tempfile.TemporaryDirectory() as folder:
            return function(Host(folder), *arguments)

    return run


@pytest.fixture
def on_host(in_namespace):
    return lambda function, *arguments: in_namespace(with_host(function), *arguments)


def overflowing(host):
    first = host.json()
    with accept_queue_overflowing(43, backlog=7):
        second = host.json("--only", "accept-queue-overflows,accept-queue-full")
        host.age(0)
        third = host.json()
    return first, second, third, os.stat(host.file).st_mode & 0o777, sorted(os.listdir(host.folder))


def test_rates_need_no_waiting_from_the_second_run_on(on_host):
    first, second, third, mode, left = on_host(overflowing)
    assert "needs two samples" in {item["reason"] for item in first["unchecked"]}
    assert first["window_s"] == 0
    assert second["window_s"] > 0
    assert third["unchecked"] == [] or "needs two samples" not in {i["reason"] for i in third["unchecked"]}
    assert len(findings(second, "accept-queue-overflows")) == 1
    assert (first["stderr"], second["stderr"]) == ("", "")
    assert (mode, left) == (0o600, ["config.toml", "last"])


def stuck(host):
    with fin_wait_1_stuck(13):
        host.json()
        host.age(5)
        again = host.json()
        return again, host.remembered()


def test_a_socket_that_was_there_in_the_run_before_is_stuck(on_host):
    again, run = on_host(stuck)
    assert again["window_s"] >= 5
    assert "fin-wait-1-stuck" not in {item["rule"] for item in again["unchecked"]}
    assert run.sample.sysctls == {}
    assert run.sample.processes == {}


# --- only what changed ---


def later(host, *options):
    """The next run, some time after the one before: rates cannot be told of less than a tenth of a second."""
    host.age(5)
    return host.run("--only-changes", *options)


def finds_the_leak(host):
    found = json.loads(host.run("--format", "json").stdout)["findings"]
    return any(finding["rule"] == "close-wait-leak" for finding in found)


def coming_and_going(host):
    quiet = host.run("--only-changes").stdout
    with close_wait(113) as sockets:
        wait_until(lambda: finds_the_leak(host), "the leak is old")
        host.file.unlink()
        long = host.run("--only-changes", "--long").stdout
        host.file.unlink()
        appeared = host.run("--only-changes")
        same = later(host)
        same_json = later(host, "--format", "json")
        unasked = later(host, "--skip", "close-wait-leak")
        for sock in sockets:
            sock.close()
    gone = later(host)
    nothing = later(host)
    runs = (appeared, same, same_json, unasked, gone, nothing)
    return [quiet, long, *[(run.stdout, run.stderr, run.returncode) for run in runs]]


def test_what_appeared_and_what_went_is_told_once(on_host):
    quiet, long, appeared, same, same_json, unasked, gone, nothing = on_host(coming_and_going)
    assert quiet == ""
    first, _, rest = appeared[0].partition("\n")
    host = re.escape(os.uname().nodename)
    assert re.fullmatch(rf"{host}, netns \S+: 1 finding appeared in the first look", first)
    assert rest.startswith("\n WARNING  ")
    assert "close-wait-leak\n\n Each in full: tcpdoctor check RULE\n" in rest
    assert len(rest.splitlines()) < MOST_LINES
    assert long.startswith(first)
    assert "\n  What to do\n" in long
    assert (appeared[1], appeared[2]) == ("", 1)
    assert same == ("", "", 1)
    assert same_json == ("", "", 1)
    assert unasked == ("", "", 0)
    assert re.match(rf"{host}, netns \S+: 1 finding went since 20", gone[0])
    assert "GONE  " in gone[0]
    assert "Process does not close connections that its peers have ended" in gone[0]
    assert gone[2] == 0
    assert nothing == ("", "", 0)


MOST_LINES = 8
"""Of one finding that is new."""


def flapping(host):
    with close_wait(113) as sockets:
        wait_until(lambda: finds_the_leak(host), "the leak is old")
        host.file.unlink()
        runs = [host.run("--only-changes", "--after", "3").stdout]
        runs += [later(host, "--after", "3").stdout for _ in range(3)]
        for sock in sockets:
            sock.close()
    return runs, [later(host, "--after", "2").stdout for _ in range(3)]


def test_a_change_is_told_after_as_many_runs_as_were_asked_for(on_host):
    coming, going = on_host(flapping)
    assert ["appeared" in text for text in coming] == [False, False, True, False]
    assert ["went" in text for text in going] == [False, True, False]


def test_what_is_held_back_has_to_be_printed_by_its_changes():
    assert "--after: needs --only-changes" in complaint(tcpdoctor("check", "--after", "2"))


def changes_as_json(host):
    with close_wait(113) as sockets:
        wait_until(lambda: finds_the_leak(host), "the leak is old")
        host.file.unlink()
        appeared = host.json("--only-changes")
        for sock in sockets:
            sock.close()
    return appeared, host.json("--only-changes")


def test_changes_are_in_the_json_by_fingerprint(on_host):
    appeared, gone = on_host(changes_as_json)
    (finding,) = appeared["findings"]
    assert appeared["changes"]["appeared"] == [finding["fingerprint"]]
    assert appeared["changes"]["since"] is None
    (told,) = gone["changes"]["gone"]
    assert (told["fingerprint"], told["rule"]) == (finding["fingerprint"], "close-wait-leak")
    assert told["since"] == appeared["taken_at"]
    assert gone["findings"] == []
    assert (gone["status"], gone["exit_code"]) == ("ok", 0)


def told(rule, label, severity="warning"):
    return Told("00" * 8, rule, severity, label, "Title of before", 1_700_000_000.0)


def unanswerable(host):
    host.run()
    run = host.remembered()
    stale = run.sample._replace(clock=run.sample.clock + 1e6)  # rates cannot be told from it
    host.put(run._replace(sample=stale, told=(told("accept-queue-overflows", "this host"),)))
    first = host.run("--only-changes")
    host.put(host.remembered()._replace(sample=stale))
    second = host.run("--only-changes")
    host.age(5)  # two runs can follow each other faster than rates can be told
    third = host.run("--only-changes")
    return first, second, third


def test_what_could_not_be_checked_this_time_is_not_told_as_gone(on_host):
    first, second, third = on_host(unanswerable)
    assert "1 finding cannot be told any more" in first.stdout
    assert "WARNING, perhaps still there: this host" in first.stdout
    assert "It could not be checked: needs two samples" in " ".join(first.stdout.split())
    assert "GONE" not in first.stdout
    assert second.stdout == ""
    assert "GONE  this host" in third.stdout


def quiet_changes(host):
    host.run()
    run = host.remembered()
    low = told("tw-reuse-without-timestamps", "low", "info")
    host.put(run._replace(told=(low, told("close-wait-leak", "loud")._replace(fingerprint="f" * 16))))
    return host.run("--only-changes", "--quiet").stdout


def test_quiet_leaves_out_changes_below_fail_on(on_host):
    text = on_host(quiet_changes)
    assert "GONE  loud" in text
    assert "GONE  low" not in text


# --- files that are of no use ---


def spoilt(host, spoil):
    host.run()
    host.age(5)  # two runs can follow each other faster than rates can be told
    host.file.write_bytes(SPOILING[spoil](host))
    bad = host.run("--long")
    host.age(5)
    good = host.run()
    return bad.returncode, bad.stdout, bad.stderr, good.stderr, host.file.name


def changed(**fields):
    def make(host):
        run = host.remembered()
        return pack(LAST_FORMAT, LastRun, run._replace(sample=run.sample._replace(**fields)))

    return make


def with_counters(host):
    run = host.remembered()
    counters = dict(run.sample.counters) | {"Tcp.InSegs": 10**9}
    return pack(LAST_FORMAT, LastRun, run._replace(sample=run.sample._replace(counters=counters)))


SPOILING = {
    "damaged": lambda _: b"\x1f\x8b" + b"x" * 50,
    "cut short": lambda host: host.file.read_bytes()[:-9],
    "another version": lambda _: gzip.compress(b'{"format": "tcpdoctor.last/99", "tool": "9.9"}'),
    "no json": lambda _: gzip.compress(b"["),
    "another boot": lambda host: pack(LAST_FORMAT, LastRun, host.remembered()._replace(boot="other")),
    "another namespace": changed(namespace=1),
    "another host": changed(host="elsewhere"),
    "from the future": changed(clock=1e15),
    "counters": with_counters,
}
SAID = {
    "damaged": "damaged; copy it again",
    "cut short": "it ends in the middle",
    "another version": "its format is tcpdoctor.last/99",
    "no json": "no JSON of tcpdoctor",
    "another boot": "from before the last boot",
    "another namespace": "from another network namespace, 1",
    "another host": "from another host, elsewhere",
    "from the future": "from the future",
    "counters": "Tcp.InSegs has gone backwards since",
}


@pytest.mark.parametrize("spoil", sorted(SPOILING))
def test_a_file_of_no_use_is_said_in_one_line_and_the_run_starts_afresh(on_host, spoil):
    code, stdout, stderr, afterwards, _ = on_host(spoilt, spoil)
    (line,) = stderr.splitlines()
    assert SAID[spoil] in line
    assert line.endswith("starting afresh, with one sample")
    assert code == 0
    assert "one sample" in stdout
    assert afterwards == ""


def long_gap(host):
    host.run()
    host.age(26 * 3600)
    return host.run("--long")


def test_a_long_time_between_two_runs_makes_averages_and_the_report_says_so(on_host):
    done = on_host(long_gap)
    assert done.returncode == 0
    assert "26 h apart" in done.stdout
    assert "averages" in " ".join(done.stdout.split())


# --- two runs at once ---


def at_once(host):
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tcpdoctor", "check", "--since-last", host.file, "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    said = [run.communicate(timeout=60) for run in runs]
    return said, [run.returncode for run in runs], host.remembered(), sorted(os.listdir(host.folder))


def test_runs_that_overlap_wait_for_each_other_and_tear_nothing(on_host):
    said, codes, run, left = on_host(at_once)
    assert codes == [0] * 5
    assert all(out == "" for out, _ in said)
    assert all(err == "" or "too young for rates" in err for _, err in said)
    assert run.sample.clock > 0
    assert left == ["config.toml", "last"]


def held_by_another(host):
    host.run()
    before = host.remembered()
    with open(host.file, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [sys.executable, "-m", "tcpdoctor", "check", "--since-last", host.file], stdout=subprocess.PIPE
        )
        wait_until(
            lambda: str(waiting.pid) in Path("/proc/locks").read_text() or waits(waiting.pid), "it waits"
        )
        unchanged = host.remembered() == before
    waiting.communicate(timeout=60)
    return unchanged, waiting.returncode, host.remembered() == before


def waits(pid: int) -> bool:
    """Whether a process has the file open, and so is asking for its lock."""
    folder, found = f"/proc/{pid}/fd", []
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"{folder}/{fd}"))
    return any(path.endswith("/last") for path in found)


def test_a_run_waits_for_the_one_that_has_the_file(on_host):
    assert on_host(held_by_another) == (True, 0, False)


# --- files that are not ours alone ---


def refused(host, make):
    make_file = REFUSED[make][0]
    file = make_file(host)
    before = sorted(os.listdir(host.folder))
    done = host.run(file=file)
    assert complaint(done)
    return complaint(done), before == sorted(os.listdir(host.folder))


def as_link(host):
    (host.folder / "secret").write_text("do not touch", encoding="ascii")
    host.file.symlink_to(host.folder / "secret")
    return host.file


def writable_by_others(host):
    host.file.write_bytes(b"")
    host.file.chmod(0o666)
    return host.file


def as_folder(host):
    host.file.mkdir()
    return host.file


def as_pipe(host):
    os.mkfifo(host.file)
    return host.file


def in_no_folder(host):
    return host.folder / "none" / "last"


REFUSED = {
    "link": (as_link, "refused: a link; name the file itself"),
    "writable": (writable_by_others, "refused: others can write it (mode 0666)"),
    "folder": (as_folder, "not a regular file"),
    "pipe": (as_pipe, "not a regular file"),
    "nowhere": (in_no_folder, "there is no folder "),
}


@pytest.mark.parametrize("make", sorted(REFUSED))
def test_what_is_no_file_of_ours_alone_is_refused_before_the_look(on_host, make):
    line, untouched = on_host(refused, make)
    assert REFUSED[make][1] in line
    assert untouched


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")


def strangers_file(host):
    host.folder.chmod(0o1777)
    host.file.write_bytes(b"")
    os.chown(host.file, 12345, 12345)
    host.file.chmod(0o600)
    return complaint(host.run())


@root_only
def test_root_refuses_a_strangers_file_in_a_folder_like_tmp(on_host):
    assert "belongs to uid 12345" in on_host(strangers_file)


def strangers_folder(host):
    own = host.folder / "own"
    own.mkdir()
    own.chmod(0o777)
    return complaint(host.run(file=own / "last"))


@root_only
def test_root_refuses_a_folder_in_which_others_can_exchange_the_file(on_host):
    assert "others can write" in on_host(strangers_folder)


def as_nobody():
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    with pytest.raises(SnapshotError) as error, last_file(Path("/usr/last")):
        pass
    return str(error.value)


@root_only
def test_a_folder_that_one_may_not_write_in_is_said_before_the_look(in_namespace):
    assert in_namespace(as_nobody) == "/usr/last: you may not write in /usr; choose another folder"


def leaking_behind_probes(host):
    """Every look alone tells ages below a second, and the looks are a fraction of that apart."""
    limits = LIMITS.replace("min_age = 0.5", "min_age = 5.5")
    host.config.write_text(limits, encoding="ascii")
    with close_wait(113, keepalive=1):  # the end-of-file unread: quiet for 3 s at least, or nothing is said
        reports = []

        def found() -> bool:
            # what may be so old is told first, a moment before what is surely so old
            reports.append(host.json())
            told = findings(reports[-1], "close-wait-leak")
            return any(item["fact"].startswith("older(") for one in told for item in one["evidence"])

        wait_until(found, "the leak is old by the times at which its sockets were first seen", 60)
        return reports, host.remembered()


def test_a_leak_behind_keepalive_probes_is_as_old_as_it_was_first_seen(on_host):
    reports, run = on_host(leaking_behind_probes)
    (finding,) = findings(reports[-1], "close-wait-leak")
    assert [item["fact"] for item in finding["evidence"]] == ["older(close_wait.owned_ages, 5.5 s)"]
    assert len(reports) > 2
    assert max(report["window_s"] for report in reports[1:]) < 5.2
    assert len(run.sample.first_seen) == 226  # both ends: CLOSE_WAIT and FIN_WAIT_2


def kept_within_a_moment(path):
    with close_wait(3):
        look = take_snapshot(owners=False)
        rows = look.detail[TcpState.CLOSE_WAIT].connections
        seen = {row.cookie: look.clock - 1009 for row in rows}
        before = as_earlier(look)._replace(first_seen=seen, clock=boottime())
        path.write_bytes(pack(LAST_FORMAT, LastRun, LastRun(boot_id(), before, ())))
        path.chmod(0o600)
        with since_last(path) as memory:
            samples = memory.take_samples()
            memory.keep(Check(Diagnosis((), (), 0), samples, window=0.0))
        kept = unpack(path.read_bytes(), LAST_FORMAT, LastRun, "last").sample
        return seen, {cookie: kept.first_seen[cookie] for cookie in seen}


def test_runs_too_near_for_rates_still_know_since_when_sockets_were_seen(in_namespace, tmp_path):
    seen, kept = in_namespace(kept_within_a_moment, tmp_path / "last")
    assert len(seen) == 3
    assert kept == seen

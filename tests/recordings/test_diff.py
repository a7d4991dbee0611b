"""Two recordings: what appeared, grew and went, at which rate, and what was set."""

import json
from pathlib import Path

import pytest

from tcpdoctor.answers.diff import compare_recordings
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, Samples
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.recordings.assembled import Circumstances, assemble
from tcpdoctor.recordings.pasted import Pasted, PastedSocket
from tests.cli.command import complaint, tcpdoctor
from tests.schemas import described

SAMPLES = Path(__file__).parent / "samples"
NOT = Missing("not printed")
OWNER = Held((Holder(37, "orders-api", 6, 0),))


def rows(number, first=40_001):
    here = Endpoint("127.0.0.1", 8080)
    return tuple(
        PastedSocket(
            "tcp", TcpState.CLOSE_WAIT, 4, here, Endpoint("127.0.0.1", first + n), None, 0, 0, NOT, NOT, NOT,
            NOT, OWNER, NOT, NOT, NOT, NOT, NOT, NOT, NOT,
        )
        for n in range(number)
    )  # fmt: skip


def recorded(sockets, clock, counters, fin_timeout):
    forms = [
        Pasted("ss", sockets=sockets, every_socket=True),
        Pasted("nstat", counters=counters),
        Pasted("sysctl", sysctls={"net.ipv4.tcp_fin_timeout": fin_timeout, "fs.file-nr": (clock, 0, 9)}),
    ]
    told = Circumstances(taken_at=1_700_000_000.0 + clock, clock=float(clock), host="vm")
    found = assemble(forms, told)
    return found._replace(source=found.source._replace(dated=True, files=(f"{clock}.txt",)))


BEFORE = recorded(rows(3), 10, {"TcpExt.ListenOverflows": 7, "Tcp.InSegs": 90, "Tcp.CurrEstab": 1}, 60)
AFTER = recorded(
    rows(13, 40_003), 20, {"TcpExt.ListenOverflows": 27, "Tcp.InSegs": 80, "Tcp.CurrEstab": 9}, 30
)


@pytest.mark.parametrize("pair", [(BEFORE, AFTER), (AFTER, BEFORE)], ids=["in order", "the later one first"])
def test_what_is_different_is_told_from_the_earlier_one_to_the_later_one(pair):
    found = compare_recordings(*pair)
    assert found.seconds == 10
    waiting = next(each for each in found.states if each.state == "close_wait")
    assert (waiting.before, waiting.after, waiting.stayed) == (3, 13, 1)
    assert [(each.process, each.before, each.after) for each in found.processes] == [
        ("orders-api (37)", 3, 13)
    ]
    assert [(each.counter, each.after - each.before, each.per_s) for each in found.counters] == [
        ("TcpExt.ListenOverflows", 20, 2.0)
    ]
    assert found.went_back == ("Tcp.InSegs",)
    assert [tuple(each) for each in found.sysctls] == [("net.ipv4.tcp_fin_timeout", "60", "30")]


def test_of_different_hosts_there_are_no_rates():
    look = AFTER.samples.after._replace(host="elsewhere")
    found = compare_recordings(BEFORE, AFTER._replace(samples=Samples(None, look)))
    assert isinstance(found.seconds, Missing)
    assert "different hosts" in found.counters[0].per_s.reason
    assert "boot" not in found.counters[0].per_s.reason


def test_replaced_names_may_be_of_one_host_that_was_booted_between():
    pair = [
        each._replace(samples=Samples(None, each.samples.after._replace(host=name)))
        for each, name in ((BEFORE, "host-0a1b2c"), (AFTER, "host-0a1b2d"))
    ]
    assert "before and after a boot" in compare_recordings(*pair).seconds.reason


def test_between_two_boots_counters_began_again_and_no_socket_stayed():
    look = AFTER.samples.after
    for booted in (look._replace(clock=5.0), look._replace(taken_at=look.taken_at + 3600)):
        found = compare_recordings(BEFORE, AFTER._replace(samples=Samples(None, booted)))
        assert "booted" in found.seconds.reason
        assert all(isinstance(each.stayed, Missing) for each in found.states)


def test_the_same_recording_twice_is_not_different():
    found = compare_recordings(AFTER, AFTER)
    assert (found.appeared, found.gone, found.changed, found.processes, found.counters, found.sysctls) == (
        (), (), (), (), (), (),
    )  # fmt: skip


def pasted_twice(folder):
    whole = (SAMPLES / "ss-tanoempi.txt").read_text(encoding="utf-8")
    part = "".join(
        line for line in whole.splitlines(keepends=True) if ":8080" not in line and "orders-api" not in line
    )
    paths = folder / "before.txt", folder / "after.txt"
    for path, text in zip(paths, (part, whole), strict=True):
        path.write_text(text, encoding="utf-8")
    return map(str, paths)


def test_the_command_ends_with_0_whatever_is_different(tmp_path):
    before, after = pasted_twice(tmp_path)
    answer = tcpdoctor("diff", before, after, "--window", "60", "--format", "json")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert described(answer.stdout)["seconds"] == 60
    for format_of_it in ("text", "markdown"):
        text = tcpdoctor("diff", before, after, "--format", format_of_it)
        assert text.returncode == 0
        assert "orders-api" in text.stdout
        assert "+17" in text.stdout


def test_what_cannot_be_read_is_one_line_and_3(tmp_path):
    (tmp_path / "a").write_text(json.dumps({"schema": "tcpdoctor.check/1"}))
    assert "tcpdoctor.check/1" in complaint(tcpdoctor("diff", str(tmp_path / "a"), str(tmp_path / "a")))
    assert "standard input is one recording" in complaint(tcpdoctor("diff", "-", "-"))


def listed(text, tmp_path, name):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


@pytest.fixture
def forms(tmp_path):
    """The same moment as several programs tell it."""
    names = ("ss-tanoempi", "ss-tan", "pipeline-awk-uniq", "sysctl-a")
    paths = {name: str(SAMPLES / f"{name}.txt") for name in names}
    lines = (SAMPLES / "ss-tanp.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    return paths | {"part": listed("".join(line for line in lines if "TIME-WAIT" in line), tmp_path, "part")}


def compared(one, other):
    answer = tcpdoctor("diff", one, other, "--format", "json")
    assert answer.returncode == 0
    return described(answer.stdout)


def test_a_listing_without_names_does_not_say_that_a_process_had_none(forms):
    found = compared(forms["ss-tan"], forms["ss-tanoempi"])
    assert found["processes"] is None
    assert "names no process" in found["missing"]["processes"]


def test_counts_and_parts_do_not_say_that_there_was_no_connection(forms):
    for form in ("pipeline-awk-uniq", "part"):
        found = compared(forms[form], forms["ss-tanoempi"])
        assert found["destinations"]
        assert {each["before"] for each in found["destinations"]} <= {None, 7}


def test_a_finding_of_a_rule_that_was_open_before_is_not_called_new(forms):
    found = compared(forms["sysctl-a"], forms["ss-tanoempi"])
    assert found["appeared"] == []
    assert "accept-queue-full" in {each["rule"] for each in found["not_asked_before"]}
    assert found["unchecked"][0] > 0
    text = tcpdoctor("diff", forms["sysctl-a"], forms["ss-tanoempi"]).stdout
    assert "There now, and not known before" in text
    assert "rules answered before" in text


def test_who_connects_is_not_compared_across_another_range_of_ports():
    wider = {"net.ipv4.ip_local_port_range": (40_000, 40_999)}
    look = AFTER.samples.after
    changed = look._replace(sysctls={**look.sysctls, **wider})
    found = compare_recordings(BEFORE, AFTER._replace(samples=Samples(None, changed)))
    assert "ip_local_port_range" in found.destinations.reason

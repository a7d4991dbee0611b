"""`fix --apply` and `--undo` on a real kernel: what is kept, what is undone, and what is refused."""

import ctypes
import json
import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tcpdoctor.answers.fix import (
    apply_fix,
    fix_exit_code,
    look_for_pending,
    refuse_to_apply,
    undo_exit_code,
    undo_fix,
)
from tcpdoctor.diagnosis.finding import Finding, Severity
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.subject import Scope
from tcpdoctor.kernel.fix_journal import held_text, write_setting
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.report.fix_text import FixWords, fix_page
from tcpdoctor.report.page import page_text
from tcpdoctor.report.style import PLAIN
from tests.cli.command import complaint, run_process, tcpdoctor
from tests.live.fix_stage import (
    ADMINS,
    AFTER,
    BEFORE,
    change,
    consent,
    exit_of,
    fall_ill,
    held,
    in_another_namespace,
    in_child,
    others_here,
    planned,
    wait_until,
)
from tests.sysctl_tree import cover, mount

FIN = "net.ipv4.tcp_fin_timeout"
SICK = {FIN: "5", "net.ipv4.tcp_syncookies": "0", "net.ipv4.ip_local_port_range": "50000 50500"}
CURED = {FIN: "60", "net.ipv4.tcp_syncookies": "1", "net.ipv4.ip_local_port_range": "32768 60999"}

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount, or be another user")


def finding(rule: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(
        rule,
        severity,
        Scope.HOST,
        "this host",
        {},
        rule,
        rule,
        "",
        "",
        "",
        (),
        (),
        (),
        (),
        (),
        headline="worse",
    )


# kept, and undone later


def kept_and_undone(folder):
    stage = fall_ill(folder, ADMINS)
    for key, value in SICK.items():
        write_sysctl(key, value)
    made = tcpdoctor("fix", "--apply", "--yes", *stage.options, "--format", "json")
    after, text = held(tuple(SICK)), stage.file.read_text(encoding="ascii")
    modes = stat.S_IMODE(stage.journal.stat().st_mode), stat.S_IMODE(stage.file.stat().st_mode)
    undone = tcpdoctor("fix", "--undo", *stage.options)
    again = tcpdoctor("fix", "--undo", *stage.options)
    return made, after, text, modes, undone, held(tuple(SICK)), stage.file.read_bytes(), again


def test_what_is_kept_lasts_and_is_undone_to_the_letter(in_namespace, tmp_path):
    made, after, text, modes, undone, before, file, again = in_namespace(kept_and_undone, tmp_path)
    answer = json.loads(made.stdout)
    assert (made.returncode, answer["state"]) == (0, "kept")
    assert [change["applied"] for change in answer["changes"]] == [True] * len(answer["changes"])
    assert after == CURED
    assert text.startswith("# mine\nnet.ipv4.tcp_sack = 1\nnet.ipv4.tcp_fin_timeout = 60\n")
    assert "net.ipv4.ip_local_port_range = 32768 60999\n" in text
    assert modes == (0o600, 0o644)
    assert (undone.returncode, before, file) == (0, SICK, ADMINS)
    assert complaint(again) == "tcpdoctor fix: there is nothing to undo"


def applied_twice(folder):
    stage = fall_ill(folder)
    assert change(stage, {FIN: "31"}).state == "kept"
    assert change(stage, {FIN: "37", "net.ipv4.tcp_sack": "0"}).state == "kept"
    twice = held((FIN, "net.ipv4.tcp_sack"))
    assert change(stage, {FIN: "41"}, confirmed=lambda _seconds: False).state == "undone"
    third = held((FIN, "net.ipv4.tcp_sack"))
    undo_fix(stage.place)
    return twice, third, held((FIN, "net.ipv4.tcp_sack")), stage.file.exists()


def test_an_undo_brings_back_what_was_there_before_the_first_run(in_namespace, tmp_path):
    twice, third, undone, is_there = in_namespace(applied_twice, tmp_path)
    assert twice == third == {FIN: "37", "net.ipv4.tcp_sack": "0"}
    assert undone == {FIN: BEFORE[FIN], "net.ipv4.tcp_sack": "1"}
    assert not is_there


def changed_by_somebody(folder):
    stage = fall_ill(folder)
    assert change(stage).state == "kept"
    write_sysctl(FIN, "43")
    answer = undo_fix(stage.place)
    return (
        answer.state,
        [each.why for each in answer.left],
        undo_exit_code(answer),
        held(),
        stage.file.exists(),
        page_text(fix_page(answer, PLAIN, FixWords()), PLAIN),
    )


def test_what_somebody_has_changed_meanwhile_is_left_and_said(in_namespace, tmp_path):
    state, left, code, after, is_there, shown = in_namespace(changed_by_somebody, tmp_path)
    assert (state, code, is_there) == ("undone", 1, False)
    (said,) = left
    assert "as it was before, but for what is named below" in shown
    assert f"- {FIN}: 61 -> 7 (not changed)" in shown
    assert "- net.ipv4.ip_local_port_range: 32771 60999 -> 50011 50503\n" in shown
    assert said.startswith(f"{FIN} is 43 by now, neither 61 (ours) nor 7 (before): left; set by ")
    assert after == BEFORE | {FIN: "43"}


def line_changed_by_somebody(folder):
    stage = fall_ill(folder)
    assert change(stage).state == "kept"
    stage.file.write_text(stage.file.read_text(encoding="ascii").replace(f"{FIN} = 61", f"{FIN} = 47"))
    answer = undo_fix(stage.place)
    return [each.why for each in answer.left], stage.file.read_text(encoding="ascii")


def test_a_line_that_somebody_has_changed_is_left_and_said(in_namespace, tmp_path):
    left, text = in_namespace(line_changed_by_somebody, tmp_path)
    assert text == f"{FIN} = 47\n"
    assert f"somebody has changed the line to `{FIN} = 47`: left" in left[0]


# undone at once


def undone_at_once(folder, wanted, **others):
    stage = fall_ill(folder, ADMINS)
    answer = change(stage, wanted, **others)
    return answer.state, answer.reason, fix_exit_code(answer), held(), stage.file.read_bytes()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("net.ipv4.tcp_syn_retries", "300", "the kernel refuses this value"),
        ("net.ipv4.tcp_rmem", "8192 65536 0", "the kernel refuses this value"),
        ("net.ipv4.tcp_no_such_thing", "1", ""),
    ],
)
def test_a_value_that_the_kernel_refuses_undoes_all(in_namespace, tmp_path, key, value, reason):
    wanted = {**{name: text for name, text in AFTER.items() if name != key}, key: value}
    if not reason:
        with pytest.raises(AssertionError, match="does not have it: nothing was changed"):
            in_namespace(undone_at_once, tmp_path, wanted)
        return
    state, said, code, after, file = in_namespace(undone_at_once, tmp_path, wanted)
    assert (state, code, after, file) == ("failed", 1, BEFORE, ADMINS)
    assert key in said
    assert reason in said


def set_by_somebody_while_asked(folder):
    stage = fall_ill(folder, ADMINS)
    answer = change(stage, confirmed=lambda _seconds: write_sysctl(FIN, "17") is None)
    return answer, held(), stage.file.read_bytes(), stage.ended().state


def test_what_somebody_sets_while_it_is_asked_undoes_the_rest(in_namespace, tmp_path):
    answer, after, lines, state = in_namespace(set_by_somebody_while_asked, tmp_path)
    assert (answer.state, state) == ("undone", "undone")
    assert answer.reason == f"Undone at once: {FIN} is 17 by now, somebody else has set it."
    assert (after, lines) == (BEFORE | {FIN: "17"}, ADMINS)
    assert [each.why for each in answer.left if FIN in each.why] != []


def test_what_is_worse_afterwards_undoes_it_at_once(in_namespace, tmp_path):
    state, said, code, after, file = in_namespace(
        undone_at_once, tmp_path, None, after=lambda: [finding("calm", Severity.INFO), finding("storm")]
    )
    assert (state, code, after, file) == ("undone", 1, BEFORE, ADMINS)
    assert said == "Undone at once: it is found since: storm (warning), worse."


def late(folder):
    stage = fall_ill(folder)

    def sleeps_through(seconds):
        wait_until(lambda: (state := stage.state()) is not None and state.state == "undone")
        return True

    answer = change(stage, seconds=0.2, confirmed=sleeps_through)
    return answer.state, answer.reason, held(), stage.file.exists()


def test_the_guard_undoes_what_nobody_confirms_in_time(in_namespace, tmp_path):
    state, said, after, is_there = in_namespace(late, tmp_path)
    assert (state, said) == ("undone", "Undone by its guard: the time was over.")
    assert (after, is_there) == (BEFORE, False)


def looked_at_while_pending(folder):
    stage = fall_ill(folder)
    child = in_child(lambda: change(stage, confirmed=lambda _seconds: time.sleep(60) is None))
    wait_until(lambda: held() == AFTER)
    seen = tcpdoctor("fix", *stage.options, "--format", "json")
    refused = tcpdoctor("fix", "--apply", "--yes", *stage.options)
    os.kill(child, signal.SIGTERM)
    code = exit_of(child)
    state = stage.ended()
    return seen, refused, code, state.state if state else None, held()


def test_a_change_that_waits_is_told_and_ends_by_a_signal(in_namespace, tmp_path):
    seen, refused, code, state, after = in_namespace(looked_at_while_pending, tmp_path)
    answer = json.loads(seen.stdout)
    assert (seen.returncode, answer["state"]) == (1, "pending")
    assert {each["key"]: each["value"] for each in answer["changes"]} == AFTER
    assert "is under way (pid" in complaint(refused)
    assert (code, state, after) == (0, "undone", BEFORE)


# another boot, another namespace


def name_a_boot(folder: Path, name: str) -> None:
    """Let the kernel's boot id be another one for this process and its children."""
    fake = folder / "boot_id"
    fake.write_text(f"{name}\n", encoding="ascii")
    if not (folder / "mounted").exists():
        ctypes.CDLL(None).unshare(0x20000)
        mount("none", "/", None, 0x4000 | 0x40000)
        mount(str(fake), "/proc/sys/kernel/random/boot_id", None, 0x1000)
        (folder / "mounted").touch()


def started_anew_while_pending(folder):
    name_a_boot(folder, "first")
    stage = fall_ill(folder)
    child = in_child(lambda: change(stage, confirmed=lambda _seconds: time.sleep(60) is None))
    wait_until(lambda: held() == AFTER)
    for pid in {*others_here(), child}:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(child, 0)
    name_a_boot(folder, "second")
    for key, value in BEFORE.items():
        write_sysctl(key, value)
    assert look_for_pending(str(stage.journal)) is None
    undo = tcpdoctor("fix", "--undo", *stage.options)
    state = stage.state()
    assert change(stage).state == "kept"
    return undo, state.state if state else None


@root_only
def test_a_restart_before_the_confirmation_is_an_undo(in_namespace, tmp_path, mount_namespace):
    undo, state = in_namespace(started_anew_while_pending, tmp_path)
    assert complaint(undo) == "tcpdoctor fix: there is nothing to undo: this host has been started since"
    assert state == "undone"


def started_anew_once_kept(folder):
    name_a_boot(folder, "first")
    stage = fall_ill(folder)
    assert change(stage).state == "kept"
    name_a_boot(folder, "second")
    undo = tcpdoctor("fix", "--undo", *stage.options)
    return undo.returncode, held(), stage.file.exists()


@root_only
def test_what_was_kept_is_undone_on_any_boot(in_namespace, tmp_path, mount_namespace):
    assert in_namespace(started_anew_once_kept, tmp_path) == (0, BEFORE, False)


def kept_here(folder):
    stage = fall_ill(folder)
    assert change(stage).state == "kept"
    return in_another_namespace(folder, lambda: in_another(stage))


def in_another(stage):
    before = stage.journal.read_bytes(), stage.file.read_bytes()
    write_sysctl(FIN, "5")
    undo, made = (tcpdoctor("fix", *words, *stage.options) for words in (("--undo",), ("--apply", "--yes")))
    return undo, made, held((FIN,)), before == (stage.journal.read_bytes(), stage.file.read_bytes())


def test_a_journal_of_another_network_namespace_is_told_of_only(in_namespace, tmp_path):
    undo, made, after, is_untouched = in_namespace(kept_here, tmp_path)
    assert "what was changed is in network namespace" in complaint(undo)
    assert "undo it there" in complaint(made)
    assert (after, is_untouched) == ({FIN: "5"}, True)


def from_outside(folder):
    reader, writer = os.pipe()
    inside = in_child(lambda: live_in_another(writer))
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    options = ("--netns", inside, "--window", "0", "--journal", folder / "fix.json")
    write_sysctl("net.ipv4.tcp_sack", "0")
    seen = tcpdoctor("fix", *options, "--format", "json")
    made = tcpdoctor("fix", "--apply", "--yes", *options, "--format", "json")
    there = Path(f"/proc/{inside}/root/proc/sys/net/ipv4/tcp_fin_timeout")
    ask = ["nsenter", "-t", str(inside), "-n", "sysctl", "-n", FIN]
    after = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=120).stdout.strip()
    undone = tcpdoctor("fix", "--undo", *options)
    before = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=120).stdout.strip()
    os.kill(inside, signal.SIGKILL)
    os.waitpid(inside, 0)
    return seen, made, after, undone.returncode, before, held(("net.ipv4.tcp_sack",)), there.exists()


def live_in_another(writer: int) -> None:
    assert ctypes.CDLL(None).unshare(0x40000000) == 0
    write_sysctl(FIN, "5")
    os.write(writer, b"x")
    time.sleep(120)


def test_settings_of_another_namespace_are_changed_inside_it(in_namespace, tmp_path):
    seen, made, after, code, before, here, _ = in_namespace(from_outside, tmp_path)
    answer = json.loads(made.stdout)
    assert (made.returncode, answer["state"], answer["file"]) == (0, "kept", None)
    assert [change["key"] for change in json.loads(seen.stdout)["changes"]] == [FIN]
    assert (after, code, before) == ("60", 0, "5")
    assert here == {"net.ipv4.tcp_sack": "0"}


def of_a_namespace_that_is_gone(folder):
    """What was kept in one without a file, and in one with lines in a file; then both are gone."""
    stage, answers = fall_ill(folder), []
    for place in (stage.place._replace(file=None), stage.place):
        in_another_namespace(folder, lambda place=place: kept_at(stage, place))
        refused = tcpdoctor("fix", "--apply", "--yes", *stage.options, "fin-timeout-short")
        undone = tcpdoctor("fix", "--undo", *stage.options[:2])
        answers.append((refused, undone, stage.file.exists(), held((FIN,))))
    return answers


def kept_at(stage, place):
    answer = apply_fix(planned(stage, {FIN: "61"}), {}, (), place, consent())
    return answer.state


def test_what_was_kept_in_a_namespace_that_is_gone_stands_in_nobodys_way(in_namespace, tmp_path):
    (alone, undone, _, after), (in_file, taken_out, is_there, left) = in_namespace(
        of_a_namespace_that_is_gone, tmp_path
    )
    assert alone.returncode == 0, alone.stderr
    assert (undone.returncode, after) == (0, {FIN: BEFORE[FIN]})
    assert "undo it first (tcpdoctor fix --undo)" in complaint(in_file)
    assert (taken_out.returncode, is_there, left) == (0, False, {FIN: BEFORE[FIN]})


def of_one_whose_inode_another_has(folder):
    stage = fall_ill(folder)
    in_another_namespace(folder, lambda: kept_at(stage, stage.place._replace(file=None)))
    reader, writer = os.pipe()
    inside = in_child(lambda: live_in_another(writer))
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    journal = json.loads(stage.journal.read_text(encoding="ascii"))
    journal["namespace"] = os.stat(f"/proc/{inside}/ns/net").st_ino
    stage.journal.write_text(json.dumps(journal), encoding="ascii")
    answer = tcpdoctor("fix", "--apply", "--yes", *stage.options, "fin-timeout-short")
    os.kill(inside, signal.SIGKILL)
    os.waitpid(inside, 0)
    return answer


def test_a_namespace_that_has_the_inode_of_one_that_is_gone_is_not_taken_for_it(in_namespace, tmp_path):
    answer = in_namespace(of_one_whose_inode_another_has, tmp_path)
    assert answer.returncode == 0, answer.stderr


# what is refused before anything is changed


def refused(folder, prepare, *options):
    stage = fall_ill(folder)
    write_sysctl(FIN, "5")
    prepare(stage)
    answer = tcpdoctor("fix", "--apply", "--yes", *stage.options, *options)
    return answer, held((FIN,))


def link_to_elsewhere(path: Path) -> None:
    elsewhere = path.parent / "elsewhere"
    elsewhere.write_text("{}", encoding="ascii")
    path.symlink_to(elsewhere)


def hard_link(path: Path) -> None:
    elsewhere = path.parent / "elsewhere"
    elsewhere.write_text("{}", encoding="ascii")
    path.hardlink_to(elsewhere)


REFUSED = {
    "journal is a link": lambda stage: link_to_elsewhere(stage.journal),
    "file is a link": lambda stage: link_to_elsewhere(stage.file),
    "journal has two names": lambda stage: hard_link(stage.journal),
    "file has two names": lambda stage: hard_link(stage.file),
    "journal is a folder": lambda stage: stage.journal.mkdir(),
    "file is a pipe": lambda stage: os.mkfifo(stage.file),
    "journal is nonsense": lambda stage: stage.journal.write_text('{"schema": "tcpdoctor.fix-journal/1"}'),
    "journal is deep": lambda stage: stage.journal.write_text("[" * 100_000),
    "others write the folder": lambda stage: stage.journal.parent.chmod(0o777),
    "others write where the file is": lambda stage: stage.file.parent.chmod(0o777),
}


@pytest.mark.parametrize("what", REFUSED)
def test_paths_that_others_may_have_laid_are_refused(in_namespace, tmp_path, what):
    answer, after = in_namespace(refused, tmp_path, REFUSED[what])
    assert str(tmp_path) in complaint(answer)
    assert after == {FIN: "5"}


def read_only(place: str) -> None:
    ctypes.CDLL(None).unshare(0x20000)
    mount("none", "/", None, 0x4000 | 0x40000)
    mount(place, place, None, 0x1000)
    mount(place, place, None, 0x1000 | 0x20 | 0x1)


@root_only
@pytest.mark.parametrize("what", ["journal", "file", "/proc/sys"])
def test_what_is_read_only_is_said_before_anything_is_changed(in_namespace, tmp_path, mount_namespace, what):
    def prepare(stage):
        read_only(what if what.startswith("/") else str(getattr(stage, what).parent))

    answer, after = in_namespace(refused, tmp_path, prepare)
    assert "read-only" in complaint(answer)
    assert after == {FIN: "5"}


def on_a_full_disk(folder, which, pages):
    stage = fall_ill(folder)
    place = getattr(stage, which).parent
    cover(str(place), {}, f"size={pages * os.sysconf('SC_PAGE_SIZE')}")
    if which == "file":
        (place / "filler").write_bytes(b"x" * pages * os.sysconf("SC_PAGE_SIZE"))
    try:
        state = change(stage).state
    except QuestionError as error:
        state = str(error)
    wait_until(lambda: not others_here())
    return state, held(), stage.file.exists(), sorted(path.name for path in place.iterdir())


@root_only
@pytest.mark.parametrize(("which", "pages"), [("journal", 1), ("file", 1)])
def test_a_full_disk_undoes_it(in_namespace, tmp_path, mount_namespace, which, pages):
    state, after, is_there, names = in_namespace(on_a_full_disk, tmp_path, which, pages)
    assert (state, after, is_there) == ("failed", BEFORE, False)
    assert set(names) <= {"fix.json", "filler"}


def on_a_disk_that_is_full_once_the_lines_are_there(folder):
    """Two pages for both folders: the journal and what replaces it, or the journal and the lines."""
    page = os.sysconf("SC_PAGE_SIZE")
    cover(str(folder), {}, f"size={2 * page}")
    stage = fall_ill(folder)
    kept = change(stage)
    full = kept.state, kept.reason, held(), stage.file.read_text().count(" = "), stage.state().state
    mount("tmpfs", str(folder), "", 0x20, f"size={16 * page}")  # MS_REMOUNT
    ended = stage.ended().state  # the guard goes on as long as the disk is full, a minute at most
    undone = undo_fix(stage.place)
    return full, ended, undone.state, undone.left, held(), stage.file.exists()


@root_only
def test_what_was_confirmed_is_kept_where_the_disk_is_full_before_the_journal_says_so(
    in_namespace, tmp_path, mount_namespace
):
    full, *others = in_namespace(on_a_disk_that_is_full_once_the_lines_are_there, tmp_path)
    state_then, reason, then, lines, journal = full
    assert (state_then, then, lines, journal) == ("kept", AFTER, len(AFTER), "keeping")
    assert "could not be written to its end" in reason
    assert others == ["kept", "undone", (), BEFORE, False]


def test_nothing_is_changed_without_root_consent_and_terminal(in_namespace, tmp_path):
    answer, after = in_namespace(refused, tmp_path, lambda _stage: None, "--confirm", "0")
    assert "--confirm" in complaint(answer)
    assert after == {FIN: "5"}
    said = complaint(run_process("fix", "--apply", "--window", "0", stdin=subprocess.DEVNULL))
    assert "no terminal to ask on; give --yes" in said
    for words in (
        ("--undo", "--apply", "--yes"),
        ("--yes",),
        ("--undo", "sack-off"),
        ("--as", "shell", "--undo"),
    ):
        complaint(tcpdoctor("fix", *words))


def as_nobody(folder):
    stage = fall_ill(folder)
    os.setgid(65534)
    os.setuid(65534)
    said = []
    for ask in (refuse_to_apply, undo_fix):
        try:
            ask(stage.place)
        except QuestionError as error:
            said.append(str(error))
    return said, look_for_pending(str(stage.journal))


@root_only
def test_only_root_may_change_settings(in_namespace, tmp_path):
    assert in_namespace(as_nobody, tmp_path) == (["only root may change settings; run as root"] * 2, None)


def with_umask(folder, mask):
    stage = fall_ill(folder)
    os.umask(mask)
    assert change(stage).state == "kept"
    return stat.S_IMODE(stage.journal.stat().st_mode), stat.S_IMODE(stage.file.stat().st_mode)


@pytest.mark.parametrize("mask", [0, 0o077])
def test_whatever_the_umask_the_modes_are_the_same(in_namespace, tmp_path, mask):
    assert in_namespace(with_umask, tmp_path, mask) == (0o600, 0o644)


# a list that the kernel takes in parts


def with_a_long_list(folder):
    stage = fall_ill(folder)
    ports = [str(port) for port in range(10007, 13007, 3)]
    before = ",".join(ports)
    assert write_setting(RESERVED, before) is None
    whole = held_text(RESERVED) == before
    made = change(stage, {RESERVED: f"{before},40009,40013"})
    after = held_text(RESERVED)
    write_sysctl(RESERVED, after[:4090].rpartition(",")[0])  # as who is killed between two parts leaves it
    undone = undo_fix(stage.place)
    return whole, made.state, after == f"{before},40009,40013", undone.state, held_text(RESERVED) == before


def test_a_list_longer_than_a_page_is_written_whole_and_undone(in_namespace, tmp_path):
    assert in_namespace(with_a_long_list, tmp_path) == (True, "kept", True, "undone", True)


RESERVED = "net.ipv4.ip_local_reserved_ports"


# what another file would win


def overridden(folder):
    stage = fall_ill(folder)
    for key, value in SICK.items():
        write_sysctl(key, value)
    later = {
        "70-tuning.conf": b"# fast\nnet.ipv4.tcp_fin_timeout = 5\n",
        "50-x.conf": b"net.ipv4.tcp_syncookies=0\n",
    }
    cover("/etc/sysctl.d", later)
    options = ("--journal", stage.journal, "--sysctl-d", "/etc/sysctl.d", "--window", "0", "--format", "json")
    plan = tcpdoctor("fix", *options)
    for_people = [
        tcpdoctor("fix", *more, *options[:-2]).stdout for more in ((), ("--runtime-only",), RULES_OF_SICK)
    ]
    made = tcpdoctor("fix", "--apply", "--yes", *options)
    after, text = held(tuple(SICK)), Path("/etc/sysctl.d/60-tcpdoctor.conf").read_text(encoding="ascii")
    alone = tcpdoctor("fix", "--apply", "--yes", *options, "fin-timeout-short")
    now = tcpdoctor("fix", "--apply", "--yes", "--runtime-only", *options)
    return plan, made, after, text, alone, now, held(tuple(SICK)), for_people


RULES_OF_SICK = ("--apply", "--yes", "fin-timeout-short", "ephemeral-range-narrow")


@root_only
def test_what_another_file_would_undo_at_boot_is_not_changed(in_namespace, tmp_path, mount_namespace):
    plan, made, after, text, alone, now, at_last, for_people = in_namespace(overridden, tmp_path)
    lasting, here, part = for_people
    number = re.compile(r": (\d+) settings to change; nothing is changed yet")
    assert int(number.findall(here)[0]) == int(number.findall(lasting)[0]) + 1
    assert "  not applied: at the next boot /etc/sysctl.d/70-tuning.conf line 2 sets it to" in lasting
    assert "not applied" not in here
    assert "  set by: /etc/sysctl.d/70-tuning.conf line 2\n" in here
    assert ": 1 of 2 settings changed" in part
    assert f"{FIN}: 5 -> 60 (not changed)" in part
    told = {each["key"]: each for each in json.loads(plan.stdout)["changes"]}
    assert told[FIN]["conflict"] == "at the next boot /etc/sysctl.d/70-tuning.conf line 2 sets it to 5"
    assert told[FIN]["set_by"] == "/etc/sysctl.d/70-tuning.conf line 2"
    assert told["net.ipv4.tcp_syncookies"]["set_by"] == "/etc/sysctl.d/50-x.conf line 1"
    assert told["net.ipv4.tcp_syncookies"]["conflict"] is None
    answer = json.loads(made.stdout)
    assert (made.returncode, answer["state"]) == (1, "kept")
    assert {each["key"]: each["applied"] for each in answer["changes"]}[FIN] is False
    assert after == CURED | {FIN: "5"}
    assert FIN not in text
    assert (alone.returncode, json.loads(alone.stdout)["state"]) == (1, "failed")
    assert (now.returncode, at_last) == (0, CURED)

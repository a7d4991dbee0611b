"""`fix --apply` is killed at every step and at any moment: all is then undone, or all is kept."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tcpdoctor.answers.fix import refuse_to_apply, undo_fix
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.fix_ending import watch_journal
from tests.live.fix_stage import (
    ADMINS,
    AFTER,
    BEFORE,
    KilledAt,
    Stage,
    change,
    exit_of,
    fall_ill,
    held,
    in_another_namespace,
    in_child,
    others_here,
    wait_until,
)

MINE = "net.ipv4.tcp_fin_timeout = 11"


def whole(stage: Stage) -> str:
    """What has become of it: kept or undone, and nothing in between."""
    journal = stage.ended()
    text = stage.file.read_text(encoding="ascii")
    lines = [f"{key} = {value}" for key, value in AFTER.items()]
    assert text.startswith("# mine\nnet.ipv4.tcp_sack = 1\n")
    if journal is not None and journal.state == "kept":
        assert held() == AFTER
        assert [line for line in lines if line not in text.splitlines()] == []
        assert MINE not in text
        return "kept"
    assert held() == BEFORE, journal
    assert text.encode("ascii") == ADMINS
    return "undone"


def killed_at_every_step(
    folder: Path, calls: tuple[str, ...], *, after: bool, undoing: bool = False
) -> dict[str, int]:
    ends: dict[str, int] = {}
    for number in range(1, 400):
        stage = fall_ill(folder, ADMINS)
        if undoing:
            assert change(stage).state == "kept"

        def die(stage: Stage = stage, number: int = number) -> None:
            KilledAt(number, after=after, calls=calls)
            undo_fix(stage.place) if undoing else change(stage)

        code = exit_of(in_child(die))
        if code == 0:
            assert number > 10, "nothing was counted"
            return ends
        assert code == -signal.SIGKILL
        end = whole_or_left(stage)
        ends[end] = ends.get(end, 0) + 1
    raise AssertionError("it never ended")


def whole_or_left(stage: Stage) -> str:
    """As `whole`; what nobody could guard is ended by the next run, and nothing is left beside the files."""
    wait_until(lambda: not others_here())
    refuse_to_apply(stage.place)
    end = whole(stage)
    left = {path.name for path in (*stage.journal.parent.iterdir(), *stage.file.parent.iterdir())}
    assert left <= {"fix.json", "60-tcpdoctor.conf"}
    return end


def test_killed_at_every_step_it_is_undone_or_kept(in_namespace, tmp_path):
    ends = in_namespace(killed_at_every_step, tmp_path, KilledAt.STEPS, after=False)
    assert ends["undone"] > 5
    assert ends["kept"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_call_it_is_undone_or_kept(in_namespace, tmp_path, after):
    ends = in_namespace(killed_at_every_step, tmp_path, KilledAt.ALL, after=after)
    assert ends["undone"] > ends["kept"] > 2


@pytest.mark.slow
def test_an_undo_that_is_killed_at_every_call_is_done_or_not_begun(in_namespace, tmp_path):
    ends = in_namespace(killed_at_every_step, tmp_path, KilledAt.ALL, after=False, undoing=True)
    assert ends["undone"] > 2
    assert ends["kept"] > 1


def killed_at_any_moment(folder: Path, times: int) -> set[str]:
    moments = random.Random(1117)  # the same ones each time
    stage = fall_ill(folder, ADMINS)
    begun = time.monotonic()
    assert exit_of(in_child(lambda: change(stage))) == 0
    takes = time.monotonic() - begun
    assert whole(stage) == "kept"
    ends = set()
    for _ in range(times):
        stage = fall_ill(folder, ADMINS)
        child = in_child(lambda stage=stage: change(stage))
        time.sleep(moments.uniform(0, takes))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ends.add(whole_or_left(stage))
    return ends


def test_killed_at_any_moment_it_is_undone_or_kept(in_namespace, tmp_path):
    assert in_namespace(killed_at_any_moment, tmp_path, 41) <= {"undone", "kept"}


def guard_and_all_are_killed(folder: Path) -> tuple[str, str]:
    stage = fall_ill(folder, ADMINS)
    child = in_child(lambda: change(stage, confirmed=lambda _seconds: time.sleep(60) is None))
    wait_until(lambda: (state := stage.state()) is not None and state.state == "pending" and held() == AFTER)
    others = [pid for pid in others_here() if pid != child]
    assert others, "there is no guard"
    for pid in (*others, child):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(child, 0)
    state = stage.state()
    assert state is not None
    before = state.state
    undo_fix(stage.place)
    return before, whole(stage)


def test_where_the_guard_is_killed_too_undo_ends_it(in_namespace, tmp_path):
    assert in_namespace(guard_and_all_are_killed, tmp_path) == ("pending", "undone")


def left_pending(folder: Path) -> str:
    stage = fall_ill(folder)
    child = in_child(lambda: change(stage, confirmed=lambda _seconds: time.sleep(60) is None))
    wait_until(lambda: (state := stage.state()) is not None and state.state == "pending" and held() == AFTER)
    for pid in {*others_here(), child}:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(child, 0)
    state = stage.state()
    assert state is not None
    in_another_namespace(folder, lambda: watch_journal(str(stage.journal), state.run))
    state = stage.state()
    assert state is not None
    return state.state


def test_a_guard_in_another_network_namespace_does_not_say_that_it_is_undone(in_namespace, tmp_path):
    assert in_namespace(left_pending, tmp_path) == "pending"


def under_way(folder: Path) -> str:
    stage = fall_ill(folder, ADMINS)
    child = in_child(lambda: change(stage, confirmed=lambda _seconds: time.sleep(60) is None))
    wait_until(lambda: held() == AFTER)
    try:
        change(stage, {"net.ipv4.tcp_sack": "0"})
    except QuestionError as error:
        said = str(error)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert whole(stage) == "undone"
    return said.replace(str(child), "PID")


def test_two_at_once_are_refused_and_the_first_goes_on(in_namespace, tmp_path):
    said = in_namespace(under_way, tmp_path)
    assert said == "another tcpdoctor fix --apply is under way (pid PID); wait for it"

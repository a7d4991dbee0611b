"""`tcpdoctor lab` as it is typed: what it prints, where, and with which exit code."""

import json
import os
import pty
import re
import shutil
import subprocess

import pytest

from tcpdoctor.cli.lab import Pace, prove, tell
from tcpdoctor.cli.output import Output
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import NeverCameError
from tcpdoctor.lab.scenario import Asked, Broken, Cured, Scenario, Step
from tests.schemas import described

from .command import COMMAND, complaint, environment, tcpdoctor

NOBODY = 65534
WITHOUT_PROCESSES = 54_321
"""A user who runs nothing else, so that a limit of processes counts ours alone."""
SHORT = "fin-timeout-short"


def test_list_names_every_scenario():
    told = tcpdoctor("lab", "list")
    assert (told.returncode, told.stderr) == (0, "")
    lines = told.stdout.splitlines()
    assert set(LAB) <= set(lines)
    assert max(map(len, lines)) <= 80


def test_list_says_what_each_proves_as_json():
    answer = json.loads(tcpdoctor("lab", "list", "--format", "json").stdout)
    assert answer["schema"] == "tcpdoctor.lab/1"
    assert [entry["name"] for entry in answer["scenarios"]] == list(LAB)
    first = next(entry for entry in answer["scenarios"] if entry["name"] == "close-wait-unread")
    assert first["rules"] == ["close-wait-leak"]


@pytest.mark.parametrize("command", ["run", "prove"])
def test_a_name_that_is_misspelt_gets_the_nearest(command):
    line = complaint(tcpdoctor("lab", command, "fin-wait2-held-open"))
    assert "did you mean fin-wait-2-held-open?" in line


def test_a_rule_without_a_scenario_says_why():
    line = complaint(tcpdoctor("lab", "run", "memory/tcp-memory-nearly-full"))
    assert "belong to the whole machine" in line


def test_run_needs_a_name():
    assert "NAME" in complaint(tcpdoctor("lab", "run"))


# --- run ---


def test_run_tells_the_disease_its_finding_and_the_fix(in_namespace):
    told = tcpdoctor("lab", "run", f"config/{SHORT}")
    assert (told.returncode, told.stderr) == (0, "")
    places = [
        told.stdout.index(words)
        for words in (
            SHORT,
            "1. The disease",
            "$ tcpdoctor explain --sysctl tcp_fin_timeout",
            f"$ tcpdoctor check {SHORT}",
            "\nWARNING  ",
            "What does not help",
            "2. Fixed",
            "nothing wrong was found",
            "All went as told",
        )
    ]
    assert places == sorted(places)


def test_run_in_a_pipe_is_80_columns_wide_and_has_no_colour(in_namespace):
    told = tcpdoctor("lab", "run", "fin-wait-2-held-open").stdout
    assert [line for line in told.splitlines() if len(line) > 80] == []
    assert "\x1b" not in told
    assert "min_age = 500 ms instead of 2 min" in " ".join(told.split())
    assert "110 more are not shown" in told
    assert re.search(r"^All in FIN_WAIT_2:\nLOCAL +REMOTE +OWNER +AGE ", told, re.MULTILINE), "a row each"


def test_run_is_coloured_where_that_is_wanted(in_namespace):
    told = tcpdoctor("lab", "run", SHORT, "--color", "always").stdout
    assert "\x1b[1m1. The disease\x1b[0m" in told
    assert "\x1b[33mWARNING" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_an_ordinary_user_needs_no_root(in_namespace, user_namespace, tmp_path):
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    usable = [*become, *COMMAND, "--version"]
    if subprocess.run(
        usable, capture_output=True, env=environment(), cwd="/", check=False, timeout=120
    ).returncode:
        pytest.skip("another user may not run this installation")
    held = subprocess.Popen(
        [*become, *COMMAND, "lab", "run", "fin-wait-2-held-open", "--hold"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd="/",
    )
    told, _ = held.communicate("\n", timeout=60)
    assert held.returncode == 0
    assert " -U -n --preserve-credentials\n" in told
    assert "holds 113 sockets in FIN_WAIT_2" in " ".join(told.split())
    assert "All went as told" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a capability up")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_a_root_without_cap_sys_admin_gets_by_with_a_user_namespace(in_namespace, user_namespace):
    confined = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    command = [*confined, *COMMAND, "lab", "prove", SHORT]
    told = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=60)
    assert (told.returncode, told.stderr) == (0, "")
    assert "The scenario went as it should" in told.stdout


# --- prove ---


def test_prove_prints_a_line_for_each_rule(in_namespace):
    told = tcpdoctor("lab", "prove", SHORT, "fin-timeout-between-61-and-89", f"config/{SHORT}")
    assert (told.returncode, told.stderr) == (0, "")
    rows = [line.split() for line in told.stdout.splitlines()]
    assert rows[0] == ["RULE", "OR", "SCENARIO", "BROKEN", "FIX", "APPLIED", "SECONDS"]
    assert [row[:4] for row in rows[1:3]] == [
        [SHORT, "fired:", "warning", "clear"],
        ["fin-timeout-between-61-and-89", "fired:", "warning", "clear"],
    ]
    assert "2 of 2 scenarios went as they should on Linux" in told.stdout


def test_prove_as_json(in_namespace, tmp_path):
    file = tmp_path / "proof.json"
    told = tcpdoctor("lab", "prove", SHORT, "--format", "json", "--output", file)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    proof = described(file.read_text())
    assert (proof["schema"], proof["holds"], proof["kernel"]) == (
        "tcpdoctor.proof/1",
        True,
        os.uname().release,
    )
    (scenario,) = proof["scenarios"]
    assert scenario["broken"] == [{"what": SHORT, "wanted": "warning", "seen": "warning", "holds": True}]
    assert scenario["fixed"] == [{"what": SHORT, "wanted": "clear", "seen": "clear", "holds": True}]
    assert 0 < scenario["duration_s"] < 60


def test_run_as_json_is_what_prove_prints(in_namespace):
    ran = in_namespace(tcpdoctor, "lab", "run", SHORT, "--json")
    told = described(ran.stdout)
    assert (ran.returncode, told["schema"], told["holds"]) == (0, "tcpdoctor.proof/1", True)
    assert [one["name"] for one in told["scenarios"]] == [SHORT]
    assert "--hold" in complaint(tcpdoctor("lab", "run", SHORT, "--json", "--hold"))


def test_how_far_it_is_is_said_on_a_terminal_and_erased(in_namespace):
    terminal, stderr = pty.openpty()
    command = [*COMMAND, "lab", "prove", SHORT]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=stderr, env=environment(), check=True, timeout=120
    )
    os.close(stderr)
    said = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "0 of 1 done" in said
    assert said.endswith("\r\x1b[K")
    assert b" of 1 done" not in done.stdout


def refused(*arguments):
    """The command where no further network namespace may be made: a limit of this user namespace only."""
    script = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$0" "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, *COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=60)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare (util-linux) is not installed")
@pytest.mark.parametrize("arguments", [("lab", "prove"), ("lab", "run", SHORT)])
def test_where_no_namespace_is_to_be_had_one_line_says_so(in_namespace, user_namespace, arguments):
    answer = refused(*arguments)
    assert "max_net_namespaces" in complaint(answer)


READ_ONLY = """
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$0" "$@"
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare (util-linux) is not installed")
@pytest.mark.parametrize("arguments", [("lab", "prove"), ("lab", "run", SHORT)])
def test_where_settings_cannot_be_written_one_line_says_so(in_namespace, user_namespace, arguments):
    apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY]
    command = [*apart, *COMMAND, *arguments]
    answer = subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=False, timeout=60
    )
    assert "/proc/sys is mounted read-only" in complaint(answer)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit (util-linux) is not installed")
@pytest.mark.parametrize("arguments", [("lab", "prove", SHORT), ("lab", "run", SHORT)])
def test_where_no_process_may_be_forked_one_line_says_so(in_namespace, arguments):
    become = ["setpriv", f"--reuid={WITHOUT_PROCESSES}", f"--regid={NOBODY}", "--clear-groups"]
    usable = [*become, *COMMAND, "--version"]
    if subprocess.run(
        usable, capture_output=True, env=environment(), cwd="/", check=False, timeout=120
    ).returncode:
        pytest.skip("another user may not run this installation")
    limited = ["prlimit", "--nproc=1:1", *become, *COMMAND, *arguments]
    answer = subprocess.run(
        limited, capture_output=True, text=True, env=environment(), cwd="/", check=False, timeout=60
    )
    assert "no further process (ulimit -u)" in complaint(answer)


def test_a_hard_limit_of_descriptors_that_is_too_low_is_told(in_namespace):
    limited = ["sh", "-c", 'ulimit -n 64 && exec "$0" "$@"', *COMMAND, "lab", "prove", "close-wait-leak"]
    told = subprocess.run(limited, capture_output=True, text=True, env=environment(), check=False, timeout=60)
    assert (told.returncode, told.stderr) == (1, "")
    assert "descriptors, and the hard limit is 64 (ulimit -Hn)" in " ".join(told.stdout.split())


# --- proofs that fall short ---


def proof_of(*scenes, rules=(SHORT,)):
    def play():
        for scene in scenes:
            if isinstance(scene, int):
                write_sysctl("net.ipv4.tcp_fin_timeout", scene)
            else:
                yield scene

    (proven,) = prove([Scenario("a-story", "A story", play, rules)], ()).scenarios
    return proven


SICK = Broken("", fires={SHORT: "warning"}, window=0)
WELL = Cured("", window=0)


def test_a_disease_that_is_not_there_falls_short(in_namespace):
    proven = proof_of(SICK, WELL)
    assert not proven.holds
    assert [*proven.falls_short] == [f"broken: {SHORT} should be warning, and is clear"]


def test_a_fix_that_does_not_help_falls_short(in_namespace):
    proven = proof_of(5, SICK, WELL)
    assert [*proven.falls_short] == [f"fixed: {SHORT} should be clear, and is warning"]


def test_a_disease_that_is_milder_than_told_falls_short(in_namespace):
    proven = proof_of(5, SICK._replace(fires={SHORT: "critical"}), 60, WELL)
    assert [*proven.falls_short] == [f"broken: {SHORT} should be critical, and is warning"]


def test_a_story_without_a_fix_falls_short(in_namespace):
    assert [*proof_of(5, SICK).falls_short] == [f"fixed: {SHORT} was not looked at"]


def test_a_story_that_shows_nothing_falls_short(in_namespace):
    assert not proof_of(Step("nothing"), rules=()).holds


def test_a_rule_that_cannot_be_answered_is_not_clear(in_namespace):
    rate = "retransmissions-above-normal"
    proven = proof_of(Broken("", fires={rate: "info"}, window=0), Cured("", window=0), rules=(rate,))
    assert not proven.holds
    assert all("could not be checked" in said for said in [*proven.falls_short])


def test_an_answer_is_compared_with_what_was_foreseen(in_namespace):
    asked = Asked("", "explain --port 7001", {"bind.attempts.0.bind": "EADDRINUSE", "bind.nothing": 1})
    assert [*proof_of(asked, rules=()).falls_short] == [
        "broken: bind.attempts.0.bind should be EADDRINUSE, and is ok",
        "broken: bind.nothing should be 1, and is there is no nothing",
    ]


def story(*scenes):
    def play():
        for scene in scenes:
            if isinstance(scene, Exception):
                raise scene
            yield scene

    return Scenario("a-story", "A story", play, (SHORT,))


def test_a_story_that_does_not_go_as_told_says_where(in_namespace, capfd):
    code = tell(story(SICK), Output(), Pace())
    told = " ".join(capfd.readouterr().out.split())
    assert code == 1
    assert f"Not as told: {SHORT} should be warning, and is clear" in told
    assert f"It did not go as told: - step 1: {SHORT} should be warning" in told


def test_lowered_limits_of_several_rules_are_told_apart(in_namespace, capfd):
    leak, held = "close-wait-leak", "fin-wait-2-held-open"
    scene = Broken("", fires={leak: "info"}, limits={held: {"min_age": 0.5}, leak: {"min_age": 0.5}})
    tell(story(scene._replace(window=0)), Output(), Pace())
    told = " ".join(capfd.readouterr().out.split())
    assert (
        f"min_age = 500 ms instead of 2 min ({held}) and min_age = 500 ms instead of 60 s ({leak})." in told
    )


def test_a_story_that_breaks_off_says_why(in_namespace, capfd):
    code = tell(story(Step("It begins."), NeverCameError("not within 10 s: rain")), Output(), Pace())
    told = capfd.readouterr().out
    assert code == 1
    assert "1. Set up\nIt begins.\n" in told
    assert "the story broke off: not within 10 s: rain" in told

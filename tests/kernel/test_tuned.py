"""What TuneD's active profile sets, from trees of files as TuneD has them."""

from pathlib import Path

from tcpdoctor.diagnosis.sysctl_look import Placed, Source, Sources, Write, origin
from tcpdoctor.kernel.sysctl_files import Line, read_boot_settings
from tcpdoctor.kernel.tuned import read_reapplied, read_tuned
from tests.pace import is_done_within

LATENCY = """
[main]
summary=Low latency
include=base, -not-there

[sysctl]
# a comment = 1
net.ipv4.tcp_fastopen=3   # another
net.core.busy_poll = 50
net.core.somaxconn=>2048
"""
BASE = "[sysctl]\nnet.ipv4.tcp_fastopen=1\nnet.ipv4.tcp_retries2 = 9\n[vm]\nnet.ipv4.tcp_sack=0\n"


def host(root: Path, **changed: str) -> str:
    files = {
        "etc/tuned/active_profile": "latency\n",
        "usr/lib/tuned/latency/tuned.conf": LATENCY,
        "usr/lib/tuned/base/tuned.conf": BASE,
        **changed,
    }
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return str(root)


def values(root: str) -> dict[str, str]:
    tuned = read_tuned(root)
    return {path: setting.value for path, setting in tuned.settings.items()}


def test_without_an_active_profile_there_is_nothing(tmp_path):
    assert read_tuned(str(tmp_path)) is None
    assert read_tuned(host(tmp_path, **{"etc/tuned/active_profile": "\n"})) is None


def test_what_is_included_comes_first_and_is_overridden(tmp_path):
    root = host(tmp_path)
    assert values(root) == {
        "net/ipv4/tcp_fastopen": "3",
        "net/ipv4/tcp_retries2": "9",
        "net/core/busy_poll": "50",
        "net/core/somaxconn": "2048",
    }
    tuned = read_tuned(root)
    fastopen = tuned.settings["net/ipv4/tcp_fastopen"]
    assert (fastopen.file, fastopen.line) == ("/usr/lib/tuned/latency/tuned.conf", 8)
    assert tuned.settings["net/core/somaxconn"].bound == ">"
    assert (tuned.profile, tuned.running, tuned.reapplies, tuned.missing) == ("latency", False, True, ())


def test_a_section_that_says_that_it_sets_sysctls_does_so_unless_it_is_off(tmp_path):
    text = (
        "[mine]\ntype=sysctl\nnet.ipv4.tcp_sack=0\n[sysctl]\nenabled=false\nnet.ipv4.tcp_ecn=1\n"
        "[vm]\ntype=vm\nnet.ipv4.tcp_dsack=0\n"
    )
    root = host(tmp_path, **{"usr/lib/tuned/latency/tuned.conf": text})
    assert values(root) == {"net/ipv4/tcp_sack": "0"}


def test_the_administrators_folder_comes_first(tmp_path):
    root = host(tmp_path, **{"etc/tuned/base/tuned.conf": "[sysctl]\nnet.ipv4.tcp_retries2=11\n"})
    assert values(root)["net/ipv4/tcp_retries2"] == "11"


def test_replace_drop_and_the_main_configuration_are_heeded(tmp_path):
    only = LATENCY.replace("[sysctl]", "[sysctl]\nreplace=1")
    assert "net/ipv4/tcp_retries2" not in values(host(tmp_path, **{"usr/lib/tuned/latency/tuned.conf": only}))
    dropped = LATENCY.replace("[sysctl]", "[sysctl]\ndrop=net.ipv4.tcp_retries2")
    assert "net/ipv4/tcp_retries2" not in values(
        host(tmp_path, **{"usr/lib/tuned/latency/tuned.conf": dropped})
    )
    changed = {
        "etc/tuned/tuned-main.conf": "# reapply_sysctl = 1\nreapply_sysctl = 0\n",
        "run/tuned/tuned.pid": "1",
    }
    tuned = read_tuned(host(tmp_path, **changed))
    assert (tuned.reapplies, tuned.running) == (False, True)


def test_a_profile_that_is_not_there_is_said_and_a_circle_ends(tmp_path):
    tuned = read_tuned(host(tmp_path, **{"etc/tuned/active_profile": "latency other"}))
    assert tuned.missing == ("other: no such profile",)
    circle = {"usr/lib/tuned/base/tuned.conf": "[main]\ninclude=latency\n[sysctl]\na.b=1\n"}
    assert values(host(tmp_path, **circle))["a/b"] == "1"


def test_tuned_reads_the_files_again_in_its_own_way(tmp_path):
    root = host(
        tmp_path,
        **{
            "etc/sysctl.d/10-a.conf": "net.ipv4.tcp_sack = 0\n",
            "run/sysctl.d/10-a.conf": "# x\nnet.ipv4.tcp_sack = 1\n-net.ipv4.tcp_dsack = 0\n",
            "etc/sysctl.conf": "net.ipv4.tcp_ecn=1\n",
            "usr/lib/sysctl.d/10-b.conf": "net.ipv4.tcp_frto = 0\n",
        },
    )
    assert [(each.path, each.value, each.file, each.line) for each in read_reapplied(root)] == [
        ("net/ipv4/tcp_sack", "1", "/run/sysctl.d/10-a.conf", 2),
        ("-net/ipv4/tcp_dsack", "0", "/run/sysctl.d/10-a.conf", 3),
        ("net/ipv4/tcp_ecn", "1", "/etc/sysctl.conf", 1),
    ]


def test_settings_of_the_kernels_command_line_are_found(tmp_path):
    line = tmp_path / "cmdline"
    line.write_text("ro quiet sysctl.net.ipv4.tcp_sack=0 sysctl/kernel/x=1 sysctlx=1\n")
    assert read_boot_settings(str(line)) == {"net/ipv4/tcp_sack": "0", "kernel/x": "1"}
    assert read_boot_settings(str(tmp_path / "nothing")) == {}


FASTOPEN = "net/ipv4/tcp_fastopen"


def file_says(value: str) -> dict[str, Write]:
    line = Line(4, "net.ipv4.tcp_fastopen", FASTOPEN, value)
    return {FASTOPEN: Write(FASTOPEN, value, Placed("/usr/lib/sysctl.d/10.conf", line))}


def test_the_last_of_a_boot_that_says_what_runs_is_the_owner(tmp_path):
    tuned = read_tuned(host(tmp_path))
    again = {FASTOPEN: Source("file", "/etc/sysctl.d/20.conf", 2, "7")}
    sources = Sources({FASTOPEN: "0"}, [file_says("1"), file_says("1")], tuned, again)

    def kind(running: str, given: Sources = sources) -> tuple[str | None, str | None]:
        found = origin(FASTOPEN, running, given)
        return found.by and found.by.kind, found.later and found.later.value

    assert kind("7") == ("file", None)
    assert kind("3") == ("tuned", "7")
    assert kind("1") == ("file", "7")
    assert kind("0") == ("command line", "7")
    assert kind("9") == (None, "7")
    assert kind("3", sources._replace(tuned=tuned._replace(reapplies=False))) == ("tuned", None)
    assert kind("1", sources._replace(tuned=None)) == ("file", None)


def test_a_bounded_setting_of_tuned_need_not_have_been_written(tmp_path):
    tuned = read_tuned(host(tmp_path))
    nothing = Sources({}, [], tuned, {})
    assert origin("net/core/somaxconn", "4096", nothing) == (None, None)
    assert origin("net/core/somaxconn", "2048", nothing).by.kind == "tuned"
    assert origin("net/core/somaxconn", "128", nothing).later.value == "2048"


def test_a_megabyte_of_blanks_is_read_at_once(tmp_path):
    wide = " " * 300_000
    profile = f"[main]\ninclude=base{wide}x\n[sysctl]\ndrop=a{wide}b\n" + "\n" * 300_000
    root = host(
        tmp_path,
        **{"usr/lib/tuned/latency/tuned.conf": profile, "etc/tuned/tuned-main.conf": "\n" * 300_000},
    )
    found = []
    assert is_done_within(5, lambda: found.append(read_tuned(root).reapplies))
    assert all(found)


def test_variables_of_a_profile_are_what_it_says_they_are(tmp_path):
    texts = {
        "usr/lib/tuned/base/tuned.conf": (
            "[variables]\nretries=9\nsack=1\n[sysctl]\nnet.ipv4.tcp_retries2=${retries}\n"
        ),
        "usr/lib/tuned/latency/tuned.conf": (
            "[main]\ninclude=base\n[variables]\ninclude=/etc/tuned/mine.conf\nwidth=${half}\\t61000\n"
            "[sysctl]\nnet.ipv4.tcp_sack=${sack}\nnet.core.somaxconn=>${long}\nnet.ipv4.tcp_ecn=${none}\n"
            "net.ipv4.tcp_frto=${f:exec:cat:/x}\n"
        ),
        "etc/tuned/mine.conf": "# of this host\nretries = 11\nlong=2048\n",
    }
    root = host(tmp_path, **texts)
    tuned = read_tuned(root)
    assert {path.rpartition("/")[2]: each.value for path, each in tuned.settings.items()} == {
        "tcp_retries2": "11",
        "tcp_sack": "1",
        "somaxconn": "2048",
        "tcp_ecn": "${none}",
        "tcp_frto": "${f:exec:cat:/x}",
    }
    assert tuned.settings["net/core/somaxconn"].bound == ">"


def test_what_tuned_computes_is_its_own_where_nothing_else_says_what_runs(tmp_path):
    text = "[sysctl]\nnet.ipv4.tcp_fastopen=${f:exec:cat:/x}\n"
    tuned = read_tuned(host(tmp_path, **{"usr/lib/tuned/latency/tuned.conf": text}))
    sources = Sources({}, [file_says("1")], tuned._replace(reapplies=False), {})
    assert [origin(FASTOPEN, running, sources).by.kind for running in ("1", "3")] == ["file", "tuned"]
    assert origin(FASTOPEN, "1", sources).later.value == "${f:exec:cat:/x}"

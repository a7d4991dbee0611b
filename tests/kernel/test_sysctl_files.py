"""Which files of settings are read, and what their lines say, from trees and literals."""

import os
from pathlib import Path

import pytest

from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.sysctl_value import port_ranges, written_numbers
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl import look_at, matching
from tcpdoctor.kernel.sysctl_files import (
    LARGEST,
    LONGEST_LINE,
    MOST_LINES,
    Dangling,
    Reader,
    dotted,
    read_given,
    read_lines,
    read_tree,
    resolve,
)

BOTH = pytest.mark.parametrize("reader", Reader)


def put(root: Path, path: str, content: str | bytes = "net.ipv4.tcp_sack = 1\n") -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    return place


def link(root: Path, path: str, target: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def names(root: Path, reader: Reader) -> list[str]:
    return [os.path.relpath(file.path, root) for file in read_tree(str(root)).of(reader)]


def test_files_come_by_name_and_of_one_name_the_first_folders(tmp_path):
    put(tmp_path, "usr/lib/sysctl.d/10-b.conf")
    put(tmp_path, "etc/sysctl.d/20-a.conf")
    put(tmp_path, "run/sysctl.d/10-b.conf")
    put(tmp_path, "usr/local/lib/sysctl.d/05-c.conf")
    put(tmp_path, "etc/sysctl.d/notes.txt")
    expected = ["usr/local/lib/sysctl.d/05-c.conf", "run/sysctl.d/10-b.conf", "etc/sysctl.d/20-a.conf"]
    assert names(tmp_path, Reader.SYSTEMD) == names(tmp_path, Reader.PROCPS) == expected
    tree = read_tree(str(tmp_path))
    assert tree.files[1].hides == (str(tmp_path / "usr/lib/sysctl.d/10-b.conf"),)
    assert [skipped.name for skipped in tree.skipped] == ["notes.txt"]


def test_names_are_sorted_by_their_bytes(tmp_path):
    for name in ("a.conf", "B.conf", "\u00e9.conf", "10.conf", "9.conf"):
        put(tmp_path, f"etc/sysctl.d/{name}")
    expected = ["10.conf", "9.conf", "B.conf", "a.conf", "\u00e9.conf"]
    assert [os.path.basename(path) for path in names(tmp_path, Reader.PROCPS)] == expected


def test_the_readers_differ_in_sysctl_conf_and_in_hidden_files(tmp_path):
    put(tmp_path, "etc/sysctl.conf")
    put(tmp_path, "etc/sysctl.d/.hidden.conf")
    assert names(tmp_path, Reader.SYSTEMD) == []
    assert names(tmp_path, Reader.PROCPS) == ["etc/sysctl.d/.hidden.conf", "etc/sysctl.conf"]
    assert not read_tree(str(tmp_path)).links_last()
    link(tmp_path, "etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")
    assert read_tree(str(tmp_path)).links_last()


def test_a_link_to_dev_null_masks_and_a_link_to_nothing_hides_too(tmp_path):
    put(tmp_path, "usr/lib/sysctl.d/a.conf")
    put(tmp_path, "usr/lib/sysctl.d/b.conf")
    link(tmp_path, "etc/sysctl.d/a.conf", "/dev/null")
    link(tmp_path, "etc/sysctl.d/b.conf", "nowhere")
    mask, nothing = read_tree(str(tmp_path)).files
    assert (mask.mask, mask.content) == (True, b"")
    assert isinstance(nothing.content, Dangling)
    assert nothing.hides


def test_links_are_followed_below_the_root_and_never_out_of_it(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "secret.conf"
    outside.write_text("net.ipv4.tcp_sack = 0\n")
    put(root, "opt/real.conf", "kernel.x = 1\n")
    link(root, "etc/sysctl.d/a.conf", "/opt/real.conf")
    link(root, "etc/sysctl.d/b.conf", "../../../../../secret.conf")
    link(root, "etc/sysctl.d/c.conf", str(outside))
    link(root, "etc/sysctl.d/d.conf", "d.conf")
    inside, *others = read_tree(str(root)).files
    assert inside.content == b"kernel.x = 1\n"
    assert all(isinstance(other.content, Missing) for other in others)
    assert resolve(str(root / "etc/sysctl.d/a.conf"), str(root)) == str(root / "opt/real.conf")


def test_lib_is_read_once_where_it_is_usr_lib(tmp_path):
    put(tmp_path, "usr/lib/sysctl.d/a.conf")
    link(tmp_path, "lib", "usr/lib")
    assert names(tmp_path, Reader.PROCPS) == ["usr/lib/sysctl.d/a.conf"]
    assert read_tree(str(tmp_path)).files[0].hides == ()
    other = tmp_path / "split"
    put(other, "lib/sysctl.d/a.conf")
    assert names(other, Reader.PROCPS) == ["lib/sysctl.d/a.conf"]


def test_what_is_no_file_is_said_and_never_opened(tmp_path):
    (tmp_path / "etc/sysctl.d/a.conf").mkdir(parents=True)
    os.mkfifo(tmp_path / "etc/sysctl.d/b.conf")
    put(tmp_path, "etc/sysctl.d/c.conf", b"#" * (LARGEST + 1))
    reasons = [file.content for file in read_tree(str(tmp_path)).files]
    assert reasons == [
        Missing("it is a folder, and no file"),
        Missing("it is a pipe, and no file"),
        Missing("it is longer than 4 MiB"),
    ]


def test_a_given_file_has_to_be_there(tmp_path):
    with pytest.raises(QuestionError, match="no such file; give a file of settings"):
        read_given([str(tmp_path / "nothing")])
    with pytest.raises(QuestionError, match="no such folder; give the root"):
        read_tree(str(tmp_path / "nothing"))


def settings(text: str | bytes, reader: Reader) -> list[tuple[str | None, str | None]]:
    raw = text if isinstance(text, bytes) else text.encode()
    return [(line.path, line.value) for line in read_lines(raw, reader).lines]


@BOTH
@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("net.ipv4.tcp_sack=1", "net/ipv4/tcp_sack", "1"),
        ("  net.ipv4.tcp_sack \t=\t 1  2 ", "net/ipv4/tcp_sack", "1  2"),
        ("net/ipv4/conf/eth0.1/rp_filter = 1", "net/ipv4/conf/eth0.1/rp_filter", "1"),
        ("net.ipv4.conf.eth0/1.rp_filter = 1", "net/ipv4/conf/eth0.1/rp_filter", "1"),
        ("a.b = 9 # note", "a/b", "9 # note"),
        ("a.b = x = y", "a/b", "x = y"),
        ("-a.b = 1", "a/b", "1"),
        ("-a.b", "a/b", None),
        ("a.b =", "a/b", ""),
        ("a.b = \u00e9", "a/b", "\u00e9"),
        ("net ipv4 1", None, None),
    ],
)
def test_a_line_is_read_alike_by_both(reader, text, path, value):
    assert settings(text, reader) == [(path, value)]


@BOTH
def test_comments_and_empty_lines_are_no_lines(reader):
    assert settings("# a = 1\n  ; b = 1\n\n   \n#\n", reader) == []


@pytest.mark.parametrize(
    ("text", "systemd", "procps"),
    [
        (b"a.b = 1\rc.d = 2", [("a/b", "1"), ("c/d", "2")], [("a/b", "1\rc.d = 2")]),
        (b"a.b = 1\0c.d = 2\n", [("a/b", "1"), ("c/d", "2")], [("a/b", "1")]),
        (b"- a.b = 1", [("a/b", "1")], [(" a/b", "1")]),
        (b"--a.b = 1", [("-a/b", "1")], [("a/b", "1")]),
        (b"/a..b = 1", [("a..b", "1")], [("/a..b", "1")]),
        (b"a..b = 1", [("a/b", "1")], [("a//b", "1")]),
        (b"x", [(None, None)], []),
    ],
)
def test_where_the_readers_part(text, systemd, procps):
    assert (settings(text, Reader.SYSTEMD), settings(text, Reader.PROCPS)) == (systemd, procps)


def test_ways_out_of_proc_sys_are_refused():
    (systemd,) = read_lines(b"net/../../x = 1", Reader.SYSTEMD).lines
    (procps,) = read_lines(b"net/../../x = 1", Reader.PROCPS).lines
    assert (systemd.refused, procps.refused) == (True, True)
    (inside,) = read_lines(b"net/../net/x = 1", Reader.PROCPS).lines
    assert (inside.refused, inside.target) == (False, "net/x")


def test_lines_are_numbered_as_an_editor_does():
    text = b"# one\r\n\na.b = 1\r\n\rc.d = 2\ne.f = 3"
    assert [line.number for line in read_lines(text, Reader.SYSTEMD).lines] == [3, 4, 5]
    assert [line.number for line in read_lines(text, Reader.PROCPS).lines] == [3, 4, 5]


def test_systemd_ends_at_a_line_that_is_too_long_and_procps_does_not():
    text = b"a.b = 1\n" + b"#" * LONGEST_LINE + b"\nc.d = 2\n"
    assert read_lines(text, Reader.SYSTEMD).ends_at == 2
    assert len(read_lines(text, Reader.SYSTEMD).lines) == 1
    assert len(read_lines(text, Reader.PROCPS).lines) == 2


def test_a_place_has_its_name_back():
    assert dotted("net/ipv4/conf/eth0.1/rp_filter") == "net.ipv4.conf.eth0/1.rp_filter"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("net/*/a", ["net/one/a", "net/two/a"]),
        ("net/[!o]*/a", ["net/two/a"]),
        ("net/[^o]*/a", ["net/two/a"]),
        ("net/t?o/a", ["net/two/a"]),
        ("net/[n-z]*/[ab]", ["net/one/a", "net/two/a"]),
        ("net/\\o\\ne/a", ["net/one/a"]),
        ("net/[/a", []),
        ("net/[z-a]*/a", []),
        ("net/*/b", []),
        ("*/.h/a", ["net/.h/a"]),
    ],
)
def test_a_glob_stands_for_what_glob_finds(tmp_path, pattern, expected):
    for place in ("net/one", "net/two", "net/.h"):
        put(tmp_path, f"{place}/a")
    assert list(matching(pattern, str(tmp_path))) == expected


def test_a_setting_is_looked_at_as_a_file(tmp_path):
    put(tmp_path, "net/a", "1\t2   3\n").chmod(0o444)
    put(tmp_path, "net/flush", "0\n").chmod(0o200)
    put(tmp_path, "net/ipv4/tcp_fastopen_key", "1-2-3-4\n")
    assert look_at("net/a", str(tmp_path)) == (True, False, "1 2 3")
    assert look_at("net/flush", str(tmp_path)).value == Missing("it can only be written")
    assert "never read" in look_at("net/ipv4/tcp_fastopen_key", str(tmp_path)).value.reason
    assert look_at("net", str(tmp_path)).exists is False
    assert look_at("net/\0", str(tmp_path)).exists is False


def test_nothing_outside_is_ever_looked_at(tmp_path):
    root, secret = tmp_path / "sys", put(tmp_path, "etc/shadow", "root:$6$")
    put(tmp_path, "sys/net/ipv4/tcp_sack", "1\n")
    (root / "net/out").symlink_to(tmp_path / "etc")
    (root / "net/link").symlink_to(secret)
    ways = (
        "net/../../etc/shadow",
        "../etc/shadow",
        str(secret),
        "net/out/shadow",
        "net/link",
        "net/./ipv4",
        "",
    )
    for way in (*ways, "net//ipv4/tcp_sack", "net/ipv4/../ipv4/tcp_sack"):
        found = look_at(way, str(root))
        assert (found.exists, found.writable, isinstance(found.value, Missing)) == (False, False, True), way
    for pattern in ("../etc/*", "net/../../etc/sh*", "*/../../etc/shadow", "net/*/../../../etc/*"):
        assert matching(pattern, str(root)) == (), pattern
    assert matching("net/../net/ipv4/*", str(root)) == ("net/ipv4/tcp_sack",)
    assert look_at("net/ipv4/tcp_sack", str(root)).value == "1"


def test_a_pipe_in_the_tree_does_not_block(tmp_path):
    (tmp_path / "net").mkdir()
    os.mkfifo(tmp_path / "net/pipe")
    assert look_at("net/pipe", str(tmp_path)).exists is False


def test_files_that_block_or_never_end_are_refused(tmp_path):
    endless = tmp_path / "endless.conf"
    with endless.open("wb") as file:
        file.truncate(3 << 30)  # sparse
    for path, reason in (
        ("/proc/kmsg", "waited for"),
        (str(endless), "longer than 4 MiB"),
        ("/dev/zero", "device"),
    ):
        with pytest.raises(QuestionError, match=reason):
            read_given([path])


def test_a_file_of_very_many_lines_is_refused(tmp_path):
    put(tmp_path, "x.conf", "a.b = 1\n" * MOST_LINES)
    (file,) = read_given([str(tmp_path / "x.conf")])
    assert len(read_lines(file.content, Reader.PROCPS).lines) == MOST_LINES
    put(tmp_path, "x.conf", "a.b = 1\n" * (MOST_LINES + 1))
    with pytest.raises(QuestionError, match="more than 20000 lines"):
        read_given([str(tmp_path / "x.conf")])


def test_a_long_number_is_none():
    assert written_numbers("9" * 5000, 1) is None
    assert written_numbers("0" * 20, 1) == (0,)
    assert written_numbers("0" * 21, 1) is None
    assert port_ranges("0" * 5000) is None


def test_a_glob_of_many_stars_ends(tmp_path):
    (tmp_path / ("a" * 60)).write_text("")
    assert matching("*a" * 40 + "b", str(tmp_path)) == ()
    assert matching("*a" * 40, str(tmp_path)) == ("a" * 60,)

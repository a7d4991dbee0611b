"""Files are read with limits on size and ownership, and written whole or not at all."""

import codecs
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from tcpdoctor.errors import ConfigError, RuleError
from tcpdoctor.kernel.files import list_files, read_text_file, replace_file, write_beside

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root distrusts other users' files")


def refusal(path, **options):
    with pytest.raises(ConfigError) as caught:
        read_text_file(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def rule(tmp_path):
    path = tmp_path / "rule.toml"
    path.write_text('title = "Grüße"\n', encoding="utf-8")
    path.chmod(0o644)
    return path


def test_reads_utf_8_text(rule):
    assert read_text_file(rule) == 'title = "Grüße"\n'
    assert read_text_file(str(rule), trusted_owner=False) == 'title = "Grüße"\n'


def test_raises_what_the_caller_asks_for(tmp_path):
    with pytest.raises(RuleError, match=r"absent\.toml: no such file or directory"):
        read_text_file(tmp_path / "absent.toml", error=RuleError)


def test_a_relative_path_is_read_as_well(rule, monkeypatch):
    monkeypatch.chdir(rule.parent)
    assert read_text_file("./rule.toml") == read_text_file("../" + rule.parent.name + "/rule.toml")


def test_a_long_file_is_refused(rule):
    assert read_text_file(rule, limit_bytes=18)
    assert refusal(rule, limit_bytes=17) == f"{rule}: longer than 17 bytes; is it the right file?"


def test_a_byte_order_mark_is_no_part_of_the_text(rule):
    rule.write_text("a = 1\n", encoding="utf-8-sig")
    assert read_text_file(rule) == "a = 1\n"


def test_text_that_is_no_utf_8_is_refused_with_its_line(rule):
    rule.write_bytes(b"a\nb\nc\xe9\n")
    assert refusal(rule) == f"{rule} line 3: not UTF-8 text; save it as UTF-8"


def test_a_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(tmp_path / "pipe") == f"{tmp_path}/pipe: a pipe, where a regular file is expected"


def test_a_folder_and_a_device_are_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: a folder, where a regular file is expected"
    assert (
        refusal("/dev/zero", trusted_owner=False) == "/dev/zero: a device, where a regular file is expected"
    )


@pytest.mark.parametrize("path", ["/proc/kmsg", "/proc/self/status"])
def test_a_file_of_proc_is_refused_without_being_read(path):
    assert refusal(path) == f"{path}: a file of /proc, where a regular file is expected"


def test_what_cannot_be_a_name_is_refused(tmp_path):
    assert "cannot be a file name" in refusal("a\0b")
    assert "cannot be a file name" in refusal("a\ud800b", trusted_owner=False)
    assert "file name too long" in refusal(tmp_path / ("x" * 300))


def test_a_hostile_name_is_cleaned_in_the_message(tmp_path):
    assert "\x1b" not in refusal(tmp_path / "a\x1b[2J")


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert "too many levels of symbolic links" in refusal(tmp_path / "loop")


def test_links_are_followed(rule, tmp_path):
    (tmp_path / "absolute").symlink_to(rule)
    (tmp_path / "relative").symlink_to("../" + tmp_path.name + "/absolute")
    assert read_text_file(tmp_path / "relative") == read_text_file(rule)


def test_a_file_used_as_a_folder_is_refused(rule):
    assert "not a directory" in refusal(rule / "x")


@as_root
@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_root_refuses_a_file_that_others_can_write(rule, mode):
    rule.chmod(mode)
    assert f"others can write {rule} (mode {mode:04o})" in refusal(rule)
    assert read_text_file(rule, trusted_owner=False)


@as_root
def test_root_refuses_another_users_file(rule):
    os.chown(rule, 1234, 0)
    assert f"{rule} (mode 0644) belongs to uid 1234" in refusal(rule)


@as_root
def test_root_refuses_a_file_in_a_folder_that_others_can_write(rule):
    rule.parent.chmod(0o777)
    assert f"others can write {rule.parent} (mode 0777)" in refusal(rule)
    rule.parent.chmod(0o1777)  # as /tmp: nobody can exchange root's file there
    assert read_text_file(rule)


@as_root
def test_root_refuses_a_file_below_another_users_folder(tmp_path):
    nested = tmp_path / "home" / "rules"
    nested.mkdir(parents=True)
    (nested / "rule.toml").write_text("")
    os.chown(tmp_path / "home", 1234, 1234)
    assert f"{tmp_path}/home (mode 0755) belongs to uid 1234" in refusal(nested / "rule.toml")


@as_root
def test_root_refuses_another_users_link_to_a_good_file(rule, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(rule)
    os.chown(link, 1234, 1234, follow_symlinks=False)
    assert f"{link} (mode 0777) belongs to uid 1234" in refusal(link)


@as_root
def test_a_link_into_a_bad_folder_is_refused(tmp_path):
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir(mode=0o700)
    good.mkdir()
    (bad / "rule.toml").write_text("")
    os.chown(bad, 1234, 1234)
    (good / "rule.toml").symlink_to(bad / "rule.toml")
    assert "belongs to uid 1234" in refusal(good / "rule.toml")


@as_root
def test_an_ordinary_user_reads_his_own_files(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "rule.toml").write_text("x = 1\n")
    (folder / "rule.toml").chmod(0o666)
    for path in (folder, folder / "rule.toml"):
        os.chown(path, 1234, 1234)
    codecs.lookup("utf-8-sig")  # which comes from a file that this user may not be able to read
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            os.setuid(1234)
            text = read_text_file("rule.toml")
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        assert stream.read() == "x = 1\n"
    os.waitpid(child, 0)


def test_lists_files_by_suffix_in_order_and_below(tmp_path):
    for name in ("b.toml", "a.toml", "close/z.toml", "notes.txt", ".hidden.toml", ".git/x.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    listed = list_files(tmp_path, ".toml")
    assert [str(path.relative_to(tmp_path)) for path in listed] == ["a.toml", "b.toml", "close/z.toml"]


def test_a_folder_that_is_not_there_is_refused(tmp_path, rule):
    with pytest.raises(RuleError, match="no such file or directory"):
        list_files(tmp_path / "absent", ".toml", error=RuleError)
    with pytest.raises(ConfigError, match="a file, where a folder is expected"):
        list_files(rule, ".toml")


@as_root
def test_root_refuses_to_list_another_users_folder(tmp_path):
    (tmp_path / "close").mkdir()
    os.chown(tmp_path / "close", 1234, 1234)
    with pytest.raises(ConfigError, match="belongs to uid 1234"):
        list_files(tmp_path, ".toml")


def names(folder):
    return sorted(os.listdir(folder))


def test_writes_a_new_file_with_the_usual_mode(tmp_path):
    before = os.umask(0o027)
    try:
        write_beside(tmp_path / "out.json", "Grüße\n")
    finally:
        os.umask(before)
    assert (tmp_path / "out.json").read_text(encoding="utf-8") == "Grüße\n"
    assert stat.S_IMODE((tmp_path / "out.json").stat().st_mode) == 0o640
    assert names(tmp_path) == ["out.json"]


def test_replaces_a_file_and_keeps_its_mode(rule):
    rule.chmod(0o604)
    inode = rule.stat().st_ino
    write_beside(rule, "new")
    assert rule.read_text() == "new"
    assert stat.S_IMODE(rule.stat().st_mode) == 0o604
    assert rule.stat().st_ino != inode


def test_a_link_stays_a_link(rule, tmp_path):
    (tmp_path / "link").symlink_to(rule.name)
    write_beside(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert rule.read_text() == "new"


def test_a_name_without_a_folder_is_in_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_beside("out", "x")
    assert names(tmp_path) == ["out"]


def test_a_device_is_written_and_stays_a_device():
    write_beside("/dev/null", "x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_pipe_gets_the_text(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_beside(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("name", ["absent/out", ".", "pipe", "x" * 255 + "y"])
def test_a_failure_leaves_nothing_behind(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")  # without a reader
    with pytest.raises(ConfigError) as caught:
        write_beside(tmp_path / name, "x")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["pipe"]


def test_a_full_disk_leaves_the_old_file(tmp_path, rule):
    def fill() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            write_beside(rule, "x" * 1000)
        except ConfigError:
            os._exit(7)
        os._exit(0)

    child = os.fork()
    if child == 0:
        fill()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert rule.read_text(encoding="utf-8") == 'title = "Grüße"\n'
    assert names(tmp_path) == ["rule.toml"]


def test_folders_without_end_are_refused_in_one_line(tmp_path):
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(61):
        os.mkdir("a", dir_fd=place)
        inner = os.open("a", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    with pytest.raises(ConfigError, match="more than 40 folders deep"):
        list_files(tmp_path, ".toml")


def test_a_file_never_stays_set_user_id(rule):
    rule.chmod(0o6755)
    write_beside(rule, "new")
    assert stat.S_IMODE(rule.stat().st_mode) == 0o755


def write_refused(path):
    with pytest.raises(ConfigError) as caught:
        write_beside(path, "x")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@as_root
def test_root_writes_through_no_link_of_somebody_elses(rule, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "report"
    link.symlink_to(rule)
    os.lchown(link, 1234, 1234)
    assert "belongs to uid 1234" in write_refused(link)
    link.unlink()
    link.symlink_to(shared / "second")
    (shared / "second").symlink_to(tmp_path / "theirs" / "x")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1234, 1234)
    (tmp_path / "theirs" / "x").write_text("")
    assert "belongs to uid 1234" in write_refused(link), "root's own link leads to their folder"
    assert rule.read_text(encoding="utf-8") == 'title = "Gr\u00fc\u00dfe"\n'


@as_root
def test_root_writes_in_no_folder_of_somebody_elses_and_says_where_to(tmp_path):
    theirs = tmp_path / "theirs" / "inner"
    theirs.mkdir(parents=True)
    os.chown(theirs.parent, 1234, 1234)
    said = write_refused(theirs / "out.prom")
    assert f"{theirs.parent} (mode 0755) belongs to uid 1234" in said
    assert said.endswith(
        "write into a folder of root's, such as /var/lib/tcpdoctor, and link to the file from there"
    )
    assert names(theirs) == []


@as_root
def test_root_replaces_somebody_elses_file_by_its_own(tmp_path):
    tmp_path.chmod(0o1777)
    theirs = tmp_path / "report"
    theirs.write_text("theirs")
    theirs.chmod(0o666)
    os.chown(theirs, 1234, 1234)
    write_beside(theirs, "ours")
    status = theirs.stat()
    assert (theirs.read_text(), status.st_uid, stat.S_IMODE(status.st_mode) & 0o022) == ("ours", 0, 0)


def test_signals_leave_the_old_or_the_new_file_and_nothing_else(tmp_path):
    """Killed again and again at some moment of the writing; a whole text is there each time."""
    path = tmp_path / "out"
    text = "0123456789\n" * 20_000
    path.write_text(text)
    for number in range(23):
        child = os.fork()
        if child == 0:
            while True:
                write_beside(path, text)
        time.sleep(0.002 * (number % 5))  # another moment each time; none is right or wrong
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        assert path.read_text() == text
        assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("before", [[], ["out"]], ids=["new", "replaced"])
def test_sigkill_amid_the_writing_leaves_nothing(tmp_path, before):
    for name in before:
        (tmp_path / name).write_text("the old one")

    def parts():
        yield b"0123456789" * 100_003
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        replace_file(str(tmp_path / "out"), parts(), None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert names(tmp_path) == before


def test_the_umask_holds_for_a_file_that_is_named_last(tmp_path):
    old = os.umask(0o027)
    try:
        replace_file(str(tmp_path / "new"), b"text", None)
        replace_file(str(tmp_path / "private"), b"text", 0o600)
    finally:
        os.umask(old)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
        "new": 0o640,
        "private": 0o600,
    }


def test_a_folder_that_has_no_files_without_a_name_is_written_into_as_well(tmp_path):
    """FAT has none, as NFS: EOPNOTSUPP. Here: /proc is not there, and without it none can be named."""
    told = subprocess.run(
        [
            *("unshare", "--mount", sys.executable, "-c"),
            (
                "import subprocess, sys\n"
                "subprocess.run(['mount', '-t', 'tmpfs', 'none', '/proc'], check=True)\n"
                "from tcpdoctor.kernel.files import replace_file\n"
                "for text in b'old', b'new': replace_file(sys.argv[1], text, None)"
            ),
            str(tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert ((tmp_path / "out").read_text(), names(tmp_path)) == ("new", ["out"])


def test_readers_see_the_old_or_the_new_text_whole(tmp_path):
    path = tmp_path / "out"
    texts = {"a" * 100_000, "b" * 70_000}
    path.write_text(min(texts))
    stop = threading.Event()

    def write_until_stopped() -> None:
        while not stop.is_set():
            for text in sorted(texts):
                write_beside(path, text)

    writer = threading.Thread(target=write_until_stopped)
    writer.start()
    try:
        assert {path.read_text() for _ in range(300)} <= texts
    finally:
        stop.set()
        writer.join()

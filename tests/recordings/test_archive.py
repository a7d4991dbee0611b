"""Archives and folders that somebody else made: read without trust, in memory, within bounds."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import tarfile
import tracemalloc

import pytest

from tcpdoctor.errors import SnapshotError
from tcpdoctor.recordings import archive
from tcpdoctor.recordings.archive import read_archive, read_folder
from tests.pace import is_done_within

PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.xz": lzma.compress, "tar.bz2": bz2.compress}
TOP = "sosreport-host-2026"


def wanted(name):
    return name.startswith(("proc/net/", "sos_commands/", "proc/11/net/"))


def member(name, data=b"", kind=tarfile.REGTYPE, leads_to="", **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mtime = kind, leads_to, len(data), 1_700_000_003
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def tar_of(members, form=tarfile.GNU_FORMAT):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def report(*more, top=TOP):
    return [
        member(f"{top}/proc/net/tcp", b"seventeen\n"),
        member(f"{top}/sos_commands/memory/free_-m", b"nineteen\n"),
        member(f"{top}/var/log/messages", b"x" * 700),
        *more,
    ]


@pytest.fixture
def read(tmp_path):
    def reader(data, at_top=()):
        path = tmp_path / "report"
        path.write_bytes(data)
        return read_archive(str(path), "report", wanted, at_top)

    return reader


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_what_is_wanted_is_kept_in_memory(read, packer, form):
    found = read(PACKERS[packer](tar_of(report(), form)))
    assert {name: kept.data for name, kept in found.kept.items()} == {
        "proc/net/tcp": b"seventeen\n",
        "sos_commands/memory/free_-m": b"nineteen\n",
    }
    assert found.kept["proc/net/tcp"].written == 1_700_000_003


def test_an_archive_packed_in_several_streams_is_read_to_its_end(read):
    tar = tar_of(report(member(f"{TOP}/proc/net/snmp", b"r" * 3000)))
    parts = [tar[at : at + 1024] for at in range(0, len(tar), 1024)]
    for pack in (gzip.compress, lzma.compress, bz2.compress):
        assert len(read(b"".join(map(pack, parts))).kept["proc/net/snmp"].data) == 3000


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_longer_than_a_header_holds(read, form):
    name = "sos_commands/" + "/".join(["a" * 60] * 5) + "/gr\u00fc\u00dfe"
    found = read(tar_of(report(member(f"{TOP}/{name}", b"23")), form))
    assert found.find(name).data == b"23"


def test_links_inside_lead_to_their_files(read):
    links = [
        member(f"{TOP}/free", kind=tarfile.SYMTYPE, leads_to="sos_commands/memory/free_-m"),
        member(f"{TOP}/proc/net", kind=tarfile.SYMTYPE, leads_to="self/net"),
        member(f"{TOP}/proc/self", kind=tarfile.SYMTYPE, leads_to="11"),
        member(f"{TOP}/proc/11/net/tcp", b"twenty-nine\n"),
        member(f"{TOP}/twin", kind=tarfile.LNKTYPE, leads_to=f"{TOP}/proc/11/net/tcp"),
    ]
    found = read(tar_of([*links, *report()[1:]]))
    assert found.find("free").data == b"nineteen\n"
    assert found.find("proc/net/tcp").data == b"twenty-nine\n"
    assert found.find("twin").data == b"twenty-nine\n"
    assert found.find("proc/net/snmp") is None


@pytest.mark.parametrize(
    "leads_to",
    ["/etc/passwd", "../../../etc/passwd", "../../../../../../etc/passwd", f"../../../{TOP}2/x", "/"],
)
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_that_leads_outside_is_refused_where_it_is_wanted(read, leads_to, kind):
    found = read(tar_of(report(member(f"{TOP}/proc/net/snmp", kind=kind, leads_to=leads_to))))
    assert found.find("proc/net/tcp").data == b"seventeen\n"
    with pytest.raises(SnapshotError, match=r"report: proc/net/snmp is a link that leads out of it"):
        found.find("proc/net/snmp", "report")


def test_links_in_a_circle_are_refused(read):
    one = member(f"{TOP}/one", kind=tarfile.SYMTYPE, leads_to="two")
    two = member(f"{TOP}/two", kind=tarfile.SYMTYPE, leads_to="one")
    growing = member(f"{TOP}/three", kind=tarfile.SYMTYPE, leads_to="three/three")
    found = read(tar_of(report(one, two, growing)))
    for name in ("one", "two/below", "three"):
        with pytest.raises(SnapshotError, match="circle"):
            found.find(name)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        pytest.param(member("/etc/shadow", b"x"), "outside", id="absolute"),
        pytest.param(member(f"{TOP}/../../x", b"x"), "outside", id="upwards"),
        pytest.param(member(f"{TOP}/dev/sda", kind=tarfile.BLKTYPE), "a device", id="block device"),
        pytest.param(member(f"{TOP}/dev/tty", kind=tarfile.CHRTYPE), "a device", id="device"),
        pytest.param(member(f"{TOP}/run/pipe", kind=tarfile.FIFOTYPE), "a pipe", id="pipe"),
        pytest.param(member(f"{TOP}/proc/net/tcp", b"other\n"), "twice", id="twice"),
        pytest.param(
            member(f"{TOP}/proc/net/tcp", kind=tarfile.SYMTYPE, leads_to="x"),
            "twice",
            id="a file, then a link",
        ),
        pytest.param(member("elsewhere/proc/net/tcp", b"other\n"), "more than one folder", id="two reports"),
    ],
)
def test_what_no_report_holds_refuses_the_whole(read, odd, words):
    with pytest.raises(SnapshotError, match=words) as refused:
        read(tar_of(report(odd)))
    assert "\n" not in str(refused.value)


def test_without_a_folder_around_it_names_are_from_the_top(read):
    members = [member(f"./{info.name.partition('/')[2]}", data) for info, data in report()]
    found = read(tar_of(members), at_top={"proc", "sos_commands", "var"})
    assert found.find("proc/net/tcp").data == b"seventeen\n"


@pytest.mark.parametrize("packer", PACKERS)
def test_a_cut_or_damaged_archive_is_one_line(read, packer):
    noise = member(f"{TOP}/noise", random.Random(37).randbytes(5000))
    whole = PACKERS[packer](tar_of(report(noise)))
    dice = random.Random(41)
    for length in [0, 1, 5, 100, *(dice.randrange(len(whole) * 3 // 5) for _ in range(30))]:
        with pytest.raises(SnapshotError, match=r"^report: "):
            read(whole[:length])
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        with contextlib.suppress(SnapshotError):  # nothing else comes out of it
            assert len(read(bytes(damaged)).kept) <= 2


def test_a_bomb_is_refused_before_it_is_unpacked(read, monkeypatch):
    monkeypatch.setattr(archive, "RATIO_FROM", 24 << 20)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as made:
        made.addfile(member(f"{TOP}/proc/net/tcp", b"x")[0], io.BytesIO(b"x"))
    head = tar.getvalue()[:1024]
    size = 40 << 30
    info = tarfile.TarInfo(f"{TOP}/var/log/lastlog")
    info.size = size
    once = lzma.compress(bytes(16 << 20), preset=1)
    data = lzma.compress(head + info.tobuf(tarfile.GNU_FORMAT)) + once * 10

    def refuse():
        tracemalloc.start()
        with pytest.raises(SnapshotError, match="no report packs so well"):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
        tracemalloc.stop()

    assert is_done_within(10, refuse)


def test_a_file_that_says_it_is_larger_than_any_costs_no_memory(read):
    info = tarfile.TarInfo(f"{TOP}/proc/net/tcp")
    info.size = 1 << 40
    with pytest.raises(SnapshotError, match="ends in the middle"):
        read(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    for size, kind in ((1 << 33, tarfile.GNUTYPE_LONGNAME), (1 << 33, tarfile.XHDTYPE)):
        info = tarfile.TarInfo("x")
        info.size, info.type = size, kind
        with pytest.raises(SnapshotError, match="longer than any"):
            read(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_a_wanted_file_that_is_too_large_is_left_out_and_named(read, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST_FILE", 1 << 10)
    found = read(tar_of(report(member(f"{TOP}/sos_commands/process/lsof", b"y" * 1025))))
    assert found.too_large == {"sos_commands/process/lsof"}
    assert found.find("proc/net/tcp").data == b"seventeen\n"


def test_more_than_any_report_holds_is_refused(read, monkeypatch):
    data = tar_of(report(*(member(f"{TOP}/sos_commands/x/{number}", b"z" * 500) for number in range(43))))
    monkeypatch.setattr(archive, "LARGEST_KEPT", 20_000)
    with pytest.raises(SnapshotError, match="more data than any report"):
        read(data)
    monkeypatch.setattr(archive, "MOST_MEMBERS", 41)
    with pytest.raises(SnapshotError, match="more files than any report"):
        read(data)


# A folder: what tar made of one, or a copy.


def entered(name):
    return name.split("/")[0] in ("proc", "sos_commands")


@pytest.fixture
def folder(tmp_path):
    top = tmp_path / "folder"
    for place, text in (("proc/11/net/tcp", "one\n"), ("sos_commands/memory/free_-m", "two\n")):
        (top / place).parent.mkdir(parents=True)
        (top / place).write_text(text)
    (top / "proc/net").symlink_to("11/net")
    (top / "free").symlink_to("sos_commands/memory/free_-m")
    return top


def test_a_folder_is_read_as_an_archive_is(folder):
    found = read_folder(str(folder), "folder", wanted, entered)
    assert found.find("proc/net/tcp").data == b"one\n"
    assert found.find("free").data == b"two\n"
    assert found.below("sos_commands") == ["sos_commands/memory/free_-m"]


def test_links_of_a_folder_lead_to_nothing_outside(folder, tmp_path):
    (tmp_path / "secret").write_text("secret\n")
    (folder / "sos_commands/date").symlink_to("../../secret")
    (folder / "proc/net").unlink()
    (folder / "proc/net").symlink_to(tmp_path)
    (folder / "sos_commands/x").symlink_to("/proc/self")
    found = read_folder(str(folder), "folder", wanted, entered)
    for name in ("sos_commands/date", "proc/net/secret", "sos_commands/x/environ"):
        with pytest.raises(SnapshotError, match="leads out of it"):
            found.find(name)
    assert b"secret" not in b"".join(kept.data for kept in found.kept.values())


def test_pipes_and_devices_in_a_folder_are_passed_over(folder):
    os.mkfifo(folder / "sos_commands/pipe")
    (folder / "sos_commands/empty").write_text("")
    found = read_folder(str(folder), "folder", wanted, entered)
    assert "sos_commands/pipe" not in found.kept
    assert found.kept["sos_commands/empty"].data == b""


def test_no_folder_and_no_archive_are_one_line(tmp_path):
    with pytest.raises(SnapshotError, match="no such file"):
        read_folder(str(tmp_path / "none"), "none", wanted, entered)
    with pytest.raises(SnapshotError, match="no such file"):
        read_archive(str(tmp_path / "none"), "none", wanted)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SnapshotError, match="regular file"):
        read_archive(str(tmp_path / "pipe"), "pipe", wanted)

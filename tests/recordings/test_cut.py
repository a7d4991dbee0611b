"""Listings cut in width, in length or in the middle: they claim nothing that the whole one does not."""

import random
from pathlib import Path

import pytest

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Held
from tcpdoctor.recordings.forms import read_forms

SAMPLES = Path(__file__).parent / "samples"
LISTINGS = (
    "ss-tan",
    "ss-tanp",
    "ss-tanoempi",
    "ss-Htanp",
    "netstat-anp",
    "netstat-tanp-de",
    "netstat-tanpo",
    "netstat-W-neopa",
)


def text_of(name):
    return (SAMPLES / f"{name}.txt").read_text(encoding="utf-8")


def sockets_in(text):
    """What is claimed of each socket, and whether the listing is called whole."""
    try:
        forms = [form for form in read_forms(text, "x") if not isinstance(form.sockets, Missing)]
    except SnapshotError:
        return {}, False
    found = {}
    for row in (row for form in forms for row in form.sockets):
        found[row.protocol, row.local, row.remote, row.state] = row
    return found, any(form.every_socket is True for form in forms)


def contradictions(part, whole):
    """Sockets, owners and times that a part claims and the whole listing does not."""
    for ends, row in part.items():
        if ends not in whole:
            yield ends
            continue
        same = whole[ends]
        if isinstance(row.owner, Held) and row.owner.holders != getattr(same.owner, "holders", ()):
            yield row.owner, same.owner
        for told, known in ((row.info, same.info), (row.inode, same.inode), (row.uid, same.uid)):
            if not isinstance(told, Missing) and told != known:
                yield told, known


@pytest.mark.parametrize("name", LISTINGS)
def test_numbers_and_names_cut_at_an_edge_are_left_out(name):
    text = text_of(name)
    whole, _ = sockets_in(text)
    for columns in range(41, 239, 3):
        part, _ = sockets_in("".join(f"{line[:columns]}\n" for line in text.splitlines()))
        assert list(contradictions(part, whole)) == [], columns


def test_lines_that_are_cut_are_counted_and_what_to_do_is_said():
    text = "".join(f"{line[:100]}\n" for line in text_of("ss-tanp").splitlines())
    (form,) = read_forms(text, "x")
    assert form.notes == (
        "44 lines are cut at column 100, and left out; write it to a file: ss -tanoempi > FILE",
    )
    assert isinstance(form.every_socket, Missing)


def test_ports_of_four_digits_beside_those_of_five_are_whole():
    row = "ESTAB 0 0 192.168.100.101:{} 192.168.100.{}:{}"
    text = "\n".join(
        row.format(8080, 200 + number, port) for number, port in enumerate((40001, 9090, 9091, 9092, 9093))
    )
    (form,) = read_forms(text, "x")
    assert [socket.remote.port for socket in form.sockets] == [40001, 9090, 9091, 9092, 9093]


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_that_ends_early_or_whose_lines_are_mixed_up_claims_no_more(name):
    text = text_of(name)
    whole, _ = sockets_in(text)
    dice = random.Random(14)
    for _ in range(19):
        end = dice.randrange(len(text))
        last = text[:end].rpartition("\n")[2]
        part, _ = sockets_in(text[:end])
        wrong = [one for one in contradictions(part, whole) if not last.strip()]
        assert wrong == [], end
        lines = text.splitlines(keepends=True)
        here, there = sorted(dice.sample(range(1, len(lines)), 2))
        doubled, _ = sockets_in("".join([*lines[:there], *lines[here:]]))
        assert doubled.keys() <= whole.keys(), (here, there)


@pytest.mark.parametrize("name", [*LISTINGS, "ss-peaonmi", "proc-net-tcp"])
def test_a_last_line_that_is_cut_claims_nothing_in_silence(name):
    lines = text_of(name).splitlines(keepends=True)[:24]
    whole, _ = sockets_in(text_of(name))
    head, last = "".join(lines[:-1]), lines[-1]
    for end in range(1, len(last), 2):
        part, _ = sockets_in(head + last[:end])
        if list(contradictions(part, whole)):
            notes = [note for form in read_forms(head + last[:end], "x") for note in form.notes]
            assert any("may be cut short" in note for note in notes), last[:end]


def test_text_that_is_copied_without_its_last_end_of_line_is_whole():
    for name in ("ss-tanp", "netstat-anp", "ss-tanoempi", "netstat-tanpo"):
        text = text_of(name).partition("Active UNIX")[0].rstrip("\n")
        (form,) = read_forms(text, "x")
        (other,) = read_forms(f"{text}\n", "x")
        assert (form.sockets, form.every_socket) == (other.sockets, other.every_socket)
    (form,) = read_forms(f"{text_of('netstat-anp')}\nRegards, Jo", "x")
    assert not any("cut short" in note for note in form.notes)


def test_a_setting_at_the_very_end_may_be_a_part():
    (form,) = read_forms("net.ipv4.tcp_syncookies = 1\nnet.ipv4.tcp_fin_timeout = 6", "x")
    assert form.notes == ("it ends without the end of a line: 6 may be cut short",)

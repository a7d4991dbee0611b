"""Recordings come back whole, and what is no recording is refused with one clear line."""

import gzip
import json
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.files import read_file
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.kernel.reading import Missing, Refused
from tcpdoctor.kernel.recorded import LARGEST_PACKED, LARGEST_UNPACKED, pack_samples, unpack_samples
from tcpdoctor.kernel.snapshot import Connection, Detail, Listener, Samples
from tcpdoctor.kernel.typed_json import Decoder, Encoder, MisfitError
from tests.facts.samples import CONNECTION, snapshot

from .any_samples import values_of

EVERY_KIND = values_of(Samples)
SNAPSHOT = snapshot()


@given(EVERY_KIND)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_a_look_may_hold_comes_back_equal_and_of_the_same_types(samples):
    again = unpack_samples(pack_samples(samples), "x")
    assert again == samples
    assert repr(again) == repr(samples)


def test_a_real_look_comes_back_whole_and_the_file_is_small(in_namespace):
    samples = in_namespace(take_samples, 0.1)
    data = pack_samples(samples)
    assert unpack_samples(data, "x") == samples
    assert len(data) < 20_000
    assert pack_samples(samples) == data


def test_what_was_refused_is_missing_from_the_recording_for_the_same_reason():
    look = SNAPSHOT._replace(counters=Refused("masked here"), census=Refused("masked here"))
    again = unpack_samples(pack_samples(Samples(None, look)), "x").after
    assert (again.counters, again.census) == (Missing("masked here"), Missing("masked here"))


def document():
    return json.loads(gzip.decompress(pack_samples(Samples(None, SNAPSHOT))))


def refusal(change=None, *, data=None):
    """What is said of a recording that `change` was made to, or of these bytes."""
    if data is None:
        made = document()
        change(made)
        data = gzip.compress(json.dumps(made).encode())
    with pytest.raises(SnapshotError) as error:
        unpack_samples(data, "host.gz")
    text = str(error.value)
    assert text.startswith("host.gz: ")
    assert "\n" not in text
    assert len(text) < 400
    return text


def value_of(made, record, field):
    return made["layout"][record].index(field)


GOOD = pack_samples(Samples(None, SNAPSHOT))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"hello", "not a recording: it is not gzip'd"),
        (GOOD[:-30], "ends in the middle"),
        (GOOD[:5], "ends in the middle"),
        (GOOD[:40] + b"\0\0\0\0" + GOOD[44:], "damaged"),
        (GOOD[:-8] + bytes(8), "damaged"),
        (GOOD + b"x", "something follows its end"),
        (GOOD + GOOD, "something follows its end"),
        (gzip.compress(b"[" * 100_000), "no JSON"),
        (gzip.compress(b"1" * 10_000), "no JSON"),
        (gzip.compress(b"\xff\xfe"), "no JSON"),
        (gzip.compress(b'{"format": 1, "format": 2}'), "no JSON"),
        (gzip.compress(b'{"format": NaN}'), "no JSON"),
        (gzip.compress(b"[]"), "not a recording of tcpdoctor"),
        (gzip.compress(b"{}"), "not a recording of tcpdoctor"),
        (gzip.compress(bytes(LARGEST_UNPACKED + 1)), "more than 67108864 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",  # gzip writes the time into its head
)
def test_what_is_no_whole_recording_is_refused(data, expected):
    assert expected in refusal(data=data)


@given(st.binary(max_size=300), st.integers(0, len(GOOD)))
@settings(max_examples=200, deadline=None)
def test_no_bytes_at_all_lead_to_anything_but_samples_or_one_line(noise, place):
    for data in (noise, GOOD[:place] + noise, GOOD[:place] + noise + GOOD[place + len(noise) :]):
        said = answer(data)
        assert isinstance(said, Samples) or "\n" not in said


def answer(data):
    """What reading these bytes gives: samples, or the line that refuses them."""
    try:
        return unpack_samples(data, "x")
    except SnapshotError as error:
        return str(error)


def mutations(value, place=()):
    """Every place in a JSON value."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from mutations(item, (*place, key))


ODD_TEXTS = ["\x1b[2J\u202e", "x" * 70_000]
HOSTILE = [None, True, -1, 10**40, 1e300, [], {}, [[]], {"missing": 1}, {"Held": []}, *ODD_TEXTS]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_part_exchanged_for_anything_else_is_refused_or_fits(data):
    made = document()
    place = data.draw(st.sampled_from(list(mutations(made))))
    target = made
    for key in place[:-1]:
        target = target[key]
    if place:
        target[place[-1]] = data.draw(st.sampled_from(HOSTILE))
    packed = gzip.compress(json.dumps(made).encode())
    said = answer(packed)
    assert "\x1b" not in repr(said)
    assert pack_samples(said) if isinstance(said, Samples) else said.isprintable()


def test_another_version_of_the_format_is_named_with_who_wrote_it():
    text = refusal(lambda made: made.update(format="tcpdoctor.samples/2", tool="9.9\x1b"))
    assert "its format is tcpdoctor.samples/2" in text
    assert "(9.9 wrote it)" in text


def test_a_part_that_this_version_does_not_know_is_named():
    def add(made):
        made["layout"]["Snapshot"].append("weather")
        made["content"][1].append(1)

    assert "Snapshot has a part unknown to this version: weather" in refusal(add)


def test_a_part_that_an_older_version_did_not_look_at_is_missing_and_not_zero():
    made = document()
    samples = json.loads(gzip.decompress(pack_samples(Samples(None, with_connection()))))
    layout = samples["layout"]
    for record, field in (("Connection", "memory"), ("Process", "started")):
        at = layout[record].index(field)
        layout[record].pop(at)
        for row in rows_of(samples, record):
            row.pop(at)
    again = unpack_samples(gzip.compress(json.dumps(samples).encode()), "x")
    (connection,) = next(iter(again.after.detail.values())).connections
    assert isinstance(connection.memory, Missing)
    assert "did not look at it" in connection.memory.reason
    assert made["format"] == "tcpdoctor.samples/1"


def with_connection():
    return SNAPSHOT._replace(detail={CONNECTION.state: Detail((CONNECTION,), 1)}, processes={})


def rows_of(made, record):
    """The lists that stand for records of this kind in the one snapshot."""
    after = made["content"][1]
    fields = made["layout"]["Snapshot"]
    if record == "Process":
        return [row for _, row in after[fields.index("processes")]]
    return [row for _, detail in after[fields.index("detail")] for row in detail[0]]


def test_a_part_without_which_nothing_can_be_said_is_missed():
    def remove(made):
        at = made["layout"]["Snapshot"].index("clock")
        made["layout"]["Snapshot"].pop(at)
        made["content"][1].pop(at)

    assert "Snapshot lacks clock" in refusal(remove)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("taken_at", "soon", "'soon' is no finite number"),
        ("namespace", 1.5, "1.5 is no whole number of 64 bits"),
        ("namespace", 1 << 70, "a huge number is no whole number"),
        ("euid", True, "true is no whole number"),
        ("host", None, "null is no text"),
        ("listeners", {"absent": 1}, "an object is no list"),
        ("detail", [[99, [[], 0]]], "99 is no TcpState"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_place(field, value, expected):
    def change(made):
        made["content"][1][value_of(made, "Snapshot", field)] = value

    text = refusal(change)
    assert expected in text
    assert f".after.{field}".lstrip(".") in text


def test_texts_of_a_recording_are_cleaned_when_they_are_read():
    made = document()
    made["content"][1][value_of(made, "Snapshot", "host")] = "ho\x1b[31mst\u202e"
    assert unpack_samples(gzip.compress(json.dumps(made).encode()), "x").after.host == "ho[31mst"


def test_a_bomb_is_refused_without_being_unpacked():
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    assert "no recording is so large" in refusal(data=bomb)


def test_a_file_is_read_and_another_kind_of_file_refused(tmp_path):
    path = tmp_path / "host.gz"
    path.write_bytes(GOOD)
    path.chmod(0o600)
    tmp_path.chmod(0o700)
    with pytest.raises(SnapshotError, match="a folder"):
        read_file(tmp_path, limit_bytes=LARGEST_PACKED, error=SnapshotError)
    with pytest.raises(SnapshotError, match="no such file"):
        read_file(tmp_path / "none.gz", limit_bytes=LARGEST_PACKED, error=SnapshotError)
    assert unpack_samples(path.read_bytes(), "x") == Samples(None, SNAPSHOT)


@given(st.lists(values_of(Connection | Listener), min_size=1, max_size=4), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_records_are_decoded_by_columns_as_they_are_one_by_one(rows, data):
    """Whatever is in them, whole or with a part exchanged for anything else."""
    encoder = Encoder()
    many = [encoder.of(Connection | Listener)(row) for row in rows] * 51
    if data.draw(st.booleans()):
        many[-1] = json.loads(json.dumps(many[-1]))
        places = list(mutations(many[-1]))[1:]
        target = many[-1]
        *way, last = data.draw(st.sampled_from(places))
        for key in way:
            target = target[key]
        target[last] = data.draw(st.sampled_from(HOSTILE))
    decoder = Decoder(encoder.layout)
    told = []
    for decode in (decoder.column(Connection | Listener), decoder.of(tuple[Connection | Listener, ...])):
        try:
            told.append(repr(list(decode(many))))
        except MisfitError as error:
            told.append(type(error))
    one_by_one = decoder.of(Connection | Listener)
    try:
        expected = repr([one_by_one(row) for row in many])
    except MisfitError as error:
        expected = type(error)
    assert told[1] == expected
    assert told[0] in (expected, MisfitError)

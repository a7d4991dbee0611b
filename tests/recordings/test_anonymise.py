"""A recording can be given away: names and addresses are others, and all that rules look at is the same."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings

from tcpdoctor.diagnosis.keepers import _HELPERS, _SERVANTS
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.recorded import pack_samples, unpack_samples
from tcpdoctor.kernel.snapshot import Detail, Endpoint, Held, Holder, Samples, UdpSocket
from tcpdoctor.kernel.surroundings import Surroundings
from tcpdoctor.kernel.survey import Seen
from tcpdoctor.recordings.anonymise import KEPT, REPLACED, USUAL_WORDS, Disguise
from tests.facts.samples import CONNECTION, details, held_by, snapshot
from tests.kernel.any_samples import values_of


def anonymise(samples, keep=()):
    return Disguise(b"the key", names=True, keep=keep).of(samples)


def texts_of(value: Any, place: tuple[str, str] = ("", "")) -> "list[tuple[tuple[str, str], str]]":
    """Every text in a value, with the record and field that it is in; reasons of `Missing` left out."""
    if isinstance(value, str):
        return [(place, value)]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in texts_of(part, place)]
    if not isinstance(value, tuple):
        return []
    fields = getattr(value, "_fields", None)
    if fields is None:
        return [text for item in value for text in texts_of(item, place)]
    kind = type(value).__name__
    return [text for name, item in zip(fields, value, strict=True) for text in texts_of(item, (kind, name))]


def host():
    secret = Endpoint("192.0.2.7", 443)
    row = CONNECTION._replace(local=Endpoint("198.51.100.9", 8080), remote=secret)
    again = row._replace(owner=Held((Holder(811, "payroll", 6, 33),)), cookie=2)
    local = row._replace(remote=Endpoint("127.0.0.1", 5), local=Endpoint("::ffff:192.0.2.7", 9), cookie=3)
    listed = snapshot([row, again, local])._replace(host="db1.corp.example", namespace_name="blue")
    return Samples(listed, listed)


def test_the_same_address_becomes_the_same_and_loopback_stays():
    after = anonymise(host()).after
    row, again, local = after.detail[CONNECTION.state].connections
    assert row.remote == again.remote
    assert row.remote.address != "192.0.2.7"
    assert row.local.address != row.remote.address
    assert local.remote == Endpoint("127.0.0.1", 5)
    assert local.local.address == "::ffff:" + row.remote.address
    assert ip_address(row.remote.address) in ip_network("10.0.0.0/8")


def test_names_give_way_but_for_those_that_may_stay():
    samples = anonymise(host())
    assert samples.after.host == samples.before.host
    assert re.fullmatch("host-[0-9a-f]{6}", samples.after.host)
    assert re.fullmatch("netns-[0-9a-f]{6}", samples.after.namespace_name)
    assert "payroll" not in repr(samples)
    assert "payroll" in repr(anonymise(host(), ["payroll"]))


def test_names_of_programs_stay_unless_they_are_to_go():
    samples = Disguise(b"the key").of(host())
    assert "payroll" in repr(samples)
    assert "corp" not in repr(samples)


def test_the_same_key_gives_the_same_names_and_another_one_others():
    assert anonymise(host()) == anonymise(host())
    other = Disguise(b"another key", names=True).of(host())
    assert other.after.host != anonymise(host()).after.host


def test_ten_thousand_addresses_stay_different():
    disguise = Disguise(b"the key")
    found = {disguise.name("address", f"192.{n >> 8}.{n & 255}.1") for n in range(10_007)}
    assert len(found) == 10_007


def test_counts_states_ports_and_sockets_are_as_they_were():
    before, after = host().after, anonymise(host()).after
    for field in ("counters", "sysctls", "taken_at", "clock", "namespace", "sockstat"):
        assert getattr(after, field) == getattr(before, field)
    old, new = (look.detail[CONNECTION.state].connections for look in (before, after))
    assert [(c.state, c.cookie, c.inode, c.local.port, c.remote.port) for c in new] == [
        (c.state, c.cookie, c.inode, c.local.port, c.remote.port) for c in old
    ]


@given(values_of(Samples))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_text_is_replaced_or_known_to_be_the_kernels_own(samples):
    def outside(place, text):
        return place not in KEPT and len(text) > 1 and not is_address(text)

    given_texts = {text for place, text in texts_of(samples) if outside(place, text)}
    left = {text for place, text in texts_of(anonymise(samples)) if outside(place, text)}
    assert not given_texts & left


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("kind", [Samples, Seen, UdpSocket, Surroundings])
def test_each_field_with_text_is_replaced_or_kept_on_purpose(kind):
    """A field that is added has to be decided on: this fails until it is."""
    whole = secretive(kind)
    replaced = {place for place, text in texts_of(whole) if text == "SECRET"}
    hidden = {place for place, text in texts_of(anonymise(whole)) if text == "SECRET"}
    keyed = {
        ("Seen", "options"),
        ("Standing", "variables"),
    }  # what is kept of them are the kernel's and our keys
    assert hidden <= KEPT | keyed
    assert replaced


def secretive(hint):
    if hint is str:
        return "SECRET"
    if hasattr(hint, "_fields"):
        hints = get_type_hints(hint)
        ends = [
            name for name in hint._fields if REPLACED.get((hint.__name__, name)) in ("address", "network")
        ]
        return hint(*["192.0.2.1" if name in ends else secretive(hints[name]) for name in hint._fields])
    if isinstance(hint, type) and not get_args(hint):
        return next(iter(hint)) if hasattr(hint, "__members__") else hint()
    origin, inner = get_origin(hint), [part for part in get_args(hint) if part not in (type(None), Missing)]
    if origin is Literal:
        return inner[0]
    if origin in (tuple, Sequence):
        return tuple(secretive(part) for part in inner if part is not Ellipsis)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {secretive(inner[0]): secretive(inner[1])}
    return secretive(str if str in inner else inner[0])


def test_the_words_by_which_a_helper_is_known_stay():
    assert {*_HELPERS, *_SERVANTS} <= USUAL_WORDS
    disguise = Disguise(b"the key")
    line = "/usr/bin/docker-proxy -proto tcp -host-port 8080 -container-ip 172.17.0.2 -container-port 80"
    assert disguise.name("words", line) == line.replace("172.17.0.2", disguise.name("address", "172.17.0.2"))
    told = disguise.name("words", "--password=hunter2 https://payroll.corp/x?token=abc 2001:db8:77::1 -pRoot")
    assert not [word for word in ("hunter2", "payroll", "corp", "abc", ":77:", "Root") if word in told]


def test_a_unit_stays_of_its_kind():
    disguise = Disguise(b"the key", names=True)
    assert re.fullmatch(r"unit-[0-9a-f]{6}\.service", unit := disguise.name("unit", "payroll.service"))
    path = "/user.slice/user-1000.slice/user@1000.service/app.slice/payroll.service"
    assert disguise.name("group", path) == path.replace("payroll.service", unit)


def test_what_was_anonymised_is_a_recording_like_any_other():
    samples = anonymise(host())
    assert unpack_samples(pack_samples(samples), "x") == samples


def test_a_large_look_fits_into_a_file():
    rows = [
        CONNECTION._replace(
            cookie=n, remote=Endpoint(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", n % 65536)
        )
        for n in range(20_000)
    ]
    rows = [row._replace(owner=held_by(811, 6)) for row in rows]
    large = snapshot()._replace(detail={CONNECTION.state: Detail(tuple(rows), 20_000)})
    assert details(rows)
    data = pack_samples(Samples(None, large))
    assert len(data) < 4 << 20
    assert unpack_samples(data, "x").after == large

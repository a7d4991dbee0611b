"""What is kept of a host is small, and comes back as it was."""

import pytest

from tcpdoctor.diagnosis import fleet as fleet_records
from tcpdoctor.diagnosis.fleet import Digest, Records

LOOK = Digest(7, 1e9, 0.0, 2, None, ((3, 1), (5, 11)), 0, 4, "reports/web1.example.org.json")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "web1.example.org",
        "reports/web1.json",
        "all.jsonl line 7",
        "web1 line 0",
        "a line 007",
        "line 5",
        "web1/web1/web1.json line 12",
        "standard input line 4294967296",
    ],
)
def test_every_look_comes_back(source):
    records = Records()
    digest = LOOK._replace(source=source, reason="it is empty")
    assert records.put("web1.example.org", digest)
    assert records.of("web1.example.org") == [digest]
    assert records.look_into("web1.example.org", 7) == digest
    assert records.look_into("web1.example.org", 8) is None
    assert records.look_into("web2", 7) is None


def test_a_later_look_into_a_namespace_takes_the_place_of_the_earlier():
    records = Records()
    for namespace in (7, 0, -1, 2**62):
        records.put("web1", LOOK._replace(namespace=namespace))
    later = LOOK._replace(namespace=0, taken_at=2e9)
    records.put("web1", later)
    assert [one.namespace for one in records.of("web1")] == [7, 0, -1, 2**62]
    assert records.look_into("web1", 0) == later


def test_what_has_no_end_is_bounded(monkeypatch):
    monkeypatch.setattr(fleet_records, "MOST_REASONS", 2)
    monkeypatch.setattr(fleet_records, "MOST_NAMESPACES", 2)
    records = Records()
    kept = [records.put("web1", LOOK._replace(namespace=n, reason=f"reason {n}")) for n in range(3)]
    assert kept == [True, True, False]
    records.put("web2", LOOK._replace(reason="reason 3"))
    assert records.of("web2")[0].reason == "its reason is in its report: too many different ones to tell"
    records.put("web2", LOOK._replace(untold=2**40, findings=((0, 2**40),)))
    assert records.of("web2")[0].untold == 2**32 - 1

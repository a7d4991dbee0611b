"""The JSON of check, key by key in the order of the contract."""

import json
import math

import pytest

from tcpdoctor.answers.verdict import check_answer
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import COUNTED_STATES
from tcpdoctor.report.document import as_json
from tests.report.examples import (
    CENSUS,
    CRITICAL,
    FINDING,
    HIDDEN,
    INAPPLICABLE,
    INFO,
    SNAPSHOT,
    check,
)
from tests.schemas import described

TOP = [
    "schema",
    "tool",
    "host",
    "taken_at",
    "window_s",
    "status",
    "exit_code",
    "summary",
    "states",
    "missing",
    "sysctls",
    "findings",
    "unchecked",
    "untold",
    "plan",
    "too_early",
]
FINDING_KEYS = [
    "rule",
    "severity",
    "scope",
    "subject",
    "fingerprint",
    "title",
    "summary",
    "explanation",
    "impact",
    "evidence",
    "fixes",
    "wrong_fixes",
    "references",
    "normal_when",
    "headline",
]


def answer(*findings, **options):
    return described(json.dumps(as_json(check_answer(check(*findings, **options))), allow_nan=False))


def test_keys_stand_in_the_order_of_the_contract():
    document = answer(FINDING, unchecked=[HIDDEN])
    assert list(document) == TOP
    assert list(document["tool"]) == ["name", "version"]
    assert list(document["host"]) == ["name", "kernel", "namespace", "namespace_name"]
    assert list(document["summary"]) == ["info", "warning", "critical", "checked", "unchecked"]
    assert list(document["states"]) == [state.key for state in COUNTED_STATES]
    (finding,) = document["findings"]
    assert list(finding) == FINDING_KEYS
    assert list(finding["evidence"][0]) == ["fact", "value", "unit", "source"]
    assert list(finding["fixes"][0]) == [
        "kind",
        "title",
        "do",
        "risk",
        "verify",
        "undo",
        "sysctl",
        "prose",
        "commands",
        "verify_commands",
        "undo_commands",
    ]
    assert list(finding["fixes"][1]["sysctl"]) == ["name", "current", "value", "persist"]
    assert list(finding["wrong_fixes"][0]) == ["title", "why"]
    assert list(finding["references"][0]) == ["claim", "source"]
    assert list(document["unchecked"][0]) == ["rule", "reason", "applies"]


def test_values_are_those_of_the_contract():
    document = answer(FINDING, INFO, unchecked=[HIDDEN, INAPPLICABLE])
    assert document["schema"] == "tcpdoctor.check/1"
    assert document["tool"] == {"name": "tcpdoctor", "version": "0.1.0"}
    assert document["host"] == {
        "name": "web1",
        "kernel": "6.18.44",
        "namespace": "4026531840",
        "namespace_name": None,
    }
    assert document["taken_at"] == "2026-11-20T12:00:00Z"
    assert document["window_s"] == 1.0
    assert (document["status"], document["exit_code"]) == ("warning", 1)
    assert document["summary"] == {"info": 1, "warning": 1, "critical": 0, "checked": 18, "unchecked": 2}
    assert document["findings"][0]["subject"] == {
        "label": "nginx (811)",
        "pid": 811,
        "name": "nginx",
        "process": "nginx",
        "unit": "web.service",
        "container": None,
        "ports": [80, 443],
    }
    assert document["findings"][0]["fixes"][0]["undo"] is None
    assert document["findings"][0]["fixes"][0]["sysctl"] is None


def test_a_state_that_cannot_be_known_is_null_with_its_reason():
    document = answer()
    assert document["states"]["bound"] is None
    assert document["missing"]["states.bound"] == "this kernel does not list bound sockets"
    assert document["states"]["fin_wait_2"] == 120
    assert document["states"]["closing"] == 0


def test_without_a_census_every_state_is_null_and_none_is_zero():
    document = answer(snapshot=SNAPSHOT._replace(census=Missing("sock_diag: EPERM")))
    assert set(document["states"].values()) == {None}
    assert {key for key in document["missing"] if key.startswith("states.")} == {
        f"states.{state.key}" for state in COUNTED_STATES
    }


def test_counts_that_may_be_too_low_say_so():
    census = CENSUS._replace(complete=Missing("sockets came and went during the listing"))
    document = answer(snapshot=SNAPSHOT._replace(census=census))
    assert document["missing"]["states"] == "sockets came and went during the listing"


def test_sysctls_are_numbers_lists_and_texts_and_null_where_missing():
    document = answer()
    assert document["sysctls"] == {
        "net.ipv4.ip_local_port_range": [32768, 60999],
        "net.ipv4.ip_local_reserved_ports": [[8080, 8081], [9000, 9000]],
        "net.ipv4.tcp_congestion_control": "cubic",
        "net.ipv4.tcp_fastopen_key": None,
        "net.ipv4.tcp_fin_timeout": 60,
    }
    assert document["missing"]["sysctls.net.ipv4.tcp_fastopen_key"] == "only root may read it"


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, math.nan, [1, math.inf], {"at_least": 1, "at_most": math.inf}]
)
def test_a_number_that_json_cannot_say_is_null(value):
    evidence = (FINDING.evidence[0]._replace(value=value),)
    (finding,) = answer(FINDING._replace(evidence=evidence))["findings"]
    assert finding["evidence"][0]["value"] in (None, [1, None], {"at_least": 1, "at_most": None})


def test_a_subject_cannot_replace_its_own_label():
    (finding,) = answer(CRITICAL._replace(identity={"label": "forged", "port": 80}))["findings"]
    assert (finding["subject"]["label"], finding["subject"]["port"]) == ("0.0.0.0:80", 80)


def test_quiet_leaves_findings_out_but_counts_them():
    document = as_json(check_answer(check(FINDING, INFO), (FINDING,)))
    assert [finding["rule"] for finding in document["findings"]] == ["fin-wait-2-held-open"]
    assert document["summary"]["info"] == 1

"""`check` for Prometheus: what is known has a sample, what is not has none."""

from prometheus_client.parser import text_string_to_metric_families

from tcpdoctor.answers.check import Checks, with_measures
from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Destination, DestinationUse, Detail
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_prometheus import check_prometheus, checks_prometheus
from tests.report.examples import CRITICAL, FINDING, HIDDEN, INAPPLICABLE, SNAPSHOT, check
from tests.report.hostile import NASTY, NASTY_FINDING

RULES = load_library(shipped_texts()).rules


def read(answer):
    families = text_string_to_metric_families(
        check_prometheus(with_measures(answer._replace(rules=RULES), "prometheus"))
    )
    return {family.name: family for family in families}


def active(answer, rule):
    samples = read(answer)["tcpdoctor_finding_active"].samples
    return {s.labels["severity"]: s.value for s in samples if s.labels["rule"] == rule}


def value(families, name):
    (sample,) = families[name].samples
    return sample.value


def test_every_metric_is_described():
    families = read(check(FINDING, duration=1.25))
    assert list(families) == [
        "tcpdoctor_finding_active",
        "tcpdoctor_rule_value",
        "tcpdoctor_rule_limit",
        "tcpdoctor_rule_info",
        "tcpdoctor_sockets",
        "tcpdoctor_rules",
        "tcpdoctor_unchecked_rules",
        "tcpdoctor_inapplicable_rules",
        "tcpdoctor_last_check_timestamp_seconds",
        "tcpdoctor_check_duration_seconds",
        "tcpdoctor_build_info",
    ]
    for family in families.values():
        assert family.type == "gauge"
        assert family.documentation


def of_rule(answer, metric):
    families = read(answer)
    return {sample.labels["rule"]: sample.value for sample in families[metric].samples}


def with_sysctls(**values):
    sysctls = {f"net.ipv4.{name}": value for name, value in values.items()}
    return check(snapshot=SNAPSHOT._replace(sysctls=sysctls, sockstat={"TCP.tw": 15237, "TCP.orphan": 7}))


def test_how_near_a_rule_is_to_its_next_finding_is_a_value_and_a_limit():
    answer = with_sysctls(tcp_max_tw_buckets=262143, tcp_max_orphans=1024, tcp_syncookies=1)
    values, limits = (of_rule(answer, f"tcpdoctor_rule_{what}") for what in ("value", "limit"))
    assert (values["orphans-near-limit"], limits["orphans-near-limit"]) == (7 / 1024, 0.25)
    assert (values["time-wait-table-nearly-full"], limits["time-wait-table-nearly-full"]) == (
        15238 / 262144,
        0.8,
    )
    assert "syncookies-off" not in {*values, *limits}  # a switch is not near or far


def test_what_is_worse_below_a_limit_has_a_value_and_no_limit_to_reach():
    answer = with_sysctls(tcp_fin_timeout=60)
    assert of_rule(answer, "tcpdoctor_rule_value")["fin-timeout-short"] == 60
    assert "fin-timeout-short" not in of_rule(answer, "tcpdoctor_rule_limit")


def test_what_is_not_known_has_neither_value_nor_limit():
    values = of_rule(check(), "tcpdoctor_rule_value")
    assert "orphans-near-limit" not in values
    assert "close-wait-leak" not in values


def test_every_rule_has_its_title():
    (info,) = (family for name, family in read(check()).items() if name == "tcpdoctor_rule_info")
    titles = {sample.labels["rule"]: sample.labels["title"] for sample in info.samples}
    assert titles == {rule.id: rule.title for rule in RULES}


def test_a_rule_that_fired_is_1_and_one_that_did_not_is_0():
    answer = check(FINDING, CRITICAL)
    assert active(answer, "fin-wait-2-held-open") == {"warning": 1}
    assert active(answer, "accept-queue-full") == {"critical": 1, "warning": 0}
    assert active(answer, "syncookies-off") == {"warning": 0}


def test_a_rule_that_could_not_be_answered_does_not_look_like_one_that_is_clear():
    answer = check(unchecked=[HIDDEN, INAPPLICABLE])
    assert active(answer, HIDDEN.rule) == active(answer, INAPPLICABLE.rule) == {}
    families = read(answer)
    assert value(families, "tcpdoctor_unchecked_rules") == 2
    assert value(families, "tcpdoctor_inapplicable_rules") == 1


def test_a_rule_that_fired_for_one_and_is_open_for_another_is_1_and_nowhere_0():
    answer = check(CRITICAL, unchecked=[HIDDEN._replace(rule=CRITICAL.rule)])
    assert active(answer, CRITICAL.rule) == {"critical": 1}


def test_a_severity_of_the_configuration_is_the_one_that_is_told():
    rules = tuple(rule._replace(severity=Severity.INFO) for rule in RULES)
    text = check_prometheus(with_measures(check()._replace(rules=rules), "prometheus"))
    assert 'severity="warning"' not in text


def test_what_is_not_known_is_absent():
    families = read(check())
    states = {s.labels["state"]: s.value for s in families["tcpdoctor_sockets"].samples}
    assert "bound" not in states
    assert (states["fin_wait_2"], states["closing"]) == (120, 0)
    assert "tcpdoctor_check_duration_seconds" not in families
    assert "tcpdoctor_oldest_seconds" not in families
    unread = read(check(snapshot=SNAPSHOT._replace(census=Missing("EPERM"), detail=Missing("EPERM"))))
    assert "tcpdoctor_sockets" not in unread


def test_the_namespace_is_named_where_it_has_a_name():
    elsewhere = SNAPSHOT._replace(initial_namespace=False)
    named = elsewhere._replace(namespace_name='bl"u\\e\n')
    for snapshot, label in ((SNAPSHOT, "host"), (elsewhere, "here"), (named, 'bl"u\\e\n')):
        families = read(check(snapshot=snapshot))
        assert {s.labels["namespace"] for s in families["tcpdoctor_sockets"].samples} == {label}


def test_no_label_holds_what_a_stranger_chose():
    text = check_prometheus(with_measures(check(NASTY_FINDING)._replace(rules=RULES), "prometheus"))
    assert all(word not in text for word in (NASTY[:5], "nginx", "811"))


RANGE = {
    "net.ipv4.ip_local_port_range": (40000, 40999),
    "net.ipv4.tcp_tw_reuse": 2,
    "net.ipv4.tcp_timestamps": 1,
    "net.ipv4.ip_local_reserved_ports": (),
}


def busy(number, **changes):
    """Towards `number` peers, each one port more than towards the one before; of all one is in TIME_WAIT."""
    uses = {
        Destination("10.0.0.9", f"10.0.1.{place}", 5432): DestinationUse(place, 1)
        for place in range(1, number + 1)
    }
    census = SNAPSHOT.census._replace(by_destination=uses, **changes)
    return check(
        snapshot=SNAPSHOT._replace(census=census, sysctls=RANGE, detail={TcpState.BOUND: Detail((), 0)})
    )


def left(answer):
    families = read(answer)
    if "tcpdoctor_destination_ports_left" not in families:
        return []
    samples = families["tcpdoctor_destination_ports_left"].samples
    return [(sample.labels["destination"], sample.value) for sample in samples]


def test_the_ten_destinations_with_the_fewest_ports_left_are_told():
    assert left(busy(113)) == [(f"10.0.1.{place}:5432", 1000 - place) for place in range(113, 103, -1)]
    assert len(left(busy(113)._replace(most_destinations=97))) == 97
    assert left(busy(113)._replace(most_destinations=0)) == []


def test_ports_are_not_told_where_sockets_may_be_unseen():
    assert left(busy(3, complete=Missing("the dump was cut"))) == []


def test_of_many_namespaces_together_only_so_many_destinations_are_told():
    other = busy(7)
    elsewhere = other._replace(
        samples=other.samples._replace(
            after=other.samples.after._replace(initial_namespace=False, namespace_name="blue")
        )
    )
    both = [with_measures(one, "prometheus") for one in (busy(7), elsewhere)]
    text = checks_prometheus(Checks(tuple(both), (), 0))
    lines = [line for line in text.splitlines() if line.startswith("tcpdoctor_destination_ports_left{")]
    assert len(lines) == 10
    assert {line.rpartition(" ")[2] for line in lines} == {"993", "994", "995", "996", "997"}

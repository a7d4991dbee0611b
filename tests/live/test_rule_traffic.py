"""The rules about loss and memory, and those about the whole machine."""

import os
import threading

import pytest

from tcpdoctor.kernel.namespaces import is_initial_namespace
from tcpdoctor.lab.closing import fin_wait_1_stuck
from tcpdoctor.lab.pairs import steady_traffic

from .checks import check, evidence, findings, only_finding, reason_unchecked, severities, the_finding
from .traffic import unread_data

RETRANSMISSIONS = "retransmissions-above-normal"
MEMORY = "tcp-memory-nearly-full"
ORPHANS = "orphans-near-limit"


def traffic(lost_of_256):
    with steady_traffic(7, lost_of_256=lost_of_256):
        return check("--window", "2")


def test_a_path_that_loses_a_tenth_is_found(in_namespace):
    finding = only_finding(in_namespace(traffic, 26), RETRANSMISSIONS)
    assert finding["severity"] == "warning"
    assert evidence(finding, "rate(Tcp.RetransSegs)") >= 5


def test_the_same_traffic_without_loss_is_healthy(in_namespace):
    report = in_namespace(traffic, 0)
    assert findings(report, RETRANSMISSIONS) == []
    assert reason_unchecked(report, RETRANSMISSIONS) is None


def one_sample():
    return check("--window", "0")


def test_one_sample_cannot_say_anything_about_loss(in_namespace):
    assert reason_unchecked(in_namespace(one_sample), RETRANSMISSIONS)


def hold_and_check():
    """Holds unread data and orphans where the caller is, and looks from there."""
    with unread_data(7) as held, fin_wait_1_stuck(101):
        return held, check(limits={MEMORY: {"warning_share": 0}, ORPHANS: {"warning_share": 0}})


def test_what_is_the_whole_machines_is_no_question_inside_a_private_namespace(in_namespace):
    held, report = in_namespace(hold_and_check)
    assert held > 1 << 20
    assert findings(report, MEMORY) == findings(report, ORPHANS) == []
    assert "initial network namespace" in reason_unchecked(report, MEMORY)
    assert "initial network namespace" in reason_unchecked(report, ORPHANS)
    assert report["exit_code"] != 3


def hold_until_told(ready: int, told: int) -> None:
    with unread_data(7) as held, fin_wait_1_stuck(101):
        os.write(ready, str(held).encode())
        os.read(told, 1)


def test_memory_and_orphans_of_all_namespaces_are_measured_from_the_initial_one(in_namespace, hosts_network):
    if is_initial_namespace() is not True:
        pytest.skip("this is not the machine's initial network namespace")
    tiny = {"warning_share": 1e-6, "critical_share": 100}
    ready, told = os.pipe(), os.pipe()
    disease = threading.Thread(target=in_namespace, args=(hold_until_told, ready[1], told[0]))
    disease.start()
    held = int(os.read(ready[0], 20))
    report = check(limits={MEMORY: tiny, ORPHANS: tiny})
    shipped = check()
    os.write(told[1], b"x")
    disease.join()
    for end in (*ready, *told):
        os.close(end)
    memory, orphans = the_finding(report, MEMORY), the_finding(report, ORPHANS)
    assert (memory["severity"], orphans["severity"]) == ("warning", "warning")
    assert evidence(memory, "sockstat.TCP.mem") * os.sysconf("SC_PAGESIZE") > held
    assert evidence(orphans, "sockstat.TCP.orphan") >= 101
    assert severities(shipped, MEMORY) == severities(shipped, ORPHANS) == []

"""What `sysctl lint` keeps to itself, and what it says in one remark: files as distributions ship them."""

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_lint import lint_settings
from tcpdoctor.diagnosis.sysctl_look import Fault
from tcpdoctor.kernel.sysctl import Held
from tests.diagnosis.settings_looks import HELD, NAMES, faults, found, look


def placed(*files: tuple[str, str]) -> list[Fault]:
    """The faults of files at these paths, in this order, by their texts."""
    plain = look(*(text for _, text in files))
    moved = {f"/etc/sysctl.d/{number}.conf": path for number, (path, _) in enumerate(files, start=1)}
    changed = plain._replace(
        files=tuple(file._replace(path=moved[file.path]) for file in plain.files),
        lines={
            reader: {moved[path]: found for path, found in each.items()}
            for reader, each in plain.lines.items()
        },
    )
    return [fault for fault in lint_settings(changed, NAMES).faults if fault.check == "set-twice"]


VENDOR, OWN = "/usr/lib/sysctl.d/50.conf", "/etc/sysctl.d/10.conf"


def test_what_a_distribution_says_again_is_no_remark():
    same = "net.ipv4.tcp_retries2 = 9"
    assert placed((VENDOR, same), ("/usr/lib/sysctl.d/99.conf", same)) == []
    assert placed((OWN, same), (VENDOR, same)) == []
    assert placed((VENDOR, same), ("/etc/sysctl.d/60.conf", same)) == []
    for again in (same, "net.ipv4.tcp_retries2 = 0x9"):
        (told,) = placed((OWN, same), ("/etc/sysctl.d/60.conf", again))
        assert told.severity is Severity.INFO


def test_an_own_line_that_the_vendor_undoes_is_told_with_what_to_do():
    (undone,) = placed((OWN, "net.ipv4.tcp_retries2 = 9"), (VENDOR, "net.ipv4.tcp_retries2 = 10"))
    assert (undone.file, undone.severity) == (OWN, Severity.WARNING)
    assert undone.do == "Files count in the order of their names: give this one a name after 50.conf."
    local = "/usr/local/lib/sysctl.d/1.conf"  # an administrator's as well
    (undone,) = placed((local, "net.ipv4.tcp_retries2 = 9"), (OWN, "net.ipv4.tcp_retries2 = 10"))
    assert (undone.file, undone.severity) == (local, Severity.INFO)


def test_a_refused_line_undoes_nothing():
    told = faults("net.ipv4.tcp_retries2 = 9\nnet.ipv4.tcp_retries2 = 9s\nnet.ipv4.tcp_retries2 = 10")
    assert [(fault.line, fault.check) for fault in told if fault.check != "differs-from-running"] == [
        (1, "set-twice"),
        (2, "value-refused"),
    ]
    assert "line 3 sets it to 10 later" in told[0].what
    assert "set-twice" not in found("net.ipv4.tcp_retries2 = 9\nnet.ipv4.tcp_retries2 = 9s")
    assert "set-twice" not in found("net.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_tw_recycle = 0")


def test_an_exclusion_that_only_one_reader_heeds_is_told_as_such():
    told = [
        fault
        for fault in faults("net.ipv4.conf.all.rp_filter = 2\n-net.ipv4.conf.all.rp_filter", held={})
        if fault.check == "readers-disagree"
    ]
    assert [fault.severity for fault in told] == [Severity.INFO]
    assert "undoes an earlier line for systemd-sysctl only" in told[0].what


def test_a_pattern_that_differs_in_many_places_is_one_remark():
    pattern = "net/ipv4/conf/*/rp_filter"
    places = tuple(f"net/ipv4/conf/eth{number}/rp_filter" for number in range(7))
    held = {path: Held(exists=True, writable=True, value="0") for path in places}
    told = faults("net.ipv4.conf.*.rp_filter = 2", matches={pattern: places}, held={**HELD, **held})
    assert [fault.check for fault in told] == ["differs-from-running"]
    assert "net.ipv4.conf.eth2.rp_filter = 0 and 4 more." in told[0].what
    assert told[0].key == "net.ipv4.conf.*.rp_filter"


def test_interfaces_may_come_later():
    (told,) = faults("net.ipv4.conf.lxc*.rp_filter = 0")
    assert told.check == "pattern-matches-nothing"
    assert told.do.startswith("Nothing, if such interfaces come later")


def test_a_byte_order_mark_is_told_once():
    assert found("\ufeff# a comment\n") == {"byte-order-mark"}
    assert found("\ufeffnet.ipv4.tcp_sack = 1\n") == {"byte-order-mark"}


def test_a_setting_that_is_not_of_the_network_is_for_another_kernel_perhaps():
    (told,) = faults("kernel.sysrq = 176")
    assert (told.check, told.severity) == ("key-unknown", Severity.INFO)
    assert "for another kernel" in told.do


def test_a_drift_names_its_key():
    (told,) = faults("net.ipv4.ip_local_port_range = 32768   61001")
    assert told.what.startswith("net.ipv4.ip_local_port_range: the file says 32768 61001, the kernel has")


def test_what_no_kernel_has_is_told_of_another_system_too():
    text = "net.ipv4.tcp_keepalve_time = 1\nsomaxconn = 1\nsysctl -w net.ipv4.tcp_sack=1\n"
    text += "net.ipv4.conf.eth0.100.rp_filter = 1\nnet.ipv4.conf.eth0/100.rp_filter = 1\nkernel.sysrq = 1\n"
    other = lint_settings(look(text, is_here=False, held={}), NAMES)
    assert [(fault.line, fault.check) for fault in other.faults] == [
        (line, "key-unknown") for line in (1, 2, 3, 4)
    ]
    assert other.faults[0].do == "Did you mean net.ipv4.tcp_keepalive_time?"
    assert other.faults[1].do == "Did you mean net.core.somaxconn?"


def test_a_name_in_capitals_is_known_for_what_is_meant():
    text = "net.ipv4.TCP_KEEPALIVE_TIME = 30\nNET.CORE.SOMAXCONN = 4096\n"
    other = lint_settings(look(text, is_here=False, held={}), NAMES)
    assert [one.do for one in other.faults] == [
        "Did you mean net.ipv4.tcp_keepalive_time?",
        "Did you mean net.core.somaxconn?",
    ]

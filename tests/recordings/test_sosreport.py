"""Sosreports: the layouts of several releases, as a folder and packed in each way."""

import bz2
import gzip
import json
import lzma
import os

import pytest

from tcpdoctor.errors import QuestionError, SnapshotError
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Held
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.recordings.opened import open_recording
from tcpdoctor.recordings.sosreport import open_sosreport
from tests.cli.command import tcpdoctor
from tests.pace import is_done_within
from tests.recordings.reports import (
    BOOTED,
    LAYOUTS,
    NAME,
    PS,
    PS_NAMES,
    SAMPLES,
    TAKEN,
    debian_4_0,
    sample,
    tar_of_report,
    write_folder,
)

PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.xz": lzma.compress, "tar.bz2": bz2.compress}
EXPECTED = {
    TcpState.CLOSE_WAIT: 17,
    TcpState.ESTABLISHED: 22,
    TcpState.FIN_WAIT_2: 17,
    TcpState.TIME_WAIT: 7,
    TcpState.SYN_SENT: 2,
    TcpState.LISTEN: 5,
}


def counted(look):
    return {state: number for state, number in look.census.by_state.items() if number}


def packed(tmp_path, suffix, files, links, **more):
    path = tmp_path / f"{NAME}.{suffix}"
    path.write_bytes(PACKERS[suffix](tar_of_report(files, links, **more)))
    return str(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [*PACKERS, "folder"])
def test_the_tables_of_proc_are_enough(tmp_path, layout, suffix):
    files, links = LAYOUTS[layout]()
    if suffix == "folder":
        path = str(write_folder(tmp_path / NAME, files, links))
    else:
        path = packed(tmp_path, suffix, files, links)
    found = open_recording(path)
    look = found.samples.after
    assert found.source.kind == "sosreport"
    assert counted(look) == EXPECTED
    assert look.counters["TcpExt.ListenOverflows"] == 17
    assert look.sockstat["TCP.tw"] == 20
    assert look.sysctls["net.ipv4.tcp_fin_timeout"] == 60
    assert [cpu.squeezed for cpu in look.softnet] == [37]


def test_host_kernel_and_time_are_those_of_the_report(tmp_path):
    found = open_sosreport(packed(tmp_path, "tar.gz", *debian_4_0()), "report")
    look = found.samples.after
    assert (look.host, look.kernel) == ("orders-01", "6.1.0-13-amd64")
    assert (look.taken_at, look.clock) == (TAKEN, TAKEN - BOOTED)
    assert (look.page_size, look.memory) == (4096, 24_684_084 // 4)
    assert found.source.dated is True


def test_the_time_of_a_copied_folder_is_what_date_printed(tmp_path):
    folder = write_folder(tmp_path / NAME, *debian_4_0())
    look = open_sosreport(str(folder), "report").samples.after
    assert look.taken_at == TAKEN - 30
    os.utime(folder / "proc/8835/net/tcp", (TAKEN, TAKEN))
    assert open_sosreport(str(folder), "report").samples.after.taken_at == TAKEN


@pytest.mark.parametrize(
    ("printed", "taken_at"),
    [
        ("Tue Nov 30 00:02:41 UTC 2021", TAKEN - 30),
        ("Tue 30 Nov 2021 12:02:41 AM UTC", TAKEN - 30),
        ("Tue Nov 30 12:02:41 PM UTC 2021", TAKEN - 30 + 43_200),
    ],
)
def test_the_ways_in_which_date_prints(tmp_path, printed, taken_at):
    files, links = debian_4_0()
    del files["sos_commands/date/date_--utc"]
    folder = write_folder(tmp_path / NAME, files | {"sos_commands/date/date": f"{printed}\n"}, links)
    assert open_sosreport(str(folder), "report").samples.after.taken_at == taken_at


def test_a_folder_that_does_not_say_when_is_not_dated(tmp_path):
    files, links = debian_4_0()
    files |= {"sos_commands/date/date": "mardi 30 novembre 2021, 01:02:41 (UTC+0100)\n"}
    del files["sos_commands/date/date_--utc"]
    found = open_sosreport(str(write_folder(tmp_path / NAME, files, links)), "report")
    assert found.source.dated is False
    assert found.samples.after.taken_at > 0


@pytest.mark.parametrize("pages", [4096, 65536])
def test_the_size_of_a_page_is_worked_out_from_the_zones(tmp_path, pages):
    zone = f"Node 0, zone   Normal\n  pages free     7\n        managed  {24_684_084 * 1024 // pages}\n"
    files, links = debian_4_0(**{"proc/zoneinfo": zone})
    look = open_sosreport(packed(tmp_path, "tar", files, links), "report").samples.after
    assert (look.page_size, look.memory) == (pages, 24_684_084 * 1024 // pages)


def test_without_ipv6_there_is_one_table_and_it_is_all(tmp_path):
    files, links = debian_4_0()
    del files["proc/8835/net/tcp6"]
    look = open_sosreport(packed(tmp_path, "tar", files, links), "report").samples.after
    assert isinstance(look.census.complete, Missing), "snmp6 says that there is IPv6"
    del files["proc/8835/net/snmp6"]
    look = open_sosreport(packed(tmp_path, "tar", files, links), "report").samples.after
    assert isinstance(look.census.complete, Missing), "and so do the settings"
    settings = files["sos_commands/kernel/sysctl_-a"].splitlines(keepends=True)
    files["sos_commands/kernel/sysctl_-a"] = "".join(line for line in settings if "net.ipv6." not in line)
    look = open_sosreport(packed(tmp_path, "tar", files, links), "report").samples.after
    assert look.census.complete is True


def test_tables_that_were_cut_are_said_and_are_not_every_socket(tmp_path):
    files, links = debian_4_0()
    files["proc/8835/net/tcp"] = files["proc/8835/net/tcp"][:-330]
    found = open_sosreport(packed(tmp_path, "tar", files, links), "report")
    assert isinstance(found.samples.after.census.complete, Missing)
    assert "cut short" in " ".join(found.source.notes)


def test_whether_it_is_the_whole_host_follows_from_its_settings(tmp_path):
    files, links = debian_4_0()
    settings = sample("sysctl-a")
    whole = settings + "net.ipv4.tcp_mem = 289674\t386232\t579348\n"
    inside = "".join(line for line in settings.splitlines(True) if not line.startswith("net.ipv4.tcp_mem"))
    for text, expected in ((whole, True), (inside, False)):
        files["sos_commands/kernel/sysctl_-a"] = text
        look = open_sosreport(packed(tmp_path, "tar", files, links), "report").samples.after
        assert look.initial_namespace is expected


def test_an_archive_without_a_folder_around_it(tmp_path):
    files, links = debian_4_0()
    found = open_sosreport(packed(tmp_path, "tar.xz", files, links, top="./"), "report")
    assert counted(found.samples.after) == EXPECTED


def test_a_folder_with_one_report_in_it(tmp_path):
    write_folder(tmp_path / NAME, *debian_4_0())
    found = open_recording(str(tmp_path))
    assert counted(found.samples.after) == EXPECTED


def test_addresses_of_another_byte_order_are_not_guessed(tmp_path):
    files, links = debian_4_0()
    files["sos_commands/kernel/uname_-a"] = (
        "Linux orders-01 5.14.0-70.el9.s390x #1 SMP s390x s390x s390x GNU/Linux\n"
    )
    look = open_sosreport(packed(tmp_path, "tar", files, links), "report").samples.after
    assert isinstance(look.census, Missing)
    assert look.counters["TcpExt.ListenOverflows"] == 17


def test_counters_in_words_are_used_where_there_are_no_others(tmp_path):
    files, links = debian_4_0()
    for name in ("netstat", "snmp", "snmp6"):
        del files[f"proc/8835/net/{name}"]
    files["sos_commands/networking/netstat_-s"] = sample("netstat-s")
    look = open_sosreport(packed(tmp_path, "tar", files, links), "report").samples.after
    assert look.counters["TcpExt.ListenOverflows"] == 8


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"readme": "x"}, "no sosreport"),
        ({"sos_commands/kernel/lsmod": "x"}, "no sosreport"),
        ({"sos_commands/networking/ss_-peaonmi": "ss: command not found\n"}, "sos with -o networking"),
    ],
)
@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_what_is_no_sosreport_is_one_line(tmp_path, files, words, kind):
    path = (
        str(write_folder(tmp_path / NAME, files, {}))
        if kind == "folder"
        else packed(tmp_path, kind, files, {})
    )
    with pytest.raises(SnapshotError, match=words) as refused:
        open_sosreport(path, "report")
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("report: ")


@pytest.mark.parametrize("leads_to", ["/proc/self/net", "../../../proc/self/net"])
@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_a_link_out_of_the_report_is_refused(tmp_path, leads_to, kind):
    files, links = debian_4_0()
    links |= {"proc/net": leads_to}
    path = (
        str(write_folder(tmp_path / NAME, files, links))
        if kind == "folder"
        else packed(tmp_path, kind, files, links)
    )
    with pytest.raises(SnapshotError, match="leads out of it"):
        open_sosreport(path, "report")


def test_nothing_is_written_anywhere(tmp_path, monkeypatch):
    path = packed(tmp_path, "tar.xz", *debian_4_0())
    before = {entry: os.stat(entry).st_mtime_ns for entry in (str(tmp_path), path)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    open_sosreport(path, "report")
    assert {entry: os.stat(entry).st_mtime_ns for entry in before} == before
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def test_a_name_that_is_no_namespace_of_the_report_is_a_question(tmp_path):
    path = packed(tmp_path, "tar", *debian_4_0())
    with pytest.raises(QuestionError, match="the host's only"):
        open_sosreport(path, "report", "blue")


# Listings of programs: who holds what, and more of each socket.


def with_listings(*names):
    files = {f"sos_commands/networking/{name}": sample(text) for name, text in names}
    more = {
        "sos_commands/process/ps_axo_flags_state_uid_pid_ppid_pgid_sid_cls_pri_addr_sz_wchan_20_lstart": PS,
        "sos_commands/process/ps_axo_pid_ppid_user_group_lwp_nlwp_start_time_comm_cgroup": PS_NAMES,
    }
    return debian_4_0(**files, **more)


SS = ("ss_-peaonmi", "ss-peaonmi")
NETSTAT = ("netstat_-W_-neopa", "netstat-W-neopa")


@pytest.mark.parametrize(
    "listings",
    [
        (NETSTAT,),
        (("netstat_-T_-neopa", "netstat-W-neopa"),),
        (("netstat_-neopa", "netstat-W-neopa"),),
        (SS,),
        (SS, NETSTAT, ("netstat_-W_-agn", "nstat-az")),
    ],
)
def test_who_holds_a_socket_is_told_by_a_listing(tmp_path, listings):
    path = packed(tmp_path, "tar.gz", *with_listings(*listings))
    look = open_sosreport(path, "report").samples.after
    assert counted(look) == EXPECTED
    leaked = look.detail[TcpState.CLOSE_WAIT].connections
    assert {(one.owner.holders[0].pid, one.owner.holders[0].name) for one in leaked} == {(49, "orders-api")}
    assert {one.receive_queue for one in leaked} == {19}


@pytest.mark.parametrize("name", ["lsof_M_-n_-l_-c", "lsof_-b_M_-n_-l_-c", "lsof_-b_M_-n_-l"])
def test_lsof_names_holders_where_only_the_tables_of_proc_list_sockets(tmp_path, name):
    files, links = debian_4_0()
    inodes = {line.split()[9] for line in files["proc/8835/net/tcp"].splitlines() if line.split()[3] == "08"}
    rows = [
        f"orders-ap {pid:5}   0   {fd}u  IPv4 {inode:>8}   0t0   TCP localhost:http-alt (CLOSE_WAIT)\n"
        for fd, inode in enumerate(sorted(inodes), start=5)
        for pid in (49, 53)
    ]
    files[f"sos_commands/process/{name}"] = "COMMAND PID USER FD TYPE DEVICE SIZE/OFF NODE NAME\n" + "".join(
        rows
    )
    look = open_sosreport(packed(tmp_path, "tar.gz", files, links), "report").samples.after
    leaked = look.detail[TcpState.CLOSE_WAIT].connections
    owners = {tuple((holder.pid, holder.name) for holder in one.owner.holders) for one in leaked}
    assert owners == {((49, "orders-ap"), (53, "orders-ap"))}
    assert {holder.fd for one in leaked for holder in one.owner.holders} == set(range(5, 5 + len(inodes)))


def test_a_listing_of_ss_tells_ages_and_limits_too(tmp_path):
    look = open_sosreport(packed(tmp_path, "tar.gz", *with_listings(SS)), "report").samples.after
    (full,) = [one for one in look.listeners if one.local.port == 9443]
    assert (full.accept_queue, full.accept_limit) == (6, 5)
    ages = {round(one.info.last_data_recv) for one in look.detail[TcpState.CLOSE_WAIT].connections}
    assert ages == {3}
    without = open_sosreport(packed(tmp_path, "tar", *with_listings(NETSTAT)), "report").samples.after
    (unsure,) = [one for one in without.listeners if one.local.port == 9443]
    assert unsure.accept_queue == 6
    assert isinstance(unsure.accept_limit, Missing)


def test_processes_are_those_that_ps_printed(tmp_path):
    processes = open_sosreport(
        packed(tmp_path, "tar", *with_listings(NETSTAT)), "report"
    ).samples.after.processes
    orders, payments = processes[49], processes[53]
    assert (orders.name, orders.uid, orders.parent) == ("orders-api", 0, 1)
    assert (payments.uid, payments.unit) == (1013, "payments.service")
    assert payments.command == "python3 /srv/pay/app.py"
    assert payments.started == TAKEN - 114 - BOOTED, "local time is an hour ahead"
    assert isinstance(payments.descriptors, Missing)


def test_a_listing_that_failed_says_nothing_and_the_rest_is_read(tmp_path):
    files, links = debian_4_0(**{"sos_commands/networking/ss_-peaonmi": "ss: command not found\n"})
    found = open_sosreport(packed(tmp_path, "tar", files, links), "report")
    assert counted(found.samples.after) == EXPECTED
    assert found.source.forms == ("proc", "sysctl")


# Network namespaces besides the host's.


NAMESPACES = {
    "4.0": "sos_commands/networking/ip_netns_exec_{netns}_{command}",
    "4.5": "sos_commands/networking/namespaces/{netns}/ip_netns_exec_{netns}_{command}",
    "bare": "sos_commands/networking/namespaces/{netns}/{command}",
}


@pytest.mark.parametrize("layout", NAMESPACES)
@pytest.mark.parametrize("kind", ["tar.xz", "folder"])
def test_a_namespace_is_read_by_its_name(tmp_path, layout, kind):
    name = NAMESPACES[layout]
    inside = {
        name.format(netns="qrouter-17_blue", command="netstat_-W_-neopa"): sample("netstat-W-neopa"),
        name.format(netns="qrouter-17_blue", command="netstat_-s"): sample("netstat-s"),
        name.format(netns="qrouter-19", command="netstat_-s"): "Tcp:\n    41 resets sent\n",
    }
    files, links = debian_4_0(**inside)
    files["proc/8835/net/tcp"] = files["proc/8835/net/tcp"].splitlines()[0] + "\n"
    files["proc/8835/net/tcp6"] = files["proc/8835/net/tcp6"].splitlines()[0] + "\n"
    path = (
        str(write_folder(tmp_path / NAME, files, links))
        if kind == "folder"
        else packed(tmp_path, kind, files, links)
    )
    host = open_sosreport(path, "report").samples.after
    assert counted(host) == {}
    assert host.counters["TcpExt.ListenOverflows"] == 17
    look = open_sosreport(path, "report", "qrouter-17_blue").samples.after
    assert counted(look) == EXPECTED
    assert look.counters["TcpExt.ListenOverflows"] == 8
    assert (look.namespace_name, look.initial_namespace) == ("qrouter-17_blue", False)
    assert isinstance(look.sysctls["net.ipv4.tcp_fin_timeout"], Missing), "each namespace has its own"
    assert isinstance(look.sockstat, Missing)
    assert look.sysctls["fs.file-max"] == host.sysctls["fs.file-max"]
    with pytest.raises(QuestionError, match="it has qrouter-17_blue, qrouter-19"):
        open_sosreport(path, "report", "blue")


def test_check_asks_about_a_namespace_of_a_report(tmp_path):
    inside = "sos_commands/networking/ip_netns_exec_blue_"
    files, links = debian_4_0(
        **{
            f"{inside}netstat_-W_-neopa": sample("netstat-W-neopa"),
            f"{inside}netstat_-s": sample("netstat-s"),
        }
    )
    path = packed(tmp_path, "tar.gz", files, links)
    asked = json.loads(tcpdoctor("check", "--from", path, "--netns", "blue", "--json").stdout)
    assert asked["host"]["namespace_name"] == "blue"
    assert asked["source"]["kind"] == "sosreport"
    assert asked["states"]["close_wait"] == 17
    assert tcpdoctor("check", "--from", path, "--netns", "blue").stderr == ""
    for netns, words in (("green", "it has blue"), ("all", "give the name of one")):
        refused = tcpdoctor("check", "--from", path, "--netns", netns)
        assert refused.returncode == 3
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1
    other = tcpdoctor("check", "--from", str(SAMPLES / "ss-tan.txt"), "--netns", "blue")
    assert (other.returncode, other.stderr.count("\n")) == (3, 1)
    assert "--netns chooses among those of a sosreport" in other.stderr


def test_a_listing_that_ended_early_is_completed_by_the_tables_of_proc(tmp_path):
    files, links = with_listings(NETSTAT)
    name = "sos_commands/networking/netstat_-W_-neopa"
    files[name] = files[name][: len(files[name]) // 2]
    look = open_sosreport(packed(tmp_path, "tar", files, links), "report").samples.after
    assert counted(look) == EXPECTED
    assert look.census.complete is True
    owners = [one.owner for one in look.detail[TcpState.CLOSE_WAIT].connections]
    assert any(isinstance(owner, Held) for owner in owners)


@pytest.mark.slow
def test_of_a_hundred_thousand_sockets_one_whole_listing_is_read(tmp_path):
    files, links = with_listings(NETSTAT)
    name = "sos_commands/networking/netstat_-W_-neopa"
    first, second, *rest = files[name].splitlines(keepends=True)
    row = "tcp 19 0 127.0.0.1:8080 127.0.{}.1:{} CLOSE_WAIT 0 {} 49/python3 off (0.00/0/0)\n"
    many = [row.format(number % 250, 1_024 + number % 60_000, 2_000 + number) for number in range(100_000)]
    files[name] = "".join([first, second, *many, *rest[-2:]])
    path = packed(tmp_path, "tar", files, links)
    counted = set()

    def count():
        look = open_sosreport(path, "report").samples.after
        counted.add(look.census.by_state[TcpState.CLOSE_WAIT])

    assert is_done_within(6, count)
    assert counted == {100_000}


@pytest.mark.parametrize("kind", ["tar.xz", "folder"])
def test_what_set_a_value_is_told_from_the_files_in_the_report(tmp_path, kind):
    settings = sample("sysctl-a") + "net.ipv4.tcp_mem = 289674\t386232\t579348\n"
    settings = settings.replace("net.core.somaxconn = 4096", "net.core.somaxconn = 4093")
    files, links = debian_4_0(**{"sos_commands/kernel/sysctl_-a": settings})
    files["usr/lib/sysctl.d/50-vendor.conf"] = "net.core.somaxconn = 4091\n"
    files["usr/lib/sysctl.d/90-local.conf"] = "net.core.somaxconn = 4099\n"
    links["etc/sysctl.d/80-none.conf"] = "/dev/null"
    path = (
        str(write_folder(tmp_path / NAME, files, links))
        if kind == "folder"
        else packed(tmp_path, kind, files, links)
    )
    tree = open_sosreport(path, "report").settings
    assert [file.path for file in tree.files] == [
        "/usr/lib/sysctl.d/50-vendor.conf",
        "/etc/sysctl.d/80-none.conf",
        "/etc/sysctl.d/90-local.conf",
        "/etc/sysctl.d/99-sysctl.conf",
    ]
    assert [file.mask for file in tree.files] == [False, True, False, False]
    assert tree.files[2].hides == ("/usr/lib/sysctl.d/90-local.conf",)
    assert tree.files[3].content == tree.last.content == b"net.ipv4.tcp_fin_timeout = 61\n"
    shown = tcpdoctor("sysctl", "show", "somaxconn", "--from", path, "--json")
    (setting,) = json.loads(shown.stdout)["sysctls"]
    assert "/etc/sysctl.d/90-local.conf" in json.dumps(setting)
    assert "50-vendor" not in json.dumps(setting)
    linted = json.loads(tcpdoctor("sysctl", "lint", "--from", path, "--json").stdout)
    assert linted["host"]["name"] == "orders-01"
    assert [(fault["file"], fault["check"]) for fault in linted["faults"]] == [
        ("/etc/sysctl.d/90-local.conf", "somaxconn-lowered"),
        ("/etc/sysctl.d/99-sysctl.conf", "fin-timeout-between-61-and-89"),
    ]


def test_a_report_without_files_of_settings_says_so(tmp_path):
    files, links = debian_4_0()
    bare = {
        name: text for name, text in files.items() if "sysctl.d" not in name and "sysctl.conf" not in name
    }
    links = {name: to for name, to in links.items() if "sysctl" not in name}
    path = packed(tmp_path, "tar", bare, links)
    assert isinstance(open_sosreport(path, "report").settings, Missing)
    assert "they are not in the recording" in tcpdoctor("sysctl", "show", "somaxconn", "--from", path).stdout
    refused = tcpdoctor("sysctl", "lint", "--from", path)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (3, "", 1)
    assert "sysctl show --changed --from" in refused.stderr


def test_no_udp_sockets_in_whole_tables_are_none(tmp_path):
    files, links = debian_4_0(
        **{"proc/8835/net/udp": "  sl  local_address rem_address st inode ref pointer drops\n"}
    )
    assert open_sosreport(packed(tmp_path, "tar", files, links), "report").udp == ()
    del files["proc/8835/net/udp"]
    assert isinstance(open_sosreport(packed(tmp_path, "tar", files, links), "report").udp, Missing)

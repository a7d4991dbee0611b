"""Sosreports made by script: the layouts of several releases and distributions, around real output."""

import io
import tarfile
from pathlib import Path

from tcpdoctor.errors import SnapshotError
from tcpdoctor.recordings.forms import read_forms

SAMPLES = Path(__file__).parent / "samples"
NAME = "sosreport-orders-01-2021-11-30-abcdefg"
TAKEN = 1_638_230_591
"""Tue Nov 30 00:03:11 UTC 2021, when the sockets were listed."""
BOOTED = TAKEN - 35_353

_PS_HEADING = "F S UID PID PPID PGID SID CLS PRI ADDR SZ WCHAN STARTED TT TIME CMD"
PS = f"""\\
{_PS_HEADING}
4 S     0  49   1  49  49 TS  19 - 4711 -      Tue Nov 30 01:01:11 2021 ? 00:00:01 python3 /srv/orders/app.py
4 S  1013  53   1  53  53 TS  19 - 4711 ep_pol Tue Nov 30 01:01:17 2021 ? 00:00:01 python3 /srv/pay/app.py
"""
PS_NAMES = """\
    PID    PPID USER     GROUP        LWP NLWP START COMMAND         CGROUP
     49       1 root     root          49    1 00:01 orders-api      0::/system.slice/orders.service
     53       1 payments payments      53    1 00:01 payments        0::/system.slice/payments.service
"""


def sample(name):
    return (SAMPLES / f"{name}.txt").read_text()


def forms_in(text):
    """The forms that are told apart in a paste; none where nothing is understood."""
    try:
        return [one.form for one in read_forms(text, "paste")]
    except SnapshotError:
        return []


def files_of_report():
    """What every layout has, by name; the tables of /proc/net by their bare names."""
    proc = {
        "tcp": sample("proc-net-tcp"),
        "tcp6": sample("proc-net-tcp6"),
        "sockstat": sample("proc-net-sockstat"),
        "netstat": "TcpExt: ListenOverflows ListenDrops\nTcpExt: 17 19\n",
        "snmp": "Tcp: ActiveOpens PassiveOpens CurrEstab\nTcp: 37 35 39\n",
        "snmp6": "Ip6InReceives                   \t43\n",
        "softnet_stat": "0000001d 0000001f 00000025" + " 00000000" * 10 + "\n",
    }
    commands = {
        "sos_commands/date/date": "Tue Nov 30 01:02:41 CET 2021\n",
        "sos_commands/date/date_--utc": "Tue Nov 30 00:02:41 UTC 2021\n",
        "sos_commands/host/hostname": "orders-01\n",
        "sos_commands/host/uptime": " 01:02:41 up  9:48,  0 user,  load average: 4.43, 3.22, 2.82\n",
        "sos_commands/kernel/uname_-a": "Linux orders-01 6.1.0-13-amd64 #1 SMP Debian x86_64 GNU/Linux\n",
        "sos_commands/kernel/sysctl_-a": sample("sysctl-a"),
        "proc/stat": f"cpu  1 2 3\nbtime {BOOTED}\n",
        "proc/meminfo": "MemTotal:       24684084 kB\n",
        "etc/sysctl.conf": "net.ipv4.tcp_fin_timeout = 61\n",
        "etc/sysctl.d/90-local.conf": "net.core.somaxconn = 4093\n",
        "var/log/messages": "Nov 30 00:00:01 orders-01 systemd[1]: Started.\n" * 50,
    }
    return proc, commands


LINKS = {
    "date": "sos_commands/date/date",
    "hostname": "sos_commands/host/hostname",
    "uname": "sos_commands/kernel/uname_-a",
    "uptime": "sos_commands/host/uptime",
    "netstat": "sos_commands/networking/netstat_-W_-neopa",
    "lib": "usr/lib",
    "etc/sysctl.d/99-sysctl.conf": "../sysctl.conf",
}


def debian_4_0(**more):
    """Debian 12: /proc/net is a link to the folder of sos's own process."""
    proc, commands = files_of_report()
    found = {f"proc/8835/net/{name}": text for name, text in proc.items()} | commands | more
    return found, LINKS | {"proc/net": "self/net", "proc/self": "8835"}


def rhel_8(**more):
    """RHEL 8: /proc/net is a folder, and netstat is told to be wide by -T."""
    proc, commands = files_of_report()
    found = {f"proc/net/{name}": text for name, text in proc.items()} | commands | more
    return found, LINKS | {"netstat": "sos_commands/networking/netstat_-T_-neopa"}


LAYOUTS = {"debian 12": debian_4_0, "rhel 8": rhel_8}


def write_folder(top, files, links):
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    for name, leads_to in links.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).symlink_to(leads_to)
    return top


def tar_of_report(files, links, top=f"{NAME}/"):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"{top}{name}")
            data = text.encode()
            info.size, info.mtime = len(data), TAKEN
            tar.addfile(info, io.BytesIO(data))
        for name, leads_to in links.items():
            info = tarfile.TarInfo(f"{top}{name}")
            info.type, info.linkname = tarfile.SYMTYPE, leads_to
            tar.addfile(info)
    return made.getvalue()

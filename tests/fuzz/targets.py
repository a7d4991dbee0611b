"""Each parser of bytes that others choose, with seeds to begin from and the errors that it documents."""

import bz2
import functools
import gzip
import json
import lzma
import os
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from tcpdoctor.answers.host_report import looks_of
from tcpdoctor.answers.words import port_of
from tcpdoctor.diagnosis.library import parse_config
from tcpdoctor.diagnosis.rule import parse_rule
from tcpdoctor.errors import ConfigError, KernelReadError, QuestionError, RuleError, SnapshotError
from tcpdoctor.kernel.addresses import parse_interface_addresses, parse_local_table
from tcpdoctor.kernel.cgroups import parse_place
from tcpdoctor.kernel.counters import (
    parse_conntrack_stat,
    parse_named_lines,
    parse_paired_lines,
    parse_sockstat,
    parse_softnet,
)
from tcpdoctor.kernel.listing import decode_proc_line
from tcpdoctor.kernel.processes import parse_descriptor_limit, parse_start_time, parse_status
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.recorded import (
    LAST_FORMAT,
    LastFile,
    LastRun,
    Told,
    as_earlier,
    pack,
    pack_samples,
    unpack_samples,
)
from tcpdoctor.kernel.redirects import parse_virtual_servers
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.sock_diag_rows import ROW, decode_row
from tcpdoctor.kernel.survey import NOT_ASKED, Seen
from tcpdoctor.kernel.sysctl import parse_sysctl
from tcpdoctor.kernel.sysctl_files import Reader, read_lines
from tcpdoctor.recordings.archive import gather
from tcpdoctor.recordings.assembled import Circumstances, assemble
from tcpdoctor.recordings.forms import read_forms, read_settings_text
from tcpdoctor.recordings.nstat import read_counters_text
from tcpdoctor.recordings.opened import open_recording
from tcpdoctor.recordings.procfiles import read_proc_text
from tcpdoctor.recordings.recording import Recording, pack_snapshot, unpack_snapshot
from tcpdoctor.recordings.sosreport import AT_TOP, is_wanted, namespaces_in, recording_of
from tcpdoctor.recordings.source import Source
from tests.facts.samples import CONNECTION, LISTENER, once, snapshot
from tests.recordings.reports import PS, tar_of_report

CHECKOUT = Path(__file__).resolve().parents[2]


class Target(NamedTuple):
    """A parser, and what may come of it."""

    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    """What it documents to raise; anything else is a fault."""
    seeds: tuple[bytes, ...]
    """Inputs that it takes, to be changed."""


def text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    """A parser of text as one of bytes, read as the program reads such files."""
    return lambda data: parse(data.decode("utf-8", "replace"))


def rules() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((CHECKOUT / "rules").glob("*/*.toml"))[::7])


def parse_report(data: bytes) -> list[object]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return []
    return list(looks_of(document))


REPORT = {
    "schema": "tcpdoctor.check/1",
    "tool": {"name": "tcpdoctor", "version": "0.1.0"},
    "host": {"name": "web1", "kernel": "6.1.0", "namespace": "4026531840", "namespace_name": None},
    "taken_at": "2026-11-20T12:00:00Z",
    "status": "ok",
    "exit_code": 0,
    "summary": {"info": 0, "warning": 0, "critical": 0, "checked": 1, "unchecked": 0},
    "findings": [],
    "unchecked": [{"rule": "accept-queue-overflow", "reason": "needs two samples"}],
}
TCP = (
    b"   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100"
)
DIAG = struct.pack("=IHHII", ROW, 20, 2, 1, 1) + bytes([2, 1, 0, 0]) + bytes(ROW - 20)
TABLE = b"Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n"
STAT = b"811 (a ) b) S 1 811 811 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5121 1 1 1 1 1 1 1 1 0 0 0 0 0 17 0"
SOURCE = "file"
TOLD = Told("0123456789abcdef", "close-wait-leak", "warning", "nginx (811)", "sockets are not closed", 1.7e9)
PROC_TEXT = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    b" 0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 17 1 0 100 0 0 10 0\n"
    b"   1: 0200007F:1538 0100007F:91EE 06 00000000:00000000 03:0000162B 00000000     0        0 0 3 0\n"
    b"TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 3 17\nIp6InReceives 43\nTCP: inuse 38 orphan 0\n"
    b"0000001d 0000001f 00000025 0 0\nentries drop insert_failed\n00000011 00000013 00000017\n"
)
COUNTERS = (
    b"#kernel\nTcpExtListenOverflows 8 0.0\nIcmp6InMsgs 0 0.0\ncpu=0 found=3 invalid=5 drop=11\n",
    b"Tcp:\n    37 active connection openings\nTcpExt:\n    8 SYNs to LISTEN sockets dropped\n    A: 6\n",
)
SETTINGS_TEXT = (
    b"sysctl: permission denied on key 'fs.protected_fifos'\nnet.ipv4.tcp_rmem = 4096\t131072\t6291456\n"
    b"net.ipv4.ip_local_reserved_ports = 8080,9000-9010\nnet.ipv4.tcp_congestion_control = cubic\n"
)
PACKERS: tuple[Callable[[bytes], bytes], ...] = (bytes, gzip.compress, lzma.compress, bz2.compress)
REPORT_TAR = tar_of_report(
    {
        "proc/17/net/tcp": PROC_TEXT.decode(),
        "sos_commands/kernel/sysctl_-a": SETTINGS_TEXT.decode(),
        "sos_commands/networking/ip_netns_exec_blue_netstat_-s": COUNTERS[1].decode(),
        "sos_commands/date/date": "Tue Nov 30 00:02:41 UTC 2021\n",
        "sos_commands/process/ps_axo_flags_state_uid_pid_ppid_pgid_sid": PS,
        "proc/stat": "btime 1638190000\n",
    },
    {"proc/net": "self/net", "proc/self": "17", "date": "sos_commands/date/date"},
)
PLACES = (
    b"0::/system.slice/nginx.service\n",
    b"12:pids:/kubepods.slice/kubepods-burstable.slice/kubepods-pod1_2.slice/cri-containerd-"
    + b"ab" * 32
    + b".scope\n1:name=systemd:/docker/"
    + b"0" * 64
    + b"\n",
    b"0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service/libpod-" + b"c" * 64 + b"\n",
)
VIRTUAL = (
    b"IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n"
    b"TCP  0A000001:0050 rr\n  -> 0A000002:0050      Masq    1      0          0\n"
    b"TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr\nFWM  00000001 rr\n"
)


def tar_with_sums(data: bytes) -> bytes:
    """The archive with the sum in each of its headers that was changed made right again."""
    blocks = bytearray(data)
    for at in range(0, len(blocks) - 511, 512):
        if blocks[at + 257 : at + 262] == b"ustar":
            blocks[at + 148 : at + 156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + 512])
    return bytes(blocks)


def parse_archive(data: bytes) -> None:
    """Read an archive and follow every link in it."""
    files = gather(BytesIO(data), SOURCE, is_wanted, AT_TOP)
    for name in (*files.kept, *files.links):
        files.find(name, SOURCE)


def parse_sosreport(data: bytes) -> None:
    """Read an archive, and what it says of a host and of a network namespace."""
    files = gather(BytesIO(tar_with_sums(data)), SOURCE, is_wanted, AT_TOP)
    for netns in (None, *namespaces_in(files)):
        recording_of(files, SOURCE, netns, trust_times=True)


def beginning(name: str, lines: int, width: int = 700) -> bytes:
    """The first lines of a recording's sample, without the blanks at their ends."""
    path = CHECKOUT / "tests" / "recordings" / "samples" / f"{name}.txt"
    kept = path.read_bytes().splitlines()[:lines]
    return b"".join(line.rstrip()[:width] + b"\n" for line in kept)


LSOF = (
    b"COMMAND   PID USER   FD   TYPE  DEVICE SIZE/OFF NODE NAME\n"
    b"orders-ap  49 root    3u  IPv4 18801330      0t0  TCP 127.0.0.1:8080 (LISTEN)\n"
    b'od"d\\x20(  51 root    4u  IPv6 18801335      0t0  TCP [::1]:9090->[::1]:52768 (ESTABLISHED)\n'
)
PASTE = b"".join(
    (
        b"root@web1:~# ss -tan | head -8\n",
        beginning("ss-tan", 8),
        b"> $ netstat -anp\r\n",
        beginning("netstat-tanpo", 6),
        b"```\n\x1b[1mss -s\x1b[m\n",
        beginning("ss-s", 9),
        beginning("pipeline-awk-uniq", 8),
        LSOF,
        beginning("proc-net-tcp", 3),
        beginning("proc-net-sockstat", 3),
        beginning("nstat-az", 5),
        beginning("sysctl-a", 5),
        beginning("netstat-s", 8),
    )
)


def parse_paste(data: bytes) -> object:
    """Read a paste, and make the look of it that rules are asked about."""
    forms = read_forms(data.decode("utf-8", "surrogateescape"), SOURCE)
    return assemble(forms, Circumstances(taken_at=0.0))


def parse_snapshot(data: bytes) -> object:
    """Read a recording of ours whole, each of its sockets too."""
    found = unpack_snapshot(data, SOURCE)
    return found.sockets if isinstance(found.sockets, Missing) else tuple(found.sockets)


def parse_from(data: bytes) -> object:
    """Open what `--from` names, whatever it is, and look at each of its sockets."""
    descriptor = os.memfd_create("fuzz")
    try:
        os.write(descriptor, data)
        found = open_recording(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return found.sockets if isinstance(found.sockets, Missing) else tuple(found.sockets)


def snapshots() -> tuple[bytes, ...]:
    """The same recording plain and packed."""
    look = snapshot()
    seen = (Seen(CONNECTION, NOT_ASKED), Seen(LISTENER, {"SO_REUSEADDR": True}))
    recorded = Recording(Source("snapshot", (), 2), Samples(look, look), seen)
    return tuple(pack_snapshot(recorded, gzipped=gzipped) for gzipped in (False, True))


def parse_setting(data: bytes) -> None:
    """Give a setting the text behind its name."""
    name, _, text = data.decode("utf-8", "surrogateescape").partition(" ")
    parse_sysctl(name, text, SOURCE)


TARGETS: dict[str, Target] = {
    "rule": Target(text(lambda text: parse_rule(text, SOURCE, "close")), (RuleError,), rules()),
    "config": Target(
        text(lambda text: parse_config(text, SOURCE)),
        (ConfigError,),
        (b"[rules.close-wait-leak]\nenabled = false\n[rules.close-wait-leak.limits]\nmin_sockets = 50\n",),
    ),
    "report": Target(parse_report, (), (json.dumps(REPORT).encode(),)),
    "recording": Target(
        lambda data: unpack_samples(data, SOURCE), (SnapshotError,), (pack_samples(once(snapshot())),)
    ),
    "snapshot": Target(parse_snapshot, (SnapshotError,), snapshots()),
    "from": Target(
        parse_from, (SnapshotError, QuestionError), (snapshots()[0], PASTE, PACKERS[0](REPORT_TAR))
    ),
    "since last": Target(
        lambda data: LastFile(SOURCE, data, SOURCE).read(),
        (SnapshotError,),
        (pack(LAST_FORMAT, LastRun, LastRun("boot", as_earlier(snapshot()), (TOLD,))),),
    ),
    "netlink row": Target(decode_row, (KernelReadError,), (DIAG,)),
    "proc net tcp": Target(decode_proc_line, (KernelReadError,), (TCP,)),
    "snmp": Target(
        text(lambda text: parse_paired_lines(text, SOURCE)),
        (KernelReadError,),
        (b"Tcp: RtoMin OutSegs\nTcp: 200 12\nUdp: A\nUdp: 1\n",),
    ),
    "snmp6": Target(
        text(lambda text: parse_named_lines(text, SOURCE)), (KernelReadError,), (b"Ip6InReceives 1\n",)
    ),
    "sockstat": Target(
        text(lambda text: parse_sockstat(text, SOURCE)), (KernelReadError,), (b"TCP: inuse 5 orphan 0\n",)
    ),
    "softnet": Target(
        text(lambda text: parse_softnet(text, SOURCE)),
        (KernelReadError,),
        (b"00c76364 000002f6 0000000d 0 0\n",),
    ),
    "conntrack": Target(
        text(lambda text: parse_conntrack_stat(text, SOURCE)),
        (KernelReadError,),
        (b"entries drop\n1 0a\n1 ff\n",),
    ),
    "local addresses": Target(
        text(lambda text: parse_local_table(text.splitlines(keepends=True))), (KernelReadError,), (TABLE,)
    ),
    "interface addresses": Target(
        text(lambda text: parse_interface_addresses(text.splitlines(keepends=True))),
        (KernelReadError,),
        (b"00000000000000000000000000000001 01 80 10 80       lo\n",),
    ),
    "status": Target(
        text(lambda text: parse_status(text, SOURCE)),
        (KernelReadError,),
        (b"Name:\tx\nPPid:\t1\nUid:\t0\t0\t0\t0\nFDSize:\t64\n",),
    ),
    "stat": Target(text(lambda text: parse_start_time(text, SOURCE)), (KernelReadError,), (STAT,)),
    "limits": Target(
        text(lambda text: parse_descriptor_limit(text, SOURCE)),
        (KernelReadError,),
        (b"Max open files            1024                 1048576              files\n",),
    ),
    "control group": Target(text(parse_place), (), PLACES),
    "virtual servers": Target(text(lambda text: parse_virtual_servers(text, "tcp")), (), (VIRTUAL,)),
    "proc text": Target(text(read_proc_text), (), (PROC_TEXT,)),
    "counters text": Target(text(read_counters_text), (), COUNTERS),
    "settings text": Target(text(read_settings_text), (), (SETTINGS_TEXT,)),
    "archive": Target(parse_archive, (SnapshotError,), tuple(pack(REPORT_TAR) for pack in PACKERS)),
    "sosreport": Target(parse_sosreport, (SnapshotError, QuestionError), (REPORT_TAR,)),
    "setting": Target(
        parse_setting,
        (KernelReadError,),
        (
            b"net.ipv4.tcp_fin_timeout 60\n",
            b"net.ipv4.tcp_rmem 4096\t131072\t6291456\n",
            b"net.ipv4.ip_local_port_range 32768\t60999\n",
            b"net.ipv4.ip_local_reserved_ports 80,90-99\n",
            b"net.ipv4.tcp_other 1 2\n",
        ),
    ),
    "port": Target(
        text(port_of),
        (QuestionError,),
        (b"8080", b"[::1]:8080", b"http", b"10.0.0.1:80", b"localhost:80", b"*:443"),
    ),
    "ss": Target(
        parse_paste,
        (SnapshotError,),
        (beginning("ss-tanoempi", 14), beginning("ss-tanp", 9), beginning("ss-peaonmi", 7)),
    ),
    "netstat": Target(
        parse_paste,
        (SnapshotError,),
        (beginning("netstat-tanp-de", 8), beginning("netstat-W-neopa", 8), beginning("netstat-anp", 8)),
    ),
    "lsof": Target(parse_paste, (SnapshotError,), (LSOF,)),
    "counts": Target(parse_paste, (SnapshotError,), (beginning("pipeline-awk-uniq", 9),)),
    "paste": Target(parse_paste, (SnapshotError,), (PASTE,)),
    **{
        f"settings as {reader.name.lower()}": Target(
            functools.partial(read_lines, reader=reader),
            (),
            (b"# x\nnet.ipv4.tcp_fin_timeout = 30\n-net/ipv4/conf/*/rp_filter=1\n-key\n",),
        )
        for reader in Reader
    },
}
"""By name."""

"""What reading a recording of very many sockets costs: CPU time and peak memory of `check --from`.

    .venv/bin/python bench/recordings.py [SOCKETS]
    .venv/bin/python bench/recordings.py --sick [SHARE [FORMAT...]]

With --sick there is something to say of each of very many: 200,000 destinations that do not answer,
30,000 full listeners, 50,000 processes that leak, 1,000 containers that do, or a share of that. All of them
and half of them are told in every format.

Else the recording has 100,000 sockets if nothing else is said: seven of ten established, two in TIME_WAIT,
one in CLOSE_WAIT, as each program prints them and as `tcpdoctor snapshot` writes them.
"""

import multiprocessing
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from socket import inet_aton

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Held
from tcpdoctor.recordings.opened import open_recording
from tcpdoctor.recordings.recording import Recording, pack_snapshot

SAMPLE = Path(__file__).resolve().parents[1] / "tests" / "recordings" / "samples" / "ss-tanoempi.txt"
MIX = ("ESTAB", "ESTAB", "ESTAB", "ESTAB", "ESTAB", "ESTAB", "ESTAB", "TIME-WAIT", "TIME-WAIT", "CLOSE-WAIT")


FORMATS = ("text", "json", "jsonl", "nagios", "prometheus", "junit", "markdown", "html", "journal")
DETAILS = (
    "\t skmem:(r0,rb131072,t0,tb87040,f0,w0,o0,bl0,d0) ts sack cubic wscale:7,7 rto:{rto} backoff:{backoff} "
    "rtt:0.5/0.2 mss:1448 pmtu:1500 lastsnd:7200000 lastrcv:7200000 lastack:7100000"
)


def destination(place: int) -> list[str]:
    """An attempt to connect that is not answered, to an end of its own."""
    remote = f"192.{place >> 16}.{place >> 8 & 255}.{place & 255}:443"
    who = (
        f'users:(("client",pid={100 + place % 7},fd={3 + place // 7})) ino:{place + 9000} sk:{place + 4096:x}'
    )
    return [
        f"SYN-SENT 0 1 10.0.0.1:{1024 + place % 60_000} {remote} timer:(on,6sec,4) {who} cgroup:/ <->",
        DETAILS.format(rto=16000, backoff=4),
    ]


def listener(place: int) -> list[str]:
    """A listener whose accept queue is full."""
    local = f"10.0.{place // 30_000}.1:{1024 + place % 30_000}"
    line = (
        f'LISTEN 129 128 {local} 0.0.0.0:* users:(("server",pid={100 + place},fd=3)) ino:{place + 9000} '
        f"sk:{place + 4096:x} cgroup:/ <->"
    )
    return [line]


def leak(place: int, group: str = "/", rows: int = 3) -> list[str]:
    """A process that keeps connections which its peers ended two hours ago."""
    found = []
    for row in range(rows):
        number = place * rows + row
        remote = f"192.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:{1024 + number % 60_000}"
        line = (
            f'CLOSE-WAIT 1 0 10.0.0.1:8080 {remote} users:(("worker",pid={100 + place},fd={5 + row})) '
            f"ino:{number + 9000} sk:{number + 4096:x} cgroup:{group} <->"
        )
        found += [line, DETAILS.format(rto=204, backoff=0)]
    return found


def container(place: int) -> list[str]:
    """A leak in a container."""
    return leak(place, f"/system.slice/docker-{place:064x}.scope", 31)


OTHERS = ("netstat", "lsof", "proc")
QUESTIONS = (
    ("check",),
    ("states", "--by", "process"),
    ("explain", "close-wait"),
    ("explain", "--port", "8080"),
)

LEAST = {"close-wait-leak": 3, "syn-sent-unanswered": 1}
"""Sockets of one process or destination from which on it is told here: by default a hundred, and three."""

SICK = {
    "destinations": (200_000, destination),
    "listeners": (30_000, listener),
    "processes": (50_000, leak),
    "containers": (1_000, container),
}


def tell_sick(share: float, formats: Sequence[str]) -> None:
    """Print CPU time, peak memory and bytes of each format, of half and of all of them."""
    config = "".join(f"[rules.{rule}.limits]\nmin_sockets = {least}\n" for rule, least in LEAST.items())
    head = SAMPLE.read_text(encoding="utf-8").splitlines()[0]
    for name, (number, one) in SICK.items():
        for some in (round(number * share / 2), round(number * share)):
            with tempfile.TemporaryDirectory() as folder:
                path, told, limits = (Path(folder, name) for name in ("ss.txt", "told", "limits.toml"))
                limits.write_text(config, encoding="utf-8")
                with path.open("w", encoding="utf-8") as file:
                    file.write(head + "\n")
                    file.writelines(f"{line}\n" for place in range(some) for line in one(place))
                for kind in formats:
                    used = cost(
                        ("check", "--format", kind, "--config", str(limits), "--from", str(path)), told
                    )
                    print(
                        f"{some:>7,} {name:<12}  {kind:<10}  {used}, {told.stat().st_size:>9,} bytes",
                        flush=True,
                    )


def main() -> None:
    """Print one line for each form and question."""
    if sys.argv[1:2] == ["--sick"]:
        tell_sick(float(sys.argv[2]) if sys.argv[2:] else 1.0, sys.argv[3:] or FORMATS)
        return
    number = int(sys.argv[1]) if sys.argv[1:] else 100_000
    with tempfile.TemporaryDirectory() as folder:
        aside = multiprocessing.Process(target=write, args=(number, Path(folder)))
        aside.start()  # what this process takes would count as that of those that it starts
        aside.join()
        for path in sorted(Path(folder).iterdir()):
            print(f"{path.name}: {number:,} sockets, {path.stat().st_size / 1e6:.1f} MB")
            for words in QUESTIONS:
                print(f"  {' '.join(words):<22}  {cost((*words, '--from', str(path)))}", flush=True)


def write(number: int, folder: Path) -> None:
    """Write the recording in every form."""
    pasted = folder / "ss.txt"
    pasted.write_text(listing(number), encoding="utf-8")
    recording = open_recording(str(pasted))
    for name, gzipped in (("case.json", False), ("case.json.gz", True)):
        (folder / name).write_bytes(pack_snapshot(recording, gzipped=gzipped))
    forms = other_forms(recording)
    for name, text in forms.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    with tarfile.open(folder / "sosreport.tar.xz", "w:xz", preset=1) as report:
        for name, text in (
            ("sos_commands/networking/netstat_-W_-neopa", forms["netstat"] + "Active UNIX domain sockets\n"),
            ("sos_commands/networking/ss_-peaonmi", pasted.read_text(encoding="utf-8")),
            ("proc/net/tcp", forms["proc"]),
        ):
            info = tarfile.TarInfo(f"sosreport-web1/{name}")
            info.size = len(text)
            report.addfile(info, BytesIO(text.encode()))


def other_forms(recording: Recording) -> dict[str, str]:
    """What other programs print of these sockets."""
    netstat = [
        "Active Internet connections (servers and established)",
        "Proto Recv-Q Send-Q Local Address Foreign Address State User Inode PID/Program name Timer",
    ]
    lsof = ["COMMAND PID USER FD TYPE DEVICE SIZE/OFF NODE NAME"]
    proc = [
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    ]
    for place, seen in enumerate(() if isinstance(recording.sockets, Missing) else recording.sockets):
        row = seen.row
        if not isinstance(row, Connection):
            continue
        held = row.owner.holders[0] if isinstance(row.owner, Held) else None
        inode = place + 9000 if held else 0
        ends = f"{row.local} {row.remote}"
        program = f"{held.pid}/{held.name} off (0.00/0/0)" if held else "- timewait (56.12/0/0)"
        queues = f"{row.receive_queue:6} {row.send_queue:6}"
        netstat.append(f"tcp {queues} {ends} {row.state.name} 0 {inode} {program}")
        if held:
            name = held.name[:9].replace(" ", r"\x20")
            leads = f"{row.local}->{row.remote} ({row.state.name})"
            lsof.append(f"{name} {held.pid} root {place % 60_000}u IPv4 {inode} 0t0 TCP {leads}")
        words = " ".join(f"{_hexadecimal(end.address)}:{end.port:04X}" for end in (row.local, row.remote))
        proc.append(
            f"{place:4}: {words} {int(row.state):02X} {row.send_queue:08X}:{row.receive_queue:08X} "
            f"00:00000000 00000000 0 0 {inode} 1 0000000000000000 20 4 30 10 -1"
        )
    return {name: "\n".join([*lines, ""]) for name, lines in zip(OTHERS, (netstat, lsof, proc), strict=True)}


def _hexadecimal(address: str) -> str:
    return f"{int.from_bytes(inet_aton(address), sys.byteorder):08X}"


def listing(number: int) -> str:
    """So many sockets as `ss` prints them, each with other ends and another cookie."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    told = {}
    for line, details in zip(lines, [*lines[1:], ""], strict=True):
        state = line.partition(" ")[0]
        if state in MIX and ("users:" in line or state == "TIME-WAIT"):
            told.setdefault(state, (line, details if details.startswith(("\t", " ")) else ""))
    found = [lines[0]]
    for place in range(number):
        line, details = told[MIX[place % len(MIX)]]
        local, remote = line.split()[3:5]
        low, high = place & 255, place >> 8 & 255
        line = line.replace(local, f"10.{place >> 16}.{high}.{low}:8080", 1)
        line = line.replace(remote, f"192.0.{high}.{low}:{1024 + place % 60_000}", 1)
        found += [re.sub("sk:[0-9a-f]+", f"sk:{place + 4096:x}", line), *filter(None, [details])]
    return "\n".join(found) + "\n"


def cost(words: tuple[str, ...], told: Path = Path(os.devnull)) -> str:
    """Run one command, with what it prints in a file; return its CPU time and the most memory that it had."""
    with told.open("wb") as file:
        child = subprocess.Popen([sys.executable, "-m", "tcpdoctor", *words], stdout=file)
    _, _, used = os.wait4(child.pid, 0)
    return f"{used.ru_utime + used.ru_stime:5.2f} s of CPU, {used.ru_maxrss / 1024:5.0f} MiB"


if __name__ == "__main__":
    main()

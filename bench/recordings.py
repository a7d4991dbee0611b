"""What reading a recording of very many sockets costs: CPU time and peak memory of `check --from`.

    .venv/bin/python bench/recordings.py [SOCKETS]

The recording has 100,000 sockets if nothing else is said: seven of ten established, two in TIME_WAIT, one in
CLOSE_WAIT, once as `tcpdoctor snapshot` writes them and once as `ss -tanoempi` prints them.
"""

import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tcpdoctor.recordings.opened import open_recording
from tcpdoctor.recordings.snapshot_file import pack_snapshot

SAMPLE = Path(__file__).resolve().parents[1] / "tests" / "recordings" / "samples" / "ss-tanoempi.txt"
MIX = ("ESTAB", "ESTAB", "ESTAB", "ESTAB", "ESTAB", "ESTAB", "ESTAB", "TIME-WAIT", "TIME-WAIT", "CLOSE-WAIT")


def main() -> None:
    """Print one line for each form and question."""
    number = int(sys.argv[1]) if sys.argv[1:] else 100_000
    with tempfile.TemporaryDirectory() as folder:
        pasted, recorded = Path(folder, "ss.txt"), Path(folder, "case.json.gz")
        aside = multiprocessing.Process(target=write, args=(number, pasted, recorded))
        aside.start()  # what this process takes would count as that of those that it starts
        aside.join()
        for path in (recorded, pasted):
            print(f"{path.name}: {number:,} sockets, {path.stat().st_size / 1e6:.1f} MB")
            for words in (("check",), ("states", "--by", "process"), ("explain", "close-wait")):
                print(f"  {' '.join(words):<20}  {cost((*words, '--from', str(path)))}")


def write(number: int, pasted: Path, recorded: Path) -> None:
    """Write the recording in both forms."""
    pasted.write_text(listing(number), encoding="utf-8")
    recorded.write_bytes(pack_snapshot(open_recording(str(pasted)), gzipped=True))


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


def cost(words: tuple[str, ...]) -> str:
    """Run one command; return its CPU time and the most memory that it had."""
    child = subprocess.Popen([sys.executable, "-m", "tcpdoctor", *words], stdout=subprocess.DEVNULL)
    _, _, used = os.wait4(child.pid, 0)
    return f"{used.ru_utime + used.ru_stime:5.2f} s of CPU, {used.ru_maxrss / 1024:5.0f} MiB"


if __name__ == "__main__":
    main()

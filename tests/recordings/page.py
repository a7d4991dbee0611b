"""docs/recordings.md: what to ask for, and which rules each form answers; made from what the readers say.

`python -m tests.recordings.page` writes it; a test compares it with what they say now.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias

from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.library import Library, load_library
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Held, Samples
from tcpdoctor.recordings.assembled import Circumstances, assemble
from tcpdoctor.recordings.forms import read_forms
from tcpdoctor.recordings.pasted import Pasted, PastedSocket
from tests.recordings.reports import sample

TOLD = Circumstances(taken_at=1.0, initial_namespace=True, memory=6171021)
PAGE = Path(__file__).parents[2] / "docs" / "recordings.md"

MACHINE_WIDE = """\
fs.file-max = 2466165
net.core.netdev_max_backlog = 1000
net.ipv4.tcp_max_orphans = 131072
net.ipv4.tcp_mem = 289674\t386232\t579348
net.netfilter.nf_conntrack_count = 17
net.netfilter.nf_conntrack_max = 262144
net.netfilter.nf_conntrack_tcp_be_liberal = 0
net.netfilter.nf_conntrack_tcp_timeout_close_wait = 60
net.netfilter.nf_conntrack_tcp_timeout_established = 432000
net.netfilter.nf_conntrack_tcp_timeout_time_wait = 120
"""
CONNTRACK = (
    "cpu=0   \tfound=3 invalid=0 insert=0 insert_failed=0 drop=0 early_drop=0 error=0 search_restart=13\n"
)
LSOF = """\
COMMAND   PID USER   FD   TYPE   DEVICE SIZE/OFF NODE NAME
orders-ap  49 root    3u  IPv4 18801330      0t0  TCP 127.0.0.1:8080 (LISTEN)
orders-ap  49 root    4u  IPv4 18801474      0t0  TCP 127.0.0.1:8080->127.0.0.1:40696 (CLOSE_WAIT)
"""
SOFTNET = "0000001d 00000000 00000000" + " 00000000" * 10 + "\n"


def settings() -> str:
    lines = sample("sysctl-a").splitlines(keepends=True)
    known = {line.partition(" = ")[0] for line in MACHINE_WIDE.splitlines()}
    return "".join(line for line in lines if line.partition(" = ")[0] not in known) + MACHINE_WIDE


@cache
def texts() -> dict[str, str]:
    """One output of each command that people are asked for, all of the same moment."""
    return {
        "ss -tanoempi": sample("ss-tanoempi"),
        "ss -tanp": sample("ss-tanp"),
        "netstat -W -neopa": sample("netstat-W-neopa"),
        "cat /proc/net/tcp /proc/net/tcp6": sample("proc-net-tcp") + sample("proc-net-tcp6"),
        "lsof -nP -iTCP": LSOF,
        "... | sort | uniq -c": sample("pipeline-awk-uniq"),
        "nstat -az": sample("nstat-az"),
        "netstat -s": sample("netstat-s"),
        "sysctl -a": settings(),
        "cat /proc/net/sockstat": sample("proc-net-sockstat"),
        "cat /proc/net/softnet_stat": SOFTNET,
        "conntrack -S": CONNTRACK,
    }


@cache
def forms(command: str) -> tuple[Pasted, ...]:
    return tuple(read_forms(f"$ {command}\n{texts()[command]}", "sample"))


Tells: TypeAlias = Callable[[Pasted], bool]


def of_sockets(field: str) -> Tells:
    """Whether a form tells something of at least one socket that it lists."""

    def tells(form: Pasted) -> bool:
        return not isinstance(form.sockets, Missing) and any(_is_told(one, field) for one in form.sockets)

    return tells


def _is_told(socket: PastedSocket, field: str) -> bool:
    return not isinstance(getattr(socket, field), Missing)


def _has(field: str) -> Tells:
    return lambda form: not isinstance(getattr(form, field), Missing)


def _owners(form: Pasted) -> bool:
    return not isinstance(form.sockets, Missing) and any(isinstance(one.owner, Held) for one in form.sockets)


KNOWN: Sequence[tuple[str, Tells]] = (
    ("sockets by state", lambda form: _has("counts")(form) or _has("sockets")(form)),
    ("each socket", _has("sockets")),
    ("processes", _owners),
    ("unread and unsent bytes", of_sockets("receive_queue")),
    ("limit of accept queues", of_sockets("accept_limit")),
    ("timers", of_sockets("timer")),
    ("ages, round trip, retransmissions", of_sockets("info")),
    ("interfaces", of_sockets("device")),
    ("memory of buffers", of_sockets("memory")),
    ("counters", _has("counters")),
    ("sockstat", _has("sockstat")),
    ("packets of each CPU", _has("softnet")),
    ("settings", _has("sysctls")),
)


def knowledge() -> list[str]:
    """The table of forms and what each tells."""
    lines = ["| ask for | it tells |", "| --- | --- |"]
    for command in texts():
        told = [name for name, tells in KNOWN if any(map(tells, forms(command)))]
        lines.append(f"| `{command.replace('|', chr(92) + '|')}` | {', '.join(told)} |")
    return lines


LISTINGS = ("ss -tanoempi", "netstat -W -neopa", "cat /proc/net/tcp /proc/net/tcp6", "lsof -nP -iTCP")
OTHERS = ("sysctl -a", "nstat -az", "conntrack -S", "cat /proc/net/sockstat", "cat /proc/net/softnet_stat")


@cache
def library() -> Library:
    return load_library(shipped_texts())


def answered(commands: Sequence[str], looks: int) -> frozenset[str]:
    """The rules that are answered for all that they are about, by these outputs of one moment or of two."""
    look = assemble([form for one in commands for form in forms(one)], TOLD).samples.after
    earlier = look._replace(clock=look.clock - 10) if looks == 2 else None
    rules = library().rules
    diagnosis = diagnose(rules, Samples(earlier, look), library().most)
    return frozenset(rule.id for rule in rules) - {unchecked.rule for unchecked in diagnosis.unchecked}


def needed() -> dict[str, tuple[tuple[str, ...], int]]:
    """By rule the fewest outputs that answer it, of one moment if that is enough."""
    found: dict[str, tuple[tuple[str, ...], int]] = {}
    for looks in (1, 2):
        for number in range(1, 4):
            for commands in itertools.combinations((*LISTINGS, *OTHERS), number):
                if sum(command in LISTINGS for command in commands) <= 1:
                    for rule in answered(commands, looks):
                        found.setdefault(rule, (commands, looks))
    return found


WHOLE = ("ss -tanoempi", "nstat -az", "sysctl -a", "conntrack -S")
WHOLE_FILES = ("cat /proc/net/sockstat", "cat /proc/net/softnet_stat")
TEXT = """\
# What to ask for

`tcpdoctor check --from FILE` judges what somebody else saw. Best is a recording of its own, which has
all that rules ask for, and two looks, so that rates are in it (files of settings a sosreport alone has):

    tcpdoctor snapshot -o host.json.gz

Where tcpdoctor is not there, as root, all into one file, and ten seconds later into another:

    {whole}

    tcpdoctor check --from first.txt --from second.txt --window 10

That answers {both} of {all} rules; one file alone answers {one}. A sosreport is taken as it is, folder or
archive. It has `netstat -W -neopa` and /proc/net, `ss` only where all modules for it were loaded.

Ask in English (`LC_ALL=C`), with numbers (`-n`) and without `grep`: what part of a listing does not show is
not known, and no rule about single sockets is called clear. A listing without the command above it, as
`$ ss -tanoempi`, may be a part where it has no headings, no listener, or one family of addresses alone: of a
host without IPv6 ask for the command too. What a form does not tell is named together with what to ask for
(`check --from FILE --unanswered`), and never taken for 0.

## What each output tells

{knowledge}

`netstat` without `-W` cuts addresses. `nstat` without `-a` counts from its last run on; `nstat` without `-z`
and `netstat -s` leave out what is 0.

## The least that answers a rule

For a host like that of tests/recordings/samples; more never hurts.

{least}
"""


def page() -> str:
    """The whole of docs/recordings.md."""
    whole = (*WHOLE, *WHOLE_FILES)
    files = " ".join(command.rpartition(" ")[2] for command in WHOLE_FILES)
    return TEXT.format(
        whole="; ".join((*WHOLE, f"cat {files}")),
        both=len(answered(whole, 2)),
        one=len(answered(whole, 1)),
        all=len(library().rules),
        knowledge="\n".join(knowledge()),
        least="\n".join(least()),
    )


def least() -> list[str]:
    """The table of outputs and the rules that they answer."""
    groups: dict[tuple[tuple[str, ...], int], list[str]] = {}
    found = needed()
    for rule in library().rules:
        groups.setdefault(found.get(rule.id, ((), 0)), []).append(rule.id)
    lines = ["| rules | ask for |", "| --- | --- |"]
    for (commands, looks), rules in sorted(
        groups.items(), key=lambda each: (not each[0][1], each[0][1], each[0][0])
    ):
        asked = " and ".join(f"`{command}`" for command in commands) or "`tcpdoctor snapshot`"
        twice = ", twice" if looks == 2 else ""
        lines.append(f"| {', '.join(rules)} | {asked}{twice} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

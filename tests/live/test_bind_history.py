"""bind() predicted on ports with a past: what sockets that are gone left behind is seen nowhere.

A bind bucket remembers who shared it (fastreuseport, fastuid and an address, in inet_csk_update_fastreuse())
for as long as one socket is left. Sockets come and go on a port here; then every certain answer must hold.
"""

import contextlib
import os
import random
import socket
from collections import Counter

import pytest

from tcpdoctor.diagnosis.bind import ATTEMPTS
from tcpdoctor.diagnosis.port import Target, answer
from tcpdoctor.kernel.listing import lists_bound_sockets
from tcpdoctor.kernel.port_evidence import PortEvidence, read_port_evidence, seen_by
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.lab.namespace import write_sysctl
from tests.live.port_holders import (
    ON_ANY_DEVICE,
    WAYS,
    Recipe,
    Stage,
    acting_as,
    fin_wait_1_orphan,
    fin_wait_1_owned,
    fin_wait_2_orphan_whole,
    listening,
)
from tests.live.rare_holders import FOREIGN, RARE
from tests.live.test_bind_prediction import (
    NEW_ADDRESSES,
    VETH,
    has_veth,
    make_devices,
    random_recipe,
    really,
    uids,
)

CASES = int(os.environ.get("TCPDOCTOR_HISTORIES", "101"))
"""A prime; times four attempts."""
_CLOGGED = (fin_wait_1_orphan, fin_wait_1_owned, fin_wait_2_orphan_whole)


def accepted_by_another_user(stage: Stage) -> None:
    """A server that dropped its privileges: its connections are another user's than its port was."""
    listener = stage.listener()
    stage.client()
    with acting_as(next(uid for uid in (*uids()[::-1], stage.recipe.uid) if uid != stage.recipe.uid)):
        ours = listener.accept()[0]
    stage.open.callback(ours.close)
    listener.close()


COMING = [*(way for way in WAYS if way not in _CLOGGED), *RARE, *RARE]
SIMPLE = sorted(ON_ANY_DEVICE, key=lambda way: way.__name__)


def play(chance: random.Random, port: int, other: str, keep: contextlib.ExitStack) -> list[str]:
    """Let sockets come and go; return what happened. What is there at the end is kept."""
    told: list[str] = []
    open_now: list[Stage] = []
    for _ in range(chance.randrange(2, 8)):
        if open_now and chance.random() < 0.35:
            stage = open_now.pop(chance.randrange(len(open_now)))
            stage.open.close()
            told.append(f"gone {stage.recipe.way.__name__} {stage.recipe[1:]}")
            continue
        way = chance.choice(SIMPLE if chance.random() < 0.75 else COMING)
        if len(uids()) > 1 and chance.random() < 0.1:
            way = accepted_by_another_user
        recipe = random_recipe(chance, way, other=other)
        if chance.random() < 0.5:
            recipe = recipe._replace(reuseport=True, device=recipe.device if chance.random() < 0.4 else "")
        stage = Stage(recipe, port)
        try:
            way(stage)
        except (OSError, AssertionError):
            stage.open.close()
            write_sysctl("net.ipv4.ip_local_port_range", "32768 60999")
            continue
        told.append(f"came {way.__name__} {recipe[1:]}")
        open_now.append(stage)
    for stage in open_now:
        keep.callback(stage.open.close)
    return told


ASKED = (
    *NEW_ADDRESSES,
    *NEW_ADDRESSES,
    (socket.AF_INET, FOREIGN[socket.AF_INET]),
    (socket.AF_INET6, FOREIGN[socket.AF_INET6]),
    (socket.AF_INET6, f"::ffff:{FOREIGN[socket.AF_INET]}"),
    (socket.AF_INET, "255.255.255.255"),
    (socket.AF_INET, "224.0.0.1"),
    (socket.AF_INET6, "ff02::1"),
    (socket.AF_INET6, "fe80::1"),
)


def set_the_scene(chance: random.Random, port: int) -> None:
    """Settings that bind() looks at, and some that it does not."""
    write_sysctl("net.ipv6.bindv6only", chance.choice((0, 0, 0, 1)))
    write_sysctl("net.ipv4.ip_nonlocal_bind", chance.choice((0, 0, 0, 1)))
    write_sysctl("net.ipv6.ip_nonlocal_bind", chance.choice((0, 0, 0, 1)))
    write_sysctl("net.ipv4.ip_unprivileged_port_start", chance.choice((1024, 1024, port, port + 1)))
    write_sysctl("net.ipv4.ip_local_reserved_ports", chance.choice(("", port)))
    write_sysctl("net.ipv4.tcp_tw_reuse", chance.choice((0, 1, 2)))


def sockets_of(evidence: PortEvidence) -> list[object]:
    """What was seen, for who reads of a fault."""
    listeners = () if isinstance(evidence.listeners, Missing) else evidence.listeners
    return [
        (type(r).__name__, getattr(r, "state", ""), r.local, r.uid, r.inode)
        for r in (*listeners, *evidence.rows)
    ]


def compare_histories(seed: int, cases: int) -> tuple[Counter[str], list[object]]:
    socket.setdefaulttimeout(0.2)  # a connection may have gone to another listener
    chance = random.Random(seed)
    devices = make_devices()
    other = VETH if has_veth(devices) else "lo"
    seen: Counter[str] = Counter()
    wrong: list[object] = []
    for number in range(cases):
        port = 10_000 + number * 7
        with contextlib.ExitStack() as keep:
            for name in ("net.ipv6.bindv6only", "net.ipv4.ip_nonlocal_bind", "net.ipv6.ip_nonlocal_bind"):
                write_sysctl(name, 0)
            told = play(chance, port, other, keep)
            set_the_scene(chance, port)
            family, address = chance.choice(ASKED)
            uid, device = chance.choice(uids()), chance.choice(("", "", "", "lo", other))
            target = Target(4 if family == socket.AF_INET else 6, address, 0, port, devices[device])
            evidence = seen_by(read_port_evidence(port), uid)
            for options, foretold in zip(ATTEMPTS, answer(target, evidence).attempts, strict=True):
                kernel = really(family, target, options, uid, device)
                seen.update(line.split()[1] for line in told if line.startswith("came") and not options)
                seen[f"{options} {'certain' if foretold.certain else 'uncertain'} {kernel[0]}"] += 1
                if foretold.certain and (foretold.bind, foretold.listen) != kernel:
                    wrong.append((number, told, sockets_of(evidence), target, uid, options, kernel, foretold))
    return seen, wrong


def test_what_sockets_that_are_gone_left_behind_makes_no_certain_answer_wrong(in_own_machine):
    seen: Counter[str] = Counter()
    for seed in range(2):
        counts, wrong = in_own_machine(compare_histories, seed, CASES)
        assert wrong == []
        seen += counts
    # Where bound sockets are listed nobody has to guess which ended connection keeps its port.
    times = 5 if lists_bound_sockets() else 1
    assert seen["() certain EADDRINUSE"] > times * seen["() uncertain EADDRINUSE"], seen
    assert seen["('SO_REUSEPORT',) certain EADDRINUSE"] > CASES / 20, seen


def new_socket(stage: Stage) -> socket.socket:
    """A socket that was never changed: the kernel forgets no time of change when it uses an inode again."""
    while True:
        sock = stage.new()
        if os.fstat(sock.fileno()).st_ctime_ns == 0:
            return sock


def beside_what_was_given_away() -> list[tuple[str, str, bool]]:
    """Who bound a listener and gave it away comes again with SO_REUSEPORT: before that, and after."""
    recipe = Recipe(listening, socket.AF_INET, "0.0.0.0", 0, reuseaddr=False, reuseport=True, v6only=False)
    target, found = Target(4, "0.0.0.0", 0, 9_973), []
    stage = Stage(recipe, target.port)
    with stage.open:
        listener = new_socket(stage)
        listener.bind(target.socket_address)
        listener.listen()
        for owner, uid in ((0, 0), (0, 1234), (1234, 0), (1234, 4321)):
            if owner:
                os.fchown(listener.fileno(), owner, -1)
            foretold = answer(target, seen_by(read_port_evidence(target.port), uid)).attempts[2]
            kernel, _ = really(socket.AF_INET, target, ("SO_REUSEPORT",), uid, "")
            found.append((foretold.bind, kernel, foretold.certain))
    return found


@pytest.mark.skipif(len(uids()) == 1, reason="one user only is mapped here")
def test_a_listener_that_was_given_away_lets_in_who_bound_it(in_own_machine):
    assert in_own_machine(beside_what_was_given_away) == [
        ("ok", "ok", True),
        ("EADDRINUSE", "EADDRINUSE", True),
        ("EADDRINUSE", "ok", False),
        ("EADDRINUSE", "EADDRINUSE", False),
    ]

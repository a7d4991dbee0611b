"""The predictor against the kernel: thousands of random cases, and not one may be wrong."""

import contextlib
import errno
import os
import random
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pytest

from tcpdoctor.diagnosis.bind import ATTEMPTS, Flag, predict
from tcpdoctor.diagnosis.occupants import connected_sockets, listening_sockets
from tcpdoctor.diagnosis.port import Target, answer, find_obstacle, wanted_socket
from tcpdoctor.kernel.listing import WAYS as WAYS_TO_LIST
from tcpdoctor.kernel.listing import Way, lists_bound_sockets
from tcpdoctor.kernel.port_evidence import PortEvidence, read_port_evidence
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.lab.namespace import write_sysctl
from tests.live.port_holders import (
    BY_IPV4,
    HIDE_THEIR_FLAGS,
    ON_ANY_DEVICE,
    OTHERS,
    SO_BINDTODEVICE,
    WAYS,
    Recipe,
    Stage,
    accepted_beside_listener,
    acting_as,
    hold_port,
    listening,
    not_accepted,
    refused,
    reset_by_peer,
)

CASES_PER_CHILD = int(os.environ.get("TCPDOCTOR_BIND_CASES", "137"))
"""A prime; times four attempts, times four children: 2,192 cases."""
NUMBERS = {"SO_REUSEADDR": socket.SO_REUSEADDR, "SO_REUSEPORT": socket.SO_REUSEPORT}
OLD_ADDRESSES = (
    (socket.AF_INET, "0.0.0.0"),
    (socket.AF_INET, "127.0.0.1"),
    (socket.AF_INET, "127.0.0.2"),
    (socket.AF_INET6, "::"),
    (socket.AF_INET6, "::1"),
    (socket.AF_INET6, "::ffff:127.0.0.1"),
    (socket.AF_INET6, "::ffff:0.0.0.0"),
)
VETH, NOT_OURS = "v0", "10.99.0.1"
NEW_ADDRESSES = (*OLD_ADDRESSES, (socket.AF_INET6, "::ffff:127.0.0.2"), (socket.AF_INET, NOT_OURS))


class Mismatch(NamedTuple):
    """One case where kernel and prediction disagree."""

    recipe: str
    target: Target
    uid: int
    options: tuple[str, ...]
    kernel: tuple[str, str | None]
    predicted: tuple[str, str | None]
    certain: bool


def compare(
    seed: int, cases: int, listing: Sequence[Way] = WAYS_TO_LIST
) -> tuple[Counter[str], list[Mismatch]]:
    """Run random cases on fresh ports; count agreements and doubts by way, collect what is wrong."""
    chance = random.Random(seed)
    devices = make_devices()
    seen: Counter[str] = Counter()
    wrong: list[Mismatch] = []
    ways = list(WAYS)
    for number in range(cases):
        recipe = random_recipe(chance, ways[number % len(ways)], other=VETH if has_veth(devices) else "lo")
        stage = hold_port(recipe, 10_000 + number * 7)
        with stage.open:
            family, address = chance.choice(NEW_ADDRESSES)
            uid = chance.choice(uids())
            write_sysctl("net.ipv6.bindv6only", chance.choice((0, 0, 1)))
            device = chance.choice(("", "", "lo", VETH if has_veth(devices) else "lo"))
            target = Target(4 if family == socket.AF_INET else 6, address, 0, stage.port, devices[device])
            evidence = read_port_evidence(stage.port, owner_seconds=5, ways=listing)._replace(uid=uid)
            foretold = answer(target, evidence).attempts
            told_everything = predict_with(evidence, target, recipe)
            for options, blind, sighted in zip(ATTEMPTS, foretold, told_everything, strict=True):
                kernel = really(family, target, options, uid, device)
                wrong += [
                    Mismatch(repr(recipe), target, uid, options, kernel, guess[1:3], guess.certain)
                    for guess in (blind, sighted)
                    if guess.certain and (guess.bind, guess.listen) != kernel
                ]
                doubt = "certain" if blind.certain else doubt_of(recipe, target, options, uid)
                if doubt == "uncertain" and "SO_REUSEPORT" in options and evidence.given_away:
                    doubt = "given-away"  # or its inode is one that was, of a socket before
                seen[f"{recipe.way.__name__} {doubt} {kernel[0]}"] += 1
        write_sysctl("net.ipv6.bindv6only", 0)
    return seen, wrong


def make_devices() -> dict[str, int]:
    """A device beside lo, and all indices by name; lo alone where this kernel lacks veth."""
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(
            f"ip link add {VETH} type veth peer name {VETH}b".split(), capture_output=True, timeout=120
        )
    found = {name: index for index, name in socket.if_nameindex()}
    return {VETH: found["lo"], **found, "": 0}


def doubt_of(recipe: Recipe, target: Target, options: tuple[str, ...], uid: int) -> str:
    """Any doubt but these needs a reason in the way itself."""
    if "SO_REUSEPORT" in options and may_be_passed(recipe, target, uid):
        return "remembered"
    if "SO_REUSEADDR" in options and recipe.way not in LISTENS and not lists_bound_sockets():
        return "kept"  # some kernels remember SO_REUSEADDR as well
    if recipe.address == "::ffff:0.0.0.0":
        return "mapped"  # kernels differ about it
    if recipe.way in (refused, reset_by_peer) and not lists_bound_sockets():
        return "unlisted"  # nothing tells whether it keeps its port
    return "of-a-vrf" if target.device and target.address == NOT_OURS else "uncertain"


LISTENS = (listening, not_accepted, accepted_beside_listener)


def may_be_passed(recipe: Recipe, target: Target, uid: int) -> bool:
    """Whether somebody with SO_REUSEPORT can have come and gone beside it, whom the kernel remembers.

    Nothing tells whether the old socket itself had the option when it was bound.
    """
    of_another = recipe.way in LISTENS and recipe.uid != uid
    return bool(recipe.device) or not of_another or target.address == "::"


def has_veth(devices: Mapping[str, int]) -> bool:
    return devices[VETH] != devices["lo"]


def random_recipe(chance: random.Random, way: Callable[[Stage], None], *, other: str) -> Recipe:
    by_ipv4 = way in BY_IPV4
    family, address = chance.choice([old for old in OLD_ADDRESSES if old[1] != "::1" or not by_ipv4])
    reuseaddr, reuseport, v6only = (chance.random() < 0.5 for _ in range(3))
    v6only &= not (by_ipv4 or address.startswith("::ffff:"))
    anywhere = way in ON_ANY_DEVICE and address != "::1"
    device = chance.choice(("", "", "lo", other if anywhere else "lo"))
    return Recipe(way, family, address, chance.choice(uids()), reuseaddr, reuseport, v6only, device)


def uids() -> tuple[int, ...]:
    """Root and two others; only ourselves where the namespace maps no other."""
    with open("/proc/self/uid_map", encoding="ascii") as uid_map:
        mapped = sum(int(line.split()[2]) for line in uid_map)
    return (0, *OTHERS) if mapped > 1 else (os.geteuid(),)


def predict_with(evidence: PortEvidence, target: Target, recipe: Recipe):
    """Predict with the flags that the test knows and the kernel hides; v6only stays as inferred."""
    wanted = wanted_socket(target, evidence)
    known = [
        s.existing._replace(
            reuseaddr=Flag(recipe.reuseaddr, known=True), reuseport=Flag(recipe.reuseport, known=True)
        )
        for s in listening_sockets(evidence, wanted) + connected_sockets(evidence)
    ]
    obstacle = find_obstacle(target, evidence.rules)
    if isinstance(obstacle, Missing):
        assert target.device, "only of a VRF's addresses nothing is known"
        return answer(target, evidence).attempts
    return predict(wanted, known, obstacle)


def really(
    family: int, target: Target, options: tuple[str, ...], uid: int, device: str
) -> tuple[str, str | None]:
    """What the kernel answers, as this uid."""
    with acting_as(uid), socket.socket(family, socket.SOCK_STREAM) as sock:
        if device:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, NUMBERS[option], 1)
        try:
            sock.bind(target.socket_address)
        except OSError as error:
            return errno.errorcode[error.errno], None
        try:
            sock.listen(1)
        except OSError as error:
            return "ok", errno.errorcode[error.errno]
        return "ok", "ok"


@pytest.mark.parametrize("seed", range(4))
def test_no_certain_prediction_is_ever_wrong(in_own_machine, seed):
    seen, wrong = in_own_machine(compare, seed, CASES_PER_CHILD)
    assert wrong == []
    assert sum(seen.values()) == 4 * CASES_PER_CHILD
    doubted = {key.split()[0] for key in seen if " uncertain " in key}
    assert doubted <= {way.__name__ for way in HIDE_THEIR_FLAGS}, "a socket that can be asked leaves no doubt"
    assert {key.split()[0] for key in seen} == {way.__name__ for way in WAYS}


def test_where_only_proc_lists_sockets_nothing_certain_is_wrong_either(in_own_machine):
    """As on a kernel that lists no bound socket: those are found in the processes that hold them."""
    seen, wrong = in_own_machine(compare, 101, CASES_PER_CHILD, (Way.PROC,))
    assert wrong == []
    assert any(key.endswith("certain EADDRINUSE") for key in seen)
    assert {key.split()[0] for key in seen} == {way.__name__ for way in WAYS}


def compare_several(seed: int, cases: int) -> tuple[Counter[str], list[object]]:
    """The same with more sockets on the port, as far as the kernel lets them in."""
    chance = random.Random(seed)
    devices = make_devices()
    other = VETH if has_veth(devices) else "lo"
    seen: Counter[str] = Counter()
    wrong: list[object] = []
    ways = list(WAYS)
    for number in range(cases):
        first = random_recipe(chance, ways[number % len(ways)], other=other)
        stage = hold_port(first, 10_000 + number * 7)
        with stage.open, contextlib.ExitStack() as keep:
            held = [first, *(r for _ in range(2) if (r := add_one(chance, stage.port, other, keep)))]
            family, address = chance.choice(NEW_ADDRESSES)
            uid, device = chance.choice(uids()), chance.choice(("", "", "lo", other))
            target = Target(4 if family == socket.AF_INET else 6, address, 0, stage.port, devices[device])
            evidence = read_port_evidence(stage.port)._replace(uid=uid)
            for options, foretold in zip(ATTEMPTS, answer(target, evidence).attempts, strict=True):
                kernel = really(family, target, options, uid, device)
                seen[f"{len(held)} {'certain' if foretold.certain else 'uncertain'} {kernel[0]}"] += 1
                if foretold.certain and (foretold.bind, foretold.listen) != kernel:
                    wrong.append((held, target, uid, options, kernel, foretold))
    return seen, wrong


def add_one(chance: random.Random, port: int, other: str, keep: contextlib.ExitStack) -> Recipe | None:
    """One more socket that is bound or listens; None where the kernel refuses it."""
    recipe = random_recipe(
        chance, chance.choice(sorted(ON_ANY_DEVICE, key=lambda way: way.__name__)), other=other
    )
    stage = Stage(recipe, port)
    try:
        recipe.way(stage)
    except OSError:
        stage.open.close()
        return None
    keep.enter_context(stage.open)
    return recipe


def test_of_several_sockets_nothing_certain_is_wrong_either(in_own_machine):
    seen, wrong = in_own_machine(compare_several, 1, CASES_PER_CHILD)
    assert wrong == []
    assert sum(number for key, number in seen.items() if key.startswith(("2 certain", "3 certain"))) > 100

"""Predictions of a UDP bind() against the kernel: random sockets, and not one certain answer is wrong."""

import contextlib
import errno
import os
import random
import socket
from collections import Counter
from typing import NamedTuple

from tcpdoctor.diagnosis.bind import ATTEMPTS
from tcpdoctor.diagnosis.port import Target, answer
from tcpdoctor.kernel.port_evidence import read_port_evidence, seen_by
from tcpdoctor.lab.namespace import write_sysctl
from tests.live.port_holders import IPV6_V6ONLY, SO_BINDTODEVICE, acting_as
from tests.live.rare_holders import FOREIGN, IP_FREEBIND, IPV6_FREEBIND, MANY, disconnect
from tests.live.test_bind_history import ASKED, set_the_scene
from tests.live.test_bind_prediction import (
    NUMBERS,
    OLD_ADDRESSES,
    VETH,
    has_veth,
    make_devices,
    uids,
)

CASES = int(os.environ.get("TCPDOCTOR_UDP_CASES", "103"))
"""A prime; times four attempts."""


class Holder(NamedTuple):
    """A UDP socket that has the port."""

    family: int
    address: str
    uid: int
    reuseaddr: bool
    reuseport: bool
    v6only: bool
    device: str
    connected: bool
    later: str = ""
    """What happens to it after bind(), one of `LATER`."""


def toggle_reuseaddr(sock: socket.socket) -> None:
    was = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, not was)


def toggle_reuseport(sock: socket.socket) -> None:
    was = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, not was)


def give_away(sock: socket.socket) -> None:
    os.fchown(sock.fileno(), uids()[-1], -1)


def tie_to_lo(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"lo")


def stop_reading(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is not connected
        sock.shutdown(socket.SHUT_RD)


LATER = {
    change.__name__: change
    for change in (toggle_reuseaddr, toggle_reuseport, give_away, tie_to_lo, stop_reading, disconnect)
}


def random_address(chance: random.Random) -> tuple[int, str]:
    """One in seven is on an address that no interface has (IP_FREEBIND), one in ten on one of many hosts."""
    family = chance.choice((socket.AF_INET, socket.AF_INET6))
    if chance.random() < 0.1:
        return family, chance.choice((*MANY[family], *(("ff0e::1",) if family == socket.AF_INET6 else ())))
    return (family, FOREIGN[family]) if chance.random() < 0.15 else chance.choice(OLD_ADDRESSES)


def random_holder(chance: random.Random, other: str) -> Holder:
    family, address = random_address(chance)
    reuseaddr, reuseport, v6only, connected = (chance.random() < 0.5 for _ in range(4))
    v6only &= not address.startswith("::ffff:")
    device = chance.choice(("", "", "lo", other if address in ("0.0.0.0", "::") else "lo"))
    connected &= device != VETH and address not in FOREIGN.values()
    later = chance.choice(sorted(LATER)) if chance.random() < 0.2 else ""
    uid = chance.choice(uids())
    return Holder(family, address, uid, reuseaddr, reuseport, v6only, device, connected, later)


def hold(holder: Holder, port: int) -> socket.socket | None:
    """Make the socket; None where those that are there let it not in."""
    with acting_as(holder.uid):
        sock = socket.socket(holder.family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, holder.reuseaddr)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, holder.reuseport)
    if holder.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_V6ONLY, holder.v6only)
    if holder.device:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, holder.device.encode())
    if holder.address in FOREIGN.values():
        ipv4 = holder.family == socket.AF_INET
        level, number = (socket.IPPROTO_IP, IP_FREEBIND) if ipv4 else (socket.IPPROTO_IPV6, IPV6_FREEBIND)
        sock.setsockopt(level, number, 1)
    try:
        sock.bind((holder.address, port))
    except OSError:
        sock.close()
        return None
    if holder.connected:
        ipv4 = holder.family == socket.AF_INET
        mapped = holder.address.startswith("::ffff:")
        with contextlib.suppress(OSError):
            sock.connect(("127.0.0.1" if ipv4 else "::ffff:127.0.0.1" if mapped else "::1", 9))
    if holder.later:
        LATER[holder.later](sock)
    return sock


def compare_udp(seed: int, cases: int = CASES) -> tuple[Counter[str], list[object]]:
    chance = random.Random(seed)
    devices = make_devices()
    other = VETH if has_veth(devices) else "lo"
    seen: Counter[str] = Counter()
    wrong: list[object] = []
    for number in range(cases):
        port = 20_000 + number
        write_sysctl("net.ipv6.bindv6only", 0)
        holders = [random_holder(chance, other) for _ in range(chance.choice((1, 1, 2, 3, 5, 19)))]
        with contextlib.ExitStack() as keep:
            made = [(holder, sock) for holder in holders if (sock := hold(holder, port))]
            for _, sock in made:
                keep.enter_context(sock)
            gone = [one for one in made[1:] if chance.random() < 0.2]
            for _, sock in gone:
                sock.close()
            set_the_scene(chance, port)
            family, address = chance.choice(ASKED)
            uid, device = chance.choice(uids()), chance.choice(("", "", "lo", other))
            version = 4 if family == socket.AF_INET else 6
            target = Target(version, address, 0, port, devices[device], "udp")
            evidence = seen_by(read_port_evidence(port), uid)
            for options, foretold in zip(ATTEMPTS, answer(target, evidence).attempts, strict=True):
                kernel = really(family, target, options, uid, device)
                seen[f"{'certain' if foretold.certain else 'uncertain'} {kernel}"] += 1
                if foretold.certain and foretold.bind != kernel:
                    past = [holder for holder, _ in made], [holder for holder, _ in gone]
                    wrong.append((*past, target, uid, options, kernel, foretold))
    return seen, wrong


def really(family: int, target: Target, options: tuple[str, ...], uid: int, device: str) -> str:
    with acting_as(uid), socket.socket(family, socket.SOCK_DGRAM) as sock:
        if device:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, NUMBERS[option], 1)
        try:
            sock.bind(target.socket_address)
        except OSError as error:
            return errno.errorcode[error.errno]
        return "ok"


def test_no_certain_prediction_of_a_udp_bind_is_ever_wrong(in_own_machine):
    seen: Counter[str] = Counter()
    for seed in range(2):
        counts, wrong = in_own_machine(compare_udp, seed)
        assert wrong == []
        seen += counts
    assert seen.total() == 2 * 4 * CASES
    assert seen["certain ok"] > 100, seen
    assert seen["certain EADDRINUSE"] > 100, seen
    if os.geteuid() == 0:
        uncertain = sum(number for key, number in seen.items() if key.startswith("uncertain"))
        assert uncertain * 8 < seen.total(), seen

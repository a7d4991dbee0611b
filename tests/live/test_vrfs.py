"""Sockets of a VRF are in nobody's way outside: predicted as the kernel answers, where it has VRFs."""

import contextlib
import errno
import socket
import subprocess

from tcpdoctor.answers.connect import Client, predict_from_here
from tcpdoctor.diagnosis.port import Target, answer
from tcpdoctor.kernel.addresses import read_vrfs
from tcpdoctor.kernel.port_evidence import read_port_evidence
from tcpdoctor.lab.namespace import write_sysctl
from tests.live.port_holders import SO_BINDTODEVICE

PORT = 8081
DEVICES = ("", "lo", "v0", "w0", "red")


def listen_on(device: str, port: int = PORT) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
    try:
        made.bind(("0.0.0.0", port))
    except OSError:
        made.close()
        raise
    made.listen()
    return made


def make_links() -> bool:
    """A VRF with one interface in it, and one outside; whether this kernel has VRFs."""
    for words in ("v0 type veth peer name v1", "w0 type veth peer name w1"):
        subprocess.run(["ip", "link", "add", *words.split()], check=True, timeout=120)
    made = subprocess.run(
        ["ip", "link", "add", "red", "type", "vrf", "table", "10"], capture_output=True, timeout=120
    )
    if made.returncode == 0:
        subprocess.run(["ip", "link", "set", "v0", "master", "red"], check=True, timeout=120)
    return made.returncode == 0


def may_move(device: str, accept: int) -> bool:
    """Whether the device may have come into a VRF, or left one, when the socket was bound already."""
    return not accept and device in ("v0", "w0")


def compare() -> tuple[bool, dict[str, str], list[object]]:
    has_vrfs = make_links()
    names = dict(socket.if_nameindex())
    indexes = {name: index for index, name in names.items()}
    wrong: list[object] = []
    for accept in (0, 1) if has_vrfs else ():
        write_sysctl("net.ipv4.tcp_l3mdev_accept", accept)
        for old in DEVICES:
            with listen_on(old):
                for new in DEVICES:
                    target = Target(4, "0.0.0.0", 0, PORT, indexes.get(new, 0))
                    foretold = answer(target, read_port_evidence(PORT)).attempts[0]
                    try:
                        listen_on(new).close()
                        kernel = "ok"
                    except OSError as error:
                        kernel = errno.errorcode[error.errno]
                    if (foretold.bind, foretold.certain) != (
                        kernel,
                        not (may_move(old, accept) and new in ("", old)),
                    ):
                        wrong.append((accept, old, new, kernel, foretold))
    if has_vrfs:
        write_sysctl("net.ipv4.tcp_l3mdev_accept", 0)
    return has_vrfs, {names[index]: names[vrf] for index, vrf in read_vrfs().items()}, wrong


def test_each_vrf_has_ports_of_its_own(in_namespace):
    has_vrfs, found, wrong = in_namespace(compare)
    assert found == ({"red": "red", "v0": "red"} if has_vrfs else {})
    assert wrong == []


def bound_before_it_came_in() -> list[tuple[object, ...]] | None:
    """A listener's interface comes into a VRF, and out again: what is foretold, and the answer."""
    if not make_links():
        return None
    index = {name: index for index, name in socket.if_nameindex()}["w0"]
    found = []
    with listen_on("w0"):
        for change in (["master", "red"], ["nomaster"]):
            subprocess.run(["ip", "link", "set", "w0", *change], check=True, timeout=120)
            for name, device in (("", 0), ("w0", index)):
                predicted = answer(Target(4, "0.0.0.0", 0, PORT, device), read_port_evidence(PORT))
                with contextlib.suppress(OSError), listen_on(name, PORT):
                    found.append((change[0], name, "ok", predicted.attempts[0].certain, predicted.unknowns))
                    continue
                found.append((change[0], name, "refused", predicted.attempts[0].certain, predicted.unknowns))
    return found


def test_a_listener_keeps_the_vrf_that_its_interface_was_of_when_it_was_bound(in_namespace):
    found = in_namespace(bound_before_it_came_in)
    doubt = "whether the sockets on w0 are of the same VRF is not told: an interface may come into a VRF, or "
    told = (f"{doubt}leave it, when they are bound already",)
    assert found is None or found == [
        ("master", "", "refused", False, told),
        ("master", "w0", "ok", False, told),
        ("nomaster", "", "refused", False, told),
        ("nomaster", "w0", "refused", False, told),
    ]


def connect_beside(devices: tuple[str, ...], accept: int) -> tuple[object, ...] | None:
    """Where servers of these devices have all ports of the range: what is foretold, and what comes of it."""
    low, there = 40_000, ("127.0.0.1", 7001)
    if not make_links():
        return None
    write_sysctl("net.ipv4.ip_local_port_range", f"{low} {low + len(devices) - 1}")
    write_sysctl("net.ipv4.tcp_l3mdev_accept", accept)
    held = [listen_on(device, low + place) for place, device in enumerate(devices)]
    with socket.create_server(there):
        foretold = predict_from_here("127.0.0.1:7001", Client())[2]
        with socket.socket() as client:
            error = client.connect_ex(there)
    for one in held:
        one.close()
    told = foretold.verdict, foretold.certain, foretold.free, foretold.lost, foretold.bind_first.free
    return *told, errno.errorcode.get(error, "ok")


def test_ports_of_a_vrf_are_not_lost_to_clients_outside(in_namespace):
    found = in_namespace(connect_beside, ("red", "v0", "red", "v0", "w0", ""), 0)
    assert found in (None, ("ok", False, 4, 2, 4, "ok")), "an interface may have come into it later"
    found = in_namespace(connect_beside, ("red", "v0", "red", "v0"), 1)
    assert found in (None, ("EADDRNOTAVAIL", True, 0, 4, 0, "EADDRNOTAVAIL"))

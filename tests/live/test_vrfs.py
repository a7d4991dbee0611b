"""Sockets of a VRF are in nobody's way outside: predicted as the kernel answers, where it has VRFs."""

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
                    if (foretold.bind, foretold.certain) != (kernel, True):
                        wrong.append((accept, old, new, kernel, foretold))
    if has_vrfs:
        write_sysctl("net.ipv4.tcp_l3mdev_accept", 0)
    return has_vrfs, {names[index]: names[vrf] for index, vrf in read_vrfs().items()}, wrong


def test_each_vrf_has_ports_of_its_own(in_namespace):
    has_vrfs, found, wrong = in_namespace(compare)
    assert found == ({"red": "red", "v0": "red"} if has_vrfs else {})
    assert wrong == []


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
    told = foretold.verdict, foretold.certain, foretold.free, foretold.lost, foretold.bind_first_free
    return *told, errno.errorcode.get(error, "ok")


def test_ports_of_a_vrf_are_not_lost_to_clients_outside(in_namespace):
    found = in_namespace(connect_beside, ("red", "v0", "red", "v0", "w0", ""), 0)
    assert found in (None, ("ok", False, 4, 2, 4, "ok")), "an interface may have come into it later"
    found = in_namespace(connect_beside, ("red", "v0", "red", "v0"), 1)
    assert found in (None, ("EADDRNOTAVAIL", True, 0, 4, 0, "EADDRNOTAVAIL"))

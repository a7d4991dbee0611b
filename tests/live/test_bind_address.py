"""The address and privilege checks against the kernel's own answers."""

import errno
import os
import socket
import subprocess
import time

import pytest

from tcpdoctor.diagnosis.port import find_obstacle, parse_target
from tcpdoctor.kernel.addresses import read_local_addresses
from tcpdoctor.kernel.bind_rules import read_bind_rules
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.lab.namespace import write_sysctl

ADDRESSES = [
    "0.0.0.0",
    "127.0.0.1",
    "127.9.9.9",
    "127.255.255.255",
    "10.9.0.1",
    "10.9.0.2",
    "10.9.0.255",
    "10.9.0.0",
    "10.77.5.5",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.1",
    "240.0.0.1",
    "8.8.8.8",
    "::",
    "::1",
    "2001:db8::9",
    "2001:db8::1",
    "2001:db8::5",
    "2001:db8:77::1",
    "ff02::1",
    "ff0e::1",
    "::ffff:10.9.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0.0.0.0",
    "::ffff:224.0.0.1",
    "::127.0.0.1",
    "fe80::9",
    "fe80::9%v0",
    "fe80::9%v1",
    "fe80::8%v0",
    "2001:db8::9%v1",
]
SETTINGS = (None, "net.ipv4.ip_nonlocal_bind", "net.ipv6.ip_nonlocal_bind", "net.ipv6.bindv6only")


def make_addresses() -> None:
    for command in (
        "ip link add v0 type veth peer name v1",
        "ip address add 10.9.0.1/24 dev v0",
        "ip link set v0 up",
        "ip link set v1 up",
        "ip route add local 10.77.0.0/16 dev lo",
        "ip -6 address add 2001:db8::9/64 dev v0 nodad",
        "ip -6 address add fe80::9/64 dev v0 nodad",
        "ip -6 route add local 2001:db8:77::/64 dev lo",
    ):
        subprocess.run(command.split(), check=True, capture_output=True, timeout=120)


def differences(ports: tuple[int, ...]) -> tuple[int, list[object]]:
    """Compare prediction and kernel for every address, port and setting."""
    interfaces = {name: index for index, name in socket.if_nameindex()}
    cases, wrong = 0, []
    for setting in SETTINGS:
        if setting is not None and os.geteuid() == 0:
            write_sysctl(setting, 1)
        rules = read_bind_rules()
        for address in ADDRESSES:
            for port in ports:
                target = parse_target(address, port, interfaces)
                found = find_obstacle(target, rules)
                assert not isinstance(found, Missing)
                foretold = found.errno if found is not None else "ok"
                kernel = really(target)
                cases += 1
                if kernel != foretold:
                    wrong.append((setting, address, port, kernel, foretold))
        if setting is not None and os.geteuid() == 0:
            write_sysctl(setting, 0)
    return cases, wrong


def really(target) -> str:
    with socket.socket(socket.AF_INET if target.family == 4 else socket.AF_INET6) as sock:
        try:
            sock.bind(target.socket_address)
        except OSError as error:
            return errno.errorcode[error.errno]
    return "ok"


def compare_as_root() -> tuple[int, list[object]]:
    make_addresses()
    return differences((8080, 80))


def compare_as_user() -> list[object]:
    make_addresses()
    read_bind_rules()  # loads what Python loads on first use, while its own files can be read
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(1234)
        os.write(writer, repr(differences((80, 1023, 1024))[1]).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    return [os.read(reader, 65536).decode()]


def test_every_address_and_setting_is_judged_as_the_kernel_does(in_namespace):
    cases, wrong = in_namespace(compare_as_root)
    assert cases == len(ADDRESSES) * 2 * len(SETTINGS)
    assert wrong == []


def test_a_user_without_privilege_is_answered_in_the_kernels_order(in_namespace):
    if os.geteuid() != 0:
        pytest.skip("a user namespace has no second user")
    assert in_namespace(compare_as_user) == ["[]"]


def tentative() -> tuple[str, list[tuple[str, bool]], str]:
    """An address in duplicate address detection, and after it."""
    make_addresses()
    subprocess.run(["ip", "-6", "address", "add", "2001:db8::1/64", "dev", "v0"], check=True, timeout=120)
    target = parse_target("2001:db8::1", 8080, {})
    early = find_obstacle(target, read_bind_rules())
    kernel = really(target)
    deadline = time.monotonic() + 10
    while really(target) != "ok":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    late = find_obstacle(target, read_bind_rules())
    addresses = read_local_addresses().ipv6
    assert not isinstance(addresses, Missing)
    return (
        f"{kernel} {getattr(early, 'errno', early)}",
        [(a.address, a.tentative) for a in addresses],
        str(late),
    )


def test_a_tentative_address_is_refused_until_detection_is_over(in_namespace):
    early, addresses, late = in_namespace(tentative)
    assert early == "EADDRNOTAVAIL EADDRNOTAVAIL"
    assert ("2001:db8::1", False) in addresses
    assert late == "None"

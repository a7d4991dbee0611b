"""Routes are asked for by our own message and by pyroute2's: the same answers, a thousand times."""

import errno
import os
import random
import socket
import subprocess

import pytest
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel import connect_evidence as routes
from tcpdoctor.kernel.connect_evidence import (
    NextHop,
    NoRoute,
    Route,
    RouteQuestion,
    ask_route,
    find_route,
    route_message,
)

COMMANDS = """
link set lo up
link add v0 type veth peer name v1
link add v2 type veth peer name v3
link set v0 addrgenmode none up
link set v1 addrgenmode none up
link set v2 addrgenmode none up
link set v3 addrgenmode none up
address add 10.1.0.1/24 dev v0
address add 10.1.0.3/24 dev v0
address add 10.2.0.1/24 dev v2
-6 address add fe80::1/64 dev v0 nodad
-6 address add fe80::1/64 dev v2 nodad
-6 address add 2001:db8:1::1/64 dev v0 nodad
-6 address add 2001:db8:2::1/64 dev v2 nodad
route add default via 10.1.0.254
route add 10.3.0.0/16 via 10.2.0.254 src 10.2.0.1
route add 10.4.0.0/16 via inet6 fe80::9 dev v2
route add blackhole 10.5.0.0/24
route add unreachable 10.5.1.0/24
route add prohibit 10.5.2.0/24
route add throw 10.5.3.0/24
route add 10.6.0.0/16 nexthop via 10.1.0.254 weight 1 nexthop via 10.2.0.254 weight 1
-6 route add default via fe80::9 dev v0
-6 route add 2001:db8:3::/48 via 2001:db8:2::9 src 2001:db8:2::1
-6 route add blackhole 2001:db8:5::/64
-6 route add unreachable 2001:db8:6::/64
-6 route add prohibit 2001:db8:7::/64
route add 10.7.0.0/16 via 10.2.0.7 table 77
route add 198.51.100.0/24 via 10.2.0.8 table 77
rule add to 198.51.100.0/24 ipproto 6 dport 443 lookup 77
rule add from 10.1.0.3 lookup 77
rule add to 10.8.0.0/16 dport 25 prohibit
rule add to 10.8.0.0/16 uidrange 0-0 dport 26 blackhole
rule add to 10.8.0.0/16 uidrange 1-100 dport 27 blackhole
rule add to 10.3.0.0/16 sport 7001 lookup 77
rule add to 10.7.0.0/16 sport 7001 lookup 77
-6 rule add to 2001:db8:8::/48 ipproto 6 dport 443 unreachable
"""
PLACES = [
    "127.0.0.1", "127.9.9.9", "10.1.0.1", "10.1.0.2", "10.1.0.255", "10.2.0.1", "10.2.0.9", "10.3.1.1",
    "10.4.0.4", "10.5.0.1", "10.5.1.1", "10.5.2.1", "10.5.3.1", "10.6.0.1", "10.7.0.1", "10.8.0.1",
    "198.51.100.7", "192.0.2.1", "224.0.0.1", "255.255.255.255", "0.0.0.1",
    "::1", "fe80::1", "fe80::2", "2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::2", "2001:db8:3::3",
    "2001:db8:5::5", "2001:db8:6::6", "2001:db8:7::7", "2001:db8:8::8", "2001:db8:9::9", "ff02::1",
]  # fmt: skip
SOURCES = {
    4: [None, None, "10.1.0.1", "10.1.0.3", "10.2.0.1", "127.0.0.1", "10.99.0.1"],
    6: [None, None, "::1", "fe80::1", "2001:db8:1::1", "2001:db8:2::1", "2001:db8:99::1"],
}


class RouteMessage(rtmsg):
    """With the attributes of the same header that pyroute2 lacks."""

    nla_map = (
        *rtmsg.nla_map,
        ("RTA_PAD", "none"),
        ("RTA_UID", "uint32"),
        ("RTA_TTL_PROPAGATE", "uint8"),
        ("RTA_IP_PROTO", "uint8"),
        ("RTA_SPORT", "be16"),
        ("RTA_DPORT", "be16"),
    )


def by_pyroute2(asked):
    """What pyroute2 makes of the same question."""
    family, destination, port, source, interface, source_port, uid = asked
    message = RouteMessage()
    message["family"] = socket.AF_INET if family == 4 else socket.AF_INET6
    message["dst_len"] = 32 if family == 4 else 128
    message["src_len"] = message["dst_len"] if source else 0
    attributes = [
        ("RTA_DST", destination), ("RTA_SRC", source), ("RTA_OIF", interface or None),
        ("RTA_UID", uid), ("RTA_IP_PROTO", 6), ("RTA_SPORT", source_port or None), ("RTA_DPORT", port),
    ]  # fmt: skip
    message["attrs"] = [(name, value) for name, value in attributes if value is not None]
    message["header"].update(type=26, flags=1, sequence_number=1)
    message.encode()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(bytes(message.data))
        answer = sock.recv(1 << 16)
    assert len(message.data) == len(route_message(asked))
    if answer[4:6] == b"\2\0":
        return NoRoute(errno.errorcode[-int.from_bytes(answer[16:20], "little", signed=True)])
    route = RouteMessage(answer)
    route.decode()
    via = route.get_attr("RTA_VIA")
    index = route.get_attr("RTA_OIF")
    kind = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast"}[route["type"]]
    return Route(
        source or route.get_attr("RTA_PREFSRC"),
        socket.if_indextoname(index) if index else None,
        via["addr"] if via else route.get_attr("RTA_GATEWAY"),
        kind,
    )


def asked_both_ways():
    for command in COMMANDS.strip().splitlines():
        subprocess.run(["ip", *command.split()], check=True, timeout=120)
    dice = random.Random(20261129)
    interfaces = [0, 0, 0, *(socket.if_nametoindex(name) for name in ("v0", "v2"))]
    found = []
    for _ in range(997):
        destination = dice.choice(PLACES)
        family = 6 if ":" in destination else 4
        question = RouteQuestion(
            family,
            destination,
            dice.choice((25, 26, 27, 80, 443)),
            dice.choice(SOURCES[family]),
            dice.choice(interfaces),
            dice.choice((0, 7001)),
            dice.choice((0, 50, 1234)),
        )
        found.append((question, ask_route(question), by_pyroute2(question)))
    return found, find_route(4, "10.4.0.4", 80, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="rules about user ids name root")
def test_of_a_thousand_questions_each_has_the_answer_that_pyroute2_has(in_namespace):
    found, through_ipv6 = in_namespace(asked_both_ways)
    different = [each for each in found if each[1] != each[2]]
    assert not different
    answers = {answer for _, answer, _ in found}
    errors = {answer.errno for answer in answers if isinstance(answer, NoRoute)}
    assert errors >= {"EINVAL", "EHOSTUNREACH", "EACCES", "ENETUNREACH"}
    ways = [answer for answer in answers if isinstance(answer, Route)]
    assert {route.kind for route in ways} == {"unicast", "local", "broadcast", "multicast"}
    assert {"10.2.0.7", "10.2.0.8", "fe80::9", "2001:db8:2::9", None} <= {route.gateway for route in ways}
    hop = NextHop("fe80::9", carrier=True, asks=True, neighbour="")
    assert through_ipv6 == Route("10.2.0.1", "v2", "fe80::9", "unicast", hop)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\0" * 19, b"\0" * 64,
        (60).to_bytes(4, "little") + b"\x18\0" + bytes(22),
        (36).to_bytes(4, "little") + b"\x18\0" + bytes(22) + b"\x40\0\x05\0" + bytes(4),
    ],
)  # fmt: skip
def test_an_answer_that_makes_no_sense_is_refused(answer):
    with pytest.raises(KernelReadError, match="rtnetlink"):
        routes._read_route(answer, None)

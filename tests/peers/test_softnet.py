"""Packets that overflow the queue in front of a CPU: one that nftables copies more often than it holds.

Only these copies are lost: the CPU takes up nothing else while it makes them.
"""

import os
import socket
import subprocess

import pytest
from pyroute2 import IPRoute

from tcpdoctor.kernel.counters import read_softnet
from tcpdoctor.lab.pairs import again_and_again
from tests.live.checks import check, evidence, findings, reason_unchecked

RULE = "softnet-drops"


def dropped():
    return sum(row.dropped for row in read_softnet())


def sender_of_copies(nft, copies):
    """Make a device whose packets are copied so often to another one; the result sends one there."""
    with IPRoute() as routes:
        for name in ("asked", "copied"):
            routes.link("add", ifname=name, kind="veth", peer=f"{name}-peer")
            for end in (name, f"{name}-peer"):
                (index,) = routes.link_lookup(ifname=end)
                routes.link("set", index=index, state="up")
        (index,) = routes.link_lookup(ifname="asked")
        routes.addr("add", index=index, address="198.18.0.1", prefixlen=16)
        routes.neigh("add", dst="198.18.0.2", lladdr="02:00:00:00:00:02", ifindex=index)
    chain = 'type filter hook egress device "asked" priority 0\n' + 'dup to "copied"\n' * copies
    table = f"table netdev lab {{\nchain copies {{\n{chain}}}\n}}\n"
    subprocess.run([nft, "-f", "-"], input=table, text=True, check=True, timeout=300)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return lambda: sock.sendto(b"x", ("198.18.0.2", 9))


def copying(nft, copies, process):
    """What `check` sees from the namespace of `process` meanwhile, and how many packets were dropped."""
    send, before = sender_of_copies(nft, copies), dropped()
    with again_and_again(send, every=0.1):
        report = check("--only", RULE, "--netns", str(process))
    return report, dropped() - before


@pytest.mark.skipif(os.geteuid() != 0, reason="it looks into another network namespace: run as root")
def test_packets_that_overflow_the_queue_of_a_cpu_are_found_and_counted(in_namespace, need):
    with open("/proc/sys/net/core/netdev_max_backlog", encoding="ascii") as setting:
        room = int(setting.read())
    report, drops = in_namespace(copying, need("nft", "nftables"), 2 * room, os.getpid())
    assert drops >= 5 * (room - 500)
    if reason_unchecked(report, RULE) is None:  # else these tests run in a container
        (finding,) = findings(report, RULE)
        assert finding["severity"] == "warning"
        assert evidence(finding, "delta(softnet.dropped)") <= drops

"""What /proc/net/ip_vs says, as the kernel writes it, and what is seen of eBPF programs."""

from tcpdoctor.kernel import redirects
from tcpdoctor.kernel.packet_rules import Goal
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.redirects import (
    VirtualServer,
    parse_virtual_servers,
    read_redirects,
    read_virtual_servers,
    why_programs_hide_services,
)

SERVICES = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A60000A:0050 rr
  -> 0AF40003:1F90      Masq    1      3          7
  -> 0AF40005:1F90      Masq    1      0          0
UDP  0A60000A:0035 rr
  -> 0AF40007:0035      Masq    1      0          0
TCP  [2001:0db8:0000:0000:0000:0000:0000:0007]:01BB wlc persistent 300 FFFFFFFF
  -> [fd00:0000:0000:0000:0000:0000:0000:0009]:20FB      Route   1      0          0
TCP  0A60000B:0000 rr
  -> 0AF4000D:0000      Masq    1      0          0
"""
MARKED = (
    SERVICES.partition("TCP")[0] + "FWM  00000007 wlc\n  -> 0AF40003:0000      Masq    1      0          0\n"
)
WEB = VirtualServer("10.96.0.10", 80, (("10.244.0.3", 8080), ("10.244.0.5", 8080)))


def test_services_of_a_protocol_are_read_with_their_servers():
    assert parse_virtual_servers(SERVICES, "tcp") == [
        WEB,
        VirtualServer("2001:db8::7", 443, (("fd00::9", 8443),)),
        VirtualServer("10.96.0.11", 0, (("10.244.0.13", 0),)),
    ]
    assert parse_virtual_servers(SERVICES, "udp") == [
        VirtualServer("10.96.0.10", 53, (("10.244.0.7", 53),)),
    ]


def test_services_by_firewall_mark_are_not_looked_at():
    assert isinstance(parse_virtual_servers(MARKED, "tcp"), Missing)


def test_without_the_module_there_is_no_service(tmp_path):
    assert read_virtual_servers("tcp", str(tmp_path / "ip_vs")) == []


def test_a_file_that_cannot_be_read_is_no_empty_one(tmp_path):
    assert isinstance(read_virtual_servers("tcp", str(tmp_path)), Missing)


def test_a_service_is_a_rule_that_leads_its_port_elsewhere(tmp_path, monkeypatch):
    """The kernel here may have no IPVS: its text stands in a file."""
    table = tmp_path / "ip_vs"
    table.write_text(SERVICES)
    monkeypatch.setattr(
        redirects, "read_virtual_servers", lambda name: read_virtual_servers(name, str(table))
    )
    found = [one for one in read_redirects(80).found if one.where.startswith("IPVS")]
    assert [(one.to, one.address, one.names_port, one.families) for one in found] == [
        (Goal("10.244.0.3", 8080), "10.96.0.10", True, (4,)),
        (Goal("10.244.0.5", 8080), "10.96.0.10", True, (4,)),
        (Goal("10.244.0.13", 0), "10.96.0.11", False, (4,)),
    ]
    assert str(found[2].to) == "10.244.0.13"


def test_tables_of_programs_are_seen_where_they_are_pinned(tmp_path):
    folder = str(tmp_path)
    assert why_programs_hide_services(folder) is None
    (tmp_path / "tc_globals_other").touch()
    assert why_programs_hide_services(folder) is None
    (tmp_path / "cilium_lb4_services_v2").touch()
    assert why_programs_hide_services(folder).startswith("Cilium's eBPF")
    assert why_programs_hide_services(str(tmp_path / "absent")) is None

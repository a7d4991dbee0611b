"""/proc/net/nf_conntrack, verbatim from Linux 6.18 behind a masquerade rule."""

from tcpdoctor.kernel.conntrack_table import read_translations
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Destination, Translation, Translations

ENTRY = (
    "ipv4     2 tcp      6 431997 ESTABLISHED src=10.95.1.2 dst=10.95.2.2 sport={sport} dport=8443 "
    "src=10.95.2.2 dst=10.95.2.1 sport=8443 dport={port} [ASSURED] mark=0 zone=0 use=2\n"
)
OTHERS = """\
ipv4     2 tcp      6 118 SYN_SENT src=10.95.1.2 dst=10.95.3.9 sport=43132 dport=443 [UNREPLIED] \
src=10.95.3.9 dst=10.95.2.1 sport=443 dport=43132 mark=0 zone=0 use=2
ipv4     2 tcp      6 431997 ESTABLISHED src=127.0.0.1 dst=127.0.0.1 sport=43100 dport=80 \
src=127.0.0.1 dst=127.0.0.1 sport=80 dport=43100 [ASSURED] mark=0 zone=0 use=2
ipv6     10 udp      17 29 src=fd00::2 dst=fd00::9 sport=5353 dport=53 src=fd00::9 dst=fd00::2 sport=53 \
dport=5353 mark=0 zone=0 use=2
ipv4     2 icmp     1 29 src=10.95.1.2 dst=10.95.2.2 type=8 code=0 id=7 src=10.95.2.2 dst=10.95.2.1 \
type=0 code=0 id=7 mark=0 zone=0 use=2
"""


def table(tmp_path, text):
    path = tmp_path / "nf_conntrack"
    path.write_text(text)
    return str(path)


def test_the_destination_with_most_ports_is_told(tmp_path):
    entries = [ENTRY.format(sport=33000 + n, port=40000 + n % 7) for n in range(11)]
    found = read_translations(1.0, table(tmp_path, OTHERS + "".join(entries)))
    towards = Destination("10.95.2.1", "10.95.2.2", 8443)
    assert found == Translations(Translation("tcp", towards, 7, 40000, 40006))


def test_what_is_not_translated_counts_for_nothing(tmp_path):
    found = read_translations(1.0, table(tmp_path, "".join(OTHERS.splitlines(keepends=True)[1:])))
    assert found == Translations(None)


CUT = (
    "ipv4     2 tcp      6 5 CLOSE src=10.98.1.2 dst=10.98.2.2 sport={sport} dport=8443 "
    "src=10.98.2.2 dst=10.98.2.1 sport=8443 dport={sport} {assured}mark=0 zone=0 use=2\n"
)


def test_connections_that_a_reset_has_cut_off_are_counted(tmp_path):
    cut = [CUT.format(sport=33000 + n, assured="[ASSURED] ") for n in range(13)]
    refused = [CUT.format(sport=43000 + n, assured="") for n in range(7)]
    found = read_translations(1.0, table(tmp_path, OTHERS + "".join(cut + refused)))
    assert isinstance(found, Translations)
    assert found.cut == 13


def test_a_table_that_is_too_long_to_read_is_unknown(tmp_path):
    found = read_translations(0.0, table(tmp_path, ENTRY.format(sport=33000, port=40000) * 2000))
    assert found == Missing("the table of tracked connections is too long: 1,024 entries were read")


def test_a_kernel_without_the_file_says_where_the_table_is(tmp_path):
    found = read_translations(1.0, str(tmp_path / "absent"), str(tmp_path))
    assert isinstance(found, Missing)
    assert "conntrack -L" in found.reason

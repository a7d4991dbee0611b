"""/proc/net/tcp and tcp6, from text that Linux 6.18 wrote."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.listing import add_proc_rows, read_proc_rows
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Destination, DestinationUse, Endpoint, Listener, NotHeld
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.tally import GroupTally, StateTally
from tests.kernel.recordings import needs_little_endian

pytestmark = needs_little_endian

RECORDED = Path(__file__).parent / "recorded"
TCP, TCP6 = (RECORDED / "tcp").read_text(), (RECORDED / "tcp6").read_text()


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "tcp").write_text(TCP)
    (tmp_path / "tcp6").write_text(TCP6)
    return str(tmp_path)


def test_a_listener_has_a_queue_but_no_limit(root):
    found = next(row for row in read_proc_rows(root) if isinstance(row, Listener))
    assert found.local == Endpoint("127.0.0.1", 37739)
    assert (found.accept_queue, found.inode, found.cookie) == (3, 1910591, 0)
    untold = Missing(
        "netlink gave no answer (refused by a sandbox, or no tcp_diag), and /proc/net/tcp does not tell it"
    )
    assert found.accept_limit == found.drops == found.cgroup == untold


def test_a_minisocket_is_one(root):
    found = list(read_proc_rows(root))[2]
    assert isinstance(found, Connection)
    assert found.minisocket
    assert (found.state, found.expires, found.owner) == (TcpState.TIME_WAIT, 59.99, NotHeld())


def test_queues_retransmissions_and_uid_are_where_they_belong(root):
    rows = list(read_proc_rows(root))
    assert rows[1].uid == 1000
    assert isinstance(rows[3], Connection)
    assert (rows[3].state, rows[3].timer, rows[3].expires) == (TcpState.SYN_RECV, Timer.RETRANSMIT, 0.99)
    assert rows[3].retransmits == 2
    assert isinstance(rows[4], Connection)
    assert (rows[4].send_queue, rows[4].receive_queue) == (17, 1)
    assert isinstance(rows[4].info, Missing)


def test_an_ipv6_address_is_read_word_by_word(root):
    listener, connection = list(read_proc_rows(root))[5:]
    assert listener.local == Endpoint("::1", 36635)
    assert isinstance(connection, Connection)
    assert (connection.family, connection.local.address) == (6, "::ffff:127.0.0.1")


def test_states_ports_and_destinations_are_counted(root):
    states, groups = StateTally(), GroupTally((32768, 60999), [37739, 36635, 36731])
    add_proc_rows(states, groups, root)
    assert states.by_state[TcpState.LISTEN] == 2
    assert groups.by_port(states)[TcpState.SYN_RECV, 37739] == 1
    assert groups.by_destination() == {
        Destination("127.0.0.1", "127.0.0.1", 36731): DestinationUse(2, 1),
        Destination("127.0.0.1", "127.0.0.2", 36731): DestinationUse(1, 0),
    }


def test_a_kernel_without_ipv6_has_no_second_file(root):
    (Path(root) / "tcp6").unlink()
    assert len(list(read_proc_rows(root))) == 5


def test_a_missing_table_is_the_callers_to_explain(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read_proc_rows(str(tmp_path)))


@pytest.mark.parametrize(
    "line",
    [
        "   9: 0100007F:936B",
        "   9: 0100007F:936B 00000000:0000 0X 0:0 00:0 0 0 0 1 1 1",
        "   9: 0100007F:936B 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 1 1",
        "   9: 7F:936B 00000000:0000 01 00000000:00000000 00:00000000 00000000 0 0 1 1 1",
        "",
    ],
    ids=["cut", "no hexadecimal state", "state CLOSE", "short address", "empty"],
)
def test_a_line_that_makes_no_sense_is_named(root, line):
    (Path(root) / "tcp").write_text(TCP + line + "\n")
    with pytest.raises(KernelReadError, match="/proc/net/tcp near line 2"):
        list(read_proc_rows(root))
    with pytest.raises(KernelReadError, match="/proc/net/tcp near line 2"):
        add_proc_rows(StateTally(), GroupTally((1, 65535), []), root)


@given(st.binary(max_size=200), st.integers(0, len(TCP)))
def test_garbled_tables_raise_nothing_but_a_read_error(tmp_path_factory, junk, at):
    folder = tmp_path_factory.mktemp("net")
    (folder / "tcp").write_bytes(TCP.encode()[:at] + junk + TCP.encode()[at:])
    complaints = []
    for read in (lambda: list(read_proc_rows(str(folder))), lambda: count(str(folder))):
        try:
            read()
        except KernelReadError as error:
            complaints.append(str(error))
    assert all("tcp" in complaint for complaint in complaints), "each names its file"


def count(root: str) -> None:
    states, groups = StateTally(), GroupTally((1, 65535), [])
    add_proc_rows(states, groups, root)
    groups.by_destination()

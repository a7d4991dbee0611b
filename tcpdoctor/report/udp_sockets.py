"""`sockets --udp` for people: a table, one row a socket."""

from collections.abc import Sequence

from tcpdoctor.answers.udp_sockets import UdpRow, UdpSockets
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Entries, Item, Prose, Section, Table, Title
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column

_HEADER = (
    *map(Column, ("LOCAL", "REMOTE", "OWNER")),
    *(Column(name, right=True) for name in ("RECV", "SEND", "DROPS")),
)


def udp_sockets_page(answer: UdpSockets, _style: Style, columns: Sequence[str] = ()) -> list[Block]:
    """Return a row for each socket, on two lines where the terminal is narrow.

    `columns`, keys of the JSON, are shown as they are, whatever the width.
    """
    host = answer.host
    remarks = [Prose(f"Not known: {what}: {reason}.") for what, reason in answer.missing.items()]
    left = answer.total - len(answer.sockets)
    if left:
        narrower = "--port, --peer, --name and --pid narrow it"
        remarks.insert(0, Prose(f"{left:,} more are not shown; {narrower}.", apart=True))
    return [
        Title(f"{host.name}: {plural(answer.total, 'UDP socket')}"),
        Prose(f"{answer.taken_at}, Linux {host.kernel}, network namespace {host.namespace}"),
        *([Section("", (_rows(answer.sockets, columns),))] if answer.sockets else []),
        *remarks,
    ]


def _rows(sockets: Sequence[UdpRow], columns: Sequence[str]) -> Table:
    if columns:
        cells = tuple(tuple(_cell(row, name) for name in columns) for row in sockets)
        return Table(tuple(Column(name.upper()) for name in columns), cells, whole=True)
    two_lines = Entries(tuple(map(_two_lines, sockets)), deeper=2)
    return Table(_HEADER, tuple(map(_row, sockets)), otherwise=(two_lines,))


def _row(row: UdpRow) -> tuple[str, ...]:
    numbers = (row.receive_queue, row.send_queue, row.drops)
    return (row.local, row.remote or "", _owner(row), *map(str, numbers))


def _owner(row: UdpRow) -> str:
    if isinstance(row.owner, Missing):
        return "(hidden)"
    return (
        f"{row.owner.name} ({row.owner.pid})"
        if row.owner
        else "(the kernel)"
        if not row.inode
        else "(no process)"
    )


def _two_lines(row: UdpRow) -> Item:
    ends = f"{row.local} - {row.remote}" if row.remote else row.local
    told = f"{_owner(row)}, unread {row.receive_queue} B, unsent {row.send_queue} B, drops {row.drops}"
    return Item(ends, blocks=(Prose(told),))


def _cell(row: UdpRow, column: str) -> str:
    """A value of the JSON in few words; ``-`` where there is none."""
    value = getattr(row, column)
    if column == "owner":
        return _owner(row) if value is not None else "-"
    return "-" if value is None else str(value)

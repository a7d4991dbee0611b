"""`sockets --udp` for people: a table, one row a socket."""

from collections.abc import Sequence

from tcpdoctor.answers.udp_sockets import UdpRow, UdpSockets
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import AS_WIDE_AS_IT_IS, Column, table, table_width

_HEADER = (
    *map(Column, ("LOCAL", "REMOTE", "OWNER")),
    *(Column(name, right=True) for name in ("RECV", "SEND", "DROPS")),
)


def udp_sockets_text(answer: UdpSockets, style: Style, columns: Sequence[str] = ()) -> str:
    """Return a row for each socket, on two lines where the terminal is narrow.

    `columns`, keys of the JSON, are shown as they are, whatever the width.
    """
    host = answer.host
    lines = [
        style.bold(style.wrap(f"{host.name}: {plural(answer.total, 'UDP socket')}")),
        style.wrap(f"{answer.taken_at}, Linux {host.kernel}, network namespace {host.namespace}"),
        "",
        *_rows(answer, style, columns),
    ]
    left = answer.total - len(answer.sockets)
    if left:
        lines += ["", style.wrap(f"{left:,} more are not shown; --port, --peer, --name and --pid narrow it.")]
    lines += [style.wrap(f"Not known: {what}: {reason}.") for what, reason in answer.missing.items()]
    return "\n".join(lines) + "\n"


def _rows(answer: UdpSockets, style: Style, columns: Sequence[str]) -> list[str]:
    if not answer.sockets:
        return []
    if columns:
        cells = [[_cell(row, name) for name in columns] for row in answer.sockets]
        header = [Column(name.upper()) for name in columns]
        return table(header, cells, style._replace(columns=AS_WIDE_AS_IT_IS))
    rows = [_row(row) for row in answer.sockets]
    if table_width(_HEADER, rows) <= style.room:
        return table(_HEADER, rows, style)
    return [line for row in answer.sockets for line in _two_lines(row, style)]


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


def _two_lines(row: UdpRow, style: Style) -> list[str]:
    ends = f"{row.local} - {row.remote}" if row.remote else row.local
    told = f"{_owner(row)}, unread {row.receive_queue} B, unsent {row.send_queue} B, drops {row.drops}"
    return [style.wrap(ends, "  ", ""), style.wrap(told, "  ")]


def _cell(row: UdpRow, column: str) -> str:
    """A value of the JSON in few words; ``-`` where there is none."""
    value = getattr(row, column)
    if column == "owner":
        return _owner(row) if value is not None else "-"
    return "-" if value is None else str(value)

"""`tcpdoctor watch --plain`: one line a look, for pipes and for grep."""

from tcpdoctor.answers.watch import StateRow, Watch
from tcpdoctor.facts.trend import TooFew
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.host import clock

_GROWING = (TcpState.TIME_WAIT, TcpState.CLOSE_WAIT)
_NAMES = {
    TcpState.ESTABLISHED: "estab",
    TcpState.TIME_WAIT: "tw",
    TcpState.CLOSE_WAIT: "cw",
    TcpState.FIN_WAIT_2: "fw2",
    TcpState.SYN_RECV: "syn",
}


def plain_line(watch: Watch) -> str:
    """Return one look: ``14:02:10 estab=9214 tw=18120/+912 cw=412/+37 fw2=131 syn=3 findings=2 worst=RULE``.

    Behind a stroke is the growth per minute, ``-`` until there were three looks; ``?`` is what is not known.
    """
    rows = {row.key: row for row in watch.states}
    parts = [clock(watch.taken_at)[:8]]
    for state, name in _NAMES.items():
        row = rows.get(f"state {state.key}")
        parts.append(f"{name}={_number(row)}{_growth(row) if state in _GROWING else ''}")
    verdict = watch.verdict
    living = [row for row in watch.findings if row.ended is None]
    blind = verdict is None or (verdict.status == "unknown" and not living)
    parts.append(f"findings={'?' if blind or verdict is None else sum(verdict.counts)}")
    parts.append(f"worst={'?' if blind else living[0].finding.rule if living else '-'}")
    return " ".join(parts)


def _number(row: StateRow | None) -> str:
    return "?" if row is None or isinstance(row.now, Missing) else str(row.now)


def _growth(row: StateRow | None) -> str:
    if row is None or isinstance(row.now, Missing):
        return "/?"
    if isinstance(row.per_minute, Missing):
        return "/-" if isinstance(row.per_minute, TooFew) else "/?"
    return f"/{round(row.per_minute):+d}"

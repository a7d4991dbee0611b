"""The bars of the HTML page: states, ages, and ports used per destination."""

import math
from collections.abc import Sequence

from tcpdoctor.facts.ages import age_of
from tcpdoctor.facts.earlier import Earlier
from tcpdoctor.facts.portrange import usable_ports
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Census, Detail, Samples
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_html_parts import GROUPS, bar, name_of, section, text
from tcpdoctor.report.host import StateReadings, plural

_AGES = (
    (1, "below 1 s"),
    (10, "1 to 10 s"),
    (60, "10 to 60 s"),
    (600, "1 to 10 min"),
    (3600, "10 to 60 min"),
)
_OLDEST = (86400, "1 to 24 h"), (math.inf, "a day or more")
_STEPS = (*_AGES, *_OLDEST)
_MOST_DESTINATIONS = 8


def states_section(samples: Samples, readings: StateReadings) -> str:
    """Return the bar of states with its legend."""
    known = {state: reading for state, reading in readings.items() if not isinstance(reading, Missing)}
    total = sum(known.values())
    words = ", ".join(f"{name_of(state)} {number:,}" for state, number in known.items() if number) or "none"
    parts = [(f"c-{GROUPS[state]}", number / total) for state, number in known.items() if total]
    rows = "".join(_legend_row(state, readings) for state in readings)
    census = samples.after.census
    note = f"{total:,} in all." if known else "They could not be counted."
    if isinstance(census, Missing):
        note = f"They could not be counted: {census.reason}."
    elif isinstance(census.complete, Missing):
        note = f"At least {total:,}: {census.complete.reason}."
    return section(
        "Sockets by state", bar(parts, f"Sockets: {words}") + f'<ul class="legend">{rows}</ul>', note
    )


def _legend_row(state: TcpState, readings: StateReadings) -> str:
    reading = readings[state]
    unknown = isinstance(reading, Missing)
    title = f' title="{text(reading.reason)}"' if isinstance(reading, Missing) else ""
    number = "not known" if unknown else f"{reading:,}"
    kind = ' class="zero"' if unknown or not reading else ""
    return (
        f'<li{kind}{title}><i class="dot c-{GROUPS[state]}"></i>{text(name_of(state))} <b>{number}</b></li>'
    )


def ages_section(samples: Samples, state: TcpState, note: str) -> str:
    """Return how many sockets of a state have been there for how long, at least."""
    title = f"How long in {name_of(state)}"
    detail = samples.after.detail
    rows = detail if isinstance(detail, Missing) else detail.get(state)
    if rows is None or isinstance(rows, Missing):
        reason = "they were not read one by one" if rows is None else rows.reason
        return section(title, f'<p class="empty">Not known: {text(reason)}.</p>', note)
    if not rows.connections:
        return section(title, '<p class="empty">No socket is in this state.</p>', note)
    if rows.total > len(rows.connections):
        note += f" A sample of {len(rows.connections):,} of {rows.total:,}."
    return section(title, _age_table(rows, state, Earlier(samples)), note)


def _age_table(rows: Detail, state: TcpState, earlier: Earlier) -> str:
    sure = dict.fromkeys((label for _, label in _STEPS), 0)
    longer = dict(sure)
    unknown = 0
    for connection in rows.connections:
        age = age_of(connection, earlier)
        least, most = _step(age.low), _step(age.high)
        if least == most:
            sure[least] += 1
        elif age.low < 1:
            unknown += 1
        else:
            longer[least] += 1
    if unknown:
        sure[_UNKNOWN], longer[_UNKNOWN] = 0, unknown
    widest = max(sure[label] + longer[label] for label in sure)
    lines = "".join(_age_row(label, sure[label], longer[label], widest) for label in sure)
    remark = '<p class="note">Pale: so long at least; more the kernel does not tell.</p>'
    table = f'<table class="ages c-{GROUPS[state]}"><tbody>{lines}</tbody></table>'
    return table + (remark if any(longer[label] for _, label in _STEPS) else "")


_UNKNOWN = "not known"


def _step(age: float) -> str:
    return next(label for limit, label in _STEPS if age < limit or math.isinf(limit))


def _age_row(label: str, sure: int, longer: int, widest: int) -> str:
    parts = (("", sure), ("pale", longer))
    track = "".join(
        f'<i class="{kind}" style="width:{number / widest * 100:.1f}%"></i>'
        for kind, number in parts
        if number
    )
    kind = "" if sure + longer else ' class="zero"'
    words = f"{sure + longer:,}{'+' if longer and label != _UNKNOWN else ''}"
    cells = (text(label), f"<div class='track'>{track}</div>", f"<b>{words}</b>")
    return f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def ports_section(samples: Samples) -> str:
    """Return how many of the ephemeral ports towards each of the busiest destinations are taken."""
    title = "Local ports used per destination"
    note = "Ports run out towards one destination at a time: each (source, address, port) has them all."
    census, usable = samples.after.census, usable_ports(samples.after)
    if isinstance(census, Missing):
        return section(title, f'<p class="empty">Not known: {text(census.reason)}.</p>', note)
    if not census.by_destination:
        return section(title, '<p class="empty">No connection goes out from an ephemeral port.</p>', note)
    number = usable if isinstance(usable, int) and usable > 0 else None
    return section(title, _port_table(census, number), note)


def _port_table(census: Census, usable: int | None) -> str:
    shown = list(census.by_destination.items())[:_MOST_DESTINATIONS]
    rows = []
    for destination, use in shown:
        ends = f"{destination.address} port {destination.port}"
        total = usable or max(use.total for _, use in shown)
        live = use.total - use.time_wait
        kinds = [("c-live", live / total), ("c-past", use.time_wait / total)]
        share = f"{use.total / usable:.1%}" if usable else "not known"
        label = f"{use.total:,} of {usable:,} ports" if usable else f"{use.total:,} ports"
        rows.append(
            f"<tr><td><code>{text(ends)}</code><br><span class='label'>from {text(destination.source)}</span>"
            f"</td><td>{bar(kinds, label, 'thin')}</td><td class='num'>{use.total:,}</td>"
            f"<td class='num'>{use.time_wait:,}</td><td class='num'>{share}</td></tr>"
        )
    more = len(census.by_destination) - len(shown)
    rest = f'<p class="note">... and {plural(more, "destination")} more.</p>' if more else ""
    head = _head(("Destination", ""), ("", ""), ("Used", "num"), ("In TIME_WAIT", "num"), ("Of all", "num"))
    return f'<table class="ports"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>{rest}'


def _head(*columns: tuple[str, str]) -> str:
    return "".join(f'<th scope="col" class="{kind}">{text(name)}</th>' for name, kind in columns)


CHARTED: Sequence[tuple[TcpState, str]] = (
    (TcpState.CLOSE_WAIT, "The peer has closed; only this host's program can end the state."),
    (
        TcpState.FIN_WAIT_2,
        "This host has closed; the peer has not. With no process left, the kernel ends it.",
    ),
)
"""States whose ages are shown, and what they mean."""

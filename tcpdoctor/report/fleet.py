"""What every format of a merged report says in the same words."""

from collections.abc import Sequence
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.fleet_report import FleetReport, Group, Host, Remedy
from tcpdoctor.report.finding_page import instruction, keeping
from tcpdoctor.report.host import plural, utc
from tcpdoctor.report.page import Block, Command, Item, Items, Prose, Section

MOST_RULES = 12
"""That are named of one host, where hosts stand in a row each."""


class FleetAnswer(NamedTuple):
    """One run of `fleet`: all that a report needs."""

    report: FleetReport
    fail_on: Severity | None = Severity.WARNING
    """The least severity that changes the exit code; None: no finding does."""
    most_hosts: int = 20
    """Hosts that are named one by one where many are alike."""
    version: str = ""
    """Of this program."""


def verdict_words(report: FleetReport) -> str:
    """Return ``40 hosts: 1 critical, 3 unknown, 36 ok; 2 files are no reports``."""
    counts = [f"{number} {status}" for status, number in report.statuses.items() if number]
    words = plural(len(report.hosts), "host")
    if counts:
        words += f": {', '.join(counts)}"
    unread = len(report.unread) + report.more_unread
    if unread:
        words += f"; {plural(unread, 'document is', 'documents are')} no report"
    return words


def circumstances(report: FleetReport) -> str:
    """Return when it was made, of reports of which time, and how many hosts were expected."""
    words = utc(report.made_at)
    if report.oldest is not None and report.newest is not None:
        first, last = utc(report.oldest), utc(report.newest)
        words += f", from reports of {first}" if first == last else f", from reports of {first} to {last}"
    if report.expected is None:
        return f"{words}; a host that sent nothing is missed only with --expect"
    return f"{words}; {plural(report.expected, 'host was', 'hosts were')} expected"


def named(hosts: Sequence[str], most: int, total: int | None = None) -> str:
    """Return ``web1, web2 and 7 more``, of the hosts or of a `total` of which these are the first."""
    shown = ", ".join(hosts[:most])
    more = (len(hosts) if total is None else total) - min(len(hosts), most)
    return f"{shown} and {more} more" if more else shown


def spread(group: Group, report: FleetReport) -> str:
    """Return on how many hosts a finding is, and how often where that is more."""
    words = f"on {group.hosts_total} of {plural(len(report.hosts), 'host')}"
    return words if group.findings == group.hosts_total else f"{words}, {group.findings} times"


def example(group: Group) -> str:
    """Return what was seen on one of the hosts."""
    told = group.told
    if group.example is None or not told.summary:
        return ""
    subject = f", {told.label}" if told.label and told.label != group.example else ""
    return f"For example {group.example}{subject}: {told.summary}"


def whose_words(group: Group) -> str:
    """Say that advice names processes, ports and values of one host; empty where there is only that one."""
    if group.example is not None and group.hosts_total == 1:
        return ""
    whose = "one host" if group.example is None else group.example
    return f"In the words of {whose}: processes, ports and values differ on other hosts."


def found_words(host: Host, groups: Sequence[Group]) -> str:
    """Return a host's findings by rule, the worst first: ``close-wait-leak (3), syncookies-off``."""
    words = []
    for place, number in host.findings[:MOST_RULES]:
        rule = groups[place].told.rule
        words.append(rule if number == 1 else f"{rule} ({number})")
    more = sum(number for _, number in host.findings[MOST_RULES:]) + host.untold
    if more:
        words.append(f"and {plural(more, 'finding')} more")
    return ", ".join(words)


def group_advice(group: Group) -> list[Section]:
    """Return what to do, in the words of one host, and what does not help."""
    told = group.told
    whose = whose_words(group)
    fixes = tuple(
        Item("", remedy.title, remedy.kind, tuple(_remedy_blocks(remedy))) for remedy in told.remedies
    )
    wrong = tuple(Item(why, title) for title, why in told.wrong)
    steps = Items(fixes, numbered=True)
    do: tuple[Block, ...] = (Prose(whose, faint=True), steps) if whose else (steps,)
    return [
        *([Section("What to do", do)] if fixes else []),
        *([Section("What does not help", (Items(wrong),))] if wrong else []),
    ]


def _remedy_blocks(remedy: Remedy) -> list[Block]:
    blocks: list[Block] = [Prose(remedy.prose)] if remedy.prose else []
    blocks += [Command(remedy.commands)] if remedy.commands else []
    if remedy.setting is not None and remedy.setting.persist:
        blocks += keeping(remedy.setting.name, remedy.setting.persist)
    blocks += [Prose(remedy.risk, "Risk")] if remedy.risk else []
    blocks += instruction("Verify", remedy.verify, remedy.verify_commands)
    return blocks + instruction("Undo", remedy.undo or "", remedy.undo_commands)


def remarks(report: FleetReport, most: int) -> list[str]:
    """Return what else has to be said: documents that are no reports, repeated and unexpected ones."""
    words = [f"{one.source}: {one.reason}" for one in report.unread[:most]]
    more = len(report.unread) + report.more_unread - most
    if more > 0:
        words.append(f"and {plural(more, 'document')} more that are no reports; --format json names them")
    words += [
        f"{one.host}: the newest of its reports counts, {one.counted}, and not {one.left_out}; if these are "
        "two hosts of one name, --names file tells them apart"
        for one in report.repeated[:most]
    ]
    more = len(report.repeated) + report.more_repeated - most
    if more > 0:
        words.append(f"and {plural(more, 'older report')} more that do not count")
    if report.unexpected:
        words.append(f"not among the expected hosts: {named(report.unexpected, most)}")
    return words

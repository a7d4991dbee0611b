"""`--netns all`: the same question to every network namespace of this host, and one answer."""

import os
from collections.abc import Sequence

from tcpdoctor.answers.everywhere import Unseen
from tcpdoctor.cli.output import complain
from tcpdoctor.report.host import plural


def complain_of(command: str, unseen: Sequence[Unseen], hidden: int) -> None:
    """Say on stderr which namespaces could not be looked at, and that there may be more."""
    for each in unseen:
        complain(f"tcpdoctor {command}: {each.place.label}: {each.reason}")
    if hidden:
        remedy = "" if os.geteuid() == 0 else "; run as root"
        who = plural(hidden, "process", "processes")
        complain(f"tcpdoctor: {who} did not show a network namespace: there may be more{remedy}")

"""Text as the journal reads it: each line begins with its priority, ``<4>``, as sd-daemon(3) has it."""

_PRIORITIES = {"CRITICAL": 2, "WARNING": 4, "UNKNOWN": 4, "GONE": 5}
"""By the word that a finding, or the whole answer, begins with; syslog's numbers (syslog(3))."""
_OTHER = 6
"""Info: the rest."""


def with_priorities(text: str) -> str:
    """Put before each line the priority of the finding that it belongs to.

    A line that is not indented begins something and tells the priority; indented and empty lines below
    belong to it. Empty lines are left out: the journal would drop them.
    """
    lines = []
    priority = _OTHER
    for line in text.splitlines():
        if line and not line[0].isspace():
            word = line.split(maxsplit=1)[0].rstrip(":,")
            priority = _PRIORITIES.get(word, _OTHER)
        if line.strip():
            lines.append(f"<{priority}>{line}\n")
    return "".join(lines)

"""Long outputs, cut for a lesson: what was left out is always said."""

import re

_MOST_LINES = 18
"""Of an output that no ``| head -N`` bounds."""
_MOST_ROWS = 3
_SGR = re.compile(r"\x1b\[[0-9;]*m")
_SECTION = re.compile(r"  (Why:|Cost:|Evidence|What to do|What does not help|Normal when|More:)")
_KEPT = ("Evidence", "What to do", "What does not help")
_SECOND_FIX = re.compile(r"^    2\. ", re.MULTILINE)


def cut_lines(text: str, most: int | None) -> str:
    """The first lines of an output; without a number, as many as end well before or at eighteen."""
    lines = text.rstrip("\n").splitlines()
    if len(lines) <= (most or _MOST_LINES):
        return "\n".join(lines)
    kept = lines[: most or _MOST_LINES]
    if most is None and "" in kept[3:]:
        while kept[-1]:
            kept.pop()
    while kept and not kept[-1]:
        kept.pop()
    return "\n".join([*kept, f"[... {len(lines) - len(kept)} more lines]"])


def cut_rows(text: str) -> str:
    """The first three rows of a list of sockets; what belongs to a row is indented below it."""
    head, _, body = text.rstrip("\n").partition("\n\n")
    lines = body.splitlines()
    begins = [number for number, line in enumerate(lines) if line[:1].strip()]
    if len(begins) <= _MOST_ROWS:
        return text.rstrip("\n")
    rest = len(begins) - _MOST_ROWS
    return "\n".join([head, "", *lines[: begins[_MOST_ROWS]], f"[... {rest} more]"])


def cut_finding(text: str, *, again: bool) -> str:
    """What `check` says, without what the scene explains itself; `again`: its reader knows the finding."""
    blocks = text.rstrip("\n").split("\n\n")
    sick = any(_HEADING.match(_SGR.sub("", block)) for block in blocks)
    kept: list[str] = []
    inside = ""
    for block in blocks:
        plain = _SGR.sub("", block)
        section = _SECTION.match(plain)
        if section:
            inside = section[1]
        elif not plain.startswith("  "):
            inside = ""
        tail = sick and plain.startswith(("Sockets:", "Checked "))
        if not tail and (not inside or (inside in _KEPT and not again)):
            inside, block = _only_first_fix(inside, block)
            kept.append(block)
        elif not kept[-1].endswith(_CUT):
            kept.append(_CUT)
    return "\n\n".join(kept)


def _only_first_fix(section: str, block: str) -> tuple[str, str]:
    """Cut a list of fixes before the second; the section is over then."""
    second = _SECOND_FIX.search(_SGR.sub("", block)) if section == "What to do" else None
    if second is None:
        return section, block
    lines = block.splitlines()
    first = next(number for number, line in enumerate(lines) if _SECOND_FIX.match(_SGR.sub("", line)))
    return _CUT, "\n".join([*lines[:first], "    [...]"])


_HEADING = re.compile(r"(INFO|WARNING|CRITICAL)  ")
_CUT = "  [...]"
"""What stands for lines that are left out."""

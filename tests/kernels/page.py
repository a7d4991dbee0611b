"""docs/kernels.md: what each kernel lets be known, as the kernels themselves answered."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kernels.machines import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"


def page(outcomes: Sequence[Outcome]) -> str:
    """Make the page of what the machines printed."""
    told = told_by_kernel(outcomes)
    names = sorted(told, key=lambda kernel: [int(part) for part in kernel.split(".")])
    lines = [
        "# What each kernel lets be known",
        "",
        "Written by `python -m tests.kernels --page`: each line was asked of the kernel itself, in a private",
        "network namespace. tcpdoctor tests for the thing and never for a version: a distribution's kernel",
        "may have more. Where a thing is absent, the answers that hang on it say so and are not guessed.",
        "",
        "| what | " + " | ".join(f"Linux {name}" for name in names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for text in told[names[0]]["answers"]:
        marks = ["yes" if told[name]["answers"][text] else "no" for name in names]
        lines.append(f"| {text} | " + " | ".join(marks) + " |")
    lines += ["", "Asked of: " + ", ".join(told[name]["kernel"] for name in names) + " (Debian).", ""]
    return "\n".join(lines)


def told_by_kernel(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """What tests.kernels.knowledge printed on each kernel where it came to that."""
    found = ((one.kernel, re.search(r"^KNOWS (\{.*\})$", one.output, re.MULTILINE)) for one in outcomes)
    return {kernel: json.loads(match[1]) for kernel, match in found if match}


def read_page(text: str) -> dict[str, dict[str, bool]]:
    """The answers that the page has, by kernel."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    names = [cell.removeprefix("Linux ") for cell in rows[0][1:]]
    return {name: {row[0]: row[at + 1] == "yes" for row in rows[2:]} for at, name in enumerate(names)}


def differences(outcomes: Sequence[Outcome]) -> list[str]:
    """What the kernels answered otherwise than the page says, a line each."""
    held = read_page(PAGE.read_text(encoding="ascii"))
    return [
        f"docs/kernels.md is wrong about Linux {kernel}: {text}"
        for kernel, told in told_by_kernel(outcomes).items()
        for text, answer in told["answers"].items()
        if held.get(kernel, {}).get(text) is not answer
    ]

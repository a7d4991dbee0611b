"""The build step: what every start would work out anew is written into one file beside the code.

    python -m tcpdoctor.cli.prepare [TARGET]

Without a target it is for the checkout that it runs from, with the times of its files, so that a change is
seen. The file holds three pickles: texts that are printed without importing anything, pages, and the rules.
"""

import _pickle
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import tcpdoctor
from tcpdoctor.answers.rules import FILE, compile_rules
from tcpdoctor.cli import app
from tcpdoctor.cli.app import build_command, help_text
from tcpdoctor.cli.hot import HOT_COMMANDS, declared
from tcpdoctor.knowledge.resource import compile_tables
from tcpdoctor.prepared import COMMANDS, HELP, LOOK, look_at_texts


def prepare(package: Path, rules: Path, *, here: bool) -> bytes:
    """Return the content of the file.

    Args:
        package: The folder of this package.
        rules: The folder of the rules.
        here: Whether it is for this very folder.
    """
    prepared = {
        HELP: help_text(),
        COMMANDS: {name: declared(build_command(name, app.COMMANDS[name]).params) for name in HOT_COMMANDS},
        LOOK: look_at_texts(str(package)) if here else "",
    }
    pages = compile_tables(package / "knowledge", here=here)
    return _pickle.dumps(prepared, 5) + pages + compile_rules(package, rules, here=here)


def main(arguments: Sequence[str]) -> int:
    """Write the file."""
    package = Path(tcpdoctor.__file__).parent
    inside = package / "rules"
    rules = inside if inside.is_dir() else package.parent / "rules"
    target = Path(arguments[0]) if arguments else package / FILE
    written = target.with_name(f"{target.name}.{os.getpid()}")
    written.write_bytes(prepare(package, rules, here=not arguments))
    written.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

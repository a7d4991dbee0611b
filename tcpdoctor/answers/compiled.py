"""The shipped rules as they were read when this program was built.

To read them takes 40 ms of every run of `check`, more than to look at an ordinary host. So the build (and
.ci/setup, for a checkout) writes what reading them gives into one file, with the SHA-256 of all it came from.
The rules' files stay the truth: a checkout whose sources differ reads them, and writes nothing.
"""

import _pickle  # its Python part, pickle, would cost two milliseconds
import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import tcpdoctor
from tcpdoctor.diagnosis.rule import Rule, parse_rule, read_body
from tcpdoctor.facts import vocabulary
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:  # what is compiled is read without it
    from pathlib import Path

FILE = "compiled.bin"
"""Its name, in the package's folder."""
_FORMAT = 1
_CODE = ("diagnosis", "facts")
"""Folders of the package whose code makes rules out of files."""


class Compiled(NamedTuple):
    """What is in the file."""

    form: int
    digest: str
    """Of the contents of all sources."""
    look: str
    """Names, sizes and times of the sources where it was written; empty in what is shipped."""
    rules: tuple[Rule, ...]
    """Without vocabulary; `source` is relative to the folder of rules, `packed` holds the body."""


def load_compiled(rules: str | None) -> Sequence[Rule] | None:
    """Return the shipped rules, or None where the file is not there or is not about these sources.

    Args:
        rules: Where the rules' files are; None inside a zip file.
    """
    package = os.path.dirname(tcpdoctor.__file__)
    loader = tcpdoctor.__loader__
    try:
        data = loader.get_data(os.path.join(package, FILE))  # type: ignore[union-attr]  # of a folder or a zip
        stream = BytesIO(data)
        _pickle.load(stream)  # texts (tcpdoctor.prepared); all of it is as much ours as the code
        _pickle.load(stream)  # pages (tcpdoctor.knowledge.resource)
        found = Compiled(*_pickle.load(stream))
    except (
        OSError,
        ImportError,
        AttributeError,
        TypeError,
        ValueError,
        LookupError,
        EOFError,
        _pickle.PickleError,
    ):
        return None  # written by another version of this program, or not at all
    if found.form != _FORMAT or (rules is not None and not _is_about(found, package, rules)):
        return None
    folder = "rules" if rules is None else rules
    return [rule._replace(source=f"{folder}/{rule.source}", vocabulary=vocabulary) for rule in found.rules]


def compile_rules(package: "Path", rules: "Path", *, here: bool) -> bytes:
    """Read the rules and return what the file holds.

    Args:
        package: The folder of this package.
        rules: The folder of the rules.
        here: Whether it is for this very folder, so that times of files mean something.

    Raises:
        RuleError: A rule is wrong.
    """
    read = tuple(_pack(path, path.relative_to(rules)) for path in sorted(rules.glob("*/*.toml")))
    sources = list(_sources(str(package), str(rules)))
    return _pickle.dumps(tuple(Compiled(_FORMAT, _digest(sources), _look(sources) if here else "", read)), 5)


def _pack(path: "Path", name: "Path") -> Rule:
    rule = parse_rule(path.read_text(encoding="utf-8"), str(name), name.parent.name)
    packed = _pickle.dumps(read_body(rule), 5)
    plain = rule._replace(measure_limits=dict(rule.measure_limits))
    return plain._replace(shipped=True, packed=packed, vocabulary=None)  # type: ignore[arg-type]


def _is_about(found: Compiled, package: str, rules: str) -> bool:
    """Whether the sources are those that it was made from. What was installed together belongs together."""
    if os.path.dirname(rules) == package:
        return True
    sources = list(_sources(package, rules))
    return found.look == _look(sources) or found.digest == _digest(sources)


def _sources(package: str, rules: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Every file that decides what the rules mean, by its name."""
    folders = [os.path.join(package, name) for name in _CODE]
    with os.scandir(rules) as families:
        folders += sorted(family.path for family in families if family.is_dir())
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith((".py", ".toml")):
                    yield f"{os.path.basename(folder)}/{entry.name}", entry


def _look(sources: Sequence[tuple[str, "os.DirEntry[str]"]]) -> str:
    return "\n".join(
        f"{name} {(status := entry.stat()).st_size} {status.st_mtime_ns}" for name, entry in sources
    )


def _digest(sources: Sequence[tuple[str, "os.DirEntry[str]"]]) -> str:
    from hashlib import sha256

    seen = sha256()
    for name, entry in sources:
        with open(entry.path, "rb") as file:
            content = file.read()
        seen.update(f"{name} {len(content)}\n".encode() + content)
    return seen.hexdigest()

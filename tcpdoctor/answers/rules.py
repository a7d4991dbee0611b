"""Where rules and the configuration lie, and how they are read.

Rules come from three places, in this order: those of this program, `ADMIN_RULES`, and every folder given
with --rules. Run as root, a file that another user can write is refused (`tcpdoctor.kernel.files`); the
program's own rules are exempt, because a checkout under sudo has to work.

To read the rules of this program takes 40 ms of every run of `check`, more than to look at an ordinary host.
So the build (and .ci/setup, for a checkout) writes what reading them gives into one file, with the SHA-256 of
all it came from. The rules' files stay the truth: a checkout whose sources differ reads them, writes nothing.
"""

import _pickle  # its Python part, pickle, would cost two milliseconds
import os
from collections.abc import Collection, Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import tcpdoctor
from tcpdoctor.diagnosis.library import NO_CONFIG, Config, Library, RuleText, load_library, parse_config
from tcpdoctor.diagnosis.rule import Rule, is_id, parse_rule, read_body
from tcpdoctor.errors import ConfigError, RuleError
from tcpdoctor.facts import vocabulary
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


ADMIN_RULES = "/etc/tcpdoctor/rules.d"
ADMIN_CONFIG = "/etc/tcpdoctor/config.toml"
LOCAL_FAMILY = "local"
"""The family of rules whose folder's name is no name of a family: ``/etc/tcpdoctor/rules.d``."""

_SUFFIX = ".toml"
_pinned: tuple[Sequence[RuleText], Config] | None = None


def load_rules(
    extra_dirs: "Sequence[Path]" = (),
    config: "Path | None" = None,
    only: Collection[str] | None = None,
    skip: Collection[str] | None = None,
) -> Library:
    """Find, read and parse every rule, and apply the configuration.

    Args:
        extra_dirs: Folders of --rules; each has to exist.
        config: The file of --config, which has to exist; None for `ADMIN_CONFIG` where there is one.
        only: Names of the only rules to be in force; None for all.
        skip: Names of rules that shall not be in force.

    Raises:
        RuleError: A rule or a folder of rules is wrong.
        ConfigError: The configuration is wrong.
        QuestionError: `only` or `skip` names no rule.
    """
    if _pinned is not None:
        return load_library(*_pinned, only=only, skip=skip or ())
    shipped = load_compiled(folder_of_rules(os.path.dirname(tcpdoctor.__file__)))
    texts = [*(shipped_texts() if shipped is None else ()), *added_texts(extra_dirs)]
    return load_library(texts, read_config(config), shipped=shipped or (), only=only, skip=skip or ())


def pin_rules(texts: Sequence[RuleText], config: Config) -> None:
    """Let `load_rules` answer with these from now on: the lab proves the rules as they are shipped.

    What the administrator of this host has added or changed then plays no part.
    """
    global _pinned
    _pinned = texts, config


def added_texts(extra_dirs: "Sequence[Path]") -> Iterator[RuleText]:
    """The rules of the administrator, then those of each folder.

    Raises:
        RuleError: A folder or file cannot be read, or another user can write it.
    """
    folders: Sequence[str | Path] = [ADMIN_RULES, *extra_dirs] if os.path.lexists(ADMIN_RULES) else extra_dirs
    if not folders:
        return
    from tcpdoctor.kernel.files import list_files  # few have rules of their own

    for folder in folders:
        for path in list_files(folder, _SUFFIX, error=RuleError):
            yield read_rule(path)


def read_rule(path: "Path") -> RuleText:
    """Read one rule file that is not part of this program.

    Raises:
        RuleError: It cannot be read, or another user can write it.
    """
    from tcpdoctor.kernel.files import read_text_file

    return RuleText(str(path), family_of(path), read_text_file(path, error=RuleError))


def family_of(path: "Path") -> str:
    """The family that a rule file belongs to by the folder it lies in."""
    folder = path.absolute().parent.name
    return folder if is_id(folder) else LOCAL_FAMILY


def shipped_texts() -> Iterator[RuleText]:
    """The rules that are part of this program: of the package, or of the checkout that it runs from.

    Raises:
        RuleError: They are not there: the installation is damaged.
    """
    folder = folder_of_rules(os.path.dirname(tcpdoctor.__file__))
    if folder is None:
        yield from packed_texts("tcpdoctor")
        return
    from tcpdoctor.kernel.files import list_files

    for path in list_files(folder, _SUFFIX, trusted_owner=False, error=RuleError):
        try:
            # ours: read without suspicion, which takes a third of the time
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as problem:
            raise RuleError(f"{path}: {problem}; install tcpdoctor again") from None
        yield RuleText(str(path), path.parent.name, text, shipped=True)


def folder_of_rules(package: str) -> str | None:
    """The folder of a package's rules; None where they are inside a zip file, or not there at all."""
    inside = os.path.join(package, "rules")
    if os.path.isdir(inside):
        return inside
    # an editable install does not see what the build puts into the package
    checkout = os.path.dirname(package)
    beside = os.path.join(checkout, "rules")
    is_checkout = os.path.isfile(os.path.join(checkout, "pyproject.toml"))
    return beside if is_checkout and os.path.isdir(beside) else None


def packed_texts(package: str) -> Iterator[RuleText]:
    """The rules of a package inside a zip file.

    Raises:
        RuleError: They are not there.
    """
    from importlib.resources import files  # 8 ms, and only a zip file needs it

    rules = files(package) / "rules"
    if not rules.is_dir():
        raise RuleError("the rules of this program are missing: install tcpdoctor again")
    for family in sorted(rules.iterdir(), key=lambda entry: entry.name):
        for file in sorted(family.iterdir(), key=lambda entry: entry.name):
            source = f"rules/{family.name}/{file.name}"
            yield RuleText(source, family.name, file.read_text(encoding="utf-8"), shipped=True)


def read_config(path: "Path | None") -> Config:
    """The configuration: of this file, or the administrator's where there is one.

    Raises:
        ConfigError: It cannot be read, another user can write it, or it is wrong.
    """
    if path is None and not os.path.lexists(ADMIN_CONFIG):
        return NO_CONFIG
    file = ADMIN_CONFIG if path is None else path
    from tcpdoctor.kernel.files import read_text_file

    return parse_config(read_text_file(file, error=ConfigError), str(file))


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

"""Where rules and the configuration lie, and how they are read.

Rules come from three places, in this order: those of this program, `ADMIN_RULES`, and every folder given
with --rules. Run as root, a file that another user can write is refused (`tcpdoctor.kernel.files`); the
program's own rules are exempt, because a checkout under sudo has to work.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import tcpdoctor
from tcpdoctor.diagnosis.library import NO_CONFIG, Config, Library, RuleText, load_library, parse_config
from tcpdoctor.diagnosis.rule import is_id
from tcpdoctor.errors import ConfigError, RuleError

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
    from tcpdoctor.answers.compiled import load_compiled

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

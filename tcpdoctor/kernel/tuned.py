"""What TuneD's active profile sets: /etc/tuned/active_profile and the profiles that it includes.

TuneD writes the sysctls of its profile when it starts, which is after systemd-sysctl. With ``reapply_sysctl``
(the default, tuned-main.conf) it then applies /run/sysctl.d, /etc/sysctl.d and /etc/sysctl.conf once more, so
that those win over the profile, while files of /usr/lib/sysctl.d and /usr/local/lib/sysctl.d do not. It reads
them in its own way: /run comes before /etc, and it knows no globs and no leading dash.

Source: TuneD 2.20, tuned/plugins/plugin_sysctl.py (_instance_apply_static, _apply_system_sysctl),
tuned/profiles/locator.py, loader.py, merger.py and variables.py, tuned/consts.py.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean

ACTIVE_PROFILE = "/etc/tuned/active_profile"
MAIN_CONFIG = "/etc/tuned/tuned-main.conf"
PID_FILE = "/run/tuned/tuned.pid"
PROFILE_FOLDERS = ("/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned")
"""The first that has a profile gives it; the folders called profiles came with TuneD 2.24."""

_VARIABLE = re.compile(r"\$\{(\w{1,200})\}")
_LARGEST = 1 << 20
_MOST_PROFILES = 100


class TunedSetting(NamedTuple):
    """What a profile wants a sysctl to be."""

    name: str
    """As the profile has it."""
    path: str
    """Its place below /proc/sys: TuneD turns every dot into a slash."""
    value: str
    """What is written; for ``>2048`` and ``<2048`` the number alone. What TuneD computes (``${f:exec:...}``)
    and variables that are not known stand as the profile has them."""
    bound: str
    """``>``: only written where it is more than what was there; ``<``: less; ``""``: always."""
    file: str
    line: int


class Tuned(NamedTuple):
    """TuneD on this host."""

    profile: str
    """The names of the active profile, as the file has them."""
    running: bool
    """Whether the daemon says that it runs (its pid file)."""
    reapplies: bool
    """Whether it applies the files of settings again after its own."""
    settings: Mapping[str, TunedSetting]
    """By place below /proc/sys."""
    missing: tuple[str, ...] = ()
    """Profiles that were named and cannot be read, each with the reason."""


def read_tuned(root: str = "") -> Reading[Tuned | None]:
    """Return what TuneD's active profile sets; None where none is active.

    Args:
        root: Put before every path; tests point it at a tree of files.

    Returns:
        `Missing` where there is an active profile that cannot be read.
    """
    text = _read(root + ACTIVE_PROFILE)
    if isinstance(text, Missing):
        return text
    names = [name for name in (text or "").split() if re.fullmatch(r"[A-Za-z0-9_.-]+", name)]
    if not names:
        return None
    loader = _Loader(root)
    for name in names:
        loader.load(name)
    return Tuned(
        " ".join(names),
        os.path.exists(root + PID_FILE),
        _reapplies(root),
        {path: loader.expanded(setting) for path, setting in loader.settings.items()},
        tuple(loader.missing),
    )


class _Loader:
    """Profiles in the order in which TuneD merges them: what is included comes before what includes it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.settings: dict[str, TunedSetting] = {}
        self.missing: list[str] = []
        self._seen: set[str] = set()
        self._variables: dict[str, str] = {}

    def expanded(self, setting: TunedSetting) -> TunedSetting:
        """The setting with the values of the profile's variables, of which those that came last count."""
        return setting._replace(value=clean(self._expand(setting.value), 4096))

    def _expand(self, value: str) -> str:
        return _VARIABLE.sub(lambda match: self._variables.get(match[1], match[0]), value)[:4096]

    def load(self, name: str) -> None:
        optional, name = name.startswith("-"), os.path.basename(name.removeprefix("-"))
        if name in self._seen or len(self._seen) >= _MOST_PROFILES:
            return
        self._seen.add(name)
        path, text = self._find(name)
        if text is None:
            if not optional:
                self.missing.append(f"{clean(name, 100)}: no such profile")
            return
        if isinstance(text, Missing):
            self.missing.append(f"{clean(name, 100)}: {text.reason}")
            return
        entries = tuple(_entries(text))
        for _, section, key, value in entries:
            if (section, key) == ("main", "include"):
                for included in re.split("[,;]", value):
                    self.load(included.strip())
        self._merge(entries, path)

    def _merge(self, entries: tuple[tuple[int, str, str, str], ...], path: str) -> None:
        self._note_variables(entries)
        units = _sysctl_units(entries)
        own = {key: value for _, section, key, value in entries if section in units}
        if own.get("replace", "").lower() in ("1", "true", "yes", "on"):
            self.settings.clear()
        for dropped in re.split("[,;]", own.get("drop", "")):
            self.settings.pop(dropped.strip().replace(".", "/"), None)
        for number, section, key, value in entries:
            if section in units and "." in key:
                setting = _setting(key, value, path.removeprefix(self.root), number)
                self.settings[setting.path] = setting

    def _note_variables(self, entries: Iterable[tuple[int, str, str, str]]) -> None:
        """Take what ``[variables]`` says, and the files that it includes."""
        for _, section, key, value in entries:
            if section == "variables" and key == "include":
                text = _read(self.root + os.path.normpath(self._expand(value)))
                said = [(key, value) for _, _, key, value in _entries(text)] if isinstance(text, str) else []
                self._variables |= {key: self._expand(value) for key, value in said}
            elif section == "variables":
                self._variables[key] = self._expand(value)

    def _find(self, name: str) -> tuple[str, Reading[str] | None]:
        for folder in PROFILE_FOLDERS:
            path = f"{self.root}{folder}/{name}/tuned.conf"
            if os.path.isfile(path):
                return path, _read(path)
        return "", None


def _sysctl_units(entries: tuple[tuple[int, str, str, str], ...]) -> set[str]:
    """Sections that set sysctls: the one of that name, and others that say so; none that is not enabled."""
    said = {(section, key): value for _, section, key, value in entries}
    return {
        section
        for _, section, _, _ in entries
        if said.get((section, "type"), section) == "sysctl"
        and said.get((section, "enabled"), "1") in ("1", "True", "true")
    }


def _setting(key: str, value: str, file: str, number: int) -> TunedSetting:
    value = value.strip("\"'")
    bound = value[0] if len(value) > 1 and value[0] in "<>" else ""
    return TunedSetting(
        clean(key, 200),
        key.replace(".", "/"),
        clean(value.removeprefix(bound).strip(), 4096),
        bound,
        clean(file, 300),
        number,
    )


def _entries(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Line, section, key and value of an INI file as Python's configparser reads it with TuneD's options."""
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        line = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if line.startswith(";"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if equals:
            yield number, section, key.strip(), value.strip()


def _reapplies(root: str) -> bool:
    text = _read(root + MAIN_CONFIG)
    found = re.findall(r"(?m)^[ \t]*reapply_sysctl[ \t]*=[ \t]*(\w+)", text) if isinstance(text, str) else []
    return not found or found[-1].lower() in ("1", "true", "yes", "on")


def _read(path: str) -> Reading[str] | None:
    """The text of a file; None where there is none."""
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read(_LARGEST).decode("utf-8", "replace")
    except PermissionError:
        return Missing(f"{path}: permission denied; run as root to read it")
    except OSError as error:
        return Missing(f"{path}: {error.strerror or error}")


class Reapplied(NamedTuple):
    """A line of a file of settings, as TuneD understands it."""

    path: str
    """Its place below /proc/sys: every dot becomes a slash, whatever stands first."""
    value: str
    file: str
    line: int


def read_reapplied(root: str = "") -> tuple[Reapplied, ...]:
    """Return what TuneD applies again after its own settings, in its order; unreadable files are left out.

    Files of the same name are taken from /run/sysctl.d and not from /etc/sysctl.d, the other way round than
    by systemd-sysctl and procps.
    """
    files: dict[str, str] = {}
    for folder in ("/run/sysctl.d", "/etc/sysctl.d"):
        try:
            names = os.listdir(root + folder)
        except OSError:
            continue
        for name in names:
            if name.endswith(".conf"):
                files.setdefault(name, f"{folder}/{name}")
    found: list[Reapplied] = []
    for path in [*(files[name] for name in sorted(files)), "/etc/sysctl.conf"]:
        text = _read(root + path)
        if not isinstance(text, str):
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            key, equals, value = line.strip().partition("=")
            if equals and key.strip() and key[0] not in "#;":
                found.append(
                    Reapplied(key.strip().replace(".", "/"), value.strip(), clean(path, 300), number)
                )
    return tuple(found)

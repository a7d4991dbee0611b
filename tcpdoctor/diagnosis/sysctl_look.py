"""Everything that the lint of settings judges: files as both readers take them, and this kernel's values."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_known import UNKNOWN, Known
from tcpdoctor.diagnosis.sysctl_order import Write
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sysctl_files import Reader, SettingsFile, Skipped
from tcpdoctor.kernel.sysctl_lines import Line, Lines
from tcpdoctor.kernel.sysctl_tree import Held


class Fault(NamedTuple):
    """One thing that is wrong, or worth knowing, at one place."""

    check: str
    """The name of the check, as `sysctl_checks.CHECKS` has it."""
    severity: Severity
    file: str
    line: int | None
    """None where the file as a whole is meant."""
    key: str | None
    """The setting, dotted; None where the line has none."""
    what: str
    """What is wrong, in one sentence or two."""
    do: str
    """What to do about it."""


class Listening(NamedTuple):
    """A port of this host that a program listens on."""

    port: int
    local: str
    """The address and port: ``0.0.0.0:40000``."""


class Look(NamedTuple):
    """What was read, by reader where the two differ."""

    files: tuple[SettingsFile, ...]
    """Every file, each once."""
    lines: Mapping[Reader, Mapping[str, Lines]]
    """By reader, then by the path of the file."""
    done: Mapping[Reader, Mapping[str, list[Write]]]
    """By reader, then by place below /proc/sys: what is written, in order."""
    last: Mapping[Reader, Mapping[str, Write]]
    """By reader, then by place below /proc/sys: the write whose value stays."""
    matches: Mapping[str, tuple[str, ...]] = {}
    """For each glob, the places that it stands for."""
    known: Mapping[str, Known] = {}
    """By place below /proc/sys."""
    held: Mapping[str, Held] = {}
    """What this kernel holds, by place below /proc/sys; nothing where the files are another system's."""
    is_here: bool = True
    """Whether the files are this system's, so that the kernel's values belong to them."""
    is_initial: bool = True
    """Whether this network namespace is the one that files of settings are applied to at boot."""
    unread_last: bool = False
    """Whether /etc/sysctl.conf is there and systemd-sysctl does not read it."""
    last_path: str = ""
    skipped: tuple[Skipped, ...] = ()
    listeners: Reading[tuple[Listening, ...]] = ()
    memory_pages: int | None = None
    """Pages of memory of the machine; None where that is not known."""
    defaults: Mapping[str, str] = {}
    """Defaults that this kernel computed, by place below /proc/sys."""
    usual_sockets: int | None = None
    """The least that a kernel with this machine's memory takes by default for tcp_max_orphans and
    tcp_max_tw_buckets; None where the memory is not known."""

    def settings(self) -> Iterator[Write]:
        """Every write that stays for at least one of the readers, each line once for each place."""
        seen: set[Write] = set()
        for reader in Reader:
            for write in self.last.get(reader, {}).values():
                if write not in seen:
                    seen.add(write)
                    yield write

    def every_line(self) -> Iterator[tuple[str, Line]]:
        """Every line that means something, with its file; what both readers read alike comes once."""
        for file in self.files:
            seen: set[tuple[int, str, str | None]] = set()
            for reader in Reader:
                for line in self.lines.get(reader, {}).get(file.path, Lines(())).lines:
                    key = (line.number, line.target if line.path is not None else "", line.value)
                    if key not in seen:
                        seen.add(key)
                        yield file.path, line

    def will_be(self, path: str) -> str | None:
        """What a setting is after boot: as files say, else what it holds; None where that is not known."""
        for reader in Reader:
            write = self.last.get(reader, {}).get(path)
            if write is not None:
                return write.value
        value = self.held[path].value if path in self.held else None
        return None if isinstance(value, Missing) else value

    def known_of(self, path: str) -> Known:
        """What is known of a setting."""
        return self.known.get(path, UNKNOWN)

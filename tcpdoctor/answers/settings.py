"""What `sysctl show` says of each setting: its value beside the default, and what set it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.finding import SysctlNumber
from tcpdoctor.answers.record import NO_REASONS, Host, Is, Reasons, Time, host_of, utc
from tcpdoctor.answers.settings_files import origin_here, read_sources
from tcpdoctor.diagnosis.sysctl_look import Origin, Source, Sources
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.sysctl_value import (
    NEEDED,
    computed_defaults,
    is_computed_default,
    value_as_printed,
    value_in_words,
)
from tcpdoctor.kernel.namespaces import (
    Identity,
    bytes_of_page,
    is_recording,
    moment,
    pages_of_memory,
    read_identity,
)
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sysctl import (
    MACHINE_WIDE,
    is_folder,
    is_setting,
    look_at,
    matching,
    parse_sysctl,
    read_sysctl,
    read_sysctls,
    slashed,
)
from tcpdoctor.kernel.sysctl import sysctl_names as names_of_tcp
from tcpdoctor.kernel.sysctl_files import dotted as with_dots
from tcpdoctor.kernel.text import clean
from tcpdoctor.knowledge.sysctl_pages import SysctlPage, all_pages, dotted, find_sysctl, unknown_sysctl


class Shown(NamedTuple):
    """One setting."""

    page: SysctlPage
    value: Reading[SysctlValue]
    """A reason begins with the setting's name."""
    exists: bool
    """Whether this kernel has it, in this namespace or in the initial one."""
    computed: tuple[str, ...]
    """Defaults that were computed here; empty where the page's is fixed, or where none can be computed."""
    origin: Origin
    is_computed: bool | None = None
    """Whether the value is what the kernel computes from memory; None where that cannot be told."""


class ToldSource(NamedTuple):
    """Who set a sysctl, or says that it should be something."""

    kind: Annotated[str, Is("file, tuned or command line.")]
    file: str | None
    line: Annotated[int | None, Is(minimum=1)]
    value: str | None
    profile: Annotated[str | None, Is("TuneD's active profile.")]


def told_source(source: Source | None) -> ToldSource | None:
    """Return one place that sets a value as it is printed."""
    return None if source is None else ToldSource(*source)


class ToldSetting(NamedTuple):
    """One setting as it is printed."""

    sysctl: str
    exists: bool
    value: Reading[SysctlNumber]
    printed: Annotated[Reading[str], Is("As the kernel prints it.")]
    in_words: Annotated[Reading[str | None], Is("What it stands for; null where the number says it.")]
    missing: Reasons
    default: Annotated[
        str | None, Is("As the kernel prints it; null: computed, or not the same everywhere, or not known.")
    ]
    default_is: Annotated[str | None, Is("How it is computed, or where it differs.")]
    is_default: Reading[bool]
    unit: str | None
    scope: str | None
    meaning: str | None
    since: str | None
    removed: str | None
    instead: str | None
    set_by: Annotated[ToldSource | None, Is("What sets the value that runs, as far as can be seen.")]
    not_set_by: Annotated[ToldSource | None, Is("What says something else, and has not set it.")]


class SettingsAnswer(NamedTuple):
    """What `tcpdoctor sysctl show --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.sysctls/1"]
    host: Host
    taken_at: Time
    only_changed: bool
    sysctls: tuple[ToldSetting, ...]
    not_compared: Annotated[
        tuple[str, ...], Is("Settings whose default cannot be computed here, or whose value was not read.")
    ]
    unseen: Annotated[tuple[str, ...], Is("Sources of values that could not be looked at, each with why.")]
    named: Annotated[bool, Is("Names were given; else it is all of TCP.")]


def defaults(row: Shown) -> tuple[str, ...]:
    """Return every value that counts as the kernel's default; empty where that is not known."""
    if row.page.default is not None:
        return (row.page.default,)
    return row.computed or row.page.default_among


def is_default(row: Shown) -> Reading[bool]:
    """Return whether the value is the kernel's default; Missing where that or the value is not known."""
    if isinstance(row.value, Missing):
        return row.value
    known = defaults(row)
    if known:
        return value_as_printed(row.value) in known
    return NO_DEFAULT if row.is_computed is None else row.is_computed


NO_DEFAULT = Missing("its default is not known here")


def words_of(page: SysctlPage, value: Reading[SysctlValue], page_size: int) -> Reading[str | None]:
    """Return what a value stands for; None where the number says it."""
    if isinstance(value, Missing):
        return value
    return page.values.get(str(value)) or value_in_words(page.name, page.unit, value, page_size)


# `tcpdoctor sysctl show`: settings, their defaults, and what set them.


_MOST = 5000
"""Settings that one question may stand for."""


def look_at_settings(names: Sequence[str], *, only_changed: bool) -> SettingsAnswer:
    """Read the settings that the names stand for, in their order, and what sets them.

    Raises:
        QuestionError: A name or pattern stands for nothing; with the nearest.
    """
    found = (page for name in names for page in _meant(name)) if names else _all()
    pages = list({page.name: page for page in found}.values())
    if len(pages) > _MOST:
        raise QuestionError(f"that stands for {len(pages)} settings; name fewer")
    who = read_identity()
    needed = read_sysctls(NEEDED)
    sources, unseen = read_sources()
    rows = tuple(_row(page, needed, sources, who) for page in pages)
    hidden = tuple(row.page.name for row in rows if row.exists and isinstance(is_default(row), Missing))
    if only_changed:
        rows = tuple(row for row in rows if is_default(row) is False)
    page_size = bytes_of_page()
    return SettingsAnswer(
        schema="tcpdoctor.sysctls/1",
        host=host_of(who),
        taken_at=utc(moment()),
        only_changed=only_changed,
        sysctls=tuple(told_setting(row, page_size) for row in rows),
        not_compared=hidden,
        unseen=unseen,
        named=bool(names),
    )


def told_setting(row: Shown, page_size: int) -> ToldSetting:
    """Return a setting as it is printed, on a machine with pages of this size in bytes."""
    page, value, known = row.page, row.value, defaults(row)
    return ToldSetting(
        sysctl=page.name,
        exists=row.exists,
        value=value,
        printed=value if isinstance(value, Missing) else value_as_printed(value),
        in_words=words_of(page, value, page_size),
        missing=NO_REASONS,
        default=known[0] if len(known) == 1 else None,
        default_is=page.default_is,
        is_default=is_default(row),
        unit=page.unit,
        scope=page.scope or None,
        meaning=page.meaning,
        since=page.since,
        removed=page.removed,
        instead=page.instead,
        set_by=told_source(row.origin.by),
        not_set_by=told_source(row.origin.later),
    )


def _row(
    page: SysctlPage, needed: Mapping[str, Reading[SysctlValue]], sources: Sources, who: Identity
) -> Shown:
    path = _path(page.name)
    value = _value(page.name, path)
    exists = is_setting(path) or page.name in MACHINE_WIDE or is_recording()
    origin = origin_here(path, value, sources, who)
    known = computed_defaults(needed).get(page.name, ())
    return Shown(page, value, exists, known, origin, is_computed_here(page.name, value, needed))


def is_computed_here(
    name: str, value: Reading[SysctlValue], needed: Mapping[str, Reading[SysctlValue]]
) -> bool | None:
    """Whether a value is what the kernel computes from the memory of this machine; `needed`: of `NEEDED`."""
    if isinstance(value, Missing):
        return None
    return is_computed_default(name, value, needed, pages_of_memory(), bytes_of_page())


def _value(name: str, path: str) -> Reading[SysctlValue]:
    """What a setting holds; one that has no page may be a secret, or act when it is read."""
    if name in all_pages() or name.startswith("net.ipv4.tcp_"):
        return read_sysctl(name)
    value = look_at(path).value
    return (
        Missing(f"{name}: {value.reason}") if isinstance(value, Missing) else parse_sysctl(name, value, path)
    )


def _all() -> Iterator[SysctlPage]:
    """Every setting of TCP that is not gone, by name."""
    pages = all_pages()
    names = {*names_of_tcp(), *(name for name, page in pages.items() if page.removed is None)}
    yield from (_page_of(name) for name in sorted(names))


def _meant(asked: str) -> Iterator[SysctlPage]:
    """The settings that a name, a prefix or a pattern stands for."""
    name = re.sub(r"^/*proc/sys/", "", asked.strip()).strip()
    found = tuple(_by_pattern(name) if re.search(r"[*?\[]", name) else _by_name(name))
    if not found:
        _suggest_pattern(name)
        find_sysctl(asked)  # says what is nearest
        raise QuestionError(f"no sysctl is called {clean(asked, 60)!r}")
    yield from found


def _suggest_pattern(part: str) -> None:
    """Complain with the pattern that was meant, where a name is a part of others: ``keepalive``."""
    names = [name for name, page in all_pages().items() if page.removed is None and part.lower() in name]
    if names and re.fullmatch(r"[A-Za-z0-9_]+", part):
        raise QuestionError(f"no sysctl is called {part!r}; '*{part}*' stands for {', '.join(names[:3])} ...")


def _by_pattern(pattern: str) -> Iterator[SysctlPage]:
    from fnmatch import fnmatchcase

    pages = all_pages()
    slashed = _path(pattern)
    for name, page in pages.items():
        last = name.rpartition(".")[2]
        if page.removed is None and (fnmatchcase(_path(name), slashed) or fnmatchcase(last, pattern)):
            yield page
    for path in matching(slashed) if ".." not in slashed.split("/") else ():
        if is_setting(path):
            yield _page_of(with_dots(path))
    if not _has_separator(pattern):
        yield from (
            _page_of(name) for name in names_of_tcp() if fnmatchcase(name.rpartition(".")[2], pattern)
        )


def _by_name(name: str) -> Iterator[SysctlPage]:
    path = _path(name)
    inside = ".." not in path.split("/") and "\0" not in path
    if inside and path and is_setting(path):
        yield _page_of(with_dots(path))
        return
    try:
        yield find_sysctl(name)
        return
    except QuestionError:
        pass
    plain = dotted(name)
    if plain is None:
        return
    begins = (plain, f"net.{plain}", f"net.ipv4.{plain}")
    yield from (
        page for full, page in all_pages().items() if page.removed is None and full.startswith(begins)
    )
    yield from (_page_of(full) for full in names_of_tcp() if full.startswith(begins))
    if inside and path and is_folder(path):
        for below in matching(f"{path}/*"):
            if is_setting(below):
                yield _page_of(with_dots(below))


def _page_of(name: str) -> SysctlPage:
    page = all_pages().get(name)
    if page is not None:
        return page
    where = (
        "networking/ip-sysctl.rst" if name.startswith(("net.ipv4.", "net.ipv6.")) else "admin-guide/sysctl"
    )
    meaning = f"No page of this program tells of it; the kernel's Documentation/{where} may."
    return unknown_sysctl(name)._replace(meaning=meaning, scope="")


def _path(name: str) -> str:
    """The place below /proc/sys, never outside it."""
    return re.sub(r"/+", "/", slashed(name.strip("/")))


def _has_separator(name: str) -> bool:
    return "." in name or "/" in name

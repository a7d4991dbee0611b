"""`tcpdoctor sysctl show`: settings, their defaults, and what set them."""

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence

from tcpdoctor.cli.output import Output, emit, style_of
from tcpdoctor.cli.sysctl_sources import origin_here, read_sources
from tcpdoctor.diagnosis.sysctl_origin import Sources
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.sysctl_defaults import NEEDED, computed_defaults
from tcpdoctor.kernel.live import Identity, read_identity
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sysctl import MACHINE_WIDE, PROC_SYS, parse_sysctl, read_sysctl, read_sysctls
from tcpdoctor.kernel.sysctl import sysctl_names as names_of_tcp
from tcpdoctor.kernel.sysctl_lines import dotted as with_dots
from tcpdoctor.kernel.sysctl_tree import look_at, matching
from tcpdoctor.kernel.text import clean
from tcpdoctor.knowledge.sysctl_pages import SysctlPage, all_pages, dotted, find_sysctl, unknown_sysctl
from tcpdoctor.report.sysctl_list import SettingsList, Shown, is_default

_MOST = 5000
"""Settings that one question may stand for."""


def answer_show(names: Sequence[str], output: Output, *, only_changed: bool) -> None:
    """Show these settings, or all of TCP.

    Raises:
        QuestionError: A name or pattern stands for nothing; with the nearest.
    """
    found = look_at_settings(names, only_changed=only_changed)
    if output.format == "json":
        import json

        from tcpdoctor.report.sysctl_list_json import sysctl_list_json

        emit(json.dumps(sysctl_list_json(found), indent=1, allow_nan=False), output)
    else:
        from tcpdoctor.report.sysctl_list_text import sysctl_list_text

        emit(sysctl_list_text(found, style_of(output)), output)


def look_at_settings(names: Sequence[str], *, only_changed: bool) -> SettingsList:
    """Read the settings that the names stand for, in their order, and what sets them.

    Raises:
        QuestionError: A name or pattern stands for nothing; with the nearest.
    """
    found = (page for name in names for page in _meant(name)) if names else _all()
    pages = list({page.name: page for page in found}.values())
    if len(pages) > _MOST:
        raise QuestionError(f"that stands for {len(pages)} settings; name fewer")
    who = read_identity()
    computed = computed_defaults(read_sysctls(NEEDED))
    sources, unseen = read_sources()
    rows = tuple(_row(page, computed, sources, who) for page in pages)
    hidden = tuple(row.page.name for row in rows if row.exists and is_default(row) is None)
    if only_changed:
        rows = tuple(row for row in rows if is_default(row) is False)
    page_size = os.sysconf("SC_PAGE_SIZE")
    return SettingsList(rows, who, time.time(), page_size, bool(names), only_changed, hidden, unseen)


def _row(page: SysctlPage, computed: Mapping[str, tuple[str, ...]], sources: Sources, who: Identity) -> Shown:
    path = _path(page.name)
    value = _value(page.name, path)
    exists = os.path.exists(os.path.join(PROC_SYS, path)) or page.name in MACHINE_WIDE
    return Shown(page, value, exists, computed.get(page.name, ()), origin_here(path, value, sources, who))


def _value(name: str, path: str) -> Reading[SysctlValue]:
    """What a setting holds; one that has no page may be a secret, or act when it is read."""
    if name in all_pages() or name.startswith("net.ipv4.tcp_"):
        return read_sysctl(name)
    value = look_at(path).value
    return value if isinstance(value, Missing) else parse_sysctl(name, value, path)


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
        if os.path.isfile(os.path.join(PROC_SYS, path)):
            yield _page_of(with_dots(path))
    if not _has_separator(pattern):
        yield from (
            _page_of(name) for name in names_of_tcp() if fnmatchcase(name.rpartition(".")[2], pattern)
        )


def _by_name(name: str) -> Iterator[SysctlPage]:
    path = _path(name)
    place = os.path.join(PROC_SYS, path)
    inside = ".." not in path.split("/") and "\0" not in path
    if inside and path and os.path.isfile(place):
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
    if inside and path and os.path.isdir(place):
        for below in matching(f"{path}/*"):
            if os.path.isfile(os.path.join(PROC_SYS, below)):
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
    """The place below /proc/sys, never outside it: the first separator says which of the two separates."""
    name = name.strip("/")
    first = re.search(r"[/.]", name)
    path = name if first is None or first[0] == "/" else name.translate({46: "/", 47: "."})
    return re.sub(r"/+", "/", path)


def _has_separator(name: str) -> bool:
    return "." in name or "/" in name

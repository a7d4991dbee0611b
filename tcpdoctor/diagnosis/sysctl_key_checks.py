"""What is wrong with a line for this kernel: a key that it lacks, a value that it refuses or has not."""

import re
import shlex
from collections.abc import Collection, Iterator, Sequence

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_checks import fault, refusal, size_of, stays
from tcpdoctor.diagnosis.sysctl_look import ALIASES, UNKNOWN, Fault, Known, Look, Write
from tcpdoctor.diagnosis.table import nearest
from tcpdoctor.facts.sysctl_value import is_same, printed_numbers, read_numbers
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl import Held, is_machine_wide
from tcpdoctor.kernel.sysctl_files import Line, dotted
from tcpdoctor.kernel.text import blank_split, clean, name_a_few

_NO_EFFECT = {
    "net/ipv4/tcp_fack": "since Linux 4.15 it does nothing; RACK took its place.",
    "net/ipv4/tcp_low_latency": "since Linux 4.14 it does nothing: the prequeue that it avoided is gone.",
    "net/ipv4/tcp_adv_win_scale": "since Linux 6.6 it does nothing: each socket measures its own overhead.",
    "net/ipv4/route/max_size": "since Linux 3.6 it does nothing: the cache of routes is gone.",
}
_SYN_BACKLOG, _COOKIES = "net/ipv4/tcp_max_syn_backlog", "net/ipv4/tcp_syncookies"
_LATE = ("net/netfilter/", "net/nf_conntrack", "net/bridge/")
"""Settings of modules that are mostly loaded after systemd-sysctl has run."""
_MODULES = (
    ("net/netfilter/nf_conntrack", "nf_conntrack"),
    ("net/nf_conntrack_max", "nf_conntrack"),
    ("net/bridge/", "br_netfilter"),
    ("net/sctp/", "sctp"),
    ("net/ipv4/vs/", "ip_vs"),
    ("net/mptcp/", "MPTCP (CONFIG_MPTCP)"),
    ("net/ipv6/", "ipv6"),
    ("sunrpc/", "sunrpc"),
    ("fs/nfs/", "nfs"),
)
_LOADED = {
    "nf_conntrack": "net.netfilter.nf_conntrack_count",
    "ipv6": "net.ipv6.bindv6only",
}
"""A setting that is always there where the module is: then it lacks what is missing."""
_OLD_TRACKING = re.compile(r"net/ipv4/(?:netfilter/)?ip_conntrack_(?P<rest>\w+)")
_INTERFACE = re.compile(r"net/(?:ipv4|ipv6|mpls)/(?:conf|neigh)/(?P<name>[^/]+)(?P<rest>/.*)?")
_COMMENT = re.compile(r"[ \t]*(?:[#;]|[ \t](?://|/\*|\\)).*", re.DOTALL)
_ACTIONS = frozenset({"vm/drop_caches", "vm/compact_memory", "net/ipv4/route/flush", "net/ipv6/route/flush"})
_NOT_THERE = Missing("it is not among the settings that are read")
_SHOWN = 80
_MOST_GUESSES = 100
"""Misspelt names that are compared with all others, at some milliseconds each."""
_OTHERS = ("kernel/", "vm/", "fs/", "dev/", "debug/", "abi/", "user/", "crypto/")
"""Groups that have nothing to do with TCP, whose settings hang on how the kernel was built."""
_CORRECT = "Correct the name, or remove the line."
_NAMED = 3
"""Settings of one pattern that are told by name."""
_ALIKE = 0.8
"""How much of the last parts of two names has to agree for one to be a slip of the other; own."""
_ELSEWHERE = " Nothing applies files to this network namespace, which is not the host's own."
_FROM_OUTSIDE = (
    "Settings are read-only here: set it on the host, or for this container from outside (docker run "
    "--sysctl KEY=VALUE)."
)
DRIFT = "differs-from-running"


def check_keys(look: Look, names: Collection[str]) -> Iterator[Fault]:
    """Look at every line that names a setting, or several by a pattern.

    Args:
        look: What was read.
        names: Dotted names that a misspelt one may have meant.
    """
    guesses = 0
    for path, line in look.every_line():
        if line.path is None or line.path.startswith("\ufeff"):
            continue  # no setting, or told as byte-order-mark
        if line.is_glob and not line.leads_out:
            yield from _of_pattern(look, path, line)
            continue
        place, held = (path, line.number), look.held.get(line.target)
        no_setting = _no_setting(look, place, line)
        if no_setting is not None:
            yield no_setting
        elif held is not None and not held.exists:
            guesses += 1
            yield _absent(look, place, line, names if guesses <= _MOST_GUESSES else ())
        elif held is None and line.target not in look.known and not look.is_here:
            guesses += 1
            yield from _nowhere(place, line, names if guesses <= _MOST_GUESSES else ())
        elif line.value is not None:
            yield from _value(look, place, line, held)


def _of_pattern(look: Look, file: str, line: Line) -> Iterator[Fault]:
    """What is wrong with the value of a pattern, each once, by the first setting that has it."""
    told: set[str] = set()
    for place in look.matches.get(line.path or "", ()) if line.value is not None else ():
        held = look.held.get(place)
        if held is None or not held.exists or not held.writable:
            continue
        for one in _value(look, (file, line.number), line._replace(path=place), held):
            if one.check not in told:
                told.add(one.check)
                yield one


def _no_setting(look: Look, place: tuple[str, int], line: Line) -> Fault | None:
    """What a line names that no value can help: nothing, something gone, or what does nothing."""
    held = look.held.get(line.target)
    is_there = held is not None and held.exists
    if line.leads_out:
        return _outside(place, line)
    if line.key.startswith(("/ ", "//", "\\")):
        return _no_comment(place, line)
    if line.value is not None and (why := _useless(look, line)) is not None:
        return fault("key-has-no-effect", place, why, "Remove the line.", key=dotted(line.target))
    if _known_of(look, line).removed is not None and not is_there:
        return _gone(look, place, line)
    return None if is_there or line.target in look.known else _option(look, place, line)


def check_drift(look: Look) -> Iterator[Fault]:
    """Look at settings whose running value is not what the files make of them."""
    differing: dict[tuple[str, int], list[tuple[Write, str]]] = {}
    # a line that says the same again is one with the line before
    each = {(write.path, *blank_split(write.value)): write for write in look.settings()}
    overruled = _overruled(look)
    for write in each.values():
        held = look.held.get(write.path)
        if held is None or isinstance(held.value, Missing) or not held.writable or write.path in _ACTIONS:
            continue
        others = [last[write.path] for last in look.last.values() if write.path in last]
        if write not in overruled and not any(is_same(other.value, held.value) for other in others):
            place = (write.by.file, write.by.line.number)
            differing.setdefault(place, []).append((write, held.value))
    foreign: dict[str, int] = {}
    for place, found in differing.items():
        if place[0] in look.not_applied:
            foreign[place[0]] = foreign.get(place[0], 0) + len({write.path for write, _ in found})
        else:
            drift = _drift(place, found, look)
            yield drift._replace(do=_FROM_OUTSIDE) if look.is_read_only else drift
    for path, number in foreign.items():
        yield _foreign_drift(path, number)


def _overruled(look: Look) -> set[Write]:
    """Writes to a variable that a later line writes under its other name."""
    found: set[Write] = set()
    for last in look.last.values():
        for path, alias in ALIASES.items():
            if path in last and alias in last:
                found.add(min(last[path], last[alias], key=look.place_of))
    return found


def _foreign_drift(path: str, number: int) -> Fault:
    """One remark for a file that nothing applies: that it differs is no wonder."""
    differ = "1 setting of it is" if number == 1 else f"{number} settings of it are"
    what = f"{differ} not what runs here: it is not among the files that are applied at boot."
    do = "Nothing, if it is for another machine, or not in force yet."
    return fault(DRIFT, (path, None), what, do)


def _drift(place: tuple[str, int], found: Sequence[tuple[Write, str]], look: Look) -> Fault:
    """One remark for a line, however many settings a pattern of it stands for."""
    where = "" if look.is_initial else _ELSEWHERE
    write, held = found[0]
    key, says = dotted(write.path), clean(" ".join(blank_split(write.value)), _SHOWN) or "nothing"
    command = f"sysctl -w {shlex.quote(f'{key}={clean(write.value, 4096)}')}"
    if len({other.path for other, _ in found}) == 1:
        what = f"{key}: the file says {says}, the kernel has {clean(held, _SHOWN) or 'nothing'}.{where}"
        do = f"Apply it ({command}) or correct the line. `tcpdoctor sysctl show {key}` tells what set it."
        if look.known_of(write.path) is UNKNOWN:
            do = f"If it is meant ({command}); this program does not judge {key}. Else correct the line."
        elif not look.is_initial and write.path.startswith("net/"):  # whoever set it left no file
            do = f"Apply it in this network namespace ({command}) or correct the line."
        if write.path.startswith(_LATE):
            do += (
                " Where its module is loaded after systemd-sysctl has run, the line is lost at each boot: "
                "name the module in /etc/modules-load.d."
            )
        return fault(DRIFT, place, what, do, key=key)
    names = [f"{dotted(other.path)} = {clean(value, 20) or 'nothing'}" for other, value in found]
    pattern = clean(write.by.line.key, _SHOWN)
    what = f"{pattern}: the file says {says}, the kernel has {name_a_few(names, _NAMED)}.{where}"
    return fault(DRIFT, place, what, f"Apply it to each ({command} ...) or correct the line.", key=pattern)


def _outside(place: tuple[str, int], line: Line) -> Fault:
    return fault(
        "key-outside-proc-sys",
        place,
        f"'{clean(line.key, _SHOWN)}' leads out of /proc/sys. Both readers refuse the line, and it was not "
        "looked at.",
        "Remove the line.",
    )


def _no_comment(place: tuple[str, int], line: Line) -> Fault:
    mark = line.key[:1] if line.key.startswith("\\") else "//"
    return fault(
        "not-an-assignment",
        place,
        f"{mark} begins no comment (# and ; do): '{clean(line.key, _SHOWN)}' is taken for the name of a "
        "setting.",
        "Begin comments with #.",
    )


def _useless(look: Look, line: Line) -> str | None:
    """Why the kernel takes the value and does nothing with it; None where it does something."""
    key = dotted(line.target)
    if line.target in _NO_EFFECT:
        return f"{key}: {_NO_EFFECT[line.target]}"
    cookies = look.will_be(_COOKIES) if line.target == _SYN_BACKLOG else None
    if cookies is None or printed_numbers(cookies) in (None, (0,)):
        return None
    return (
        f"{key} does nothing while {dotted(_COOKIES)} is {clean(cookies, 20)}: half-open connections of a "
        "listener are bounded by its backlog, which net.core.somaxconn bounds, and then cookies are sent."
    )


def _known_of(look: Look, line: Line) -> Known:
    """What is known of a setting; all of ip_conntrack went at once, and has no pages."""
    old = _OLD_TRACKING.fullmatch(line.target)
    if old is None or line.target in look.known:
        return look.known_of(line.target)
    return Known(removed="4.9", instead=f"net.netfilter.nf_conntrack_{old['rest']}")


def _gone(look: Look, place: tuple[str, int], line: Line) -> Fault:
    known, key = _known_of(look, line), dotted(line.target)
    instead = f" Instead: {known.instead}." if known.instead else ""
    if known.removed == "never there":
        what, check = f"No kernel of kernel.org ever had {key}.{instead}", "key-never-existed"
    else:
        what, check = f"{key} is gone since Linux {known.removed}.{instead}", "key-removed"
    return fault(check, place, what, "Remove the line.", key=key, severity=_milder(line))


def _absent(look: Look, place: tuple[str, int], line: Line, names: Collection[str]) -> Fault:
    known, key = look.known_of(line.target), dotted(line.target)
    if not look.is_initial and (known.scope == "initial" or is_machine_wide(line.target)):
        return fault(
            "key-of-initial-namespace",
            place,
            f"{key} exists in the initial network namespace only, and this is another one.",
            "Set it on the host; nothing is to be done here.",
            key=key,
        )
    interface = _INTERFACE.match(line.target)
    if interface is not None and interface["rest"] and interface["name"] not in ("all", "default"):
        return _of_interface(place, line, interface)
    module = next((module for start, module in _MODULES if line.target.startswith(start)), None)
    if module is not None and isinstance(look.running.get(_LOADED.get(module, ""), _NOT_THERE), Missing):
        return _of_module(place, key, module)
    if known.since is not None:
        return fault(
            "key-too-new", place, f"This kernel does not have {key}: it came with Linux {known.since}.",
            "Begin the line with - where some hosts have an older kernel.", key=key,
        )  # fmt: skip
    near = _near(key, names)
    is_foreign = not near and line.target.startswith(_OTHERS)
    otherwise = "Nothing, if it is for another kernel; else correct the name, or remove the line."
    return fault(
        "key-unknown",
        place,
        f"This kernel does not have {clean(key, _SHOWN)}.",
        f"Did you mean {near}?" if near else otherwise if is_foreign else _CORRECT,
        key=key,
        severity=Severity.INFO if is_foreign else _milder(line),
    )


def _nowhere(place: tuple[str, int], line: Line, names: Collection[str]) -> Iterator[Fault]:
    """A key that is wrong on whatever kernel the files are for."""
    key, severity = dotted(line.target), _milder(line)
    interface = _INTERFACE.match(line.target)
    if interface is not None and (interface["rest"] or "").count("/") > 1:
        yield _of_interface(place, line, interface)
        return
    in_capitals = key != key.lower() and key.lower() in names
    near = _near(key, names) if in_capitals or line.target.startswith("net/ipv4/tcp_") else None
    if near or "/" not in line.target or re.search(r"\s", key):
        what = f"No kernel that this program knows has {clean(key, _SHOWN)}."
        near = near or _near(key, names)
        do = f"Did you mean {near}?" if near else _CORRECT
        yield fault("key-unknown", place, what, do, key=key, severity=severity)


def _option(look: Look, place: tuple[str, int], line: Line) -> Fault | None:
    """A socket option that was taken for a setting."""
    last = line.target.rpartition("/")[2].lower()
    if last not in look.options:
        return None
    return fault(
        "key-never-existed",
        place,
        f"{clean(dotted(line.target), _SHOWN)}: {last.upper()} is an option that programs set on a socket, "
        "and no setting of the kernel.",
        f"Remove the line. `tcpdoctor explain --option {last.upper()}` says how programs set it.",
        key=dotted(line.target),
        severity=_milder(line),
    )


def _near(key: str, names: Collection[str]) -> str | None:
    """The name that was meant; None where even the nearest is another word in its last part."""
    from difflib import SequenceMatcher  # only a mistake pays for it

    key = key.lower()  # the kernel's own names have no capitals
    near = nearest(key, names)
    if near is None:
        return None
    last, meant = (name.rpartition(".")[2] for name in (key, near))
    return near if SequenceMatcher(None, last, meant).ratio() >= _ALIKE else None


def _of_module(place: tuple[str, int], key: str, module: str) -> Fault:
    return fault(
        "key-needs-module",
        place,
        f"{key} is not there: it appears when {module} is loaded, which may be after the files are read.",
        "Load it early (/etc/modules-load.d), or apply the line when it is there.",
        key=key,
    )


def _of_interface(place: tuple[str, int], line: Line, interface: re.Match[str]) -> Fault:
    key, name = dotted(line.target), interface["name"]
    parts = (interface["rest"] or "").strip("/").split("/")
    if len(parts) > 1:
        whole = f"{name}.{parts[0]}"
        right = dotted(f"{line.target[: interface.start('name')]}{whole}/{'/'.join(parts[1:])}")
        return fault(
            "key-unknown", place, f"{clean(key, _SHOWN)} names an interface {name}, and not {whole}.",
            f"Write a dot in an interface's name as a slash: {clean(right, _SHOWN)}.", key=key,
        )  # fmt: skip
    return fault(
        "key-of-absent-interface",
        place,
        f"There is no interface {clean(name, 20)} here, or it has no {clean(parts[0], 40)}.",
        "Nothing, if it comes later: udev has systemd-sysctl apply the line then (99-systemd.rules).",
        key=key,
    )


def _value(look: Look, place: tuple[str, int], line: Line, held: Held | None) -> Iterator[Fault]:
    value, key = line.value or "", dotted(line.target)
    if held is not None and not held.writable:
        yield _read_only(look, place, line)
        return
    known = look.known_of(line.target)
    reading = Missing("not looked at") if held is None else held.value
    why = refusal(line.target, value, known, reading)
    bare = _COMMENT.sub("", value)
    if bare != value and bare:
        yield _comment(place, key, value, bare, why)
    elif why is not None:
        shown = f"'{clean(value, _SHOWN)}'" if value else "an empty value"
        after = stays(line.target, value, known, reading)
        what = f"The kernel refuses {shown} for {key}: {why}{_unseen(value)}. {after}"
        yield fault("value-refused", place, what, "Correct the value.", key=key, severity=_milder(line))
    else:
        yield from _count(place, line, size_of(known, reading))
        yield from _no_such_mode(place, key, value, known)
        yield from _harm(place, key, value, known)


def _read_only(look: Look, place: tuple[str, int], line: Line) -> Fault:
    """A setting that is only shown: by this namespace, by this machine, or by every kernel."""
    key, known = dotted(line.target), look.known_of(line.target)
    if not look.is_initial and known.scope in ("shared", "initial"):
        what = f"{key} is the machine's, and this network namespace may only read it."
        do = "Set it on the host; nothing is to be done here."
        return fault("key-read-only", place, what, do, key=key, severity=Severity.INFO)
    if line.target.startswith("net/"):
        what = f"{key} cannot be written."
        return fault("key-read-only", place, what, "Remove the line.", key=key, severity=_milder(line))
    what = f"{key} cannot be written on this machine: its hardware or its kernel has no use for it."
    do = "Nothing, if the file is for other machines as well; it is no setting of TCP."
    return fault("key-read-only", place, what, do, key=key, severity=Severity.INFO)


def _count(place: tuple[str, int], line: Line, size: int | None) -> Iterator[Fault]:
    """A value with more numbers than the setting has, or fewer."""
    value, key = line.value or "", dotted(line.target)
    if size is None:
        return
    found = read_numbers(value, size)
    wants = "one number" if size == 1 else f"{size} numbers"
    if len(found.numbers) < size:
        more = "the other stays" if size == 2 else "the others stay"
        first = "the first" if len(found.numbers) == 1 else f"the first {len(found.numbers)}"
        what = f"{key} holds {wants}, and '{clean(value, _SHOWN)}' sets {first} only: {more} as before."
        yield fault("wrong-count", place, what, f"Write {wants}.", key=key, severity=_milder(line))
    elif found.rest:
        taken = " ".join(map(str, found.numbers))
        what = (
            f"{key} holds {wants}: of '{clean(value, _SHOWN)}' the kernel takes {taken} and ignores the rest."
        )
        yield fault("wrong-count", place, what, f"Write {wants}.", key=key, severity=_milder(line))


def _no_such_mode(place: tuple[str, int], key: str, value: str, known: Known) -> Iterator[Fault]:
    """A number that stands for nothing, and that the kernel takes for another."""
    numbers = read_numbers(value, 1).numbers
    if known.modes and numbers and numbers[0] > 0 and numbers[0] not in known.modes:
        what = f"{key} = {numbers[0]} stands for nothing of its own: the kernel takes it as {known.acts_as}."
        yield fault("value-acts-as-another", place, what, "Write the number that is meant.", key=key)


def _harm(place: tuple[str, int], key: str, value: str, known: Known) -> Iterator[Fault]:
    """A value that the kernel takes as it stands, and that nobody can have meant."""
    numbers = read_numbers(value, known.size or 1).numbers
    for which, what in known.harms.items() if numbers else ():
        if numbers[-1] < int(which[1:]) if which.startswith("<") else numbers[0] == int(which):
            do = "Go back to the default: remove the line."
            yield fault("value-harmful", place, f"{key} = {clean(value, _SHOWN)}: {what}", do, key=key)


def _unseen(text: str) -> str:
    """Name the first character that looks like a blank, or like nothing, and is no blank for the kernel."""
    import unicodedata  # only a mistake pays for it

    for char in text:
        strange = char not in " \t" and (char.isspace() or not char.isprintable())
        if strange and not "\ud800" <= char <= "\udfff":
            name = unicodedata.name(char, "a control character").lower()
            return f"; it holds U+{ord(char):04X} ({name}), which is no blank for the kernel"
    return ""


def _comment(place: tuple[str, int], key: str, value: str, bare: str, why: str | None) -> Fault:
    shown = f"The value of {key} is '{clean(value, _SHOWN)}', what looks like a comment included"
    if why is not None:
        what, severity = f"{shown}, and the kernel refuses it: {why}.", None
    elif re.fullmatch(r"[-+0-9a-fA-FxX\s]+", bare):
        what, severity = f"{shown}; the kernel happens to stop reading numbers at the blank.", Severity.INFO
    else:
        what, severity = f"{shown}.", None
    return fault(
        "trailing-comment", place, what, "Put the comment on a line of its own.", key=key, severity=severity
    )


def _milder(line: Line) -> Severity | None:
    """A line that begins with a dash says itself that it may fail."""
    return Severity.INFO if line.lenient or line.value is None else None

"""The answer to `explain --option`: a page of the encyclopaedia, this host's sockets, and who sets it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.record import NO_REASONS, Count, Host, Is, Reasons, Time, host_of, utc
from tcpdoctor.kernel.entered import moment
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.reading import JsonValue, Missing, Reading
from tcpdoctor.kernel.snapshot import Held, SysctlValue
from tcpdoctor.kernel.sockopts import OPTIONS, OptionValue, read_fresh_option
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.survey import Seen, take_survey
from tcpdoctor.kernel.sysctl import read_sysctls
from tcpdoctor.knowledge.option_pages import OptionPage, Runtime, Value, find_option, read_runtimes
from tcpdoctor.knowledge.resource import Mistake


class ListenerOption(NamedTuple):
    """One listener of this host, and its value of the option."""

    local: str
    owner: Annotated[Reading[str | None], Is("nginx (811); null where no process holds it.")]
    value: Reading[OptionValue]
    missing: Reasons = NO_REASONS


class Limits(NamedTuple):
    """The smallest and the largest value."""

    low: int
    high: int


class Sets(NamedTuple):
    """A program or library in its default configuration, and what was seen on its sockets."""

    name: str
    software: str
    seen_with: Annotated[str | None, Is("The versions.")]
    sets: Annotated[bool, Is("false: it leaves the option as it is.")]
    value: Annotated[JsonValue, Is("The value that was seen; null where it sets none.")]
    note: str | None
    oldest: Annotated[str, Is("The first of the versions.")]


class OptionAnswer(NamedTuple):
    """What `tcpdoctor explain --option SO_X --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.option/1"]
    option: str
    level: str
    number: Count
    type: Annotated[str, Is("Of C.")]
    unit: str | None
    host: Host
    taken_at: Time
    does: str
    value_of_a_new_socket: Reading[OptionValue]
    default: str | None
    accepts: Limits | None
    otherwise: Annotated[str | None, Is("What happens to other values.")]
    accepts_is: Annotated[str | None, Is("The limits in words, where two numbers do not say it.")]
    sysctls: Annotated[Mapping[str, Reading[SysctlValue]], Is("Those that have to do with it.")]
    set_when: str
    inherited_by_accepted: Annotated[bool | None, Is("null: neither, inherited_is says how.")]
    inherited_is: str | None
    since: str | None
    beware: str | None
    mistaken_for: tuple[Mistake, ...]
    code: Annotated[Mapping[str, str], Is("How to set it, by language.")]
    listeners: Annotated[Reading[tuple[ListenerOption, ...]], Is("Every listener that can have it.")]
    set_by: Annotated[
        Mapping[str, tuple[Sets, ...]], Is("By socket (listener, accepted, client), those that set it first.")
    ]
    set_by_is: str | None
    see_also: tuple[str, ...]
    missing: Reasons
    said: Annotated[
        tuple[str, ...], Is("Languages in whose place of `code` a sentence says why there is none.")
    ]


class OptionHere(NamedTuple):
    """What was read of one option here and now."""

    fresh: Reading[OptionValue]
    """Its value on a socket that was just made here."""
    sysctls: Mapping[str, Reading[SysctlValue]]
    """Those of the page."""
    listeners: Reading[tuple[ListenerOption, ...]]
    """Every listener that can have the option; Missing where they were not asked, or cannot be."""


def who_sets(name: str, runtimes: Sequence[Runtime]) -> Mapping[str, tuple[Sets, ...]]:
    """Tell who sets an option, per kind of socket; IPV6_V6ONLY was looked at on listeners only."""
    told = {}
    for socket in ("listener",) if name == "IPV6_V6ONLY" else ("listener", "accepted", "client"):
        seen: list[Sets] = []
        plain: list[Sets] = []
        for runtime in runtimes:
            options: Mapping[str, Value] | None = getattr(runtime, socket)
            if options is None:
                continue
            sets = name in options
            seen_with = ", ".join(runtime.versions)
            one = Sets(
                runtime.name,
                runtime.software,
                seen_with,
                sets,
                options.get(name),
                runtime.note,
                runtime.versions[0],
            )
            (seen if sets else plain).append(one)
        told[socket] = (*seen, *plain)
    return told


# `tcpdoctor explain --option`: a socket option, and which listeners here have it.


_SECONDS_FOR_OWNERS = 2.0
_MOST_LISTENERS = 2_000


def look_at_option(name: str) -> OptionAnswer:
    """Return the page of an option and how it stands here.

    Raises:
        QuestionError: There is no such option.
    """
    page = find_option(name)
    here = OptionHere(
        fresh=read_fresh_option(page.option(), ipv6=page.level == "IPPROTO_IPV6"),
        sysctls=read_sysctls(page.sysctls),
        listeners=_listeners(page),
    )
    return option_answer(page, read_identity(), moment(), here)


def option_answer(page: OptionPage, who: Identity, taken_at: float, here: OptionHere) -> OptionAnswer:
    """Return the answer of a page and what was read on one host."""
    return OptionAnswer(
        schema="tcpdoctor.option/1",
        option=page.name,
        level=page.level,
        number=page.number,
        type=page.c_type,
        unit=page.unit or ("switch" if page.kind == "switch" else None),
        host=host_of(who),
        taken_at=utc(taken_at),
        does=page.does,
        value_of_a_new_socket=here.fresh,
        default=page.default,
        accepts=None if page.limits is None else Limits(*page.limits),
        otherwise=page.outside,
        accepts_is=page.accepts,
        sysctls=here.sysctls,
        set_when=page.set_when,
        inherited_by_accepted=page.inherited,
        inherited_is=page.inherited_is,
        since=page.since,
        beware=page.beware,
        mistaken_for=page.mistaken,
        code=page.code,
        listeners=here.listeners,
        set_by=who_sets(page.name, read_runtimes()),
        set_by_is=page.runtimes,
        see_also=page.see,
        missing=NO_REASONS,
        said=page.said,
    )


def _listeners(page: OptionPage) -> Reading[tuple[ListenerOption, ...]]:
    if page.name not in {option.name for option in OPTIONS}:
        return Missing(f"tcpdoctor does not ask other processes' sockets for {page.name}")
    survey = take_survey(
        (TcpState.LISTEN,), options=True, owner_seconds=_SECONDS_FOR_OWNERS, room=_MOST_LISTENERS
    )
    if isinstance(survey, Missing):
        return survey
    six_only = page.level == "IPPROTO_IPV6"
    return tuple(
        ListenerOption(str(seen.row.local), _owner(seen), _value(seen, page.name))
        for seen in survey.sockets
        if seen.row.family == 6 or not six_only
    )


def _owner(seen: Seen) -> Reading[str | None]:
    owner = seen.row.owner
    if isinstance(owner, Held):
        return owner.label
    return owner if isinstance(owner, Missing) else None


def _value(seen: Seen, name: str) -> Reading[OptionValue]:
    return seen.options if isinstance(seen.options, Missing) else seen.options[name]

"""`tcpdoctor explain --option`: a socket option, and which listeners here have it."""

import time

from tcpdoctor.cli.output import Output, emit, style_of
from tcpdoctor.kernel.fresh_socket import read_fresh_option
from tcpdoctor.kernel.identity import read_identity
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Held
from tcpdoctor.kernel.sockopts import OPTIONS, OptionValue
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.survey import Seen, take_survey
from tcpdoctor.kernel.sysctl import read_sysctls
from tcpdoctor.knowledge.option_pages import OptionPage, find_option
from tcpdoctor.knowledge.runtimes import read_runtimes
from tcpdoctor.report.option import ListenerOption, OptionAnswer

_SECONDS_FOR_OWNERS = 2.0
_MOST_LISTENERS = 2_000


def answer_option(name: str, output: Output) -> None:
    """Explain the socket option that is called so, in any usual spelling.

    Raises:
        QuestionError: There is no such option.
    """
    answer = look_at_option(name)
    if output.format == "json":
        import json

        from tcpdoctor.report.option_json import option_answer_json

        emit(json.dumps(option_answer_json(answer), indent=1, allow_nan=False), output)
    else:
        from tcpdoctor.report.option_text import option_text

        emit(option_text(answer, style_of(output)), output)


def look_at_option(name: str) -> OptionAnswer:
    """Return the page of an option and how it stands here.

    Raises:
        QuestionError: There is no such option.
    """
    page = find_option(name)
    return OptionAnswer(
        page=page,
        who=read_identity(),
        taken_at=time.time(),
        fresh=read_fresh_option(page.option(), ipv6=page.level == "IPPROTO_IPV6"),
        sysctls=read_sysctls(page.sysctls),
        listeners=_listeners(page),
        runtimes=read_runtimes(),
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


def _owner(seen: Seen) -> str | None:
    match seen.row.owner:
        case Held(holders):
            return f"{holders[0].name} ({holders[0].pid})"
    return None


def _value(seen: Seen, name: str) -> Reading[OptionValue]:
    return seen.options if isinstance(seen.options, Missing) else seen.options[name]

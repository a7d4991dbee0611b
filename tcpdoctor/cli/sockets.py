"""`tcpdoctor sockets`: the sockets one by one."""

import time
from typing import Annotated

import typer

from tcpdoctor.cli.output import COLOR, FORMAT, OUTPUT, Output, emit, style_of

_SHOWN = 200
"""More sockets are not read by people; json lists all."""


def sockets(
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Only in this state; repeat, or separate by commas."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=65535, help="Only with this local port.")
    ] = None,
    peer_port: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=65535, help="Only connected to this port.")
    ] = None,
    pid: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only those a process holds.")] = None,
    options: Annotated[
        bool, typer.Option("--options", help="Also the socket options that their processes set.")
    ] = False,
    output_format: FORMAT = "text",
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """List sockets with owner, age, timer and queues.

    With --options each socket is asked through a duplicate of its process's descriptor, which is only
    read and closed at once; that needs root for other users' processes.
    """
    from tcpdoctor.errors import QuestionError
    from tcpdoctor.facts.ages import age_in_one_look
    from tcpdoctor.kernel.identity import read_identity
    from tcpdoctor.kernel.reading import Missing
    from tcpdoctor.kernel.snapshot import Connection
    from tcpdoctor.kernel.states import COUNTED_STATES
    from tcpdoctor.kernel.survey import take_survey
    from tcpdoctor.knowledge.state_pages import find_state
    from tcpdoctor.report.sockets import Entry, Sockets

    target = Output(output_format, output, color)
    by_key = {one.key: one for one in COUNTED_STATES}
    names = [name for option in state or () for name in option.split(",")]
    keys = [find_state(name).key for name in names] if names else list(by_key)
    wanted = [by_key[key] for key in keys if key in by_key]
    if not wanted:
        raise QuestionError("sockets in CLOSED are in no list of the kernel; ask for another state")
    taken_at = time.time()
    survey = take_survey(
        wanted,
        local_port=port,
        remote_port=peer_port,
        pid=pid,
        options=options,
    )
    if isinstance(survey, Missing):
        raise QuestionError(f"the sockets could not be listed: {survey.reason}")
    entries = tuple(
        Entry(seen, age_in_one_look(seen.row) if isinstance(seen.row, Connection) else None)
        for seen in survey.sockets
    )
    answer = Sockets(read_identity(), taken_at, entries, survey, options)
    if output_format == "json":
        import json

        from tcpdoctor.report.sockets_json import sockets_json

        emit(json.dumps(sockets_json(answer), indent=1, allow_nan=False), target)
    else:
        from tcpdoctor.report.sockets_text import sockets_text

        emit(sockets_text(answer._replace(entries=entries[:_SHOWN]), style_of(target)), target)

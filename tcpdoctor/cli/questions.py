"""Who answers each question of `explain`: the look of `answers`, and the page that `report` makes of it.

Only the question that is asked is imported: each takes 10 to 60 ms.
"""

from functools import partial
from typing import TYPE_CHECKING

from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output

if TYPE_CHECKING:
    from tcpdoctor.answers.connect import Client
    from tcpdoctor.answers.port import PortQuestion


def answer_port(
    question: "PortQuestion", output: Output, *, wait: float | None = None, trace: float | None = None
) -> None:
    """Say whether a server can bind the port, who holds it, until when, and what to do.

    Without a probe in the question nothing is bound. With `wait` it is looked at until it is free, so many
    seconds at most. With `trace` the connections that end there within so many seconds are told as well.

    Raises:
        QuestionError: The port, the address, the user or the device is none.
    """
    from tcpdoctor.answers.port import look_at_port, wait_until_free
    from tcpdoctor.report.port_text import port_page

    look = partial(look_at_port, question) if wait is None else partial(wait_until_free, question, wait)
    if trace is not None:
        from tcpdoctor.answers.trace import with_trace

        look = partial(with_trace, look, question.port, trace)
    ask(look, partial(port_page, long=output.long), output, takes=1.0 + (trace or 0.0))


def answer_connect(host_port: str, client: "Client", output: Output) -> None:
    """Say whether a client gets a local port towards HOST:PORT, what it meets there, and what to do.

    Raises:
        QuestionError: The destination or the client is none, or this host's ports could not be read.
    """
    from tcpdoctor.answers.connect import look_at_connection
    from tcpdoctor.report.connect_text import connect_page

    look = partial(look_at_connection, host_port, client)
    ask(look, partial(connect_page, long=output.long), output, takes=1.0)


def answer_word(question: str, word: str, output: Output) -> None:
    """Answer a question that nothing belongs to but its word, in any usual spelling.

    Raises:
        QuestionError: Nothing is called so, or too much.
        RuleError: A rule file is wrong.
        ConfigError: The configuration is wrong.
    """
    long = output.long
    if question == "--pid":
        from tcpdoctor.answers.process import look_at_processes
        from tcpdoctor.answers.words import pids_of
        from tcpdoctor.report.process_text import process_page

        ask(partial(look_at_processes, pids_of(word)), partial(process_page, long=long), output, takes=1.0)
    elif question == "--state":
        from tcpdoctor.answers.state import look_at_state
        from tcpdoctor.report.state_text import state_page

        ask(partial(look_at_state, word), partial(state_page, long=long), output)
    elif question == "--sysctl":
        from tcpdoctor.answers.sysctl import look_at_sysctl
        from tcpdoctor.report.sysctl_text import sysctl_page

        ask(partial(look_at_sysctl, word), partial(sysctl_page, long=long), output)
    elif question == "--option":
        from tcpdoctor.answers.option import look_at_option
        from tcpdoctor.report.option_text import option_page

        ask(partial(look_at_option, word), partial(option_page, long=long), output)
    elif question == "--error":
        from tcpdoctor.answers.error import look_at_error
        from tcpdoctor.report.error_text import error_page

        ask(partial(look_at_error, word), partial(error_page, long=long), output)
    else:
        from tcpdoctor.answers.rule import look_at_rule
        from tcpdoctor.report.rule_text import rule_page

        ask(partial(look_at_rule, word), partial(rule_page, long=long), output, takes=1.0)

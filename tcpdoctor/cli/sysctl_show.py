"""`tcpdoctor sysctl show`: settings, their defaults, and what set them."""

from collections.abc import Sequence

from tcpdoctor.answers.settings import look_at_settings
from tcpdoctor.cli.output import Output, emit, emit_json, style_of


def answer_show(names: Sequence[str], output: Output, *, only_changed: bool) -> None:
    """Show these settings, or all of TCP.

    Raises:
        QuestionError: A name or pattern stands for nothing; with the nearest.
    """
    found = look_at_settings(names, only_changed=only_changed)
    if output.format == "json":
        from tcpdoctor.report.sysctl_list_json import sysctl_list_json

        emit_json(sysctl_list_json(found), output)
    else:
        from tcpdoctor.report.sysctl_list_text import sysctl_list_text

        emit(sysctl_list_text(found, style_of(output)), output)

"""`tcpdoctor sysctl show`: settings, their defaults, and what set them."""

from collections.abc import Sequence

from tcpdoctor.answers.settings import look_at_settings
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output


def answer_show(names: Sequence[str], output: Output, *, only_changed: bool) -> None:
    """Show these settings, or all of TCP.

    Raises:
        QuestionError: A name or pattern stands for nothing; with the nearest.
    """
    from tcpdoctor.report.sysctl_list_text import settings_page

    ask(lambda: look_at_settings(names, only_changed=only_changed), settings_page, output)

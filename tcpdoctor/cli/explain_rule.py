"""`tcpdoctor explain --rule ID`: what a rule looks for, and what it finds here and now."""

from tcpdoctor.answers.rule import look_at_rule
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output


def answer_rule(name: str, output: Output) -> None:
    """Print a rule as a page, with its findings on this host.

    Raises:
        QuestionError: There is no such rule.
        RuleError: A rule file is wrong.
        ConfigError: The configuration is wrong.
    """
    from tcpdoctor.report.rule_text import rule_page

    ask(lambda: look_at_rule(name), rule_page, output, takes=1.0)

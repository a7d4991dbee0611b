"""`tcpdoctor explain --rule ID`: what a rule looks for, and what it finds here and now."""

from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.output import Output

WINDOW = 1.0
"""Seconds between the two looks: a rule about rates has no answer without."""


def answer_rule(name: str, output: Output) -> None:
    """Print a rule as a page, with its findings on this host.

    Raises:
        QuestionError: There is no such rule.
        RuleError: A rule file is wrong.
        ConfigError: The configuration is wrong.
    """
    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.diagnosis.evaluate import diagnose
    from tcpdoctor.diagnosis.rule import read_body
    from tcpdoctor.kernel.live import take_samples

    rule, off = load_rules().find(name)
    body = read_body(rule)
    from tcpdoctor.report.rule_json import rule_json
    from tcpdoctor.report.rule_text import rule_page

    ask(
        lambda: diagnose([rule], take_samples(WINDOW)),
        lambda here, style: rule_page(rule, off, body, style, here),
        output,
        takes=1.0,
        document=lambda here: rule_json(rule, off, body, here),
    )

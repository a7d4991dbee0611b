"""`tcpdoctor fix`: a plan for what check found, in the form that somebody needs."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tcpdoctor.answers.check import diagnose_on_demand
from tcpdoctor.answers.fix import planned_answer
from tcpdoctor.answers.plan import BOOT_FILE, SYSCTL_FOLDER, plan_of
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.cli.options import EVERY, NETNS, WINDOW, Path, look_from, refuse_bad_window
from tcpdoctor.cli.output import COLOR, FORMAT, JSON, OUTPUT, Output, emit, format_of, say
from tcpdoctor.cli.waiting import said_to_take
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.report.fix_text import FORMS, fix_page

if TYPE_CHECKING:
    from tcpdoctor.diagnosis.library import Library

_Form = Literal["text", "shell", "sysctl.d", "ansible"]


def fix(
    rule: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RULE]...", help="Plan for what these rules have found only."),
    ] = None,
    *,
    form: Annotated[
        _Form, typer.Option("--as", help="For people, or as what sh, sysctl.d or Ansible takes.")
    ] = "text",
    window: WINDOW = 1.0,
    rules: Annotated[
        list[Path] | None,
        typer.Option("--rules", metavar="DIR", help="Load the rules in DIR as well; repeat for more."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Instead of /etc/tcpdoctor/config.toml."),
    ] = None,
    netns: NETNS = None,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Plan what to do about what check found; nothing is changed.

    One value a setting, conflicts between rules settled and said, each with its risk. Nothing is changed.
    """
    refuse_bad_window(window)
    kind = format_of(output_format, as_json)
    if form != "text" and kind == "json":
        raise typer.BadParameter(f"goes without --as {form}: that is another form", param_hint="--format")
    if netns == EVERY:
        raise typer.BadParameter("one namespace at a time: give a name or a process id", param_hint="--netns")
    target = Output(kind, output, color, netns=netns)
    look_from(netns)
    only = frozenset(rule) if rule else None
    library = _library(rules or [], config, only)
    with said_to_take(window):
        samples = take_samples(window, owners=None)
        diagnosis, samples = diagnose_on_demand(library.rules, samples, library.most)
        plan = plan_of(diagnosis.findings, samples.after, here=True, only=only)
    is_initial = samples.after.initial_namespace is not False
    answer = planned_answer(
        plan, samples.after, os.path.join(SYSCTL_FOLDER, BOOT_FILE) if is_initial else None
    )
    if form == "text":
        say(answer, fix_page, target)
    else:
        emit(FORMS[form](answer), target._replace(format="plan"))


def _library(folders: list[Path], config: Path | None, only: frozenset[str] | None) -> "Library":
    """Load all rules: what the others ask of the same settings counts as well.

    Raises:
        QuestionError: One of `only` is none.
    """
    library = load_rules(folders, config)
    if only is not None and only - {rule.id for rule in library.rules}:
        load_rules(folders, config, only)  # says what is nearest
    return library

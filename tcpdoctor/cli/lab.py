"""`tcpdoctor lab`: makes a disease in a private network namespace, and shows how it is found and cured."""

from typing import Annotated

import typer

from tcpdoctor.cli.output import COLOR, FORMAT, OUTPUT, Output, emit, refuse_hopeless_file, style_of

app = typer.Typer(
    no_args_is_help=False,
    help="Make a disease in a private namespace; see it found and cured.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_scenarios(*, output_format: FORMAT = "text", output: OUTPUT = None, color: COLOR = "auto") -> None:
    """List the scenarios: name, what is wrong, and what each proves."""
    from tcpdoctor.cli.lab_catalogue import list_entries
    from tcpdoctor.report.lab_list import lab_list_json, lab_list_text

    target = Output(output_format, output, color)
    entries = list_entries()
    if output_format == "json":
        import json

        emit(json.dumps(lab_list_json(entries), indent=1, allow_nan=False), target)
    else:
        emit(lab_list_text(entries, style_of(target)), target)


@app.command("run")
def run_scenario(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `lab list` has it; a rule's id as well.")],
    *,
    hold: Annotated[
        bool,
        typer.Option("--hold", help="Stop while it is broken, and say how to look around in there."),
    ] = False,
    color: COLOR = "auto",
) -> None:
    """Tell one scenario step by step: the disease, its finding, the fix.

    It happens in a network namespace of its own, as root or where user namespaces are allowed; no setting
    of the host changes, and all that is made ends with the namespace. Kernel modules that the kernel loads
    for it (connection tracking, virtual links, shapers) stay loaded. Exits 0 if all went as told, 1 if it
    did not, and 3 if it could not run.
    """
    from tcpdoctor.cli.lab_catalogue import find_scenario
    from tcpdoctor.cli.lab_run import tell

    code = tell(find_scenario(name), Output("text", None, color), hold=hold)
    if code:
        raise typer.Exit(code)


@app.command("prove")
def prove_scenarios(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Scenarios, or ids of rules; without any, all."),
    ] = None,
    *,
    output_format: FORMAT = "text",
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Prove on this kernel: each disease is found, and its fix ends it.

    Exits 0 if every scenario went as it should, 1 if one fell short, and 3 if none could run here.
    """
    from tcpdoctor.cli.lab_catalogue import find_scenario, list_entries, rules_without
    from tcpdoctor.cli.lab_prove import prove
    from tcpdoctor.lab.catalogue import LAB
    from tcpdoctor.report.proof import falls_short

    target = Output(output_format, output, color)
    refuse_hopeless_file(target)
    chosen = {found.name: found for found in map(find_scenario, names)} if names else LAB
    proof = prove(list(chosen.values()), () if names else rules_without(list_entries()))
    if output_format == "json":
        import json

        from tcpdoctor.report.proof_json import proof_json

        emit(json.dumps(proof_json(proof), indent=1, allow_nan=False), target)
    else:
        from tcpdoctor.report.proof_text import proof_text

        emit(proof_text(proof, style_of(target)), target)
    if falls_short(proof):
        raise typer.Exit(1)

"""`tcpdoctor completion`: the script for a shell, and its answers while the user types."""

from typing import Annotated, Literal

import typer

from tcpdoctor.cli.output import OUTPUT, Output, emit


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="What the script asks about.")
    ] = None,
    *,
    output: OUTPUT = None,
) -> None:
    """Print the script that completes tcpdoctor in a shell.

    SHELL is bash, zsh or fish. Commands, options, ids of rules, states, sysctls and all other names are
    completed. Nothing is written into any file of yours; the script's first lines say where it goes.
    """
    if words:
        from tcpdoctor.cli.possibilities import possibilities

        lines = possibilities([word.removeprefix("=") for word in words])
        emit("\n".join(lines), Output("words"))
        return
    from tcpdoctor.cli.completion_scripts import SCRIPTS

    emit(SCRIPTS[shell], Output("script", output))

"""What this program says of itself: the forms of its JSON, and what it gives a shell."""

from typing import Annotated, Literal

from tcpdoctor.answers.record import Is
from tcpdoctor.named_tuples import NamedTuple


class NamedForm(NamedTuple):
    """One form of JSON."""

    name: str
    says: Annotated[str, Is("What it is of, in one sentence.")]


class SchemaList(NamedTuple):
    """What `tcpdoctor schema --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.schemas/1"]
    schemas: tuple[NamedForm, ...]


class ShellScript(NamedTuple):
    """What `tcpdoctor completion SHELL --format json` prints; text is the script itself."""

    schema: Literal["tcpdoctor.completion/1"]
    shell: Literal["bash", "zsh", "fish"]
    script: Annotated[str, Is("The shell reads it; its first lines say where it goes.")]

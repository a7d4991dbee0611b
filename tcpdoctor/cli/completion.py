"""`tcpdoctor completion`: the script for a shell, and its answers while the user types."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import typer

from tcpdoctor.cli.app import COMMANDS, build_command
from tcpdoctor.cli.output import FORMAT, JSON, OUTPUT, Output, emit, emit_json, format_of
from tcpdoctor.errors import TcpdoctorError


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="What the script asks about.")
    ] = None,
    *,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
) -> None:
    """Print the script that completes tcpdoctor in a shell.

    SHELL is bash, zsh or fish. Commands, options, ids of rules, states, sysctls and all other names are
    completed. Nothing is written into any file of yours; the script's first lines say where it goes.
    """
    if words:
        lines = possibilities([word.removeprefix("=") for word in words])
        emit("\n".join(lines), Output("words"))
        return

    if format_of(output_format, as_json) == "json":
        from tcpdoctor.cli.schema import ShellScript
        from tcpdoctor.report.document import as_json as told

        answer = ShellScript("tcpdoctor.completion/1", shell, SCRIPTS[shell])
        emit_json(told(answer), Output("json", output))
    else:
        emit(SCRIPTS[shell], Output("script", output))


# What bash, zsh and fish run when the user asks for completion: each asks tcpdoctor itself.
#
# The words so far are given with a ``=`` before each, so that none is taken for an option, or for an empty
# value. The answer has a line for each possibility, with a tab before what it means; ``:files`` and
# ``:folders`` leave it to the shell.


BASH = """\
# tcpdoctor completion for bash: in ~/.bashrc: eval "$(tcpdoctor completion bash)"
_tcpdoctor() {
    local line value words=() word i
    # bash splits words at = and :, tcpdoctor wants them whole
    local current="${COMP_LINE:0:COMP_POINT}"
    read -ra words <<<"$current"
    [[ "$current" == *[[:space:]] ]] && words+=("")
    word="${words[-1]}"
    local asked=()
    for ((i = 1; i < ${#words[@]}; i++)); do asked+=("=${words[i]}"); done
    # what stands before the last = or : of the word is already there for readline
    local before="${word%"${word##*[=:]}"}"
    [[ "$COMP_WORDBREAKS" == *:* ]] || before="${before##*:}"
    COMPREPLY=()
    while IFS= read -r line; do
        value="${line%%$'\\t'*}"
        case "$value" in
            :files) compopt -o filenames 2>/dev/null
                while IFS= read -r i; do COMPREPLY+=("$i"); done < <(compgen -f -- "${word#--*=}") ;;
            :folders) compopt -o filenames 2>/dev/null
                while IFS= read -r i; do COMPREPLY+=("$i"); done < <(compgen -d -- "${word#--*=}") ;;
            *) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done < <("${COMP_WORDS[0]}" completion bash -- "${asked[@]}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _tcpdoctor tcpdoctor
"""

ZSH = """\
#compdef tcpdoctor
# tcpdoctor completion for zsh: as a file _tcpdoctor in a folder of $fpath, or after compinit in ~/.zshrc:
# source <(tcpdoctor completion zsh)
_tcpdoctor() {
    local line value
    local -a asked found
    for value in "${(@)words[2,CURRENT]}"; do asked+=("=${(Q)value}"); done
    for line in "${(@f)$("${(Q)words[1]}" completion zsh -- "${asked[@]}" 2>/dev/null)}"; do
        value="${line%%$'\\t'*}"
        case "$value" in
            '') ;;
            :files) [[ "$PREFIX" == --*=* ]] && compset -P '*='; _files ;;
            :folders) [[ "$PREFIX" == --*=* ]] && compset -P '*='; _files -/ ;;
            *) if [[ "$line" == *$'\\t'* ]]; then
                   found+=("${value//:/\\\\:}:${line#*$'\\t'}")
               else
                   found+=("${value//:/\\\\:}")
               fi ;;
        esac
    done
    (( ${#found} )) && _describe -V tcpdoctor found
}
if [[ "${funcstack[1]}" == _tcpdoctor ]]; then
    _tcpdoctor "$@"
else
    compdef _tcpdoctor tcpdoctor
fi
"""

FISH = """\
# tcpdoctor completion for fish: tcpdoctor completion fish > ~/.config/fish/completions/tcpdoctor.fish
function __tcpdoctor_complete
    set -l words (commandline -opc)
    set -l asked
    for word in $words[2..] (commandline -ct)
        set -a asked "=$word"
    end
    set -l current (commandline -ct)
    for line in ($words[1] completion fish -- $asked 2>/dev/null)
        switch $line
            case ':files*'
                __fish_complete_path (string replace -r '^--[^=]*=' '' -- $current)
            case ':folders*'
                __fish_complete_directories (string replace -r '^--[^=]*=' '' -- $current)
            case '*'
                printf '%s\\n' $line
        end
    end
end
complete -c tcpdoctor -f -a '(__tcpdoctor_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


# What may come next on a command line: read from the commands themselves, so nothing is written twice.


Possibility: TypeAlias = tuple[str, str]
"""A word and what it means, which may be empty."""

_Names: TypeAlias = Callable[[], Iterable[Possibility]]

FILES, FOLDERS = ":files", ":folders"
"""What is left to the shell."""

_TITLE = re.compile(r'^title\s*=\s*"(.*)"', re.MULTILINE)
_LISTS = ("--only", "--skip", "--columns")
"""Options that take several names with commas between them."""


def possibilities(words: Sequence[str]) -> list[str]:
    """Return a line for each way in which the last word may go on: the word, a tab, what it means.

    Args:
        words: Those after ``tcpdoctor``, the last one perhaps begun only.
    """
    *before, current = words or [""]
    found = _after(list(before), current)
    return [f"{word}\t{meaning}" if meaning else word for word, meaning in found]


def _after(before: list[str], current: str) -> Iterator[Possibility]:
    if not before:
        top = {name: entry.help for name, entry in COMMANDS.items()}
        options = {"--help": "Show this help and exit.", "--version": "Print the version."}
        yield from _beginning(current, (options if current.startswith("-") else top).items())
        return
    if before == ["help"]:
        yield from _beginning(current, ((name, entry.help) for name, entry in COMMANDS.items()))
        return
    entry = COMMANDS.get(before[0])
    if entry is None:
        return
    command, path, rest = build_command(before[0], entry), before[0], before[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, path, rest = command.commands[rest[0]], f"{path} {rest[0]}", rest[1:]
    yield from _of_command(command, path, rest, current)


def _of_command(command: Any, path: str, before: Sequence[str], current: str) -> Iterator[Possibility]:
    below = getattr(command, "commands", None)
    if below is not None and not current.startswith("-"):
        named = [(name, sub.get_short_help_str(60)) for name, sub in below.items()]
        yield from _beginning(current, named)
        return
    options = {
        name: param for param in command.params if param.param_type_name == "option" for name in param.opts
    }
    name, has_value, value = current.partition("=")
    if current.startswith("--") and has_value and name in options:
        for word, meaning in _values(options[name], path, value):
            yield (word if word in (FILES, FOLDERS) else f"{name}={word}"), meaning
    elif before and _takes_value(options.get(before[-1])):
        yield from _values(options[before[-1]], path, current)
    elif current.startswith("-"):
        given = {word.partition("=")[0] for word in before}
        unused = [
            (name, param.help or "")
            for name, param in options.items()
            if name.startswith("--") and not param.hidden and (name not in given or param.multiple)
        ]
        yield from _beginning(current, unused)
    elif not before or not before[-1].startswith("-") or before[-1] in options:
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        for param in arguments[:1]:
            yield from _values(param, path, current)


def _takes_value(option: Any) -> bool:
    return option is not None and not option.is_flag


def _values(param: Any, path: str, current: str) -> Iterator[Possibility]:
    """The values of an option or argument that begin as `current` does."""
    choices = getattr(param.type, "choices", None)
    if choices:
        yield from _beginning(current, [(str(choice), "") for choice in choices])
        return
    names = _NAMES.get((path, param.name)) or _BY_METAVAR.get((param.metavar or "").strip("[]."))
    if names is None:
        return
    if names is _words and not current:
        names = _here
    kept, comma, begun = current.rpartition(",") if set(param.opts) & set(_LISTS) else ("", "", current)
    for word, meaning in names():
        if word in (FILES, FOLDERS):
            yield word, meaning
        elif word.startswith(begun):
            yield f"{kept}{comma}{word}", meaning


def _beginning(current: str, words: Iterable[Possibility]) -> Iterator[Possibility]:
    return ((word, " ".join(meaning.split())) for word, meaning in words if word.startswith(current))


# where names come from; each imports what it needs, because only the one that is asked for runs


def _rules() -> Iterator[Possibility]:
    """Ids of rules with their titles; the files are not parsed, they only have to begin like a rule."""
    from pathlib import Path

    from tcpdoctor.answers.rules import added_texts, shipped_texts

    try:
        for text in [*shipped_texts(), *added_texts(())]:
            title = _TITLE.search(text.text)
            yield Path(text.source).stem, title[1] if title else ""
    except TcpdoctorError:
        return  # `check` says what is wrong with them; here there is nobody to tell


def _states() -> Iterator[Possibility]:
    from tcpdoctor.knowledge.state_pages import state_keys

    return ((key.replace("_", "-"), "") for key in state_keys())


def _listed_states() -> Iterator[Possibility]:
    from tcpdoctor.kernel.states import COUNTED_STATES

    return ((state.key.replace("_", "-"), "") for state in COUNTED_STATES)


def _sysctls() -> Iterator[Possibility]:
    from tcpdoctor.knowledge.sysctl_pages import sysctl_names

    return ((name, "") for name in sysctl_names())


def _options() -> Iterator[Possibility]:
    from tcpdoctor.knowledge.option_pages import option_names

    return ((name, "") for name in option_names())


def _errors() -> Iterator[Possibility]:
    from tcpdoctor.knowledge.error_pages import error_names

    return ((name, "") for name in error_names())


def _facts() -> Iterator[Possibility]:
    from tcpdoctor.facts.subject import Scope
    from tcpdoctor.facts.vocabulary import fact_names

    return ((name, "") for scope in Scope for name in fact_names(scope))


def _schemas() -> Iterator[Possibility]:
    from tcpdoctor.cli.schema import description_of, schema_names

    return ((name, description_of(name)) for name in schema_names())


def _columns() -> Iterator[Possibility]:
    from tcpdoctor.answers.socket import COLUMNS

    return ((name, "") for name in COLUMNS)


def _scenarios() -> Iterator[Possibility]:
    from tcpdoctor.lab.catalogue import LAB

    return ((name, scenario.title) for name, scenario in LAB.items())


def _namespaces() -> Iterator[Possibility]:
    from tcpdoctor.kernel.text import clean

    yield "all", "Each namespace of this host."
    try:
        yield from ((clean(name), "") for name in sorted(os.listdir("/run/netns")))
    except OSError:
        return  # none has a name, or they are not ours to list


def _ports() -> Iterator[Possibility]:
    """Local ports that listen."""
    from tcpdoctor.kernel.listing import read_listening_ports

    try:
        ports = read_listening_ports()
    except OSError:
        return  # nobody asked what is wrong with /proc
    yield from ((str(port), "listens") for port in ports)


_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:-]*")
"""Any user chooses the name of a process: only what no shell reads anything into is offered."""


def _processes() -> Iterator[Possibility]:
    """Names of programs that run, without the kernel's own threads."""
    yield from ((name, "") for name in sorted({name for _, name in _running()}))


def _pids() -> Iterator[Possibility]:
    yield from ((str(pid), name) for pid, name in sorted(_running()))


def _running() -> Iterator[tuple[int, str]]:
    from tcpdoctor.kernel.processes import list_programs

    return ((pid, name) for pid, name in list_programs() if _PLAIN_NAME.fullmatch(name))


def _here() -> Iterator[Possibility]:
    """What `explain` may be asked where nothing was typed yet."""
    for names in (_ports, _processes, _states):
        yield from names()


def _words() -> Iterator[Possibility]:
    """All that it may be asked; settings by their last name as well."""
    yield from _here()
    for names in (_errors, _options, _rules, _sysctls):
        yield from names()
    yield from ((name.rpartition(".")[2], "") for name, _ in _sysctls())


_NAMES: Mapping[tuple[str, str], _Names] = {
    ("explain", "words"): _words,
    ("explain", "port"): _ports,
    ("explain", "pid"): _processes,
    ("sockets", "port"): _ports,
    ("trace", "port"): _ports,
    ("trace", "pid"): _processes,
    ("sockets", "pid"): _pids,
    ("sockets", "name"): _processes,
    ("sockets", "state"): _listed_states,
    ("sockets", "sort"): _columns,
    ("sockets", "columns"): _columns,
    ("explain", "sysctl"): _sysctls,
    ("sysctl show", "names"): _sysctls,
    ("facts", "names"): _facts,
    ("schema", "name"): _schemas,
    ("lab run", "name"): _scenarios,
    ("lab prove", "names"): _scenarios,
    ("completion", "shell"): lambda: [("bash", ""), ("zsh", ""), ("fish", "")],
}
"""By command and parameter, where its placeholder is that of others too."""

_BY_METAVAR: Mapping[str, _Names] = {
    "ID": _rules,
    "RULE": _rules,
    "STATE": _states,
    "SO_X": _options,
    "ERRNO": _errors,
    "NAME|PID|all": _namespaces,
    "FILE": lambda: [(FILES, "")],
    "PATH": lambda: [(FILES, "")],
    "DIR": lambda: [(FOLDERS, "")],
}

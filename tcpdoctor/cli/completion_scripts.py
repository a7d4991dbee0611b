"""What bash, zsh and fish run when the user asks for completion: each asks tcpdoctor itself.

The words so far are given with a ``=`` before each, so that none is taken for an option, or for an empty
value. The answer has a line for each possibility, with a tab before what it means; ``:files`` and
``:folders`` leave it to the shell.
"""

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
